"""A table that is made part by part, so that a killed run goes on where it was.

Belongs here: shards as files, finding a finished one again, and taking nothing that is not one. Not here:
what a table holds, and in what order its rows are made (`resuming.py`).

A shard is known by a hash of its keys and of the identity of what it was made from (`name`), and a finished
one by the SHA-256 of its bytes, which its name ends with. So a shard of something else is never mistaken
for this table's, and one that is torn or was changed is noticed and made again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from evsim_assets.durable import write_durably

Make = Callable[[list[int]], pd.DataFrame]
"""The rows of the keys at these places, any number of each."""

_DIGITS = 24
"""Hexadecimal digits of either hash in a name."""
_NAME = re.compile(rf"\.?[0-9a-f]{{{_DIGITS}}}-[0-9a-f]{{{_DIGITS}}}\.parquet(\.tmp)?")


def in_shards(
    folder: Path,
    identity: dict[str, Any],
    keys: Sequence[str],
    make: Make,
    *,
    say: Callable[[str], None],
    size: int = 2000,
) -> pd.DataFrame:
    """The table of all `keys`, in their order; finished shards in `folder` are taken, the others made.

    Args:
        folder: for this table alone, made where it is not there. Shards in it that are not of this table
            are removed; the caller removes the folder once the table is stored.
        identity: all that the rows follow from besides their keys, as JSON values.
        make: called once for every shard that is not there yet. Its columns are what Parquet can hold.
        say: told what is taken from an earlier run, and what cannot be.
        size: keys a shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = [list(range(at, min(at + size, len(keys)))) for at in range(0, len(keys), size)]
    names = [_name(identity, [keys[k] for k in of_shard]) for of_shard in places]
    _remove_others(folder, set(names), say)
    found = [_finished(folder, name, say) for name in names]
    if any(table is not None for table in found):
        taken = sum(table is not None for table in found)
        say(f"{taken} of {len(names)} shards are there from an earlier run and are taken as they are")
    if not places:
        return make([])
    for number, of_shard in enumerate(places):
        if found[number] is None:
            found[number] = _written(folder, names[number], make(of_shard))
    return pd.concat(found, ignore_index=True)


def _name(identity: dict[str, Any], keys: Sequence[str]) -> str:
    """Hash of the shard with these keys."""
    return _hash(json.dumps([identity, list(keys)], sort_keys=True).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _remove_others(folder: Path, names: set[str], say: Callable[[str], None]) -> None:
    """Remove the shards of another table, and what a killed run had half written."""
    others = 0
    for file in sorted(folder.iterdir()):
        if _NAME.fullmatch(file.name):
            half = file.name.startswith(".")
            other = file.name[:_DIGITS] not in names
            if half or other:
                file.unlink(missing_ok=True)
            others += other and not half
    if others:
        say(f"{others} shards of another table removed: what the rows follow from has changed since")


def _finished(folder: Path, name: str, say: Callable[[str], None]) -> pd.DataFrame | None:
    """The shard as it was made; None where it is not there in full, and then nothing of it is left."""
    for file in sorted(folder.glob(f"{name}-*.parquet")):
        content = file.read_bytes()
        if file.stem == f"{name}-{_hash(content)}":
            return pd.read_parquet(BytesIO(content))
        say(f"{file.name} is not as it was written, and is made again")
        file.unlink()
    return None


def _written(folder: Path, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Write a shard, and read it back, so that a table is the same whether or not its run was killed."""
    buffer = BytesIO()
    table.to_parquet(buffer, index=False, compression="zstd")
    content = buffer.getvalue()
    write_durably(folder / f"{name}-{_hash(content)}.parquet", content)
    return pd.read_parquet(BytesIO(content))
