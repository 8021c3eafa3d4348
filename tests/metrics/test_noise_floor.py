"""What two groups of humans differ by: theory, disjoint groups, demographic groups, and who has no floor."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.metrics.kl_bias import Moments, kl_bias_of_model, kl_bias_of_samples
from evsim_assets.metrics.measures import kl
from evsim_assets.metrics.noise_floor import FLOOR_COLUMNS, noise_floor
from evsim_assets.specs.demographics import Demographic
from evsim_assets.specs.errors import BadInput

HEAPS, SHARES = [0, 10, 30, 50, 80, 100], [0.1, 0.1, 0.2, 0.3, 0.2, 0.1]
SEX = Demographic(name="sex", column="sex", options=("m", "f", "x"))


def survey(people=2000, each=1, seed=0):
    """People with `each` answers that agree within a person; a tenth of them test."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), each)
    answer = rng.choice(HEAPS, people, p=SHARES)[person]
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


def people_of(prompts, **columns):
    people = pd.DataFrame({"participant": prompts["participant"].unique()})
    return people.assign(**columns)


def floors_of(prompts, seed=0, demographics=None, people=None, **more):
    return noise_floor(prompts, people_of(prompts) if people is None else people, demographics, seed, **more)


def floor_of(table, measure, demographic="all", level="all"):
    rows = table[(table["measure"] == measure) & (table["demographic"] == demographic)]
    (row,) = rows[rows["level"] == level].to_dict("records")
    return row


def test_the_kl_floor_is_what_theory_says_of_two_samples():
    # Two multinomial samples of n over k bins: E[KL] ≈ (k − 1)/n; six of the eleven bins are in use.
    floor = floor_of(floors_of(survey(4000)), "kl")["floor"]
    assert floor == pytest.approx(5 / 400, rel=0.25)


def test_the_corrected_kl_of_two_samples_of_the_same_humans_is_nought_within_a_band_on_both_sides():
    table = floors_of(survey(4000), resamples=1000)
    for bins in ("kl", "kl_21", "kl_101"):
        plain, corrected = floor_of(table, bins), floor_of(table, f"{bins}_corrected")
        assert abs(corrected["floor"]) < 0.05 * plain["floor"]
        assert corrected["floor_low"] < 0 < corrected["floor_high"]


def test_the_bias_of_kl_is_the_one_that_a_bootstrap_over_people_finds():
    rng = np.random.default_rng(0)
    answered = rng.multinomial(3, SHARES, 120) * rng.gamma(4, 0.25, 120)[:, None]  # 3 answers each, weighted
    human, model = answered[:60], answered[60:]
    value = kl(human.sum(0), model.sum(0) * (human.sum() / model.sum()))
    times = rng.multinomial(60, np.full(60, 1 / 60), (2, 20_000)).astype(float)
    drawn, said = times[0] @ human, times[1] @ model
    size = drawn.sum(1, keepdims=True)
    bootstrap = kl(drawn, said * (size / said.sum(1, keepdims=True))).mean() - value
    once = np.ones((1, 60))
    (bias,) = kl_bias_of_samples(Moments.of(once, human), Moments.of(once, model))
    assert bias == pytest.approx(bootstrap, rel=0.1)


def test_the_bias_against_a_model_is_the_bootstraps_too_and_half_as_large():
    rng = np.random.default_rng(1)
    human = rng.multinomial(1, SHARES, 300).astype(float)
    fixed = np.tile(SHARES, (300, 1))
    bias = kl_bias_of_model(human, fixed)
    assert bias == pytest.approx(5 / 600, rel=0.1)
    personal = 0.5 * human + 0.5 * rng.dirichlet(np.ones(6), 300)  # it knows the people
    times = rng.multinomial(300, np.full(300, 1 / 300), 20_000).astype(float)
    bootstrap = kl(times @ human, times @ personal).mean() - kl(human.sum(0), personal.sum(0))
    assert kl_bias_of_model(human, personal) == pytest.approx(bootstrap, rel=0.1)


def test_a_persons_answers_stay_together():
    # Five equal answers a person carry the noise of one: the floor is that of the number of people.
    one, five = (floors_of(survey(each=each)) for each in (1, 5))
    assert floor_of(five, "w1")["floor"] == pytest.approx(floor_of(one, "w1")["floor"], rel=0.02)
    assert abs(floor_of(five, "kl_corrected")["floor"]) < 0.2 * floor_of(five, "kl")["floor"]


