"""What a codebook can say: bands, checkboxes, options, question tables, changes from wave to wave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec, json_schema, read_survey

FORMS = """\
title: Food in two countries
source: invented
participant: id
duplicates: {within_wave: keep last, across_waves: keep first}
weight: w
waves:
  format: tsv
  changes:
    - waves: [uk-*]
      columns: {w: weight_uk, q_bread: Q7}
      demographics: {region: {codes: {1: South}}}
      questions: {likes_bread: {codes: {5: Never}, reversed: false}}
    - since: us-2025
      missing: ["", "-1"]
      format: {format: excel, sheet: 2}
missing: ["", NA]
demographics:
  - name: region
    column: region
    options: [North, South]
    codes: {1: North, 2: South}
    refused: [9]
  - name: age
    column: years
    bands: [{label: young, below: 30}, {label: middle, at_least: 30, below: 60}, {label: old, at_least: 60}]
  - name: country
    constant: {us-*: United States, uk-*: United Kingdom}
  - name: trusts
    checkboxes: {trust_tv: Television, trust_radio: Radio}
    waves: [us-*]
strata: [region]
questions:
  - for_each: foods.csv
    id: likes_{food}
    columns: [{answer: "q_{food}", intervention: read}]
    options: [Never, Sometimes, Always]
    reversed: true
    dont_know: {values: [NA, 99], as: answer, number: 0, label: Never tried it}
    answer_by: label
    fields: {town: {column: town}}
  - id: hunger
    columns: [{answer: hunger}]
    scale: {low: -3, high: 3}
    dont_know: {values: [7], as: missing}
    user: How hungry, {low} to {high}?
    waves: [uk-*]
interventions: {texts: {a: Bread is good., b: null}, none: [0]}
held_out:
  questions: [likes_rice]
  interventions: [b]
  cells: [{region: [South], age: [old]}]
prompts:
  system: You are {demographics}
  user: "{intervention} In {town}: {plural}? {options}"
  demographics: {show: [age, region], item: "{name} is {value}", frame: "{items}", shuffle: true}
  templates:
    short: {user: "{plural}? {options}"}
