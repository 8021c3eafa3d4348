"""What a study's report is made from, and the files it becomes.

Belongs here: the tables a report takes, and writing its files. Not here: what is on the page and in
which order (`sections.py`), drawing (`rmse_kl.py`), writing numbers (`tables.py`), markup (`page.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from evsim_assets.reports.chosen_rows import chosen_rows
from evsim_assets.reports.chosen_section import chosen_section
from evsim_assets.reports.contest_section import contest_section
from evsim_assets.reports.page import Section, render_page
from evsim_assets.reports.sections import (
    agreement,
    answers,
    baselines,
    groups,
    interventions,
    noise_and_nulls,
    telling_apart,
    training,
)
from evsim_assets.reports.tables import scoreboard_notes
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec


@dataclass(frozen=True)
class Results:
    """The tables a report is made from, of all adapters; those with a default may be empty.

    `learning_curves` has the column `adapter`. The others are the assets of these names: `chosen_adapters`,
    `chosen_temperatures`, `effects`, `effect_agreement`, `bias`, `discriminability`, `comparisons`,
    `claim`, `contest`.
    """

    scoreboard: pd.DataFrame
    histograms: pd.DataFrame
    curves: pd.DataFrame
    chosen: pd.DataFrame
    floors: pd.DataFrame
    nulls: pd.DataFrame
    learning_curves: pd.DataFrame
    chosen_adapters: pd.DataFrame
    chosen_temperatures: pd.DataFrame
    effects: pd.DataFrame = field(default_factory=pd.DataFrame)
    effect_agreement: pd.DataFrame = field(default_factory=pd.DataFrame)
    bias: pd.DataFrame = field(default_factory=pd.DataFrame)
    discriminability: pd.DataFrame = field(default_factory=pd.DataFrame)
    comparisons: pd.DataFrame = field(default_factory=pd.DataFrame)
    claim: pd.DataFrame = field(default_factory=pd.DataFrame)
    contest: pd.DataFrame = field(default_factory=pd.DataFrame)


def write_report(folder: Path, survey: SurveySpec, study: StudySpec, results: Results) -> dict[str, bytes]:
    """Write index.html and every figure as a PNG; returns the figures by file name."""
    sections = _sections(survey, study, results)
    drawn = {picture.file: picture.png for section in sections for picture in section.pictures}
    for name, png in drawn.items():
        (folder / name).write_bytes(png)
    page = render_page(
        study.title,
        survey.title,
        survey.source,
        simulated=survey.simulated,
        note=study.note,
        sections=sections,
        remarks=[*scoreboard_notes(results.scoreboard), *_absent(results)],
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
    return drawn


def published(study: StudySpec) -> pd.DataFrame | None:
    """The study's published points as a table; None where it names none."""
    return pd.DataFrame([point.model_dump() for point in study.published]) if study.published else None


def _sections(survey: SurveySpec, study: StudySpec, results: Results) -> list[Section]:
    board, title, simulated = results.scoreboard, study.title, survey.simulated
    shown = chosen_rows(board, results.chosen_temperatures)
    return [
        chosen_section(results.chosen_adapters, board),
        contest_section(results.claim, results.contest),
        agreement(
            board,
            shown,
            results.chosen_temperatures,
            results.curves,
            results.floors,
            results.comparisons,
            published(study),
            title=title,
            simulated=simulated,
        ),
        answers(board, results.histograms, title=title, simulated=simulated),
        interventions(shown, results.effects, results.effect_agreement, title=title, simulated=simulated),
        groups(shown, results.bias, title=title, simulated=simulated),
        telling_apart(shown, results.discriminability, title=title, simulated=simulated),
        noise_and_nulls(results.floors, results.nulls),
        baselines(results.chosen),
        training(results.learning_curves, title=title, simulated=simulated),
    ]


def _absent(results: Results) -> list[str]:
    """Sections that are missing, and why."""
    remarks = []
    if not len(results.effects):
        remarks.append("No intervention effects: no question of this survey is asked with interventions.")
    if not len(results.bias):
        remarks.append("No differences between groups: the survey has no demographics.")
    if not len(results.comparisons):
        remarks.append("No paired comparisons: they need two adapters at the same temperature.")
    return remarks
