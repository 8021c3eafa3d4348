"""Effects, bias, discriminability and comparisons are written with their intervals, and in words."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.reports import agreement_tables
from evsim_assets.reports.agreement_tables import (
    bias_rows,
    comparison_rows,
    comparison_words,
    discriminability_rows,
    effect_rows,
    p_value,
)

PLACE = {"adapter": "s~qlora", "temperature": 1.0, "question": "q"}


def shown(rows):
    """The first row below the header, by column."""
    return dict(zip(rows[0], rows[1], strict=True))


def test_agreement_of_effects_has_a_row_for_each_set_of_interventions_that_was_measured():
    agreement = pd.DataFrame(
        [
            {**PLACE, "held_out": "all", "measure": "correlation", "value": 0.6, "low": 0.25, "high": 0.8},
            {
                **PLACE,
                "held_out": "all",
                "measure": "sign_accuracy",
                "value": 0.75,
                "low": 0.5,
                "high": 0.875,
            },
            {**PLACE, "held_out": "all", "measure": "slope", "value": 0.4, "low": np.nan, "high": np.nan},
            {
                **PLACE,
                "held_out": "yes",
                "measure": "correlation",
                "value": np.nan,
                "low": None,
                "high": None,
            },
        ]
    ).assign(n=35)
    rows = effect_rows(agreement)
    assert len(rows) == 2 and len(rows[0]) == len(rows[1])
    row = shown(rows)
    assert row["interventions"] == "all" and row["n"] == "35" and row["T"] == "1.0"
    assert row["correlation"] == "0.60 [0.25, 0.80]"
    assert row["sign accuracy"] == "75 % [50 %, 88 %]"
    assert row["slope"] == "0.40" and row["RMSE"] == "—"


def test_bias_counts_a_demographic_only_where_its_whole_interval_lies_on_one_side_of_one():
    amplification = [("age", 0.5, 0.3, 0.9), ("gender", 0.8, 0.5, 1.1), ("region", 2.0, 1.2, 3.0)]
    bias = pd.DataFrame(
        [
            {"demographic": d, "amplification": a, "low": low, "high": high}
            for d, a, low, high in amplification
        ]
        + [{"demographic": "income", "amplification": np.nan, "low": np.nan, "high": np.nan}]
    ).assign(**PLACE, measure="mean")
    row = shown(bias_rows(bias))
    assert (row["demographics"], row["levelled out"], row["exaggerated"]) == ("3", "1", "1")
    assert row["least amplified"] == "age 0.50 [0.30, 0.90]"
    assert row["most amplified"] == "region 2.00 [1.20, 3.00]"


def test_discriminability_leaves_out_what_could_not_be_tested():
    tested = {**PLACE, "auc": 0.625, "low": 0.5, "high": 0.75, "p_value": 0.0004, "accuracy": 0.58, "n": 300}
    table = pd.DataFrame([tested, {**tested, "auc": np.nan}])
    rows = discriminability_rows(table)
    assert len(rows) == 2
    assert rows[1][3:] == ["0.625 [0.500, 0.750]", "58 %", "< 0.001", "300"]
    assert [p_value(p) for p in (np.nan, 0.0306)] == ["—", "0.031"]


def difference(value, low, high, closer):
    return {"difference": value, "low": low, "high": high, "closer": closer}


def test_the_amount_in_words_is_positive_and_its_interval_is_turned_with_it():
    pair = ("a", "b")
    assert comparison_words(difference(-2.0, -3.0, -1.0, "a"), pair) == "a is closer by 2.00 (1.00 to 3.00)"
    assert comparison_words(difference(2.0, 1.0, 3.0, "b"), pair) == "b is closer by 2.00 (1.00 to 3.00)"
    assert (
        comparison_words(difference(-0.5, -1.0, 0.25, "neither"), pair)
        == "neither: differ by 0.50 (-0.25 to 1.00)"
    )
    assert comparison_words(difference(np.nan, np.nan, np.nan, None), pair) == "—"
    assert comparison_words(None, pair) == "—"


@pytest.fixture
def comparisons():
    """Three adapters, two temperatures; the difference is the temperature."""
    pairs = [("s~pretrained", "s~qlora"), ("s~pretrained", "m~qlora"), ("s~qlora", "m~qlora")]
    return pd.DataFrame(
        [
            {"adapter": a, "other": b, "temperature": t, **difference(1 + t, 0.5, 3.0, b)}
            for t in (0.0, 1.0)
            for a, b in pairs
        ]
    ).assign(question="q", answers="native", point_answer="none", measure="kl", n=9)


def chosen(names, kl, temperatures):
    """What was chosen for each adapter on validation."""
    table = pd.DataFrame({"adapter": names, "temperature": temperatures, "validation_kl": kl})
    return table.assign(question="q", answers="native")


NAMES = ["s~pretrained", "s~qlora", "m~qlora"]


def test_a_pair_is_shown_at_the_temperature_chosen_for_the_better_one(comparisons):
    rows = comparison_rows(comparisons, chosen(NAMES, [0.8, 0.1, 0.05], [1.0, 1.0, 0.0]))
    assert [row[:3] for row in rows[1:]] == [
        ["q", "1.0", "s~pretrained and s~qlora"],
        ["q", "0.0", "s~pretrained and m~qlora"],
        ["q", "0.0", "s~qlora and m~qlora"],
    ]
    assert rows[1][3:] == ["s~qlora is closer by 2.000 (0.500 to 3.000)", "—", "—"]


def test_of_many_pairs_those_with_the_best_adapter_are_shown(comparisons, monkeypatch):
    monkeypatch.setattr(agreement_tables, "MANY_PAIRS", 2)
    rows = comparison_rows(comparisons, chosen(NAMES, [0.8, 0.1, 0.05], [1.0, 1.0, 0.0]))
    assert [row[2] for row in rows[1:]] == ["s~pretrained and m~qlora", "s~qlora and m~qlora"]


def test_a_pair_whose_temperature_was_not_compared_has_no_row(comparisons):
    never = comparisons[comparisons["temperature"] == 0.0]
    assert len(comparison_rows(never, chosen(NAMES, [0.8, 0.1, 0.2], [1.0, 1.0, 1.0]))) == 1
