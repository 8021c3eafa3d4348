"""Differences between groups: exaggerated, levelled out, or chance."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.metrics.bias import BIAS_COLUMNS, LEVEL_COLUMNS, bias
from evsim_assets.specs.demographics import SEVERAL_SEPARATOR, Demographic
from tests.metrics.people_asked import NATIVE, distributions_of, prompts_of, spread_over_two, whole


def biased(prompts, people, means, *, seed=1, resamples=200, no_number=0.0, **said):
    made = distributions_of(prompts, spread_over_two(means), no_number)
    tables = bias(prompts, people, made, NATIVE, seed=seed, resamples=resamples, **said)
    numbers = ["amplification", "low", "high", "human_low", "simulated_high", "difference_low"]
    assert tables[0].loc[tables[0][numbers].isna().any(axis=1), "reason"].notna().all()
    assert tables[1].loc[tables[1][["difference", "low"]].isna().any(axis=1), "reason"].notna().all()
    return tables


def asked(answers, groups, **columns):
    """One prompt a person, and who they are."""
    ids = [f"p{i}" for i in range(len(answers))]
    prompts = prompts_of([{"participant": p, "answer": int(a)} for p, a in zip(ids, answers, strict=True)])
    return prompts.assign(**columns), pd.DataFrame({"participant": ids, "group": groups})


def sampled(seed, *, people=400, apart=10.0, factor=1.0, noise=20.0, within=8.0):
    """Four groups whose means are `apart`; a model whose means are `factor` times as far apart, and which
    knows `within` of what else people differ by."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 4, people)
    own, where = within * rng.normal(size=people), apart * (group - 1.5)
    prompts, who = asked(
        whole(50 + where + own + noise * rng.normal(size=people)), np.array(list("abcd"))[group]
    )
    return prompts, who, np.clip(50 + factor * where + own, 0, 100)


def test_without_chance_a_spread_is_the_weighted_standard_deviation_of_the_groups_means():
    prompts, people = asked([20, 20, 50, 50], ["a", "a", "b", "b"], weight=[3.0, 3.0, 1.0, 1.0])
    table, levels = biased(prompts, people, [10, 10, 90, 90])
    row = table.iloc[0]
    assert list(table.columns) == [*NATIVE, *BIAS_COLUMNS] and len(table) == 1
    assert row["human_spread"] == pytest.approx(30 * np.sqrt(0.75 * 0.25))
    assert row["simulated_spread"] == pytest.approx(80 * np.sqrt(0.75 * 0.25))
    assert row[["amplification", "low", "high"]].tolist() == pytest.approx([8 / 3] * 3)
    assert row[["human_low", "human_high"]].tolist() == pytest.approx([row["human_spread"]] * 2)
    ends = row[["spread_difference", "difference_low", "difference_high"]]
    assert ends.tolist() == pytest.approx([50 * np.sqrt(0.75 * 0.25)] * 3)
    assert row[["worst_level", "worst_difference", "levels", "n"]].tolist() == ["b", 40, 2, 4]
    assert list(levels.columns) == [*NATIVE, *LEVEL_COLUMNS]
    assert levels[["level", "human_mean", "simulated_mean", "difference"]].to_numpy().tolist() == [
        ["a", 20, 10, -10],
        ["b", 50, 90, 40],
    ]


def test_a_persons_answers_count_by_their_weights_and_no_more():
    rows = [
        {"participant": "p", "answer": 10, "weight": 2.0},
        {"participant": "p", "answer": 40, "weight": 2.0, "order": 1},
        {"participant": "r", "answer": 70},
    ]
    people = pd.DataFrame({"participant": ["p", "r"], "group": ["a", "a"]})
    _, levels = biased(prompts_of(rows), people, [0, 5, 10])
    assert levels.loc[0, ["human_mean", "simulated_mean"]].tolist() == pytest.approx([34, 4])
    assert levels.loc[0, "n"] == 2


