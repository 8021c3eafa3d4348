"""Features, both regressors, the way back to answers, and the choice on validation."""

import json

import numpy as np
import pandas as pd
import pytest

from evsim_assets.baselines.curves import baseline_curves, chosen_on_validation, pareto_front
from evsim_assets.baselines.features import learn_features
from evsim_assets.baselines.fits import digit_answers, fit_grid
from evsim_assets.baselines.scoring import predicted_answers
from evsim_assets.baselines.svr import distinct_models, svr_settings
from evsim_assets.specs.study import CatBoostGrid, SvrGrid
from evsim_assets.specs.survey import Demographic, Scale

RATING = Scale(low=0, high=100)
PEOPLE = (
    Demographic(name="area", column="area", options=("Rural", "Urban")),
    Demographic(name="race", column="race", options=("A", "B", "C"), several=True),
)
SMALL_SVR = SvrGrid(kernel=("linear", "rbf"), C=(0.5,), epsilon=(0.02,), gamma=(0.1, 1.0))
SMALL_CATBOOST = CatBoostGrid(
    learning_rate=(0.1,),
    random_strength=(1,),
    one_hot_max_size=(0, 25),
    l2_leaf_reg=(3,),
    bagging_temperature=(1,),
    iterations=20,
)


def rows(n=300, seed=0):
    """Answers that follow from area and intervention, and a little noise."""
    rng = np.random.default_rng(seed)
    area, told = rng.choice(["Rural", "Urban"], n), rng.choice(["1", "2"], n)
    answer = 20 + 40 * (area == "Urban") + 20 * (told == "2") + rng.integers(-5, 6, n)
    return pd.DataFrame(
        {
            "participant": [str(i) for i in range(n)],
            "question": "q",
            "intervention": told,
            "answer": answer,
            "weight": 1.0,
            "area": area,
            "race": rng.choice(["A", "B", "A; B"], n),
            "split": rng.choice(["train", "validation", "test"], n, p=[0.6, 0.2, 0.2]),
        }
    )


def fit(algorithm, grid, table=None, **options):
    table = rows() if table is None else table
    return fit_grid(algorithm, grid, table, demographics=PEOPLE, scales={"q": RATING}, seed=0, **options)


def test_dummies_have_a_column_a_level_and_an_option():
    train = pd.DataFrame(
        {
            "area": ["Urban", "Rural", None],
            "race": ["A", "A; B", None],
            "intervention": ["1", "2", "1"],
        }
    )
    features = learn_features(train, PEOPLE)
    assert features.single == {"area": ("(none)", "Rural", "Urban"), "intervention": ("1", "2")}
    assert features.dummies(train).tolist() == [
        [0, 0, 1, 1, 0, 1, 0],
        [0, 1, 0, 0, 1, 1, 1],
        [1, 0, 0, 1, 0, 0, 0],
    ]


def test_levels_unseen_in_training_are_all_zeros():
    train = pd.DataFrame({"area": ["Urban", "Rural"], "race": ["A", "B"], "intervention": ["1", "2"]})
    unseen = pd.DataFrame({"area": ["Moon"], "race": ["C"], "intervention": ["99"]})
    features = learn_features(train, PEOPLE)
    assert features.dummies(unseen).sum() == 0
    assert features.categories(unseen).iloc[0].to_dict() == {
        "area": "Moon",
        "intervention": "99",
        "race: A": "no",
        "race: B": "no",
    }


def test_an_intervention_nobody_had_is_no_feature():
    train = pd.DataFrame({"area": ["Urban", "Rural"], "race": ["A", "B"], "intervention": [None, None]})
    assert "intervention" not in learn_features(train, PEOPLE).single


def test_a_linear_kernel_is_fitted_once_for_all_gammas():
    models = distinct_models(svr_settings(SMALL_SVR))
    assert [len(model.settings) for model in models] == [2, 1, 1]


def test_predictions_round_half_up_and_those_beyond_the_scale_are_counted():
    answers, clipped = predicted_answers(np.array([0.005, 0.0049, 0.625, -0.2, 1.004, 1.006]), RATING)
    assert answers.tolist() == [1, 0, 63, 0, 100, 100]
    assert clipped == 2
    stepped, _ = predicted_answers(np.array([0.5]), Scale(low=1, high=9, step=4))
    assert stepped.tolist() == [5]


def test_digit_answers_round_half_up():
    assert digit_answers(np.array([0, 5, 6, 50, 94, 95, 100]), RATING).tolist() == [0, 0, 1, 5, 8, 9, 9]


