"""Each measure against scipy or numbers worked out by hand."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from evsim_assets.metrics.measures import (
    NLL_FLOOR,
    answer_counts,
    crps,
    distribution_means,
    distribution_medians,
    distribution_modes,
    js,
    kl,
    mae,
    missing_measure_reason,
    nll,
    population_measures,
    rebin,
    rmse,
    sd_ratio,
    spearman,
    total_variation,
    wasserstein_1,
)
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import DIGITS, Scale

RATING = Scale(low=0, high=100)
VALUES = np.arange(101.0)


@pytest.fixture
def two_populations():
    rng = np.random.default_rng(1)
    return rng.integers(0, 9, 101).astype(float), rng.integers(0, 9, 101).astype(float)


def test_opposite_populations_are_the_whole_scale_apart():
    all_low, all_high = answer_counts([0] * 7, RATING), answer_counts([100] * 3, RATING)
    assert wasserstein_1(VALUES, all_low, all_high) == 100
    assert total_variation(all_low, all_high) == 1
    assert js(all_low, all_high) == pytest.approx(np.log(2))


def test_populations_with_the_same_masses_in_other_places_differ():
    # The values of these two weight vectors are the same set of numbers: a measure that took weights
    # for values would call them equal.
    assert wasserstein_1([1, 2, 3], [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]) == pytest.approx(1.2)


def test_wasserstein_is_scipys_on_values_with_weights(two_populations):
    human, model = two_populations
    expected = stats.wasserstein_distance(VALUES, VALUES, human, model)
    assert wasserstein_1(VALUES, human, model) == pytest.approx(expected)


def test_kl_is_scipys_entropy_of_the_counts_raised_by_a_half(two_populations):
    human, model = two_populations
    assert kl(human, model) == pytest.approx(stats.entropy(human + 0.5, model + 0.5))


def test_kl_by_hand():
    # (3.5, 0.5)/4 against (0.5, 3.5)/4
    assert kl([3, 0], [0, 3]) == pytest.approx((3.5 - 0.5) / 4 * np.log(7))


def test_smoothing_keeps_kl_finite_where_the_model_never_goes():
    measured = population_measures(RATING, answer_counts([0, 50, 100], RATING), answer_counts([50], RATING))
    assert all(np.isfinite(measured[name]) for name in ("kl", "kl_21", "kl_101"))


def test_js_and_total_variation_are_scipys(two_populations):
    human, model = two_populations
    assert js(human, model) == pytest.approx(jensenshannon(human, model) ** 2)
    expected = np.abs(human / human.sum() - model / model.sum()).sum() / 2
    assert total_variation(human, model) == pytest.approx(expected)


def test_sd_ratio_by_hand_and_undefined_where_humans_agree():
    assert sd_ratio([0, 1, 2], [1, 0, 1], [0, 1, 0]) == 0
    assert sd_ratio([0, 2, 4], [1, 0, 1], [0, 1, 1]) == pytest.approx(0.5)
    assert np.isnan(sd_ratio([0, 1, 2], [0, 5, 0], [1, 0, 1]))


def test_eleven_bins_are_centred_on_the_tens_and_leave_every_heap_whole():
    centres = {0: 0, 4: 0, 5: 1, 10: 1, 14: 1, 15: 2, 50: 5, 94: 9, 95: 10, 100: 10}
    for answer, expected in centres.items():
        assert rebin(answer_counts([answer], RATING), 11).tolist().index(1.0) == expected
    assert rebin(np.ones(101), 11).tolist() == [5, *[10] * 9, 6]


def test_twenty_one_bins_are_centred_on_the_fives():
    for answer, expected in {2: 0, 3: 1, 5: 1, 7: 1, 8: 2, 75: 15, 98: 20}.items():
        assert rebin(answer_counts([answer], RATING), 21).tolist().index(1.0) == expected


def test_a_short_scale_has_one_bin_an_answer_and_no_finer_kl():
    human, model = np.arange(10) + 1.0, np.ones(10) * 5.5
    measured = population_measures(DIGITS, human, model)
    assert measured["kl"] == pytest.approx(stats.entropy(human + 0.5, model + 0.5))
    assert "kl_21" not in measured
    assert missing_measure_reason("kl_21", DIGITS) == "21 bins on a scale of 10 answers"
    assert missing_measure_reason("kl", DIGITS) is None


def test_w1_is_in_scale_units_whatever_the_step():
    scale = Scale(low=1, high=9, step=4)
    measured = population_measures(scale, [4, 0, 0], [0, 0, 1])
    assert measured["w1"] == 8


def test_kl_does_not_depend_on_how_the_models_weights_are_scaled():
    human = answer_counts([10, 20, 20, 90], RATING)
    model = answer_counts([10, 30], RATING)
    assert population_measures(RATING, human, model)["kl"] == pytest.approx(
        population_measures(RATING, human, model * 0.01)["kl"]
    )


def test_individual_measures_are_scipys():
    rng = np.random.default_rng(2)
    human, model = rng.integers(0, 11, 60), rng.integers(0, 11, 60)
    assert spearman(human, model) == pytest.approx(stats.spearmanr(human, model).statistic)
    assert rmse([0, 10], [3, 6]) == pytest.approx(np.sqrt(12.5))
    assert mae([0, 10], [3, 6]) == 3.5
    assert np.isnan(spearman([1, 2, 3], [5, 5, 5]))


def test_crps_equals_mean_distance_less_half_the_spread():
    # CRPS = E|X − y| − ½ E|X − X'|, the other way of writing it
    values, p = np.array([0.0, 5.0, 10.0, 15.0]), np.array([0.1, 0.2, 0.3, 0.4])
    between = p @ np.abs(values[:, None] - values[None, :]) @ p
    for answer in values:
        expected = p @ np.abs(values - answer) - between / 2
        assert crps(values, p[None, :], [answer])[0] == pytest.approx(expected)


def test_crps_is_the_integral_of_the_squared_distance_of_both_cumulative_functions():
    values, p, answer = np.array([0.0, 1.0, 4.0, 9.0]), np.array([0.2, 0.3, 0.1, 0.4]), 4.0
    fine = (np.arange(90_000) + 0.5) / 10_000  # midpoints of steps, so exact for step functions
    below = np.array([p[values <= v].sum() for v in fine[::1000]]).repeat(1000)
    integral = ((below - (fine >= answer)) ** 2).sum() / 10_000
    assert crps(values, p[None], [answer])[0] == pytest.approx(integral, abs=1e-3)


def test_nll_is_the_logarithm_of_the_answers_probability_and_never_infinite():
    p = np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    scored = nll([1, 2, 3], p, [2, 3, 1])
    spread = NLL_FLOOR / 3
    by_hand = [0.99 * 0.25 + spread, 0.99 + spread, spread]
    assert NLL_FLOOR == 0.01 and scored.tolist() == pytest.approx((-np.log(by_hand)).tolist())
    assert nll([1, 2, 3], p[:1], [2], floor=0)[0] == pytest.approx(np.log(4))
    with pytest.raises(BadInput, match="not among"):
        nll([1, 2, 3], p[:1], [4])


def test_many_replicates_are_measured_at_once_as_one_by_one():
    rng = np.random.default_rng(4)
    human, models = rng.integers(0, 9, (5, 101)).astype(float), rng.random((3, 5, 101))
    together = population_measures(RATING, human, models)
    for name, values in together.items():
        for m, replicate in np.ndindex(3, 5):
            alone = population_measures(RATING, human[replicate], models[m, replicate])[name]
            assert values[m, replicate] == pytest.approx(alone)


def test_single_precision_is_kept_and_near_enough():
    rng = np.random.default_rng(5)
    human, model = rng.integers(0, 99, (4, 101)).astype(float), rng.random((4, 101))
    light = population_measures(RATING, human.astype(np.float32), model.astype(np.float32))
    for name, values in population_measures(RATING, human, model).items():
        assert light[name] == pytest.approx(values, rel=1e-4, abs=1e-5)


def test_only_the_measures_asked_for_are_taken():
    assert set(population_measures(DIGITS, np.ones(10), np.ones(10), ("kl", "w1"))) == {"kl", "w1"}


def test_a_mode_is_the_most_likely_answer_and_the_lowest_of_several():
    assert distribution_modes([0, 5, 10], [[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]]).tolist() == [5, 0]


def test_means_and_medians_of_distributions():
    values, weights = [0, 1, 2], [[0.2, 0.2, 0.1], [0, 0, 1], [0.5, 0.5, 0]]
    assert distribution_means(values, weights).tolist() == pytest.approx([0.8, 2, 0.5])
    assert distribution_medians(values, weights).tolist() == [1, 2, 0]


def test_an_answer_off_the_scale_is_refused_not_clipped():
    with pytest.raises(BadInput, match="not on the scale"):
        answer_counts([50, 101], RATING)
    with pytest.raises(BadInput, match="not on the scale"):
        answer_counts([3], Scale(low=0, high=10, step=2))


def test_an_empty_population_and_an_empty_pairing_are_refused():
    with pytest.raises(BadInput, match="not all zero"):
        wasserstein_1([0, 1], [0, 0], [1, 0])
    with pytest.raises(BadInput, match="paired answers"):
        rmse([], [])
    with pytest.raises(BadInput, match="paired answers"):
        rmse([1, 2], [1, np.nan])
