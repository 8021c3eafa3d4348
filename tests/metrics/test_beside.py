"""What stands beside each measure, and what a perfect and a shuffled simulator close of the gap."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.metrics.beside import BESIDE_COLUMNS, beside
from evsim_assets.metrics.noise_floor import noise_floor
from evsim_assets.metrics.nulls import score_nulls
from evsim_assets.metrics.scoreboard import gap_closed
from tests.metrics.people_who_differ import (
    DEMOGRAPHICS,
    distributions_of,
    metrics_of,
    people_who_differ,
    prompts_of,
)

# A model with exact distributions has no noise of its own, so a perfect one lies below the floor, which is
# that of two samples: by a half for squared distances, by 1 − 1/√2 for others. Hence gaps a little above 1.
POPULATION = ["kl", "kl_corrected", "w1", "js", "tv"]
GAPS = ["gap_closed_uniform", "gap_closed_population", "gap_closed_cell"]


class Study:
    def __init__(self):
        self.people = people_who_differ(6000)
        self.prompts = prompts_of(self.people)
        self.floors = noise_floor(self.prompts, self.people, DEMOGRAPHICS, seed=0, resamples=100)
        self.nulls = score_nulls(self.prompts, self.people, DEMOGRAPHICS, seed=0)
        truth = distributions_of(self.people)
        strangers = np.random.default_rng(5).permutation(len(truth))
        self.perfect, self.shuffled, self.uniform = (
            self.beside(given) for given in (truth, truth[strangers], np.full_like(truth, 1 / 11))
        )

    def beside(self, given):
        return beside(metrics_of(self.prompts, self.people, given), self.floors, self.nulls)


@pytest.fixture(scope="module")
def study():
    return Study()


def rows(table, measure, demographic="all", level="all", point="none"):
    found = table[(table["measure"] == measure) & (table["point_answer"] == point)]
    found = found[found["demographic"] == demographic]
    return found[found["level"] == level] if level else found


def only(table, measure, *place, **more):
    (row,) = rows(table, measure, *place, **more).to_dict("records")
    return row


@pytest.mark.parametrize("measure", POPULATION)
def test_a_perfect_simulator_closes_the_gap_from_uniform(study, measure):
    perfect, uniform = (only(t, measure, "age", "young") for t in (study.perfect, study.uniform))
    assert perfect["gap_closed_uniform"] == pytest.approx(1, abs=0.15)
    if measure != "kl_corrected":  # whose bias is found by a bootstrap here, and in closed form there
        assert uniform["gap_closed_uniform"] == pytest.approx(0, abs=1e-6)
    assert uniform["gap_closed_uniform"] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("measure", POPULATION)
@pytest.mark.parametrize("level", ["young", "old"])
def test_within_groups_a_perfect_simulator_closes_the_gap_from_the_population_and_a_shuffled_one_none(
    study, measure, level
):
    perfect, shuffled = (only(t, measure, "age", level) for t in (study.perfect, study.shuffled))
    assert perfect["gap_closed_population"] == pytest.approx(1, abs=0.15)
    assert shuffled["gap_closed_population"] == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize(("point", "measure"), [("none", "crps"), ("none", "nll"), ("mean", "rmse")])
def test_of_what_can_be_known_of_a_person_a_perfect_simulator_closes_all_and_a_shuffled_one_none(
    study, point, measure
):
    # People are simulated, so the least value possible is known: that of each person's true distribution
    # against answers drawn from it, by a sample of its own.
    again = prompts_of(study.people, seed=99)
    truth = metrics_of(again, study.people, distributions_of(study.people))
    (floor,) = rows(truth, measure, point=point)["value"]
    base = only(study.perfect, measure, point=point)["population_marginal"]
    assert gap_closed(base, only(study.perfect, measure, point=point)["value"], floor) == pytest.approx(
        1, abs=0.1
    )
    shuffled = only(study.shuffled, measure, point=point)["value"]
    assert gap_closed(base, shuffled, floor) < 0.1  # below 0: a stranger's distribution is sure, and wrong
    assert only(study.perfect, measure, point=point)["shuffled_persona"] == pytest.approx(shuffled, rel=0.05)


def test_a_model_that_gives_everyone_the_populations_answers_closes_nothing_within_groups(study):
    train = study.prompts[study.prompts["split"] == "train"]["answer"] // 10
    marginal = np.bincount(train, minlength=11) / len(train)
    table = study.beside(np.tile(marginal, (len(study.people), 1)))
    for measure in ("w1", "crps"):
        row = only(table, measure, "age", "old")
        assert row["value"] == pytest.approx(row["population_marginal"])
    assert only(table, "w1", "age", "old")["gap_closed_population"] == pytest.approx(0, abs=1e-6)


def test_over_everyone_the_population_marginal_leaves_no_gap_and_the_row_says_so(study):
    row = only(study.perfect, "w1")
    assert np.isnan(row["gap_closed_population"]) and np.isnan(row["gap_closed_cell"])
    assert row["population_marginal"] <= row["floor_high"]
    assert row["gap_reason"].startswith("population_marginal lies within the noise floor's band")
    # Luck tells nothing, so there is no gap from the population in its groups either.
    assert rows(study.perfect, "w1", "luck", None)["gap_closed_population"].isna().all()


def test_the_columns_are_the_rows_own_floor_and_nulls(study):
    row = only(study.perfect, "kl", "age", "young")
    floor = study.floors.query("measure == 'kl' and demographic == 'age' and level == 'young'").iloc[0]
    assert [row[c] for c in ("floor", "floor_low", "floor_high")] == floor[
        ["floor", "floor_low", "floor_high"]
    ].tolist()
    null = study.nulls.query(
        "measure == 'kl' and demographic == 'age' and level == 'young' and point_answer == 'none'"
    ).set_index("null")["value"]
    for name in ("uniform", "population_marginal", "cell_marginal"):
        assert row[name] == null[name]
    gap = (row["uniform"] - row["value"]) / (row["uniform"] - row["floor"])
    assert row["gap_closed_uniform"] == pytest.approx(gap)


def test_individual_measures_have_nulls_beside_them_and_a_reason_in_place_of_a_gap(study):
    for point, measure in (("none", "crps"), ("sample", "rmse"), ("mode", "mae"), ("median", "spearman")):
        row = only(study.perfect, measure, point=point)
        assert (
            all(np.isnan(row[gap]) for gap in GAPS)
            and "nobody answers the same prompt twice" in row["gap_reason"]
        )
        assert not np.isnan(row["cell_marginal"])
    assert "the best ratio is 1" in only(study.perfect, "sd_ratio")["gap_reason"]
    assert "no noise floor" in only(study.perfect, "success_rate")["gap_reason"]


def test_no_gap_is_missing_without_a_reason_and_no_row_is_lost(study):
    table = study.perfect
    assert list(table.columns[-len(BESIDE_COLUMNS) :]) == BESIDE_COLUMNS
    missing = table[GAPS].isna().any(axis=1)
    assert table["gap_reason"].notna().eq(missing).all()
    before = metrics_of(study.prompts, study.people, distributions_of(study.people))
    pd.testing.assert_frame_equal(table[before.columns], before)
    pd.testing.assert_frame_equal(
        beside(table, study.floors, study.nulls), table
    )  # and again changes nothing


def test_a_model_that_never_answered_has_its_own_reason(study):
    silent = metrics_of(study.prompts, study.people, np.zeros((len(study.people), 11)))
    table = beside(silent, study.floors, study.nulls)
    row = only(table, "w1")
    assert np.isnan(row["value"]) and row["gap_reason"] == row["reason"] and not np.isnan(row["floor"])


def test_a_null_without_a_value_says_why_beside_every_measure(study):
    table = study.perfect
    missing = table[["uniform", "population_marginal", "cell_marginal"]].isna()
    assert missing.any(axis=1).any() and not missing.all().any()
    assert (table["null_reason"].notna() == missing.any(axis=1)).all()
    tied = table[(table["point_answer"] == "mode") & (table["measure"] == "rmse")]["null_reason"]
    assert len(tied) and tied.str.startswith("uniform: ").all()
