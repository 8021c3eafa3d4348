"""Support vector regression over Table 9's grid, each distinct model fitted once.

All settings of a question share one matrix of dot products between rows (for dummies: how many
features two people share), from which every kernel follows by arithmetic; libsvm then gets the
kernel ready made. Predictions equal those of sklearn's own kernels to rounding, several times faster.

Belongs here: kernels and libsvm. Not here: features, scales, measures. Imports sklearn in functions.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator

import numpy as np

from evsim_assets.baselines.problem import Fitted, Floats, Problem, Setting, grid_settings
from evsim_assets.specs.study import SvrGrid

MAX_ITERATIONS = 50_000
"""libsvm may never converge where C is large and kernel values are too; it stops here and says so."""


def svr_settings(grid: SvrGrid) -> list[Setting]:
    """Every setting of the grid, in its order."""
    return list(grid_settings(kernel=grid.kernel, C=grid.C, epsilon=grid.epsilon, gamma=grid.gamma))


def distinct_models(settings: list[Setting]) -> list[tuple[Setting, list[Setting]]]:
    """What to fit, and which settings each fit stands for.

    A linear kernel has no gamma. In a polynomial kernel (γ⟨u,v⟩)³, γ³ only scales the kernel, which
    is what C does, so (C, γ) is the model (C γ³, 1).
    """
    models: dict[tuple[object, ...], tuple[Setting, list[Setting]]] = {}
    for setting in settings:
        fitted = dict(setting)
        if setting["kernel"] in ("linear", "poly"):
            power = 3 if setting["kernel"] == "poly" else 0
            fitted |= {"C": setting["C"] * setting["gamma"] ** power, "gamma": 1.0}
        key = (fitted["kernel"], f"{fitted['C']:.12g}", fitted["epsilon"], fitted["gamma"])
        models.setdefault(key, (fitted, []))[1].append(setting)
    return list(models.values())


def fit_svr(problem: Problem, settings: list[Setting]) -> Iterator[Fitted]:
    """One Fitted per distinct model. Memory: 16 bytes × (training rows)², at the peak."""
    train = problem.features.dummies(problem.train)
    rows = {split: problem.features.dummies(table) for split, table in problem.predict.items()}
    dots = {"train": train @ train.T} | {split: x @ train.T for split, x in rows.items()}
    squares = {split: (x * x).sum(axis=1) for split, x in ({"train": train} | rows).items()}
    for fitted, shared in distinct_models(settings):
        started = time.perf_counter()
        name, gamma = fitted["kernel"], fitted["gamma"]
        kernel = {
            split: kernel_values(name, gamma, dots[split], squares[split], squares["train"]) for split in dots
        }
        predictions, converged = _fit(kernel, problem.target, fitted["C"], fitted["epsilon"])
        yield Fitted(shared, predictions, time.perf_counter() - started, converged)


def kernel_values(kernel: str, gamma: float, dots: Floats, left: Floats, right: Floats) -> Floats:
    """k(u, v) of shape (n, m) from dot products (n, m) and squared norms (n,), (m,); coef0 0, degree 3."""
    if kernel == "linear":
        return dots
    if kernel == "poly":
        return np.asarray((gamma * dots) ** 3)
    if kernel == "sigmoid":
        return np.asarray(np.tanh(gamma * dots))
    return np.asarray(np.exp(-gamma * (left[:, None] + right[None, :] - 2 * dots)))


def _fit(
    kernel: dict[str, Floats], target: Floats, c: float, epsilon: float
) -> tuple[dict[str, Floats], bool]:
    """Predictions by split, and whether libsvm converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVR

    model = SVR(kernel="precomputed", C=c, epsilon=epsilon, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported as `converged`
        model.fit(kernel["train"], target)
    predictions = {split: model.predict(k) for split, k in kernel.items() if split != "train"}
    return predictions, model.fit_status_ == 0