splits: {train: 0.8, validation: 0.1, test: 0.1}
"""
FOODS = "food,plural\nbread,Breads\nrice,Rices\n"


def read(folder: Path, text: str = FORMS, foods: str = FOODS) -> SurveySpec:
    survey = folder / "food"
    survey.mkdir(exist_ok=True)
    (survey / "survey.yaml").write_text(text, encoding="utf-8")
    (survey / "foods.csv").write_text(foods, encoding="utf-8")
    return read_survey(survey)


def test_a_question_table_makes_a_question_a_row_with_its_cells_in_place(tmp_path: Path) -> None:
    bread, rice, hunger = read(tmp_path).questions
    assert [bread.id, rice.id, hunger.id] == ["likes_bread", "likes_rice", "hunger"]
    assert rice.columns[0].answer == "q_rice"
    assert rice.fields["plural"] == "Rices" and rice.row_fields == {"town": "town"}


def test_a_question_table_can_stand_in_the_codebook_itself(tmp_path: Path) -> None:
    inline = FORMS.replace(
        "for_each: foods.csv", "for_each: [{food: bread, plural: Breads}, {food: rice, plural: Rices}]"
    )
    written, filed = read(tmp_path, inline).questions, read(tmp_path).questions
    assert written == filed


def test_ordered_options_are_numbered_and_dont_know_is_an_answer_beside_them(tmp_path: Path) -> None:
    bread, _, hunger = read(tmp_path).questions
    assert bread.scale.answers == (1, 2, 3)
    assert bread.answer_scale.answers == (0, 1, 2, 3)
    assert bread.labels == ("Never tried it", "Never", "Sometimes", "Always")
    assert hunger.answer_scale == hunger.scale and hunger.labels == ()


def test_bands_and_checkboxes_name_their_options_and_columns(tmp_path: Path) -> None:
    region, age, country, trusts = read(tmp_path).demographics
    assert age.options == ("young", "middle", "old")
    assert country.options == ("United States", "United Kingdom") and country.columns == ()
    assert trusts.options == ("Television", "Radio")
    assert (region.columns, trusts.columns) == (("region",), ("trust_tv", "trust_radio"))
    assert trusts.has_several and not region.has_several


def test_the_codebook_for_a_wave_has_that_waves_columns_codes_and_questions(tmp_path: Path) -> None:
    survey = read(tmp_path)
    uk = survey.for_wave("uk-2024")
    assert uk.weight == "weight_uk" and survey.weight == "w"
    assert [q.id for q in uk.questions] == ["likes_bread", "likes_rice", "hunger"]
    assert uk.questions[0].columns[0].answer == "Q7" and uk.questions[1].columns[0].answer == "q_rice"
    assert uk.questions[0].codes == {"5": "Never"} and not uk.questions[0].reversed
    assert uk.demographics[0].codes == {"1": "South"} and uk.demographics[0].refused == ("9",)
    assert uk.demographics[3].columns == ()
    assert "trust_tv" not in uk.raw_columns and "Q7" in uk.raw_columns and "q_bread" not in uk.raw_columns
    us = survey.for_wave("us-2024")
    assert us.demographics[2].constant == {"us-2024": "United States"}
    assert survey.for_wave("fr-2024").demographics[2].constant == {}
    assert [q.id for q in us.questions] == ["likes_bread", "likes_rice"]
    assert us.demographics[3].columns == ("trust_tv", "trust_radio")
    assert us.missing == ("", "NA") and survey.for_wave("us-2025-01").missing == ("", "-1")


def test_a_waves_file_format_can_change(tmp_path: Path) -> None:
    survey = read(tmp_path)
    assert (survey.format_of("us-2024").format, survey.format_of("us-2024").separator) == ("tsv", "\t")
    assert (survey.format_of("us-2025").format, survey.format_of("us-2025").sheet) == ("excel", 2)


def test_a_second_wording_keeps_what_it_does_not_change(tmp_path: Path) -> None:
    prompts = read(tmp_path).prompts
    assert prompts.names == ("default", "short")
    short = prompts.named("short")
    assert short.user == "{plural}? {options}"
    assert short.system == prompts.system and short.demographics.shuffle


def test_the_committed_codebooks_fit_the_json_schema() -> None:
    from jsonschema import Draft202012Validator

    root = Path(__file__).parents[2]
    validator = Draft202012Validator(json_schema())
    for path in sorted(root.glob("data/surveys/*/survey.yaml")):
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        assert [e.message for e in validator.iter_errors(json.loads(json.dumps(document)))] == [], path
    assert list(validator.iter_errors({"titel": "x"}))


# what is replaced, by what; words of the line named, the field, the value, words of problem and remedy
CASES = {
    "a band without an end": (
        "{label: young, below: 30}",
        "{label: young}",
        "bands:",
        "demographics.1.bands.0",
        None,
        "no end",
        "at_least",
    ),
    "bands that overlap": (
        "at_least: 60}",
        "at_least: 59}",
        "bands:",
        "demographics.1.bands.2",
        59.0,
        "'middle' and 'old' overlap",
        "ends",
    ),
    "a code for no option": (
        "2: South}",
        "2: West}",
        "codes: {1: North",
        "demographics.0.codes.2",
        "West",
        "'2' stands for a label",
        "add the label",
    ),
    "two sources": (
        "    waves: [us-*]\nstrata",
        "    column: t\nstrata",
        "name: trusts",
        "demographics.3",
        "trusts",
        "one source",
        "constant",
    ),
    "don't know without a number": (
        ", number: 0, label: Never tried it",
        "",
        "dont_know: {values: [NA",
        "questions.0.dont_know.as",
        "answer",
        "go with",
        "both",
    ),
    "don't know far from the scale": (
        "number: 0",
        "number: 7",
        "dont_know: {values: [NA",
        "questions.0.dont_know.number",
        7,
        "not beside",
        "0 or 4",
    ),
    "a label for a bare scale": (
        "user: How hungry",
        "answer_by: label\n    user: How hungry",
        "answer_by",
        "questions.1.answer_by",
        None,
        "only a question with options",
        "list the options",
    ),
    "options and a scale": (
        "reversed: true",
        "scale: {low: 1, high: 3}",
        "options: [Never",
        "questions.0.options",
        None,
        "either",
        "numbered from",
    ),
    "no such column in the table": (
        "id: likes_{food}",
        "id: likes_{dish}",
        "for_each",
        "questions.0.for_each",
        "{dish}",
        "no such column",
        "{food}",
    ),
    "a held-out question nobody asked": (
        "questions: [likes_rice]",
        "questions: [likes_corn]",
        "likes_corn",
        "held_out.questions",
        "likes_corn",
        "nothing",
        "likes_rice",
    ),
    "a held-out cell of no option": (
        "region: [South]",
        "region: [West]",
        "West",
        "held_out.cells.0.region",
        "West",
        "nothing",
        "North",
    ),
    "a stratum nobody knows": (
        "strata: [region]",
        "strata: [town]",
        "strata",
        "strata",
        "town",
        "nothing",
        "region",
    ),
    "a change that names no waves": (
        "- since: us-2025\n      missing",
        "- missing",
        "- missing",
        "waves.changes.1",
        None,
        "either",
        "exactly one",
    ),
    "a change of no column": (
        "q_bread: Q7",
        "q_corn: Q7",
        "columns:",
        "waves.changes.0.columns",
        "q_corn",
        "nothing",
        "q_bread",
    ),
    "texts and a file": (
        "interventions: {texts",
        "interventions: {file: x.csv, texts",
        "interventions: {file",
        "interventions",
        None,
        "either",
        "exactly one",
    ),
    "a wording of the first one's name": (
        "    short: {",
        "    default: {",
        "default:",
        "prompts.templates.default",
        None,
        "first wording",
        "another name",
    ),
    "a placeholder nobody fills in a wording": (
        '{user: "{plural}?',
        '{user: "{dish}?',
        "{dish}",
        "prompts.templates.short.user",
        "{dish}",
        "unknown placeholder",
        "{plural}",
    ),
    "a list that says nothing": (
        "{name} is {value}",
        "{name}",
        "item:",
        "prompts.demographics.item",
        "{name}",
        "says nothing",
        "{value}",
    ),
    "a policy nobody knows": (
        "keep last",
        "keep best",
        "keep best",
        "duplicates.within_wave",
        "keep best",
        "no such choice",
        "keep first",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_codebook_names_line_field_value_and_remedy(tmp_path: Path, case: str) -> None:
    old, new, line, field, value, problem, remedy = CASES[case]
    assert FORMS.count(old) == 1, old
    with pytest.raises(BadInput) as caught:
        read(tmp_path, FORMS.replace(old, new))
    error = caught.value
    assert (error.field, error.value) == (field, value), str(error)
    assert problem in error.problem and remedy in str(error.remedy), str(error)
    assert error.line is not None and line in FORMS.replace(old, new).splitlines()[error.line - 1], str(error)


@pytest.mark.parametrize(
    ("foods", "problem"),
    [
        ("food,plural\nbread\n", "more or fewer cells"),
        ("food,plural\n", "no rows"),
        ("food,plural\nRye bread,Ryes\n", "no name for a question"),
        ("food,plural\nbread,Breads\nbread,Breads\n", "listed twice"),
        ("food,low\nbread,Breads\n", "already"),
    ],
)
def test_a_wrong_question_table_is_refused(tmp_path: Path, foods: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(tmp_path, foods=foods)
    assert problem in caught.value.problem and caught.value.remedy


def test_a_wave_in_which_nothing_was_asked_is_refused(tmp_path: Path) -> None:
    only_uk = FORMS.replace("answer_by: label", "waves: [uk-*]")
    with pytest.raises(BadInput, match="no question of the codebook was asked"):
        read(tmp_path, only_uk).for_wave("us-2024")


def test_the_schema_for_editors_is_that_of_the_code() -> None:
    """Mend with: evsim survey schema > docs/survey.schema.json."""
    stored = Path(__file__).parents[2] / "docs" / "survey.schema.json"
    assert json.loads(stored.read_text(encoding="utf-8")) == json.loads(json.dumps(json_schema()))
