"""Reading raw files: every record and cell of them, or an error that says where and what to do."""

from __future__ import annotations

import codecs
import csv
import datetime
import decimal
import encodings.aliases
import errno
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.waves import WaveFormat
from evsim_assets.surveys.reading import RawCells, read_cells, table_rows

SURVEYS = Path(__file__).resolve().parents[3] / "shared" / "surveys"

Table = dict[str, list[Any]]


def read(content: bytes, **form: Any) -> Table:
    """The table that is read from a file of this content, `__row` and `__line` included."""
    with tempfile.TemporaryDirectory() as folder:
        path, into = Path(folder) / "wave", Path(folder) / "cells.parquet"
        path.write_bytes(content)
        cells = read_cells(path, WaveFormat(**form), into)
        return checked(cells)


def checked(cells: RawCells) -> Table:
    table = pq.read_table(cells.path)
    assert table.column_names == ["__row", "__line", *cells.columns]
    assert table["__row"].to_pylist() == list(range(1, cells.rows + 1))
    assert all(table[name].null_count == 0 for name in cells.columns)
    return table.to_pydict()


def cells_of(content: bytes, **form: Any) -> Table:
    """As `read`, the cells alone."""
    table = read(content, **form)
    return {name: column for name, column in table.items() if name not in ("__row", "__line")}


def refused(content: bytes, **form: Any) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read(content, **form)
    error = caught.value
    assert Path(str(error.file)).name == "wave"
    assert error.remedy is not None and error.remedy in str(error)
    return error


# ---- text files, one by one


def test_cells_are_text_as_they_stand_without_the_white_space_around_them() -> None:
    table = read('id,a,b\r\n007,NA,"x, ""y""\nz"\r\n\r\n8, 1.50,\u00a0\u3000\r\n'.encode())
    assert table == {
        "__row": [1, 2],
        "__line": [2, 5],
        "id": ["007", "8"],
        "a": ["NA", "1.50"],
        "b": ['x, "y"\nz', ""],
    }


def test_a_byte_order_mark_and_blanks_around_names_are_no_part_of_the_header() -> None:
    assert cells_of("\ufeff id, name \n1,2\n".encode()) == {"id": ["1"], "name": ["2"]}
    assert cells_of('\ufeff"id","name"\n1,2\n'.encode()) == {"id": ["1"], "name": ["2"]}


def test_delimiter_and_encoding_are_the_codebook_s() -> None:
    assert cells_of("id;x\n1;é,\n".encode("cp1252"), delimiter=";", encoding="cp1252")["x"] == ["é,"]
    assert cells_of(b"id\tx\n1\t2,3\n", format="tsv")["x"] == ["2,3"]
    assert "delimiter" in refused(b"id\n1\n", delimiter='"').problem


def test_lines_before_the_header_are_left_out_and_counted() -> None:
    table = read(b'Export of "today\n\nid,a\n1,2\n', skip_rows=2)
    assert table == {"__row": [1], "__line": [4], "id": ["1"], "a": ["2"]}
    assert refused(b"Export\nid,a\n1\n", skip_rows=1).line == 3
    assert "empty" in refused(b"id,a\n1,2\n", skip_rows=5).problem


def test_a_clean_header_has_printable_names_and_an_exact_one_is_left_alone() -> None:
    content = "id,Do you like \u00a0 the\x85food\n of\ufffd China? ,ﬁsh\n".replace("food\n", "food\t")
    content += "1,2,3\n"
    assert list(cells_of(content.encode(), header="clean")) == [
        "id",
        "Do you like the food of China?",
        "fish",
    ]
    exact = list(cells_of(content.encode()))
    assert exact[1:] == ["Do you like \u00a0 the\x85food\t of\ufffd China?", "ﬁsh"]


def test_a_column_without_a_name_is_called_by_its_number() -> None:
    assert list(cells_of(b",id,\n0,1,x\n")) == ["column_1", "id", "column_3"]
    assert "twice" in refused(b",column_1\n0,1\n").problem


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", b",,\n"])
def test_an_empty_file_is_refused(content: bytes) -> None:
    assert "empty" in refused(content).problem


