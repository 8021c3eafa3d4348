"""The RMSE–KL plane (Figures 1 to 3 and 11): individuals against populations.

Belongs here: that one figure. Not here: its numbers, its frame (`rmse_kl_frame.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evsim_assets.figures.canvas import Look, adapter_looks, as_text, panels, png
from evsim_assets.reports.chosen_rows import of_everybody
from evsim_assets.reports.rmse_kl_frame import frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLOOR_LABEL = "human noise floor of KL (mean, 95 %)"
BARS: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.4, "zorder": 1}
"""Intervals: light, behind the points."""


@dataclass(frozen=True)
class BaselineLook:
    """How an algorithm's front is drawn, and its point where it has only one setting."""

    colour: str
    line: Any
    marker: str
    alone: str = "x"


BASELINES = {
    "svr": BaselineLook("#222222", "--", "."),
    "catboost": BaselineLook("#777777", "-.", "."),
    "random": BaselineLook("#222222", "none", "x", "x"),
    "cells": BaselineLook("#222222", (0, (1, 1)), "+", "+"),
    "boosted": BaselineLook("#777777", (0, (5, 1, 1, 1, 1, 1)), "1"),
}
OTHER_BASELINE = BaselineLook("#444444", ":", "2")
CHOSEN: dict[str, Any] = {
    "color": "none",
    "markeredgecolor": "#222222",
    "markeredgewidth": 0.8,
    "markersize": 8,
    "zorder": 1,
}
CHOSEN_LABEL = "baseline chosen on validation"
THIN = {"mean": ".", "median": "_"}
"""Readings drawn thin, with their markers, as those of adapters are."""


@dataclass(frozen=True)
class Reading:
    """One way to read one answer from a distribution: its RMSE's column, and how it is drawn."""

    column: str
    label: str
    line: Any
    marker: str | None
    """None: the adapter's own marker, growing with temperature."""


READINGS = (
    Reading("rmse", "sample: one drawn answer", "", None),
    Reading("rmse_mean", "mean of the distribution", "-", "."),
    Reading("rmse_median", "median of the distribution", (0, (2, 2)), "_"),
)


def rmse_kl_figure(
    board: pd.DataFrame,
    curves: pd.DataFrame,
    floors: pd.DataFrame,
    *,
    title: str,
    simulated: bool,
    answers: str = "native",
    paper: pd.DataFrame | None = None,
) -> bytes:
    """One panel a question: KL across, RMSE upwards, both better when smaller.

    An adapter is a path over temperatures, markers growing with T; colour by model, pretrained
    hollow and dotted. A path's KL is that of the model's population, whichever answer RMSE reads from
    a person's distribution: a drawn one (large markers), its mean (thin line, dots) or its median (thin,
    dashed). Light bars are 95 % intervals, where the board has them. Baselines: each setting a dot,
    the Pareto front a line, a single setting a cross, readings as those of adapters, a ring about what was
    chosen on validation. The band is the human noise floor of KL.

    Args:
        board: the scoreboard; the columns of intervals and of the readings but `rmse` may be absent
            or null. curves: of `baseline_curves`. floors: of `noise_floor`.
        answers: which scale to draw; RMSE on 0–9 and on another scale share no axis.
        paper: published points to show beside ours: question, label, kl, rmse.
    """
    shown = of_everybody(board[board["answers"] == answers])
    questions = list(dict.fromkeys(shown["question"]))
    looks = adapter_looks(shown)
    readings = [r for r in READINGS if r.column in shown and shown[r.column].notna().any()]
    size = (6.0, 5.2) if len(questions) > 1 else (9.0, 5.6)  # the legend needs the width
    figure, axes = panels(questions, title, simulated=simulated, columns=3, size=size)
    for question, axis in axes.items():
        here = shown[shown["question"] == question]
        dots = curves[(curves["question"] == question) & (curves["answers"] == answers)]
        floor = _kl_floor(floors, question, answers)
        published = paper[paper["question"] == question] if paper is not None else pd.DataFrame()
        frame(axis, _kept(here, readings, dots, published), dots, floor["floor"].tolist())
        _draw_floor(axis, floor)
        _draw_baselines(axis, dots)
        for adapter, look in looks.items():
            for reading in reversed(readings):  # the drawn answers on top
                path = here[here["adapter"] == adapter]
                _draw_path(axis, path, reading, as_text(adapter), look, shown["temperature"])
        _draw_paper(axis, published)
    _explain(figure, axes, shown, readings)
    return png(figure)


