"""CatBoost over Table 10's grid, on categories.

Belongs here: how CatBoost is called. Not here: features, scales, measures. Imports catboost in
functions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from evsim_assets.baselines.problem import Fitted, Problem, Setting, grid_settings
from evsim_assets.specs.study import CatBoostGrid


def catboost_settings(grid: CatBoostGrid) -> list[Setting]:
    """Every setting of the grid, in its order."""
    return list(
        grid_settings(
            learning_rate=grid.learning_rate,
            random_strength=grid.random_strength,
            one_hot_max_size=grid.one_hot_max_size,
            l2_leaf_reg=grid.l2_leaf_reg,
            bagging_temperature=grid.bagging_temperature,
            iterations=(grid.iterations,),
        )
    )


def fit_catboost(problem: Problem, settings: list[Setting]) -> Iterator[Fitted]:
    """One Fitted per setting, squared error, on one thread, from the problem's seed.

    The bootstrap is Bayesian, the only one in which `bagging_temperature` means anything.
    """
    from catboost import CatBoostRegressor, Pool

    table = problem.features.categories(problem.train)
    names = list(table.columns)
    train = Pool(table, problem.target, cat_features=names)
    rows = {
        split: Pool(problem.features.categories(part), cat_features=names)
        for split, part in problem.predict.items()
    }
    for setting in settings:
        started = time.perf_counter()
        model = CatBoostRegressor(
            **setting,
            loss_function="RMSE",
            bootstrap_type="Bayesian",
            random_seed=problem.seed % 2**31,
            thread_count=1,
            verbose=False,
            allow_writing_files=False,
        )
        model.fit(train)
        predictions = {split: model.predict(pool, thread_count=1) for split, pool in rows.items()}
        yield Fitted([setting], predictions, time.perf_counter() - started, converged=True)
