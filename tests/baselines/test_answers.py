"""What chosen baselines say is kept, and is what they were chosen by; parts without a model; failed fits."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.baselines.answers import ANSWER_COLUMNS, SETTING, chosen_answers, recomputed
from evsim_assets.baselines.assets import fits_counted
from evsim_assets.baselines.curves import baseline_curves, chosen_on_validation, not_chosen
from evsim_assets.baselines.curves_figure import curves_figure
from evsim_assets.baselines.fits import FIT_COLUMNS, fit_grid
from evsim_assets.baselines.scoring import scored
from evsim_assets.metrics.contestants import one_reading
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Baselines, BoostedGrid, CatBoostGrid, SvrGrid
from evsim_assets.specs.survey import DIGITS, Demographic, Scale

RATING, SHORT = Scale(low=0, high=100), Scale(low=1, high=5)
AREA = Demographic(name="area", column="area", options=("Rural", "Urban"))
SVR = SvrGrid(kernel=("linear", "rbf"), C=(0.5, 8), epsilon=(0.02,), gamma=(0.1, 1.0))
BOOSTED = BoostedGrid(learning_rate=(0.1, 0.3), iterations=(5, 10))
GRIDS = {
    "svr": SVR,
    "catboost": CatBoostGrid(
        learning_rate=(0.1, 0.5),
        random_strength=(1,),
        one_hot_max_size=(25,),
        l2_leaf_reg=(3,),
        bagging_temperature=(1,),
        iterations=10,
    ),
    "boosted": BOOSTED,
    "cells": None,
    "random": None,
}


def rows(n=240, seed=0, scale=RATING):
    rng = np.random.default_rng(seed)
    area, told = rng.choice(["Rural", "Urban"], n), rng.choice(["1", "2"], n)
    answer = 20 + 40 * (area == "Urban") + 20 * (told == "2") + rng.integers(-15, 16, n)
    return pd.DataFrame(
        {
            "participant": [f"p{i // 2}" for i in range(n)],
            "order": [i % 2 for i in range(n)],
            "question": "q",
            "intervention": told,
            "answer": answer if scale == RATING else 1 + answer // 24,
            "weight": np.where(np.arange(n) % 9 == 0, 0.0, rng.uniform(0.5, 2, n)),
            "area": area,
            "split": np.repeat(rng.choice(["train", "validation", "test"], n // 2, p=[0.5, 0.2, 0.3]), 2),
        }
    )


def options(algorithm, table=None, scale=RATING, **given):
    table = rows(scale=scale) if table is None else table
    common = {"demographics": [AREA], "scales": {"q": scale}, "seed": 0}
    return (algorithm, GRIDS[algorithm]), table, common | given


def chosen_and_kept(algorithm, table=None, scale=RATING, **given):
    who, table, common = options(algorithm, table, scale, **given)
    choices = one_reading(chosen_on_validation(fit_grid(*who, table, **common)))
    return choices, chosen_answers(*who, choices, table, **common)


@pytest.mark.parametrize("algorithm", list(GRIDS))
def test_what_is_kept_has_the_figures_that_were_chosen_by(algorithm):
    choices, kept = chosen_and_kept(algorithm)
    assert list(kept.columns) == ANSWER_COLUMNS
    same = recomputed(kept, choices, {("q", "native"): RATING})
    assert len(same) == 2 * len(choices) > 0 and same["equal"].all()
    assert same["kept"].to_numpy() == pytest.approx(same["chosen"].to_numpy(), abs=1e-5)
    test = rows().query("split == 'test' and weight > 0")
    settings = kept[SETTING].drop_duplicates()
    assert len(settings) == choices["setting"].nunique() and len(kept) == len(settings) * len(test)
    keys = kept.groupby("setting")[["participant", "order"]].apply(lambda t: list(map(tuple, t.to_numpy())))
    assert all(key == list(map(tuple, test[["participant", "order"]].to_numpy())) for key in keys)
    given = np.stack(kept["probabilities"].to_list())
    assert given.dtype == np.float32 and given.sum(axis=1) == pytest.approx(np.ones(len(given)), abs=1e-5)


def test_a_regressor_is_kept_unrounded_with_its_nearest_answer():
    _, kept = chosen_and_kept("svr")
    assert (kept["prediction"] % 1 > 0).any() and kept["prediction"].between(0, 100).all()
    given = np.stack(kept["probabilities"].to_list())
    assert set(np.unique(given)) == {0.0, 1.0} and set(kept["reading"]) == {"point"}
    assert given.argmax(axis=1).tolist() == np.floor(kept["prediction"] + 0.5).tolist()
    _, distributions = chosen_and_kept("cells")
    assert distributions["prediction"].isna().all() and set(distributions["reading"]) == {"distribution"}


def test_digits_are_kept_on_their_scale():
    choices, kept = chosen_and_kept("svr", answers="digit")
    assert kept["answer"].max() <= 9 and set(kept["answers"]) == {"digit"}
    assert recomputed(kept, choices, {("q", "digit"): DIGITS})["equal"].all()


def test_other_answers_than_those_chosen_by_are_noticed():
    choices, kept = chosen_and_kept("svr")
    other = kept.assign(prediction=kept["prediction"] + 1)
    same = recomputed(other, choices, {("q", "native"): RATING})
    assert (
        not same.loc[same["measure"] == "rmse", "equal"].any()
        and same.loc[same["measure"] == "kl", "equal"].all()
    )
    nothing = recomputed(kept.iloc[:0], choices, {("q", "native"): RATING})
    assert not nothing["equal"].any() and nothing["kept"].isna().all()


def test_a_setting_that_is_no_longer_in_the_grid_is_refused():
    who, table, common = options("svr")
    choices = one_reading(chosen_on_validation(fit_grid(*who, table, **common)))
    with pytest.raises(BadInput, match="is not in the grid"):
        chosen_answers(
            "svr", SvrGrid(kernel=("linear",), C=(3,), epsilon=(1,), gamma=(1,)), choices, table, **common
        )


def test_kept_answers_are_taken_up_again(tmp_path):
    who, table, common = options("boosted")
    choices = one_reading(chosen_on_validation(fit_grid(*who, table, **common)))
    first = chosen_answers(*who, choices, table, work=tmp_path, **common)
    files = {path: path.stat().st_ino for path in tmp_path.rglob("*.parquet")}
    told = []
    again = chosen_answers(*who, choices, table, work=tmp_path, say=told.append, **common)
    count = choices["setting"].nunique()
    assert told == [f"q: {count} of {count} fits are there from an earlier run"]
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*.parquet")} == files
    pd.testing.assert_frame_equal(first, again)
    pd.testing.assert_frame_equal(first, chosen_answers(*who, choices, table, **common))


def test_errors_are_of_the_prediction_and_the_population_of_the_nearest_answer():
    """On 1–5, predictions 2.4, 3.5 and beyond the end, of people who say 2, 4 and 5."""
    people = pd.DataFrame({"answer": [2, 4, 5], "weight": [1.0, 1.0, 2.0]})
    (row,) = scored(np.array([1.4, 2.5, 4.8]) / 4, people, SHORT)
    # Errors 0.4, 0.5 and, at the end of the scale, 0; weights ¼, ¼, ½.
    assert row["rmse"] == pytest.approx(((0.4**2 + 0.5**2) / 4) ** 0.5)
    assert row["mae"] == pytest.approx(0.9 / 4)
    assert (row["clipped"], row["kl"], row["w1"]) == (1, 0, 0)


def test_rounding_would_cost_on_a_short_scale():
    """A constant 3.4 of people who say 3 or 4, two of five the latter: √(0.6 · 0.4² + 0.4 · 0.6²)."""
    people = pd.DataFrame({"answer": [3, 3, 3, 4, 4], "weight": 1.0})
    (row,) = scored(np.full(5, 2.4 / 4), people, SHORT)
    assert row["rmse"] == pytest.approx(0.24**0.5)  # rounded to 3: √0.4


def test_a_part_without_a_model_is_an_empty_table_of_the_same_columns():
    """96 settings of a linear kernel are one model, since gamma is idle: one of two parts has none."""
    grid = SvrGrid(kernel=("linear",), C=(0.5,), epsilon=(0.02,), gamma=tuple(2.0**k for k in range(-48, 48)))
    assert Baselines(svr=grid).parts == ("cells", "random", "svr-1-of-2", "svr-2-of-2")
    common = {"demographics": [AREA], "scales": {"q": RATING}, "seed": 0}
    empty, whole = (fit_grid("svr", grid, rows(), part=(k, 2), **common) for k in (1, 2))
    assert len(empty) == 0 and len(whole) == 2 * 96 and list(empty.columns) == FIT_COLUMNS
    told = [column for column in FIT_COLUMNS if column not in ("reading", "reason")]
    assert empty[told].dtypes.astype(str).tolist() == whole[told].dtypes.astype(str).tolist()
    assert fits_counted(empty) == {"settings": 0, "failed": 0, "not_converged": 0, "without_answers": 0}
    together = pd.concat([empty, whole], ignore_index=True)
    pd.testing.assert_frame_equal(chosen_on_validation(together), chosen_on_validation(whole))


def test_fits_that_failed_are_told_from_questions_without_answers():
    table = fit_grid("svr", SVR, rows(), demographics=[AREA], scales={"q": RATING}, seed=0)
    assert fits_counted(table) == {"settings": 8, "failed": 0, "not_converged": 0, "without_answers": 0}
    first = table["setting"] == table["setting"].iloc[0]
    table.loc[first, ["reason", "reading"]] = ["the fit failed", None]
    table.loc[table["setting"] == table["setting"].iloc[-1], "converged"] = False
    assert fits_counted(table) == {"settings": 8, "failed": 1, "not_converged": 1, "without_answers": 0}
    none = fit_grid(
        "svr", SVR, rows().query("split != 'validation'"), demographics=[AREA], scales={"q": RATING}, seed=0
    )
    assert fits_counted(none) == {"settings": 8, "failed": 0, "not_converged": 0, "without_answers": 8}
    lost = not_chosen(pd.concat([table, none.assign(question="r")]), chosen_on_validation(table))
    assert lost.to_dict("records") == [
        {"algorithm": "svr", "question": "r", "answers": "native", "reason": "no validation answers"}
    ]


def test_the_fronts_are_a_picture():
    tables = [
        fit_grid(name, GRIDS[name], rows(), demographics=[AREA], scales={"q": RATING}, seed=0)
        for name in ("svr", "cells", "random")
    ]
    curves = baseline_curves(pd.concat(tables, ignore_index=True))
    png = curves_figure(curves, title="A study", simulated=True)
    assert png.startswith(b"\x89PNG") and png != curves_figure(curves, title="A study", simulated=False)
