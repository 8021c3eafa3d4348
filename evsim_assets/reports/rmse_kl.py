"""The RMSE–KL plot (Figures 1, 2 and 11): individuals against populations.

Belongs here: that one figure. Not here: its numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evsim_assets.figures.canvas import Look, adapter_looks, as_text, panels, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE_LINES = {"svr": ("#222222", "--"), "catboost": ("#777777", "-."), "random": ("#222222", "none")}
FLOOR_LABEL = "human noise floor (mean, 95 %)"
LOG_FROM = 10.0
"""KL gets a logarithmic axis when its largest value is this many times its smallest."""


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
    """One panel a question: KL across, RMSE of a sampled answer upwards, both better when smaller.

    An adapter is a path over temperatures, markers growing with T; colour by model, pretrained
    hollow and dotted. Baselines: each setting a dot, the Pareto front a line. The band is the
    human noise floor of KL (2.5–97.5 % of resamples).

    Args:
        board: the scoreboard. curves: of `baseline_curves`. floors: of `noise_floor`.
        answers: which scale to draw; RMSE on 0–9 and on another scale share no axis.
        paper: published points to show beside ours: question, label, kl, rmse.
    """
    shown = board[board["answers"] == answers]
    questions = list(dict.fromkeys(shown["question"]))
    looks = adapter_looks(shown)
    figure, axes = panels(questions, title, simulated=simulated, columns=3, size=(5.4, 4.6))
    for question, axis in axes.items():
        here = shown[shown["question"] == question]
        dots = curves[(curves["question"] == question) & (curves["answers"] == answers)]
        _draw_floor(axis, _kl_floor(floors, question, answers))
        _draw_baselines(axis, dots)
        for adapter, look in looks.items():
            _draw_adapter(axis, here[here["adapter"] == adapter], adapter, look, shown["temperature"])
        published = paper[paper["question"] == question] if paper is not None else pd.DataFrame()
        _draw_paper(axis, published)
        _frame(axis, here, dots, published, _kl_floor(floors, question, answers))
    _explain(figure, axes, shown)
    return png(figure)


def _kl_floor(floors: pd.DataFrame, question: str, answers: str) -> pd.DataFrame:
    here = (floors["question"] == question) & (floors["answers"] == answers)
    return floors[here & (floors["measure"] == "kl")].dropna(subset=["floor"])


def _draw_floor(axis: Axes, floor: pd.DataFrame) -> None:
    for row in floor.to_dict("records"):
        axis.axvspan(row["floor_low"], row["floor_high"], color="#F0E442", alpha=0.35, linewidth=0, zorder=0)
        axis.axvline(row["floor"], color="#b8a600", linewidth=1.4, zorder=0, label=FLOOR_LABEL)


def _draw_baselines(axis: Axes, dots: pd.DataFrame) -> None:
    for algorithm, part in dots.groupby("algorithm"):
        colour, line = BASELINE_LINES.get(str(algorithm), ("#444444", ":"))
        if len(part) == 1:
            axis.plot(
                part["kl"],
                part["rmse"],
                "x",
                color=colour,
                markersize=8,
                markeredgewidth=2,
                label=str(algorithm),
            )
            continue
        axis.plot(part["kl"], part["rmse"], ".", color=colour, alpha=0.25, markersize=3, zorder=1)
        front = part[part["on_front"]].sort_values("kl")
        axis.plot(
            front["kl"],
            front["rmse"],
            color=colour,
            linestyle=line,
            linewidth=1.6,
            marker=".",
            zorder=1,
            label=f"{algorithm} (Pareto front)",
        )


def _draw_adapter(axis: Axes, rows: pd.DataFrame, adapter: str, look: Look, temperatures: pd.Series) -> None:
    path = rows.dropna(subset=["kl", "rmse"]).sort_values("temperature")
    if not len(path):
        return
    span = max(temperatures.max() - temperatures.min(), 1e-9)
    sizes = 14 + 60 * (path["temperature"] - temperatures.min()) / span
    axis.plot(path["kl"], path["rmse"], zorder=2, **look.line)
    axis.scatter(
        path["kl"],
        path["rmse"],
        s=sizes,
        marker=look.marker,
        facecolor=look.fill,
        edgecolor=look.colour,
        linewidth=1.1,
        zorder=3,
        label=as_text(adapter),
    )


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


def _frame(
    axis: Axes, rows: pd.DataFrame, dots: pd.DataFrame, paper: pd.DataFrame, floor: pd.DataFrame
) -> None:
    """Limits from adapters, fronts and published points; settings far off are counted, not shown."""
    kept = [rows[["kl", "rmse"]], dots.loc[dots["on_front"], ["kl", "rmse"]]]
    kept += [paper[["kl", "rmse"]]] if len(paper) else []
    points = pd.concat([k.astype(float) for k in kept]).dropna()
    axis.set_xlabel("KL(human ‖ model), nats")
    axis.set_ylabel("RMSE of one sampled answer")
    if not len(points):
        return
    low, high = points.min(), points.max()
    margin = 0.08 * max(high["rmse"] - low["rmse"], 1.0)
    bottom, top = low["rmse"] - margin, high["rmse"] + margin
    axis.set_ylim(bottom, top)
    floors = floor["floor"].tolist()
    left, right = min([low["kl"], *floors]), max([high["kl"], *floors])
    if right > LOG_FROM * max(left, 1e-6):
        _plain_log(axis)
        left, right = max(left, 1e-5) / 1.5, right * 1.5
    else:
        left, right = left - 0.05 * (right - left) - 1e-4, right + 0.08 * (right - left) + 1e-4
    axis.set_xlim(left, right)
    off = ~(dots["rmse"].between(bottom, top) & dots["kl"].between(left, right))
    if off.any():
        axis.annotate(
            f"{int(off.sum())} of {len(dots)} baseline settings lie beyond the frame",
            (0.99, 0.01),
            xycoords="axes fraction",
            ha="right",
            va="bottom",
            fontsize=6.5,
            color="#666666",
        )


def _plain_log(axis: Axes) -> None:
    """A logarithmic KL axis whose ticks read 0.02, 0.05, 0.1, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())


def _explain(figure: Any, axes: dict[str, Axes], shown: pd.DataFrame) -> None:
    """One legend below the panels, what the markers mean, and who is missing and why."""
    from matplotlib.collections import PathCollection

    entries: dict[str, Any] = {}
    for axis in axes.values():
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    across = 3 if len(axes) == 1 else min(5, 2 * len(axes))
    temperatures = np.unique(shown["temperature"])
    said = "colour: model; hollow and dotted: pretrained; svr and catboost: a prediction, not a draw"
    if len(temperatures) > 1:
        said += f"; markers grow with temperature, {temperatures[0]:g} to {temperatures[-1]:g}"
    lost = shown[shown["kl"].isna() | shown["rmse"].isna()]
    if len(lost):
        names = ", ".join(dict.fromkeys(lost["adapter"]))
        said += f"\nnot drawn at every temperature, for want of answers: {names}"
    legend = figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=across,
        fontsize=7.5,
        frameon=False,
        title=as_text(said),
        title_fontsize=8,
    )
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([36])  # in the plot, size is temperature
