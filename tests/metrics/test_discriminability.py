"""Telling a model's answers from people's: what is told apart, what is not, and how surely."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from evsim_assets.metrics import two_sample
from evsim_assets.metrics.discriminability import COLUMNS, LEAST, discriminability, drawn_answers
from evsim_assets.metrics.expected import expected_answers
from tests.metrics.people_asked import NATIVE, distributions_of, prompts_of, spread_over_two

DEMOGRAPHICS = 3


def people_of(seed, count):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 3, (count, DEMOGRAPHICS))
    table = pd.DataFrame(np.array(list("abc"))[groups], columns=[f"d{k}" for k in range(DEMOGRAPHICS)])
    return table.assign(participant=[f"p{i}" for i in range(count)]), groups


def populations(groups):
    """Each person's distribution over 0–100: bells around a centre that two demographics move."""
    centres = 50 + 20 * (groups[:, 0] - 1) + 10 * (groups[:, 1] - 1)
    rows = np.exp(-0.5 * ((np.arange(101) - centres[:, None]) / 15) ** 2)
    return rows / rows.sum(axis=1, keepdims=True)


def survey(seed, count, *, each=1, alike=0.0):
    """Answers drawn from `populations`; with `alike`, a person's answers tend to the same quantile."""
    people, groups = people_of(seed, count)
    own, rng = populations(groups), np.random.default_rng([seed, 1])
    person = rng.normal(size=count)
    rows = []
    for i, order in product(range(count), range(each)):
        level = stats.norm.cdf(np.sqrt(alike) * person[i] + np.sqrt(1 - alike) * rng.normal())
        answer = int(np.minimum((np.cumsum(own[i]) <= level).sum(), 100))
        rows.append({"participant": f"p{i}", "order": order, "answer": answer})
    return prompts_of(rows), people, np.repeat(own, each, axis=0)


def judged(prompts, people, rows, *, seed=1, resamples=100, no_number=0.0):
    made = distributions_of(prompts, rows, no_number)
    table = discriminability(prompts, people, made, NATIVE, seed=seed, resamples=resamples)
    assert list(table.columns) == [*NATIVE, *COLUMNS] and len(table) == 1
    assert table["auc"].notna().all() or table["reason"].notna().all()
    return table.iloc[0]


def test_a_model_that_says_anything_is_told_apart():
    prompts, people, rows = survey(1, 200)
    row = judged(prompts, people, np.full_like(rows, 1 / 101))
    assert row["p_value"] < 0.01 and row["low"] > 0.55 and row["low"] < row["auc"] < row["high"]
    assert row["accuracy"] > 0.55 and row["n"] == 200


def test_a_model_that_takes_people_for_others_is_told_apart_by_demographics_and_answer_together():
    prompts, people, rows = survey(2, 300)
    others = np.random.default_rng(2).permutation(rows)  # the same answers in all, of the wrong people
    row = judged(prompts, people, others)
    assert row["p_value"] < 0.01 and row["low"] > 0.55
    unknown = people[["participant"]]  # without demographics nothing shows it
    assert judged(prompts, unknown, others)["p_value"] > 0.01


def test_a_model_that_knows_everything_is_not_told_apart():
    prompts, people, rows = survey(3, 300)
    row = judged(prompts, people, rows)
    assert row["low"] < 0.5 and row["p_value"] > 0.05


def test_a_model_that_takes_one_intervention_for_another_is_told_apart_by_intervention_and_answer():
    prompts, people, _ = survey(4, 300)
    rng, first = np.random.default_rng(4), np.arange(300) % 2 == 1
    prompts["intervention"] = np.where(first, "x", "y")
    prompts["answer"] = np.where(first, rng.integers(10, 60, 300), rng.integers(40, 90, 300))
    rows = np.zeros((300, 101))
    rows[first, 40:90] = rows[~first, 10:60] = 1 / 50  # over both, the same answers
    assert judged(prompts, people[["participant"]], rows)["p_value"] < 0.01


def test_drawn_answers_follow_the_distribution_given_success_and_the_prompt_alone():
    prompts = prompts_of([{"participant": f"p{i}", "answer": 0} for i in range(4000)])
    rows = np.zeros((4000, 101))
    rows[:, [20, 50, 90]] = [0.5, 0.3, 0.2]
    [expected] = expected_answers(prompts, distributions_of(prompts, rows, 0.4), NATIVE)
    drawn = drawn_answers(expected, seed=5)
    counts = [(drawn == answer).sum() for answer in (20, 50, 90)]
    assert stats.chisquare(counts, [2000, 1200, 800]).pvalue > 0.001
    few = prompts.iloc[::-7]
    [part] = expected_answers(few, distributions_of(few, rows[: len(few)], 0.4), NATIVE)
    place = pd.Index(expected.human.rows["prompt_id"]).get_indexer(part.human.rows["prompt_id"])
    assert (drawn_answers(part, seed=5) == drawn[place]).all()
    assert (drawn_answers(part, seed=6) != drawn[place]).any()


