"""Paired differences of adapters: signs, intervals, p-values, and what happens without values."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evsim_assets.metrics.comparisons import COMPARISON_COLUMNS, comparisons

RNG = np.random.default_rng(0)


def table(
    values, draws, measure="crps", answers="native", temperature=1.0, n=100, reasons=None, prompts="all"
):
    """(replicates, metrics) of adapters a, b, … with these values and replicates; `n` and `prompts` of all of
    them, or of each."""
    n, prompts = ([of] * len(values) if np.isscalar(of) else of for of in (n, prompts))
    names = [chr(ord("a") + place) for place in range(len(values))]
    place = {"temperature": temperature, "question": "q", "demographic": "all", "level": "all"}
    common = {**place, "point_answer": "none", "measure": measure}
    reasons = [None] * len(values) if reasons is None else reasons
    metrics = pd.DataFrame(
        [
            {"adapter": name, "answers": answers, **common, "value": value, "n": own, "reason": reason}
            for name, value, own, reason in zip(names, values, n, reasons, strict=True)
        ]
    )
    asked = metrics.assign(measure="success_rate", value=1.0, n=100, reason=None)
    metrics = pd.concat([metrics, asked[asked["measure"] != measure]], ignore_index=True)
    kept = [
        {"adapter": name, **common, "prompts": of, "replicates": np.asarray(drawn, dtype=np.float32)}
        for name, of, drawn in zip(names, prompts, draws, strict=True)
        if drawn is not None
    ]
    return pd.DataFrame(kept, columns=["adapter", *common, "prompts", "replicates"]), metrics


def test_what_is_common_to_both_adapters_cancels():
    shared, own = RNG.normal(0, 5, 1000), RNG.normal(0, 0.1, (2, 1000))
    (row,) = comparisons(*table([10.0, 10.5], [10 + shared + own[0], 10.5 + shared + own[1]])).itertuples()
    difference = (10 + own[0]) - (10.5 + own[1])
    assert row.difference == pytest.approx(-0.5)
    assert [row.low, row.high] == pytest.approx(np.quantile(difference, [0.025, 0.975]), abs=1e-5)
    assert (row.adapter, row.other, row.closer, row.reason) == ("a", "b", "a", None)
    assert (row.n_adapter, row.n_other, row.different_prompts) == (100, 100, False)
    assert row.p_value == pytest.approx(2 / 1001)


def test_the_p_value_is_that_of_the_normal_distribution_where_replicates_are_normal():
    drawn = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)
    (row,) = comparisons(*table([1.3, 0.0], [1.3 + drawn, np.zeros(1000)])).itertuples()
    assert row.p_value == pytest.approx(2 * stats.norm.sf(1.3), abs=0.003)
    assert row.low < 0 < row.high and row.closer == "neither"


@pytest.mark.parametrize(
    ("measure", "values", "closer"),
    [("rmse", [1, 2], "a"), ("spearman", [1, 2], "b"), ("success_rate", [1, 2], "b"), ("kl", [1, 2], "a")],
)
def test_the_better_adapter_is_the_closer_one(measure, values, closer):
    noise = RNG.normal(0, 0.01, 500)
    (row,) = comparisons(*table(values, [values[0] + noise, values[1] + 2 * noise], measure)).itertuples()
    assert row.closer == closer and row.difference == -1


def test_of_spreads_the_distances_from_one_are_compared_and_all_numbers_are_theirs():
    noise = RNG.normal(0, 0.01, (2, 500))
    (row,) = comparisons(*table([0.4, 1.1], [0.4 + noise[0], 1.1 + noise[1]], "sd_ratio")).itertuples()
    assert row.difference == pytest.approx(0.6 - 0.1) and row.closer == "b"
    drawn = (0.6 - noise[0]) - (0.1 + noise[1])
    expected = np.quantile(drawn, [0.025, 0.975]) - (drawn.mean() - 0.5)
    assert [row.low, row.high] == pytest.approx(expected, abs=1e-5) and row.p_value < 0.01
    (row,) = comparisons(*table([0.8, 1.2], [0.8 + noise[0], 1.2 + noise[1]], "sd_ratio")).itertuples()
    assert row.difference == pytest.approx(0) and row.low < 0 < row.high
    assert row.closer == "neither" and row.p_value > 0.05


def test_adapters_that_answered_different_prompts_are_marked_and_one_that_failed_often_is_not_closer():
    drawn = RNG.normal([[1], [2]], 0.1, (2, 200))
    for n, closer in (((90, 100), "neither"), ((99, 100), "a")):
        (row,) = comparisons(*table([1.0, 2.0], drawn, "mae", n=n, prompts=("some", "all"))).itertuples()
        assert (row.n_adapter, row.n_other, row.closer) == (*n, closer)
        assert row.different_prompts and "different prompts" in row.reason and row.high < 0
    (row,) = comparisons(*table([1.0, 2.0], drawn, "mae", n=90, prompts=("these", "those"))).itertuples()
    assert row.different_prompts and row.closer == "neither"  # as many, but not the same
    (row,) = comparisons(*table([1.0, 2.0], drawn, "mae", n=90, prompts="some")).itertuples()
    assert not row.different_prompts and row.reason is None and row.closer == "a"


def test_the_bias_of_squared_distances_is_taken_off_twice_and_of_others_not():
    noise = RNG.normal(0, 0.1, 1000)
    noise -= noise.mean()
    biased = [1 + 0.2 + noise, np.zeros(1000)]  # replicates lie 0.2 too high
    (squared,) = comparisons(*table([1.0, 0.0], biased, "kl")).itertuples()
    (plain,) = comparisons(*table([1.0, 0.0], biased, "rmse")).itertuples()
    ends = np.quantile(noise, [0.025, 0.975])
    assert [squared.low, squared.high] == pytest.approx(1 - 0.2 + ends, abs=1e-5)
    assert [plain.low, plain.high] == pytest.approx(1 + 0.2 + ends, abs=1e-5)


def test_an_adapter_and_its_copy_do_not_differ():
    drawn = RNG.normal(3, 1, 200)
    (row,) = comparisons(*table([3.0, 3.0], [drawn, drawn])).itertuples()
    assert (row.difference, row.low, row.high, row.p_value, row.closer) == (0, 0, 0, 1, "neither")


def test_every_pair_comes_once_in_the_order_of_the_metrics_also_where_chunks_end():
    size = 30  # 435 pairs: two chunks
    values = RNG.normal(0, 1, size)
    draws = values[:, None] + RNG.normal(0, 1, (size, 50))
    found = comparisons(*table(values, draws))
    order = {name: place for place, name in enumerate(dict.fromkeys(found["adapter"]))}
    assert len(found) == size * (size - 1) / 2 and list(found.columns) == COMPARISON_COLUMNS
    one, two = (
        found[side].map(lambda name: ord(name) - ord("a")).to_numpy() for side in ("adapter", "other")
    )
    assert (one < two).all() and len(order) == size - 1
    assert found["difference"].to_numpy() == pytest.approx(values[one] - values[two])
    low = np.quantile(draws[one] - draws[two], 0.025, axis=1)
    assert found["low"].to_numpy() == pytest.approx(low, abs=1e-5)


def test_only_what_has_the_same_scale_and_temperature_is_compared():
    first, second = (table([1.0, 2.0], RNG.normal(0, 1, (2, 20)), temperature=t) for t in (0.5, 1.0))
    replicates, metrics = (pd.concat(both, ignore_index=True) for both in zip(first, second, strict=True))
    assert comparisons(replicates, metrics)["temperature"].tolist() == [0.5, 1.0]
    metrics["answers"] = np.where(metrics["adapter"] == "a", "native", "digit")
    assert len(comparisons(replicates, metrics)) == 0


def test_an_adapter_without_a_value_is_named_with_its_reason():
    given = table(
        [np.nan, 2.0, 3.0], [None, *RNG.normal(0, 1, (2, 20))], reasons=["it never answered", None, None]
    )
    found = comparisons(*given).set_index(["adapter", "other"])
    for pair in (("a", "b"), ("a", "c")):
        row = found.loc[pair]
        assert row["reason"] == "a: it never answered" and row["closer"] == "neither"
        assert row[["difference", "low", "high", "p_value"]].isna().all()
    assert found.loc[("b", "c"), "reason"] is None and found.loc[("b", "c"), "difference"] == -1


def test_a_replicate_that_is_not_defined_is_left_out():
    drawn = RNG.normal(0, 1, 100)
    holed = np.where(np.arange(100) % 4 == 0, np.nan, drawn)
    (row,) = comparisons(*table([0.0, 0.0], [holed, np.zeros(100)], "spearman")).itertuples()
    expected = np.quantile(drawn[np.arange(100) % 4 != 0], [0.025, 0.975])
    assert [row.low, row.high] == pytest.approx(expected, abs=1e-5)


def test_groups_are_not_compared():
    replicates, metrics = table([1.0, 2.0], RNG.normal(0, 1, (2, 20)))
    with_group = [pd.concat([t, t.assign(demographic="age", level="old")]) for t in (replicates, metrics)]
    pd.testing.assert_frame_equal(comparisons(*with_group), comparisons(replicates, metrics))
