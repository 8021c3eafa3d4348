"""The frame of the RMSE–KL plane: what lies within it, and what is counted instead of shown.

Belongs here: limits and axes. Not here: what is drawn in them (`rmse_kl.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG_FROM = 10.0
"""KL gets a logarithmic axis when its largest value is this many times its smallest."""
NEAREST_ZERO = 1e-5
"""The left end of a logarithmic axis at the least: a KL of zero has no place on it."""


def frame(axis: Axes, points: pd.DataFrame, settings: pd.DataFrame, floors: list[float]) -> None:
    """Limits that hold all `points`, and how many baseline points lie beyond them.

    Args:
        points: (kl, rmse), without nulls. settings: of all baselines, in every reading: kl, rmse.
        floors: of KL, held too.
    """
    axis.set_xlabel("KL(human ‖ model), nats")
    axis.set_ylabel("RMSE")
    if not len(points):
        return
    low, high = points.min(), points.max()
    margin = 0.08 * max(high["rmse"] - low["rmse"], 1.0)
    bottom, top = low["rmse"] - margin, high["rmse"] + margin
    axis.set_ylim(bottom, top)
    left, right = min([low["kl"], *floors]), max([high["kl"], *floors])
    if right > LOG_FROM * max(left, 1e-6):
        _plain_log(axis)
        left, right = max(left, NEAREST_ZERO) / 1.5, right * 1.5
    else:
        left, right = left - 0.05 * (right - left) - 1e-4, right + 0.08 * (right - left) + 1e-4
    axis.set_xlim(left, right)
    off = ~(settings["rmse"].between(bottom, top) & settings["kl"].between(left, right))
    if off.any():
        axis.annotate(
            f"{int(off.sum())} of {len(settings)} baseline points lie beyond the frame",
            (0.99, 0.01),
            xycoords="axes fraction",
            ha="right",
            va="bottom",
            fontsize=7.5,
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
