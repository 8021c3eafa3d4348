"""Effects of interventions: who is compared with whom, and what noise does to the agreement."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evsim_assets.metrics.contrasts import Effects
from evsim_assets.metrics.effect_agreement import MEASURES, agreement_of
from evsim_assets.metrics.effects import AGREEMENT_COLUMNS, EFFECT_COLUMNS, effects
from tests.metrics.people_asked import NATIVE, distributions_of, prompts_of, spread_over_two, whole


def found(prompts, means, *, before=None, held_out=(), seed=1, resamples=200, no_number=0.0):
    made = distributions_of(prompts, spread_over_two(means), no_number)
    tables = effects(
        prompts, made, NATIVE, before=before or {}, held_out=held_out, seed=seed, resamples=resamples
    )
    for table in tables:
        assert_said_why(table)
    return tables


def assert_said_why(table):
    numbers = ["value"] if "value" in table else ["human_effect", "simulated_effect", "human_low"]
    null = table[numbers].isna().any(axis=1)
    assert table.loc[null, "reason"].notna().all()


def measured(agreement, held_out="all"):
    return agreement[agreement["held_out"] == held_out].set_index("measure")


def trial(seed, *, arms=35, per=40, control=60, slope=0.5, spread=6.0, noise=20.0, known=0.0):
    """A randomised trial: true effects, its prompts, and the means of a model that shows `slope` of each
    effect. `known`: how much of a person's answer the model knows beforehand, whatever the intervention."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, spread, arms)
    rows, means = [], []
    for arm in [-1] * control + list(np.repeat(np.arange(arms), per)):
        own, effect = known * rng.normal(), 0.0 if arm < 0 else true[arm]
        answer = int(whole(50 + own + effect + noise * rng.normal()))
        read = None if arm < 0 else f"m{arm:02d}"
        rows.append({"participant": f"p{len(rows)}", "answer": answer, "intervention": read})
        means.append(np.clip(50 + own + slope * effect, 0, 100))
    return true, prompts_of(rows), means


# --- who is compared with whom -------------------------------------------------------------------


def panel():
    rows = [
        {"participant": "a", "question": "pre", "order": 0, "answer": 40, "weight": 3.0},
        {
            "participant": "a",
            "question": "post",
            "order": 1,
            "answer": 50,
            "intervention": "x",
            "weight": 3.0,
        },
        {
            "participant": "a",
            "question": "post",
            "order": 2,
            "answer": 70,
            "intervention": "y",
            "weight": 3.0,
        },
        {"participant": "b", "question": "pre", "order": 0, "answer": 60},
        {"participant": "b", "question": "post", "order": 1, "answer": 50, "intervention": "x"},
        {"participant": "c", "question": "post", "order": 1, "answer": 99, "intervention": "x"},
    ]
    return prompts_of(rows), [45, 50, 55, 50, 60, 10]


def test_an_effect_is_the_weighted_mean_of_after_less_before_of_the_same_people():
    prompts, means = panel()
    table, _ = found(prompts, means, before={"post": "pre"})
    by = table.set_index("intervention")
    assert (table["question"] == "post").all() and (table["design"] == "before_after").all()
    assert by.loc["x", ["human_effect", "simulated_effect", "n"]].tolist() == pytest.approx(
        [(3 * 10 - 10) / 4, (3 * 5 + 10) / 4, 2]  # c never answered before
    )
    assert by.loc["y", ["human_effect", "simulated_effect", "n"]].tolist() == pytest.approx([30, 10, 1])


def test_of_several_answers_before_the_last_that_came_before_counts():
    rows = [
        {"participant": "a", "question": "pre", "order": 0, "answer": 10},
        {"participant": "a", "question": "pre", "order": 1, "answer": 20},
        {"participant": "a", "question": "post", "order": 2, "answer": 50, "intervention": "x"},
        {"participant": "a", "question": "pre", "order": 3, "answer": 45},
        {"participant": "a", "question": "post", "order": 4, "answer": 60, "intervention": "y"},
    ]
    table, _ = found(prompts_of(rows), [1, 2, 30, 4, 50], before={"post": "pre"})
    assert table["human_effect"].tolist() == [30, 15]
    assert table["simulated_effect"].tolist() == pytest.approx([28, 46])