def _kl_floor(floors: pd.DataFrame, question: str, answers: str) -> pd.DataFrame:
    here = (floors["question"] == question) & (floors["answers"] == answers)
    return of_everybody(floors[here & (floors["measure"] == "kl")]).dropna(subset=["floor"])


def _kept(
    rows: pd.DataFrame, readings: list[Reading], dots: pd.DataFrame, paper: pd.DataFrame
) -> pd.DataFrame:
    """All (kl, rmse) that the frame must show: adapters in every reading with the intervals of RMSE, fronts,
    published points."""
    columns = [f"{r.column}{end}" for r in readings for end in ("", "_low", "_high")]
    parts = [rows[["kl", c]].set_axis(["kl", "rmse"], axis=1) for c in columns if c in rows]
    parts.append(dots.loc[dots["on_front"].astype(bool), ["kl", "rmse"]])
    parts += [paper[["kl", "rmse"]]] if len(paper) else []
    return pd.concat([part.astype(float) for part in parts]).dropna()


def _draw_floor(axis: Axes, floor: pd.DataFrame) -> None:
    for row in floor.to_dict("records"):
        axis.axvspan(row["floor_low"], row["floor_high"], color="#F0E442", alpha=0.35, linewidth=0, zorder=0)
        axis.axvline(row["floor"], color="#b8a600", linewidth=1.4, zorder=0, label=FLOOR_LABEL)


def _draw_baselines(axis: Axes, dots: pd.DataFrame) -> None:
    """Each algorithm's settings and front; of those that give distributions, in every reading."""
    for algorithm, of_algorithm in dots.groupby("algorithm", sort=False):
        look = BASELINES.get(str(algorithm), OTHER_BASELINE)
        several = of_algorithm["setting"].nunique() > 1
        label: str | None = as_text(f"{algorithm} (Pareto front)" if several else str(algorithm))
        for thin, marker, part in _by_reading(of_algorithm):
            front = part[part["on_front"].astype(bool)].sort_values("kl")
            axis.plot(part["kl"], part["rmse"], ".", color=look.colour, alpha=0.25, markersize=3, zorder=1)
            axis.plot(
                front["kl"],
                front["rmse"],
                color=look.colour,
                linestyle=look.line if several else "none",
                linewidth=0.8 if thin else 1.6,
                marker=marker or (look.marker if several else look.alone),
                markersize=5 if thin else (6 if several else 9),
                markeredgewidth=1.0 if several else 2.0,
                zorder=1,
                label=label,
            )
            label = None  # once an algorithm
        picked = _chosen(of_algorithm) if several else of_algorithm.iloc[:0]
        if len(picked):
            axis.plot(picked["kl"], picked["rmse"], "o", label=CHOSEN_LABEL, **CHOSEN)


def _chosen(points: pd.DataFrame) -> pd.DataFrame:
    """Those chosen on validation, where the table says so; as means and draws, where there are readings."""
    chosen = [column for column in ("chosen_by_kl", "chosen_by_rmse") if column in points]
    picked = points[points[chosen].any(axis=1)] if chosen else points.iloc[:0]
    return picked[picked["reading"] != "median"] if "reading" in picked else picked


def _by_reading(points: pd.DataFrame) -> Iterator[tuple[bool, str | None, pd.DataFrame]]:
    """Whether it is drawn thin, the marker (None: the algorithm's own), the points; drawn answers first."""
    if "reading" not in points:
        yield False, None, points
        return
    for reading in ("point", "sample", "mean", "median"):
        part = points[points["reading"] == reading]
        if len(part):
            yield reading in THIN, THIN.get(reading), part


