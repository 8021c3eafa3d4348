"""Folders that a job on another machine reads and writes.

Belongs here: finding out whether that machine sees the same folder, and carrying its files there and back
where it does not. Not here: which job (`ray_compute.py`).
"""

from __future__ import annotations

import io
import shutil
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory


@dataclass(frozen=True)
class Sent:
    """A folder as a job gets it: where it is, and its files where the job's machine does not see it there."""

    path: str
    files: bytes | None


@contextmanager
def signs(folders: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """An empty file beside each folder to the end of the block, by the folder's name: who sees it, sees the
    folder. Its name is one that the lake's writers sweep away where this process is killed."""
    placed: dict[str, str] = {}
    try:
        for name, folder in folders.items():
            sign = folder.absolute().parent / f".seen.{uuid.uuid4().hex}.tmp"
            sign.touch()
            placed[name] = str(sign)
        yield placed
    finally:
        for sign_path in placed.values():
            Path(sign_path).unlink(missing_ok=True)


def packed(folder: Path) -> bytes:
    """Every file below a folder; of one that is not there, none."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        if folder.exists():
            archive.add(folder, arcname=".")
    return buffer.getvalue()


def unpack(files: bytes, folder: Path) -> None:
    """Make the folder hold those files and no others; of no files, no folder."""
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        if archive.getmembers():
            archive.extractall(folder, filter="data")


@contextmanager
def received(sent: Mapping[str, Sent], back: dict[str, bytes]) -> Iterator[dict[str, Path]]:
    """The folders as paths of this machine; at the end `back` gets the files of those that were carried."""
    with TemporaryDirectory(prefix="evsim-folders-") as place:
        here = {
            name: Path(folder.path) if folder.files is None else Path(place, name)
            for name, folder in sent.items()
        }
        for name, folder in sent.items():
            if folder.files is not None:
                unpack(folder.files, here[name])
        try:
            yield here
        finally:
            back |= {name: packed(here[name]) for name, folder in sent.items() if folder.files is not None}
