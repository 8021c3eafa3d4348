"""What a study's report holds, and in which order.

Belongs here: putting figures and tables together into files. Not here: drawing (`rmse_kl.py`),
writing numbers (`tables.py`), the page's markup (`page.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from evsim_assets.adapters.curve import learning_curve_figure
from evsim_assets.metrics.histograms import histogram_figure
from evsim_assets.reports.page import Picture, Table, render_page
from evsim_assets.reports.rmse_kl import rmse_kl_figure
from evsim_assets.reports.tables import (
    RMSE_LEGEND,
    baseline_rows,
    floor_rows,
    null_rows,
    published_rows,
    scoreboard_notes,
    scoreboard_rows,
)
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec


@dataclass(frozen=True)
class Results:
    """The tables a report is made from; `learning_curves` has the column `adapter` and may be empty."""

    scoreboard: pd.DataFrame
    histograms: pd.DataFrame
    curves: pd.DataFrame
    chosen: pd.DataFrame
    floors: pd.DataFrame
    nulls: pd.DataFrame
    learning_curves: pd.DataFrame


def write_report(folder: Path, survey: SurveySpec, study: StudySpec, results: Results) -> dict[str, bytes]:
    """Write index.html and every figure as a PNG; returns the figures by file name."""
    drawn = dict(_pictures(survey, study, results))
    for name, shown in drawn.items():
        (folder / name).write_bytes(shown.png)
    page = render_page(
        study.title,
        survey.title,
        survey.source,
        simulated=survey.simulated,
        note=study.note,
        pictures=list(drawn.values()),
        tables=_tables(results, published(study)),
        remarks=scoreboard_notes(results.scoreboard),
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
    return {name: shown.png for name, shown in drawn.items()}


def _pictures(survey: SurveySpec, study: StudySpec, results: Results) -> Iterator[tuple[str, Picture]]:
    board = results.scoreboard
    for answers in dict.fromkeys(board["answers"]):
        name = "rmse_kl.png" if answers == "native" else f"rmse_kl_{answers}.png"
        png = rmse_kl_figure(
            board,
            results.curves,
            results.floors,
            title=study.title,
            simulated=survey.simulated,
            answers=answers,
            paper=published(study) if answers == "native" else None,
        )
        yield (
            name,
            Picture(
                "Population and individual agreement",
                "KL of the answer distribution against RMSE of a drawn answer; both are better when smaller."
                " SVR and CatBoost predict one answer a person instead of drawing it, which lowers RMSE by"
                " itself. In the band, a model is no further from these humans than other humans are.",
                png,
            ),
        )
    hottest = float(board["temperature"].max())
    for question in dict.fromkeys(results.histograms["question"]):
        png = histogram_figure(
            results.histograms,
            question,
            hottest,
            title=study.title,
            simulated=survey.simulated,
        )
        yield (
            f"histogram_{question}.png",
            Picture(
                f"Answers to “{question}”",
                f"Shares of human and simulated answers at temperature {hottest:g}.",
                png,
            ),
        )
    if len(results.learning_curves):
        png = learning_curve_figure(
            results.learning_curves, title=f"{study.title}: learning curves", simulated=survey.simulated
        )
        yield (
            "learning_curves.png",
            Picture(
                "Learning curves",
                "Loss by epoch, as trained (with a penalty it is on another scale); the checkpoint kept is"
                " the one of the lowest validation loss.",
                png,
            ),
        )


def published(study: StudySpec) -> pd.DataFrame | None:
    """The study's published points as a table; None where it names none."""
    return pd.DataFrame([point.model_dump() for point in study.published]) if study.published else None


def _tables(results: Results, beside: pd.DataFrame | None) -> list[Table]:
    tables = [
        Table(
            "Scoreboard",
            "One row an adapter, temperature and question. Floors are what two samples of humans differ by;"
            " the gap closed is 0 % at the uniform null, 100 % at the floor, negative beyond the null."
            f" {RMSE_LEGEND}",
            scoreboard_rows(results.scoreboard),
        ),
        Table(
            "Noise floors",
            "Each measure between two disjoint samples of humans of the test split's size.",
            floor_rows(results.floors),
        ),
        Table(
            "Null models",
            "What knowing nothing, or only the population, would score.",
            null_rows(results.nulls),
        ),
        Table(
            "Baselines",
            "The setting of each algorithm that is best on validation, by KL and by RMSE, with its test"
            " figures. SVR and CatBoost predict one answer a person; random draws one.",
            baseline_rows(results.chosen),
        ),
    ]
    if beside is not None:
        tables.append(
            Table(
                "Published results",
                "Shown beside ours, of other models or other answers; nothing is tuned to them.",
                published_rows(beside),
            )
        )
    return tables