def test_a_header_without_rows_is_refused() -> None:
    assert "no rows" in refused(b"id,a\n\n").problem


def test_a_wrong_encoding_is_refused_with_the_line_and_the_bytes() -> None:
    error = refused("id,a\n1,ok\n2,café\n".encode("latin-1"))
    assert (error.line, error.value) == (3, b"\xe9\n")
    assert "not utf-8" in error.problem and "waves.encoding" in str(error.remedy)


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_wrong_bytes_far_into_a_file_are_found_on_their_line(shift: int, ends: str) -> None:
    good = f"id,a{ends}" + "x" * shift + f"é{ends}".join(["1,é"] * 40_000) + ends
    content = good.encode() + b"2,\xff\xfe!?" + ends.encode()
    error = refused(content)
    assert (error.line, error.value) == (40_002, b"\xff\xfe!?")


def test_bytes_that_are_no_utf_16_are_refused() -> None:
    assert "not utf-16" in refused(b"id,a\n1,22\n\n", encoding="utf-16").problem
    error = refused("id,a\n1,2\n3,4\n".encode("utf-16-be")[:-1], encoding="utf-16-be")
    assert (error.line, error.value) == (3, b"\0")


def test_half_a_character_is_refused_on_its_line() -> None:
    assert refused(b"id,a\n1,2\n3,+2AA-\n", encoding="utf-7").line == 3
    assert refused(b"id,+2AA-\n1,2\n", encoding="utf-7").line == 1


def test_an_encoding_that_is_none_of_files_is_refused() -> None:
    assert refused(b"id\n1\n", encoding="punycode").field == "waves.encoding"


@pytest.mark.parametrize("encoding", sorted({*encodings.aliases.aliases.values(), "utf_8_sig"}))
def test_every_encoding_of_python_is_read_block_by_block(encoding: str) -> None:
    text = "id,a\r\n" + "".join(f"{i},x{i * 7} y\r\n" for i in range(3000))
    try:
        codecs.lookup(encoding)
        content = text.encode(encoding)
    except (LookupError, UnicodeError):
        pytest.skip("not an encoding of this text")
    if content.decode(encoding) != text:
        pytest.skip("not an encoding of this text")
    assert cells_of(content, encoding=encoding)["a"] == [f"x{i * 7} y" for i in range(3000)]


def test_names_that_would_be_taken_for_each_other_are_refused() -> None:
    error = refused(b"\nid,a , a\n1,2,3\n")
    assert (error.line, error.value) == (2, "a")
    assert refused(b"id,Age,age\n1,2,3\n").value == ["Age", "age"]
    assert refused(b"id,__Row\n1,2\n").value == "__Row"


@pytest.mark.parametrize(
    ("row", "cells"), [(b"3", ["3"]), (b"3,4,5", ["3", "4", "5"]), (b"3,4,", ["3", "4", ""])]
)
def test_a_row_of_another_length_is_refused_and_never_filled_up(row: bytes, cells: list[str]) -> None:
    error = refused(b'id,a\n1,"two\nlines"\n\n' + row + b"\n")
    assert (error.line, error.value) == (5, cells)
    assert f"{len(cells)} cells and the header 2" in error.problem
    assert "delimiter" in str(error.remedy)


@pytest.mark.parametrize("row", [b'2,"y\n3,z\n', b'2,"y"z\n', b'2,"y" \n'])
def test_a_quote_that_does_not_pair_is_refused_on_its_line(row: bytes) -> None:
    error = refused(b"id,a\n1,x\n" + row)
    assert error.line == 3 and "quote" in str(error.remedy)


def test_a_file_without_line_breaks_is_no_table_and_is_not_held() -> None:
    error = refused(b"id,a\n" + b"1," * (1 << 23))
    assert error.line == 2 and "characters" in error.problem


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    for form in ("csv", "parquet", "excel", "sav"):
        for path in (tmp_path / "absent", tmp_path):
            with pytest.raises(BadInput) as caught:
                read_cells(path, WaveFormat(format=form), tmp_path / "cells.parquet")
            assert caught.value.file == path and "could not be read" in caught.value.problem


