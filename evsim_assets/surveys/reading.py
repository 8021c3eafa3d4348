"""Raw files of any form as one kind of table: text cells in a Parquet file.

Belongs here: the names of columns, white space around cells, the file that is written. Not here: how
a format is read (`text_files.py`, `typed_files.py`, `spss.py`), what a cell means (`cleaning.py`).
"""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.waves import ENDINGS, FileFormat, WaveFormat
from evsim_assets.sql import ROW_GROUP
from evsim_assets.surveys.spss import sav_batches
from evsim_assets.surveys.text_files import Batch, Batches, text_batches
from evsim_assets.surveys.typed_files import excel_batches, parquet_batches

if TYPE_CHECKING:
    import pyarrow as pa

ROW, LINE = "__row", "__line"
"""Our own columns: the number of the data row, and the line of the file on which it begins."""

HELD_BYTES = 64 << 20
"""Bytes of cells that make a row group of their own, however few the rows."""

READERS: dict[FileFormat, Callable[[Path, WaveFormat], Batches]] = {
    "csv": text_batches,
    "tsv": text_batches,
    "parquet": parquet_batches,
    "excel": excel_batches,
    "sav": sav_batches,
}

TABLES: tuple[FileFormat, ...] = ("csv", "tsv", "excel", "parquet")
"""What the small tables that a codebook refers to may be."""


@dataclass(frozen=True)
class RawCells:
    """A raw file as text cells.

    Attributes:
        path: a Parquet file with the columns `__row` (int64, the data rows from 1), `__line` (int64,
            the line on which the row begins; null where a file has no lines), and a text column for
            each of `columns`, never null: an empty or missing cell is ''. Rows in the file's order.
        rows: how many there are, at least 1.
        columns: the raw columns' names, as in the file, in its order.
        labels: value labels of an SPSS file, column → raw value → label; of other files none.
    """

    path: Path
    rows: int
    columns: tuple[str, ...]
    labels: Mapping[str, Mapping[str, str]]


def read_cells(path: Path, form: WaveFormat, into: Path) -> RawCells:
    """Every record and cell of a raw file, in the Parquet file `into`, whole or not at all.

    White space around cells and names is taken off, nothing else is changed. The memory needed does
    not grow with the number of rows.

    Raises:
        BadInput: the file is not what `form` says, damaged, empty, or a column or row is ambiguous;
            or `into` could not be written.
    """
    temporary = into.with_name(f".{into.name}.tmp")
    try:
        with closing(READERS[form.format](path, form)) as batches:
            columns, rows, labels = _write(batches, path, form, temporary)
        if not rows:
            raise BadInput("the file has a header and no rows", file=path, remedy="export it again")
        os.replace(temporary, into)
    except OSError as error:
        raise BadInput(
            f"the cells could not be stored ({error.strerror or error})",
            file=into,
            remedy="free space or get write access there",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return RawCells(into, rows, columns, labels)


def table_rows(path: Path) -> list[dict[str, str]]:
    """A small table that a codebook refers to, each row as text cells by column name.

    Its format follows from its ending: csv, tsv, xlsx or parquet; text files are UTF-8.

    Raises:
        BadInput: not there, another ending, or whatever `read_cells` refuses.
    """
    import pyarrow.parquet as pq

    form = _form_of(path)
    with tempfile.TemporaryDirectory(prefix="table-") as folder:
        cells = read_cells(path, form, Path(folder) / "cells.parquet")
        table = pq.ParquetFile(cells.path).read().drop_columns([ROW, LINE])
    return table.to_pylist()


def _form_of(path: Path) -> WaveFormat:
    for form in TABLES:
        if path.suffix.lower() in ENDINGS[form]:
            return WaveFormat(format=form)
    raise BadInput(
        "a table of this ending cannot be read",
        file=path,
        value=path.suffix,
        remedy="save it as " + ", ".join(ENDINGS[form][0] for form in TABLES),
    )


def _write(
    batches: Batches, path: Path, form: WaveFormat, into: Path
) -> tuple[tuple[str, ...], int, dict[str, Mapping[str, str]]]:
    """Write the cells; returns the columns' names, the number of rows, and the labels of values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(batches)
    names = _names(first, path, form)
    schema = pa.schema([(ROW, pa.int64()), (LINE, pa.int64()), *((name, pa.string()) for name in names)])
    rows, held = 0, list[pa.RecordBatch]()
    with pq.ParquetWriter(into, schema, compression="zstd") as writer:
        batch: Batch | None = first
        while batch is not None:
            held.append(_table_part(batch, rows, schema))
            rows += held[-1].num_rows
            if sum(b.num_rows for b in held) >= ROW_GROUP or sum(b.nbytes for b in held) >= HELD_BYTES:
                writer.write_table(pa.Table.from_batches(held), row_group_size=2 * ROW_GROUP)
                held = []
            batch = next(batches, None)
        writer.write_table(pa.Table.from_batches(held, schema), row_group_size=2 * ROW_GROUP)
    labels = {
        name: first.labels[raw] for name, raw in zip(names, first.names, strict=True) if raw in first.labels
    }
    return names, rows, labels


def _table_part(batch: Batch, before: int, schema: pa.Schema) -> pa.RecordBatch:
    """The batch's rows with their numbers; `before` rows came earlier."""
    import pyarrow as pa
    import pyarrow.compute as pc

    count = len(batch.columns[0])
    numbers = pa.array(range(before + 1, before + count + 1), pa.int64())
    lines = pa.nulls(count, pa.int64()) if batch.lines is None else pa.array(batch.lines, pa.int64())
    cells = [pc.fill_null(pc.utf8_trim_whitespace(column), "") for column in batch.columns]
    return pa.record_batch([numbers, lines, *cells], schema=schema)


def _names(batch: Batch, path: Path, form: WaveFormat) -> tuple[str, ...]:
    """The names of the columns, each different; a column without one is `column_<n>`, from 1."""
    if not any(name.strip() for name in batch.names) and (not batch.names or not len(batch.columns[0])):
        raise BadInput("the file is empty", file=path, remedy="export it again")
    cleaned = [_cleaned(name, form) for name in batch.names]
    names = tuple(name or f"column_{position}" for position, name in enumerate(cleaned, start=1))
    _refuse_names(names, path, batch.header)
    return names


def _refuse_names(names: Sequence[str], path: Path, line: int | None) -> None:
    for name in names:
        if name.lower() in (ROW, LINE):
            raise BadInput(
                "a column has a name that evsim uses itself",
                file=path,
                line=line,
                value=name,
                remedy="rename the column",
            )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise BadInput(
            "a column name is there twice",
            file=path,
            line=line,
            value=repeated[0],
            remedy="give each column its own name",
        )
    # In SQL `Age` and `age` are one name, and the one column would be taken for the other.
    lower = Counter(name.lower() for name in names)
    alike = [name for name in names if lower[name.lower()] > 1]
    if alike:
        raise BadInput(
            "two column names differ only by capital letters",
            file=path,
            line=line,
            value=alike,
            remedy="give each column its own name",
        )


def _cleaned(name: str, form: WaveFormat) -> str:
    """A name without white space around it and, as `waves.header: clean`, of printable text."""
    if form.header == "exact":
        return name.strip()
    composed = unicodedata.normalize("NFKC", name)
    return " ".join("".join(c if c.isprintable() and c != "\ufffd" else " " for c in composed).split())