def test_without_an_answer_before_an_arm_is_compared_with_those_who_read_nothing():
    answers = {None: [10, 30], "x": [50, 60, 70], "y": [0, 20]}
    rows = [
        {"participant": f"{read}{place}", "answer": answer, "intervention": read}
        for read, given in answers.items()
        for place, answer in enumerate(given)
    ]
    table, _ = found(prompts_of(rows), [20, 20, 30, 30, 36, 20, 10])
    assert table["design"].unique().tolist() == ["control_arm"]
    assert table["human_effect"].tolist() == pytest.approx([60 - 20, 10 - 20])
    assert table["simulated_effect"].tolist() == pytest.approx([32 - 20, 15 - 20])
    assert table["n"].tolist() == [3, 2]


def test_a_question_that_offers_no_comparison_has_no_rows_but_a_reason():
    rows = [{"participant": f"p{i}", "answer": i, "intervention": "x"} for i in range(9)]
    table, agreement = found(prompts_of(rows), np.arange(9))
    assert list(table.columns) == [*NATIVE, *EFFECT_COLUMNS] and not len(table)
    assert list(agreement.columns) == [*NATIVE, *AGREEMENT_COLUMNS]
    assert set(agreement["measure"]) == set(MEASURES) and agreement["value"].isna().all()
    assert "nobody answered without an intervention" in agreement["reason"].iloc[0]


def test_without_any_intervention_both_tables_are_empty():
    table, agreement = found(prompts_of([{"participant": "p", "answer": 3}]), [3])
    assert not len(table) and not len(agreement)


def test_the_question_before_may_have_been_answered_by_nobody():
    rows = [{"participant": f"p{i}", "answer": i, "intervention": "x"} for i in range(9)]
    table, agreement = found(prompts_of(rows), np.arange(9), before={"q": "pre"})
    assert not len(table) and "before it" in agreement["reason"].iloc[0]


