"""Floors, null models and the scoreboard that holds adapters against them."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.metrics.agreement import score
from evsim_assets.metrics.noise_floor import noise_floor
from evsim_assets.metrics.nulls import score_nulls
from evsim_assets.metrics.scoreboard import gap_closed, scoreboard
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AdapterSpec

CHOSEN = pd.DataFrame(
    {
        "algorithm": ["svr", "catboost", "svr", "catboost"],
        "question": "q",
        "answers": "native",
        "chosen_by": ["rmse", "rmse", "kl", "kl"],
        "setting": "{}",
        "validation_kl": [2.0, 1.0, 0.2, 0.4],
        "validation_rmse": [20.0, 25.0, 30.0, 31.0],
        "kl": [2.1, 1.1, 0.5, 0.3],
        "rmse": [28.0, 24.0, 33.0, 34.0],
        "w1": 1.0,
    }
)


def survey(people=2000, each=1, seed=0):
    """People with `each` answers that agree within a person; a tenth of them test."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), each)
    answer = rng.choice([0, 10, 30, 50, 80, 100], people, p=[0.1, 0.1, 0.2, 0.3, 0.2, 0.1])[person]
    split = np.where(person < people // 10, "test", "train")
    return pd.DataFrame(
        {
            "prompt_id": [f"{p}-{i % each}" for i, p in enumerate(person)],
            "participant": person.astype(str),
            "wave": "w1",
            "split": split,
            "held_out": None,
            "question": "q",
            "template": "default",
            "weight": 1.0,
            "order": np.arange(len(person)) % each,
            "answer": answer,
            "answer_digit": pd.array([None] * len(person), dtype="Int64"),
            "low": 0,
            "high": 100,
            "step": 1,
            "labels": None,
        }
    )


def floor_of(table, measure):
    return table[table["measure"] == measure].iloc[0]


def sampled_simulator(prompts, probabilities, model="s", method="qlora", seed=1, template="default"):
    """Metrics of a model whose answers are one draw a prompt from the same distribution."""
    rng = np.random.default_rng(seed)
    test = prompts[prompts["split"] == "test"]
    drawn = rng.choice(101, len(test), p=probabilities)
    read = pd.DataFrame(
        {
            "prompt_id": test["prompt_id"],
            "temperature": 1.0,
            "probabilities": list(np.eye(101)[drawn]),
            "off_scale": 0.0,
            "no_number": 0.0,
            "unexpanded": 0.0,
        }
    )
    said = pd.DataFrame(
        {
            "prompt_id": test["prompt_id"],
            "temperature": 1.0,
            "replicate": 0,
            "answer": pd.array(drawn, dtype="Int64"),
            "success": True,
            "made_by": "distribution",
        }
    )
    return score(prompts, read, said, AdapterSpec(model=model, method=method, template=template).factors)


TRUTH = np.zeros(101)
TRUTH[[0, 10, 30, 50, 80, 100]] = [0.1, 0.1, 0.2, 0.3, 0.2, 0.1]


def test_a_perfect_simulator_lies_at_the_floor_and_a_uniform_one_far_above():
    prompts = survey()
    floors, nulls = noise_floor(prompts, seed=0), score_nulls(prompts)
    uniform = nulls[(nulls["null"] == "uniform") & (nulls["measure"] == "kl")]["value"].iloc[0]
    kls = []
    for seed in range(20):
        table = sampled_simulator(prompts, TRUTH, seed=seed)
        kls.append(table[table["measure"] == "kl"]["value"].iloc[0])
    low, high = floor_of(floors, "kl")["floor_low"], floor_of(floors, "kl")["floor_high"]
    assert low < np.mean(kls) < high
    assert uniform > 5 * high


def test_the_kl_floor_is_what_theory_says_of_two_samples():
    # Two multinomial samples of n over k bins: E[KL] ≈ (k − 1)/n; six of the eleven bins are in use.
    floor = floor_of(noise_floor(survey(4000), seed=0), "kl")["floor"]
    assert floor == pytest.approx(5 / 400, rel=0.25)


def test_a_persons_answers_stay_together():
    # Five equal answers a person carry the noise of one: the floor is that of the number of people.
    one = floor_of(noise_floor(survey(each=1), seed=0), "w1")["floor"]
    five = floor_of(noise_floor(survey(each=5), seed=0), "w1")["floor"]
    assert five == pytest.approx(one, rel=0.02)


def test_the_floor_is_the_same_every_time_and_other_for_another_seed():
    prompts = survey(300)
    first, again, other = (noise_floor(prompts, seed=s, resamples=20) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert floor_of(first, "kl")["floor"] != floor_of(other, "kl")["floor"]


def test_the_groups_are_disjoint_even_where_test_is_most_of_the_study():
    prompts = survey(10)
    prompts["split"] = "test"
    table = noise_floor(prompts, seed=0, resamples=10)
    assert set(table["n"]) == {5}


def test_individual_measures_have_no_floor_and_say_why():
    row = floor_of(noise_floor(survey(100), seed=0, resamples=5), "rmse")
    assert np.isnan(row["floor"]) and "nobody answers" in row["reason"]


def test_a_study_without_test_participants_has_no_floor():
    prompts = survey(100)
    prompts["split"] = "train"
    with pytest.raises(BadInput, match="one of them in the test split"):
        noise_floor(prompts, seed=0)


def test_null_models_by_hand():
    prompts = survey(20).head(4)
    prompts["answer"], prompts["high"] = [0, 4, 1, 1], 4
    prompts["split"] = ["test", "test", "train", "train"]
    nulls = score_nulls(prompts).set_index(["null", "point_answer", "measure"])["value"]
    assert nulls["uniform", "mean", "rmse"] == pytest.approx(2)
    assert nulls["uniform", "sample", "rmse"] == pytest.approx(np.sqrt(4 + 2))
    assert nulls["population_marginal", "sample", "rmse"] == pytest.approx(np.sqrt((1 + 9) / 2))
    assert nulls["population_marginal", "none", "w1"] == pytest.approx((1 + 3) / 2)


def test_gap_closed_is_none_at_the_base_and_all_at_the_floor():
    assert gap_closed(10, 10, 2) == 0
    assert gap_closed(10, 2, 2) == 1
    assert gap_closed(10, 6, 2) == 0.5
    assert np.isnan(gap_closed(1, 0.5, 2))


def test_the_scoreboard_holds_each_adapter_against_everything():
    prompts = survey()
    skewed = np.zeros(101)
    skewed[0] = 1.0
    metrics = pd.concat(
        [
            sampled_simulator(prompts, skewed, method="pretrained"),
            sampled_simulator(prompts, TRUTH),
            sampled_simulator(prompts, TRUTH, model="m"),
        ]
    )
    floors, nulls = noise_floor(prompts, seed=0), score_nulls(prompts)
    board = scoreboard(metrics, floors, nulls, CHOSEN).set_index("adapter")
    assert list(board.index) == ["s~pretrained", "s~qlora", "m~qlora"]
    tuned = board.loc["s~qlora"]
    floor = floor_of(floors, "w1")["floor"]
    before = board.loc["s~pretrained", "w1"]
    assert tuned["floor_w1"] == floor
    assert tuned["gap_closed_w1_pretrained"] == pytest.approx((before - tuned["w1"]) / (before - floor))
    assert board.loc["s~pretrained", "gap_closed_w1_pretrained"] == 0
    assert np.isnan(board.loc["m~qlora", "gap_closed_w1_pretrained"])  # its own pretrained model is not there
    assert tuned["success_rate"] == 1


def test_a_model_is_held_against_its_pretrained_self_in_the_same_wording():
    prompts = survey(200)
    plain = prompts.assign(template="plain")
    skewed = np.zeros(101)
    skewed[0] = 1.0
    metrics = pd.concat(
        [
            sampled_simulator(prompts, skewed, method="pretrained"),
            sampled_simulator(prompts, TRUTH),
            sampled_simulator(plain, TRUTH, template="plain"),
        ]
    )
    floors, nulls = noise_floor(prompts, seed=0, resamples=5), score_nulls(prompts)
    board = scoreboard(metrics, floors, nulls, CHOSEN).set_index("adapter")
    assert board["template"].tolist() == ["default", "default", "plain"]
    gaps = board["gap_closed_w1_pretrained"]
    assert gaps["s~qlora"] > 0.5 and np.isnan(gaps["s~qlora~template-plain"])


def test_the_best_baseline_is_the_best_on_validation_not_on_test():
    prompts = survey(200)
    floors = noise_floor(prompts, seed=0, resamples=5)
    board = scoreboard(sampled_simulator(prompts, TRUTH), floors, score_nulls(prompts), CHOSEN)
    row = board.iloc[0]
    assert (row["best_baseline_rmse"], row["best_baseline_rmse_by"]) == (28.0, "svr")
    assert (row["best_baseline_kl"], row["best_baseline_kl_by"]) == (0.5, "svr")
