"""Fits that a killed run need not make again: a small file each, in a folder of its own.

Belongs here: what a fit follows from, and taking one that is there. Not here: files and their names
(`simulation/shards.py`), fitting (`fits.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import pandas as pd

from evsim_assets.simulation.shards import in_shards

LIBRARIES = ("catboost", "numba", "numpy", "scikit-learn")
CODE = ("baselines/*.py", "metrics/cells.py", "metrics/measures.py", "distances.py")
"""Files of this package whose every line may decide a row."""
NOTHING = "\x00"
"""Stands for a missing cell, which is not an empty one."""


class Finished:
    """The finished fits of one problem below `folder`; `known` is all that every one of them follows from."""

    def __init__(self, folder: Path, known: Mapping[str, Any]) -> None:
        self._folder, self._known = folder, dict(known)
        self.taken = 0

    def rows(self, key: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The rows of the fit named `key` (its setting): those of an earlier run, else what `make` gives.

        A fit of the same name that follows from something else is removed. What `make` raises passes
        through, and nothing is kept of it.
        """
        made = []

        def shard(_: list[int]) -> pd.DataFrame:
            made.append(True)
            return make()

        own = hashlib.sha256(key.encode()).hexdigest()[:24]
        table = in_shards(self._folder / own, self._known, [key], shard, say=lambda _: None)
        self.taken += not made
        return table


def follows_from(rows: Mapping[str, pd.DataFrame], **known: Any) -> dict[str, Any]:
    """All that decides a fit besides its setting, as JSON: rows by split, what is known, code, libraries."""
    data = hashlib.sha256()
    for split in sorted(rows):
        written = rows[split].to_csv(index=False, na_rep=NOTHING)
        data.update(f"{split}\n{written}".encode())
    code = hashlib.sha256()
    for files in CODE:
        for file in sorted(Path(__file__).parents[1].glob(files)):
            code.update(f"{file.parent.name}/{file.name}\n".encode() + file.read_bytes())
    return {**known, "rows": data.hexdigest(), "code": code.hexdigest(), "libraries": _versions()}


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            found[name] = installed_version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
