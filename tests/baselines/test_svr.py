"""SVR's distinct models, its kernels, and both solvers against sklearn's own."""

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from sklearn.svm import SVR

from evsim_assets.baselines.features import learn_features
from evsim_assets.baselines.problem import Model, Problem
from evsim_assets.baselines.svr import SvrFits, distinct_models, svr_settings
from evsim_assets.specs.study import SvrGrid
from evsim_assets.specs.survey import Demographic, Scale

NEEDS_NUMBA = pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")
SOLVERS = [pytest.param("numba", marks=NEEDS_NUMBA), "libsvm"]
PEOPLE = tuple(
    Demographic(name=name, column=name, options=tuple("abcde"), several=name == "d3")
    for name in ("d0", "d1", "d2", "d3")
)


def problem(train=400, test=60, seed=0):
    """Answers that follow from two demographics, and much noise; some cells are not known."""
    rng = np.random.default_rng(seed)
    n = train + test
    rows = pd.DataFrame({d.slug: rng.choice(list("abcde"), n) for d in PEOPLE})
    rows["d3"] = rng.choice(["a", "b", "a; b", "c; d; e"], n)
    rows.loc[rng.random(n) < 0.1, "d1"] = None
    rows["intervention"] = rng.choice(["1", "2", "3"], n)
    mean = 40 + 20 * (rows["d0"] == "a") - 20 * (rows["d3"].str.contains("b"))
    rows["answer"] = np.clip(np.rint(mean + rng.normal(0, 25, n)), 0, 100).astype(int)
    fit, told = rows.iloc[:train], rows.iloc[train:]
    features = learn_features(fit, PEOPLE)
    slugs = tuple(d.slug for d in PEOPLE)
    target = fit["answer"].to_numpy() / 100
    return Problem(features, slugs, Scale(low=0, high=100), fit, target, {"test": told}, seed=0)


def predicted(given, setting, solver, limit=None):
    [model] = distinct_models([setting])
    fits = SvrFits(given, solver, limit)
    fits.share(model)
    return fits.fit(model)


def sklearns(given, setting, **options):
    """The same setting by sklearn's own kernels on the dummies."""
    x, new = given.features.dummies(given.train), given.features.dummies(given.predict["test"])
    fitted = SVR(**setting, **options).fit(x, given.target)
    return fitted.predict(new)


def test_table_9_has_384_settings_and_279_distinct_models():
    settings = svr_settings(SvrGrid.model_validate("full"))
    assert len(settings) == 4 * 4 * 3 * 8 == 384
    models = distinct_models(settings)
    # linear: 4 C × 3 ε. poly: C γ³ = 2^(c + 3 g), c one of -5, -1, 3, 7 and g one of -20, -16 … 8: 4 values
    # for each g, from one g to the next 12 more, so that the last of one is the first of the next.
    by_hand = {c + 3 * g for c in (-5, -1, 3, 7) for g in range(-20, 9, 4)}
    assert len(by_hand) == 4 + 7 * 3 == 25
    assert len(models) == 12 + 25 * 3 + 96 + 96 == 279
    assert sorted(map(repr, settings)) == sorted(repr(s) for model in models for s in model.settings)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("kernel", "c", "epsilon", "gamma"),
    [
        ("linear", 0.5, 2**-6, 16.0),
        ("poly", 8.0, 2**-6, 0.0625),
        ("rbf", 0.03125, 2**-2, 0.0625),
        ("rbf", 128.0, 2**-10, 1.0),
        ("rbf", 128.0, 2**-6, 2.0**-20),
        ("sigmoid", 0.5, 2**-10, 2.0**-8),
    ],
)
def test_predictions_are_those_of_sklearn_s_own_kernels(solver, kernel, c, epsilon, gamma):
    given = problem()
    setting = {"kernel": kernel, "C": c, "epsilon": epsilon, "gamma": gamma}
    ours = predicted(given, setting, solver)
    assert ours.converged
    # Both stop where no condition is missed by more than 1e-3, in answers scaled to 0–1.
    assert ours.by_split["test"] == pytest.approx(sklearns(given, setting), abs=3e-3)