def test_a_group_has_the_floor_of_its_own_people_and_size():
    prompts = survey(4000)
    women = np.arange(4000) % 4 == 0  # a quarter, who all say 50 but for one in ten
    prompts.loc[women, "answer"] = np.where(np.arange(1000) % 10 == 0, 100, 50)
    people = people_of(prompts, sex=np.where(women, "f", "m"))
    table = floors_of(prompts, people=people, demographics=["sex"])
    alone = floors_of(prompts[women], people=people[women])
    row = floor_of(table, "w1", "sex", "f")
    assert row["n"] == floor_of(alone, "w1")["n"] == 100
    # Two samples of 100 with shares of 0.1: 50 points × |difference|, of mean √(2/π) √(2 · 0.09 / 100).
    expected = 50 * np.sqrt(2 / np.pi) * np.sqrt(2 * 0.09 / 100)
    assert row["floor"] == pytest.approx(expected, rel=0.12)
    assert floor_of(alone, "w1")["floor"] == pytest.approx(expected, rel=0.12)
    # … of which 97.5 of 100 lie below 2.24 of its standard deviations, and 2.5 below 0.03 of them.
    assert row["floor_high"] == pytest.approx(50 * 2.24 * np.sqrt(2 * 0.09 / 100), rel=0.25)
    assert row["floor_low"] <= 0.5
    assert floor_of(table, "w1")["floor"] == pytest.approx(floor_of(floors_of(prompts), "w1")["floor"])
    assert list(table.columns) == FLOOR_COLUMNS


def test_a_group_that_weighs_little_is_no_smaller_for_it():
    prompts = survey(1000)
    people = people_of(prompts, sex=np.where(np.arange(1000) % 2 == 0, "f", "m"))
    lighter = prompts.assign(weight=np.where(np.arange(1000) % 2 == 0, 0.125, 1.0))
    one, other = (floors_of(p, people=people, demographics=["sex"], resamples=20) for p in (prompts, lighter))
    for measure in ("kl", "kl_corrected"):
        row, same = (floor_of(table, measure, "sex", "f") for table in (one, other))
        assert row["floor"] == pytest.approx(same["floor"], rel=1e-9)


def test_a_group_with_fewer_than_two_test_participants_says_so():
    prompts = survey(200)
    sex = np.where(np.arange(200) == 0, "m", "f")  # participant 0 is in the test split
    people = people_of(prompts, sex=sex)
    table = floors_of(prompts, people=people, demographics=[SEX], resamples=5)
    for level, reason in (("m", "only 1 test participant"), ("x", "no test participant")):
        row = floor_of(table, "kl", "sex", level)
        assert np.isnan(row["floor"]) and row["reason"] == reason
    assert floor_of(table, "kl", "sex", "f")["n"] == 19


def test_a_question_asked_of_few_is_compared_between_as_many_as_answered_it():
    prompts = survey(1000)
    few = prompts[prompts["participant"].astype(int) % 5 == 0].assign(question="r", order=1)
    table = floors_of(pd.concat([prompts, few], ignore_index=True), resamples=5)
    assert table[table["measure"] == "kl"].set_index("question")["n"].to_dict() == {"q": 100, "r": 20}


def test_the_floor_is_the_same_every_time_and_in_any_order_and_other_for_another_seed():
    prompts = survey(300)
    people = people_of(prompts, sex="f")
    first, again, other = (floors_of(prompts, s, ["sex"], people, resamples=20) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    shuffled = prompts.sample(frac=1, random_state=1), people.sample(frac=1, random_state=2)
    pd.testing.assert_frame_equal(first, floors_of(shuffled[0], 0, ["sex"], shuffled[1], resamples=20))
    assert floor_of(first, "kl")["floor"] != floor_of(other, "kl")["floor"]


def test_the_groups_are_disjoint_even_where_test_is_most_of_the_study():
    prompts = survey(10).assign(split="test", answer=np.arange(10) * 10)
    table = floors_of(prompts, resamples=10)
    assert set(table["n"]) == {5}
    # Ten people with ten answers: two disjoint halves never give the same one.
    assert floor_of(table, "tv")["floor_low"] == 1


@pytest.mark.parametrize("measure", ["rmse", "mae", "spearman", "crps", "nll"])
def test_individual_measures_have_no_floor_and_say_why(measure):
    row = floor_of(floors_of(survey(100), resamples=5), measure)
    assert np.isnan(row["floor"]) and "nobody answers" in row["reason"]


def test_where_everybody_agrees_the_spread_has_a_reason_and_distances_are_nought():
    table = floors_of(survey(100).assign(answer=50), resamples=5)
    row = floor_of(table, "sd_ratio")
    assert np.isnan(row["floor"]) and row["reason"] == "everybody gave the same answer"
    assert [floor_of(table, m)["floor"] for m in ("kl", "w1", "js", "tv")] == [0, 0, 0, 0]
    assert table["floor"].notna().eq(table["reason"].isna()).all()


def test_a_study_without_test_participants_has_no_floor_and_a_stranger_is_refused():
    prompts = survey(100)
    with pytest.raises(BadInput, match="one of them in the test split"):
        floors_of(prompts.assign(split="train"))
    with pytest.raises(BadInput, match="nothing is known of 1 participants"):
        floors_of(prompts, people=people_of(prompts).iloc[1:])
