"""How near adapters are to people, as pictures: by temperature, by pairs, and in the plane of KL and RMSE.

Belongs here: drawing `metrics`, `comparisons` and `scoreboard` for whoever looks at those tables. Not here:
computing them; the report's RMSE–KL figure, with baselines and published points (`reports/rmse_kl.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evsim_assets.figures.canvas import adapter_looks, as_text, legend_below, panels, png
from evsim_assets.metrics.groups import ALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUESTIONS = 4
"""Questions at most; the first are drawn, and the title says so."""
BY_TEMPERATURE = {
    "KL, nats": (("kl", "none", "-", "o"),),
    "W1, scale units": (("w1", "none", "-", "o"),),
    "CRPS, scale units": (("crps", "none", "-", "o"),),
    "RMSE, scale units": (("rmse", "sample", "-", "o"), ("rmse", "mean", "--", "s")),
}
"""A row of panels: what its axis says, and its lines (measure, point answer, line, marker)."""
COLOUR = "#0072B2"
FLOOR = "#F0E442"
CONTESTED = {"kl": "KL, nats", "w1": "W1, scale units"}
SPREAD = 10
BEYOND = 3.0
"""The frame of a forest is at most so many times as wide as its nearer half needs."""
ADAPTERS = 30
"""Rivals of a forest at most; the nearest to the leader are drawn, and the panel says so."""


def metrics_figure(metrics: pd.DataFrame, *, title: str, simulated: bool) -> bytes:
    """One adapter's KL, W1, CRPS and RMSE by temperature, with intervals; PNG.

    A column of panels a question. The band is the noise floor, the dotted line the population marginal: a
    model that knows the population and nobody. RMSE is of a drawn answer (solid) and of the mean (dashed).
    KL has a logarithmic axis, where its temperatures differ by a factor of SPREAD or more.

    Args:
        metrics: of one adapter, with what `beside` adds.
    """
    rows = metrics[metrics["demographic"] == ALL]
    questions, title = _first_questions(rows, title)
    places = {f"{q}: {said}": (q, lines) for said, lines in BY_TEMPERATURE.items() for q in questions}
    columns = len(questions) if len(questions) > 1 else 2
    figure, axes = panels(places, title, simulated=simulated, columns=columns, size=(4.2, 2.5))
    for name, axis in axes.items():
        question, lines = places[name]
        drawn = [_by_temperature(axis, _of(rows, question, *line[:2]), *line[1:]) for line in lines]
        if not any(drawn):
            axis.text(
                0.5, 0.5, "no answers to measure", transform=axis.transAxes, ha="center", color="#a00000"
            )
        axis.set_xlabel("temperature", fontsize=8)
        axis.tick_params(labelsize=8)
        if lines[0][0] == "kl":
            _plain_log(axis, "y", _of(rows, question, "kl", "none")[["value", "floor"]].to_numpy().ravel())
    _legend(figure, axes, "bars: 95 % intervals over participants; lower is nearer to people")
    return png(figure)


def forest_figure(comparisons: pd.DataFrame, *, title: str, simulated: bool) -> bytes:
    """Each adapter's KL and W1 less that of the one nearest to people, with paired intervals; PNG.

    At the highest temperature, on the questions' own scales. Right of the dashed line is further from
    people; a bar that crosses it could be chance. The frame shows the nearer half well; an arrow with its
    number stands for what lies far beyond it. Without any pair the picture says so.
    """
    rows = comparisons
    if len(rows):
        rows = rows[(rows["temperature"] == rows["temperature"].max()) & (rows["point_answer"] == "none")]
        rows = rows[rows["measure"].isin(list(CONTESTED))].dropna(subset=["difference"])
        native = rows["answers"] == "native"
        rows = rows[native] if native.any() else rows
    if not len(rows):
        figure, axes = panels(
            ["no two adapters to compare"], title, simulated=simulated, columns=1, size=(6.0, 1.2)
        )
        axes["no two adapters to compare"].set_axis_off()
        return png(figure)
    title += f", T={rows['temperature'].iloc[0]:g}"
    questions, title = _first_questions(rows, title)
    led = {
        (question, measure): _from_leader(rows[(rows["question"] == question) & (rows["measure"] == measure)])
        for question in questions
        for measure in CONTESTED
    }
    names = {
        f"{q}: {CONTESTED[m]}, less that of\n{leader}": table
        for (q, m), (leader, table) in led.items()
        if len(table)
    }
    tallest = max(min(len(table), ADAPTERS) for table in names.values())
    figure, axes = panels(names, title, simulated=simulated, columns=2, size=(5.6, 0.26 * tallest + 1.3))
    for name, axis in axes.items():
        _forest(axis, names[name])
    _legend(
        figure,
        {},
        "bars: 95 % intervals of paired differences; black: further from people; grey: could be chance",
    )
    return png(figure)


def plane_figure(board: pd.DataFrame, *, title: str, simulated: bool) -> bytes:
    """The scoreboard in the plane of KL and RMSE of the mean; PNG.

    A panel a question, on its own scale: a path over temperatures an adapter, larger is hotter. Lines are
    the noise floor of KL, and KL and RMSE of the baselines that were best in them on validation. Nearer to
    the lower left corner is better.
    """
    native = board[board["answers"] == "native"]
    shown = native if len(native) else board
    questions, title = _first_questions(shown, title)
    looks = adapter_looks(shown)
    figure, axes = panels(questions, title, simulated=simulated, columns=2, size=(5.8, 4.4))
    coldest, hottest = shown["temperature"].min(), shown["temperature"].max()
    for question, axis in axes.items():
        here = shown[shown["question"] == question]
        for adapter, look in looks.items():
            path = (
                here[here["adapter"] == adapter].dropna(subset=["kl", "rmse_mean"]).sort_values("temperature")
            )
            if not len(path):
                continue
            sizes = 14 + 56 * (path["temperature"] - coldest) / max(hottest - coldest, 1e-9)
            axis.plot(path["kl"], path["rmse_mean"], **look.line)
            axis.scatter(
                path["kl"],
                path["rmse_mean"],
                s=sizes,
                marker=look.marker,
                facecolor=look.fill,
                edgecolor=look.colour,
                zorder=3,
                label=as_text(adapter),
            )
        _marks(axis, here)
        _plain_log(axis, "x", here["kl"])
        axis.set_xlabel("KL(human ‖ model), nats", fontsize=9)
        axis.set_ylabel("RMSE of the mean", fontsize=9)
        axis.tick_params(labelsize=8)
    _legend(figure, axes, f"larger: hotter, T={coldest:g} to {hottest:g}; hollow: pretrained")
    return png(figure)


def _first_questions(rows: pd.DataFrame, title: str) -> tuple[list[str], str]:
    every = [str(question) for question in dict.fromkeys(rows["question"])]
    if len(every) > QUESTIONS:
        title += f" (the first {QUESTIONS} of {len(every)} questions)"
    return every[:QUESTIONS], title


def _of(rows: pd.DataFrame, question: str, measure: str, point: str) -> pd.DataFrame:
    same = (rows["question"] == question) & (rows["measure"] == measure)
    return rows[same & (rows["point_answer"] == point)]


def _by_temperature(axis: Axes, rows: pd.DataFrame, point: str, line: str, marker: str) -> bool:
    """One line of `metrics_figure`, with what it is held against; whether there is any value."""
    known = rows.dropna(subset=["value"]).sort_values("temperature")
    if not len(known):
        return False
    label = {"sample": "RMSE of a drawn answer", "mean": "RMSE of the mean"}.get(point, "this adapter")
    low, high = (known[end].astype(float) for end in ("low", "high"))
    axis.vlines(known["temperature"], low, high, color=COLOUR, linewidth=1.2, alpha=0.5)
    axis.plot(
        known["temperature"], known["value"], line, marker=marker, markersize=4.5, color=COLOUR, label=label
    )
    first = known.iloc[0]
    if np.isfinite(float(first["floor"])):
        axis.axhspan(
            first["floor_low"],
            first["floor_high"],
            color=FLOOR,
            alpha=0.4,
            linewidth=0,
            zorder=0,
            label="noise floor, 95 %",
        )
    marginal = float(first["population_marginal"])
    if np.isfinite(marginal):
        dots: Any = (0, (1, 2)) if point != "mean" else (0, (4, 2, 1, 2))
        said = "population marginal" + (", mean" if point == "mean" else "")
        axis.axhline(marginal, color="#404040", linewidth=1.1, linestyle=dots, zorder=1, label=said)
    return True


def _from_leader(rows: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """The adapter with the least value, and the others' differences from it, nearest first.

    Differences are 0 or more: adapter, other (the nearest), difference, low, high.
    """
    turned = rows.rename(columns={"adapter": "other", "other": "adapter"})
    turned = turned.assign(difference=-rows["difference"], low=-rows["high"], high=-rows["low"])
    columns = ["adapter", "other", "difference", "low", "high"]
    both = pd.concat([rows[columns], turned[columns]], ignore_index=True)
    if not len(both):
        return "", both
    behind = both.groupby("other", sort=False)["difference"].min()
    leader = str(behind.idxmax())
    return leader, both[both["other"] == leader].sort_values("difference", kind="stable").reset_index(
        drop=True
    )


def _forest(axis: Axes, table: pd.DataFrame) -> None:
    shown = table.head(ADAPTERS)
    rows = np.arange(len(shown))
    difference, low, high = (shown[c].to_numpy(dtype=float) for c in ("difference", "low", "high"))
    nearer = slice(0, max(1, (len(shown) + 1) // 2))
    reach = max(np.nanmax(high[nearer]), -np.nanmin(low[nearer]), difference[nearer].max(), 1e-9)
    left, right = max(np.nanmin(low), -BEYOND * reach), min(np.nanmax([high, difference]), BEYOND * reach)
    margin = 0.06 * (right - left)
    left, right = min(left, 0.0) - margin, right + 2 * margin
    colours = np.where(low > 0, "#111111", "#999999")
    inside = difference <= right
    axis.hlines(
        rows[inside], np.maximum(low, left)[inside], np.minimum(high, right)[inside], color=colours[inside]
    )
    axis.scatter(difference[inside], rows[inside], color=colours[inside], s=22, zorder=3)
    for row in rows[~inside]:
        axis.plot(right, row, ">", color=colours[row], clip_on=False, markersize=5)
        said = f"{difference[row]:.3g} ({low[row]:.3g} to {high[row]:.3g})"
        axis.annotate(
            said, (right, row), (-8, 0), textcoords="offset points", ha="right", va="center", fontsize=8
        )
    axis.set_xlim(left, right)
    axis.axvline(0.0, color="#404040", linewidth=1.0, linestyle="--", zorder=1)
    axis.set_yticks(rows, [as_text(name) for name in shown["adapter"]], fontsize=8)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="y", visible=False)
    if len(table) > ADAPTERS:
        axis.set_xlabel(f"the {ADAPTERS} nearest of {len(table)}", fontsize=8)


def _marks(axis: Axes, here: pd.DataFrame) -> None:
    """The floor of KL and the best baselines (the same on every row of a question), named in the title."""
    first = here.iloc[0]
    style: dict[str, Any] = {"linewidth": 1.1, "zorder": 0}
    if pd.notna(first["floor_kl"]):
        axis.axvline(float(first["floor_kl"]), color="#b8a600", label="noise floor of KL", **style)
    named = []
    if pd.notna(first["best_baseline_kl"]):
        named.append(f"{first['best_baseline_kl_by']} in KL")
        axis.axvline(
            float(first["best_baseline_kl"]),
            color="#777777",
            linestyle="-.",
            label="KL of the best baseline",
            **style,
        )
    if pd.notna(first["best_baseline_rmse"]):
        named.append(f"{first['best_baseline_rmse_by']} ({first['best_baseline_rmse_reading']}) in RMSE")
        axis.axhline(
            float(first["best_baseline_rmse"]),
            color="#222222",
            linestyle="--",
            label="RMSE of the best baseline",
            **style,
        )
    if named:
        axis.set_title(as_text(f"{first['question']}\nbest baselines: {', '.join(named)}"), fontsize=9)


def _plain_log(axes: Axes, which: str, values: Iterable[Any]) -> None:
    """A logarithmic axis that reads 0.02, 0.05, 0.1, where the values span a factor of SPREAD or more."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    known = np.array([float(value) for value in values if pd.notna(value) and float(value) > 0])
    if not len(known) or known.max() < SPREAD * known.min():
        return
    axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axes: dict[str, Axes], note: str) -> None:
    legend_below(figure, axes.values(), note, columns=3)
