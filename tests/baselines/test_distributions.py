"""Baselines that give distributions, on simulated people whose answers follow from who they are."""

import json

import numpy as np
import pandas as pd
import pytest

from evsim_assets.baselines.curves import baseline_curves, chosen_on_validation
from evsim_assets.baselines.distributions import BoostedFits, boosted_models
from evsim_assets.baselines.features import learn_features
from evsim_assets.baselines.fits import fit_grid
from evsim_assets.baselines.problem import Problem
from evsim_assets.baselines.scoring import scored
from evsim_assets.specs.study import BoostedGrid, CatBoostGrid
from evsim_assets.specs.survey import Demographic, Scale

RATING = Scale(low=0, high=100)
AREA = Demographic(name="area", column="area", options=("Rural", "Urban"))
AGE = Demographic(name="age", column="age", options=("old", "young"))
GRID = BoostedGrid(learning_rate=(0.3,), iterations=(30,))


def people(n=1500, seed=0):
    """Rural people say 0 or 50, urban ones 50 or 100, all in heaps; ages say nothing."""
    rng = np.random.default_rng(seed)
    area = rng.choice(["Rural", "Urban"], n)
    answer = np.where(rng.random(n) < 0.5, 50, np.where(area == "Urban", 100, 0))
    return pd.DataFrame(
        {
            "question": "q",
            "intervention": None,
            "answer": answer,
            "weight": 1.0,
            "area": area,
            "age": rng.choice(["old", "young"], n),
            "split": rng.choice(["train", "validation", "test"], n, p=[0.6, 0.2, 0.2]),
        }
    )


def fit(algorithm, grid=None, table=None, **options):
    table = people() if table is None else table
    options = {"demographics": [AREA, AGE], "scales": {"q": RATING}, "seed": 0} | options
    return fit_grid(algorithm, grid, table, **options)


@pytest.mark.parametrize(("algorithm", "grid"), [("boosted", GRID), ("cells", None)])
def test_a_distribution_knows_who_says_what(algorithm, grid):
    """Given the area two answers are left: nll ln 2. Of the marginal it is ln 2 + ½ ln 2: ¼, ½ and ¼."""
    table = fit(algorithm, grid)
    test = table[table["split"] == "test"].set_index("reading")
    assert list(test.index) == ["mean", "median", "sample"]
    assert test["nll"].unique() == pytest.approx([np.log(2)], abs=0.08)
    assert (test["nll"] < 1.5 * np.log(2) - 0.2).all()
    # Mean 25 or 75: every answer is 25 away. A draw is 0 or 50 away, each half the time.
    assert test.loc["mean", "rmse"] == pytest.approx(25, abs=1)
    assert test.loc["sample", "rmse"] == pytest.approx(50 / np.sqrt(2), abs=1.5)
    assert test.loc["sample", "mae"] == pytest.approx(25, abs=1.5)
    # CRPS of two answers 50 apart, equally likely: ∫ (½)² over 50.
    assert test["crps"].unique() == pytest.approx([12.5], abs=0.7)
    assert test["kl"].nunique() == 1


def test_a_distribution_wins_on_kl_where_a_regressor_cannot():
    """Means are 25 and 75, which nobody says."""
    grid = CatBoostGrid(
        learning_rate=(0.3,),
        random_strength=(1,),
        one_hot_max_size=(25,),
        l2_leaf_reg=(3,),
        bagging_temperature=(0,),
        iterations=50,
    )
    tables = fit("boosted", GRID), fit("cells"), fit("catboost", grid)
    boosted, cells, regressor = (t.loc[t["split"] == "test", "kl"].iloc[0] for t in tables)
    assert max(boosted, cells) < 0.02 and regressor > 1


def test_cells_say_which_they_are():
    table = fit("cells")
    assert {json.dumps(json.loads(s)["cells"]) for s in table["setting"]} == {'["area"]'}
    assert (table["train_rows"] == (people()["split"] == "train").sum()).all()


