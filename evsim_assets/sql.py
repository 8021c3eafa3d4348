"""DuckDB as the stages that stream use it: bounded memory, quoted names, Parquet out.

Belongs here: connections and the words that put values safely into a query. Not here: any query of
a stage, the analysts' SQL (`evsim_resources/warehouse.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "500MB"
"""What DuckDB may hold before it spills to disk; the process and Arrow's buffers come on top."""

ROW_GROUP = 40_960
"""Rows a Parquet row group: a multiple of DuckDB's vectors of 2,048. A thread holds one while it writes,
and a prompt has a kilobyte and more."""


@contextmanager
def connection(scratch: Path | None = None, threads: int = 2) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that spills to `scratch` (a temporary folder where none is given).

    Nothing is downloaded. `write_parquet` says which rows keep their order.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="sql-", dir=scratch) as spill:
        database = duckdb.connect(
            config={
                "memory_limit": MEMORY_LIMIT,
                "threads": threads,
                "temp_directory": spill,
                "preserve_insertion_order": True,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        try:
            yield database
        finally:
            database.close()


def text(value: str) -> str:
    """A text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def name(column: str) -> str:
    """A column's name as an SQL identifier."""
    return '"' + column.replace('"', '""') + '"'


def parquet(paths: Sequence[Path]) -> str:
    """The Parquet files as one table, in the order given.

    Only what is in the files counts: of a folder `wave=2021-11` DuckDB would make a column of its own.
    """
    listed = ", ".join(text(str(path)) for path in paths)
    return f"read_parquet([{listed}], hive_partitioning = false)"


def write_parquet(database: duckdb.DuckDBPyConnection, query: str, path: Path) -> int:
    """Write the query's rows to `path`, in their order; returns how many there are.

    Scans keep their order with any number of threads; joins, groups and unnested lists do so only
    with one thread, or where the query ends in an ORDER BY that leaves no ties.
    """
    written = database.execute(
        f"COPY ({query}) TO {text(str(path))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
    ).fetchall()  # an unfinished result would keep the connection from registering a table
    return int(written[0][0])
