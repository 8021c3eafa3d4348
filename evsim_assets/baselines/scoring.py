"""What a baseline's predictions come to, on each split.

Belongs here: from predictions to answers and to measures. Not here: the measures' formulas
(`metrics/measures.py`), fitting.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.baselines.problem import Floats
from evsim_assets.metrics.measures import (
    answer_counts,
    answer_values,
    balanced,
    crps,
    distribution_means,
    distribution_medians,
    mae,
    nll,
    population_measures,
    rmse,
)
from evsim_assets.specs.survey import Scale

Integers = npt.NDArray[np.int64]
Row = dict[str, Any]


def predicted_answers(predictions: Floats, scale: Scale) -> tuple[Integers, int]:
    """Answers (n,) nearest to predictions in 0–1 (n,), halves up; how many lay beyond the scale."""
    if not np.all(np.isfinite(predictions)):
        raise ArithmeticError("a baseline predicted something that is not a number")
    last = len(scale.answers) - 1
    position = np.floor(predictions * last + 0.5)
    beyond = int(((position < 0) | (position > last)).sum())
    on_scale = np.clip(position, 0, last).astype(np.int64)
    return scale.low + scale.step * on_scale, beyond


def answers_on_scale(predictions: Floats, scale: Scale) -> Floats:
    """Predictions in 0–1 (n,) in the scale's units, unrounded; those beyond the scale at its end."""
    return np.asarray(np.clip(scale.low + (scale.high - scale.low) * predictions, scale.low, scale.high))


def scored(predictions: Floats, rows: pd.DataFrame, scale: Scale) -> Iterator[Row]:
    """The measures of answers in 0–1 (n,), one row, or of distributions (n, K), one row a reading.

    `rows`: `answer` and `weight` of the same people, at least one.
    """
    answers, weights = rows["answer"].to_numpy(dtype=np.int64), balanced(rows["weight"])
    if predictions.ndim == 1:
        yield _of_points(predictions, answers, weights, scale)
    else:
        yield from _of_distributions(predictions, answers, weights, scale)


def _of_points(predictions: Floats, answers: Integers, weights: Floats, scale: Scale) -> Row:
    """The population is of the nearest answers, for people give no others; errors are of the predictions."""
    given, clipped = predicted_answers(predictions, scale)
    model, at = answer_counts(given, scale, weights), answers_on_scale(predictions, scale)
    return {
        "reading": "point",
        **_of_population(answers, weights, model, scale),
        "rmse": rmse(answers, at, weights),
        "mae": mae(answers, at, weights),
        "crps": np.nan,
        "nll": np.nan,
        "n": len(answers),
        "clipped": clipped,
    }


def _of_distributions(given: Floats, answers: Integers, weights: Floats, scale: Scale) -> Iterator[Row]:
    """Population measures are of all people's distributions together, whichever answer is read."""
    values = answer_values(scale)
    alike = {
        **_of_population(answers, weights, weights @ given, scale),
        "crps": float(np.average(crps(values, given, answers), weights=weights)),
        "nll": float(np.average(nll(values, given, answers), weights=weights)),
        "n": len(answers),
        "clipped": 0,
    }
    for reading, read in (("mean", distribution_means), ("median", distribution_medians)):
        at = read(values, given)
        yield {
            "reading": reading,
            **alike,
            "rmse": rmse(answers, at, weights),
            "mae": mae(answers, at, weights),
        }
    apart = values[None, :] - answers[:, None]  # (n, K)
    yield {
        "reading": "sample",
        **alike,
        "rmse": float(np.sqrt(np.average((given * apart**2).sum(axis=1), weights=weights))),
        "mae": float(np.average((given * np.abs(apart)).sum(axis=1), weights=weights)),
    }


def _of_population(answers: Integers, weights: Floats, model: Floats, scale: Scale) -> Row:
    measured = population_measures(scale, answer_counts(answers, scale, weights), model)
    return {"kl": float(measured["kl"]), "w1": float(measured["w1"])}
