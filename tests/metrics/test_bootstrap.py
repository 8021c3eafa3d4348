"""Intervals: who is drawn, and that replicates are what a resampled survey would have given."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from evsim_assets.metrics.agreement import score
from evsim_assets.metrics.bootstrap import bias, interval, participant_weights
from evsim_assets.metrics.distance_intervals import squared_distance_interval
from evsim_assets.metrics.ranks import Pairs, correlation
from tests.metrics.simulated_survey import NATIVE, a_survey, asked_again


def test_a_participant_is_drawn_alike_whoever_else_is_there_and_in_whatever_order():
    whole = participant_weights(7, ["a", "b", "c"], 40)
    assert whole.shape == (40, 3)
    assert np.array_equal(participant_weights(7, ["c", "a"], 40), whole[:, [2, 0]])
    assert np.array_equal(participant_weights(7, ["b"], 20)[:, 0], whole[:20, 1])
    assert not np.array_equal(participant_weights(8, ["a", "b", "c"], 40), whole)


def test_counts_are_those_of_a_resampling_with_replacement():
    counts = participant_weights(0, [f"p{i}" for i in range(400)], 500)
    share = [(counts == k).mean() for k in range(4)]
    assert share == pytest.approx(stats.poisson(1).pmf(range(4)), abs=0.004)
    assert np.corrcoef(counts[:, 0], counts[:, 1])[0, 1] == pytest.approx(0, abs=0.15)


def test_an_interval_is_numpys_quantiles_of_the_replicates_that_are_defined():
    drawn = np.random.default_rng(0).normal(size=(101, 2))
    drawn[:30, 1] = np.nan
    low, high = interval(drawn)
    assert [low[0], high[0]] == pytest.approx(np.quantile(drawn[:, 0], [0.025, 0.975]))
    assert [low[1], high[1]] == pytest.approx(np.quantile(drawn[30:, 1], [0.025, 0.975]))
    assert bias(np.array([1.0, 2.0]), drawn) == pytest.approx(
        [drawn[:, 0].mean() - 1, drawn[30:, 1].mean() - 2]
    )
    nothing = np.full((5, 1), np.nan)
    assert np.isnan(interval(nothing)).all() and bias(np.array([1.0]), nothing) == 0


@pytest.fixture(scope="module")
def survey():
    return a_survey(people=30, each=3, seed=1)


@pytest.fixture(scope="module")
def scored(survey):
    return score(*survey, NATIVE, seed=3, resamples=200)


def compared(scored, point, measure):
    rows = scored.replicates
    chosen = (rows["point_answer"] == point) & (rows["measure"] == measure)
    return np.asarray(rows.loc[chosen, "replicates"].iloc[0])


def values(scored):
    rows = scored.metrics[scored.metrics["demographic"] == "all"]
    return rows.set_index(["point_answer", "measure"])


EXACT = [
    ("none", "w1"),
    ("none", "tv"),
    ("none", "sd_ratio"),
    ("none", "crps"),
    ("none", "nll"),
    ("none", "success_rate"),
    *((point, "rmse") for point in ("sample", "mean", "median", "mode")),
    ("sample", "mae"),
    ("median", "w1"),
]


def test_a_replicate_is_the_score_of_the_survey_with_its_people_as_often_as_they_were_drawn(survey, scored):
    people = sorted(survey[0]["participant"].unique())
    counts = participant_weights(3, people, 200)
    for replicate in (0, 5):
        times = dict(zip(people, counts[replicate].astype(int), strict=True))
        again = values(score(*asked_again(survey, times), NATIVE, seed=0, resamples=2))
        for key in EXACT:
            assert compared(scored, *key)[replicate] == pytest.approx(again.loc[key, "value"], rel=2e-4)


BEYOND = stats.norm.cdf(-np.sqrt(30 / 29) * stats.t.ppf(0.975, 29))
OF_THIRTY = [BEYOND, 1 - BEYOND]
"""The quantiles at the ends of the survey's intervals, which is of 30 people."""