def test_an_answer_never_seen_in_training_has_some_probability():
    """Its share of one answer, spread over the scale, among the training answers and one more."""
    train, test = people(60), people(5, seed=1)
    train["answer"] = np.where(train["answer"] == 100, 50, train["answer"])
    features = learn_features(train, [AREA, AGE])
    target = train["answer"].to_numpy() / 100
    problem = Problem(features, ("area", "age"), RATING, train, target, {"test": test}, seed=0)
    [model] = boosted_models(GRID)
    fits = BoostedFits(problem)
    fits.share(model)
    given = fits.fit(model).by_split["test"]
    assert given.sum(axis=1) == pytest.approx(np.ones(5))
    assert given[:, 100] == pytest.approx(np.full(5, (1 / 101) / 61 / 61))


def test_one_answer_for_all_is_a_distribution_too():
    fits = fit("boosted", GRID, people().assign(answer=50))
    test = fits[(fits["split"] == "test") & (fits["reading"] == "mean")].iloc[0]
    assert test["rmse"] < 0.1 and test["kl"] < 0.01


@pytest.mark.parametrize("scale", [Scale(low=1, high=5), Scale(low=0, high=60, step=5)])
def test_distributions_on_other_scales(scale):
    table = people()
    steps = len(scale.answers) - 1
    table["answer"] = scale.low + scale.step * (table["answer"] * steps // 100)
    fits = fit("boosted", GRID, table, scales={"q": scale})
    assert fits.loc[fits["split"] == "test", "kl"].max() < 0.03


def test_digit_distributions_are_on_the_digit_scale():
    fits = fit("boosted", GRID, answers="digit")
    # 0, 50 and 100 become 0, 5 and 9: a distance of 5 or 4, half of it either way of the mean.
    assert fits["rmse"].max() < 4 and set(fits["answers"]) == {"digit"}


def test_readings_by_hand():
    """Two people, two answers 0 and 1 (scale 0–2), given (½, ½, 0) and (0, 0, 1) when they say 0 and 1."""
    rows = pd.DataFrame({"answer": [0, 1], "weight": [3.0, 1.0]})
    given = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    read = {row["reading"]: row for row in scored(given, rows, Scale(low=0, high=2))}
    # Weights ¾ and ¼. Errors: of the mean ½ and 1; of the median 0 and 1; of a draw (0 or 1) and 1.
    assert read["mean"]["rmse"] == pytest.approx((0.75 * 0.25 + 0.25) ** 0.5)
    assert read["median"]["rmse"] == pytest.approx(0.25**0.5)
    assert read["sample"]["rmse"] == pytest.approx((0.75 * 0.5 + 0.25) ** 0.5)
    assert read["sample"]["mae"] == pytest.approx(0.75 * 0.5 + 0.25)
    # CRPS: ¼ for the first (½ below 1), 1 for the second (nothing below 2).
    assert read["mean"]["crps"] == pytest.approx(0.75 * 0.25 + 0.25)
    # People: ¾ say 0, ¼ say 1. Given: 0.375, 0.375, 0.25. W1 = |¾ − 0.375| + |1 − 0.75|.
    assert read["mean"]["w1"] == pytest.approx(0.375 + 0.25)


def test_each_reading_has_its_own_curve_and_choice():
    fits = fit("boosted", BoostedGrid(learning_rate=(0.1, 0.3), iterations=(5, 30)))
    curves = baseline_curves(fits)
    assert curves.groupby("reading").size().to_dict() == {"mean": 4, "median": 4, "sample": 4}
    chosen = chosen_on_validation(fits)
    assert sorted(zip(chosen["reading"], chosen["chosen_by"], strict=True)) == sorted(
        (reading, by) for reading in ("mean", "median", "sample") for by in ("crps", "kl", "nll", "rmse")
    )
    assert curves["chosen_by_kl"].sum() == 3
