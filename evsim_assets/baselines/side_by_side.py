"""Many models of one problem, several at a time, those that are finished taken as they are.

Belongs here: in what order and threads models are fitted, the rows each gives, what a failed one leaves. Not
here: an algorithm (`svr.py`, `boosting.py`, `distributions.py`), files of finished fits (`finished.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from threading import Lock

import numpy as np
import pandas as pd

from evsim_assets.baselines.finished import Finished
from evsim_assets.baselines.problem import (
    EVALUATED,
    FitFailed,
    Fits,
    Model,
    Problem,
    Setting,
    setting_text,
)
from evsim_assets.baselines.scoring import Row, scored

MEASURED = ("kl", "rmse", "w1", "mae", "crps", "nll")
FAILURES = (FitFailed, ArithmeticError, ValueError, MemoryError)
"""What one setting may fail by without the others failing."""


def fit_all(
    fits: Fits,
    problem: Problem,
    models: list[Model],
    jobs: int,
    finished: Finished | None,
    progress: Callable[[int], None],
) -> list[Row]:
    """The rows of all models in their order; models that share something are fitted one after the other."""
    made: dict[int, list[Row]] = {}
    places = sorted(range(len(models)), key=lambda m: (repr(fits.sharing(models[m])), m))
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for _, alike in groupby(places, key=lambda m: fits.sharing(models[m])):
            group = list(alike)
            shared = _Shared(fits, models[group[0]])

            def fit(m: int, shared: _Shared = shared) -> list[Row]:
                return _model_rows(shared, problem, models[m], finished)

            for m, rows in zip(group, pool.map(fit, group), strict=True):
                made[m] = rows
                progress(len(made))
    return [row for m in range(len(models)) for row in made[m]]


class _Shared:
    """What models of one kind are fitted on, made by the first that is not finished yet."""

    def __init__(self, fits: Fits, like: Model) -> None:
        self._fits, self._like, self._lock, self._made = fits, like, Lock(), False

    def fits(self) -> Fits:
        with self._lock:
            if not self._made:
                self._fits.share(self._like)
                self._made = True
        return self._fits


def _model_rows(shared: _Shared, problem: Problem, model: Model, finished: Finished | None) -> list[Row]:
    """The rows of every setting that the model stands for; a failure is not kept among the finished."""

    def make() -> pd.DataFrame:
        return pd.DataFrame(_fitted(shared.fits(), problem, model))

    try:
        if finished is None:
            return _fitted(shared.fits(), problem, model)
        table = finished.rows(setting_text({"fitted": model.fitted, "settings": model.settings}), make)
        table["reason"] = None  # Parquet has no other way to keep a column of nothing
        return [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]
    except FAILURES as error:
        reason = f"the fit failed: {type(error).__name__}: {error}"
        return list(unfitted(model.settings, reason, train_rows=len(problem.train)))


def _fitted(fits: Fits, problem: Problem, model: Model) -> list[Row]:
    started = time.perf_counter()
    predicted = fits.fit(model)
    fit = {
        "seconds": time.perf_counter() - started,
        "train_rows": len(problem.train),
        "converged": predicted.converged,
        "reason": None,
    }
    rows = []
    for setting in model.settings:
        text = setting_text(setting | predicted.chosen)
        for split, predictions in predicted.by_split.items():
            for measured in scored(predictions, problem.predict[split], problem.scale):
                rows.append({"setting": text, "split": split, **measured, **fit})
    return rows


def unfitted(
    settings: list[Setting], reason: str, splits: Sequence[str] = EVALUATED, *, train_rows: int = 0
) -> Iterator[Row]:
    """The rows of settings of which there is nothing to tell but why."""
    nothing = dict.fromkeys(MEASURED, np.nan)
    for setting in settings:
        for split in splits:
            yield {
                "setting": setting_text(setting),
                "split": split,
                "reading": None,
                **nothing,
                "seconds": 0.0,
                "n": 0,
                "train_rows": train_rows,
                "clipped": 0,
                "converged": False,
                "reason": reason,
            }
