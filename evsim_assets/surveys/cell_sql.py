"""What a single raw cell says, as SQL expressions: words of the codebook, numbers.

Belongs here: the cells of a wave as a table with names that SQL can tell apart, and when two texts are
the same value. Not here: what a value means (`people_sql.py`, `answers_sql.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evsim_assets import sql
from evsim_assets.specs.values import TRUTH
from evsim_assets.specs.values import canonical as canonical
from evsim_assets.surveys.reading import LINE, ROW

if TYPE_CHECKING:
    import duckdb

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""A number as surveys write it: 7, 7.0, -.5, 1e2. No 7,5 and no 1_000, no digits other than 0 to 9."""

WHITE_SPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
"""What Python calls white space (`str.strip` takes it off); SQL's trim knows only the blank."""


def canonical_cell(cell: str) -> str:
    """As `canonical`, of a cell; the pattern is tried only where it can fit, which saves most of the time."""
    return (
        f"CASE WHEN suffix({cell}, '0') AND contains({cell}, '.')"
        rf" THEN regexp_replace({cell}, '^(-?[0-9]+)\.0+$', '\1')"
        f" WHEN {cell} IN ({', '.join(map(sql.text, TRUTH))}) THEN lower({cell}) ELSE {cell} END"
    )


def is_one_of(cell: str, values: Iterable[str]) -> str:
    """Whether the cell is one of the codebook's values."""
    listed = ", ".join(sql.text(value) for value in sorted({canonical(value) for value in values}))
    return f"({canonical_cell(cell)} IN ({listed}))" if listed else "false"


def number(cell: str) -> str:
    """The cell as a finite DOUBLE; NULL where it is no NUMBER, or too large for one."""
    cast = f"TRY_CAST({cell} AS DOUBLE)"
    return f"CASE WHEN regexp_full_match({cell}, {sql.text(NUMBER)}) AND isfinite({cast}) THEN {cast} END"


def literals(values: Sequence[str | int | None]) -> str:
    """An SQL list of texts or numbers."""
    words = ("NULL" if v is None else str(v) if isinstance(v, int) else sql.text(v) for v in values)
    return f"[{', '.join(words)}]"


class Cells:
    """The raw cells of a wave as the view `cells`: `raw_row`, and a column of our own naming for each
    raw column, as SQL cannot tell `Q1` from `q1`."""

    def __init__(self, database: duckdb.DuckDBPyConnection, path: Path) -> None:
        import pyarrow.parquet as pq

        self._database = database
        self._types: dict[tuple[str, ...], str] = {}
        names = pq.read_schema(path).names
        ours = {ROW: "raw_row", LINE: "raw_line"}
        self._names = {name: ours.get(name, f"cell_{position}") for position, name in enumerate(names)}
        listed = ", ".join(self._names.values())
        database.execute(f"CREATE VIEW cells({listed}) AS SELECT * FROM {sql.parquet([path])}")
        self.columns = tuple(name for name in names if name not in ours)

    def of(self, column: str) -> str:
        """The raw column's name in the view."""
        return self._names[column]

    def position(self, cell: str, keys: Sequence[str]) -> str:
        """Which of the canonical `keys` (from 1) the cell is; NULL for none. Takes as long for many keys
        as for few: they become a type, which DuckDB looks texts up in."""
        known = self._types.get(tuple(keys))
        if known is None:
            known = self._types[tuple(keys)] = f"words_{len(self._types)}"
            words = ", ".join(sql.text(key) for key in keys)
            self._database.execute(f"CREATE TYPE {known} AS ENUM ({words})")
        return f"(enum_code(TRY_CAST({canonical_cell(cell)} AS {known}))::INTEGER + 1)"
