"""Human and simulated answers side by side, as a picture (Figures 7 and 8).

Belongs here: drawing the counts that `agreement.population_histograms` gives. Not here: counting.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from evsim_assets.figures.canvas import adapter_looks, as_text, panels, png
from evsim_assets.metrics.measures import rebin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HISTOGRAM_BINS = 11


def histogram_figure(
    histograms: pd.DataFrame, question: str, temperature: float, *, title: str, simulated: bool
) -> bytes:
    """Human and simulated answers to one question, one panel an adapter, in the bins of KL.

    Args:
        histograms: of `population_histograms`, adapters concatenated.
        temperature: which one to draw.
    """
    chosen = histograms[(histograms["question"] == question) & (histograms["temperature"] == temperature)]
    looks = adapter_looks(chosen)
    figure, axes = panels(
        looks,
        f"{title}: answers to {question} at T={temperature:g}",
        simulated=simulated,
        columns=4,
        size=(3.1, 2.2),
    )
    for adapter, axis in axes.items():
        part = chosen[chosen["adapter"] == adapter].sort_values("answer")
        bins = min(HISTOGRAM_BINS, len(part))  # those of `kl`
        centres = np.linspace(part["answer"].min(), part["answer"].max(), bins)
        width = 0.86 * (centres[1] - centres[0])
        axis.bar(centres, _shares(part["human"], bins), width, color="#c4c4c4", label="humans (test)")
        if part["simulated"].sum() > 0:
            axis.bar(
                centres,
                _shares(part["simulated"], bins),
                width,
                fill=False,
                linewidth=1.4,
                edgecolor=looks[adapter].colour,
                label="simulated",
            )
        else:
            axis.text(0.5, 0.5, "never answers", transform=axis.transAxes, ha="center", color="#a00000")
        axis.set_title(as_text(adapter), fontsize=8)
        axis.tick_params(labelsize=7)
    _same_height(axes.values())
    figure.supxlabel("answer", fontsize=9)
    figure.supylabel("share of answers", fontsize=9)
    figure.text(0.995, 0.005, "grey: humans (test), outline: simulated", ha="right", va="bottom", fontsize=8)
    return png(figure)


def _shares(counts: pd.Series, bins: int) -> np.ndarray:
    binned = rebin(counts.to_numpy(dtype=float), bins)
    return np.asarray(binned / binned.sum())


def _same_height(axes: Iterable[Axes]) -> None:
    """All panels as high as the humans' highest bar needs, and 80 % more; a greedy spike is cut and named."""
    drawn = list(axes)
    top = max(max(bar.get_height() for bar in axis.containers[0]) for axis in drawn)
    for axis in drawn:
        tallest = max(bar.get_height() for group in axis.containers for bar in group)
        axis.set_ylim(0, 1.8 * top)
        if tallest > 1.8 * top:
            axis.annotate(
                f"highest: {tallest:.0%}", (0.98, 0.9), xycoords="axes fraction", ha="right", fontsize=7
            )