def test_held_out_interventions_are_measured_apart():
    _, prompts, means = trial(1, arms=9)
    table, agreement = found(prompts, means, held_out=["m00", "m03", "m04", "m07"])
    assert table.loc[table["held_out"], "intervention"].tolist() == ["m00", "m03", "m04", "m07"]
    assert [measured(agreement, part).loc["rmse", "n"] for part in ("all", "yes", "no")] == [9, 4, 5]
    errors = (table["simulated_effect"] - table["human_effect"])[table["held_out"]]
    assert measured(agreement, "yes").loc["rmse", "value"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert set(found(prompts, means)[1]["held_out"]) == {"all"}
    _, elsewhere = found(prompts, means, held_out=["z"])
    assert measured(elsewhere, "yes")["reason"].unique() == ["no intervention of this question is held out"]


# --- failures, order -----------------------------------------------------------------------------


def test_what_the_model_never_answers_is_left_out_of_its_side_and_counted():
    prompts, means = panel()
    never = [0, 1, 0, 0, 0, 0]  # a's answer after x
    by = found(prompts, means, before={"post": "pre"}, no_number=never)[0].set_index("intervention")
    assert by.loc["x", ["human_effect", "simulated_effect", "n", "n_failed"]].tolist() == [5, 10, 2, 1]


def test_a_model_that_never_answers_leaves_the_human_effects_and_a_reason():
    _, prompts, means = trial(2, arms=5)
    table, agreement = found(prompts, means, no_number=1.0)
    assert table["human_effect"].notna().all() and table["human_low"].notna().all()
    assert table["simulated_effect"].isna().all() and (table["n_failed"] == table["n"]).all()
    assert agreement["value"].isna().all() and agreement["reason"].notna().all()


def test_the_order_of_rows_changes_nothing():
    _, prompts, means = trial(3, arms=6, per=8)
    made = distributions_of(prompts, spread_over_two(means))
    said = {"before": {}, "held_out": ["m02"], "seed": 4, "resamples": 50}
    kept = effects(prompts, made, NATIVE, **said)
    mixed = effects(
        prompts.sample(frac=1, random_state=1), made.sample(frac=1, random_state=2), NATIVE, **said
    )
    for one, other in zip(kept, mixed, strict=True):
        pd.testing.assert_frame_equal(one, other)


# --- noise ---------------------------------------------------------------------------------------


def test_an_arm_of_one_person_is_as_uncertain_as_one_answer_is():
    _, prompts, _ = trial(5, arms=60, per=1, control=4000, spread=0.0, noise=15.0)
    pairs = pd.concat([prompts, prompts[prompts["intervention"].notna()]], ignore_index=True)
    pairs["participant"] = [f"p{i}" for i in range(len(pairs))]  # another 60 people, now two an arm
    pairs["prompt_id"] = pairs["participant"]
    rng = np.random.default_rng(6)
    pairs.loc[len(prompts) :, "answer"] = whole(50 + 15 * rng.normal(size=60))
    one = prompts_of([{"participant": "alone", "answer": 50, "intervention": "single"}])
    both = pd.concat([pairs, one], ignore_index=True)
    table, _ = found(both, np.full(len(both), 50.0), resamples=1000)
    width = table.set_index("intervention")["human_high"] - table.set_index("intervention")["human_low"]
    assert width["single"] == pytest.approx(2 * 1.96 * 15, rel=0.15)
    assert width.drop("single").mean() == pytest.approx(2 * 1.96 * 15 / np.sqrt(2), rel=0.15)


def test_a_large_arms_interval_is_that_of_its_own_people():
    rng = np.random.default_rng(8)
    rows = []
    for i in range(120):
        calm = i % 2
        after = 55 if calm else int(whole(55 + 12 * rng.normal()))
        rows.append({"participant": f"p{i}", "question": "pre", "answer": 50})
        read = {"order": 1, "intervention": "calm" if calm else "moving"}
        rows.append({"participant": f"p{i}", "question": "post", "answer": after, **read})
    table, _ = found(prompts_of(rows), np.full(240, 50.0), before={"post": "pre"}, resamples=1000)
    by = table.set_index("intervention")
    assert by.loc["calm", ["human_low", "human_high"]].tolist() == [5, 5]
    spread = np.std([row["answer"] for row in rows[1::4]], ddof=1) / np.sqrt(60)
    width = by.loc["moving", "human_high"] - by.loc["moving", "human_low"]
    assert width == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_if_every_arm_has_one_person_there_is_no_interval_and_a_reason():
    rows = [{"participant": f"p{k}", "answer": 10 * k, "intervention": k and f"m{k}"} for k in range(6)]
    rows[0]["intervention"] = None
    table, agreement = found(prompts_of(rows), np.linspace(10, 60, 6))
    assert table["human_effect"].tolist() == [10, 20, 30, 40, 50]
    assert table["human_low"].isna().all() and table["reason"].notna().all()
    assert measured(agreement).loc["rmse", "value"] == pytest.approx(0)


def test_correlation_and_slope_are_scipys_if_the_model_says_the_same_to_everybody_of_an_arm():
    _, prompts, means = trial(7)
    table, agreement = found(prompts, means)
    line = stats.linregress(table["human_effect"], table["simulated_effect"])
    by = measured(agreement)
    assert by.loc["correlation", "value"] == pytest.approx(line.rvalue)
    assert by.loc["slope", "value"] == pytest.approx(line.slope)
    reliability = by.loc["reliability", "value"]
    assert by.loc["disattenuated_correlation", "value"] == pytest.approx(line.rvalue / np.sqrt(reliability))
    assert by.loc["disattenuated_slope", "value"] == pytest.approx(line.slope / reliability)
    for measure in MEASURES:
        if by["low"].notna()[measure] and measure not in ("top_1_regret", "top_3_regret"):
            value = (
                min(by.loc[measure, "value"], 1.0) if "correlation" in measure else by.loc[measure, "value"]
            )
            assert by.loc[measure, "low"] <= value <= by.loc[measure, "high"], measure


def test_the_noise_comes_out_of_slope_and_correlation_and_the_reliability_is_the_known_one():
    rows = []
    for seed in range(30):
        _, prompts, means = trial(100 + seed, known=8.0)
        by = measured(found(prompts, means, resamples=50, seed=seed)[1])["value"]
        rows.append(by[["disattenuated_slope", "disattenuated_correlation", "reliability", "slope"]])
    slope, correlation, reliability, diluted = np.mean(rows, axis=0)
    expected = 6**2 / (6**2 + (20**2 + 8**2) / 40)
    assert reliability == pytest.approx(expected, abs=0.04)
    assert slope == pytest.approx(0.5, abs=0.04) and diluted == pytest.approx(0.5 * expected, abs=0.04)
    assert correlation == pytest.approx(1.0, abs=0.04)


def test_a_model_that_knows_people_but_no_intervention_does_not_correlate_although_its_effects_do():
    seen, corrected = [], []
    for seed in range(20):
        _, prompts, means = trial(200 + seed, arms=60, per=4, slope=0.0, spread=0.0, known=15.0)
        table, agreement = found(prompts, means, resamples=50)
        seen.append(np.corrcoef(table["human_effect"], table["simulated_effect"])[0, 1])
        corrected.append(measured(agreement).loc["correlation", "value"])
    assert np.mean(seen) > 0.4
    assert abs(np.mean(corrected)) < 2.5 * np.std(corrected) / np.sqrt(20)


def test_effects_that_are_only_noise_have_no_disattenuated_correlation_but_a_reason():
    for seed in range(10):
        _, prompts, means = trial(300 + seed, spread=0.0, known=5.0)
        by = measured(found(prompts, means)[1])
        if by.loc["reliability", "value"] <= 0:
            assert np.isnan(by.loc["disattenuated_correlation", "value"])
            assert "reliability not above 0" in by.loc["disattenuated_correlation", "reason"]
            assert by.loc["disattenuated_correlation", ["low", "high"]].tolist() == [-1, 1]
            assert by.loc["disattenuated_slope", ["low", "high"]].isna().all()
            assert by.loc["reliability", "low"] == 0 < by.loc["reliability", "high"] < 1
            return
    pytest.fail("ten samples of pure noise, and all seemed reliable")


@pytest.mark.slow
@pytest.mark.parametrize("per", [2, 12, 40])
def test_95_percent_of_the_intervals_hold_the_true_effect(per):
    held = []
    for seed in range(60):
        true, prompts, means = trial(seed, arms=40, per=per, control=40)
        table, _ = found(prompts, means, seed=seed, resamples=400)
        held.append(((table["human_low"] <= true) & (true <= table["human_high"])).mean())
    assert 0.93 <= np.mean(held) <= 0.97


def normal_effects(seed, *, k, spread, slope, own=0.5, noise=3.0):
    """True effects of humans and model, and `Effects` seen with normal noise, the model's a third of it."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, spread, k)
    model = slope * true + own * rng.normal(size=k)

    def off(n):
        arms, common = rng.normal(size=(n, k)), rng.normal(size=(n, 1))
        return noise * arms + common, noise / 3 * (0.3 * arms + 0.95 * rng.normal(size=(n, k)))

    (human, simulated), (human_noise, simulated_noise) = off(1), off(300)
    seen = Effects(true + human[0], model + simulated[0], human_noise, simulated_noise)
    return true, model, seen


@pytest.mark.slow
@pytest.mark.parametrize(("k", "spread", "slope"), [(35, 3.0, 0.5), (8, 0.5, 0.0)])
def test_intervals_of_the_effects_themselves_are_always_there_and_hold_what_is_true(k, spread, slope):
    held = {m: [] for m in ("disattenuated_correlation", "sign_accuracy", "top_1_regret", "top_3_regret")}
    for seed in range(80):
        true, model, seen = normal_effects(seed, k=k, spread=spread, slope=slope)
        by = pd.DataFrame(agreement_of(seen)).set_index("measure")
        low, high = np.quantile(seen.human + seen.human_noise, [0.025, 0.975], axis=0)
        sure = (low > 0) | (high < 0)
        best, chosen = np.argsort(-true), np.argsort(-seen.simulated)
        truth = {"disattenuated_correlation": np.corrcoef(true, model)[0, 1]}
        truth |= {f"top_{n}_regret": true[best[:n]].mean() - true[chosen[:n]].mean() for n in (1, 3)}
        if sure.any():
            truth["sign_accuracy"] = (np.sign(true) == np.sign(model))[sure].mean()
        for measure, value in truth.items():
            low, high = by.loc[measure, ["low", "high"]]
            held[measure].append(low - 1e-9 <= value <= high + 1e-9)
    shares = {measure: np.mean(of) for measure, of in held.items()}
    assert all(share >= 0.9 for share in shares.values()), shares


@pytest.mark.slow
def test_the_interval_of_the_disattenuated_slope_holds_the_true_one():
    held = []
    for seed in range(100):
        _, prompts, means = trial(seed, per=100, known=8.0)
        low, high = measured(found(prompts, means, seed=seed, resamples=400)[1]).loc[
            "disattenuated_slope", ["low", "high"]
        ]
        held.append(low <= 0.5 <= high)
    assert np.mean(held) >= 0.93


# --- measures of known effects -------------------------------------------------------------------


def known(human, simulated):
    still = np.zeros((20, len(human)))
    rows = agreement_of(Effects(np.array(human, float), np.array(simulated, float), still, still))
    return pd.DataFrame(rows).set_index("measure")


def test_signs_count_where_the_human_effect_is_sure_and_regret_is_what_better_choices_would_have_gained():
    by = known([5, 1, 3, 0], [0, 9, 3, 1])
    assert by.loc["sign_accuracy", ["value", "n"]].tolist() == pytest.approx([2 / 3, 3])
    assert by.loc["top_1_regret", "value"] == 5 - 1
    assert by.loc["top_3_regret", "value"] == pytest.approx((5 + 3 + 1) / 3 - (1 + 3 + 0) / 3)
    assert by.loc["rmse", "value"] == pytest.approx(np.sqrt((25 + 64 + 0 + 1) / 4))


def test_a_model_that_ranks_all_alike_regrets_what_a_random_choice_would():
    by = known([5, 1, 3, 0], [2, 2, 2, 2])
    assert by.loc["top_1_regret", "value"] == pytest.approx(5 - 9 / 4)
    assert by.loc["slope", "value"] == 0
    assert by.loc["correlation", "reason"] == "all simulated effects are the same"


def test_a_perfect_model_without_noise_is_perfect():
    by = known([5, 1, 3, -2], [5, 1, 3, -2])["value"]
    assert by[list(MEASURES)].tolist() == pytest.approx([1, 1, 1, 1, 1, 1, 0, 0, 0])


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_interventions_have_no_correlation(count):
    by = known([5, 1][:count], [3, 2][:count])
    assert by.loc["correlation", "reason"].startswith("needs 3 interventions")
    assert np.isnan(by.loc["top_3_regret", "value"]) and by.loc["top_3_regret", "reason"]
    assert by.loc["sign_accuracy", "value"] == 1


def test_human_effects_that_are_all_the_same_have_no_slope():
    assert known([2, 2, 2], [1, 2, 3]).loc["slope", "reason"] == "all human effects are the same"