def test_the_noise_comes_out_of_both_spreads():
    for factor in (1.0, 0.5, 2.0):
        tables = [
            biased(*sampled(seed, factor=factor, noise=12.0, within=5.0), seed=seed, resamples=50)[0]
            for seed in range(25)
        ]
        rows = [table.iloc[0] for table in tables]
        true = 10 * np.sqrt(1.25)
        assert np.mean([row["human_spread"] for row in rows]) == pytest.approx(true, rel=0.05)
        assert np.mean([row["simulated_spread"] for row in rows]) == pytest.approx(factor * true, rel=0.05)
        ratios = [row["simulated_spread"] / row["human_spread"] for row in rows]
        assert [row["amplification"] for row in rows] == pytest.approx(ratios)


def test_groups_that_differ_by_chance_only_have_a_squared_spread_of_0_on_average():
    rows = [biased(*sampled(seed, apart=0.0), seed=seed, resamples=50)[0].iloc[0] for seed in range(60)]
    for side in ("human_spread", "simulated_spread"):
        square = [row[side] * abs(row[side]) for row in rows]
        assert abs(np.mean(square)) < 2.5 * np.std(square) / np.sqrt(60)
    chance = [row for row in rows if row["human_spread"] <= 0]
    assert chance and all("chance" in row["reason"] for row in chance)
    assert all(np.isnan(row["amplification"]) for row in chance)


def test_where_humans_hardly_differ_the_ratio_has_no_end_above_and_all_else_its_interval():
    prompts, people, means = sampled(4, apart=1.0, factor=4.0)
    row = biased(prompts, people, means)[0].iloc[0]
    assert row["human_low"] == 0 < row["human_high"] and np.isnan(row["high"]) and row["low"] > 0
    assert "unbounded above: the human spread cannot be told from 0" in row["reason"]
    assert 0 < row["simulated_low"] < row["simulated_spread"] < row["simulated_high"]
    assert row["difference_low"] < row["spread_difference"] < row["difference_high"]


def test_a_ratios_interval_leaves_out_one_where_that_of_the_difference_leaves_out_0():
    for seed, factor in ((5, 0.4), (6, 1.0), (7, 2.0)):
        row = biased(*sampled(seed, factor=factor))[0].iloc[0]
        assert (row["low"] > 1) == (row["difference_low"] > 0)
        assert (row["high"] < 1) == (row["difference_high"] < 0)


def test_a_model_that_says_the_same_to_everybody_levels_out_what_people_differ_by():
    prompts, people, _ = sampled(1)
    row = biased(prompts, people, np.full(len(prompts), 50.0))[0].iloc[0]
    assert row[["amplification", "low", "high"]].tolist() == pytest.approx([0, 0, 0])


def test_a_level_of_one_person_or_none_has_no_mean_and_a_reason():
    prompts, people = asked([20, 30, 50, 60, 70], ["a", "a", "b", "b", "alone"])
    absent = pd.DataFrame({"participant": ["not asked"], "group": ["elsewhere"]})
    table, levels = biased(prompts, pd.concat([people, absent]), [1, 2, 3, 4, 5])
    by = levels.set_index("level")["reason"]
    assert by["alone"] == "only 1 test participant" and by["elsewhere"] == "no test participant"
    assert table[["levels", "n"]].iloc[0].tolist() == [2, 4]


def test_a_demographic_that_nobody_told_has_rows_that_say_so():
    prompts, people = asked([10, 20, 30], [None, None, None])
    who = Demographic(name="group", column="group", options=("a", "b"))
    table, levels = biased(prompts, people, [10, 20, 30], demographics=[who])
    assert table["reason"].tolist() == ["fewer than 2 levels have 2 test participants"]
    assert (table["levels"].item(), table["n"].item()) == (0, 0)
    assert levels["reason"].tolist() == ["no test participant"] * 2


