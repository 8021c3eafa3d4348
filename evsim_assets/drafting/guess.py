"""What a raw file that nobody has described yet looks like: its form, and each column's values.

Belongs here: guesses about a file and about single columns, for a person to correct. Not here: what
the columns may mean together (`recognise.py`), the codebook made of it (`draft.py`).
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.waves import ENDINGS, WaveFormat
from evsim_assets.sql import connection, name, parquet
from evsim_assets.surveys.cell_sql import canonical_cell
from evsim_assets.surveys.reading import READERS, RawCells

if TYPE_CHECKING:
    import duckdb

LOOKED_AT_BYTES = 1 << 20
DELIMITERS = ",;\t|"
LOOKED_AT_VALUES = 2000
"""Different values of a column that are looked at one by one; of more only the numbers' ends are known."""

WIDE = (0, 100)
USUAL_SCALES = (
    *((1, 3), (0, 3), (-1, 1), (1, 4), (1, 5), (0, 4), (0, 5), (-2, 2), (1, 6), (1, 7), (0, 6), (-3, 3)),
    *((0, 7), (1, 9), (1, 10), (0, 10), (1, 11), WIDE),
)
"""Scales that questionnaires use, the smallest first."""

NO_ANSWER = re.compile(
    r"n\s*[/.]?\s*a\.?|nan|null|missing|\.|#null!|skipped|no (answer|opinion|response)|not applicable|dk"
    r"|unsure|not (sure|asked)|(i )?(don.?t|do not) know.*|can.?t say|(i )?(refused?|decline[sd]?)( to .*)?"
    r"|(i.?d )?(prefer|rather) not.*",
    re.IGNORECASE,
)
"""Words that say that there is no answer."""

REFUSED = re.compile(r"(i )?(refused?|decline[sd]?)( to .*)?|(i.?d )?(prefer|rather) not.*", re.IGNORECASE)
"""Those among them by which a person refuses one."""

FAR_CODES = {77, 88, 97, 98, 99, 777, 888, 997, 998, 999, 7777, 8888, 9997, 9998, 9999}
"""Numbers that stand for "no answer" where they lie far above the others."""


@dataclass(frozen=True)
class Column:
    """A raw column's values.

    Attributes:
        name: its name.
        rows, empty, different: cells, empty ones, different values among the others.
        values: the different values with their counts, the most frequent first; at most
            LOOKED_AT_VALUES. Each is the text that stands for it (`canonical`).
        numbers: how many cells are numbers; `ends` are the lowest and highest of them, NaN if none.
        whole: whether none of them has a fraction.
    """

    name: str
    rows: int
    empty: int
    different: int
    values: Mapping[str, int]
    numbers: int
    ends: tuple[float, float]
    whole: bool

    @cached_property
    def no_answers(self) -> dict[str, int]:
        """The values that say that there is no answer, with their counts."""
        codes = _codes_apart([number(value) for value in self.values])
        words = {v: n for v, n in self.values.items() if NO_ANSWER.fullmatch(v) or number(v) in codes}
        if self.numbers and all(v in words or is_number(v) or v.lower() == "none" for v in self.values):
            words |= {v: n for v, n in self.values.items() if v.lower() == "none"}
        return words if len(words) < len(self.values) else {}

    @cached_property
    def answers(self) -> dict[str, int]:
        """The other values, with their counts."""
        return {value: count for value, count in self.values.items() if value not in self.no_answers}

    @property
    def given(self) -> int:
        """How many cells hold an answer."""
        return self.rows - self.empty - sum(self.no_answers.values())

    @property
    def is_numeric(self) -> bool:
        """Whether all but a few cells with an answer are numbers."""
        codes = sum(n for value, n in self.no_answers.items() if is_number(value))
        return self.given > 0 and self.numbers - codes >= 0.99 * self.given

    @property
    def low(self) -> float:
        """The lowest number that is an answer; NaN if none is."""
        found = [number(value) for value in self.answers if is_number(value)]
        return min(found, default=math.nan) if self.different <= LOOKED_AT_VALUES else self.ends[0]

    @property
    def high(self) -> float:
        """The highest number that is an answer; NaN if none is."""
        found = [number(value) for value in self.answers if is_number(value)]
        return max(found, default=math.nan) if self.different <= LOOKED_AT_VALUES else self.ends[1]


def is_number(value: str) -> bool:
    """Whether the text is a finite number, written as DuckDB and Python both read it."""
    return re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", value) is not None and math.isfinite(
        float(value)
    )


def number(value: str) -> float:
    """The number that the text is; NaN where it is none."""
    return float(value) if is_number(value) else math.nan


def _codes_apart(found: Sequence[float]) -> set[float]:
    """Numbers that stand for "no answer": far above the others, or below zero on a scale that is not."""
    numbers = {n for n in found if not math.isnan(n)}
    usual = {n for n in numbers if n >= 0 and n not in FAR_CODES}
    if len(usual) < 2:
        return set()
    below, top = {n for n in numbers if n < 0}, max(usual)
    two_sided = below and (min(below) == -top or len(below) > 6 or any(n % 1 for n in below))
    codes = set() if two_sided or not below <= {*range(-9, 0), *(-c for c in FAR_CODES)} else set(below)
    codes |= {n for n in numbers & FAR_CODES if n > 2 * top}
    if usual - {8, 9} and max(usual - {8, 9}) <= 6 and not usual & {6, 7}:  # 1–5 with 8 and 9 apart
        codes |= numbers & {8, 9}
    return codes


