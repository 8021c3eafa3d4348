"""The lake: where tables and checkpoints lie, and how they are written so that none is ever half there.

Belongs here: paths, atomic writes and what killed writers leave, scratch folders, content hashes.
Not here: how assets hand tables over (`tables.py`), versioned folders (`versions.py`), SQL
(`warehouse.py`), what any table means.
"""

import errno
import hashlib
import io
import os
import platform
import re
import shlex
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from evsim_assets.durable import sync
from evsim_assets.specs.errors import BadInput

DIMENSION = "evsim/partition_dimension"
"""Definition metadata: the name of a single-dimension asset's partitions, such as `adapter`."""

OF_A_SURVEY = frozenset(
    {"raw_wave", "clean_wave", "quarantine", "responses", "superseded", "splits", "split_report", "drift"}
)
"""Assets that are a survey's; all others are a study's. Both may have the same name."""

REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors of a file system that takes no more: full, over quota, read-only, broken."""


UNFINISHED = re.compile(r"\..+\.[0-9a-f-]{32,}\.tmp|\.writing-.+")
"""What a killed writer leaves beside a table or among versions; no reader looks at these names."""

ABANDONED_SECONDS = 24 * 3600
"""After this long untouched, what a writer elsewhere left unfinished counts as given up."""


@dataclass(frozen=True)
class TableFiles:
    """A stored table as local Parquet files, one a partition, in the partitions' sorted order."""

    paths: tuple[Path, ...]


class Lake(dg.ConfigurableResource):
    """The root of everything stored; a local folder, or any fsspec URL (`s3://bucket/evsim`)."""

    root: str

    @property
    def path(self) -> UPath:
        """The root as a path."""
        return UPath(self.root)

    def folder(self, key: Sequence[str], partition: Mapping[str, str] | None = None) -> UPath:
        """The folder of an asset, Hive-style below it: `<study>/metrics/adapter=s~qlora`."""
        folder = self.path.joinpath(*key)
        for dimension, value in sorted((partition or {}).items()):
            folder = folder / f"{dimension}={value}"
        return folder

    def table_file(self, key: Sequence[str], partition: Mapping[str, str] | None = None) -> UPath:
        """The one Parquet file of an asset's partition."""
        return self.folder(key, partition) / "data.parquet"

    def write_table(
        self, table: pd.DataFrame, key: Sequence[str], partition: Mapping[str, str] | None = None
    ) -> UPath:
        """Store a table; readers see the old one or the new one, never a part."""
        target = self.table_file(key, partition)
        buffer = io.BytesIO()
        arrow = as_arrow(table)
        pq.write_table(
            arrow, buffer, compression="zstd", write_page_checksum=True, **_encodings(arrow.schema)
        )
        write_atomically(target, buffer.getvalue())
        return target

    def read_table(self, key: Sequence[str], partition: Mapping[str, str] | None = None) -> pd.DataFrame:
        """A stored table. Raises BadInput when it is not there or cannot be read."""
        path = self.table_file(key, partition)
        with _reading(path, key, partition), path.open("rb") as file:
            return pq.read_table(file, page_checksum_verification=True).to_pandas()

    def table_path(
        self, key: Sequence[str], partition: Mapping[str, str] | None = None, *, fetched: Path | None = None
    ) -> Path:
        """A stored table's file on this machine; one of a remote lake is copied into the folder `fetched`.

        Only the file's footer is looked at: a file cut short is found, a changed value is not (DuckDB
        writes no page checksums). Raises BadInput when it is not there or is no Parquet.
        """
        stored = self.table_file(key, partition)
        with _reading(stored, key, partition):
            if fetched is None:
                path = local(stored)
            else:
                path = fetched / f"{uuid.uuid4().hex}.parquet"
                stored.fs.get_file(stored.path, str(path))
            pq.read_metadata(path)
        return path

    def take_table(self, file: Path, key: Sequence[str], partition: Mapping[str, str] | None = None) -> UPath:
        """Move a finished Parquet file into its place as the table; readers see the old one or this.

        Raises:
            BadInput: the file is not there, or the file system refuses; the old table is as it was.
        """
        if not file.is_file():
            raise BadInput(
                "the file of the new table was gone before it could be stored",
                file=str(file),
                remedy="yield the output within `with lake.scratch()`: returned, it leaves the block"
                " first and the folder is removed",
            )
        target = self.table_file(key, partition)
        move_atomically(file, target)
        return target

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A new local folder for files in the making, removed at the end of the block.

        It is on the lake's own file system, so that a finished table needs no copying; for a remote
        lake, in the system's temporary folder. Those that killed processes left are removed first.

        Raises:
            BadInput: the file system refuses.
        """
        here = is_local(self.path)
        base = local(self.path / ".scratch") if here else Path(tempfile.gettempdir())
        prefix = "" if here else "evsim-scratch-"
        with storing(UPath(base)):
            base.mkdir(parents=True, exist_ok=True)
            sweep(base, re.compile(re.escape(prefix) + ".+"))
            folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{writer()}-", dir=base))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _reading(path: UPath, key: Sequence[str], partition: Mapping[str, str] | None) -> Iterator[None]:
    """Say which table could not be read and how to make it."""
    try:
        yield
    except FileNotFoundError:
        raise BadInput(
            "the table has not been materialized",
            file=str(path),
            remedy=f"materialize {'/'.join(key)} first: {run_again(key, partition).removesuffix(' --again')}",
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise BadInput(
            f"the stored table cannot be read: {error}",
            file=str(path),
            remedy=f"materialize it again: {run_again(key, partition)}",
        ) from error


def run_again(key: Sequence[str], partition: Mapping[str, str] | None = None) -> str:
    """The command that makes an asset's partition anew; a survey's assets are made by any study of it."""
    study = "STUDY" if key[-1] in OF_A_SURVEY else key[0]
    values = "|".join(value for _, value in sorted((partition or {}).items()))
    where = f" --partition {shlex.quote(values) if '|' in values else values}" if values else ""
    return f"evsim run {study} --only {key[-1]}{where} --again"


def write_atomically(target: UPath, content: bytes) -> None:
    """Write beside the target and rename; object stores show an object only once it is whole.

    A full disk or a killed process leaves the old file as it was (and, killed, a `.tmp` that no
    reader looks at and the next write removes).

    Raises:
        BadInput: the file system refuses (full, read-only).
    """

    def fill(temporary: Path) -> None:
        temporary.write_bytes(content)

    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_local(target):
            _replace(local(target), fill)
        else:
            target.write_bytes(content)


def move_atomically(file: Path, target: UPath) -> None:
    """Move a finished local file to `target`, of any size at flat memory, with the same promises.

    Raises:
        BadInput: the file system refuses (full, read-only); `file` and `target` are as they were.
    """
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_local(target):
            sweep(local(target.parent), UNFINISHED)
            sync(file)  # before it gets its name, so that a crash leaves no empty table
            try:
                os.replace(file, local(target))
                return
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            _replace(local(target), lambda temporary: shutil.copyfile(file, temporary))
        else:
            target.fs.put_file(str(file), target.path)
        file.unlink()


@contextmanager
def storing(target: UPath) -> Iterator[None]:
    """Say where and what to do when a file system refuses to store."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        raise BadInput(
            f"nothing could be stored ({error.strerror}); what was stored before is as it was",
            file=str(target),
            remedy="free space or get write access there, and run again",
        ) from error


