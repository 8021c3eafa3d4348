"""Splits are of people, by a keyed hash: nobody ever moves."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from evsim_assets.prompts.render import sampled_participants
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Sample
from evsim_assets.surveys.splits import merge_waves, split_participants


def wave(name: str, people: range) -> pd.DataFrame:
    rows = [(f"{i:05d}", name, order, 10 * order) for i in people for order in (0, 1)]
    return pd.DataFrame(rows, columns=["participant", "wave", "order", "answer"])


def test_a_new_wave_moves_nobody(make_survey: Any) -> None:
    survey = make_survey()
    before = split_participants(merge_waves([wave("a", range(500))]), survey)
    after = split_participants(merge_waves([wave("b", range(400, 1500)), wave("a", range(500))]), survey)
    assert len(after) == 1500
    both = before.merge(after, on="participant")
    assert len(both) == 500
    assert (both["split_x"] == both["split_y"]).all() and (both["rank_x"] == both["rank_y"]).all()


def test_fractions_are_near_those_of_the_codebook(make_survey: Any) -> None:
    splits = split_participants(wave("a", range(10_000)), make_survey())
    shares = splits["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.8, abs=0.012)  # 3 standard deviations
    assert shares["validation"] == pytest.approx(0.1, abs=0.009)
    assert shares["test"] == pytest.approx(0.1, abs=0.009)
    assert splits["rank"].between(0, 1, inclusive="left").all()


def test_splits_are_ranges_of_the_rank(make_survey: Any) -> None:
    fractions = {"train": 0.5, "validation": 0.2, "test": 0.3}
    splits = split_participants(wave("a", range(2000)), make_survey(splits=fractions))
    spans = splits.groupby("split")["rank"].agg(["min", "max"])
    assert spans.loc["train", "max"] < 0.5 <= spans.loc["validation", "min"]
    assert spans.loc["validation", "max"] < 0.7 <= spans.loc["test", "min"]


def test_the_answers_of_a_panel_follow_each_other_in_the_order_of_waves() -> None:
    merged = merge_waves([wave("b", range(2)), wave("a", range(1, 3))])
    panel = merged[merged["participant"] == "00001"]
    assert panel[["wave", "order", "answer"]].to_numpy().tolist() == [
        ["a", 0, 0],
        ["a", 1, 10],
        ["b", 2, 0],
        ["b", 3, 10],
    ]


def test_a_larger_sample_holds_a_smaller_one(make_survey: Any) -> None:
    splits = split_participants(wave("a", range(1000)), make_survey())
    small = sampled_participants(splits, Sample(train=50, validation=5, test=20))
    large = sampled_participants(splits, Sample(train=200, validation=50, test=60))
    assert small["split"].value_counts().to_dict() == {"train": 50, "test": 20, "validation": 5}
    assert set(small["participant"]) < set(large["participant"])
    train = splits[splits["split"] == "train"]
    assert set(train.nsmallest(50, "rank")["participant"]) < set(small["participant"])
    assert sampled_participants(splits, None) is splits


def test_a_sample_larger_than_the_survey_is_refused(make_survey: Any) -> None:
    splits = split_participants(wave("a", range(100)), make_survey())
    there = int((splits["split"] == "test").sum())
    with pytest.raises(BadInput) as caught:
        sampled_participants(splits, Sample(train=1, validation=1, test=there + 1))
    assert (caught.value.field, caught.value.value) == ("sample.test", there + 1)
    assert f"{there} test participants" in caught.value.problem and caught.value.remedy
