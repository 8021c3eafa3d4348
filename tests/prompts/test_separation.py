"""The check of splits finds a table that was tampered with, and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evsim_assets.prompts.separation import separation_problems
from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.surveys.landing import Intervention

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def survey() -> SurveySpec:
    """EV-shift without intervention 7, question `post` after it, and women of 18 to 25."""
    spec = read_survey(ROOT / "data" / "surveys" / "ev_shift")
    held = {
        "interventions": ["7"],
        "questions": ["post"],
        "cells": [{"age": ["18–25"], "gender": ["Woman"]}],
    }
    return spec.model_copy(update={"held_out": spec.held_out.model_validate(held)})


@pytest.fixture
def tables(survey: SurveySpec, build: Callable[..., pd.DataFrame], tmp_path: Path) -> Path:
    people = {"a": "train", "b": "validation", "c": "test", "woman": "train"}
    young = {"woman": {"age": "18–25", "gender": "Woman"}, "a": {"age": "18–25", "gender": "Man"}}
    answers = [
        {"participant": person, "order": order, "question": question, "intervention": read}
        | young.get(person, {})
        for person in people
        for order, (question, read) in enumerate([("initial", None), ("post", "7"), ("initial", "7")])
    ]
    read = {"7": Intervention("x", {})}
    build(survey, *answers, people=people, held_out=("woman",), interventions=read)
    return tmp_path


def problems(tables: Path, survey: SurveySpec) -> list[str]:
    return separation_problems(tables / "prompts", tables / "splits", tables / "responses", survey)


def tamper(path: Path, rows: Callable[[pd.DataFrame], Any], column: str, value: Any) -> None:
    table = pd.read_parquet(path)
    table.loc[rows(table), column] = value
    table.to_parquet(path)


def test_prompts_as_they_are_built_pass(tables: Path, survey: SurveySpec) -> None:
    table = pd.read_parquet(tables / "prompts")
    assert table.groupby("split").size().to_dict() == {"held_out": 7, "test": 3, "train": 1, "validation": 1}
    assert problems(tables, survey) == []


@pytest.mark.parametrize(
    ("prompt_id", "column", "value", "expected"),
    [
        ("a-1", "split", "train", ["1 held-out questions", "'post'"]),
        ("b-1", "split", "validation", ["1 held-out questions", "'post'"]),
        ("a-2", "split", "train", ["1 held-out interventions", "'7'"]),
        ("woman-0", "split", "train", ["1 participants of held-out cells", "'woman'"]),
        ("c-0", "split", "train", ["1 participants have prompts in two splits", "'c'"]),
        ("c-0", "split", "held_out", ["1 participants have prompts of another split than theirs", "'c'"]),
        ("a-0", "split", "validation", ["1 participants have prompts of another split than theirs", "'a'"]),
        ("a-0", "participant", "ghost", ["1 participants have prompts, but are in no split", "'ghost'"]),
    ],
)
def test_a_prompt_that_was_moved_is_found(
    tables: Path, survey: SurveySpec, prompt_id: str, column: str, value: str, expected: list[str]
) -> None:
    tamper(tables / "prompts", lambda table: table["prompt_id"] == prompt_id, column, value)
    found = problems(tables, survey)
    assert any(all(part in problem for part in expected) for problem in found), found


def test_a_person_in_two_splits_is_found(tables: Path, survey: SurveySpec) -> None:
    splits = pd.read_parquet(tables / "splits")
    twice = splits[splits["participant"] == "a"].assign(split="test")
    pd.concat([splits, twice]).to_parquet(tables / "splits")
    assert any(
        "1 participants are in two splits, such as 'a'" in problem for problem in problems(tables, survey)
    )


def test_a_person_whom_the_splits_forgot_to_hold_out_is_found(tables: Path, survey: SurveySpec) -> None:
    tamper(tables / "splits", lambda table: table["participant"] == "woman", "held_out", False)
    tamper(tables / "prompts", lambda table: table["prompt_id"] == "woman-0", "split", "train")
    assert problems(tables, survey) == [
        "1 participants of held-out cells are in training prompts, such as 'woman'"
    ]


def test_a_survey_that_holds_nothing_out_trains_on_everything(tables: Path) -> None:
    spec = read_survey(ROOT / "data" / "surveys" / "ev_shift")
    tamper(tables / "prompts", lambda table: table["participant"].isin(["a", "woman"]), "split", "train")
    assert problems(tables, spec) == []
