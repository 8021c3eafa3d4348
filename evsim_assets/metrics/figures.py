"""Bias and discriminability as pictures: dots with intervals beside the value that would be ideal.

Belongs here: drawing the tables that `bias.py` and `discriminability.py` make. Not here: computing
them; effects (`effects_figure.py`), answers (`histograms.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evsim_assets.figures.canvas import Look, adapter_looks, as_text, legend_below, panels, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 6
"""Questions at most; the first are drawn, and the title says so."""
LONGEST = 28
"""Characters of a demographic's name that are written out."""
FARTHEST = 16.0
"""Amplification is drawn from 1/16 to 16; what lies beyond is an arrow at the frame."""
FARTHER = 3.0
"""Intervals widen the frame of amplification to at most so many times that of the dots."""
CHANCE = 0.05
"""A p-value above this is no more than chance."""
RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgecolor": "#606060",
    "markeredgewidth": 0.9,
    "linestyle": "none",
    "zorder": 2,
}
SAME: dict[str, Any] = {"color": "#404040", "linewidth": 1.0, "linestyle": "--", "zorder": 1}


def bias_figure(bias: pd.DataFrame, *, title: str, simulated: bool, measure: str | None = None) -> bytes:
    """Amplification of differences between groups, a row a demographic, a dot an adapter; PNG.

    One panel a question; bars are 95 % intervals; right of the dashed line the model exaggerates what
    groups differ by, left of it it levels it out. A table without any amplification gives a picture
    that says why.

    Args:
        bias: one temperature for each adapter and question. measure: which one of the table is drawn,
            else the first.
    """
    if not len(bias):
        return _nothing(title, "no demographics: no bias", simulated)
    measure = str(bias["measure"].iloc[0]) if measure is None else measure
    chosen = bias[bias["measure"] == measure]
    if not chosen["amplification"].notna().any():
        return _nothing(title, _first_reason(chosen), simulated)
    names = list(dict.fromkeys(chosen["demographic"]))
    questions, title = _questions(chosen, title)
    looks = adapter_looks(chosen)
    row_height = max(0.34, 0.075 * len(looks))
    figure, axes = panels(
        questions, title, simulated=simulated, columns=2, size=(6.0, max(row_height * len(names), 1.4) + 1.2)
    )
    limits = _ratio_limits(chosen[chosen["question"].isin(questions)])
    for question, axis in axes.items():
        axis.set_xscale("log")
        axis.set_xlim(*limits)
        _plain_ratios(axis, limits)
        axis.axvline(1.0, **SAME)
        here = chosen[chosen["question"] == question]
        for at, name in enumerate(names):
            of_it = here[here["demographic"] == name]
            if len(of_it) and not of_it["amplification"].notna().any():
                said = as_text(_first_reason(of_it).split(";")[0])
                style: dict[str, Any] = {"fontsize": 7.5, "va": "center", "color": "#606060"}
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
                words = axis.text(1.06 * limits[0], at, said, bbox=box, clip_on=True, **style)
                words.set_in_layout(False)  # long words shall not squeeze the panels
        for adapter, look in looks.items():
            rows = here[here["adapter"] == adapter].dropna(subset=["amplification"])
            places = np.array([names.index(name) for name in rows["demographic"]], dtype=float)
            places += _offset(list(looks).index(adapter), len(looks))
            _dots(axis, rows, "amplification", places, look, limits, label=as_text(adapter))
        for between in range(1, len(names)):
            axis.axhline(between - 0.5, color="#d8d8d8", linewidth=0.6, zorder=0)
        axis.grid(axis="y", visible=False)
        axis.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=8)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_xlabel(f"amplification ({measure}): simulated over human spread", fontsize=9)
    note = "dashed: 1, the groups differ as they do among humans"
    if (chosen["amplification"].notna() & chosen["low"].isna()).any():
        note += "; no bar: too uncertain for one"
    if (chosen["amplification"] <= 0).any():
        note += "\narrow at the left: 0 or less, the model's groups differ no more than by chance"
    _legend(figure, axes, note)
    return png(figure)


