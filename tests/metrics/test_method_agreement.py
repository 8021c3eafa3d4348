"""How alike two adapters answer that were trained by LoRA and by QLoRA."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from evsim_assets.metrics.bootstrap import participant_weights
from evsim_assets.metrics.method_agreement import COLUMNS, SHARED, method_agreement, method_pairs
from evsim_assets.specs.study import AdapterSpec, LossSpec
from tests.metrics.people_asked import distributions_of, prompts_of, spread_over_two

PEOPLE, EACH = 60, 3
LORA, QLORA = (AdapterSpec(model="s", method=method).factors for method in ("lora", "qlora"))


@pytest.fixture(scope="module")
def prompts():
    rows = [
        {"participant": f"p{person:02d}", "order": order, "answer": 50}
        for person in range(PEOPLE)
        for order in range(EACH)
    ]
    return prompts_of(rows)


def means(seed):
    """Means of both adapters for each prompt, alike within a person more than between."""
    rng = np.random.default_rng(seed)
    person = np.repeat(rng.uniform(20, 80, PEOPLE), EACH)
    return person + rng.normal(0, 6, len(person)), person + rng.normal(0, 12, len(person))


def read_of(prompts, first, second, temperature=1.0, **lost):
    """The distributions of both adapters, by key; of the LoRA adapter some mass is `lost`."""
    return {
        "s~lora": distributions_of(prompts, spread_over_two(first), temperature=temperature, **lost),
        "s~qlora": distributions_of(prompts, spread_over_two(second), temperature=temperature),
    }.__getitem__


def compared(prompts, first, second, **options):
    read = read_of(prompts, first, second, **options)
    table = method_agreement([(LORA, QLORA)], prompts, read, seed=0)
    assert list(table) == COLUMNS
    (row,) = table.to_dict("records")
    return row


def test_a_pair_has_every_factor_but_the_method_in_common():
    assert [name for name in LORA if name not in ("adapter", "method")] == SHARED


def test_adapters_are_paired_that_differ_in_the_method_alone():
    specs = [
        AdapterSpec(model="s", method="qlora"),
        AdapterSpec(model="s", method="lora"),
        AdapterSpec(model="m", method="lora"),
        AdapterSpec(model="m", method="pretrained"),
        AdapterSpec(model="s", method="qlora", penalty=LossSpec(alpha=0.5, d=10)),
        AdapterSpec(model="s", method="lora", answers="digit"),
        AdapterSpec(model="s", method="qlora", answers="digit"),
        AdapterSpec(model="s", method="lora", fraction=0.5),
    ]
    pairs = method_pairs(spec.factors for spec in specs)
    assert [(a["adapter"], b["adapter"]) for a, b in pairs] == [
        ("s~lora", "s~qlora"),
        ("s~lora~digit", "s~qlora~digit"),
    ]


def test_the_correlation_is_spearmans_over_prompts_with_an_interval_over_people(prompts):
    first, second = means(0)
    row = compared(prompts, first, second)
    expected = spearmanr(first, second).statistic
    assert (row["adapter"], row["other"], row["point_answer"]) == ("s~lora", "s~qlora", "mean")
    assert row["spearman"] == pytest.approx(expected, abs=1e-4)
    assert (row["n"], row["n_failed"], row["participants"]) == (PEOPLE * EACH, 0, PEOPLE)
    assert row["reason"] is None
    # The same people drawn again, ranks taken anew for each draw.
    times = participant_weights(0, prompts["participant"].unique(), 400).astype(int)
    again = [np.repeat(np.arange(len(first)), np.repeat(one, EACH)) for one in times]
    redone = [spearmanr(first[i], second[i]).statistic for i in again]
    low, high = np.quantile(redone, [0.025, 0.975])
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.02)


def test_at_temperature_zero_the_most_likely_answer_is_compared(prompts):
    first, second = means(1)
    row = compared(prompts, first, second, temperature=0.0)
    assert row["point_answer"] == "greedy"
    # Of two neighbouring numbers the nearer one; a tie is never drawn here.
    assert row["spearman"] == pytest.approx(spearmanr(np.rint(first), np.rint(second)).statistic, abs=1e-9)


def test_prompts_that_one_of_them_never_answers_are_left_out_and_counted(prompts):
    first, second = means(2)
    silent = np.zeros(len(first))
    silent[:30] = 1.0  # ten people
    row = compared(prompts, first, second, no_number=silent)
    assert (row["n"], row["n_failed"], row["participants"]) == (150, 30, PEOPLE - 10)
    assert row["spearman"] == pytest.approx(spearmanr(first[30:], second[30:]).statistic, abs=1e-4)
    turned = method_agreement(
        [(QLORA, LORA)], prompts, read_of(prompts, first, second, no_number=silent), seed=0
    )
    assert turned[["n", "n_failed"]].to_numpy().tolist() == [[150, 30]]  # whichever of both is silent


def test_what_cannot_be_correlated_has_a_reason(prompts):
    first, second = means(3)
    same = compared(prompts, np.full(len(first), 40.0), second)
    assert np.isnan(same["spearman"]) and np.isnan(same["low"]) and "the same answer" in same["reason"]
    silent = compared(prompts, first, second, no_number=1.0)
    assert silent["n"] == 0 and np.isnan(silent["spearman"]) and "no prompt" in silent["reason"]


def test_a_study_without_a_pair_gives_an_empty_table(prompts):
    table = method_agreement([], prompts, {}.__getitem__, seed=0)
    assert isinstance(table, pd.DataFrame) and len(table) == 0 and list(table) == COLUMNS