def test_more_rows_than_are_held_at_a_time_keep_their_order_and_numbers(tmp_path: Path) -> None:
    count = 400_000
    path = tmp_path / "wave.csv"
    path.write_text("id,a\n" + "".join(f'{i},"{i % 7}\n"\n' for i in range(count)))
    cells = read_cells(path, WaveFormat(), tmp_path / "cells.parquet")
    table = pq.read_table(cells.path)
    assert cells.rows == count
    assert table["__line"].to_numpy().tolist() == list(range(2, 2 + 2 * count, 2))
    assert table["id"].to_pylist() == list(map(str, range(count)))
    assert table["a"].to_pylist() == [str(i % 7) for i in range(count)]
    stored = pq.ParquetFile(cells.path).metadata
    rows = [stored.row_group(group).num_rows for group in range(stored.num_row_groups)]
    assert rows == [40_960] * 9 + [31_360]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's record of peak memory")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / "wave.csv"
        with path.open("w") as file:
            file.write("id," + ",".join(f"c{i}" for i in range(11)) + "\n")
            file.writelines(
                f"p{i}," + ",".join(f"{i % 101} of {k}" for k in range(11)) + "\n" for i in range(count)
            )
        program = (
            "import re, sys; from pathlib import Path; from evsim_assets.specs.waves import WaveFormat;"
            "from evsim_assets.surveys.reading import read_cells;"
            "read_cells(Path(sys.argv[1]), WaveFormat(), Path(sys.argv[2]));"
            "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
        )
        arguments = [sys.executable, "-c", program, str(path), str(tmp_path / "cells.parquet")]
        return int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout) // 1024

    small, large = peak(200_000), peak(1_000_000)
    assert large < 400 and large < small + 60  # MiB


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path, into = tmp_path / "wave.csv", tmp_path / "cells.parquet"
    path.write_bytes(b"id\n1\n")
    read_cells(path, WaveFormat(), into)
    before = into.read_bytes()
    path.write_bytes(b"id\n" + b"1\n" * 600_000 + b"1,2\n")
    with pytest.raises(BadInput):
        read_cells(path, WaveFormat(), into)
    assert into.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.parquet", "wave.csv"]


def test_cells_that_cannot_be_stored_are_an_error_of_the_target(tmp_path: Path) -> None:
    path = tmp_path / "wave.csv"
    path.write_bytes(b"id\n1\n")
    with pytest.raises(BadInput, match="could not be stored") as caught:
        read_cells(path, WaveFormat(), tmp_path / "absent" / "cells.parquet")
    assert caught.value.file == tmp_path / "absent" / "cells.parquet"
    assert os.strerror(errno.ENOENT) in caught.value.problem


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "wave.csv"
    path.write_bytes(b"id\n" + b"1\n" * 200_000)
    stored = [read_cells(path, WaveFormat(), tmp_path / name).path.read_bytes() for name in ("a", "b")]
    assert stored[0] == stored[1]


@pytest.mark.skipif(not SURVEYS.is_dir(), reason="the real surveys are not beside the repository")
@pytest.mark.parametrize(
    ("file", "form"),
    [
        ("scaling_llm_persuasion_us/responses.csv", {}),
        ("scaling_llm_persuasion_us/messages.csv", {}),
        ("covid_vaccine_misinfo/orb_us.csv", {}),
        ("covid_vaccine_misinfo/orb_uk.csv", {}),
        ("food_world_cup/food-world-cup-data.csv", {"encoding": "latin-1", "header": "clean"}),
    ],
)
def test_real_surveys_are_read_as_pandas_reads_them(tmp_path: Path, file: str, form: dict[str, str]) -> None:
    cells = read_cells(SURVEYS / file, WaveFormat.model_validate(form), tmp_path / "cells.parquet")
    table = pd.read_parquet(cells.path).drop(columns=["__row", "__line"])
    other = pd.read_csv(
        SURVEYS / file, dtype=str, keep_default_na=False, na_filter=False, encoding=form.get("encoding")
    )
    assert table.shape == other.shape
    for mine, theirs in zip(table, other, strict=True):
        assert table[mine].tolist() == other[theirs].str.strip().tolist()


