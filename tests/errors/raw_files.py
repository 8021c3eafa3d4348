"""Raw files that cannot be read: text, Excel, Parquet, SPSS."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from evsim_assets.specs.survey import read_survey
from evsim_assets.surveys.reading import read_cells
from tests.errors.situation import Situation, codebook_with, put_survey, put_wave


def _read(root: Path, content: bytes | None, name: str, form: str, into: str = "cells.parquet") -> object:
    """What reading the file says; without content there is no file."""
    survey = read_survey(put_survey(root, codebook_with("{format: csv}", form)))
    path = survey.folder / "waves" / name
    if content is not None:
        put_wave(survey.folder, content, name)
    return read_cells(path, survey.format_of(path.stem), root / into)


def _file(
    title: str, content: bytes | None, shown: str, name: str = "2024-01.csv", form: str = "{format: csv}"
) -> Situation:
    blocks = [("text", shown)]
    if form != "{format: csv}":
        blocks = [("yaml", f"waves: {form}"), *blocks]
    return Situation(title, tuple(blocks), lambda root: _read(root, content, name, form))


def _text(title: str, content: str, form: str = "{format: csv}") -> Situation:
    return _file(title, content.encode(), content.rstrip("\n"), form=form)


def _stored(title: str) -> Situation:
    """The reader's own target is not to be written."""
    blocks = (("text", "(the folder that the cells go to is gone)"),)
    return Situation(
        title,
        blocks,
        lambda root: _read(root, b"a\n1\n", "2024-01.csv", "{format: csv}", "gone/cells.parquet"),
    )


TEXT = [
    _file("There is no such raw file", None, "(no file)"),
    _file("The raw file is empty", b"", "(nothing)"),
    _text("The raw file has a header and no rows", "person,q1\n"),
    _file(
        "The raw file is not UTF-8",
        "person,area\nAnn,Urban\nZoé,Rural\n".encode("cp1252"),
        "person,area\nAnn,Urban\nZoé,Rural    # as Excel writes it: é is the byte E9",
    ),
    _file(
        "A UTF-16 file without a byte order mark",
        b"person,q1\nAnn,40\n",
        "person,q1\nAnn,40",
        form="{format: csv, encoding: utf-16}",
    ),
    _text("An encoding that is none of files", "person,q1\nAnn,40\n", "{format: csv, encoding: punycode}"),
    _text("A delimiter that cannot be one", "person,q1\nAnn,40\n", "{format: csv, delimiter: '\"'}"),
    _text("A row has more or fewer cells than the header", "person,q1,q2\nAnn,40,often\nBob,70\n"),
    _text("The delimiter is another than the codebook says", "person;q1\nAnn;40,5\n"),
    _text("A quote does not pair", 'person,q1\nAnn,"40\nBob,70\n'),
    _text("A quote within a cell", 'person,q1\n"Ann" Lee,40\n'),
    _file(
        "A line without an end",
        b"person,q1\n" + b"1," * (1 << 23),
        "person,q1\n1,1,1,1,1,1,1,…    # 16 million characters without a line break",
    ),
    _text("A column name is there twice", "person,q1,q1\nAnn,40,50\n"),
    _text("Two column names differ only by capital letters", "person,Q1,q1\nAnn,40,50\n"),
    _text("A column has a name that evsim uses itself", "__row,q1\n1,40\n"),
    _file(
        "Half a character in a cell",
        b"person,q1\nAnn,+2AA-\n",
        "person,q1\nAnn,+2AA-",
        form="{format: csv, encoding: utf-7}",
    ),
    _file(
        "Half a character in the header",
        b"person,+2AA-\nAnn,1\n",
        "person,+2AA-\nAnn,1",
        form="{format: csv, encoding: utf-7}",
    ),
    _stored("The cells could not be stored"),
]


def _workbook(rows: Sequence[Sequence[Any]]) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    return _saved(book)


def _saved(book: openpyxl.Workbook) -> bytes:
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def _impossible_date() -> bytes:
    """A sheet with a date in the year 275 764, which Excel cannot show."""
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["person", "day"])
    book.active.append(["Ann", 45296])
    book.active["B2"].number_format = "yyyy-mm-dd"
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_saved(book))) as source, zipfile.ZipFile(sink, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b"<v>45296</v>", b"<v>99999999</v>"))
    return sink.getvalue()


def _sheet(title: str, rows: Sequence[Sequence[Any]], form: str = "{format: excel}") -> Situation:
    shown = "\n".join(" | ".join(map(str, row)) for row in rows)
    return _file(title, _workbook(rows), shown, "2024-01.xlsx", form)


EXCEL = [
    _sheet("There is no such sheet", [["person", "q1"], ["Ann", 40]], "{format: excel, sheet: Responses}"),
    _sheet("A row of a sheet is longer than the header", [["person", "q1"], ["Ann", 40, 50]]),
    _sheet("A formula has no stored result", [["person", "q1"], ["Ann", "=20+20"]]),
    _file(
        "A date that Excel cannot show",
        _impossible_date(),
        "person | day\nAnn | ########",
        "2024-01.xlsx",
        "{format: excel}",
    ),
    _file(
        "An old .xls workbook, or one with a password",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "(an .xls workbook, renamed to .xlsx)",
        "2024-01.xlsx",
        "{format: excel}",
    ),
    _file(
        "The Excel file is none",
        b"person,q1\nAnn,40\n",
        "person,q1\nAnn,40",
        "2024-01.xlsx",
        "{format: excel}",
    ),
    _sheet("The sheet is empty", []),
    _file("There is no such Excel file", None, "(no file)", "2024-01.xlsx", "{format: excel}"),
]


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


PARQUET = [
    _file(
        "The Parquet file is none",
        b"person,q1\nAnn,40\n",
        "person,q1\nAnn,40",
        "2024-01.parquet",
        "{format: parquet}",
    ),
    _file(
        "A column of a Parquet file holds lists",
        _parquet(pa.table({"person": ["Ann"], "q1": [[40, 50]]})),
        "person | q1\nAnn    | [40, 50]",
        "2024-01.parquet",
        "{format: parquet}",
    ),
]

SPSS = [
    _file(
        "The SPSS file is none, or damaged",
        b"person,q1\nAnn,40\n",
        "person,q1\nAnn,40",
        "2024-01.sav",
        "{format: sav}",
    ),
    _file("There is no such SPSS file", None, "(no file)", "2024-01.sav", "{format: sav}"),
]

SITUATIONS = [*TEXT, *EXCEL, *PARQUET, *SPSS]