def spreads_figure(bias: pd.DataFrame, *, title: str, simulated: bool) -> bytes:
    """How far groups lie apart among people and as simulated, a row a demographic; PNG.

    One panel a question: black the spread between people's groups with its interval in grey, coloured an
    adapter's, in scale units. Below 0 is less than chance would give. A table without any spread gives a
    picture that says why.

    Args:
        bias: one temperature for each adapter and question.
    """
    known = bias.dropna(subset=["human_spread", "simulated_spread"]) if len(bias) else bias
    if not len(known):
        return _nothing(title, _first_reason(bias) if len(bias) else "no demographics: no bias", simulated)
    names = list(dict.fromkeys(known["demographic"]))
    questions, title = _questions(known, title)
    looks = adapter_looks(known)
    size = (6.0, max(0.3 * len(names), 1.4) + 1.0)
    figure, axes = panels(questions, title, simulated=simulated, columns=2, size=size)
    for question, axis in axes.items():
        here = known[known["question"] == question]
        human = here.drop_duplicates("demographic")
        rows = np.array([names.index(name) for name in human["demographic"]], dtype=float)
        axis.axvline(0.0, **SAME)
        axis.barh(
            rows,
            human["human_high"] - human["human_low"],
            left=human["human_low"],
            height=0.7,
            color="#d9d9d9",
            label="people, 95 %",
            zorder=0,
        )
        axis.plot(human["human_spread"], rows, "|", color="#111111", markersize=11, label="people", zorder=4)
        for adapter, look in looks.items():
            own = here[here["adapter"] == adapter]
            places = np.array([names.index(name) for name in own["demographic"]], dtype=float)
            places += _offset(list(looks).index(adapter), len(looks))
            axis.hlines(places, own["simulated_low"], own["simulated_high"], color=look.colour, alpha=0.55)
            style: dict[str, Any] = {"markersize": 5, "markerfacecolor": look.fill, "zorder": 3}
            style |= {"markeredgecolor": look.colour, "linestyle": "none"}
            axis.plot(own["simulated_spread"], places, look.marker, label=as_text(adapter), **style)
        axis.grid(axis="y", visible=False)
        axis.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=8)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.tick_params(axis="x", labelsize=8)
        axis.set_xlabel("standard deviation between groups' means, scale units", fontsize=9)
    _legend(figure, axes, "below 0: the groups differ less than by chance")
    return png(figure)


def discriminability_figure(discriminability: pd.DataFrame, *, title: str, simulated: bool) -> bytes:
    """How well a classifier tells simulated answers from human ones, by adapter and temperature; PNG.

    One panel a question: AUC with its 95 % interval over temperature, adapters side by side. 0.5 is not
    told apart. Ringed are those of which the permutation test finds no more than chance (p above CHANCE).
    A table without any AUC gives a picture that says why.
    """
    if not len(discriminability):
        return _nothing(title, "nothing to tell apart", simulated)
    if not discriminability["auc"].notna().any():
        return _nothing(title, _first_reason(discriminability), simulated)
    questions, title = _questions(discriminability, title)
    looks = adapter_looks(discriminability)
    temperatures = sorted(discriminability["temperature"].unique())
    ends = discriminability[[c for c in ("auc", "low", "high") if c in discriminability]]
    lowest = min(0.45, float(np.nanmin(ends.to_numpy(dtype=float))) - 0.02)
    figure, axes = panels(questions, title, simulated=simulated, columns=2, size=(6.0, 3.6))
    for question, axis in axes.items():
        axis.axhline(0.5, **SAME)
        here = discriminability[discriminability["question"] == question]
        for adapter, look in looks.items():
            rows = here[here["adapter"] == adapter].dropna(subset=["auc"]).sort_values("temperature")
            places = np.array([temperatures.index(t) for t in rows["temperature"]], dtype=float)
            places += _offset(list(looks).index(adapter), len(looks))
            _dots(axis, rows, "auc", places, look, (lowest, 1.02), label=as_text(adapter), upright=True)
            chance = rows["p_value"].to_numpy(dtype=float) > CHANCE
            axis.plot(places[chance], rows["auc"][chance], **RING)
        axis.set_xticks(range(len(temperatures)), [f"{t:g}" for t in temperatures], fontsize=8)
        axis.set_xlim(-0.5, len(temperatures) - 0.5)
        for between in range(1, len(temperatures)):
            axis.axvline(between - 0.5, color="#d8d8d8", linewidth=0.6, zorder=0)
        axis.set_ylim(lowest, 1.02)
        axis.grid(axis="x", visible=False)
        axis.set_xlabel("temperature", fontsize=9)
        axis.set_ylabel("AUC: model against people", fontsize=9)
    note = "dashed: 0.5, cannot be told apart"
    _legend(figure, axes, f"{note}; ringed: the permutation test finds no more than chance (p > {CHANCE:g})")
    return png(figure)


