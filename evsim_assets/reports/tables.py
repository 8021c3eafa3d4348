"""The scoreboard and what it is held against as text: rows of cells that a page can lay out.

Belongs here: which columns people see, and how numbers are written. Not here: effects, groups and
pairs of adapters (`agreement_tables.py`), escaping, markup, colours.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.reports.chosen_rows import of_everybody
from evsim_assets.specs.study import temperature_key

NOTHING = "—"


def two_digits(value: float) -> str:
    """`37.91`."""
    return f"{value:.2f}"


def three_digits(value: float) -> str:
    """`0.063`."""
    return f"{value:.3f}"


def with_interval(value: float, low: float, high: float, write: Callable[[float], str] = two_digits) -> str:
    """`0.63 [0.41, 0.90]`; without the interval where there is none, "—" without a value."""
    if pd.isna(value):
        return NOTHING
    return write(value) + ("" if pd.isna(low) or pd.isna(high) else f" [{write(low)}, {write(high)}]")


def percent(value: float) -> str:
    """`48 %`; 99.96 % is not written as 100 %."""
    text = f"{100 * value:.0f} %"
    return text if text != "100 %" or value >= 1 else f"{100 * value:.1f} %"


SCOREBOARD_COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "kl": ("KL", three_digits),
    "floor_kl": ("KL floor", three_digits),
    "w1": ("W1", two_digits),
    "floor_w1": ("W1 floor", two_digits),
    "gap_closed_w1": ("W1 gap closed", percent),
    "gap_closed_w1_pretrained": ("… from pretrained", percent),
    "rmse": ("RMSE", two_digits),
    "rmse_mean": ("RMSE of mean", two_digits),
    "rmse_median": ("RMSE of median", two_digits),
    "success_rate": ("success", percent),
    "best_baseline_kl": ("best baseline KL", three_digits),
    "best_baseline_rmse": ("best baseline RMSE", two_digits),
}
RMSE_LEGEND = (
    "RMSE is that of one drawn answer a person, RMSE of mean (median) that of the mean (median) of each"
    " person's distribution; KL is of the whole population in either case."
    " A best baseline is the algorithm and setting best by that measure on validation, with its test figure;"
    " KL and RMSE may have different ones. SVR and CatBoost predict one answer a person: hold their RMSE"
    " against RMSE of mean. In brackets: 95 % intervals over participants; those of KL and"
    " W1 are of the populations, so that a value measured on few people may lie above its own."
)
"""What people must know to compare the RMSE of a model with that of a baseline."""


def scoreboard_rows(board: pd.DataFrame) -> list[list[str]]:
    """A header, then one row a row of the board; "—" where there is no value.

    Columns that the board lacks are left out; a value has its interval where the board has one.
    """
    shown = {column: words for column, words in SCOREBOARD_COLUMNS.items() if column in board}
    rows = [["adapter", "T", "question", *(name for name, _ in shown.values())]]
    for record in board.to_dict("records"):
        cells = [str(record["adapter"]), temperature_key(record["temperature"]), str(record["question"])]
        for column, (_, write) in shown.items():
            low, high = (record.get(f"{column}_{end}", np.nan) for end in ("low", "high"))
            cells.append(with_interval(record[column], low, high, write) + _by(record, column))
        rows.append(cells)
    return rows


def _by(record: dict[Any, Any], column: str) -> str:
    """The baseline that a figure is of, where it is one: ` (svr)`."""
    algorithm = record.get(f"{column}_by")
    return f" ({algorithm})" if isinstance(algorithm, str) else ""


def scoreboard_notes(board: pd.DataFrame) -> list[str]:
    """Why values of the scoreboard are missing, one sentence an adapter, question and reason."""
    missing = board[board["reason"].notna()]
    notes = []
    for (adapter, question, reason), part in missing.groupby(["adapter", "question", "reason"], sort=False):
        temperatures = ", ".join(temperature_key(t) for t in part["temperature"])
        notes.append(f"{adapter}, {question}: {reason} (T = {temperatures})")
    return notes


def floor_rows(floors: pd.DataFrame) -> list[list[str]]:
    """A header, then one row a question, scale and measure that has a floor, for the whole population."""
    rows = [["question", "answers", "measure", "floor", "95 % of resamples", "participants", "resamples"]]
    for r in of_everybody(floors[floors["floor"].notna()]).to_dict("records"):
        rows.append(
            [
                str(r["question"]),
                str(r["answers"]),
                str(r["measure"]),
                three_digits(r["floor"]),
                f"{three_digits(r['floor_low'])} – {three_digits(r['floor_high'])}",
                str(r["n"]),
                str(r["resamples"]),
            ]
        )
    return rows


def published_rows(published: pd.DataFrame) -> list[list[str]]:
    """A header, then one row a published result."""
    rows = [["published result", "question", "KL", "RMSE"]]
    for r in published.to_dict("records"):
        rows.append([str(r["label"]), str(r["question"]), three_digits(r["kl"]), two_digits(r["rmse"])])
    return rows


def null_rows(nulls: pd.DataFrame) -> list[list[str]]:
    """A header, then one row a null model, question and scale, for the whole population."""
    shown = [("none", "kl"), ("none", "w1"), ("mean", "rmse"), ("sample", "rmse")]
    rows = [["null model", "question", "answers", "KL", "W1", "RMSE of mean", "RMSE of a draw"]]
    for place, part in of_everybody(nulls).groupby(["null", "question", "answers"], sort=False):
        values = part.set_index(["point_answer", "measure"])["value"].to_dict()
        rows.append([*map(str, place), *(known(values.get(key), three_digits) for key in shown)])
    return rows


BASELINE_COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "kl": ("KL", three_digits),
    "rmse": ("RMSE", two_digits),
    "mae": ("MAE", two_digits),
    "w1": ("W1", two_digits),
    "crps": ("CRPS", two_digits),
    "nll": ("NLL", two_digits),
}


def baseline_rows(chosen: pd.DataFrame) -> list[list[str]]:
    """A header, then one row a baseline chosen on validation, with the test figures that it has."""
    shown = {column: words for column, words in BASELINE_COLUMNS.items() if column in chosen}
    names = (name for name, _ in shown.values())
    read = ["reading"] if "reading" in chosen else []
    rows = [["baseline", "question", "answers", *read, "chosen by", *names, "setting"]]
    for r in chosen.to_dict("records"):
        figures = (known(r[column], write) for column, (_, write) in shown.items())
        place = (str(r[column]) for column in ("algorithm", "question", "answers", *read))
        chosen_by = f"validation {str(r['chosen_by']).upper()}"
        rows.append([*place, chosen_by, *figures, _setting(r["setting"])])
    return rows


def known(value: Any, write: Callable[[float], str]) -> str:
    """The value as `write` writes it; "—" where there is none."""
    return NOTHING if value is None or pd.isna(value) else write(float(value))


def _setting(text: str) -> str:
    """A setting as stored (JSON) in words: `C 0.5, kernel rbf`."""
    return ", ".join(f"{name} {value}" for name, value in json.loads(text).items()) or NOTHING
