"""Why cells and rows go to quarantine, as SQL: conditions in the order in which they count.

Belongs here: how conditions become rows of the quarantine table. Not here: any condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evsim_assets import sql

if TYPE_CHECKING:
    import duckdb

COLUMNS = (
    'raw_row BIGINT, place INTEGER, "column" VARCHAR, "value" VARCHAR, reason VARCHAR, remedy VARCHAR,'
    " cells BIGINT"
)
"""Of the table that problems are collected in: `place` orders the problems of a row, `cells` is the number
of answer cells that the problem sets aside."""


@dataclass(frozen=True)
class Problem:
    """One way in which a cell or row cannot be used.

    `when`, `value` and `cells` (answer cells set aside) are SQL; the rest are texts. `value` is what the
    quarantine table shows.
    """

    when: str
    column: str
    value: str
    reason: str
    remedy: str
    cells: str = "0"


@dataclass(frozen=True)
class Check:
    """What can be wrong with one cell or row. The first problem whose condition holds counts.

    `name` is the SQL column that holds the problem's number, NULL for none.
    """

    name: str
    problems: tuple[Problem, ...]

    @property
    def number(self) -> str:
        """The problem's number, from 1."""
        cases = " ".join(f"WHEN {p.when} THEN {n}" for n, p in enumerate(self.problems, 1))
        return f"CASE {cases} END" if cases else "NULL::INTEGER"

    def row(self, place: int) -> str:
        """The row of the quarantine table as a struct, NULL for none."""
        cases = " ".join(
            f"WHEN {n} THEN {{'place': {place}, 'column': {sql.text(p.column)}, 'value': {p.value},"
            f" 'reason': {sql.text(p.reason)}, 'remedy': {sql.text(p.remedy)}, 'cells': {p.cells}}}"
            for n, p in enumerate(self.problems, 1)
        )
        return f"CASE {self.name} {cases} END"


def collect(
    database: duckdb.DuckDBPyConnection, into: str, source: str, checks: Sequence[Check], first: int
) -> None:
    """Put the problems that the view `source` has, by `checks`, into the table `into` (COLUMNS)."""
    checks = [check for check in checks if check.problems]
    if not checks:
        return
    rows = ", ".join(check.row(first + position) for position, check in enumerate(checks))
    found = " OR ".join(f"{check.name} IS NOT NULL" for check in checks)
    database.execute(
        f"INSERT INTO {into} SELECT raw_row, unnest(problems, recursive := true) FROM"
        f" (SELECT raw_row, list_filter([{rows}], lambda p: p IS NOT NULL) AS problems"
        f" FROM {source} WHERE {found})"
    )
