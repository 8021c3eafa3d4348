"""A wrong codebook gives one error that says where, what, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec, read_survey

GOOD = """\
title: Snacks
source: invented
participant: person
waves: {encoding: utf-8}
demographics:
  - name: living area
    column: area
    options: [Urban, Rural]
  - name: age
    column: age
    options: [young, old]
questions:
  - id: first
    scale: {low: 0, high: 100}
    columns: [{answer: q1}]
  - id: second
    scale: {low: 1, high: 5}
    columns: [{answer: q2, intervention: read}]
interventions: {file: texts.csv, id: id, text: text}
prompts:
  system: You are {demographics}
  user: "{intervention} From {low} to {high}?"
splits: {train: 0.8, validation: 0.1, test: 0.1}
"""


def read(folder: Path, text: str) -> SurveySpec:
    survey = folder / "snacks"
    survey.mkdir(exist_ok=True)
    (survey / "survey.yaml").write_text(text, encoding="utf-8")
    return read_survey(survey)


def refused(folder: Path, old: str, new: str) -> BadInput:
    assert GOOD.count(old) == 1, old
    with pytest.raises(BadInput) as caught:
        read(folder, GOOD.replace(old, new))
    return caught.value


def test_the_codebook_that_the_cases_below_break_is_good(tmp_path: Path) -> None:
    spec = read(tmp_path, GOOD)
    assert spec.name == "snacks"
    assert [d.slug for d in spec.demographics] == ["living_area", "age"]
    assert spec.questions[1].scale.answers == (1, 2, 3, 4, 5)
    assert spec.raw_columns == ("person", "area", "age", "q1", "q2", "read")


# what is replaced, by what; the line, the field, the value, and words of the problem and the remedy
CASES = {
    "unknown field": (
        "title: Snacks",
        "title: Snacks\ncolour: red",
        2,
        "colour",
        "red",
        "unknown",
        "questions",
    ),
    "misspelt field": ("title: Snacks", "titel: Snacks", 1, "titel", "Snacks", "unknown", "title"),
    "unknown nested field": (
        "column: area",
        "colum: area",
        7,
        "demographics.0.colum",
        "area",
        "unknown",
        "column",
    ),
    "missing field": ("source: invented\n", "", None, "source", None, "not there", "add"),
    "missing options": (
        "    options: [Urban, Rural]\n",
        "",
        6,
        "demographics.0.options",
        None,
        "not there",
        "add",
    ),
    "one option": (
        "[Urban, Rural]",
        "[Urban]",
        8,
        "demographics.0.options",
        ["Urban"],
        "at least 2",
        "at least",
    ),
    "option twice": (
        "[Urban, Rural]",
        "[Rural, Rural]",
        8,
        "demographics.0.options.1",
        "Rural",
        "twice",
        "once",
    ),
    "option a number": ("[young, old]", "[young, 2]", 11, "demographics.1.options.1", 2, "string", "quotes"),
    "code leads nowhere": (
        "[Urban, Rural]",
        "[Urban, Rural]\n    codes: {1: Urban,\n      2: Rurl}",
        10,
        "demographics.0.codes.2",
        "Rurl",
        "not among the options",
        "correct the code",
    ),
    "separator in an option": (
        "[Urban, Rural]",
        "[Urban, R;al]\n    several: true",
        8,
        "demographics.0.options.1",
        "R;al",
        "separates",
        "rename",
    ),
    "names alike": (
        "name: age",
        "name: living-area",
        9,
        "demographics.1.name",
        "living_area",
        "twice",
        "its own",
    ),
    "name of a column": (
        "name: age",
        "name: Order",
        9,
        "demographics.1.name",
        "Order",
        "taken",
        "another name",
    ),
    "name without letters": (
        "name: age",
        "name: 年齢",
        9,
        "demographics.1.name",
        "年齢",
        "no name",
        "letters",
    ),
    "no room": (
        "{low: 0, high: 100}",
        "{low: 9, high: 9}",
        14,
        "questions.0.scale",
        None,
        "no room",
        "low below",
    ),
    "step too long": (
        "{low: 0, high: 100}",
        "{low: 0, high: 100, step: 7}",
        14,
        "questions.0.scale.step",
        None,
        "step 7",
        "divides",
    ),
    "step of none": (
        "{low: 0, high: 100}",
        "{low: 0, high: 100, step: 0}",
        14,
        "questions.0.scale.step",
        0,
        "greater than or equal to 1",
        "range",
    ),
    "half a bound": (
        "{low: 0, high: 100}",
        "{low: 0.5, high: 100}",
        14,
        "questions.0.scale.low",
        0.5,
        "integer",
        "whole",
    ),
    "unknown rounding": (
        "{low: 0, high: 100}",
        "{low: 0, high: 100, rounding: nearest}",
        14,
        "questions.0.scale.rounding",
        "nearest",
        "no such choice",
        "none, half_up",
    ),
    "question twice": ("id: second", "id: first", 16, "questions.1.id", "first", "twice", "its own"),
    "texts missing": (
        "interventions: {file: texts.csv, id: id, text: text}\n",
        "",
        18,
        "questions.1.columns",
        None,
        "no `interventions`",
        "add `interventions",
    ),
    "unknown placeholder": (
        "You are {demographics}",
        "You are {demographic}",
        21,
        "prompts.system",
        "{demographic}",
        "unknown placeholder",
        "{demographics}",
    ),
    "placeholder of no field": (
        "From {low}",
        "{topic}: from {low}",
        22,
        "prompts.user",
        "{topic}",
        "'first'",
        "{high}, {intervention}, {low}",
    ),
    "nameless placeholder": ("From {low}", "From {}", 22, "prompts.user", "{}", "unknown", "{low}"),
    "formatted placeholder": (
        "From {low}",
        "From {low:>3}",
        22,
        "prompts.user",
        "{low:>3}",
        "format",
        "{low}",
    ),
    "open brace": ("From {low}", "From {low", 22, "prompts.user", None, "no template", "{{"),
    "field of a taken name": (
        "columns: [{answer: q1}]",
        "columns: [{answer: q1}]\n    fields: {low: one}",
        16,
        "questions.0.fields.low",
        None,
        "already",
        "another name",
    ),
    "splits": ("train: 0.8", "train: 0.7", 23, "splits", None, "sum to 0.9", "equal 1"),
    "unknown encoding": ("utf-8", "utf-88", 4, "waves.encoding", "utf-88", "unknown encoding", "latin-1"),
    "long delimiter": ("utf-8", 'utf-8, delimiter: "||"', 4, "waves.delimiter", "||", "at most 1", "shorten"),
    "its own name": (
        "title: Snacks",
        "title: Snacks\nname: other",
        2,
        "name",
        None,
        "file's place",
        "remove",
    ),
    "a number for a name": ("title: Snacks", "title: Snacks\n3: x", 2, "3", 3, "string", "quotes"),
    "a field twice": ("title: Snacks", "title: Snacks\ntitle: Crisps", 2, None, None, "duplicate", "syntax"),
    "no YAML": ("title: Snacks", "title: [Snacks", None, None, None, "not valid YAML", "syntax"),
    "a control character": ("title: Snacks", "title: \x00", None, None, None, "not valid YAML", "UTF-8"),
    "text for a mapping": (
        'prompts:\n  system: You are {demographics}\n  user: "{intervention} From {low} to {high}?"',
        "prompts: none",
        20,
        "prompts",
        "none",
        "dictionary",
        "field: value",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_codebook_names_file_line_field_value_and_remedy(tmp_path: Path, case: str) -> None:
    old, new, line, field, value, problem, remedy = CASES[case]
    error = refused(tmp_path, old, new)
    message = str(error)
    assert message.startswith(str(tmp_path / "snacks" / "survey.yaml"))
    if case != "no YAML":  # the parser's own idea of the line
        assert error.line == line
    assert (error.field, error.value) == (field, value)
    assert problem in error.problem
    assert error.remedy is not None and remedy in error.remedy
    for shown in (field, repr(value) if value is not None else None, error.remedy):
        assert shown is None or shown in message
    assert "pydantic" not in message and "validation error" not in message


def test_an_empty_codebook_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no mapping") as caught:
        read(tmp_path, "")
    assert caught.value.remedy


def test_a_codebook_in_another_encoding_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "snacks"
    folder.mkdir()
    (folder / "survey.yaml").write_bytes("title: Café\n".encode("latin-1"))
    with pytest.raises(BadInput, match="not UTF-8") as caught:
        read_survey(folder)
    assert caught.value.file == folder / "survey.yaml"
    assert "save it as UTF-8" in str(caught.value)


def test_a_survey_without_a_codebook_or_with_an_impossible_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "snacks").mkdir()
    with pytest.raises(BadInput, match="no such file"):
        read_survey(tmp_path / "snacks")
    with pytest.raises(BadInput, match="folder is its name") as caught:
        read_survey(tmp_path / "Snacks 2")
    assert caught.value.value == "Snacks 2"


def test_long_values_are_shortened() -> None:
    assert len(str(BadInput("too much", value="x" * 10_000))) < 200


def test_half_a_character_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="half a character") as caught:
        read(tmp_path, GOOD.replace("title: Snacks", 'title: "Snacks \\ud823"'))
    assert caught.value.remedy and caught.value.file == tmp_path / "snacks" / "survey.yaml"
