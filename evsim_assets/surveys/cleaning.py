"""From raw cells to clean answers, by the codebook, with nothing silently dropped or changed.

Every answer cell of a raw wave is in exactly one of three counts: used, missing (a missing-value
code), or quarantined with a reason. A demographic cell that cannot be read is quarantined and the
participant goes on without it. The work is DuckDB's, which reads and writes files piece by piece, so
that memory does not grow with the wave.

Belongs here: the tables that cleaning makes, and their counts. Not here: reading files (`reading.py`),
the meaning of rows and cells (`people_sql.py`, `repeats_sql.py`, `answers_sql.py`), splits (`splits.py`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evsim_assets import sql
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.answers_sql import (
    Answered,
    answered,
    asked,
    is_asked,
    is_missing,
    told_apart,
)
from evsim_assets.surveys.cell_sql import Cells
from evsim_assets.surveys.landing import Intervention, require_columns
from evsim_assets.surveys.people_sql import Known, known, set_rows_aside
from evsim_assets.surveys.problem_sql import COLUMNS, collect
from evsim_assets.surveys.readings_sql import put_readings
from evsim_assets.surveys.repeats_sql import REPEATED

if TYPE_CHECKING:
    import duckdb

QUARANTINE_LIMIT = 0.05
"""Share of a wave's answer cells in quarantine above which the wave blocks what follows."""


@dataclass(frozen=True)
class Cleaned:
    """A wave by the codebook, as files.

    Attributes:
        answers: Parquet, one row an answer: participant, wave, question, order, intervention,
            intervention_text, fields, answer, weight, then one column a demographic (slug). Rows stand
            in the order of the raw file.
        quarantine: Parquet, one row a cell or row that could not be used: wave, row, column, value,
            reason, remedy. `row` counts the data rows from 1.
        counts: `cells` (answer cells in the raw wave), `used`, `missing`, `quarantined`. Each is counted
            by itself, so that cells = used + missing + quarantined says something.
        people: participants with an answer.
        demographics: for each, `demographic` (its slug), and in how many of the rows that were not set
            aside as a whole it is `known`, `missing`, `refused` or `quarantined`.
        repeated: how many of the quarantined cells are of people's further rows, which the stated policy
            sets aside: they say nothing of the file's quality.
    """

    answers: Path
    quarantine: Path
    counts: dict[str, int]
    people: int
    demographics: tuple[dict[str, Any], ...]
    repeated: int


def clean_wave(
    cells: Path,
    survey: SurveySpec,
    wave: str,
    interventions: Mapping[str, Intervention],
    into: Path,
    file: str | Path,
) -> Cleaned:
    """Read a raw wave by the codebook.

    Args:
        cells: its text cells (`reading.read_cells`), stripped of white space around them.
        survey: the codebook; what holds for this wave is seen to here.
        wave: the wave's name.
        interventions: what participants read, by id.
        into: the folder for `answers.parquet` and `quarantine.parquet`, each written whole or not at all.
        file: the raw file's name, for errors.

    Raises:
        BadInput: a column of the codebook is missing, or the tables could not be written. Everything
            smaller goes to quarantine.
    """
    import duckdb

    order = {demographic.name: demographic.options for demographic in survey.demographics}
    survey = survey.for_wave(wave)
    answers, quarantine = into / "answers.parquet", into / "quarantine.parquet"
    try:
        with sql.connection(into) as database:
            # Joins look each row up in a small table. The rows keep the order of the file as long as DuckDB
            # does not swap the two sides, which it would do with a wave smaller than that table.
            database.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
            table = Cells(database, cells)
            require_columns(table.columns, survey, file)
            texts = {id: read.text for id, read in interventions.items()}
            given = answered(table, survey, list(texts))
            set_rows_aside(database, table, survey, wave, given)
            people = [known(database, table, d, survey.missing, order[d.name]) for d in survey.demographics]
            _read_rows(database, table, survey, people, given)
            used = _write_answers(database, survey, wave, texts, answers)
            quarantined = _write_quarantine(database, table, people, given, wave, quarantine)
            total, missing, demographics = _count(database, table, survey, people)
            counts = {"cells": total, "used": used, "missing": missing, "quarantined": quarantined}
            # Every participant has exactly one first answer.
            first = f'SELECT count(*) FROM {sql.parquet([answers])} WHERE "order" = 0'
            repeats = ", ".join(map(sql.text, REPEATED.values()))
            repeated = f"SELECT coalesce(sum(cells), 0) FROM aside WHERE reason IN ({repeats})"
            return Cleaned(
                answers,
                quarantine,
                counts,
                _one(database, first),
                demographics,
                int(_one(database, repeated)),
            )
    except (duckdb.IOException, duckdb.OutOfMemoryException, OSError) as error:
        raise BadInput(
            f"the tables could not be read or written ({error})",
            file=into,
            remedy="free space or get access there",
        ) from error


def pseudonym(survey: str, identifier: str) -> str:
    """A stable name for a participant that is not their id: 64 bits of a hash of the survey and the id."""
    return hashlib.sha256(f"{survey}\0{identifier}".encode()).hexdigest()[:16]


