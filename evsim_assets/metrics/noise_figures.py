"""Noise floors and null models as pictures: one panel a measure, one row a question.

Belongs here: drawing the tables that `noise_floor.py` and `nulls.py` make. Not here: computing them;
adapters (`agreement_figures.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from evsim_assets.figures.canvas import as_text, panels, png
from evsim_assets.metrics.groups import ALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLOORS = {
    "kl": "KL, nats",
    "kl_corrected": "KL corrected, nats",
    "w1": "W1, share of the scale",
    "js": "JS, nats",
    "tv": "TV",
    "sd_ratio": "SD ratio",
}
NULLS = {
    ("none", "kl"): "KL, nats",
    ("none", "w1"): "W1, share of the scale",
    ("none", "crps"): "CRPS, share of the scale",
    ("none", "nll"): "NLL, nats",
    ("mean", "rmse"): "RMSE of the mean, share of the scale",
    ("sample", "rmse"): "RMSE of a drawn answer, share of the scale",
}
"""Point answer and measure: what an axis says."""
IN_SCALE_UNITS = ("w1", "crps", "rmse")
"""Measures that are drawn as shares of the scale, so that questions on other scales can be compared."""
BEST = {"sd_ratio": 1.0, "kl_corrected": 0.0}
"""What would be ideal, where that is not the left end."""
LOOKS = {
    "uniform": ("x", "#999999"),
    "population_marginal": ("o", "#0072B2"),
    "cell_marginal": ("D", "#D55E00"),
}
ROWS = 40
"""Questions at most; the first are drawn, and the title says so."""
LONGEST = 30


def floors_figure(floors: pd.DataFrame, widths: pd.Series, *, title: str, simulated: bool) -> bytes:
    """The noise floor of each measure over everybody: its mean and the band of 95 %, by question; PNG.

    Args:
        floors: of `noise_floor`. widths: the width of each question's scale, by question.
    """
    rows, title = _rows(floors, title)
    drawn = {m: rows[rows["measure"] == m].dropna(subset=["floor"]) for m in FLOORS}
    figure, axes = _measure_panels({FLOORS[m]: part for m, part in drawn.items()}, rows, title, simulated)
    for measure, part in drawn.items():
        axis = axes.get(FLOORS[measure])
        if axis is None:
            continue
        scaled = _shares(part, measure, widths, ["floor", "floor_low", "floor_high"])
        axis.hlines(
            scaled["row"], scaled["floor_low"], scaled["floor_high"], color="#b8a600", linewidth=4, alpha=0.5
        )
        axis.plot(scaled["floor"], scaled["row"], "o", color="#6b6100", markersize=4.5)
        _ideal(axis, measure)
    _note(figure, "dot: mean of a measure between two samples of people; bar: 95 % of such pairs of samples")
    return png(figure)


def nulls_figure(nulls: pd.DataFrame, widths: pd.Series, *, title: str, simulated: bool) -> bytes:
    """What each null model scores over everybody, by question; PNG. Arguments as `floors_figure`."""
    rows, title = _rows(nulls, title)
    drawn = {
        place: rows[(rows["point_answer"] == place[0]) & (rows["measure"] == place[1])].dropna(
            subset=["value"]
        )
        for place in NULLS
    }
    figure, axes = _measure_panels({NULLS[m]: part for m, part in drawn.items()}, rows, title, simulated)
    for place, part in drawn.items():
        axis = axes.get(NULLS[place])
        if axis is None:
            continue
        scaled = _shares(part, place[1], widths, ["value"])
        for null, (marker, colour) in LOOKS.items():
            own = scaled[scaled["null"] == null]
            axis.plot(
                own["value"],
                own["row"],
                marker,
                color=colour,
                markerfacecolor="none" if marker == "o" else colour,
                markersize=6,
                linestyle="none",
                label=null.replace("_", " "),
            )
    _note(figure, "further left is nearer to people", axes)
    return png(figure)


def _rows(table: pd.DataFrame, title: str) -> tuple[pd.DataFrame, str]:
    """The rows of everybody with `name` (question, and the scale where it is not its own) and `row`."""
    rows = table[table["demographic"] == ALL]
    name = rows["question"].where(rows["answers"] == "native", rows["question"] + " (0–9)")
    names = list(dict.fromkeys(name))
    if len(names) > ROWS:
        title += f" (the first {ROWS} of {len(names)} questions)"
    rows = rows.assign(name=name, row=name.map({one: at for at, one in enumerate(names)}))
    return rows[rows["row"] < ROWS], title


def _measure_panels(
    drawn: dict[str, pd.DataFrame], rows: pd.DataFrame, title: str, simulated: bool
) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each measure that has any value; questions upwards from the first at the top."""
    names = list(dict.fromkeys(rows["name"]))
    wanted = [said for said, part in drawn.items() if len(part)] or ["nothing could be measured"]
    height = max(1.2, 0.24 * len(names) + 0.7)
    figure, axes = panels(wanted, title, simulated=simulated, columns=3, size=(4.2, height))
    for axis in axes.values():
        shown = [as_text(name if len(name) <= LONGEST else name[: LONGEST - 1] + "…") for name in names]
        axis.set_yticks(range(len(names)), shown, fontsize=8)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.tick_params(axis="x", labelsize=8)
    return figure, axes


def _shares(part: pd.DataFrame, measure: str, widths: pd.Series, columns: list[str]) -> pd.DataFrame:
    """Values in scale units as shares of the scale's width; on 0–9 it is 9."""
    if measure not in IN_SCALE_UNITS:
        return part
    width = part["question"].map(widths).where(part["answers"] == "native", 9).astype(float)
    return part.assign(**{column: part[column].astype(float) / width for column in columns})


def _ideal(axis: Axes, measure: str) -> None:
    if measure in BEST:
        axis.axvline(BEST[measure], color="#404040", linewidth=0.9, linestyle="--", zorder=0)
    else:
        axis.set_xlim(left=0)


def _note(figure: Figure, said: str, axes: dict[str, Axes] | None = None) -> None:
    """One line below the panels, with what the markers mean where there are several."""
    first: Any = next(iter(axes.values())).get_legend_handles_labels() if axes else ([], [])
    figure.legend(
        *first,
        loc="outside lower center",
        ncols=3,
        fontsize=8.5,
        frameon=False,
        title=said,
        title_fontsize=8.5,
    )