def test_weighted_auc_is_sklearns_ties_and_all():
    rng = np.random.default_rng(6)
    first, second = rng.integers(2, 9, 40) / 10, rng.integers(0, 8, 40) / 10
    person, weights = rng.integers(0, 25, 40), rng.integers(0, 4, (5, 25)).astype(float)
    found = two_sample.weighted_auc(first, second, weights, person)
    for row, auc in zip(weights, found, strict=True):
        both = np.concatenate([row[person], row[person]])
        expected = roc_auc_score(np.repeat([1, 0], 40), np.concatenate([first, second]), sample_weight=both)
        assert auc == pytest.approx(expected)
    assert np.isnan(two_sample.weighted_auc(first, second, np.zeros((1, 25)), person)).all()


def test_the_swaps_p_value_is_that_of_all_swaps_of_whole_participants():
    rng = np.random.default_rng(7)
    person = np.repeat(np.arange(8), 5)  # a participant's own scores are alike
    scores = np.stack([rng.normal(0.3, 1, 8)[person], rng.normal(0, 1, 8)[person]])
    scores += rng.normal(0, 0.01, scores.shape)

    def auc(swap):
        first = np.where(swap[person], scores[1], scores[0])
        second = np.where(swap[person], scores[0], scores[1])
        return roc_auc_score(np.repeat([1, 0], 40), np.concatenate([first, second]))

    every = np.array([auc(np.array(swap)) for swap in product([False, True], repeat=8)])
    seen = auc(np.zeros(8, dtype=bool))
    exact = (every > seen + 1e-9).mean() + (np.abs(every - seen) < 1e-9).mean() / 2
    assert two_sample._swapped(scores, person, seed=8) == pytest.approx(exact, abs=0.04)


def test_scores_that_say_nothing_have_a_p_value_of_one_half():
    assert two_sample._swapped(np.full((2, 9), 0.5), np.arange(9), seed=1) == pytest.approx(0.5)


def test_a_participant_is_in_one_fold_and_folds_are_alike_in_size():
    people = np.array([f"p{i}" for i in range(103)])
    folds = two_sample._folds(people, seed=3)
    assert sorted(np.bincount(folds)) == [20, 20, 21, 21, 21]
    assert (two_sample._folds(people[::-1], seed=3)[::-1] == folds).all()


def test_too_few_people_give_a_reason():
    prompts, people, rows = survey(8, LEAST - 1)
    row = judged(prompts, people, rows)
    assert np.isnan(row["auc"]) and str(LEAST) in row["reason"] and row["permutations"] == 0


def test_a_model_that_never_answers_gives_a_reason_and_one_that_fails_at_times_is_judged_by_the_rest():
    prompts, people, rows = survey(9, 60)
    assert judged(prompts, people, rows, no_number=1.0)["reason"] == "the model answers none of these prompts"
    row = judged(prompts, people, rows, no_number=np.arange(60) % 2)
    assert row[["n", "n_failed"]].tolist() == [30, 30] and row["auc"] > 0


def test_everybody_who_answers_the_same_as_the_model_is_not_told_apart():
    prompts = prompts_of([{"participant": f"p{i}", "answer": 7} for i in range(40)])
    people, _ = people_of(1, 40)
    row = judged(prompts, people, spread_over_two(np.full(40, 7.0)))
    assert row[["auc", "low", "high", "p_value", "accuracy"]].tolist() == pytest.approx([0.5] * 5)


def test_the_order_of_rows_changes_nothing():
    prompts, people, rows = survey(10, 60, each=2)
    made = distributions_of(prompts, rows)
    kept = discriminability(prompts, people, made, NATIVE, seed=1, resamples=50)
    mixed = (table.sample(frac=1, random_state=5) for table in (prompts, people, made))
    pd.testing.assert_frame_equal(kept, discriminability(*mixed, NATIVE, seed=1, resamples=50))


@pytest.mark.slow
@pytest.mark.parametrize(("each", "alike"), [(1, 0.0), (4, 0.7)])
def test_a_perfect_model_is_rejected_as_often_as_the_level_says_and_p_values_are_uniform(each, alike):
    """Also where a person's own answers resemble each other, and the model's to one person do not."""
    p_values = []
    for seed in range(60):
        prompts, people, rows = survey(seed, 60, each=each, alike=alike)
        p_values.append(judged(prompts, people, rows, seed=seed, resamples=20)["p_value"])
    rejected = int((np.array(p_values) < 0.05).sum())
    assert stats.binom.ppf(0.005, 60, 0.05) <= rejected <= stats.binom.ppf(0.995, 60, 0.05)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_where_nothing_can_be_told_apart_most_intervals_hold_one_half():
    held = []
    for seed in range(80):
        row = judged(*survey(1000 + seed, 60), seed=seed, resamples=200)
        held.append(row["low"] <= 0.5 <= row["high"])
    assert np.mean(held) >= 0.89
