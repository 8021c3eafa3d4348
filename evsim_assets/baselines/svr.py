"""Support vector regression over Table 9's grid, each distinct model fitted once.

All settings of a question share one matrix of dot products between rows: for dummies, how many features two
people share, so whole numbers of a byte each. Every kernel is a function of that number (or of the squared
distance, a whole number as well), so it is worked out once for each number and looked up. The dual is
then solved by `smo.py` where numba is installed, else by libsvm with the kernel ready made. Either way
predictions equal those of sklearn's own kernels to the solver's tolerance.

Belongs here: kernels, and who solves. Not here: features, scales, measures. Imports sklearn and numba in
functions.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evsim_assets.baselines.problem import Floats, Model, Predicted, Problem, Setting, grid_settings
from evsim_assets.specs.study import SvrGrid

Engine = Literal["numba", "libsvm"]
TOLERANCE = 1e-3
"""libsvm's own."""
ROWS_AT_ONCE = 2048


def svr_settings(grid: SvrGrid) -> list[Setting]:
    """Every setting of the grid, in its order."""
    return list(grid_settings(kernel=grid.kernel, C=grid.C, epsilon=grid.epsilon, gamma=grid.gamma))


def distinct_models(settings: list[Setting]) -> list[Model]:
    """What to fit, and which settings each fit stands for.

    A linear kernel has no gamma. In a polynomial kernel (γ⟨u,v⟩)³, γ³ only scales the kernel, which
    is what C does, so (C, γ) is the model (C γ³, 1).
    """
    models: dict[tuple[object, ...], Model] = {}
    for setting in settings:
        fitted = dict(setting)
        if setting["kernel"] in ("linear", "poly"):
            power = 3 if setting["kernel"] == "poly" else 0
            fitted |= {"C": setting["C"] * setting["gamma"] ** power, "gamma": 1.0}
        key = (fitted["kernel"], f"{fitted['C']:.12g}", fitted["epsilon"], fitted["gamma"])
        models.setdefault(key, Model(fitted, [])).settings.append(setting)
    return list(models.values())


def most_iterations(rows: int) -> int:
    """libsvm may never converge where C and kernel values are large; it stops here and says so."""
    return max(50_000, 50 * rows)


@cache
def engine() -> Engine:
    """What solves: numba's loops where it is installed."""
    return "numba" if find_spec("numba") else "libsvm"


class SvrFits:
    """Fits of one problem that share its dot products. Memory: 5 to 7 bytes × (training rows)² with numba
    (2 more for each further fit at a time), 25 with libsvm."""

    def __init__(self, problem: Problem, solver: Engine | None = None, limit: int | None = None) -> None:
        self._problem, self._target, self._solver = problem, problem.target, solver or engine()
        self._limit = limit or most_iterations(len(problem.target))
        self._dots: dict[str, npt.NDArray[Any]] = {}

    def sharing(self, model: Model) -> tuple[Any, ...]:
        """Models with the same one are fitted on one kernel matrix."""
        return model.fitted["kernel"], model.fitted["gamma"]

    def multiply(self) -> None:
        """The dot products of all rows with the training rows, once."""
        if self._dots:
            return
        problem = self._problem
        rows = {"train": problem.train} | dict(problem.predict)
        dummies = {s: problem.features.dummies(table).astype(np.float32) for s, table in rows.items()}
        self._squares = {split: _squares(x) for split, x in dummies.items()}
        self._largest = 2 * max(int(s.max(initial=0)) for s in self._squares.values())
        self._dots = {split: _dots(x, dummies["train"]) for split, x in dummies.items()}

    def share(self, like: Model) -> None:
        """Make the kernel matrix of the models that share it with `like`; the one before goes."""
        self._kernel: Any = None  # first, so that two are never held
        self.multiply()
        if self._solver == "numba":
            from evsim_assets.baselines import smo

            values = self._values(like).astype(np.float32)
            self._kernel = smo.fill(values, self._dots["train"], self._squares["train"], _of_distance(like))
        else:
            self._kernel = self._between("train", like)

    def fit(self, model: Model) -> Predicted:
        """Predictions of a model whose kernel matrix is there. Threads may call this at the same time."""
        c, epsilon = model.fitted["C"], model.fitted["epsilon"]
        if self._solver == "numba":
            from evsim_assets.baselines import smo

            beta, constant, _, converged = smo.solve(
                self._kernel, self._target, c, epsilon, TOLERANCE, self._limit
            )
            predict = {split: self._sums(split, model, beta) for split in self._dots if split != "train"}
        else:
            beta, constant, converged = _libsvm(self._kernel, self._target, c, epsilon, self._limit)
            predict = {s: self._between(s, model) @ beta for s in self._dots if s != "train"}
        return Predicted({split: sums + constant for split, sums in predict.items()}, converged)

    def _values(self, model: Model) -> Floats:
        """The kernel of every dot product, or of every squared distance, that there may be."""
        numbers = np.arange(self._largest + 1, dtype=np.float64)
        return kernel_values(model.fitted["kernel"], model.fitted["gamma"], numbers, numbers)

    def _between(self, split: str, model: Model) -> Floats:
        """The kernel between the rows of a split and the training rows."""
        dots, values = self._dots[split], self._values(model)
        if not _of_distance(model):
            return np.asarray(values[dots])
        left, right = self._squares[split], self._squares["train"]
        return np.asarray(values[left[:, None] + right[None, :] - 2 * dots.astype(np.int64)])

    def _sums(self, split: str, model: Model, beta: Floats) -> Floats:
        from evsim_assets.baselines import smo

        left, right = self._squares[split], self._squares["train"]
        return smo.weighted_sums(
            self._values(model), self._dots[split], left, right, _of_distance(model), beta
        )


def kernel_values(kernel: str, gamma: float, dots: Floats, distances: Floats) -> Floats:
    """k(u, v) from dot products, or (rbf) from squared distances, of any shape; coef0 0, degree 3."""
    if kernel == "linear":
        return dots
    if kernel == "poly":
        return np.asarray((gamma * dots) ** 3)
    if kernel == "sigmoid":
        return np.asarray(np.tanh(gamma * dots))
    return np.asarray(np.exp(-gamma * distances))


def _of_distance(model: Model) -> bool:
    return bool(model.fitted["kernel"] == "rbf")


def _squares(dummies: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    return np.asarray(dummies.sum(axis=1)).astype(np.int64)  # of zeros and ones: as their squares


def _dots(rows: npt.NDArray[np.float32], train: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """Dot products (n, m) in the smallest whole numbers that hold them; float32 is exact below 2²⁴."""
    made = np.empty((len(rows), len(train)), dtype=np.min_scalar_type(train.shape[1]))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        made[start : start + ROWS_AT_ONCE] = rows[start : start + ROWS_AT_ONCE] @ train.T
    return made


def _libsvm(
    kernel: Floats, target: Floats, c: float, epsilon: float, limit: int
) -> tuple[Floats, float, bool]:
    """β (n,), the constant, and whether libsvm converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVR

    model = SVR(kernel="precomputed", C=c, epsilon=epsilon, tol=TOLERANCE, max_iter=limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported as `converged`
        model.fit(kernel, target)
    beta = np.zeros(len(target))
    beta[model.support_] = model.dual_coef_[0]
    return beta, float(model.intercept_[0]), model.fit_status_ == 0