def test_the_worst_level_is_off_for_certain_and_not_the_one_of_two_people():
    rng = np.random.default_rng(3)
    groups = ["many"] * 60 + ["two"] * 2
    answers = [*whole(50 + 10 * rng.normal(size=60)), 10, 90]
    prompts, people = asked(answers, groups)
    table, levels = biased(prompts, people, [65] * 60 + [80, 80])
    off = levels.set_index("level")["difference"]
    assert off["two"] == 30 and 12 < off["many"] < 18
    assert table[["worst_level", "worst_difference"]].iloc[0].tolist() == ["many", off["many"]]
    alone, _ = biased(*asked([10, 90, 20, 80], ["a", "a", "b", "b"]), [60, 60, 60, 60])
    assert alone["worst_level"].isna().all() and alone["worst_difference"].isna().all()


def test_one_level_has_no_spread():
    prompts, people = asked([20, 30], ["a", "a"])
    assert "fewer than 2 levels" in biased(prompts, people, [1, 2])[0].loc[0, "reason"]


def test_who_named_several_options_is_in_each_of_their_groups():
    both = SEVERAL_SEPARATOR.join(["a", "b"])
    prompts, people = asked([10, 20, 40, 50], ["a", both, both, "b"])
    _, levels = biased(prompts, people, [0, 0, 0, 0])
    assert levels.set_index("level")["human_mean"].to_dict() == pytest.approx({"a": 70 / 3, "b": 110 / 3})


def test_a_model_that_never_answers_leaves_the_human_spread_and_a_reason():
    prompts, people, means = sampled(2)
    table, levels = biased(prompts, people, means, no_number=1.0)
    assert table["human_spread"].notna().all() and table["amplification"].isna().all()
    assert (levels["n_failed"] == levels["n"]).all()


def test_failed_prompts_are_left_out_of_the_models_means_and_counted():
    prompts, people = asked([20, 30, 40, 50], ["a", "a", "a", "a"])
    _, levels = biased(prompts, people, [10, 20, 30, 99], no_number=[0, 0, 0, 1])
    assert levels.loc[0, ["human_mean", "simulated_mean", "n_failed"]].tolist() == pytest.approx([35, 20, 1])


def test_the_order_of_rows_changes_nothing():
    prompts, people, means = sampled(3, people=60)
    made = distributions_of(prompts, spread_over_two(means))
    kept = bias(prompts, people, made, NATIVE, seed=1, resamples=50)
    mixed = (table.sample(frac=1, random_state=5) for table in (prompts, people, made))
    for one, other in zip(kept, bias(*mixed, NATIVE, seed=1, resamples=50), strict=True):
        pd.testing.assert_frame_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [8.0, 0.0])
def test_95_percent_of_the_intervals_hold_the_true_spreads_and_their_ratio_whatever_they_are(apart):
    held, differences, factor = [], [], 1.5
    true = apart * np.sqrt(1.25)
    for seed in range(60):
        drawn = sampled(seed, people=300, apart=apart, factor=factor, noise=12.0)
        group = drawn[1]["group"].map(dict(zip("abcd", np.arange(4) - 1.5, strict=True)))
        own = np.sqrt(np.average((apart * (group - group.mean())) ** 2))  # of the groups as large as they are
        table, levels = biased(*drawn, seed=seed, resamples=200)
        row = table.iloc[0]
        ends = [(row["low"], row["high"], factor)] if apart else []
        ends += [
            (row["human_low"], row["human_high"], own),
            (row["simulated_low"], row["simulated_high"], factor * own),
        ]
        ends += [(row["difference_low"], row["difference_high"], (factor - 1) * own)]
        held.append([not low > is_true and not high < is_true for low, high, is_true in ends])
        off = (factor - 1) * apart * (np.arange(4) - 1.5)
        differences.append(((levels["low"] <= off) & (off <= levels["high"])).mean())
        assert abs(own - true) < 0.2 * max(true, 1)
    assert (np.mean(held, axis=0) >= 0.89).all(), np.mean(held, axis=0)  # 60 tell 95 % from 89 %
    assert 0.91 <= np.mean(differences) <= 0.98
