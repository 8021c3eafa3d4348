"""The lake: where tables and checkpoints lie, and how they are written so that none is ever half there.

Belongs here: paths, atomic writes, content hashes, the Parquet IO manager. Not here: versioned
folders (`versions.py`), SQL (`warehouse.py`), what any table means.
"""

import errno
import hashlib
import io
import os
import shlex
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from evsim_assets.specs.errors import BadInput
from evsim_resources.compute import failure

DIMENSION = "evsim/partition_dimension"
"""Definition metadata: the name of a single-dimension asset's partitions, such as `adapter`."""

OF_A_SURVEY = frozenset({"raw_wave", "clean_wave", "quarantine", "responses", "splits"})
"""Assets that are a survey's; all others are a study's. Both may have the same name."""

REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors of a file system that takes no more: full, over quota, read-only, broken."""


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
        pq.write_table(as_arrow(table), buffer, compression="zstd", write_page_checksum=True)
        write_atomically(target, buffer.getvalue())
        return target

    def read_table(self, key: Sequence[str], partition: Mapping[str, str] | None = None) -> pd.DataFrame:
        """A stored table. Raises BadInput when it is not there or cannot be read."""
        path = self.table_file(key, partition)
        what = "/".join(key)
        try:
            with path.open("rb") as file:
                return pq.read_table(file, page_checksum_verification=True).to_pandas()
        except FileNotFoundError:
            raise BadInput(
                "the table has not been materialized",
                file=str(path),
                remedy=f"materialize {what} first: {run_again(key, partition).removesuffix(' --again')}",
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
    reader looks at).

    Raises:
        BadInput: the file system refuses (full, read-only).
    """
    with storing(target):
        _write_atomically(target, content)


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


def _write_atomically(target: UPath, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not is_local(target):
        target.write_bytes(content)
        return
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        with open(str(temporary), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(str(temporary), str(target))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_local(path: UPath) -> bool:
    """Whether the path is in this machine's file system, where a rename is atomic."""
    return path.protocol in ("", "file", "local")


def as_arrow(table: pd.DataFrame) -> pa.Table:
    """The table without its index and without pandas' own metadata."""
    return pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)


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


def partition_of(context: Any, metadata: Mapping[str, Any] | None) -> dict[str, str] | None:
    """The partition of an output or input context as {dimension: key}."""
    if not context.has_asset_partitions:
        return None
    return partition_folders(context.asset_partition_key, metadata)


def partition_folders(partition_key: str, metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """{dimension: key} of one partition key."""
    if isinstance(partition_key, dg.MultiPartitionKey):
        return dict(partition_key.keys_by_dimension)
    return {str((metadata or {}).get(DIMENSION, "partition")): partition_key}


class TableIOManager(dg.ConfigurableIOManager):
    """Stores every table as Parquet in the lake, one file a partition.

    An input of several partitions arrives as one table, its partitions in sorted order.
    """

    lake: dg.ResourceDependency[Lake]

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        """Store the output under its asset key and partition."""
        where = partition_of(context, context.definition_metadata)
        try:
            path = self.lake.write_table(obj, context.asset_key.path, where)
        except BadInput as error:
            raise failure(error) from error
        context.add_output_metadata({"path": dg.MetadataValue.path(str(path))})

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """Read the upstream table, whole."""
        key = context.asset_key.path
        upstream = context.upstream_output
        metadata = upstream.definition_metadata if upstream is not None else None
        places: list[dict[str, str] | None] = [None]
        if context.has_asset_partitions:
            places = [partition_folders(p, metadata) for p in sorted(context.asset_partition_keys)]
        try:
            tables = [self.lake.read_table(key, place) for place in places]
        except BadInput as error:
            raise failure(error) from error
        return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)