def _draw_path(
    axis: Axes, rows: pd.DataFrame, reading: Reading, name: str, look: Look, temperatures: pd.Series
) -> None:
    """One adapter in one reading, over its temperatures, with its intervals."""
    path = rows.dropna(subset=["kl", reading.column]).sort_values("temperature")
    if not len(path):
        return
    kl, rmse = path["kl"].astype(float), path[reading.column].astype(float)
    left, right = axis.get_xlim()
    _bars(axis, path, reading.column, kl, vertical=True, colour=look.colour, limits=axis.get_ylim())
    if reading.marker is not None:
        axis.plot(
            kl,
            rmse,
            color=look.colour,
            linestyle=reading.line,
            linewidth=0.8,
            marker=reading.marker,
            markersize=4,
            markerfacecolor=look.fill,
            zorder=2,
        )
        return
    _bars(axis, path, "kl", rmse, vertical=False, colour=look.colour, limits=(left, right))
    span = max(temperatures.max() - temperatures.min(), 1e-9)
    axis.plot(kl, rmse, zorder=2, **look.line)
    axis.scatter(
        kl,
        rmse,
        s=16 + 64 * (path["temperature"] - temperatures.min()) / span,
        marker=look.marker,
        facecolor=look.fill,
        edgecolor=look.colour,
        linewidth=1.1,
        zorder=3,
        label=name,
    )


def _bars(
    axis: Axes,
    path: pd.DataFrame,
    column: str,
    across: pd.Series,
    *,
    vertical: bool,
    colour: str,
    limits: tuple[float, float],
) -> None:
    """The intervals of `column`, cut at the frame: a low end below zero has no place on a log axis."""
    ends = [f"{column}_low", f"{column}_high"]
    if not set(ends) <= set(path.columns):
        return
    known = path[ends].notna().all(axis=1)
    low, high = (path.loc[known, end].astype(float).clip(*limits) for end in ends)
    draw = axis.vlines if vertical else axis.hlines
    draw(across[known], low, high, color=colour, **BARS)


def _draw_paper(axis: Axes, rows: pd.DataFrame) -> None:
    for at, row in enumerate(rows.to_dict("records")):
        axis.plot(
            row["kl"],
            row["rmse"],
            "*",
            color="none",
            markeredgecolor="#aa0000",
            markersize=11,
            label="published (paper)" if at == 0 else None,
        )


def _explain(figure: Any, axes: dict[str, Axes], shown: pd.DataFrame, readings: list[Reading]) -> None:
    """One legend below the panels, what the markers mean, and who is missing and why."""
    from matplotlib.collections import PathCollection
    from matplotlib.lines import Line2D

    entries: dict[str, Any] = {}
    for axis in axes.values():
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    for reading in readings if len(readings) > 1 else []:
        marker, size = (reading.marker, 4) if reading.marker else ("o", 8)
        style: dict[str, Any] = {"color": "#555555", "marker": marker, "markersize": size, "linewidth": 0.8}
        entries[reading.label] = Line2D([], [], linestyle=reading.line or "-", **style)
    temperatures = np.unique(shown["temperature"])
    said = ["colour: model; hollow and dotted: pretrained"]
    if len(temperatures) > 1:
        said.append(f"markers grow with temperature, {temperatures[0]:g} to {temperatures[-1]:g}")
    if "kl_low" in shown and shown["kl_low"].notna().any():
        said.append("light bars: 95 % intervals")
    note = "; ".join(said)
    if len(readings) > 1:
        note += "\nKL is of the whole population, whichever answer RMSE reads from a person's distribution"
    lost = shown[shown["kl"].isna() | shown["rmse"].isna()]
    if len(lost):
        names = ", ".join(dict.fromkeys(lost["adapter"]))
        note += f"\nnot drawn at every temperature, for want of answers: {names}"
    legend = figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=3 if len(axes) == 1 else min(5, 2 * len(axes)),
        fontsize=8.5,
        frameon=False,
        title=as_text(note),
        title_fontsize=9,
    )
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([36])  # in the plot, size is temperature
