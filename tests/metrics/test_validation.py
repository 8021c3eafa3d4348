"""Adapters are scored on validation as on test, and chosen by that alone."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy, wasserstein_distance

from evsim_assets.metrics.agreement import score
from evsim_assets.metrics.chosen import NONE_COMPLETE, chosen_adapters, chosen_temperatures
from evsim_assets.metrics.validation import NEVER_ANSWERED, NO_WEIGHT, validation_scores
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AdapterSpec
from tests.metrics.simulated_survey import a_survey

NATIVE = AdapterSpec(model="s", method="qlora").factors
HUMAN = [0, 2, 4]
MODEL = [[0.5, 0.5, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0.2, 0.6]]
"""Given success: means 0.5, 2, 3.75; medians 0, 2, 4. The last one says no number one time in five."""


def prompts(answers=HUMAN, split="validation", weights=1.0, **columns):
    named = {"prompt_id": [f"{split}{i}" for i in range(len(answers))]}
    table = pd.DataFrame({**named, "participant": named["prompt_id"], "answer": answers, "weight": weights})
    alike = {"split": split, "question": "q", "order": 0, "template": "default", "low": 0, "high": 4}
    digits = pd.array([None] * len(answers), dtype="Int64")
    return table.assign(**alike, step=1, labels=None, answer_digit=digits).assign(**columns)


def distributions(rows=MODEL, temperature=1.0, split="validation"):
    return pd.DataFrame(
        {
            "prompt_id": [f"{split}{i}" for i in range(len(rows))],
            "temperature": temperature,
            "probabilities": [np.asarray(r, dtype=np.float64) for r in rows],
            "off_scale": 0.0,
            "no_number": 1 - np.sum(rows, axis=1),
            "unexpanded": 0.0,
        }
    )


def by_point(table):
    return table.set_index("point_answer")


def test_scores_are_those_computed_by_hand():
    table = validation_scores(prompts(), distributions(), NATIVE)
    assert table["point_answer"].tolist() == ["sample", "mean", "median"]
    found = by_point(table)
    assert found["rmse"].to_dict() == pytest.approx(
        {
            "sample": np.sqrt((0.5 + 0 + 0.2) / 2.8),  # Σ p (a − answer)² over all that is answered
            "mean": np.sqrt((0.5**2 + 0 + 0.25**2) / 3),
            "median": 0,
        }
    )
    assert found["mae"].to_dict() == pytest.approx({"sample": 0.7 / 2.8, "mean": 0.25, "median": 0})
    human, model = np.array([1, 0, 1, 0, 1]), np.array([0.5, 0.5, 1, 0.2, 0.6])
    for _, row in found.iterrows():
        assert row["kl"] == pytest.approx(entropy(human + 0.5, model / 2.8 * 3 + 0.5))
        assert row["w1"] == pytest.approx(wasserstein_distance(range(5), range(5), human, model))
        assert row["crps"] == pytest.approx((0.25 + 0 + 0.0625) / 3)
        said = np.array([0.5, 1, 0.75])
        assert row["nll"] == pytest.approx(-np.log(0.99 * said + 0.01 / 5).mean())
        assert row["success_rate"] == pytest.approx(2.8 / 3)
    assert (table["n"] == 3).all() and (table["n_failed"] == 0).all() and table["reason"].isna().all()
    assert table[list(NATIVE)].iloc[0].dropna().to_dict() == {
        k: v for k, v in NATIVE.items() if v is not None
    }


def test_people_count_by_their_survey_weights():
    found = by_point(validation_scores(prompts(weights=[2.0, 1.0, 1.0]), distributions(), NATIVE))
    assert found.loc["mean", "rmse"] == pytest.approx(np.sqrt((2 * 0.25 + 0 + 0.0625) / 4))
    assert found.loc["sample", "rmse"] == pytest.approx(np.sqrt((2 * 0.5 + 0 + 0.2) / 3.8))
    assert found.loc["mean", "w1"] == pytest.approx(
        wasserstein_distance(range(5), range(5), [2, 0, 1, 0, 1], [1, 1, 1, 0.2, 0.6])
    )


def test_a_prompt_that_is_hardly_ever_answered_has_failed_and_is_counted():
    silent = [MODEL[0], MODEL[1], [0, 0, 0, 0, 5e-4]]
    found = by_point(validation_scores(prompts(), distributions(silent), NATIVE))
    assert found.loc["mean", ["n", "n_failed"]].tolist() == [2, 1]
    assert found.loc["mean", "rmse"] == pytest.approx(np.sqrt(0.25 / 2))
    assert found.loc["sample", "rmse"] == pytest.approx(np.sqrt(0.5 / 2))
    nothing = validation_scores(prompts(), distributions(np.zeros((3, 5))), NATIVE)
    assert nothing[["kl", "rmse", "crps"]].isna().all(axis=None) and (nothing["success_rate"] == 0).all()
    assert set(nothing["reason"]) == {NEVER_ANSWERED} and (nothing["n_failed"] == 3).all()


def test_only_validation_answers_in_the_adapter_s_own_wording_count():
    others = [
        prompts([4, 0, 0], split="test"),
        prompts([4, 0, 0], split="held_out", held_out="intervention"),
        prompts([4, 0, 0]).assign(template="other", prompt_id=["x", "y", "z"]),
    ]
    alone = validation_scores(prompts(), distributions(), NATIVE)
    among = validation_scores(
        pd.concat([*others, prompts()]).sample(frac=1, random_state=0), distributions(), NATIVE
    )
    pd.testing.assert_frame_equal(among, alone)


def test_answers_without_weight_have_a_reason_and_a_prompt_that_was_not_read_is_refused():
    weightless = prompts(weights=0.0).assign(question="r", prompt_id=["a", "b", "c"], order=1)
    table = validation_scores(pd.concat([prompts(), weightless]), distributions(), NATIVE)
    assert table["question"].tolist() == ["q"] * 3 + ["r"] * 3
    assert table.loc[table["question"] == "r", "reason"].tolist() == [NO_WEIGHT] * 3
    with pytest.raises(BadInput, match="have no answer distribution"):
        validation_scores(prompts([0, 2, 4, 1]), distributions(), NATIVE)


def test_the_same_people_score_on_validation_what_they_would_on_test():
    tested, people, read, _ = a_survey(40, 3, 7, weights=True)
    on_test = score(tested, people, read, (), NATIVE, seed=0, resamples=2).metrics
    on_test = on_test[on_test["demographic"] == "all"].set_index(["point_answer", "measure"])["value"]
    found = by_point(validation_scores(tested.assign(split="validation"), read, NATIVE))
    for measure in ("kl", "w1", "crps", "nll", "success_rate"):
        assert found[measure].tolist() == pytest.approx([on_test["none", measure]] * 3, rel=1e-6)
    for point in ("mean", "median"):
        assert found.loc[point, "rmse"] == pytest.approx(on_test[point, "rmse"], rel=1e-6)


def test_many_draws_score_what_is_expected_of_a_draw():
    tested, people, read, _ = a_survey(30, 2, 11)
    rng = np.random.default_rng(0)
    drawn = []
    for prompt, p in zip(read["prompt_id"], read["probabilities"], strict=True):
        masses = np.append(p, 1 - p.sum()).clip(0)
        said = rng.choice(12, size=4000, p=masses / masses.sum())
        drawn.append(pd.DataFrame({"prompt_id": prompt, "answer": said, "replicate": np.arange(4000)}))
    table = pd.concat(drawn).assign(temperature=1.0, question="q", made_by="distribution")
    table["success"] = table["answer"] < 11
    table["answer"] = table["answer"].astype("Int64").mask(~table["success"])
    on_test = score(tested, people, read, table, NATIVE, seed=0, resamples=2).metrics
    on_test = on_test[on_test["demographic"] == "all"].set_index(["point_answer", "measure"])["value"]
    found = by_point(validation_scores(tested.assign(split="validation"), read, NATIVE))
    for measure in ("rmse", "mae"):
        assert found.loc["sample", measure] == pytest.approx(on_test["sample", measure], rel=0.01)


# --- what is chosen ------------------------------------------------------------------------------


def scores(*rows):
    """Rows of adapter, temperature, point answer, kl, rmse, crps, nll, failures out of 10."""
    names = ["adapter", "temperature", "point_answer", "kl", "rmse", "crps", "nll", "n_failed"]
    table = pd.DataFrame(rows, columns=names).assign(question="q", answers="native")
    return table.assign(n=10 - table["n_failed"])


def picked(table, place="chosen_by"):
    return {
        row[place]: (row["adapter"], row["temperature"], row.get("point_answer"))
        for row in table.to_dict("records")
    }


def test_each_measure_has_its_lowest():
    table = scores(
        ("a", 0.5, "sample", 0.30, 40.0, 17.0, 3.5, 0),
        ("a", 0.5, "mean", 0.30, 30.0, 17.0, 3.5, 0),
        ("a", 1.0, "sample", 0.10, 42.0, 16.0, 3.6, 0),
        ("a", 1.0, "mean", 0.10, 30.6, 16.0, 3.6, 0),
        ("b", 1.0, "sample", 0.01, 43.0, 18.0, 3.4, 0),
        ("b", 1.0, "mean", 0.01, 30.7, 18.0, 3.4, 0),
        ("b", 1.0, "median", 0.01, 29.0, 18.0, 3.4, 0),
    )
    chosen = chosen_adapters(table)
    assert picked(chosen) == {
        "kl": ("b", 1.0, "sample"),
        "rmse": ("b", 1.0, "median"),
        "crps": ("a", 1.0, "sample"),
        "nll": ("b", 1.0, "sample"),
    }
    by_crps = chosen.set_index("chosen_by").loc["crps"]
    assert by_crps[
        ["validation_kl", "validation_rmse", "validation_crps", "validation_nll", "n"]
    ].tolist() == [
        0.10,
        42.0,
        16.0,
        3.6,
        10,
    ]
    temperatures = picked(chosen_temperatures(table), "adapter")
    assert {name: row[1] for name, row in temperatures.items()} == {"a": 1.0, "b": 1.0}


def test_ties_go_to_the_first_in_the_study_s_order():
    tie = ("mean", 0.1, 30.0, 17.0, 3.5, 0)
    table = scores(("z", 1.0, *tie), ("z", 2.0, *tie), ("a", 0.5, *tie))
    assert set(picked(chosen_adapters(table)).values()) == {("z", 1.0, "mean")}
    assert picked(chosen_temperatures(table), "adapter")["z"][1] == 1.0


def test_who_leaves_prompts_unanswered_is_chosen_only_where_everybody_does():
    table = scores(
        ("a", 1.0, "mean", 0.01, 20.0, 10.0, 2.0, 3),
        ("b", 1.0, "mean", 0.20, 30.0, 17.0, 3.5, 0),
        ("c", 1.0, "mean", np.nan, np.nan, np.nan, np.nan, 10),
    )
    chosen = chosen_adapters(table)
    assert set(picked(chosen).values()) == {("b", 1.0, "mean")} and chosen["reason"].isna().all()
    doubtful = chosen_adapters(table[table["adapter"] != "b"])
    assert set(picked(doubtful).values()) == {("a", 1.0, "mean")}
    assert set(doubtful["reason"]) == {NONE_COMPLETE} and set(doubtful["n"]) == {7}
    assert chosen_adapters(table[table["adapter"] == "c"]).empty


def test_questions_and_answer_scales_are_chosen_for_apart():
    one, other = ("a", 1.0, "mean", 0.1, 30.0, 17.0, 3.5, 0), ("b", 1.0, "mean", 0.2, 31.0, 18.0, 3.6, 0)
    table = pd.concat(
        [scores(one, other), scores(other).assign(question="r"), scores(other).assign(answers="digit")]
    )
    by_kl = chosen_adapters(table).query("chosen_by == 'kl'").set_index(["question", "answers"])
    expected = {("q", "native"): "a", ("r", "native"): "b", ("q", "digit"): "b"}
    assert by_kl["adapter"].to_dict() == expected