# ---- text files, any


def stored_by_csv(rows: list[list[str]], delimiter: str, quoting: Any, ends: str) -> tuple[str, list[int]]:
    """What Python's csv writes, and the line on which each row begins."""
    text, lines = io.StringIO(newline=""), []
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=ends)
    for row in rows:
        lines.append(1 + len(re.findall(r"\r\n|\r|\n", text.getvalue())))
        writer.writerow(row)
    return text.getvalue(), lines


@st.composite
def written_tables(draw: Any) -> tuple[list[list[str]], str, str, bytes, list[int]]:
    encoding = draw(
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1", "cp1252", "mac_roman"])
    )
    delimiter = draw(st.sampled_from(",;\t| é0"))
    # A writer that quotes only what it must leaves a line break of another system's bare.
    quoting, ends = draw(
        st.sampled_from(
            [
                (csv.QUOTE_ALL, "\n"),
                (csv.QUOTE_ALL, "\r"),
                (csv.QUOTE_ALL, "\r\n"),
                (csv.QUOTE_MINIMAL, "\r\n"),
            ]
        )
    )
    letters = st.characters(codec="utf-8" if encoding.startswith("utf") else encoding)
    cell = st.text(st.one_of(letters, st.sampled_from('",;\n\r \t|')), max_size=6)
    width = draw(st.integers(1, 4))
    names = [f"c{position}{draw(cell)}" for position in range(width)]
    rows = draw(st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=6))
    text, lines = stored_by_csv([names, *rows], delimiter, quoting, ends)
    return [names, *rows], delimiter, encoding, text.encode(encoding), lines


@settings(deadline=None, max_examples=100)
@given(written_tables())
def test_whatever_python_writes_is_read_back(
    written: tuple[list[list[str]], str, str, bytes, list[int]],
) -> None:
    (names, *rows), delimiter, encoding, content, lines = written
    table = read(content, delimiter=delimiter, encoding=encoding)
    assert table.pop("__line") == lines[1:]
    table.pop("__row")
    assert list(table) == [name.strip() for name in names]
    assert list(map(list, zip(*table.values(), strict=True))) == [[c.strip() for c in row] for row in rows]


def by_python(content: bytes, encoding: str) -> list[list[str]] | None:
    """The records according to Python's strict csv, None where they are no table to be read."""
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
        records = [r for r in csv.reader(io.StringIO(text, newline=""), strict=True) if r]
    except (UnicodeError, csv.Error):
        return None
    if len(records) < 2 or {len(record) for record in records} != {len(records[0])}:
        return None
    names = [name.strip() or f"column_{i}" for i, name in enumerate(records[0], 1)]
    if len({name.lower() for name in names}) < len(names) or {"__row", "__line"} & {n.lower() for n in names}:
        return None
    return [names, *([cell.strip() for cell in record] for record in records[1:])]


def agrees_with_python(content: bytes, encoding: str) -> None:
    expected = by_python(content, encoding)
    if expected is None:
        refused(content, encoding=encoding)
        return
    table = cells_of(content, encoding=encoding)
    assert [list(table), *map(list, zip(*table.values(), strict=True))] == expected


ENCODINGS = st.sampled_from(["utf-8", "cp1252", "utf-16-le", "shift_jis"])


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.binary(), st.text('ab,"\n\r \0é\ufeff').map(str.encode)), ENCODINGS)
@example(b"a\n\n\n1", "utf-8")
@example(b'a\n"\n', "utf-8")
def test_any_bytes_are_refused_or_read_as_python_reads_them(content: bytes, encoding: str) -> None:
    agrees_with_python(content, encoding)


