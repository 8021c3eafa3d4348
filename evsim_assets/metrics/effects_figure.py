"""Human and simulated intervention effects against each other, as a picture.

Belongs here: drawing the tables that `effects.py` makes. Not here: computing them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evsim_assets.figures.canvas import Look, adapter_looks, as_text, panels, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 12
"""Panels at most; the first are drawn, and the title says so."""
MANY = 60
"""From so many interventions on, intervals are drawn fainter."""
WIDEST = 2.0
"""The frame is at most this many times as wide as the human effects; what lies beyond is counted."""
DESIGNS = {
    "before_after": "mean of answer after − answer before",
    "control_arm": "mean of the arm − mean of the control arm",
}
PLACE = ["question", "adapter", "temperature"]
SHOWN = {"correlation": "r", "slope": "slope"}
"""Measures of `effect_agreement` in a panel's corner."""


def effects_figure(effects: pd.DataFrame, agreement: pd.DataFrame, *, title: str, simulated: bool) -> bytes:
    """Simulated effect over human effect, a point an intervention, with both 95 % intervals; PNG.

    One panel an adapter, temperature and question of the tables, all with the same axes, and the line on
    which both effects are equal. Interventions held out of training are black diamonds. In the corner:
    correlation and slope with their intervals, over all interventions and, where there are any, over
    those held out. Without any effect the picture says why.
    """
    known = effects.dropna(subset=["human_effect", "simulated_effect"]) if len(effects) else effects
    groups = list(effects.groupby(PLACE, sort=False)) if len(effects) else []
    if len(groups) > PANELS:
        title += f" (the first {PANELS} of {len(groups)})"
    drawn = {_name(effects, rows): rows for _, rows in groups[:PANELS]}
    nothing = "no interventions: no effects"
    figure, axes = panels(drawn or [nothing], title, simulated=simulated, columns=3, size=(4.2, 4.0))
    looks = adapter_looks(effects) if len(effects) else {}
    limits = _limits(known) if len(known) else (-1.0, 1.0)
    for name, axis in axes.items():
        if not drawn:
            axis.set_axis_off()
            continue
        rows = drawn[name]
        _draw(axis, rows, looks[rows["adapter"].iloc[0]], limits)
        _say_agreement(axis, rows, agreement)
    if drawn:
        _explain(figure, effects)
    return png(figure)


def _name(effects: pd.DataFrame, rows: pd.DataFrame) -> str:
    """A panel's title: its adapter and temperature, and the question where there are several."""
    first = rows.iloc[0].to_dict()
    name = f"{first['adapter']}, T={first['temperature']:g}"
    return name if effects["question"].nunique() == 1 else f"{first['question']}: {name}"


def _limits(known: pd.DataFrame) -> tuple[float, float]:
    """The same for both axes and all panels: the human effects, and simulated ones not too far off."""
    human = known["human_effect"].astype(float)
    low, high = min(float(human.min()), 0.0), max(float(human.max()), 0.0)
    room = max(high - low, 1e-9) * (WIDEST - 1) / 2
    simulated = known["simulated_effect"].astype(float)
    low = min(low, max(float(simulated.min()), low - room))
    high = max(high, min(float(simulated.max()), high + room))
    margin = 0.08 * max(high - low, 1e-9)
    return low - margin, high + margin


def _draw(axis: Axes, rows: pd.DataFrame, look: Look, limits: tuple[float, float]) -> None:
    known = rows.dropna(subset=["human_effect", "simulated_effect"])
    axis.set(xlim=limits, ylim=limits, aspect="equal")
    axis.axline((0.0, 0.0), slope=1.0, color="#404040", linewidth=0.9, linestyle="--", zorder=1)
    axis.axhline(0.0, color="#b0b0b0", linewidth=0.7, zorder=0)
    axis.axvline(0.0, color="#b0b0b0", linewidth=0.7, zorder=0)
    axis.tick_params(labelsize=8)
    axis.set_xlabel("human effect", fontsize=9)
    axis.set_ylabel("simulated effect", fontsize=9)
    if not len(known):
        reasons = rows["reason"].dropna()
        said = reasons.iloc[0] if len(reasons) else "no effect"
        axis.text(0.5, 0.5, as_text(said), transform=axis.transAxes, ha="center", fontsize=8, wrap=True)
        return
    held = known["held_out"].astype(bool).to_numpy()
    x, y = known["human_effect"].to_numpy(dtype=float), known["simulated_effect"].to_numpy(dtype=float)
    style: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.15 if len(known) > MANY else 0.35, "zorder": 2}
    ends = {end: known[end].to_numpy(dtype=float) for end in _ENDS}
    axis.hlines(y, ends["human_low"], ends["human_high"], color=look.colour, **style)
    axis.vlines(x, ends["simulated_low"], ends["simulated_high"], color=look.colour, **style)
    axis.plot(
        x[~held],
        y[~held],
        "o",
        markersize=4.5,
        markerfacecolor=look.fill,
        markeredgecolor=look.colour,
        zorder=3,
    )
    axis.plot(x[held], y[held], "D", markersize=5, color="#111111", zorder=4)
    beyond = int(((y < limits[0]) | (y > limits[1])).sum())
    if beyond:
        axis.annotate(
            f"{beyond} of {len(y)} beyond the frame",
            (0.98, 0.02),
            xycoords="axes fraction",
            ha="right",
            fontsize=7.5,
            color="#a00000",
        )


_ENDS = ("human_low", "human_high", "simulated_low", "simulated_high")


def _say_agreement(axis: Axes, rows: pd.DataFrame, agreement: pd.DataFrame) -> None:
    """Correlation and slope with their intervals, upper left: of all interventions, and of those held out."""
    if not len(agreement):
        return
    here = rows.iloc[0]
    same = np.logical_and.reduce([agreement[column] == here[column] for column in PLACE])
    said = []
    for held_out, label in (("all", ""), ("yes", "held out: ")):
        part = agreement[same & (agreement["held_out"] == held_out)].set_index("measure")
        values = [_measured(part.loc[m], short) for m, short in SHOWN.items() if m in part.index]
        values = [value for value in values if value]
        if values:
            said.append(label + "\n".join(values) if not label else label + ", ".join(values))
    if said:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5}
        axis.text(
            0.03,
            0.97,
            as_text("\n".join(said)),
            transform=axis.transAxes,
            va="top",
            fontsize=7.5,
            zorder=5,
            bbox=box,
        )


def _measured(row: pd.Series, name: str) -> str:
    if pd.isna(row["value"]):
        return ""
    interval = "" if pd.isna(row["low"]) else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"{name} {row['value']:.2f}{interval}"


def _explain(figure: Figure, effects: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D

    designs = [DESIGNS.get(str(design), str(design)) for design in effects["design"].dropna().unique()]
    figure.legend(
        handles=[
            Line2D([], [], color="#404040", linestyle="--", linewidth=0.9, label="equal effects"),
            Line2D(
                [],
                [],
                color="#555555",
                marker="o",
                markersize=4.5,
                linewidth=0.7,
                label="an intervention, 95 % intervals",
            ),
            Line2D([], [], color="#111111", marker="D", linestyle="none", label="held out of training"),
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=8.5,
        frameon=False,
        title=f"effect: {' or '.join(designs)}, in scale units",
        title_fontsize=9,
    )