def _replace(target: Path, fill: Callable[[Path], Any]) -> None:
    sweep(target.parent, UNFINISHED)
    temporary = target.parent / f".{target.name}.{writer()}-{uuid.uuid4().hex}.tmp"
    try:
        fill(temporary)
        sync(temporary)  # before it gets its name
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def writer() -> str:
    """This process, as the names of unfinished files tell it: `<pid>-<machine>`."""
    return f"{os.getpid()}-{_machine()}"


@cache
def _machine() -> str:
    """Eight hex digits of where a process id means this process: host, boot and container."""
    told = [platform.node()]
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        told.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]


def sweep(folder: Path, named: re.Pattern[str]) -> None:
    """Remove what dead writers left unfinished in a folder, of the names that match.

    Whether a writer on another machine lives cannot be seen from here: its leftovers, and those that
    name no writer, go when nothing in them was touched for a day. What cannot be removed stays.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if named.fullmatch(path.name):
                with suppress(OSError):
                    if abandoned(path):
                        shutil.rmtree(path) if path.is_dir() else path.unlink()


def abandoned(path: Path) -> bool:
    """Whether the writer of something unfinished is dead, or it was untouched for a day."""
    told = re.search(r"(\d+)-([0-9a-f]{8})-\w+(?:\.tmp)?$", path.name)
    if told and told[2] == _machine():
        try:
            os.kill(int(told[1]), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False  # another user's process
        return False
    touched = [entry.lstat().st_mtime for entry in (path, *path.rglob("*"))]
    return time.time() - max(touched) > ABANDONED_SECONDS


def local(path: UPath) -> Path:
    """A path of this machine's file system as such."""
    return Path(path.path)


def is_local(path: UPath) -> bool:
    """Whether the path is in this machine's file system, where a rename is atomic."""
    return path.protocol in ("", "file", "local")


def as_arrow(table: pd.DataFrame) -> pa.Table:
    """The table without its index and without pandas' own metadata."""
    return pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """How Parquet writes each column: 4-byte floats byte by byte, all others by dictionary.

    4-byte floats are masses of distributions, no two of them equal: a dictionary only adds to them. Their
    exponents are alike, so the same bytes side by side compress (by a fifth, where zstd alone finds little).
    """
    leaves = dict(_leaf(field.name, field.type) for field in schema)
    masses = [path for path, kind in leaves.items() if pa.types.is_float32(kind)]
    return {
        "use_dictionary": [path for path in leaves if path not in masses],
        "column_encoding": dict.fromkeys(masses, "BYTE_STREAM_SPLIT"),
    }


def _leaf(name: str, kind: pa.DataType) -> tuple[str, pa.DataType]:
    """A column's values as Parquet names them, and their type; within lists as well."""
    return _leaf(f"{name}.list.element", kind.value_type) if pa.types.is_list(kind) else (name, kind)


def content_hash(table: pd.DataFrame) -> str:
    """SHA-256 of a table's names, types and values: its data version.

    What pandas keeps in a cell that counts as missing is not part of it.
    """
    arrow = as_arrow(table).combine_chunks()
    digest = hashlib.sha256(str(arrow.schema).encode())
    for column in arrow.columns:
        for part in (pc.is_valid(column), pc.drop_null(column)):
            digest.update(_stream(pa.table({"": part}).combine_chunks()))
    return digest.hexdigest()


def _stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(len(table), 1))
    return sink.getvalue()


def partition_folders(partition_key: str, metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """{dimension: key} of one partition key."""
    if isinstance(partition_key, dg.MultiPartitionKey):
        return dict(partition_key.keys_by_dimension)
    return {str((metadata or {}).get(DIMENSION, "partition")): partition_key}
