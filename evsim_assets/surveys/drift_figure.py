"""How far each wave lies from those before it, as a picture.

Belongs here: drawing the PSI of the table that `drift.py` makes. Not here: computing it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evsim_assets.figures.canvas import as_text, panels, png
from evsim_assets.surveys.drift_measures import LARGE, MODERATE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"within noise": "white", "stable": "#0072B2", "moderate": "#E69F00", "large": "#D55E00"}
FLOOR_COLOUR = "#d4d4d4"
ROW = 0.22
"""Inches a demographic or question."""
PANELS = 12
"""Panels at most: the newest waves are drawn."""
LONGEST = 26
"""Characters of a name that are written out."""


def drift_figure(table: pd.DataFrame, title: str, simulated: bool) -> bytes:
    """PSI of every demographic and question, a panel a wave and reference; PNG.

    A point has its 95 % interval and, in grey, the floor: up to there it may be noise. What is compared
    once (`drift`) is in the panel of the wave before. Of more than PANELS the last are drawn.
    """
    every = _pairs(table)
    drawn = dict(list(every.items())[-PANELS:])
    longest = max((len(part) for part in drawn.values()), default=1)
    heading = f"{title}: drift between waves, as PSI"
    if len(drawn) < len(every):
        heading += f" (the last {len(drawn)} of {len(every)} comparisons)"
    nothing = "one wave only: nothing to compare"
    figure, axes = panels(
        drawn or [nothing],
        heading,
        simulated=simulated,
        columns=4,
        size=(max(6.0 / max(len(drawn), 1), 4.3), ROW * longest + 1.0),
    )
    limit = _limit(drawn)
    for name, axis in axes.items():
        if drawn:
            _draw(axis, drawn[name], limit)
        else:
            axis.set_axis_off()
    if drawn:
        _legend(figure)
    return png(figure)


def _pairs(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Panel title → its PSI rows: by kind, in the order of the codebook."""
    found: dict[str, pd.DataFrame] = {}
    psi = table[table["measure"] == "psi"]
    for wave, of_wave in psi.groupby("wave", sort=True):
        references = dict(iter(of_wave.groupby("reference", sort=False)))
        for reference, part in references.items():
            against = "all earlier waves" if reference == "earlier" else "the wave before"
            if reference == "previous":
                named = part.loc[part["reason"].isna(), "reference_waves"]
                against = str(named.iloc[0]) if len(named) else against
            found[f"{wave} against {against}"] = part
    return found


def _limit(pairs: dict[str, pd.DataFrame]) -> float:
    """The same right end for all panels: what is larger is cut and named."""
    values = (
        pd.concat([part[["value", "high", "floor_95"]] for part in pairs.values()])
        if pairs
        else pd.DataFrame()
    )
    highest = np.nanmax(values.to_numpy(), initial=0.0) if values.size else 0.0
    return float(np.clip(1.05 * highest, 1.4 * LARGE, 1.0))


def _draw(axis: Axes, part: pd.DataFrame, limit: float) -> None:
    rows = [dict(row) for _, row in part.iterrows()]
    for at, row in enumerate(rows):
        if pd.notna(row["reason"]):
            _note(axis, 0.005 * limit, at, row["reason"], "left", "#606060")
            continue
        axis.barh(at, min(row["floor_95"], limit), height=0.8, color=FLOOR_COLOUR, linewidth=0, zorder=1)
        _point(axis, at, row, limit)
    for threshold in (MODERATE, LARGE):
        axis.axvline(threshold, color="#404040", linewidth=0.8, linestyle="--", zorder=2)
    axis.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=7)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(-0.012 * limit, limit)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel("PSI", fontsize=8)
    axis.grid(axis="y", visible=False)
    first = next((at for at, row in enumerate(rows) if row["kind"] == "question"), 0)
    if first:
        axis.axhline(first - 0.5, color="#909090", linewidth=0.8)


def _point(axis: Axes, at: int, row: dict[str, Any], limit: float) -> None:
    low, high, value = (min(row[end], limit) for end in ("low", "high", "value"))
    state = row["severity"] if row["value"] > row["floor_95"] else "within noise"
    edge = "#404040" if state == "within noise" else COLOURS[state]
    axis.plot([low, high], [at, at], color=edge, linewidth=1.2, zorder=3, solid_capstyle="butt")
    if row["value"] > limit:
        _note(axis, 0.985 * limit, at, f"{row['value']:.2f} ▸", "right", edge)
        return
    axis.plot(
        value,
        at,
        "o",
        markersize=4.5,
        markeredgecolor=edge,
        markerfacecolor=COLOURS[state],
        zorder=4,
        clip_on=False,
    )


def _note(axis: Axes, x: float, at: int, words: str, side: str, colour: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    axis.text(x, at, as_text(words), fontsize=7, color=colour, ha=side, va="center", zorder=5, bbox=box)


def _label(row: dict[str, Any]) -> str:
    name = str(row["name"])
    return as_text(name if len(name) <= LONGEST else name[: LONGEST - 1] + "…")


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def point(state: str, text: str) -> Line2D:
        edge = "#404040" if state == "within noise" else COLOURS[state]
        return Line2D(
            [], [], marker="o", markersize=5, color=edge, markerfacecolor=COLOURS[state], label=text
        )

    figure.legend(
        handles=[
            Patch(facecolor=FLOOR_COLOUR, label="noise (95 % without drift)"),
            Line2D(
                [],
                [],
                color="#404040",
                linewidth=0.8,
                linestyle="--",
                label=f"PSI {MODERATE:g} and {LARGE:g}",
            ),
            point("within noise", "within noise (line: 95 % interval)"),
            point("stable", f"above noise, below {MODERATE:g}"),
            point("moderate", f"moderate, {MODERATE:g} to {LARGE:g}"),
            point("large", f"large, from {LARGE:g}"),
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=7.5,
        frameon=False,
    )