def changed(content: bytes, draw: Any) -> bytes:
    """The content with some bytes deleted, inserted or otherwise."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        kind, new = (
            draw(st.sampled_from(["delete", "insert", "flip"])),
            draw(st.binary(min_size=1, max_size=4)),
        )
        kept = at if kind == "insert" else at + draw(st.integers(1, 8))
        content = content[:at] + (b"" if kind == "delete" else new) + content[kept:]
    return content


@settings(deadline=None, max_examples=100)
@given(st.data(), ENCODINGS)
def test_a_damaged_text_file_is_refused_or_read_as_python_reads_it(data: Any, encoding: str) -> None:
    text = 'id,a,"b ""c"""\r\n1,"x,y",ü\r\n\r\n2,"two\r\nlines",\r\n3,,"z"\r\n'
    content = text.encode(encoding, "replace")
    agrees_with_python(changed(content, data.draw), encoding)


# ---- Parquet, Excel, SPSS


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def workbook(*rows: Any, **sheets: Any) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for title, content in sheets.items():
        sheet = book.create_sheet(title)
        for row in content:
            sheet.append(row)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


@cache
def sav() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wave.sav"
        frame = pd.DataFrame(
            {
                "id": ["p1", " p2", "p3"],
                "q1": [1.0, 98.0, np.nan],
                "share": [0.1, 2.0, 1e-9],
                "day": [datetime.date(2024, 1, 5), None, datetime.date(1999, 12, 31)],
            }
        )
        pyreadstat.write_sav(
            frame,
            path,
            variable_value_labels={"q1": {1: "agree", 98: "refused"}},
            missing_ranges={"q1": [{"lo": 98, "hi": 99}]},
        )
        return path.read_bytes()


def test_values_of_parquet_become_text_without_loss() -> None:
    moment = datetime.datetime(2024, 1, 5, 13, 7, 9, 500)
    table = pa.table(
        {
            "whole": pa.array([78, None], pa.int32()),
            "large": pa.array([2**64 - 1, 0], pa.uint64()),
            "float": [78.0, 0.1],
            "floats": [float("nan"), 1e300],
            "exact": [2.0**53 - 1, -0.0],
            "single": pa.array([0.1, 3.0], pa.float32()),
            "half": pa.array([0.5, 2.0], pa.float16()),
            "truth": [True, False],
            "day": [datetime.date(2024, 1, 5), None],
            "moment": pa.array([moment, moment.replace(hour=0, minute=0, second=0, microsecond=0)]),
            "zone": pa.array([moment, None], pa.timestamp("ms", "UTC")),
            "time": pa.array([datetime.time(10, 20), datetime.time(1, 2, 3, 40)]),
            "price": [decimal.Decimal("78.00"), decimal.Decimal("1.50")],
            "text": [" NA ", ""],
            "kind": pa.array(["x", None]).dictionary_encode(),
            "bytes": [b"a", b"b"],
            "none": pa.nulls(2),
        }
    )
    assert cells_of(parquet(table), format="parquet") == {
        "whole": ["78", ""],
        "large": ["18446744073709551615", "0"],
        "float": ["78", "0.1"],
        "floats": ["", "1e+300"],
        "exact": ["9007199254740991", "0"],
        "single": ["0.1", "3"],
        "half": ["0.5", "2"],
        "truth": ["true", "false"],
        "day": ["2024-01-05", ""],
        "moment": ["2024-01-05T13:07:09.0005", "2024-01-05"],
        "zone": ["2024-01-05T13:07:09Z", ""],
        "time": ["10:20:00", "01:02:03.00004"],
        "price": ["78", "1.50"],
        "text": ["NA", ""],
        "kind": ["x", ""],
        "bytes": ["a", "b"],
        "none": ["", ""],
    }


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_every_float_is_read_back_from_its_text(values: list[float]) -> None:
    texts = cells_of(parquet(pa.table({"x": values})), format="parquet")["x"]
    assert [float(text) for text in texts] == values
    assert not any(text.endswith(".0") for text in texts)


