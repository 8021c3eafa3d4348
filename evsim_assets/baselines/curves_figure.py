"""What a study's baselines can reach: the RMSE–KL plane of their settings (Figure 11).

Belongs here: that one figure. Not here: its points (`curves.py`), adapters in the same plane (`reports/`).
Imports matplotlib in functions.
"""

from __future__ import annotations

import pandas as pd

from evsim_assets.figures.canvas import as_text, panels, png

COLOURS = {"svr": "#0072B2", "catboost": "#D55E00", "boosted": "#009E73", "cells": "#CC79A7"}
OTHER = "#555555"
DRAWN = ("point", "mean", "sample")
"""Readings in the order of preference: of each algorithm the first that it has is drawn."""


def curves_figure(
    curves: pd.DataFrame, *, title: str, simulated: bool, answers: str = "native", questions: int = 4
) -> bytes:
    """A panel a question (the first so many): KL across, RMSE upwards, both better when smaller.

    Every setting is a dot, an algorithm's front a line, a ring what validation chose by KL or by RMSE.
    `curves`: of `baseline_curves`; RMSE of a distribution is that of its mean.
    """
    here = curves[curves["answers"] == answers]
    shown = list(dict.fromkeys(here["question"]))[:questions]
    size = (5.0, 4.2) if len(shown) > 1 else (7.5, 5.0)
    figure, axes = panels(shown, title, simulated=simulated, columns=2, size=size)
    for question, axis in axes.items():
        of_question = here[here["question"] == question]
        for algorithm, points in of_question.groupby("algorithm", sort=True):
            points = _one_reading(points)
            colour = COLOURS.get(str(algorithm), OTHER)
            axis.plot(points["kl"], points["rmse"], ".", color=colour, alpha=0.35, markersize=4)
            front = points[points["on_front"].astype(bool)].sort_values("kl")
            axis.plot(
                front["kl"], front["rmse"], "-o", color=colour, markersize=4, label=as_text(str(algorithm))
            )
            chosen = points[points[["chosen_by_kl", "chosen_by_rmse"]].any(axis=1)]
            axis.plot(chosen["kl"], chosen["rmse"], "o", color="none", markeredgecolor="black", markersize=9)
        if (of_question["kl"] > 0).all():
            axis.set_xscale("log")
        axis.set_xlabel("KL, nats", fontsize=9)
        axis.set_ylabel("RMSE, scale units", fontsize=9)
        axis.legend(fontsize=8, frameon=False)
    return png(figure)


def _one_reading(points: pd.DataFrame) -> pd.DataFrame:
    reading = next((r for r in DRAWN if (points["reading"] == r).any()), None)
    return points[points["reading"] == reading]
