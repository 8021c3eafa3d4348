"""Files whose cells have types (Parquet, Excel) as batches of text cells.

Belongs here: how a number, a date or a truth value becomes text. Not here: the names of columns,
white space around cells, where the cells are kept (`reading.py`), SPSS (`spss.py`).

A whole number is written without ".0", a truth value as true or false, a date or time in ISO 8601,
midnight as the day alone; nothing, NaN included, is null. A damaged file can make any exception of
its reader, so all of them are caught, and become a BadInput that tells which.
"""

from __future__ import annotations

import datetime
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.waves import WaveFormat
from evsim_assets.surveys.text_files import REMEDY_READ, Batch, Batches, rows_a_batch, uneven

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE = 2.0**53
"""Below this every whole number is a float of its own, and can be written without an exponent."""

OLE = b"\xd0\xcf\x11\xe0"
"""How an .xls file, or one with a password, begins."""


def parquet_batches(path: Path, form: WaveFormat) -> Batches:
    """The rows of a Parquet file. Raises BadInput: not such a file, damaged, or with nested columns."""
    import pyarrow.parquet as pq

    try:
        head(path)
        with pq.ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True) as file:
            names = tuple(file.schema_arrow.names)
            _require_flat(file.schema_arrow, path)
            yield Batch(names, [_text(column) for column in file.schema_arrow.empty_table().columns])
            for batch in file.iter_batches(rows_a_batch(len(names)), use_threads=False):
                yield Batch(names, [_text(column) for column in batch.columns])
    except BadInput:
        raise
    except Exception as error:
        raise damaged(path, "Parquet", error) from error


def _require_flat(schema: pa.Schema, path: Path) -> None:
    import pyarrow as pa

    for field in schema:
        if pa.types.is_nested(field.type):
            raise BadInput(
                f"the column's cells are no single values but {field.type}",
                file=path,
                field=field.name,
                remedy="export it with a column for each value, or leave the column out",
            )


def excel_batches(path: Path, form: WaveFormat) -> Batches:
    """The rows of a sheet; rows without a value in any cell are none.

    Raises:
        BadInput: no .xlsx file, damaged, no such sheet, rows longer than the header, or formulas
            whose results were never stored.
    """
    try:
        # A date out of range would otherwise become '#VALUE!'.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="Cell .* is marked as a date")
            _refuse_old(path)
            if _has_formulas(path):
                _require_results(path, form)
            yield from _sheet_batches(_sheet_rows(path, form), path)
    except BadInput:
        raise
    except Exception as error:
        raise damaged(path, "Excel", error) from error


def head(path: Path) -> bytes:
    """The first bytes; raises OSError where there are none to be had."""
    with path.open("rb") as file:
        return file.read(len(OLE))


def damaged(path: Path, kind: str, error: Exception | str) -> BadInput:
    """The error of a file that its reader stumbled over."""
    if isinstance(error, OSError) and error.errno is not None:
        return BadInput(f"the file could not be read ({error.strerror})", file=path, remedy=REMEDY_READ)
    cause = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return BadInput(
        f"the file cannot be read as {kind} ({cause})",
        file=path,
        remedy="export it again; if it is a wave, check waves.format in survey.yaml",
    )


# ---- Excel


def _refuse_old(path: Path) -> None:
    if head(path) == OLE:
        raise BadInput(
            "the file is an old .xls workbook, or has a password",
            file=path,
            remedy="open it in Excel and save it as .xlsx without a password",
        )


@contextmanager
def _sheet_of(path: Path, form: WaveFormat, *, results: bool = True) -> Iterator[Any]:
    """The sheet that is meant, with the results of formulas, or with the formulas themselves."""
    import openpyxl

    with path.open("rb") as file:
        sheet = _named(openpyxl.load_workbook(file, read_only=True, data_only=results).worksheets, path, form)
        # What a sheet says of its size is often wrong, and cells outside would be left out.
        sheet.reset_dimensions()
        yield sheet


def _named(sheets: list[Any], path: Path, form: WaveFormat) -> Any:
    by_name = {sheet.title: sheet for sheet in sheets}
    wanted = 1 if form.sheet is None else form.sheet
    if isinstance(wanted, int) and wanted <= len(sheets):
        return sheets[wanted - 1]
    if wanted in by_name:
        return by_name[wanted]
    raise BadInput(
        f"there is no such sheet; there are {', '.join(map(repr, by_name)) or 'none'}",
        file=path,
        field="waves.sheet",
        value=wanted,
        remedy="correct waves.sheet in survey.yaml: a sheet's name, or its number from 1",
    )


