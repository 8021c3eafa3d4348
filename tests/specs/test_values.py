"""Two texts of a codebook are one value where cleaning reads them as one, and then they are refused."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.specs.values import canonical, each_once
from evsim_assets.surveys.cell_sql import canonical_cell

NUMERIC = st.one_of(
    st.text(st.sampled_from("0123456789.-+eE \n０"), max_size=8),
    st.from_regex(r"-?[0-9]{1,3}\.0{0,3}\n?", fullmatch=True),
    st.sampled_from(["true", "True", "TRUE", "tRUE", "False", "FALSE", "false", "True.0", ""]),
)

SURVEY = """\
title: Snacks
source: invented
participant: person
demographics:
  - {name: area, column: area, options: [Urban, Rural], codes: {1: Urban}, missing: [9], refused: [8]}
  - {name: pets, checkboxes: {cat: Cat, dog: Dog}}
questions:
  - id: likes
    columns: [{answer: q1, intervention: read}]
    options: [never, often]
    codes: {7: never}
    dont_know: {values: [99], as: missing}
interventions: {texts: {ham: Ham is cheap.}, none: [0]}
prompts: {system: "You are {demographics}", user: "{options}?"}
"""


def read(folder: Path, text: str = SURVEY) -> SurveySpec:
    survey = folder / "snacks"
    survey.mkdir(exist_ok=True)
    (survey / "survey.yaml").write_text(text, encoding="utf-8")
    return read_survey(survey)


@given(NUMERIC)
@example("5.0\n")
@example("-0.00")
def test_the_codebooks_comparison_is_the_one_of_cleaning(value: str) -> None:
    found = duckdb.execute(f"SELECT {canonical_cell('cell')} FROM (SELECT ?::VARCHAR AS cell)", [value])
    assert found.fetchall() == [(canonical(value),)]


def test_a_number_is_one_value_with_and_without_zeros_after_the_point() -> None:
    same = {"78.0": "78", "78.00": "78", "-3.0": "-3", "0.0": "0", "TRUE": "true", "False": "false"}
    assert {value: canonical(value) for value in same} == same
    apart = ["78", "078", "78.", "78.5", "78.50", "+78", "7.8e1", "tRue", "yes", " 78.0", "n/a"]
    assert [canonical(value) for value in apart] == apart


def test_of_values_that_are_one_the_first_is_kept() -> None:
    assert each_once(["5.0", "5", "05", "True", "true", "5.00", "no"]) == ["5.0", "05", "True", "no"]


@pytest.mark.parametrize(
    ("old", "new", "field", "both"),
    [
        (
            "options: [Urban, Rural], codes: {1: Urban}",
            'options: ["5", "5.0"]',
            "demographics.0.options",
            "5",
        ),
        ("codes: {1: Urban}", 'codes: {1: Urban, "1.0": Rural}', "demographics.0.codes", "1"),
        ("missing: [9]", "missing: [9, 9.0]", "demographics.0.missing", "9"),
        ("refused: [8]", "refused: [8, 8.0]", "demographics.0.refused", "8"),
        ("Dog}}", "Dog}, checked: [1, 1.0]}", "demographics.1.checked", "1"),
        ("Dog}}", "Dog}, unchecked: [0, 0.0]}", "demographics.1.unchecked", "0"),
        (
            "options: [never, often]\n    codes: {7: never}",
            'options: ["3", "3.0"]',
            "questions.0.options",
            "3",
        ),
        ("{7: never}", '{7: never, "7.0": often}', "questions.0.codes", "7"),
        ("values: [99]", "values: [99, 99.0]", "questions.0.dont_know.values", "99"),
        ("none: [0]", "none: [0, 0.0]", "interventions.none", "0"),
        ("person\n", "person\nmissing: [-1, -1.0]\n", "missing", "-1"),
        ("person\n", "person\nheld_out: {interventions: [3, 3.0]}\n", "held_out.interventions", "3"),
        (
            "person\n",
            "person\nwaves: {changes: [{since: b, missing: [4, 4.0]}]}\n",
            "waves.changes.0.missing",
            "4",
        ),
        (
            "person\n",
            "person\nwaves: {changes: [{since: b, demographics: {area: {refused: [4, 4.0]}}}]}\n",
            "waves.changes.0.demographics.area.refused",
            "4",
        ),
        (
            "person\n",
            "person\nwaves: {changes: [{since: b, questions: {likes: {dont_know: [4, 4.0]}}}]}\n",
            "waves.changes.0.questions.likes.dont_know",
            "4",
        ),
    ],
)
def test_two_texts_of_one_value_are_refused_with_both(
    tmp_path: Path, old: str, new: str, field: str, both: str
) -> None:
    assert SURVEY.count(old) == 1
    with pytest.raises(BadInput, match="the same value") as caught:
        read(tmp_path, SURVEY.replace(old, new))
    assert (caught.value.field, caught.value.value) == (field, [both, f"{both}.0"])
    assert caught.value.line is not None and caught.value.remedy == "keep one of the two"


def test_leading_zeros_make_another_value(tmp_path: Path) -> None:
    text = SURVEY.replace("codes: {1: Urban}", 'codes: {"1": Urban, "01": Rural}')
    assert read(tmp_path, text).demographics[0].codes == {"1": "Urban", "01": "Rural"}


@pytest.mark.parametrize(
    ("old", "new", "field", "lower"),
    [
        ("person\n", "person\nwaves: {changes: [{waves: [UK-*]}]}\n", "waves.changes.0.waves.0", "uk-*"),
        ("person\n", "person\nwaves: {changes: [{since: UK-1}]}\n", "waves.changes.0.since", "uk-1"),
        ("refused: [8]", "waves: [a, Wave-*]", "demographics.0.waves.1", "wave-*"),
        (
            "checkboxes: {cat: Cat, dog: Dog}",
            "constant: {US-1: x, us-2: y}",
            "demographics.1.constant.US-1",
            "us-1",
        ),
        ("{7: never}\n", "{7: never}\n    waves: [B]\n", "questions.0.waves.0", "b"),
    ],
)
def test_a_waves_name_with_a_capital_letter_is_refused(
    tmp_path: Path, old: str, new: str, field: str, lower: str
) -> None:
    with pytest.raises(BadInput, match="capital letter") as caught:
        read(tmp_path, SURVEY.replace(old, new))
    assert caught.value.field == field and f"write {lower}" in str(caught.value.remedy)
    assert caught.value.line is not None
