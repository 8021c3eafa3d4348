"""Null models by hand, by draws, and per group."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evsim_assets.metrics.measures import kl, wasserstein_1
from evsim_assets.metrics.nulls import NULL_COLUMNS, TIED, score_nulls
from evsim_assets.specs.errors import BadInput
from tests.metrics.people_who_differ import DEMOGRAPHICS, people_who_differ, prompts_of


@pytest.fixture(scope="module")
def study():
    people = people_who_differ(1500)
    prompts = prompts_of(people)
    return people, prompts, score_nulls(prompts, people, DEMOGRAPHICS, seed=0)


def few():
    """Four people on 0–4: 0 and 4 are test answers, 1 and 1 training answers."""
    table = prompts_of(people_who_differ(4)).assign(high=4, step=1)
    table["answer"], table["split"] = [0, 4, 1, 1], ["test", "test", "train", "train"]
    return table


def values(nulls, demographic="all", level="all"):
    rows = nulls[(nulls["demographic"] == demographic) & (nulls["level"] == level)]
    return rows.set_index(["null", "point_answer", "measure"])["value"]


def test_null_models_by_hand():
    people = people_who_differ(4)
    found = values(score_nulls(few(), people, None, seed=0))
    assert found["uniform", "mean", "rmse"] == pytest.approx(2)
    assert found["uniform", "sample", "rmse"] == pytest.approx(np.sqrt(4 + 2))
    assert found["uniform", "sample", "mae"] == pytest.approx(2)
    assert found["uniform", "none", "nll"] == pytest.approx(np.log(5))
    # CRPS of the uniform on 0–4 at its end: Σ (1 − k/5)² for k = 1 … 4.
    assert found["uniform", "none", "crps"] == pytest.approx((16 + 9 + 4 + 1) / 25)
    marginal = "population_marginal"
    assert found[marginal, "sample", "rmse"] == pytest.approx(np.sqrt((1 + 9) / 2))
    assert found[marginal, "none", "w1"] == pytest.approx((1 + 3) / 2)
    assert found[marginal, "none", "js"] == pytest.approx(np.log(2))
    assert found[marginal, "none", "tv"] == 1
    assert found[marginal, "mode", "mae"] == 2 and found[marginal, "median", "mae"] == 2
    assert found[marginal, "none", "sd_ratio"] == 0
    # An answer nobody gave in training has a hundredth's fifth: it is improbable, not impossible.
    assert found[marginal, "none", "nll"] == pytest.approx(-np.log(0.01 / 5))


def test_kl_is_scipys_and_its_correction_takes_off_about_half_the_bins_over_the_answers(study):
    _, prompts, nulls = study
    test = prompts[prompts["split"] == "test"]["answer"]
    counts = np.bincount(test // 10, minlength=11)
    expected = stats.entropy(counts + 0.5, np.full(11, len(test) / 11) + 0.5)
    found = values(nulls)
    assert found["uniform", "none", "kl"] == pytest.approx(expected)
    bias = found["uniform", "none", "kl"] - found["uniform", "none", "kl_corrected"]
    assert bias == pytest.approx(10 / (2 * len(test)), rel=0.15)


def test_in_a_group_the_marginal_is_held_against_the_groups_answers(study):
    people, prompts, nulls = study
    rows = prompts.merge(people, on="participant")
    young = rows[(rows["split"] == "test") & (rows["age"] == "young")]["answer"]
    train = rows[rows["split"] == "train"]["answer"]
    found = values(nulls, "age", "young")
    expected = stats.wasserstein_distance(young, train)
    assert found["population_marginal", "none", "w1"] == pytest.approx(expected)
    assert found["population_marginal", "mean", "mae"] == pytest.approx(np.abs(young - train.mean()).mean())
    (n,) = nulls[(nulls["demographic"] == "age") & (nulls["level"] == "young")]["n"].unique()
    assert n == len(young)


def test_the_cell_marginal_knows_the_groups_and_says_what_it_knows(study):
    _, _, nulls = study
    assert set(nulls[nulls["null"] == "cell_marginal"]["cells"].str.split(",").str[0]) == {"age × region"}
    assert nulls[nulls["null"] != "cell_marginal"]["cells"].isna().all()
    everyone, young = values(nulls), values(nulls, "age", "young")
    for measure in ("crps", "nll"):
        assert (
            everyone["cell_marginal", "none", measure]
            < 0.9 * everyone["population_marginal", "none", measure]
        )
    assert young["cell_marginal", "none", "kl"] < 0.2 * young["population_marginal", "none", "kl"]
    assert everyone["cell_marginal", "mean", "spearman"] > 0.6
    assert (
        0.2 < everyone["cell_marginal", "sample", "spearman"] < everyone["cell_marginal", "mean", "spearman"]
    )


def test_expectations_over_draws_are_those_of_many_draws(study):
    people, prompts, nulls = study
    rows = prompts.merge(people, on="participant")
    test, train = (rows[rows["split"] == split]["answer"].to_numpy() for split in ("test", "train"))
    drawn = np.random.default_rng(0).choice(train, (4000, len(test)))
    found = values(nulls)
    rmse = np.sqrt(((drawn - test) ** 2).mean())
    assert found["population_marginal", "sample", "rmse"] == pytest.approx(rmse, rel=0.002)
    mae = np.abs(drawn - test).mean()
    assert found["population_marginal", "sample", "mae"] == pytest.approx(mae, rel=0.002)


def test_the_population_of_everybodys_mean_is_one_answer_of_the_marginal(study):
    _, prompts, nulls = study
    test, train = (prompts[prompts["split"] == split]["answer"] for split in ("test", "train"))
    nearest = np.floor(train.mean() / 10 + 0.5) * 10
    found = values(nulls).xs("population_marginal").xs("mean")
    tens = np.arange(0, 101, 10.0)
    human, one = np.bincount(test // 10, minlength=11), (tens == nearest).astype(float)
    assert found["w1"] == pytest.approx(float(wasserstein_1(tens, human, one)))
    assert found["kl"] == pytest.approx(float(kl(human, one * len(test))))


def test_every_value_that_is_missing_has_a_reason(study):
    _, _, nulls = study
    assert list(nulls.columns) == NULL_COLUMNS
    assert nulls["value"].isna().eq(nulls["reason"].notna()).all()
    gone = nulls[nulls["value"].isna()]
    known = gone[~gone["measure"].str.startswith(("kl_21", "kl_101")) & (gone["reason"] != TIED)]
    assert set(known["measure"]) == {"spearman"} and "cell_marginal" not in set(known["null"])
    assert gone.loc[gone["measure"] == "kl_21", "reason"].unique() == ["21 bins on a scale of 11 answers"]


def test_all_answers_of_the_uniform_are_its_mode_so_it_has_none_and_says_so(study):
    _, _, nulls = study
    uniform = nulls[(nulls["null"] == "uniform") & nulls["point_answer"].isin(["mode", "greedy"])]
    uniform = uniform[uniform["measure"] != "n_failed"]
    assert uniform["value"].isna().all() and uniform["reason"].unique() == [TIED]
    found = values(nulls)
    for null in ("population_marginal", "cell_marginal"):
        for measure in ("rmse", "kl", "w1"):
            assert found[null, "greedy", measure] == found[null, "mode", measure] > 0
    people = people_who_differ(4)
    tied = few().assign(answer=[0, 4, 1, 3])  # two training answers, one each
    marginal = score_nulls(tied, people, None, seed=0)
    assert np.isnan(values(marginal)["population_marginal", "mode", "mae"])
    assert values(marginal)["population_marginal", "median", "mae"] == (1 + 3) / 2


def test_null_models_answer_every_prompt(study):
    found = values(study[2])
    for null in ("uniform", "population_marginal", "cell_marginal"):
        assert found[null, "none", "success_rate"] == 1
        assert all(found[null, "none", mass] == 0 for mass in ("off_scale", "no_number", "unexpanded"))
        assert all(found[null, point, "n_failed"] == 0 for point in ("sample", "greedy", "mean", "mode"))


def test_a_group_of_one_and_a_question_never_trained_on_have_reasons():
    people = people_who_differ(4).assign(age=["young", "old", "old", "old"])
    found = score_nulls(few(), people, ["age"], seed=0)
    young = found[(found["demographic"] == "age") & (found["level"] == "young")]
    assert set(young["reason"]) == {"only 1 test participant"} and young["value"].isna().all()
    untrained = few().query("split == 'test'")
    reasons = score_nulls(untrained, people, [], seed=0).groupby("null")["reason"].unique()
    assert reasons["population_marginal"].tolist() == ["no training answer to this question"]
    assert reasons["cell_marginal"].tolist() == ["no training answer to this question"]


def test_no_order_of_rows_changes_a_value(study):
    people, prompts, nulls = study
    shuffled = prompts.sample(frac=1, random_state=1), people.sample(frac=1, random_state=2)
    pd.testing.assert_frame_equal(nulls, score_nulls(*shuffled, DEMOGRAPHICS, seed=0), rtol=1e-9)


def test_a_stranger_is_refused():
    with pytest.raises(BadInput, match="nothing is known of 1 participants"):
        score_nulls(few(), people_who_differ(4).iloc[1:], None, seed=0)
