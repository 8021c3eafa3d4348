"""Every answer cell of rows read, as a view whose columns build on one another.

Belongs here: the layers of `Answered` put on top of each other. Not here: what they hold
(`answers_sql.py`), which rows they are read of (`people_sql.py`, `repeats_sql.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evsim_assets.surveys.answers_sql import Answered

if TYPE_CHECKING:
    import duckdb


def put_readings(
    database: duckdb.DuckDBPyConnection, given: Sequence[Answered], source: str, view: str
) -> None:
    """Make the view `view`: the rows of the view `source`, which has the raw cells, with the columns of
    every answer cell's layers and check."""
    for depth in range(len(given[0].layers)):
        added = [f"{what} AS {name}" for answer in given for name, what in answer.layers[depth].items()]
        layer = f"{view}_{depth}"
        database.execute(f"CREATE VIEW {layer} AS SELECT {', '.join(['*', *added])} FROM {source}")
        source = layer
    problems = ", ".join(f"{answer.check.number} AS {answer.check.name}" for answer in given)
    database.execute(f"CREATE VIEW {view} AS SELECT *, {problems} FROM {source}")
