"""Learning curves of adapters as a picture (Figures 5 and 9).

Belongs here: drawing losses. Not here: training.
"""

from __future__ import annotations

import pandas as pd

from evsim_assets.figures.canvas import as_text, panels, png


def learning_curve_figure(history: pd.DataFrame, *, title: str, simulated: bool) -> bytes:
    """Training and validation loss by epoch, one panel an adapter; dashed: the end of epoch 1.

    `history` has adapter, epoch, split (train or validation), loss, in nats as trained.
    """
    adapters = dict.fromkeys(history["adapter"])
    figure, axes = panels(adapters, title, simulated=simulated, columns=4, size=(3.1, 2.3))
    for adapter, axis in axes.items():
        part = history[history["adapter"] == adapter].sort_values("epoch", kind="stable")
        for split, colour in (("train", "#9a9a9a"), ("validation", "#0072B2")):
            curve = part[part["split"] == split]
            axis.plot(curve["epoch"], curve["loss"], color=colour, marker="o", markersize=2.5, label=split)
        lowest = part[part["split"] == "validation"]
        if len(lowest):
            best = lowest.iloc[int(lowest["loss"].to_numpy().argmin())]
            axis.plot(
                best["epoch"],
                best["loss"],
                marker="o",
                markersize=7,
                markerfacecolor="none",
                markeredgecolor="#D55E00",
                linestyle="none",
                label="lowest validation loss",
            )
        axis.axvline(1, color="black", linestyle="--", linewidth=0.8, label="end of epoch 1")
        axis.set_xlabel("epoch", fontsize=8)
        axis.set_title(as_text(adapter), fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supylabel("loss (nats)", fontsize=9)
    handles, labels = next(iter(axes.values())).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return png(figure)
