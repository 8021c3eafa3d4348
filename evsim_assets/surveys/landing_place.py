"""What lies where a survey's raw files land: in a folder of this machine, or in an object store.

Belongs here: listing, reading and storing files by way of fsspec, and telling whether one has changed.
Not here: which of them are waves (`landing.py`), what is in them (`reading.py`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evsim_assets.specs.errors import BadInput

if TYPE_CHECKING:
    from upath import UPath

OBJECT_STORES = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oci", "oss", "tos", "hf", "memory"}
)
"""Protocols of stores in which nothing is listed before it is there as a whole."""

CONTENT_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "generation")
"""What stores call something that is the same only for the same content (or the same upload)."""

TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")

BLOCK = 8 << 20

IS_FOLDER = "not a file but a folder"


@dataclass(frozen=True)
class Lying:
    """Something that lies in a landing place.

    Attributes:
        path: where; of this machine (a `Path`) or not (a `UPath`).
        bytes: its size.
        stamp: 16 hex digits that are others once it was written, replaced, or given other rights.
        problem: why it can be no raw file whatever is in it, such as that it is a folder.
    """

    path: Path | UPath
    bytes: int
    stamp: str
    problem: str | None = None


def is_object_store(place: Path | str) -> bool:
    """Whether a file that is listed in this place is whole."""
    return isinstance(place, str) and place.partition("://")[0] in OBJECT_STORES


def lying(place: Path | str) -> list[Lying] | None:
    """What lies directly in the place, by name; None when the place is not there (or not mounted).

    Raises:
        BadInput: the place cannot be reached or read.
    """
    try:
        found = _in_folder(place) if isinstance(place, Path) else _in_store(place)
    except FileNotFoundError:
        return None
    return sorted(found, key=lambda entry: entry.path.name)


def _in_folder(folder: Path) -> list[Lying]:
    found = []
    with reaching(folder), os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            try:
                about, problem = entry.stat(), None
            except OSError as error:
                if not entry.is_symlink():
                    continue  # gone since it was listed
                about, problem = (
                    entry.stat(follow_symlinks=False),
                    f"a link that leads nowhere ({error.strerror})",
                )
            if problem is None and not stat.S_ISREG(about.st_mode):
                problem = IS_FOLDER if stat.S_ISDIR(about.st_mode) else "no regular file"
            # The time of the last change of its entry is other also after `cp -p` and `chmod`.
            stamp = _stamp(about.st_size, about.st_mtime_ns, about.st_ctime_ns)
            found.append(Lying(path, about.st_size, stamp, problem))
    return found


def _in_store(url: str) -> list[Lying]:
    with reaching(url):
        root = _upath(url)
        root.fs.invalidate_cache()
        listed = root.fs.ls(root.path, detail=True)
    found = []
    for about in listed:
        name = str(about["name"]).rstrip("/").rpartition("/")[2]
        if str(about["name"]).strip("/") == root.path.strip("/"):
            continue  # the mark that some tools set for a folder
        size = int(about.get("size") or 0)
        told = [about[tag] for tag in CONTENT_TAGS if about.get(tag)] or [
            about[time] for time in TIMES if about.get(time)
        ]
        problem = IS_FOLDER if about["type"] == "directory" else None
        found.append(Lying(root / name, size, _stamp(size, *told), problem))
    return found


def _stamp(*told: object) -> str:
    return hashlib.sha256(" ".join(map(str, told)).encode()).hexdigest()[:16]


def _upath(url: str) -> UPath:
    from upath import UPath

    try:
        return UPath(url)
    except ImportError as error:
        raise BadInput(
            f"what is needed to reach such a place is not installed ({error})",
            file=url,
            remedy="pip install 'evsim[s3]' for s3://; for others what the message names",
        ) from error


def path_in(place: Path | str, name: str) -> Path | UPath:
    """The path of a file in the place."""
    return place / name if isinstance(place, Path) else _upath(place) / name


@contextmanager
def reaching(place: object) -> Iterator[None]:
    """Say which file or place could not be read, and let pass that there is none."""
    try:
        yield
    except (BadInput, FileNotFoundError):
        raise
    except Exception as error:  # the library of each store has its own kinds
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BadInput(
            f"it cannot be read ({said})",
            file=str(place),
            remedy="give the user that evsim runs as the right to read it; of a store, see that its"
            " address and credentials are in the environment",
        ) from error


def sha256_of(path: Path | UPath) -> str:
    """The SHA-256 of a file's bytes. Raises BadInput when it cannot be read, FileNotFoundError."""
    with reaching(path), path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fetch(path: Path | UPath, into: Path) -> None:
    """Copy the bytes of a file to a file of this machine. Raises BadInput, FileNotFoundError."""
    with reaching(path):
        source = path.open("rb")
    with source, into.open("wb") as target:
        while block := _read(source, path):
            target.write(block)  # of a full disk the one who stores speaks, not `reaching`


def _read(source: Any, path: Path | UPath) -> bytes:
    with reaching(path):
        content: bytes = source.read(BLOCK)
        return content


def named(path: Path | UPath) -> Path | str:
    """The path as an error names it."""
    return path if isinstance(path, Path) else str(path)


def store(source: Path, target: Path | UPath) -> None:
    """Copy a file of this machine into the place, whole or not at all.

    Raises:
        BadInput: it could not be stored; what was there is as it was.
    """
    try:
        if isinstance(target, Path):
            _store_here(source, target)
        elif target.protocol in OBJECT_STORES:  # shows an object only once it is whole
            target.fs.put_file(str(source), target.path)
        else:
            temporary = target.parent / f".{target.name}.tmp"
            target.fs.put_file(str(source), temporary.path)
            target.fs.mv(temporary.path, target.path)
    except Exception as error:  # as in `reaching`
        raise BadInput(
            f"the file could not be stored ({getattr(error, 'strerror', None) or error});"
            " what was there is as it was",
            file=named(target),
            remedy="free space or get write access there, and add the file again",
        ) from error


def _store_here(source: Path, target: Path) -> None:
    temporary = target.parent / f".{target.name}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
