"""Local folders for long work that outlive the run, one for each asset partition, one process at a time.

Belongs here: where they are, who holds one, when the forgotten go. Not here: what is in them
(`evsim_assets/adapters/step_checkpoints.py`). What is stored for good is elsewhere (`versions.py`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from platform import node
from typing import IO

from upath import UPath

from evsim_assets.specs.errors import BadInput
from evsim_resources.lake import Lake, is_local, local, storing

FORGOTTEN_DAYS = 30
"""Work that nobody has taken up for this long is removed when other work begins."""


@contextmanager
def work_folder(lake: Lake, key: Sequence[str], partition: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Hold the partition's folder, made if need be, to the end of the block; it stays, with what is in it.

    In a local lake it is in `.work`, where neither readers nor SQL look; for a remote lake, in the user's
    cache (`$XDG_CACHE_HOME` or ~/.cache), since work is resumed on the machine that began it. A process
    that is killed lets go of it. Remove the folder within the block when the work is done.

    Raises:
        BadInput: another process holds it, or the file system refuses.
    """
    root = work_root(lake)
    folder = root.joinpath(*key, *(f"{name}={value}" for name, value in sorted((partition or {}).items())))
    with storing(UPath(folder)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
    try:
        with storing(UPath(folder)):
            folder.mkdir(exist_ok=True)
        _remove_forgotten(root)
        yield folder
    finally:
        if not folder.exists():
            _lock_file(folder).unlink(missing_ok=True)
            _remove_empty(folder.parent, root)
        lock.close()


def work_root(lake: Lake) -> Path:
    """Where the lake's work folders are, on this machine."""
    if is_local(lake.path):
        return local(lake.path) / ".work"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "evsim" / "work" / hashlib.sha256(lake.root.encode()).hexdigest()[:16]


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _lock(folder: Path) -> IO[str]:
    """The folder's lock, held until it is closed; says who holds it."""
    path = _lock_file(folder)
    while True:
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise BadInput(
                "another process is at work on this partition",
                file=path,
                value=holder,
                remedy="wait for it, or stop it; what it has done so far is kept",
            ) from None
        if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {node()}\n")
            lock.flush()
            return lock
        lock.close()  # its holder removed it when it let go


def _remove_forgotten(root: Path) -> None:
    """Folders whose lock nobody holds nor has held for long; what cannot be removed stays."""
    for path in root.rglob("*.lock"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime < FORGOTTEN_DAYS * 24 * 3600:
                continue
            with path.open("a+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.with_name(path.name.removesuffix(".lock")), ignore_errors=True)
                path.unlink()


def _remove_empty(folder: Path, root: Path) -> None:
    """The folder and those above it up to the root, as far as they are empty."""
    with suppress(OSError):
        while folder != root.parent:
            folder.rmdir()
            folder = folder.parent