def guess_form(
    path: Path, *, delimiter: str | None = None, encoding: str | None = None, sheet: str | int | None = None
) -> WaveFormat:
    """The form of a raw file, by its ending and its first megabyte, unless it is said.

    Raises:
        BadInput: no such file, or an ending that is none of a survey's.
    """
    if not path.is_file():
        raise BadInput("no such file", file=path, remedy="check the path")
    ending = path.suffix.lower()
    found = next((form for form in READERS if ending in ENDINGS[form]), None)
    if found is None:
        old = "open it in Excel and save it as .xlsx, or " if ending == ".xls" else ""
        raise BadInput(
            "a raw file of this ending cannot be read",
            file=path,
            value=ending,
            remedy=f"{old}export it as one of {', '.join(end for form in READERS for end in ENDINGS[form])}",
        )
    if found not in ("csv", "tsv"):
        return _form(path, format=found, sheet=sheet)
    with path.open("rb") as file:
        start = file.read(LOOKED_AT_BYTES)
    # What is said is checked before it is used.
    said = _form(path, format=found, delimiter=delimiter, encoding=encoding or guess_encoding(start))
    return said.model_copy(update={"delimiter": delimiter or _delimiter(start, said.encoding)})


def _form(path: Path, **fields: object) -> WaveFormat:
    try:
        return WaveFormat.model_validate({**fields, "header": "clean"})
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        raise BadInput(
            getattr(cause, "problem", first["msg"]),
            file=path,
            field=f"--{first['loc'][0]}",
            value=first["input"],
            remedy=getattr(cause, "remedy", "leave it out: it is guessed"),
        ) from None


def guess_encoding(start: bytes) -> str:
    """The encoding under which the bytes that are not ASCII look most like text."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    for cut in range(4):  # the last character may be cut through
        try:
            start[: len(start) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return "utf-8"
    return max(("cp1252", "latin-1", "mac_roman"), key=lambda encoding: _plausible(start, encoding))


def _plausible(start: bytes, encoding: str) -> float:
    """How many characters beyond ASCII are such as texts hold, less those that none holds."""
    odd = re.findall(r"[^\x00-\x7f]", start.decode(encoding, errors="replace"))
    fair = sum(1 for c in odd if c.islower() or c in "\xa0’‘“”–—…•€£")
    return fair - sum(1 for c in odd if c == "\ufffd" or "\x80" <= c < "\xa0")


def _delimiter(start: bytes, encoding: str) -> str:
    """The character that splits the first lines into the same number of cells, the most of them."""
    text = start.decode(encoding, errors="replace").removeprefix("\ufeff")
    whole = text[: text.rfind("\n") + 1] or text

    def width(delimiter: str) -> int:
        try:
            lines = islice(io.StringIO(whole, newline=""), 200)  # str.splitlines cuts at other signs too
            rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            return 0
        usual, often = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
        return usual if often >= 0.9 * len(rows) else 0

    return max(DELIMITERS, key=width)


def profiles(cells: RawCells) -> list[Column]:
    """What is in each raw column, in the file's order."""
    with connection() as database:
        return [_profile(database, cells, column) for column in cells.columns]


def _profile(database: duckdb.DuckDBPyConnection, cells: RawCells, column: str) -> Column:
    # Values that a codebook may not tell apart, such as 5 and 5.0, are one.
    source = f"(SELECT {canonical_cell(name(column))} AS said FROM {parquet([cells.path])})"
    cell = "said"
    value = f"TRY_CAST({cell} AS DOUBLE)"
    counted = database.execute(
        f"SELECT count(*) FILTER ({cell} = ''), count(DISTINCT nullif({cell}, '')), count(n), min(n), max(n),"
        f" coalesce(bool_and(n = floor(n)), false) FROM (SELECT {cell},"
        f" CASE WHEN isfinite({value}) THEN {value} END AS n FROM {source})"
    ).fetchone()
    assert counted is not None  # an aggregate always has a row
    empty, different, numbers, low, high, whole = counted
    values = database.execute(
        f"SELECT {cell}, count(*) AS n FROM {source} WHERE {cell} <> '' GROUP BY 1 ORDER BY n DESC, 1"
        f" LIMIT {LOOKED_AT_VALUES}"
    ).fetchall()
    ends = (math.nan if low is None else low, math.nan if high is None else high)
    return Column(column, cells.rows, empty, different, dict(values), numbers, ends, whole)


def likely_scale(columns: Sequence[Column]) -> tuple[int, int] | None:
    """The smallest usual scale that holds every number of the columns, codes for "no answer" apart.

    None where there is none; where there are fewer than three numbers (a yes or no, two groups); or
    where the numbers leave most of it unused or have fractions without reaching the ends of 0–100 (a
    count, a share, a measurement).
    """
    if not columns or not all(column.is_numeric for column in columns):
        return None
    low, high = min(column.low for column in columns), max(column.high for column in columns)
    found = next(((a, b) for a, b in USUAL_SCALES if a <= low and high <= b), None)
    seen = {number(value) for column in columns for value in column.answers if is_number(value)}
    if found is None or len(seen) < 3:
        return None
    if not all(column.whole for column in columns) and (found != WIDE or low > 1 or high < 99):
        return None
    return found if high - low >= 0.6 * (found[1] - found[0]) else None
