"""Which of a participant's rows in one wave counts, as SQL.

Belongs here: the codebook's `duplicates.within_wave`. Not here: whose a row is (`people_sql.py`), which
wave counts (`responses.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.answers_sql import Answered, told_apart
from evsim_assets.surveys.readings_sql import put_readings

if TYPE_CHECKING:
    import duckdb

REPEATED = {
    "keep first": "the participant has several rows in this wave; the first usable one counts",
    "keep last": "the participant has several rows in this wave; the last usable one counts",
}


def find_repeats(
    database: duckdb.DuckDBPyConnection, survey: SurveySpec, given: Sequence[Answered], weightless: str
) -> str:
    """Make the table `repeats` of who has several rows, and which of them is `kept`; returns its join to
    the view `identified i`.

    A row without a usable answer never displaces one that has any: the policy chooses among the usable
    rows, and among all only where none is usable. Most waves have no repeats, and then nothing is read and
    nothing joined.

    Args:
        database: with the view `identified`.
        survey: as it holds for the wave.
        given: the row's answer cells.
        weightless: whether a row has no weight that can be used, as SQL.
    """
    policy = survey.duplicates.within_wave
    if survey.participant is None or policy == "panel":
        return ""
    keys = ["identifier", *(f"told_{n}" for n in range(len(told_apart(survey))))]
    grouped = f"FROM {{}} WHERE NOT nameless AND asked > 0 GROUP BY {', '.join(keys)} HAVING count(*) > 1"
    if not database.execute(f"SELECT 1 {grouped.format('identified')} LIMIT 1").fetchall():
        return ""
    put_readings(database, given, "identified", "all_readings")
    usable = " OR ".join(f"({answer.given}) IS NOT NULL" for answer in given)
    chosen = "min(raw_row)" if policy == "keep first" else "max(raw_row)"
    # All rows are read, as reading only those of people with several takes longer where there are many.
    database.execute(
        f"CREATE TABLE repeats AS SELECT {', '.join(keys)},"
        f" coalesce({chosen} FILTER (NOT ({weightless}) AND ({usable})), {chosen}) AS kept"
        f" {grouped.format('all_readings')}"
    )
    return " LEFT JOIN repeats r ON " + " AND ".join(f"i.{key} = r.{key}" for key in keys)
