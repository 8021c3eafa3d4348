"""What a wave holds by the codebook, before anything is stored: counts, histograms, what is set aside.

Belongs here: the figures that `evsim survey check` and `add` show, made by the functions that the assets
use. Not here: printing them (`survey_display.py`), example prompts (`prompts/preview.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evsim_assets import sql
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import Question, SurveySpec
from evsim_assets.surveys.cell_sql import is_one_of
from evsim_assets.surveys.cleaning import Cleaned, clean_wave
from evsim_assets.surveys.landing import WaveFile, canonical_id, intervention_texts
from evsim_assets.surveys.landing_place import named
from evsim_assets.surveys.reading import LINE, ROW, read_cells
from evsim_assets.surveys.splits import in_held_out_cell

if TYPE_CHECKING:
    import duckdb

SHOWN_VALUES = 5
"""Values of one reason that are told one by one."""


@dataclass(frozen=True)
class UnusableValue:
    """A value that could not be used, how often, and its first data row (and line, if the file has any)."""

    value: str
    count: int
    row: int
    line: int | None


@dataclass(frozen=True)
class Unusable:
    """Cells of one column set aside for one reason; `values` are the most frequent of `different`."""

    column: str
    reason: str
    remedy: str
    count: int
    different: int
    values: tuple[UnusableValue, ...]


@dataclass(frozen=True)
class Answers:
    """The usable answers to one question: the answer and how many gave it, ascending."""

    question: Question
    counts: dict[int, int]

    @property
    def given(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    @property
    def mean(self) -> float:
        """Their mean; NaN without one."""
        return sum(a * n for a, n in self.counts.items()) / self.given if self.given else float("nan")

    def bars(self, most: int) -> list[tuple[int, int, int]]:
        """(first answer, last answer, how many) for every answer, or for `most` equal parts of the scale."""
        scale = self.question.answer_scale.answers
        parts = min(most, len(scale))
        edges = [len(scale) * part // parts for part in range(parts + 1)]
        spans = [scale[start:end] for start, end in pairwise(edges)]
        return [(span[0], span[-1], sum(self.counts.get(a, 0) for a in span)) for span in spans]


@dataclass(frozen=True)
class HeldOutCount:
    """Something that no model is trained on, and how many answers of the wave that concerns."""

    what: str
    answers: int


@dataclass(frozen=True)
class Look:
    """A wave by the codebook.

    Attributes:
        wave, file, rows: its name, its file, and the data rows of that.
        survey: the codebook as it holds for the wave.
        cleaned: what cleaning made of it; its files are gone when the look is over.
        unusable: what was set aside, grouped, in the order of first rows.
        answers: for every question asked in the wave.
        held_out: what no model is trained on, as far as it is in the wave.
    """

    wave: str
    file: Path | str
    rows: int
    survey: SurveySpec
    cleaned: Cleaned
    unusable: tuple[Unusable, ...]
    answers: tuple[Answers, ...]
    held_out: tuple[HeldOutCount, ...]


def look_at(survey: SurveySpec, wave: WaveFile, scratch: Path) -> Look:
    """Read and clean a wave in the folder `scratch`, and count what is there.

    Raises:
        BadInput: the file cannot be read, its ending is another than the codebook's, a column is
            missing, or the table of interventions is.
    """
    form = survey.format_of(wave.wave)
    if wave.path.suffix.lower() not in form.endings:
        raise BadInput(
            f"the codebook says that this wave is a file ending in {' or '.join(form.endings)}",
            file=named(wave.path),
            value=wave.path.suffix,
            remedy=f"export it so, or correct `waves` in {survey.folder / 'survey.yaml'}"
            " (waves.changes for this wave alone)",
        )
    cells = read_cells(wave.fetched(scratch), form, scratch / "cells.parquet")
    cleaned = clean_wave(cells.path, survey, wave.wave, intervention_texts(survey), scratch, wave.path.name)
    asked = survey.for_wave(wave.wave)
    with sql.connection(scratch) as database:
        return Look(
            wave.wave,
            named(wave.path),
            cells.rows,
            asked,
            cleaned,
            _unusable(database, cleaned.quarantine, cells.path),
            _answers(database, cleaned.answers, asked),
            _held_out(database, cleaned.answers, survey),
        )


def with_texts_beside(survey: SurveySpec, file: Path, scratch: Path) -> SurveySpec:
    """The survey as it will be once the file is added: with the table of interventions beside the file,
    if the survey has none yet."""
    table = survey.interventions.file if survey.interventions else None
    if table is None or (survey.folder / table).exists() or not (file.parent / table).is_file():
        return survey
    folder = scratch / survey.name
    (folder / table).parent.mkdir(parents=True)
    shutil.copyfile(file.parent / table, folder / table)
    return survey.model_copy(update={"folder": folder})


def _unusable(database: duckdb.DuckDBPyConnection, quarantine: Path, cells: Path) -> tuple[Unusable, ...]:
    values = database.execute(
        'SELECT "column", reason, remedy, "value", count(*), min("row") FROM'
        f' {sql.parquet([quarantine])} GROUP BY ALL ORDER BY min("row"), 1, 2, 4'
    ).fetchall()
    rows = [value[5] for value in values if value[5] is not None]
    lines = _lines(database, cells, rows)
    groups: dict[tuple[str, str, str], list[UnusableValue]] = {}
    for column, reason, remedy, value, count, row in values:
        found = UnusableValue(value or "", count, row, lines.get(row))
        groups.setdefault((column, reason, remedy), []).append(found)
    return tuple(
        Unusable(
            *key,
            count=sum(value.count for value in found),
            different=len(found),
            values=tuple(sorted(found, key=lambda v: (-v.count, v.row))[:SHOWN_VALUES]),
        )
        for key, found in groups.items()
    )


def _lines(database: duckdb.DuckDBPyConnection, cells: Path, rows: Sequence[int]) -> dict[int, int | None]:
    """The lines on which these data rows begin."""
    found = database.execute(
        f"SELECT {ROW}, {LINE} FROM {sql.parquet([cells])} WHERE {ROW} IN (SELECT unnest(?))", [list(rows)]
    )
    return dict(found.fetchall()) if rows else {}


def _answers(database: duckdb.DuckDBPyConnection, answers: Path, survey: SurveySpec) -> tuple[Answers, ...]:
    counted = database.execute(
        f"SELECT question, answer, count(*) FROM {sql.parquet([answers])} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    counts: dict[str, dict[int, int]] = {}
    for question, answer, count in counted:
        counts.setdefault(question, {})[answer] = count
    return tuple(Answers(question, counts.get(question.id, {})) for question in survey.questions)


def _held_out(
    database: duckdb.DuckDBPyConnection, answers: Path, survey: SurveySpec
) -> tuple[HeldOutCount, ...]:
    held = survey.held_out
    wanted = {f"question {id}": f"question = {sql.text(id)}" for id in held.questions}
    wanted |= {
        f"intervention {id}": is_one_of("intervention", [canonical_id(id)]) for id in held.interventions
    }
    for cell in held.cells:
        who = " and ".join(f"{name}: {' or '.join(options)}" for name, options in cell.items())
        alone = survey.model_copy(update={"held_out": held.model_copy(update={"cells": (cell,)})})
        wanted[f"people with {who}"] = in_held_out_cell(alone)
    if not wanted:
        return ()
    sums: Any = database.execute(
        f"SELECT {', '.join(f'count(*) FILTER ({where})' for where in wanted.values())}"
        f" FROM {sql.parquet([answers])}"
    ).fetchone()
    return tuple(HeldOutCount(what, count) for what, count in zip(wanted, sums, strict=True))
