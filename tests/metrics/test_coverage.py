"""The 95 % intervals hold 95 %: repeated samples from populations that are known."""

import numpy as np
import pytest

from benchmarks.interval_coverage import Scenario, coverage, floor_coverage

NEAR_NOUGHT = {(model, measure) for model in ("close", "tuned") for measure in ("kl_corrected", "js")}
NEAR_NOUGHT |= {("tuned", "w1"), ("tuned", "tv"), ("close", "tv")}
"""Where the true distance is hardly larger than its noise, intervals may be too wide, but not too narrow: no
interval can go below 0, and those that are made narrower miss where a person's answers are alike."""
MEASURES = {"kl_corrected", "js", "w1", "sd_ratio", "crps", "rmse"}
each_scenario = pytest.mark.parametrize(
    ("scenario", "repetitions"),
    [(Scenario(150, 1, False), 200), (Scenario(600, 1, True), 200)],
    ids=lambda value: getattr(value, "name", ""),
)


def bounds(repetitions, errors):
    """93 % and 97 %, so many standard errors wider."""
    error = errors * np.sqrt(0.05 * 0.95 / repetitions)
    return 0.93 - error, 0.97 + error


@pytest.mark.slow
@each_scenario
def test_intervals_of_measures_and_of_paired_differences_contain_the_true_value(scenario, repetitions):
    found = {key: inside for key, (inside, _, _) in coverage(scenario, repetitions).items()}
    tried = {key for key in found if (key[0], key[2]) not in NEAR_NOUGHT and key[2] in MEASURES}
    assert {measure for _, _, measure in tried} == MEASURES
    low, high = bounds(repetitions, errors=1)
    means = {m: np.mean([found[key] for key in tried if key[2] == m]) for m in MEASURES}
    assert all(low <= mean <= high for mean in means.values()), means
    low, high = bounds(repetitions, errors=2)
    assert not {key: found[key] for key in tried if not low <= found[key] <= high}
    assert all(found[key] >= low for key in found if key[2] in MEASURES)


@pytest.mark.slow
@each_scenario
def test_the_floors_band_contains_the_measure_between_two_further_samples_of_humans(scenario, repetitions):
    found = {key[2]: inside for key, (inside, _, _) in floor_coverage(scenario, repetitions).items()}
    assert set(found) == {"kl", "w1", "js", "tv", "sd_ratio"}
    low, high = bounds(repetitions, errors=2)
    assert all(low <= share <= high for share in found.values()), found
    assert 0.93 <= np.mean(list(found.values())) <= 0.97, found