def _questions(table: pd.DataFrame, title: str) -> tuple[list[str], str]:
    every = list(dict.fromkeys(table["question"]))
    if len(every) > PANELS:
        title += f" (the first {PANELS} of {len(every)} questions)"
    return every[:PANELS], title


def _nothing(title: str, why: str, simulated: bool) -> bytes:
    """A picture that says why there is nothing to draw."""
    figure, axes = panels([why], title, simulated=simulated, columns=1, size=(6.0, 1.2))
    axes[why].set_axis_off()
    return png(figure)


def _first_reason(table: pd.DataFrame) -> str:
    reasons = table["reason"].dropna() if "reason" in table else table.iloc[:0]
    return str(reasons.iloc[0]) if len(reasons) else "nothing could be measured"


def _short(name: str) -> str:
    return as_text(name if len(name) <= LONGEST else name[: LONGEST - 1] + "…")


def _offset(at: int, count: int) -> float:
    """Where the `at`-th of `count` adapters stands within its row of height 1."""
    return (at - (count - 1) / 2) * min(0.26, 0.72 / max(count - 1, 1))


def _ratio_limits(chosen: pd.DataFrame) -> tuple[float, float]:
    ends = chosen[[end for end in ("amplification", "low", "high") if end in chosen]].astype(float)
    ends = ends.where(ends > 0)  # a logarithmic axis has no place for 0
    values = ends["amplification"].dropna()
    if not len(values):  # all are 0 or less: arrows
        return 0.45, 2.2
    least, most = float(values.min()), float(values.max())
    low, high = float(ends.min().min()), float(ends.max().max())
    low, high = max(low, least / FARTHER), min(high, most * FARTHER)
    return max(min(low / 1.2, 0.45), 1 / FARTHEST), min(max(high * 1.2, 2.2), FARTHEST)


def _plain_ratios(axis: Axes, limits: tuple[float, float]) -> None:
    """A logarithmic axis that reads 0.25, 0.5, 1, 2, 4."""
    from matplotlib.ticker import NullLocator

    ticks = [t for t in (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0) if limits[0] <= t <= limits[1]]
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks], fontsize=8)


def _dots(
    axis: Axes,
    rows: pd.DataFrame,
    column: str,
    places: Any,
    look: Look,
    limits: tuple[float, float],
    *,
    label: str,
    upright: bool = False,
) -> None:
    """One adapter's values with their intervals, cut at the frame; arrows stand for values beyond it."""
    values = rows[column].to_numpy(dtype=float)
    if {"low", "high"} <= set(rows.columns):
        low, high = (rows[end].to_numpy(dtype=float) for end in ("low", "high"))
        high = np.where(np.isnan(high), np.inf, high)  # an end that is not known has no bound
        low, high = (np.clip(end, *limits) for end in (low, high))
        draw = axis.vlines if upright else axis.hlines
        draw(places, low, high, color=look.colour, linewidth=1.0, alpha=0.55, zorder=2)
    shown = np.clip(values, *limits)
    inside = shown == values
    style: dict[str, Any] = {
        "markersize": 5,
        "markerfacecolor": look.fill,
        "markeredgecolor": look.colour,
        "zorder": 3,
    }
    x, y = (places, shown) if upright else (shown, places)
    axis.plot(x[inside], y[inside], look.marker, label=label, **style)
    arrows = ("v", "^") if upright else ("<", ">")
    for beyond, arrow in ((values < limits[0], arrows[0]), (values > limits[1], arrows[1])):
        if beyond.any():  # an unclipped line of no points would take all room from the layout
            axis.plot(x[beyond], y[beyond], arrow, clip_on=False, **style)


def _legend(figure: Figure, axes: dict[str, Axes], note: str) -> None:
    legend_below(figure, axes.values(), f"bars: 95 % intervals; hollow: pretrained; {note}", columns=4)