def test_columns_of_parquet_that_are_no_cells_are_refused_by_name() -> None:
    error = refused(parquet(pa.table({"id": [1], "several": [[1, 2]]})), format="parquet")
    assert error.field == "several"
    assert refused(parquet(pa.table({"id": [b"\xff"]})), format="parquet")
    assert "empty" in refused(parquet(pa.table({})), format="parquet").problem
    assert (
        "no rows" in refused(parquet(pa.table({"id": pa.array([], pa.string())})), format="parquet").problem
    )
    twice = pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"])
    assert refused(parquet(twice), format="parquet").value == "a"


def test_values_of_a_sheet_become_text_and_empty_rows_are_none() -> None:
    day, moment = datetime.date(2024, 1, 5), datetime.datetime(2024, 1, 5, 13, 7)
    rows = [
        [None, "id", "a"],
        [78.0, 0.1, True],
        [],
        [day, moment, datetime.time(10, 20)],
        [" x ", None, "#N/A"],
        [1e300, 12345678901, "a\nb"],
    ]
    table = read(workbook(*rows), format="excel")
    assert table.pop("__line") == [None] * 4
    assert table == {
        "__row": [1, 2, 3, 4],
        "column_1": ["78", "2024-01-05", "x", "1e+300"],
        "id": ["0.1", "2024-01-05T13:07:00", "", "12345678901"],
        "a": ["true", "10:20:00", "#N/A", "a\nb"],
    }


def test_the_sheet_is_the_first_or_the_one_the_codebook_names() -> None:
    content = workbook(["a"], [1], second=[["b"], [2]], **{"2024": [["c"], [3]]})
    given: list[tuple[dict[str, Any], Table]] = [
        ({}, {"a": ["1"]}),
        ({"sheet": "second"}, {"b": ["2"]}),
        ({"sheet": 3}, {"c": ["3"]}),
        ({"sheet": "2024"}, {"c": ["3"]}),
    ]
    assert [cells_of(content, format="excel", **form) for form, _ in given] == [table for _, table in given]
    error = refused(content, format="excel", sheet="third")
    assert (error.field, error.value) == ("waves.sheet", "third") and "'second'" in error.problem
    assert refused(content, format="excel", sheet=4).value == 4


def test_rows_above_the_header_of_a_sheet_are_left_out() -> None:
    assert cells_of(workbook(["Export"], [], ["id", None], [1]), format="excel", skip_rows=2) == {"id": ["1"]}
    assert "empty" in refused(workbook(["Export"]), format="excel", skip_rows=1).problem


def test_a_row_of_a_sheet_beyond_the_header_is_refused() -> None:
    error = refused(workbook(["id", "a"], [1, 2], [3, 4, 5]), format="excel")
    assert (error.line, error.value) == (3, ["3", "4", "5"])


