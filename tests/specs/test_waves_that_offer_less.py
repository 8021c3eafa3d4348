"""A wave in which fewer options were offered: its cells, its "don't know", and the codebook for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.surveys.idle import idle_patterns
from tests.errors.situation import cleaned, put_survey

CODEBOOK = """\
title: Snacks
source: invented
participant: person
waves:
  changes:
    - {waves: [2023-*], questions: {likes: {options: [never, sometimes, always], dont_know: []}}}
    - {since: 2023-02, questions: {likes: {dont_know: [DK, "8"], reversed: true}}}
demographics:
  - {name: area, column: area, options: [Urban, Rural]}
questions:
  - id: likes
    columns: [{answer: q}]
    options: [never, sometimes, often, always]
    codes: {o: often, 4x: 4}
    dont_know: {values: [DK], as: answer, number: 0, label: I cannot say}
prompts: {system: "{demographics}", user: "{low}-{high}: {options}"}
"""
CELLS = ("never", "often", "o", "3", "3.0", "2", "4", "4x", "DK", "8", "")


def survey(root: Path) -> SurveySpec:
    return read_survey(put_survey(root, CODEBOOK))


def read(root: Path, wave: str) -> tuple[dict[str, int], dict[str, str], dict[str, int]]:
    """Answers by cell, reasons by cell, and the counts, of a wave whose people are named by their cells."""
    content = "person,area,q\n" + "".join(f"p{n},Urban,{cell}\n" for n, cell in enumerate(CELLS))
    spec = survey(root)
    made = cleaned(root, spec, content, wave)
    by_person = {pseudonym(spec, n): cell for n, cell in enumerate(CELLS)}
    answers: list[dict[str, Any]] = pq.read_table(made.answers).to_pylist()
    aside: list[dict[str, Any]] = pq.read_table(made.quarantine).to_pylist()
    return (
        {by_person[row["participant"]]: row["answer"] for row in answers},
        {row["value"]: row["reason"] for row in aside},
        made.counts,
    )


def pseudonym(spec: SurveySpec, number: int) -> str:
    from evsim_assets.surveys.cleaning import pseudonym as of

    return of(spec.name, f"p{number}")


def test_a_wave_that_offered_everything_is_read_by_the_question(tmp_path: Path) -> None:
    answers, aside, counts = read(tmp_path, "2022-01")
    known = {"never": 1, "often": 3, "o": 3, "3": 3, "3.0": 3, "2": 2, "4": 4, "4x": 4, "DK": 0}
    assert answers == known and list(aside) == ["8"]
    assert counts == {"cells": 11, "used": 9, "missing": 1, "quarantined": 1}


def test_a_cell_that_names_an_option_not_offered_is_set_aside_and_numbers_stay_the_questions(
    tmp_path: Path,
) -> None:
    answers, aside, counts = read(tmp_path, "2023-01")
    assert answers == {"never": 1, "2": 2, "4": 4, "4x": 4}
    reason = "'often' was not offered in this wave"
    assert {cell for cell, said in aside.items() if said == reason} == {"often", "o", "3", "3.0"}
    assert set(aside) - {"often", "o", "3", "3.0"} == {"DK", "8"}
    assert counts == {"cells": 11, "used": 4, "missing": 1, "quarantined": 6}


def test_later_changes_add_to_earlier_ones_and_reversed_numbers_are_turned_before_they_are_looked_at(
    tmp_path: Path,
) -> None:
    answers, aside, _ = read(tmp_path, "2023-02")
    # 1 is 4 and 2 is 3 where numbers run the other way: 2 is `often`, and 3 is `sometimes`.
    assert answers == {"never": 1, "3": 2, "3.0": 2, "4": 1, "4x": 4, "DK": 0, "8": 0}
    assert {cell for cell, said in aside.items() if "not offered" in said} == {"often", "o", "2"}


@pytest.mark.parametrize(
    ("wave", "gone"), [("2022-01", ()), ("2023-01", (0, 3)), ("2023-02", (3,)), ("2024", ())]
)
def test_the_question_of_a_wave_knows_what_could_not_be_answered(
    tmp_path: Path, wave: str, gone: tuple[int, ...]
) -> None:
    spec = survey(tmp_path)
    [question] = spec.for_wave(wave).questions
    assert question.not_offered == gone
    assert question.options == spec.questions[0].options and spec.questions[0].not_offered == ()


def test_names_and_patterns_of_no_wave_are_found_with_their_field(tmp_path: Path) -> None:
    spec = survey(tmp_path)
    assert idle_patterns(spec, ["2023-01", "2023-02"]) == []
    assert idle_patterns(spec, ["2023-01"]) == [("waves.changes.1.since", "2023-02")]
    assert idle_patterns(spec, ["2022-01"]) == [
        ("waves.changes.0.waves", "2023-*"),
        ("waves.changes.1.since", "2023-02"),
    ]
    more = CODEBOOK.replace("options: [Urban, Rural]}", "options: [Urban, Rural], waves: [b, c-?]}").replace(
        "questions:\n  - id", "  - {name: land, constant: {b: x, d: y}}\nquestions:\n  - waves: [e]\n    id"
    )
    assert idle_patterns(read_survey(put_survey(tmp_path, more)), ["b", "2023-02"]) == [
        ("demographics.0.waves", "c-?"),
        ("demographics.1.constant", "d"),
        ("questions.0.waves", "e"),
    ]
