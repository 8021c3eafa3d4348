"""Who is compared with whom, and that failures count."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.metrics.agreement import population_histograms
from evsim_assets.metrics.agreement import score as score_all
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AdapterSpec
from tests.metrics.simulated_survey import a_survey

NATIVE = AdapterSpec(model="s", method="qlora").factors
DIGIT = AdapterSpec(model="s", method="qlora", answers="digit").factors


def prompts(answers, split="test", high=4, digits=None):
    n = len(answers)
    return pd.DataFrame(
        {
            "prompt_id": [f"{split}{i}" for i in range(n)],
            "participant": [f"{split}{i}" for i in range(n)],
            "wave": "w1",
            "split": split,
            "held_out": None,
            "question": "q",
            "order": 0,
            "intervention": None,
            "template": "default",
            "weight": 1.0,
            "answer": answers,
            "answer_digit": pd.array(digits or [None] * n, dtype="Int64"),
            "low": 0,
            "high": high,
            "step": 1,
            "labels": None,
        }
    )


def distributions(rows, no_number=None, temperature=1.0):
    n = len(rows)
    lost = np.zeros(n) if no_number is None else np.asarray(no_number)
    return pd.DataFrame(
        {
            "prompt_id": [f"test{i}" for i in range(n)],
            "temperature": temperature,
            "probabilities": [np.asarray(r, dtype=np.float32) for r in rows],
            "off_scale": 1 - np.sum(rows, axis=1) - lost,
            "no_number": lost,
            "unexpanded": 0.0,
        }
    )


def generations(answers, made_by="distribution", replicate=0, temperature=1.0):
    n = len(answers)
    return pd.DataFrame(
        {
            "prompt_id": [f"test{i}" for i in range(n)],
            "question": "q",
            "temperature": temperature,
            "replicate": replicate,
            "answer": pd.array(answers, dtype="Int64"),
            "success": [a is not None for a in answers],
            "made_by": made_by,
        }
    )


def nothing_known(asked):
    """The people who were asked, none of whom has told anything of themselves."""
    return pd.DataFrame({"participant": sorted(asked["participant"].unique())})


def scored(asked, read, drawn, factors=NATIVE, people=None, **more):
    people = nothing_known(asked) if people is None else people
    return score_all(asked, people, read, drawn, factors, **({"seed": 0, "resamples": 50} | more))


def score(*given, **more):
    """The metrics of everybody."""
    return scored(*given, **more).metrics


def value(table, measure, point="none", column="value"):
    row = table[(table["measure"] == measure) & (table["point_answer"] == point)]
    assert len(row) == 1
    return row[column].iloc[0]


EYE = np.eye(5)


def test_a_model_that_says_what_each_person_said_is_perfect():
    table = score(prompts([0, 2, 4]), distributions(EYE[[0, 2, 4]]), generations([0, 2, 4]), NATIVE)
    for measure in ("kl", "w1", "js", "tv", "crps"):
        assert value(table, measure) == pytest.approx(0)
    assert value(table, "rmse", "sample") == 0
    assert value(table, "spearman", "mean") == pytest.approx(1)
    assert value(table, "success_rate") == 1


def test_only_test_prompts_count():
    both = pd.concat([prompts([4, 4], "train"), prompts([0, 1])])
    table = score(both, distributions(EYE[[0, 1]]), generations([0, 1]), NATIVE)
    assert value(table, "w1") == 0
    assert value(table, "kl", column="n") == 2


def test_point_answers_by_hand():
    p = [[0.5, 0, 0, 0, 0.5], [0, 0.3, 0.3, 0.4, 0]]
    table = score(prompts([0, 3]), distributions(p), generations([4, 1]), NATIVE)
    assert value(table, "rmse", "sample") == pytest.approx(np.sqrt((16 + 4) / 2))
    assert value(table, "rmse", "mean") == pytest.approx(np.sqrt((2.0**2 + 0.9**2) / 2))
    assert value(table, "mae", "median") == pytest.approx((0 + 1) / 2)


def test_the_population_adds_exact_mass_and_decoded_answers():
    # Prompt 0 starts with a number; prompt 1 never does, and its two texts say 3 and nothing.
    p = [[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 0]]
    drawn = pd.concat([generations([0, 3], replicate=0), generations([1, None], replicate=1)])
    drawn.loc[drawn["prompt_id"] == "test1", "made_by"] = "decode"
    histogram = population_histograms(prompts([0, 1]), distributions(p, [0, 1]), drawn, NATIVE)
    assert histogram["simulated"].tolist() == pytest.approx([0.5, 0.5, 0, 0.5, 0])
    assert histogram["human"].tolist() == [1, 1, 0, 0, 0]
    table = score(prompts([0, 1]), distributions(p, [0, 1]), drawn, NATIVE)
    assert value(table, "success_rate") == pytest.approx(0.75)
    assert value(table, "no_number") == pytest.approx(0.5)


@pytest.mark.parametrize("engine", ["generate", "vllm"])
def test_texts_of_other_engines_stand_for_prose_where_they_do_not_begin_with_an_answer(engine):
    # As above, with every text generated: of prompt 0 they begin with numbers, which are counted exactly.
    p = [[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 0]]
    drawn = pd.concat([generations([0, 3], engine), generations([1, None], engine, replicate=1)])
    drawn["text"] = [" 0", "As a 3", "1", "I do not know"]
    labelled = prompts([0, 1]).assign(labels=None)
    histogram = population_histograms(labelled, distributions(p, [0, 1]), drawn, NATIVE)
    assert histogram["simulated"].tolist() == pytest.approx([0.5, 0.5, 0, 0.5, 0])


def test_the_decoded_part_recovers_the_truth_on_average():
    rng = np.random.default_rng(0)
    n, no_number = 400, 0.6
    p = np.tile([0.4, 0, 0, 0, 0], (n, 1))
    decoded = rng.random(n) < no_number
    said = np.where(rng.random(n) < 0.5, 4.0, np.nan)  # half of the decoded texts say 4, half nothing
    answers = [None if np.isnan(a) else int(a) for a in np.where(decoded, said, 0.0)]
    drawn = generations(answers, made_by=list(np.where(decoded, "decode", "distribution")))
    table = score(prompts([0] * n), distributions(p, np.full(n, no_number)), drawn, NATIVE)
    assert value(table, "success_rate") == pytest.approx(0.4 + 0.6 * 0.5, abs=0.05)
    assert value(table, "w1") == pytest.approx(4 * 0.3 / 0.7, abs=0.25)


def test_the_success_rate_never_exceeds_one():
    drawn = generations([4, 4, 4], made_by="decode")  # every prompt happened to be decoded
    p = np.tile([0.5, 0, 0, 0, 0], (3, 1))
    table = score(prompts([0, 0, 0]), distributions(p, [0.5] * 3), drawn, NATIVE)
    assert value(table, "success_rate") == pytest.approx(1)


def test_failures_are_counted_and_never_enter_the_error():
    p = [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    table = score(prompts([1, 4, 4]), distributions(p), generations([0, None, None]), NATIVE)
    assert value(table, "rmse", "sample") == 1
    assert value(table, "rmse", "sample", "n") == 1
    assert value(table, "n_failed", "sample") == 2
    assert value(table, "n_failed", "mean") == 2
    assert value(table, "success_rate") == pytest.approx(1 / 3)
    assert value(table, "off_scale") == pytest.approx(2 / 3)


def test_an_adapter_that_never_answers_gets_nulls_with_a_reason():
    table = score(
        prompts([1, 2]),
        distributions(np.zeros((2, 5)), [1, 1]),
        generations([None, None], made_by="decode"),
        NATIVE,
    )
    nulls = table[table["value"].isna()]
    assert {"kl", "w1", "rmse", "crps"} <= set(nulls["measure"])
    assert nulls["reason"].notna().all()
    assert value(table, "success_rate") == 0


def test_every_null_says_why_and_nothing_else_does():
    table = score(prompts([1, 2]), distributions(EYE[[1, 1]]), generations([1, 1]), NATIVE)
    assert (table["value"].isna() == table["reason"].notna()).all()
    assert "no correlation" in value(table, "spearman", "sample", "reason")
    assert "21 bins" in value(table, "kl_21", column="reason")


def test_replicates_pool_errors_and_average_correlations():
    drawn = pd.concat([generations([0, 1, 2], replicate=0), generations([2, 1, 0], replicate=1)])
    table = score(prompts([0, 1, 2]), distributions(EYE[[0, 1, 2]]), drawn, NATIVE)
    assert value(table, "rmse", "sample") == pytest.approx(np.sqrt(8 / 6))
    assert value(table, "spearman", "sample") == pytest.approx(0)
    assert value(table, "rmse", "sample", "n") == 3


def test_a_digit_adapter_is_scored_on_the_digit_answers():
    asked = prompts([0, 100], high=100, digits=[0, 9])
    p = np.eye(10)[[9, 0]]
    table = score(asked, distributions(p), generations([9, 0]), DIGIT)
    assert value(table, "rmse", "sample") == 9
    assert value(table, "w1") == 0
    assert set(table["answers"]) == {"digit"}


def test_the_greedy_answer_is_that_of_temperature_0_and_of_no_other():
    both = pd.concat([distributions(EYE[[0, 3]], temperature=0.0), distributions(EYE[[4, 4]])])
    drawn = pd.concat([generations([0, 3], temperature=0.0), generations([4, 4])])
    table = score(prompts([0, 1]), both, drawn, NATIVE)
    greedy = table[table["point_answer"] == "greedy"]
    assert greedy["temperature"].unique() == [0.0]
    cold = table[table["temperature"] == 0.0]
    assert value(cold, "rmse", "greedy") == pytest.approx(np.sqrt(2)) and value(cold, "mae", "greedy") == 1
    sample = cold[cold["point_answer"] == "sample"]
    assert greedy["measure"].tolist() == sample["measure"].tolist()
    for column in ("value", "low", "high", "n"):
        np.testing.assert_allclose(greedy[column], sample[column], rtol=1e-6)


def test_each_temperature_is_scored_by_itself():
    both = pd.concat([distributions(EYE[[0, 1]]), distributions(EYE[[4, 4]], temperature=0.0)])
    drawn = pd.concat([generations([0, 1]), generations([4, 4], temperature=0.0)])
    table = score(prompts([0, 1]), both, drawn, NATIVE)
    rows = table[table["measure"] == "w1"].set_index("temperature")["value"]
    assert rows.to_dict() == {0.0: 3.5, 1.0: 0.0}


def test_a_test_prompt_without_a_distribution_is_an_error():
    with pytest.raises(BadInput, match="1 of 3 test prompts"):
        score(prompts([0, 1, 2]), distributions(EYE[[0, 1]]), generations([0, 1]), NATIVE)


def test_missing_generations_leave_only_the_sample_measures_null():
    table = score(prompts([0, 1]), distributions(EYE[[0, 1]]), generations([]), NATIVE)
    assert "no generations" in value(table, "rmse", "sample", "reason")
    assert value(table, "rmse", "mean") == 0


def test_modes_and_the_population_of_everybodys_point_answer_by_hand():
    p = [[0.4, 0, 0, 0.3, 0.3], [0, 0.3, 0.3, 0.4, 0]]  # means 2.1 and 2.1, medians 3 and 2, modes 0 and 3
    table = score(prompts([0, 3]), distributions(p), generations([4, 1]), NATIVE)
    assert value(table, "rmse", "mode") == 0
    assert value(table, "w1", "mode") == 0
    assert value(table, "w1", "mean") == pytest.approx((2 + 1) / 2)  # both count at 2: from 0 and from 3
    assert value(table, "w1", "median") == pytest.approx((2 + 0) / 2)
    assert value(table, "w1", "sample") == pytest.approx((1 + 1) / 2)
    assert value(table, "sd_ratio", "mode") == 1 and value(table, "sd_ratio", "mean") == 0
    counts = np.array([1.5, 0.5, 0.5, 1.5, 0.5]) / 4.5
    means = np.array([0.5, 0.5, 2.5, 0.5, 0.5]) / 4.5
    assert value(table, "kl", "mean") == pytest.approx((counts * np.log(counts / means)).sum())
    assert value(table, "nll") == pytest.approx(-np.log([0.99 * 0.4 + 0.002, 0.99 * 0.4 + 0.002]).mean())


SURVEY = a_survey(people=40, each=3, seed=7, weights=True)


def test_no_value_depends_on_the_order_of_any_rows():
    asked, people, read, drawn = SURVEY
    two = pd.concat([read, read.assign(temperature=0.5)])
    more = pd.concat([drawn, drawn.assign(temperature=0.5)])
    one = score_all(asked, people, two, more, NATIVE, seed=1, resamples=30)
    mixed = [table.sample(frac=1, random_state=9) for table in (asked, people, two, more)]
    other = score_all(*mixed, NATIVE, seed=1, resamples=30)
    pd.testing.assert_frame_equal(one.metrics, other.metrics, check_exact=True)
    pd.testing.assert_frame_equal(one.replicates, other.replicates, check_exact=True)


@pytest.mark.parametrize("engine", [None, "generate"])
def test_files_of_generations_are_scored_as_their_table_is(tmp_path, engine):
    asked, people, read, drawn = SURVEY
    drawn = drawn if engine is None else drawn.assign(made_by=engine)
    both = pd.concat([drawn, drawn.iloc[::-1].assign(temperature=0.5)], ignore_index=True)
    two = pd.concat([read, read.assign(temperature=0.5)])
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    both.iloc[:500].to_parquet(files[0], row_group_size=70)  # the second temperature begins within the first
    both.iloc[500:].to_parquet(files[1])
    assert both.iloc[:500]["temperature"].nunique() == 2 or len(drawn) >= 500
    table = score_all(asked, people, two, both, NATIVE, seed=1, resamples=10).metrics
    of_files = score_all(asked, people, two, files, NATIVE, seed=1, resamples=10).metrics
    pd.testing.assert_frame_equal(of_files, table, check_exact=True)
    decoded = table[(table["measure"] == "success_rate") & (table["demographic"] == "all")]
    assert decoded["value"].between(0.5, 1).all()


def test_when_everybody_gives_one_answer_every_measure_has_a_value_or_says_why():
    table = score(prompts([2, 2, 2]), distributions(EYE[[2, 2, 2]]), generations([2, 2, 2]), NATIVE)
    for measure in ("kl", "w1", "js", "tv", "crps", "kl_corrected"):
        assert value(table, measure) == pytest.approx(0)
        assert value(table, measure, column="low") == pytest.approx(0, abs=1e-6)
    assert value(table, "sd_ratio", column="reason") == "all humans gave the same answer"
    assert "no correlation" in value(table, "spearman", "mode", "reason")
    assert (table["value"].isna() == table["reason"].notna()).all()


def test_one_participant_has_values_but_no_intervals_and_the_rows_say_so():
    table = score(prompts([1]), distributions([[0, 0.5, 0.5, 0, 0]]), generations([3]), NATIVE)
    assert value(table, "w1") == pytest.approx(0.5) and value(table, "rmse", "sample") == 2
    assert table["low"].isna().all() and table["high"].isna().all()
    assert table["reason"].notna().all()
    assert value(table, "w1", column="reason") == "only 1 test participant, so no interval"
    assert np.isnan(value(table, "kl_corrected"))


def test_an_adapter_that_never_answers_has_named_reasons_in_every_group():
    asked = prompts([1, 2, 3, 4])
    people = nothing_known(asked).assign(side=["a", "a", "b", "b"])
    silent = generations([None] * 4, made_by="decode")
    table = scored(asked, distributions(np.zeros((4, 5)), [1] * 4), silent, people=people).metrics
    told = table.groupby(["demographic", "level"])["measure"].size()
    assert len(told) == 3 and told.nunique() == 1
    assert (table["value"].isna() == table["reason"].notna()).all()
    known = table.loc[table["value"].notna(), "measure"]
    assert set(known) == {"success_rate", "off_scale", "no_number", "unexpanded", "n_failed"}
    assert (table["shuffled_persona"].isna() == table["shuffled_reason"].notna()).all()


def test_questions_whose_answers_all_weigh_nothing_have_rows_that_say_so():
    asked = pd.concat(
        [prompts([1, 2]), prompts([3, 4]).assign(question="r", prompt_id=["r0", "r1"], weight=0.0, order=1)]
    )
    table = score(asked, distributions(EYE[[1, 2]]), generations([1, 2]), NATIVE)
    weightless = table[table["question"] == "r"]
    assert weightless["value"].isna().all() and len(weightless)
    assert set(weightless["reason"]) == {"all test answers have a survey weight of 0"}
    assert table[table["question"] == "q"]["value"].notna().any()


def test_an_only_prompt_of_an_intervention_keeps_its_persona():
    asked = prompts([0, 4]).assign(intervention=["one", "two"])
    table = score(asked, distributions(EYE[[0, 4]]), generations([0, 4]), NATIVE)
    assert value(table, "rmse", "mean", "shuffled_persona") == 0
    together = score(prompts([0, 4]), distributions(EYE[[0, 4]]), generations([0, 4]), NATIVE)
    assert 0 < value(together, "rmse", "mean", "shuffled_persona") < 4
