"""Files that are on the disk before anything says that they are there.

Belongs here: syncing, and knowing a file again. Not here: which files there are, and what tells of them
(`lake.py`, `versions.py`, `evsim_assets/adapters/step_checkpoints.py`). Knows nothing of Dagster.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any


def sync(path: Path) -> None:
    """The bytes of a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path) -> None:
    """The bytes of every file below the folder on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            sync(path)


def write_durably(target: Path, content: bytes) -> None:
    """The whole new file under its name, on the disk, or the old one as it was."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_bytes(content)
    sync(temporary)
    os.replace(temporary, target)
    sync(target.parent)


def fingerprint(path: Path) -> dict[str, Any]:
    """`bytes` and `sha256` of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def fingerprints(folder: Path) -> dict[str, dict[str, Any]]:
    """The fingerprint of every file below the folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): fingerprint(path) for path in files}