def test_the_interval_of_a_few_peoples_mean_is_students():
    rng, inside = np.random.default_rng(0), []
    counts = participant_weights(0, [f"p{i}" for i in range(8)], 1000)
    for _ in range(800):
        answers = rng.normal(size=8)
        low, high = interval(answers.mean() + (counts @ (answers - answers.mean()) / 8)[:, None], people=8)
        inside.append(low[0] <= 0 <= high[0])
    assert 0.93 <= np.mean(inside) <= 0.97  # the plain percentiles hold 0 in 89 of 100


def of_noncentral_chi_squared(value, bias, variance, dimensions):
    """Scipy's: the distances under which `value` is at either end of the middle 95 %."""
    null = 2 * bias**2 / dimensions
    scale = max(variance - null, null) / (2 * bias + 4 * max(value - bias, 0))

    def end(share):
        def beyond(distance):
            return stats.ncx2.cdf(value / scale, bias / scale, distance / scale) - share

        return optimize.brentq(beyond, 1e-12, 20 * value) if beyond(1e-12) > 0 else 0.0

    return end(0.975), end(0.025)


def test_a_kls_interval_holds_the_distances_under_which_the_value_is_no_surprise(survey, scored):
    rows, drawn = values(scored), compared(scored, "none", "kl").astype(float)
    value = rows.loc[("none", "kl"), "value"]
    excess = drawn.mean() - value
    corrected = rows.loc[("none", "kl_corrected")]
    assert excess > 0 and corrected["value"] == pytest.approx(value - excess, abs=1e-6)
    bins = survey[0]["answer"].nunique()  # of 11, and of the model's too, which says a little of everything
    ends = of_noncentral_chi_squared(value, excess * 10 / (bins - 1), drawn.var(), 10)
    assert corrected[["low", "high"]].tolist() == pytest.approx(ends, rel=1e-3)
    assert rows.loc[("none", "kl"), ["low", "high"]].tolist() == pytest.approx(ends, rel=1e-3)
    assert compared(scored, "none", "kl_corrected") == pytest.approx(drawn - 2 * excess, abs=1e-6)


def test_the_interval_of_a_squared_distance_is_exact_for_normal_noise_of_equal_variance():
    # |δ + ε|²/(2n) of five dimensions, ε standard normal: so far from 0 and at 0 as the binomial test tells.
    rng, n = np.random.default_rng(5), 100
    for apart in (0.0, 1.0, 3.0):
        noise = rng.normal([apart, 0, 0, 0, 0], 1.0, (4000, 5))
        seen = (noise**2).sum(axis=1) / (2 * n)
        bias = np.full(len(seen), 5 / (2 * n))
        variance = (10 + 4 * 2 * n * seen) / (4 * n**2)  # of |x + ε'|²/(2n), given x
        low, high = squared_distance_interval(seen, bias, variance, np.full(len(seen), 5.0), excess=2.0)
        inside = ((low <= apart**2 / (2 * n)) & (apart**2 / (2 * n) <= high)).mean()
        assert 0.94 <= inside <= (0.97 if apart else 0.985)  # at 0, no interval can lie below


def test_far_from_0_the_interval_of_a_squared_distance_is_the_usual_one():
    for deviation in (0.02, 1e-3, 1e-6):  # the last two are beyond what scipy inverts in useful time
        one = [np.array([number]) for number in (1.0, 1e-9, deviation**2, 10.0)]
        ends = [float(end[0]) for end in squared_distance_interval(*one)]
        assert ends == pytest.approx(
            [1 - 1.96 * deviation, 1 + 1.96 * deviation], abs=0.05 * deviation + 1e-8
        )


def test_distances_are_brought_back_to_the_value_and_narrowed_where_noise_makes_most_of_them(scored):
    for point, measure in (("none", "w1"), ("none", "tv"), ("sample", "w1")):
        row, drawn = values(scored).loc[(point, measure)], compared(scored, point, measure).astype(float)
        value, mean = row["value"], drawn.mean()
        centred = np.quantile(drawn, OF_THIRTY) - mean
        ends = value + 0.3 * (mean - value) + centred * np.sqrt(min(value / mean, 1))
        assert [row["low"], row["high"]] == pytest.approx(np.maximum(ends, 0), abs=1e-5)
        assert row["low"] <= row["value"] <= row["high"]


def test_individual_measures_have_percentile_intervals(scored):
    row = values(scored).loc[("mean", "rmse")]
    drawn = compared(scored, "mean", "rmse").astype(float)
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(drawn, OF_THIRTY), rel=1e-5)


