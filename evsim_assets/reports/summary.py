"""What the terminal says when a study is fresh: the table of results, the plot, what to try next.

Belongs here: choosing what fits a terminal. Not here: the numbers (`metrics/`), the page (`page.py`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from evsim_assets.reports.chosen_rows import chosen_rows

HEAD = (
    "adapter",
    "question",
    "T",
    "KL",
    "floor",
    "W1",
    "floor",
    "RMSE",
    "RMSE\nof mean",
    "success",
    "best base-\nline KL",
    "best base-\nline RMSE",
)
LEGEND = """\
KL and W1 compare populations, smaller is better; floor: what two samples of humans differ by.
RMSE compares people: one drawn answer each; RMSE of mean: the mean of each person's distribution.
Best baseline: the one best by that measure on validation, so KL and RMSE may have different ones.
svr and catboost predict one answer a person: hold their RMSE against RMSE of mean.
"""


MANY = 8
"""With more questions than these, each adapter has one row: the means over the questions."""


def summary_table(board: pd.DataFrame, title: str, chosen: pd.DataFrame) -> Table:
    """Test figures, one row an adapter and question at the temperature `chosen` on validation, beside floors
    and the best baseline. Every temperature (and of many questions every one) is in SQL."""
    shown = chosen_rows(board, chosen)
    if board["question"].nunique() > MANY:
        shown = _means(shown)
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for at, name in enumerate(HEAD):
        table.add_column(name, justify="left" if at < 2 else "right", no_wrap=True)
    for best in shown.to_dict("records"):
        table.add_row(
            str(best["adapter"]),
            str(best["question"]),
            best["temperature"] if isinstance(best["temperature"], str) else f"{best['temperature']:g}",
            _number(best["kl"], 3),
            _number(best["floor_kl"], 3),
            _number(best["w1"], 2),
            _number(best["floor_w1"], 2),
            _number(best["rmse"], 1),
            _number(best["rmse_mean"], 1),
            _number(best["success_rate"], 3),
            _baseline(best, "kl", 3),
            _baseline(best, "rmse", 1),
        )
    return table


def _means(shown: pd.DataFrame) -> pd.DataFrame:
    """One row an adapter: the means over the questions that have the measure.

    Where questions have different temperatures, they stand as a range, in words.
    """
    parts = shown.groupby("adapter", sort=False)
    means = parts.mean(numeric_only=True)
    ends = parts["temperature"].agg(["min", "max"]).itertuples(index=False)
    span = [f"{low:g}" if low == high else f"{low:g}–{high:g}" for low, high in ends]
    nobody = {"best_baseline_kl_by": None, "best_baseline_rmse_by": None}
    means = (
        means.drop(columns="temperature", errors="ignore").reset_index().assign(temperature=span, **nobody)
    )
    return means.assign(question=f"mean of {shown['question'].nunique()}")


def keep_copy(version: Path, target: Path) -> Path:
    """The report's files under a name that stays the same; returns the folder."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(version.iterdir()):
        if path.name != "manifest.json":
            shutil.copyfile(path, target / path.name)
    return target


def print_summary(
    console: Console,
    board: pd.DataFrame,
    chosen: pd.DataFrame,
    *,
    study: str,
    survey: str,
    simulated: bool,
    report: Path,
    evsim: str = "evsim",
) -> None:
    """Print the table, where plot and page are, and the next commands to try.

    Args:
        chosen: of `metrics.chosen.chosen_temperatures`.
        evsim: how the command was called, so that what is printed can be typed.
    """
    said = "SIMULATED answers" if simulated else "real answers"
    title = f"{study}: each adapter at its temperature of lowest KL on validation ({said})"
    table = summary_table(board, title, chosen)
    # A narrower terminal wraps the table's lines, rather than cutting its numbers.
    needed = Measurement.get(console, console.options.update_width(1000), table).maximum
    wide = Console(file=console.file, width=max(console.width, needed))
    wide.print()
    wide.print(table)
    console.print(LEGEND, style="dim", soft_wrap=True, highlight=False)
    console.print(f"plot   {report / 'rmse_kl.png'}", highlight=False, soft_wrap=True)
    console.print(f"page   {report / 'index.html'}", highlight=False, soft_wrap=True)
    console.print("next   make ui  [dim](assets, partitions, plots, checks, automation)[/]", highlight=False)
    query = f'{evsim} sql "SELECT adapter, temperature, question, kl, floor_kl FROM {study}.scoreboard"'
    console.print(f"       {query}", highlight=False, soft_wrap=True)
    console.print(f"       {evsim} status {study}", highlight=False)
    console.print(f"       {evsim} survey check data/surveys/{survey}", highlight=False)


def _baseline(row: dict[Any, Any], measure: str, digits: int) -> str:
    """A best baseline's figure with its name: `28.1 svr`."""
    figure, name = _number(row[f"best_baseline_{measure}"], digits), row[f"best_baseline_{measure}_by"]
    return f"{figure} {name}" if isinstance(name, str) else figure


def _number(value: object, digits: int) -> str:
    number = float(value)  # type: ignore[arg-type]
    return "—" if pd.isna(number) else f"{number:.{digits}f}"
