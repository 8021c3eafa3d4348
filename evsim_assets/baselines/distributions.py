"""Baselines that give each person a distribution of answers, as adapters do.

A regressor gives everybody one answer, near the mean, and so loses a comparison of populations by
construction. `boosted` is CatBoost's multiclass loss over answers in the bins of KL (a heap each; one an
answer on short scales); within a bin, probability is spread as training answers are. `cells` is what people
of the same demographic cell answered (`metrics/cells.py`).

Belongs here: from features to distributions. Not here: point predictions (`boosting.py`, `svr.py`), measures.
Imports catboost in functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evsim_assets.baselines.boosting import ONE_THREAD, Pools, fit
from evsim_assets.baselines.problem import Floats, Model, Predicted, Problem, grid_settings
from evsim_assets.metrics.cells import fit_cells
from evsim_assets.metrics.measures import answer_counts, answer_positions, kl_bins, rebin
from evsim_assets.specs.study import BoostedGrid


def boosted_models(grid: BoostedGrid) -> list[Model]:
    """Every setting of the grid, in its order."""
    settings = grid_settings(
        learning_rate=grid.learning_rate,
        depth=grid.depth,
        l2_leaf_reg=grid.l2_leaf_reg,
        iterations=grid.iterations,
    )
    return [Model(setting, [setting]) for setting in settings]


class BoostedFits:
    """Boosted distributions of one problem, on one thread each, from the problem's seed."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def sharing(self, model: Model) -> tuple[Any, ...]:
        """All are fitted on the same."""
        return ()

    def share(self, like: Model) -> None:
        """The rows, read once, and what bins of answers are made of."""
        from catboost import Pool

        problem, answers = self._problem, len(self._problem.scale.answers)
        self._rows = Pools(problem)
        counts = answer_counts(problem.train["answer"], problem.scale)
        self._marginal = (counts + 1 / answers) / (counts.sum() + 1)
        self._bins = rebin(np.eye(answers), kl_bins("kl", problem.scale) or answers)  # (K, B), 0 or 1
        own = self._bins[answer_positions(problem.train["answer"], problem.scale)].argmax(axis=1)
        self._seen = np.unique(own)
        self._train = Pool(self._rows.train, own, cat_features=self._rows.names)

    def fit(self, model: Model) -> Predicted:
        """Distributions of one setting; the marginal for everybody where all train in one bin."""
        from catboost import CatBoostClassifier

        problem = self._problem
        if len(self._seen) == 1:
            rows = {split: len(part) for split, part in problem.predict.items()}
            return Predicted({split: np.tile(self._marginal, (n, 1)) for split, n in rows.items()})
        fitted = CatBoostClassifier(
            **model.fitted,
            loss_function="MultiClass",
            random_seed=problem.seed % 2**31,
            **ONE_THREAD,
        )
        fit(fitted, self._train)
        pools = self._rows.by_split.items()
        return Predicted({s: self._spread(fitted.predict_proba(pool, thread_count=1)) for s, pool in pools})

    def _spread(self, of_bins: Floats) -> Floats:
        """Probabilities of the bins seen in training (n, seen) over all answers (n, K), none of them 0:
        the marginal counts as one training answer, since a bin may never have been seen."""
        within = self._bins * self._marginal[:, None]
        within /= within.sum(axis=0)  # (K, B): p(answer | bin)
        people = len(self._problem.train)
        return np.asarray((people * of_bins @ within[:, self._seen].T + self._marginal) / (people + 1))


class CellFits:
    """The cells of one problem; they choose their demographics on validation themselves."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def sharing(self, model: Model) -> tuple[Any, ...]:
        """There is one model."""
        return ()

    def share(self, like: Model) -> None:
        """Nothing."""

    def fit(self, model: Model) -> Predicted:
        """Distributions, and which cells were chosen."""
        problem = self._problem
        cells = fit_cells(problem.train, problem.predict["validation"], problem.demographics, problem.scale)
        chosen = {"cells": list(cells.demographics), "kappa": cells.kappa}
        return Predicted({s: cells.probabilities(rows) for s, rows in problem.predict.items()}, chosen=chosen)
