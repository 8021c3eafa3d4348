"""Survey weights, several wordings and held-out answers: who counts, and how often."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evsim_assets.metrics.agreement import population_histograms
from evsim_assets.metrics.agreement import score as score_all
from evsim_assets.metrics.human_answers import each_answer_once, human_answers
from evsim_assets.metrics.measures import spearman
from evsim_assets.metrics.noise_floor import noise_floor as floors_of
from evsim_assets.metrics.nulls import score_nulls as nulls_of
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AdapterSpec

NATIVE = AdapterSpec(model="s", method="qlora").factors
PLAIN = AdapterSpec(model="s", method="qlora", template="plain").factors


def prompts(answers, split="test", weights=1.0, ids=None, high=4):
    n = len(answers)
    people = [f"{split}{i}" for i in range(n)] if ids is None else ids
    return pd.DataFrame(
        {
            "prompt_id": [f"{p}-0" for p in people],
            "participant": people,
            "wave": "w1",
            "split": split,
            "held_out": None,
            "question": "q",
            "order": 0,
            "intervention": None,
            "template": "default",
            "weight": weights,
            "answer": answers,
            "answer_digit": pd.array([None] * n, dtype="Int64"),
            "low": 0,
            "high": high,
            "step": 1,
            "labels": None,
        }
    )


def simulated(asked, seed=0):
    """Random distributions over 0–4 with some mass on no number, and two generations a prompt."""
    rng = np.random.default_rng(seed)
    masses = rng.dirichlet(np.ones(6), len(asked))
    read = pd.DataFrame(
        {
            "prompt_id": asked["prompt_id"],
            "temperature": 1.0,
            "probabilities": list(masses[:, :5]),
            "off_scale": 0.0,
            "no_number": masses[:, 5],
            "unexpanded": 0.0,
        }
    )
    parts = []
    for replicate in range(2):
        decoded = rng.random(len(asked)) < masses[:, 5]
        said = rng.integers(0, 5, len(asked))
        fails = decoded & (rng.random(len(asked)) < 0.5)
        parts.append(
            pd.DataFrame(
                {
                    "prompt_id": asked["prompt_id"],
                    "question": "q",
                    "temperature": 1.0,
                    "replicate": replicate,
                    "answer": pd.array(np.where(fails, -1, said), dtype="Int64"),
                    "success": ~fails,
                    "made_by": np.where(decoded, "decode", "distribution"),
                }
            )
        )
    return read, pd.concat(parts, ignore_index=True)


def people(weights):
    answers = np.random.default_rng(1).integers(0, 5, 60)
    return prompts(answers, weights=weights)


def nothing_known(asked):
    return pd.DataFrame({"participant": asked["participant"].unique()})


def score(asked, read, drawn, factors):
    return score_all(asked, nothing_known(asked), read, drawn, factors, seed=0, resamples=20).metrics


def score_nulls(asked):
    return nulls_of(asked, nothing_known(asked), [], seed=0)


def noise_floor(asked, seed, resamples):
    return floors_of(asked, nothing_known(asked), [], seed, resamples)


def repeated(table, times):
    """Every row as often as `times` says, as prompts of their own."""
    rows = table.loc[table.index.repeat(times)].copy()
    copy = rows.groupby(level=0).cumcount().astype(str)
    return rows.assign(prompt_id=rows["prompt_id"] + "/" + copy).reset_index(drop=True)


def values(table):
    return table.set_index(["point_answer", "measure"])["value"]


def test_an_answer_of_weight_three_counts_as_three_answers_do():
    times = np.random.default_rng(2).integers(1, 4, 60)
    asked = people(times.astype(float))
    read, said = simulated(asked)
    weighted = values(score(asked, read, said, NATIVE))
    copies = repeated(read, times), repeated(said, np.tile(times, 2))
    plain = values(score(repeated(asked, times).assign(weight=1.0), *copies, NATIVE))
    smoothed = ["kl", "kl_corrected"]  # by half a count, and there are more counts
    same = [key for key in weighted.index if key[1] not in [*smoothed, "n_failed"]]
    assert weighted[same].to_numpy(float) == pytest.approx(plain[same].to_numpy(float), nan_ok=True)
    told = {"w1", "sd_ratio", "crps", "nll", "spearman", "rmse", "mae", "success_rate", "no_number"}
    assert told <= {measure for _, measure in same}


def test_weighted_kl_is_scipys_of_the_weighted_counts_brought_to_as_many_as_there_are_answers():
    weights = np.random.default_rng(3).uniform(1e5, 9e6, 60)  # each stands for so many people
    asked = people(weights)
    read, said = simulated(asked)
    read["no_number"], read["off_scale"] = 0.0, read["no_number"]
    table = values(score(asked, read, said.assign(made_by="distribution"), NATIVE))
    shares = weights / weights.sum()
    human = np.array([shares[asked["answer"] == a].sum() for a in range(5)])
    exact = (shares[:, None] * np.stack(read["probabilities"])).sum(0)
    model = exact / exact.sum()
    assert table["none", "kl"] == pytest.approx(stats.entropy(60 * human + 0.5, 60 * model + 0.5))
    assert table["none", "success_rate"] == pytest.approx(exact.sum())
    histogram = population_histograms(asked, read, said.assign(made_by="distribution"), NATIVE)
    assert histogram["human"].to_numpy() == pytest.approx(60 * human)
    nulls = score_nulls(asked).set_index(["null", "point_answer", "measure"])["value"]
    errors = ((asked["answer"] - 2) ** 2 * shares).sum()
    assert nulls["uniform", "mean", "rmse"] == pytest.approx(np.sqrt(errors))
    assert nulls["uniform", "none", "tv"] == pytest.approx(np.abs(human - 0.2).sum() / 2)


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_equal_weights_change_not_a_bit(factor):
    asked = people(factor)
    read, said = simulated(asked)
    one = score(people(1.0), read, said, NATIVE)
    pd.testing.assert_frame_equal(score(asked, read, said, NATIVE), one, check_exact=True)
    pd.testing.assert_frame_equal(score_nulls(asked), score_nulls(people(1.0)), check_exact=True)
    floors = [noise_floor(table, seed=0, resamples=20) for table in (asked, people(1.0))]
    pd.testing.assert_frame_equal(*floors, check_exact=True)


def test_weighted_spearman_is_scipys_of_the_repeated_answers():
    rng = np.random.default_rng(4)
    human, model, times = rng.integers(0, 6, 50), rng.integers(0, 6, 50), rng.integers(1, 5, 50)
    expected = stats.spearmanr(np.repeat(human, times), np.repeat(model, times)).statistic
    assert spearman(human, model, times.astype(float)) == pytest.approx(expected)
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3], np.array([1.0, 2.0, 3.0])))


def test_a_weight_of_zero_counts_for_nobody():
    asked = prompts([0, 4, 4], weights=[1.0, 0.0, 3.0])
    (human,) = human_answers(asked, "native")
    assert human.answers.tolist() == [0, 4] and human.weights.tolist() == [0.5, 1.5]
    assert list(human_answers(asked.assign(weight=0.0), "native")) == []


def test_the_noise_floor_of_people_who_weigh_nothing_is_that_of_the_others():
    rng = np.random.default_rng(5)
    answers, silent = rng.integers(0, 5, 400), np.arange(400) % 2 == 1
    asked = prompts(answers)
    changed = asked.assign(answer=np.where(silent, 4, answers), weight=np.where(silent, 0.0, 1.0))
    same = asked.assign(weight=np.where(silent, 0.0, 1.0))
    pd.testing.assert_frame_equal(noise_floor(changed, 0, 10), noise_floor(same, 0, 10))


def test_the_noise_floor_counts_answers_by_weight():
    # Two people say 0 and 4, one with the first weighing three quarters, the other with the second.
    asked = prompts([0, 4, 0, 4], weights=[3.0, 1.0, 1.0, 3.0], ids=["a", "a", "b", "b"])
    floors = noise_floor(asked.assign(order=[0, 1, 0, 1]), seed=0, resamples=5).set_index("measure")
    assert floors.loc["w1", ["floor", "floor_low", "floor_high"]].tolist() == [2, 2, 2]


def both_wordings(asked):
    other = asked.assign(template="plain", prompt_id=asked["prompt_id"] + "-plain")
    return pd.concat([asked, other], ignore_index=True)


def test_an_adapter_is_scored_on_the_prompts_in_its_own_wording():
    asked = people(1.0)
    both = both_wordings(asked)
    default, plain = (both[both["template"] == name] for name in ("default", "plain"))
    for own, factors, seed in ((default, NATIVE, 0), (plain, PLAIN, 1)):
        read, said = simulated(own, seed)
        table = score(both, read, said, factors)
        pd.testing.assert_frame_equal(table, score(own, read, said, factors))
        assert set(table["template"]) == {factors["template"]}
        whole = (table["measure"] == "kl") & (table["point_answer"] == "none")
        assert table[whole]["n"].tolist() == [60]
    with pytest.raises(BadInput, match="adapter's wording"):
        score(asked, read, said, PLAIN)


def test_floors_and_nulls_take_each_answer_once_and_nothing_that_is_held_out():
    asked = pd.concat([people(1.0), prompts([0, 1, 2, 2, 3], "train")], ignore_index=True)
    held = prompts([4] * 200, "held_out")
    table = both_wordings(pd.concat([held, asked], ignore_index=True))
    assert len(each_answer_once(table)) == len(asked)
    pd.testing.assert_frame_equal(score_nulls(table), score_nulls(asked))
    pd.testing.assert_frame_equal(noise_floor(table, 0, 10), noise_floor(asked, 0, 10))