def test_adapters_are_resampled_alike(survey, scored):
    prompts, people, distributions, generations = survey
    other = NATIVE | {"adapter": "another"}
    again = score(prompts, people, distributions, generations, other, seed=3, resamples=200)
    assert np.array_equal(compared(again, "none", "w1"), compared(scored, "none", "w1"))
    assert set(again.replicates["adapter"]) == {"another"}


def correlated(n, seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 11, n)
    return first, np.clip(first + rng.integers(-4, 5, n), 0, 10), np.arange(n) // 2


def test_rank_correlation_is_scipys_also_where_pairs_recur():
    for n in (40, 600):  # fewer, and more, pairs than there are different ones
        first, second, person = correlated(n, 1)
        pairs = Pairs(first, second, np.ones(n), person)
        expected = stats.spearmanr(first, second).statistic
        assert correlation(pairs, n // 2).value == pytest.approx(expected)


def test_a_persons_pull_is_how_the_correlation_moves_when_they_count_a_little_more():
    first, second, person = correlated(200, 2)
    weight = np.random.default_rng(0).uniform(0.5, 2, 200)
    found = correlation(Pairs(first, second, weight, person), 100)
    for someone in (0, 17, 99):
        step = 1e-5
        more = weight * np.where(person == someone, 1 + step, 1)
        moved = correlation(Pairs(first, second, more, person), 100).value
        slope = (np.arctanh(moved) - np.arctanh(found.value)) / step
        assert found.pull[someone] == pytest.approx(slope, rel=1e-3, abs=1e-7)


def test_replicates_of_the_rank_correlation_spread_as_those_with_ranks_taken_anew():
    first, second, person = correlated(400, 3)
    found = correlation(Pairs(first, second, np.ones(400), person), 200)
    counts = participant_weights(0, [f"p{i}" for i in range(200)], 400).astype(int)
    anew = [stats.spearmanr(first.repeat(c[person]), second.repeat(c[person])).statistic for c in counts]
    linear = found.replicates(counts @ found.pull, counts @ found.share)
    assert np.corrcoef(anew, linear)[0, 1] > 0.98
    assert interval(linear[:, None])[0][0] == pytest.approx(np.quantile(anew, 0.025), abs=0.01)
    assert interval(linear[:, None])[1][0] == pytest.approx(np.quantile(anew, 0.975), abs=0.01)


def test_a_perfect_rank_correlation_stays_perfect():
    places = np.arange(5)
    found = correlation(Pairs(places, places, np.ones(5), places), 5)
    assert found.replicates(np.array([0.3]), np.array([0.5])).tolist() == [1.0]


def test_the_interval_of_drawn_answers_is_wider_than_that_of_the_distributions_they_are_from():
    # One draw a person, from a distribution that is the same for all: the luck of the draw, and people.
    prompts, people, distributions, generations = a_survey(people=300, each=1, seed=4, alike=True)
    one = generations[generations["replicate"] == 0]
    found = values(score(prompts, people, distributions, one, NATIVE, seed=0, resamples=400))
    said = prompts.merge(one, on="prompt_id", suffixes=("", "_said")).dropna(subset="answer_said")
    spread = found.loc[("sample", "mae"), "high"] - found.loc[("sample", "mae"), "low"]
    distances = (said["answer"] - said["answer_said"]).abs().to_numpy(float)
    expected = 2 * 1.96 * distances.std() / np.sqrt(len(distances))
    assert spread == pytest.approx(expected, rel=0.1)
    w1 = found.loc[("sample", "w1"), "high"] - found.loc[("sample", "w1"), "low"]
    exact = found.loc[("none", "w1"), "high"] - found.loc[("none", "w1"), "low"]
    assert w1 > 1.1 * exact


def test_replicates_are_kept_of_everybody_alone_and_as_single_precision(scored):
    table = scored.replicates
    assert set(table["demographic"]) == set(table["level"]) == {"all"}
    assert {len(r) for r in table["replicates"]} == {200}
    assert all(r.dtype == np.float32 for r in table["replicates"])
    assert isinstance(table, pd.DataFrame) and not table.duplicated(["point_answer", "measure"]).any()
