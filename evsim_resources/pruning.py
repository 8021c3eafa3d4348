"""What lies in the lake and is no longer read: superseded versions, and what dead processes left.

Belongs here: finding it, and removing it so that a kill at any moment leaves nothing half. Not here: which
versions are still needed (`evsim_assets/running/pruning.py`).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from upath import UPath

from evsim_resources.lake import ABANDONED_SECONDS, UNFINISHED, Lake, abandoned, is_local, local, writer
from evsim_resources.versions import MANIFEST, POINTER
from evsim_resources.work import work_root

VERSION = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class StoredVersion:
    """A version in a store that has a current one.

    Attributes:
        store: the store's folder below the lake, such as `ev_shift/adapter_checkpoint/adapter=s~qlora`.
        written: seconds since 1970.
        whole: whether its manifest is there; else a killed process left it.
    """

    store: str
    id: str
    bytes: int
    written: float
    current: bool
    whole: bool

    @property
    def asset(self) -> tuple[str, ...]:
        """The asset's key."""
        return tuple(part for part in self.store.split("/") if "=" not in part)

    @property
    def partition(self) -> str | None:
        """The partition's key, as Dagster writes it."""
        values = [part.partition("=")[2] for part in self.store.split("/") if "=" in part]
        return "|".join(values) or None


@dataclass(frozen=True)
class Leftover:
    """A file or folder of this machine that no process works on: a killed writer's, or work given up."""

    path: Path
    bytes: int
    lock: Path | None = None


def stored_versions(lake: Lake) -> list[StoredVersion]:
    """Every version of every store in the lake that has a pointer, oldest first."""
    root = lake.path
    found: Mapping[str, Mapping[str, Any]] = root.fs.find(root.path, detail=True)
    files: dict[str, dict[str, list[tuple[str, Mapping[str, Any]]]]] = {}
    pointers: set[str] = set()
    for path, about in found.items():
        parts = path.removeprefix(root.path.rstrip("/")).strip("/").split("/")
        if any(part.startswith(".") for part in parts):
            continue
        if parts[-1] == POINTER:
            pointers.add("/".join(parts[:-1]))
        place = next((i for i, part in enumerate(parts) if VERSION.fullmatch(part)), None)
        if place is not None:
            of_store = files.setdefault("/".join(parts[:place]), {})
            of_store.setdefault(parts[place], []).append(("/".join(parts[place + 1 :]), about))
    versions = []
    for store in pointers & files.keys():
        current = _current(root / store)
        for version, listed in files[store].items():
            size = sum(int(about["size"]) for _, about in listed)
            written = max(_written(about) for _, about in listed)
            whole = any(name == MANIFEST for name, _ in listed)
            versions.append(StoredVersion(store, version, size, written, version == current, whole))
    return sorted(versions, key=lambda version: (version.written, version.store, version.id))


def remove_version(lake: Lake, version: StoredVersion) -> bool:
    """Remove a version that is not current. False where it has become so again, or has gone.

    A local one gets the name of a killed writer's leftover first: whoever looks sees all of it or nothing,
    and where this process is killed, the next write in the store removes the rest.
    """
    store = lake.path / version.store
    folder = store / version.id
    if _current(store) == version.id or not folder.exists():
        return False
    if not is_local(store):
        (folder / MANIFEST).unlink(missing_ok=True)  # without it, no version
        store.fs.rm(folder.path, recursive=True)
        return True
    aside = local(store) / f".writing-{writer()}-{version.id}"
    local(folder).rename(aside)
    if _current(store) == version.id and not folder.exists():  # the same content was stored just now
        aside.rename(local(folder))
        return False
    shutil.rmtree(aside)
    return True


def is_given_up(version: StoredVersion) -> bool:
    """Whether a version without a manifest is no longer being written, as it may be in an object store."""
    return time.time() - version.written > ABANDONED_SECONDS


def leftovers(lake: Lake, idle_days: float) -> list[Leftover]:
    """Unfinished files of killed writers, and work folders that nobody has held or touched for that long."""
    found = [Leftover(path, size_of(path)) for path in _unfinished(lake)]
    for lock in sorted(work_root(lake).rglob("*.lock")):
        folder = lock.with_name(lock.name.removesuffix(".lock"))
        if folder.is_dir() and _idle_seconds(folder) > idle_days * 24 * 3600 and _is_free(lock):
            found.append(Leftover(folder, size_of(folder), lock))
    return found


def remove_leftover(leftover: Leftover) -> bool:
    """Remove it; False where somebody has taken it up, or removed it, in the meantime."""
    path = leftover.path
    if leftover.lock is None:
        if not path.exists():
            return False
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True
    with suppress(OSError), leftover.lock.open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        aside = path.with_name(f".writing-{writer()}-work")
        path.rename(aside)
        leftover.lock.unlink()
        shutil.rmtree(aside)
        return True
    return False


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _current(store: UPath) -> str:
    pointer = store / POINTER
    return pointer.read_bytes().decode("ascii", errors="replace").strip() if pointer.exists() else ""


def _written(about: Mapping[str, Any]) -> float:
    """When a file was written, as the file system at hand calls it."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        said = about.get(name)
        if isinstance(said, int | float):
            return float(said)
        if isinstance(said, datetime):
            return said.timestamp()
    return time.time()  # unknown: as new as can be, so never too old to keep


def _unfinished(lake: Lake) -> Iterator[Path]:
    if not is_local(lake.path) or not local(lake.path).exists():
        return
    root = local(lake.path)
    scratch = root / ".scratch"
    for folder, folders, files in os.walk(root):
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            if (UNFINISHED.fullmatch(name) or path.parent == scratch) and abandoned(path):
                yield path
        folders[:] = [name for name in folders if not UNFINISHED.fullmatch(name) and Path(folder) != scratch]


def _idle_seconds(folder: Path) -> float:
    """Since when nothing in a work folder, nor its lock, was touched."""
    paths = [folder, folder.with_name(f"{folder.name}.lock"), *folder.rglob("*")]
    return time.time() - max(path.lstat().st_mtime for path in paths)


def _is_free(lock: Path) -> bool:
    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