def with_sheet(content: bytes, old: bytes, new: bytes) -> bytes:
    """The workbook with something replaced in the XML of its first sheet."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(sink, "w") as target:
        for name in source.namelist():
            member = source.read(name)
            if name == "xl/worksheets/sheet1.xml":
                assert old in member
                member = member.replace(old, new)
            target.writestr(name, member)
    return sink.getvalue()


def test_a_sheet_that_misstates_its_size_loses_no_cell() -> None:
    content = with_sheet(workbook(["id", "a"], [1, 2], [3, 4]), b'ref="A1:B3"', b'ref="A1:A2"')
    assert cells_of(content, format="excel") == {"id": ["1", "3"], "a": ["2", "4"]}


def test_a_formula_is_its_stored_result_and_refused_without_one() -> None:
    content = workbook(["id", "a"], [1, "=A2+1"])
    error = refused(content, format="excel")
    assert (error.field, error.value) == ("B2", "=A2+1") and "save" in str(error.remedy)
    stored = with_sheet(content, b"<v /></c>", b"<v>2</v></c>")
    assert cells_of(stored, format="excel") == {"id": ["1"], "a": ["2"]}
    blank = with_sheet(content, b'<c r="B2"', b'<c r="B2" t="str"')
    assert cells_of(blank, format="excel") == {"id": ["1"], "a": [""]}


def test_a_date_that_excel_cannot_show_is_refused() -> None:
    content = workbook(["id", "a"], [1, datetime.date(2024, 1, 5)])
    error = refused(with_sheet(content, b"<v>45296</v>", b"<v>99999999</v>"), format="excel")
    assert "B2" in error.problem and "99999999" in error.problem


def test_an_old_or_locked_workbook_is_refused_with_the_remedy() -> None:
    assert "save it as .xlsx" in str(
        refused(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), format="excel").remedy
    )


def test_codes_of_spss_stay_codes_and_their_labels_are_told(tmp_path: Path) -> None:
    path = tmp_path / "wave.sav"
    path.write_bytes(sav())
    cells = read_cells(path, WaveFormat(format="sav"), tmp_path / "cells.parquet")
    assert cells.labels == {"q1": {"1": "agree", "98": "refused"}}
    table = checked(cells)
    assert table.pop("__line") == [None] * 3
    assert table == {
        "__row": [1, 2, 3],
        "id": ["p1", "p2", "p3"],
        "q1": ["1", "98", ""],
        "share": ["0.1", "2", "1e-9"],
        "day": ["2024-01-05", "", "1999-12-31"],
    }


def test_an_spss_file_of_more_rows_than_are_held_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "wave.zsav"
    numbers = np.arange(250_000, dtype=float)
    pyreadstat.write_sav(pd.DataFrame(dict.fromkeys("abcdefgh", numbers)), path, compress=True)
    cells = read_cells(path, WaveFormat(format="sav"), tmp_path / "cells.parquet")
    table = checked(cells)
    assert table["a"] == table["h"] == [str(i) for i in range(250_000)]


@pytest.mark.parametrize("form", ["parquet", "excel", "sav"])
@pytest.mark.parametrize("content", [b"", b"id,a\n1,2\n", b"PK\x03\x04", b"PAR1", b"$FL2", b"PAR1" * 5])
def test_a_file_of_another_format_is_refused(form: str, content: bytes) -> None:
    error = refused(content, format=form)
    assert "waves.format" in str(error.remedy)


@settings(deadline=None, max_examples=100)
@given(st.data(), st.sampled_from(["parquet", "excel"]))
def test_a_damaged_file_is_refused_or_read_and_nothing_else(data: Any, form: str) -> None:
    refused_or_read(changed(undamaged(form), data.draw), form)


@settings(deadline=None, max_examples=10)  # each has a process of its own
@given(st.data())
def test_a_damaged_spss_file_is_refused_or_read_and_nothing_else(data: Any) -> None:
    refused_or_read(changed(sav(), data.draw), "sav")


def refused_or_read(content: bytes, form: str) -> None:
    try:
        read(content, format=form)
    except BadInput as error:
        assert error.remedy


@cache
def undamaged(form: str) -> bytes:
    if form == "excel":
        return workbook(["id", "a", "b"], [1, "x", 0.5], [2, "y", datetime.date(2024, 1, 5)])
    return parquet(pa.table({"id": [1, 2], "a": ["x", "y"], "b": [0.5, None]}), write_page_checksum=True)


# ---- tables of a codebook


def test_a_table_is_read_by_its_ending(tmp_path: Path) -> None:
    contents = {
        "t.csv": b"id,a.b,a\n1,x,\n",
        "t.TSV": b"id\ta.b\ta\n1\tx\t\n",
        "t.xlsx": workbook(["id", "a.b", "a"], [1, "x"]),
        "t.parquet": parquet(pa.table({"id": [1], "a.b": ["x"], "a": pa.nulls(1)})),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert table_rows(tmp_path / name) == [{"id": "1", "a.b": "x", "a": ""}]


@pytest.mark.parametrize("name", ["t.xls", "t", "t.sav", "absent.csv"])
def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput) as caught:
        table_rows(tmp_path / name)
    assert caught.value.file == tmp_path / name and caught.value.remedy
