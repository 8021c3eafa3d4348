"""Delimited text files (csv, tsv) as batches of text cells.

Belongs here: encodings, lines, quotes and the even length of rows. Not here: the names of columns,
white space around cells, where the cells are kept (`reading.py`), files with types (`typed_files.py`).

The records are those of Python's csv module, read strictly: a faster reader would have to be watched
for what it lets pass (a stray quote, a short row), and a million rows take some ten seconds.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.waves import WaveFormat
from evsim_assets.sql import ROW_GROUP

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_CELLS = 500_000
"""Cells a batch: what of a file is held as Python's or Arrow's values at a time."""

LONGEST_LINE = 1 << 24
"""Characters a line may have: a large file without line breaks is no table, and shall not fill the memory."""

NOT_OF_FILES = ("punycode", "idna")
"""Encodings of Python's that need a whole text at once."""

REMEDY_QUOTES = "check the quotes of that line: a quote within a cell is written twice"
REMEDY_ENCODING = (
    "save it as UTF-8, or, if it is a wave, set waves.encoding in survey.yaml (Excel often writes cp1252)"
)
REMEDY_UNEVEN = (
    "complete the row, put quotes around a cell that holds the delimiter,"
    " or check waves.delimiter in survey.yaml"
)
REMEDY_READ = "check that the file is there and may be read"


@dataclass(frozen=True)
class Batch:
    """Some rows of a file, in its order; the first batch may be empty and tells the names all the same.

    `columns` are as many as `names`, each of Arrow type string, null where a cell is missing. `lines`
    are those of the file on which the rows begin, None where a file has no lines. `header` is the
    line (the row of a sheet) of the names, `labels` the value labels: column → raw value → label.
    """

    names: tuple[str, ...]
    columns: list[pa.Array]
    lines: list[int] | None = None
    header: int | None = None
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


Batches = Generator[Batch, None, None]
"""A file's rows; closing it closes the file."""


def rows_a_batch(columns: int) -> int:
    """How many rows of so many columns are read at a time."""
    return min(max(BATCH_CELLS // max(columns, 1), 1), ROW_GROUP)


def text_batches(path: Path, form: WaveFormat) -> Batches:
    """The records below the header. Blank lines are none.

    Raises:
        BadInput: no such file, empty, not in its encoding, broken quotes, or rows of uneven length.
    """
    if form.separator in '"\r\n':
        raise BadInput(
            "this character cannot be the delimiter",
            file=path,
            field="waves.delimiter",
            value=form.separator,
            remedy="use the character between the cells, such as ',' or ';'",
        )
    if codecs.lookup(form.encoding).name in NOT_OF_FILES:
        raise BadInput(
            "this is an encoding of names, not of files",
            file=path,
            field="waves.encoding",
            value=form.encoding,
            remedy="use a name such as utf-8 or latin-1",
        )
    try:
        with path.open(encoding=form.encoding, newline="") as file:
            lines = _lines(file, path)
            for _ in range(form.skip_rows):
                next(lines, None)
            yield from _batches(_records(lines, form, path), path)
    except OSError as error:
        raise BadInput(
            f"the file could not be read ({error.strerror or error})", file=path, remedy=REMEDY_READ
        ) from error
    except UnicodeError as error:
        raise _wrong_encoding(path, form.encoding, error) from None


def _lines(file: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """The lines with their ends, as csv wants them, without a byte order mark."""
    number = 1
    line = file.readline(LONGEST_LINE).removeprefix("\ufeff")
    while line:
        if len(line) >= LONGEST_LINE:
            raise BadInput(
                f"the line has more than {LONGEST_LINE:,} characters",
                file=path,
                line=number,
                remedy="export it again with a line break after each row",
            )
        yield line
        number += 1
        line = file.readline(LONGEST_LINE)


def _records(lines: Iterator[str], form: WaveFormat, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Every record that is not a blank line, with the line on which it begins."""
    reader = csv.reader(lines, delimiter=form.separator, strict=True)
    before = form.skip_rows + 1
    line = before
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = before + reader.line_num
    except csv.Error as error:
        raise BadInput(
            f"not a table from here on: {error}", file=path, line=line, remedy=REMEDY_QUOTES
        ) from None


def _batches(records: Iterator[tuple[int, list[str]]], path: Path) -> Batches:
    header_line, header = next(records, (None, []))
    if header_line is not None and not _is_text("".join(header)):
        raise _half_character(header, path, header_line)
    names = tuple(header)
    size, lines, rows = rows_a_batch(len(names)), list[int](), list[list[str]]()
    for line, cells in records:
        if len(cells) != len(names):
            raise uneven(cells, len(names), path, line)
        lines.append(line)
        rows.append(cells)
        if len(rows) == size:
            yield Batch(names, _columns(rows, lines, path), lines, header_line)
            lines, rows = [], []
    columns = _columns(rows, lines, path) if rows else _no_rows(len(names))
    yield Batch(names, columns, lines, header_line)


def uneven(
    cells: Sequence[str], columns: int, path: Path, line: int, remedy: str = REMEDY_UNEVEN
) -> BadInput:
    """The error of a row that has not as many cells as the header."""
    return BadInput(
        f"the row has {len(cells)} cells and the header {columns}",
        file=path,
        line=line,
        value=list(cells),
        remedy=remedy,
    )


def _no_rows(columns: int) -> list[pa.Array]:
    import pyarrow as pa

    return [pa.array([], pa.string())] * columns


def _columns(rows: list[list[str]], lines: list[int], path: Path) -> list[pa.Array]:
    import pyarrow as pa

    try:
        return [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    except UnicodeEncodeError:
        where = next(row for row, cells in enumerate(rows) if not _is_text("".join(cells)))
        raise _half_character(rows[where], path, lines[where]) from None


def _half_character(cells: list[str], path: Path, line: int) -> BadInput:
    """The error of a surrogate, which encodings such as utf-7 can spell and no table can hold."""
    return BadInput(
        "a cell holds half a character (a surrogate)",
        file=path,
        line=line,
        value=cells,
        remedy="save the file as UTF-8",
    )


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong_encoding(path: Path, encoding: str, error: UnicodeError) -> BadInput:
    """The error of the first bytes that are not of the encoding, with their line.

    The file is decoded once more to find them: the reader had it in blocks, and knows of none where
    it began.
    """
    line, offset = _where_not(path, encoding)
    with path.open("rb") as file:
        file.seek(offset or 0)
        value = file.read(4)
    problem = f"the file is not {encoding}" + (" with a byte order mark" if "BOM" in str(error) else "")
    return BadInput(problem, file=path, line=line, value=value, remedy=REMEDY_ENCODING)


def _where_not(path: Path, encoding: str) -> tuple[int, int | None]:
    """The line and the offset of the first bytes that are not of the encoding."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    line, offset = 1, 0
    with path.open("rb") as file:
        while True:
            block = file.read(1 << 16)
            state = decoder.getstate()
            try:
                line += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as error:
                # The decoder may have held back the first bytes of a character from the block before.
                good = error.start - (len(error.object) - len(block))
                decoder.setstate(state)
                with suppress(UnicodeError):
                    line += decoder.decode(block[: max(good, 0)]).count("\n")
                return line, offset + good
            except UnicodeError:
                return line, None
            if not block:
                return line, None
            offset += len(block)