@pytest.mark.parametrize(("algorithm", "grid"), [("svr", SMALL_SVR), ("catboost", SMALL_CATBOOST)])
def test_a_regressor_learns_what_can_be_learnt(algorithm, grid):
    table = fit(algorithm, grid)
    # Noise alone has a standard deviation of 3.2, the answers one of 22.
    assert table[table["split"] == "test"]["rmse"].min() < 8
    assert set(table["clipped"]) == {0}


@pytest.mark.parametrize(("algorithm", "grid"), [("svr", SMALL_SVR), ("catboost", SMALL_CATBOOST)])
def test_the_same_fit_twice_is_the_same(algorithm, grid):
    first, second = fit(algorithm, grid), fit(algorithm, grid)
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))


def test_every_setting_has_a_row_for_validation_and_for_test():
    table = fit("svr", SMALL_SVR)
    assert len(table) == 2 * 4
    assert {json.loads(s)["gamma"] for s in table["setting"]} == {0.1, 1.0}
    linear = table[table["setting"].str.contains("linear") & (table["split"] == "test")]
    assert linear["rmse"].nunique() == 1


def test_training_is_limited_and_evaluation_is_not():
    table = fit("svr", SMALL_SVR, max_train_rows=100)
    assert set(table["train_rows"]) == {100}
    assert set(table["n"]) == set(rows()["split"].value_counts()[["validation", "test"]])


def test_answers_of_the_test_split_do_not_reach_the_fit():
    changed = rows()
    changed.loc[changed["split"] == "test", "answer"] = 0
    a, b = fit("svr", SMALL_SVR), fit("svr", SMALL_SVR, changed)
    same = a["split"] == "validation"
    pd.testing.assert_series_equal(a[same]["rmse"], b[same]["rmse"])


def test_random_is_the_expectation_over_uniform_answers():
    table = fit("random", None)
    test = rows()[rows()["split"] == "test"]["answer"].to_numpy()
    draws = np.random.default_rng(0).integers(0, 101, (4000, len(test)))
    row = table[table["split"] == "test"].iloc[0]
    assert row["rmse"] == pytest.approx(np.sqrt(((draws - test) ** 2).mean()), rel=0.01)


def test_digit_fits_are_on_the_digit_scale():
    table = fit("svr", SMALL_SVR, answers="digit")
    assert set(table["answers"]) == {"digit"}
    assert table["rmse"].max() < 9


def test_a_question_without_validation_answers_says_so():
    table = fit("svr", SMALL_SVR, rows().query("split != 'validation'"))
    assert table["rmse"].isna().all()
    assert set(table["reason"]) == {"no validation answers"}
    assert len(chosen_on_validation(table)) == 0


def test_progress_ends_at_one():
    seen = []
    fit("svr", SMALL_SVR, on_progress=lambda fraction, message: seen.append(fraction))
    assert seen == pytest.approx([1 / 3, 2 / 3, 1])


def test_the_pareto_front_by_hand():
    points = np.array([[1.0, 5.0], [2.0, 4.0], [2.0, 6.0], [3.0, 4.0], [4.0, 1.0], [4.0, 1.0]])
    assert pareto_front(points).tolist() == [True, True, False, False, True, True]


def fits():
    """Two settings: the first better on validation, the second on test."""
    return pd.DataFrame(
        {
            "algorithm": "svr",
            "question": "q",
            "answers": "native",
            "setting": ["a", "a", "b", "b"],
            "split": ["validation", "test"] * 2,
            "reading": "point",
            "kl": [0.1, 0.9, 0.2, 0.3],
            "rmse": [10.0, 30.0, 20.0, 15.0],
            "w1": 1.0,
            "mae": 1.0,
            "crps": np.nan,
            "nll": np.nan,
        }
    )


def test_the_setting_is_chosen_on_validation_and_reported_on_test():
    chosen = chosen_on_validation(fits()).set_index("chosen_by")
    assert chosen.loc["rmse", ["setting", "rmse", "validation_rmse"]].tolist() == ["a", 30.0, 10.0]
    assert chosen.loc["kl", ["setting", "kl"]].tolist() == ["a", 0.9]


def test_curves_hold_the_test_points():
    curves = baseline_curves(fits())
    assert curves.set_index("setting")["on_front"].to_dict() == {"a": False, "b": True}
    assert curves.set_index("setting")["chosen_by_kl"].to_dict() == {"a": True, "b": False}