def _read_rows(
    database: duckdb.DuckDBPyConnection,
    cells: Cells,
    survey: SurveySpec,
    people: Sequence[Known],
    given: Sequence[Answered],
) -> None:
    """Make the views `people` (kept rows with labels and checks), `readings` (with every answer cell
    read) and `answers` (with the list `given` of the row's usable answers)."""
    labels = [f"{p.label} AS label_{n}, {p.state} AS state_{n}" for n, p in enumerate(people)]
    checks = [
        f"{check.number} AS {check.name}"
        for n, person in enumerate(people)
        for check in person.checks(cells, f"unread_{n}")
    ]
    joins = "".join(person.join for person in people)
    database.execute(
        f"CREATE VIEW people AS SELECT {', '.join(['kept.*', *labels, *checks])} FROM kept{joins}"
    )
    put_readings(database, given, "people", "readings")
    usable = ", ".join(answer.given for answer in given)
    database.execute(
        f"CREATE VIEW answers AS SELECT *, list_filter([{usable}], lambda a: a IS NOT NULL) AS given"
        " FROM readings"
    )


def _write_answers(
    database: duckdb.DuckDBPyConnection,
    survey: SurveySpec,
    wave: str,
    texts: Mapping[str, str],
    path: Path,
) -> int:
    """Write the usable answers in the order of the file; returns how many there are."""
    database.execute("CREATE TABLE texts (id VARCHAR, said VARCHAR)")
    if texts:
        database.execute("INSERT INTO texts SELECT unnest(?), unnest(?)", [list(texts), list(texts.values())])
    before, join = "0", ""
    if _has_many_rows(survey):
        # Answers in the participant's earlier rows of the wave; most participants have none.
        database.execute(
            "CREATE TABLE earlier AS SELECT raw_row, before FROM (SELECT raw_row, (sum(answers) OVER"
            " (PARTITION BY participant ORDER BY raw_row ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
            ")::BIGINT AS before FROM (SELECT raw_row, participant, len(given) AS answers FROM answers)"
            " WHERE answers > 0) WHERE before > 0"
        )
        before, join = "coalesce(before, 0)", " LEFT JOIN earlier USING (raw_row)"
    labels = "".join(f", label_{n} AS {sql.name(d.slug)}" for n, d in enumerate(survey.demographics))
    query = (
        f"SELECT participant, {sql.text(wave)} AS wave, a.question AS question,"
        f' {before} + place - 1 AS "order", a.intervention AS intervention,'
        " coalesce(said, '') AS intervention_text, a.fields AS fields, a.answer AS answer, weight"
        f"{labels} FROM (SELECT *, unnest(given) AS a, generate_subscripts(given, 1) AS place FROM answers)"
        f"{join} LEFT JOIN texts ON a.intervention = texts.id"
    )
    # A join keeps the order of the rows only on one thread. What takes the time is writing Parquet.
    database.execute("SET threads = 1")
    with _whole(path) as temporary:
        written = sql.write_parquet(database, query, temporary)
    database.execute("RESET threads")
    return written


def _has_many_rows(survey: SurveySpec) -> bool:
    """Whether a participant may have several rows in a wave."""
    if survey.participant is None:
        return False
    return survey.duplicates.within_wave == "panel" or bool(told_apart(survey))


def _write_quarantine(
    database: duckdb.DuckDBPyConnection,
    cells: Cells,
    people: Sequence[Known],
    given: Sequence[Answered],
    wave: str,
    path: Path,
) -> int:
    """Write what was set aside, by row and then in the codebook's order; returns its answer cells."""
    database.execute(f"CREATE TABLE problems ({COLUMNS})")
    database.execute("INSERT INTO problems SELECT * FROM aside")
    unread = [c for n, person in enumerate(people) for c in person.checks(cells, f"unread_{n}")]
    collect(database, "problems", "people", unread, first=1)
    collect(database, "problems", "readings", [answer.check for answer in given], first=1 + len(unread))
    query = (
        f'SELECT {sql.text(wave)} AS wave, raw_row AS "row", "column", "value", reason, remedy'
        " FROM problems ORDER BY raw_row, place"
    )
    with _whole(path) as temporary:
        sql.write_parquet(database, query, temporary)
    return _one(database, "SELECT coalesce(sum(cells), 0)::BIGINT FROM problems")


def _count(
    database: duckdb.DuckDBPyConnection, cells: Cells, survey: SurveySpec, people: Sequence[Known]
) -> tuple[int, int, tuple[dict[str, Any], ...]]:
    """Answer cells and missing ones, counted in the raw cells; and the states of demographics."""
    sums = [f"{n} * count(*) FILTER ({where})" for where, n in asked(cells, survey).items()]
    unasked = " OR ".join(f"({where})" for where in asked(cells, survey))
    total = _one(database, f"SELECT {' + '.join(sums)} + count(*) FILTER (NOT ({unasked})) FROM cells")
    silent = [
        f"count(*) FILTER ({is_asked(cells, question)} AND"
        f" {is_missing(cells.of(columns.answer), question, survey.missing)})"
        for question in survey.questions
        for columns in question.columns
    ]
    states = ("known", "missing", "refused", "quarantined")
    told = [f"count(*) FILTER (state_{n} = '{state}')" for n in range(len(people)) for state in states]
    row = database.execute(f"SELECT {' + '.join(silent)}, {', '.join(told)} FROM people").fetchone()
    assert row is not None
    by_person = [row[start : start + len(states)] for start in range(1, len(row), len(states))]
    demographics = tuple(
        {"demographic": person.demographic.slug, **dict(zip(states, found, strict=True))}
        for person, found in zip(people, by_person, strict=True)
    )
    return total, int(row[0]), demographics


def _one(database: duckdb.DuckDBPyConnection, query: str) -> int:
    row = database.execute(query).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, which becomes `path` only if all went well."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # the error that matters is on its way
            temporary.unlink(missing_ok=True)
