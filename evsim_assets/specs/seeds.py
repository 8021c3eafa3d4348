"""Randomness is derived, never global: every seed follows from what it is for.

Belongs here: the one function that makes seeds, and keyed ranks, in Python and in SQL. Not here: any
generator's state.
"""

from __future__ import annotations

from hashlib import blake2b, sha256

_RANK_DIGITS = 13
"""Hexadecimal digits of the hash that make a rank: 52 bits, which a double holds exactly."""


def derived_seed(study_seed: int, purpose: str, key: str) -> int:
    """A 63-bit seed from (study seed, purpose, key), equal on every machine and in every order."""
    digest = blake2b(digest_size=8)
    for part in (str(study_seed), purpose, key):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return int.from_bytes(digest.digest(), "big") >> 1


def keyed_rank(purpose: str, key: str) -> float:
    """A number in [0, 1) that depends on `purpose` and `key` alone; uniform over keys.

    The first 13 hexadecimal digits of SHA-256 over "<purpose>\\n<key>", as a fraction; a purpose is one
    line. `keyed_rank_sql` computes the same number.
    """
    digest = sha256(f"{purpose}\n{key}".encode()).hexdigest()
    return int(digest[:_RANK_DIGITS], 16) / 16**_RANK_DIGITS


def keyed_rank_sql(purpose: str, key: str) -> str:
    """`keyed_rank` as a DuckDB expression (DOUBLE); `key` is an expression of a VARCHAR."""
    prefix = "'" + purpose.replace("'", "''") + "\n'"
    digits = f"left(sha256({prefix} || {key}), {_RANK_DIGITS})"
    return f"(('0x' || {digits})::BIGINT / {16**_RANK_DIGITS}::DOUBLE)"