def _sheet_rows(path: Path, form: WaveFormat) -> Iterator[tuple[int, list[str | None]]]:
    """Every row that has a value, with its number, without the empty cells at its end."""
    with _sheet_of(path, form) as sheet:
        rows = sheet.iter_rows(min_row=1, min_col=1, values_only=True)
        for number, row in enumerate(rows, start=1):
            cells = [value_text(value) for value in row]
            while cells and not (cells[-1] or "").strip():
                cells.pop()
            if cells and number > form.skip_rows:
                yield number, cells


def _sheet_batches(numbered: Iterator[tuple[int, list[str | None]]], path: Path) -> Batches:
    import pyarrow as pa

    header_row, header = next(numbered, (None, []))
    names = tuple(name or "" for name in header)
    size, rows = rows_a_batch(len(names)), list[list[str | None]]()

    def batch() -> Batch:
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        return Batch(names, [pa.array(column, pa.string()) for column in columns], header=header_row)

    for number, cells in numbered:
        if len(cells) > len(names):
            given = [cell or "" for cell in cells]
            raise uneven(
                given, len(names), path, number, "name the column, or empty the cells beyond the header"
            )
        rows.append(cells + [None] * (len(names) - len(cells)))
        if len(rows) == size:
            yield batch()
            rows = []
    yield batch()


def _has_formulas(path: Path) -> bool:
    """Whether any sheet of the file has a formula."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if not member.startswith("xl/worksheets/"):
                continue
            with archive.open(member) as sheet:
                end = b""
                while block := sheet.read(1 << 20):
                    if any(mark in end + block for mark in (b"<f>", b"<f ", b"<f/", b":f>", b":f ")):
                        return True
                    end = block[-2:]
    return False


def _require_results(path: Path, form: WaveFormat) -> None:
    """Refuse a sheet with a formula of which no result is stored: its cell would read as empty."""
    with _sheet_of(path, form) as stored, _sheet_of(path, form, results=False) as written:
        pairs = zip(
            stored.iter_rows(min_row=1, min_col=1), written.iter_rows(min_row=1, min_col=1), strict=True
        )
        for results, formulas in pairs:
            for result, formula in zip(results, formulas, strict=True):
                # A result that is the empty text is stored too: its cell has the type `str`.
                if formula.data_type == "f" and result.value is None and result.data_type != "str":
                    raise BadInput(
                        "a formula has no stored result",
                        file=path,
                        line=formula.row,
                        field=formula.coordinate,
                        value=str(formula.value),
                        remedy="open the file in Excel and save it, or put values in place of formulas",
                    )


# ---- values as text


def value_text(value: object) -> str | None:
    """A value as text."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case float():
            if value != value:
                return None
            return str(int(value)) if value.is_integer() and abs(value) < WHOLE else repr(value)
        case datetime.datetime():
            return value.isoformat().removesuffix("T00:00:00")
        case datetime.date() | datetime.time():
            return value.isoformat()
    return str(value)


def _text(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """An Arrow column as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if pa.types.is_floating(column.type):
        return float_texts(column)
    text = pc.cast(column, pa.string())
    if pa.types.is_decimal(column.type):
        return pc.replace_substring_regex(text, r"^(-?\d+)\.0+$", r"\1")
    if pa.types.is_timestamp(column.type) or pa.types.is_time(column.type):
        return _times(text)
    return text


def float_texts(column: pa.Array) -> pa.Array:
    """An Arrow column of floats as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = pc.if_else(pc.is_nan(column), None, column)
    bounded = pc.less(pc.abs(column), pa.scalar(WHOLE, pa.float64()))
    whole = pc.and_(bounded, pc.equal(pc.floor(column), column))
    numbers = pc.if_else(whole, column, pa.scalar(0, column.type)).cast(pa.int64())
    return pc.if_else(whole, numbers.cast(pa.string()), pc.cast(column, pa.string()))


def _times(text: pa.Array) -> pa.Array:
    """ISO 8601 of what Arrow writes: 2024-01-05 00:00:00.000000 becomes 2024-01-05."""
    import pyarrow.compute as pc

    text = pc.replace_substring(text, " ", "T")
    text = pc.replace_substring_regex(text, r"\.(\d*[1-9])?0+(Z|[+-]\d+)?$", r".\1\2")
    text = pc.replace_substring_regex(text, r"\.(Z|[+-]\d+)?$", r"\1")
    return pc.replace_substring_regex(text, r"T00:00:00$", "")
