"""Randomness is derived, never global: every seed follows from what it is for.

Belongs here: the one function that makes seeds and keyed ranks. Not here: any generator's state.
"""

from __future__ import annotations

from hashlib import blake2b


def derived_seed(study_seed: int, purpose: str, key: str) -> int:
    """A 63-bit seed from (study seed, purpose, key), equal on every machine and in every order."""
    return int.from_bytes(_digest(str(study_seed), purpose, key), "big") >> 1


def keyed_rank(purpose: str, key: str) -> float:
    """A number in [0, 1) that depends on `purpose` and `key` alone; uniform over keys."""
    return (int.from_bytes(_digest(purpose, key), "big") >> 11) / 2**53


def _digest(*parts: str) -> bytes:
    digest = blake2b(digest_size=8)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.digest()
