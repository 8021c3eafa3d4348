"""CatBoost over Table 10's grid, on categories.

Belongs here: how CatBoost is called. Not here: features, scales, measures. Imports catboost in
functions.
"""

from __future__ import annotations

from typing import Any

from evsim_assets.baselines.problem import FitFailed, Model, Predicted, Problem, grid_settings
from evsim_assets.specs.study import CatBoostGrid

ONE_THREAD: dict[str, Any] = {"thread_count": 1, "verbose": False, "allow_writing_files": False}
"""Several models are fitted at the same time; and each is the same for any number of cores."""


def catboost_models(grid: CatBoostGrid) -> list[Model]:
    """Every setting of the grid, in its order."""
    settings = grid_settings(
        learning_rate=grid.learning_rate,
        random_strength=grid.random_strength,
        one_hot_max_size=grid.one_hot_max_size,
        l2_leaf_reg=grid.l2_leaf_reg,
        bagging_temperature=grid.bagging_temperature,
        iterations=(grid.iterations,),
    )
    return [Model(setting, [setting]) for setting in settings]


def fit(model: Any, train: Any) -> None:
    """Fit a CatBoost model. Raises FitFailed where CatBoost refuses."""
    from catboost import CatBoostError

    try:
        model.fit(train)
    except CatBoostError as error:
        raise FitFailed(" ".join(str(error).split())) from error


class Pools:
    """A problem's rows as CatBoost reads them: `names`, `train` (a table), and a pool a split."""

    def __init__(self, problem: Problem) -> None:
        from catboost import Pool

        self.train = problem.features.categories(problem.train)
        self.names = list(self.train.columns)
        self.by_split = {
            split: Pool(problem.features.categories(part), cat_features=self.names)
            for split, part in problem.predict.items()
        }


class CatBoostFits:
    """Fits of one problem: squared error, on one thread each, from the problem's seed.

    The bootstrap is Bayesian, the only one in which `bagging_temperature` means anything.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def sharing(self, model: Model) -> tuple[Any, ...]:
        """All are fitted on the same."""
        return ()

    def share(self, like: Model) -> None:
        """The rows, read once."""
        from catboost import Pool

        self._rows = Pools(self._problem)
        self._train = Pool(self._rows.train, self._problem.target, cat_features=self._rows.names)

    def fit(self, model: Model) -> Predicted:
        """Predictions of one setting."""
        from catboost import CatBoostRegressor

        fitted = CatBoostRegressor(
            **model.fitted,
            loss_function="RMSE",
            bootstrap_type="Bayesian",
            random_seed=self._problem.seed % 2**31,
            **ONE_THREAD,
        )
        fit(fitted, self._train)
        predict = {s: fitted.predict(pool, thread_count=1) for s, pool in self._rows.by_split.items()}
        return Predicted(predict)
