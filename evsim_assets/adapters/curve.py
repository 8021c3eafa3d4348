"""Learning curves of adapters, as a table and as a picture (Figures 5 and 9).

Belongs here: what is kept of Trainer's log, and drawing it. Not here: training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.figures.canvas import as_text, panels, png

TYPES = {
    "step": "int64",
    "epoch": "float64",
    "split": "str",
    "loss": "float64",
    "learning_rate": "float64",
    "gradient_norm": "float64",
}


def learning_curve(history: Sequence[Mapping[str, Any]], epochs: Sequence[float]) -> pd.DataFrame:
    """A row for each evaluation ("validation") and one for the steps since the one before ("train").

    step | epoch | split | loss | learning_rate | gradient_norm. Loss and norm (before clipping) of training
    are means over those steps, the learning rate is the last step's; of validation both are missing.

    Args:
        history: Trainer's log: an entry with `loss` for each step, one with `eval_loss` for each evaluation.
        epochs: how often the data has been seen after each step, the first at step 1.
    """
    rows: list[tuple[int, float, str, float, float, float]] = []
    since: list[Mapping[str, Any]] = []
    for entry in history:
        step = int(entry["step"])
        epoch = epochs[step - 1] if step else 0.0
        if "loss" in entry:
            since.append(entry)
        if "eval_loss" in entry:
            if since:
                loss, norm = (float(np.mean([e[name] for e in since])) for name in ("loss", "grad_norm"))
                rows.append((step, epoch, "train", loss, float(since[-1]["learning_rate"]), norm))
            rows.append((step, epoch, "validation", float(entry["eval_loss"]), np.nan, np.nan))
            since = []
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def learning_curve_figure(history: pd.DataFrame, *, title: str, simulated: bool) -> bytes:
    """Training and validation loss by epoch, one panel an adapter; dashed: the end of each epoch.

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
        for epoch in range(1, max(1, round(part["epoch"].max() if len(part) else 1)) + 1):
            label = "end of an epoch" if epoch == 1 else None
            axis.axvline(
                epoch, color="black", linestyle="--", linewidth=0.8 if epoch == 1 else 0.4, label=label
            )
        axis.set_xlabel("epoch", fontsize=8)
        axis.set_title(as_text(adapter), fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supylabel("loss (nats)", fontsize=9)
    handles, labels = next(iter(axes.values())).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return png(figure)