@NEEDS_NUMBA
def test_the_compiled_solver_s_objective_is_as_low_as_libsvm_s():
    given = problem(train=700)
    setting = {"kernel": "rbf", "C": 8.0, "epsilon": 2**-6, "gamma": 2**-4}
    from evsim_assets.baselines import smo

    x = given.features.dummies(given.train)
    kernel = np.exp(-setting["gamma"] * ((x[:, None] - x[None]) ** 2).sum(axis=2))
    beta, constant, steps, converged = smo.solve(
        kernel.astype(np.float32), given.target, setting["C"], setting["epsilon"], 1e-6, 10**7
    )
    theirs = SVR(**setting, tol=1e-6).fit(x, given.target)
    coefficients = np.zeros(len(x))
    coefficients[theirs.support_] = theirs.dual_coef_[0]

    def objective(b):
        return b @ kernel @ b / 2 - given.target @ b + setting["epsilon"] * np.abs(b).sum()

    assert converged and steps > 100
    assert objective(beta) == pytest.approx(objective(coefficients), abs=1e-4)
    assert constant == pytest.approx(theirs.intercept_[0], abs=1e-3)
    assert beta.sum() == pytest.approx(0, abs=1e-9) and np.abs(beta).max() <= setting["C"]


@NEEDS_NUMBA
@pytest.mark.filterwarnings("ignore:Solver terminated early")
@pytest.mark.parametrize("limit", [50, 100_000])
def test_where_a_kernel_has_many_solutions_libsvm_s_is_found(limit):
    """Saturated, the sigmoid's kernel is 0 or 1 and not positive: what is found depends on each step taken,
    ties among rows included, and on where a limit ends it."""
    given = problem()
    setting = {"kernel": "sigmoid", "C": 128.0, "epsilon": 2**-6, "gamma": 256.0}
    ours = predicted(given, setting, "numba", limit).by_split["test"]
    theirs = sklearns(given, setting, shrinking=False, max_iter=limit)
    assert np.abs(theirs).max() > 10
    assert ours == pytest.approx(theirs, abs=1e-3)


@NEEDS_NUMBA
@pytest.mark.filterwarnings("ignore:Solver terminated early")
@pytest.mark.parametrize("steps", [30, 200, 1000])
def test_every_step_is_libsvm_s(steps):
    """A step ends where a coefficient changes sign, since there its ε changes sides."""
    given = problem()
    setting = {"kernel": "rbf", "C": 2.0, "epsilon": 2**-4, "gamma": 0.25}
    ours = predicted(given, setting, "numba", steps).by_split["test"]
    assert ours == pytest.approx(sklearns(given, setting, shrinking=False, max_iter=steps), abs=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_answer_for_all_is_predicted_for_all(solver):
    given = problem()
    given = Problem(**{**vars(given), "target": np.full(len(given.train), 0.3)})
    ours = predicted(given, {"kernel": "rbf", "C": 1.0, "epsilon": 0.01, "gamma": 0.1}, solver)
    assert ours.by_split["test"] == pytest.approx(np.full(60, 0.3), abs=0.011)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_fit_that_reaches_the_limit_says_so(solver):
    setting = {"kernel": "linear", "C": 128.0, "epsilon": 2**-10, "gamma": 1.0}
    ours = predicted(problem(), setting, solver, limit=20)
    assert not ours.converged
    assert np.isfinite(ours.by_split["test"]).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_features_of_more_than_255_options_are_counted_whole(solver):
    """Dot products above 255 do not fit in a byte."""
    options = tuple(f"o{i}" for i in range(300))
    media = Demographic(name="media", column="media", options=options, several=True)
    rng = np.random.default_rng(0)
    named = [
        "; ".join(o for o, keep in zip(options, rng.random(300) < 0.95, strict=True) if keep)
        for _ in range(60)
    ]
    rows = pd.DataFrame({"media": named, "intervention": None, "answer": rng.integers(0, 101, 60)})
    features = learn_features(rows, [media])
    target = rows["answer"].to_numpy() / 100
    given = Problem(features, ("media",), Scale(low=0, high=100), rows, target, {"test": rows}, seed=0)
    setting = {"kernel": "rbf", "C": 1.0, "epsilon": 0.01, "gamma": 0.02}
    assert (features.dummies(rows).sum(axis=1) > 255).any()
    ours = predicted(given, setting, solver).by_split["test"]
    assert ours == pytest.approx(sklearns(given, setting), abs=3e-3)


def test_models_that_share_a_kernel_have_its_name_and_gamma():
    fits = SvrFits(problem())
    setting = {"kernel": "rbf", "C": 1.0, "epsilon": 0.1, "gamma": 0.5}
    same, other = Model({**setting, "C": 8.0}), Model({**setting, "gamma": 0.25})
    assert fits.sharing(Model(setting)) == fits.sharing(same) != fits.sharing(other)
