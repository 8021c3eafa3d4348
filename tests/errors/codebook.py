"""Codebooks that are refused: YAML, fields, demographics, questions, wordings."""

from __future__ import annotations

from pathlib import Path

from evsim_assets.specs.survey import read_survey
from tests.errors.situation import Situation, in_codebook, put_survey

TITLE, AREA, SCALE = "title: Snacks", "options: [Urban, Rural]", "scale: {low: 0, high: 100}"
BANDS = "bands: [{label: young, below: 40}, {label: old, at_least: 40}]"
OPTIONS, ANSWER = "options: [never, sometimes, often]", "columns: [{answer: q1}]"
USER = '"{intervention} From {low} to {high}?"'


def _of_bytes(title: str, shown: str, content: bytes) -> Situation:
    def make(root: Path) -> object:
        folder = put_survey(root)
        (folder / "survey.yaml").write_bytes(content)
        return read_survey(folder)

    return Situation(title, (("yaml", shown),), make)


def _elsewhere(title: str, name: str) -> Situation:
    return Situation(
        title, (("text", f"evsim survey check data/surveys/{name}"),), lambda root: _no(root, name)
    )


def _no(root: Path, name: str) -> object:
    folder = root / "data" / "surveys" / name
    folder.mkdir(parents=True)
    return read_survey(folder)


FILE = [
    _elsewhere("There is no survey.yaml", "snack"),
    _elsewhere("The survey's folder has an impossible name", "Snacks 2024"),
    _of_bytes(
        "The codebook is not UTF-8", "title: Café    # saved as Latin-1", "title: Café\n".encode("latin-1")
    ),
    _of_bytes("The codebook is empty, or no mapping", "- title: Snacks", b"- title: Snacks\n"),
    in_codebook("The codebook is not valid YAML", TITLE, "title: Snacks: a survey"),
    in_codebook("A bracket is not closed", "options: [Urban, Rural]", "options: [Urban, Rural"),
    in_codebook("A field is there twice", TITLE, f"{TITLE}\ntitle: Crisps"),
    in_codebook(
        "A control character in the codebook", TITLE, "title: Snacks\x00", "title: Snacks␀    # a zero byte"
    ),
    in_codebook("Half a character in the codebook", TITLE, 'title: "Snacks \\ud823"'),
    in_codebook("An unknown or misspelt field", TITLE, "titel: Snacks"),
    in_codebook("An unknown field of a demographic", "column: area", "colum: area"),
    in_codebook(
        "A required field is missing", "source: invented\n", "", "title: Snacks\n# and no `source: …`"
    ),
    in_codebook("The name stands in the codebook", TITLE, f"{TITLE}\nname: crisps"),
    in_codebook("A field's name is a number", TITLE, f"{TITLE}\n3: x"),
]

VALUES = [
    in_codebook("A label looks like a number or a truth value", AREA, "options: [Urban, 2]"),
    in_codebook("Not a whole number", SCALE, "scale: {low: 0.5, high: 100}"),
    in_codebook("No number at all", SCALE, "scale: {low: none, high: 100}"),
    in_codebook("A list in place of a whole number", SCALE, "scale: {low: [0], high: 100}"),
    in_codebook("A fraction that is no number", "train: 0.8", "train: most"),
    in_codebook("A list in place of a number", "train: 0.8", "train: [0.8]"),
    in_codebook("A number out of its range", "train: 0.8", "train: 1.5"),
    in_codebook("A fraction of zero", "train: 0.8", "train: 0"),
    in_codebook("A step of zero", SCALE, "scale: {low: 0, high: 100, step: 0}"),
    in_codebook("A truth value is misspelt", TITLE, f"{TITLE}\nsimulated: perhaps"),
    in_codebook("A list in place of a truth value", TITLE, f"{TITLE}\nsimulated: [true]"),
    in_codebook("No such choice", SCALE, "scale: {low: 0, high: 100, rounding: nearest}"),
    in_codebook("A text in place of a list", AREA, "options: Urban"),
    in_codebook("A text in place of a mapping", AREA, f"{AREA}\n    codes: 1 is Urban"),
    in_codebook("A text in place of fields", "{train: 0.8, validation: 0.1, test: 0.1}", "most for training"),
    in_codebook("A list in place of a text", TITLE, "title: [Snacks]"),
    in_codebook("A list that is too short", AREA, "options: [Urban]"),
    in_codebook("The delimiter is empty", "{format: csv}", '{format: csv, delimiter: ""}'),
    in_codebook("The delimiter has several characters", "{format: csv}", '{format: csv, delimiter: "||"}'),
    in_codebook("An unknown encoding", "{format: csv}", "{format: csv, encoding: utf-88}"),
    in_codebook(
        "A sheet that is neither a name nor a number", "{format: csv}", "{format: excel, sheet: [1]}"
    ),
    in_codebook("A field of a prompt is a list", ANSWER, f"{ANSWER}\n    fields: {{snack: [crisps]}}"),
    in_codebook("A raw value is a list", ANSWER, f"{ANSWER}\n    codes: {{1: [0]}}"),
]

DEMOGRAPHICS = [
    in_codebook("A demographic without options", f"    {AREA}\n", "", "- name: living area\n  column: area"),
    in_codebook(
        "A demographic without a source, or with two",
        "    column: area\n",
        "",
        f"- name: living area\n  {AREA}",
    ),
    in_codebook("A code stands for no option", AREA, f"{AREA}\n    codes: {{1: Urban, 2: Rurl}}"),
    in_codebook(
        "A checkbox stands for no option",
        f"column: area\n    {AREA}",
        f"checkboxes: {{in_town: Urban, outside: Country}}\n    {AREA}",
    ),
    in_codebook("An option of a demographic is listed twice", AREA, "options: [Rural, Rural]"),
    in_codebook("Two raw values that are the same", AREA, f'{AREA}\n    codes: {{"1": Urban, "1.0": Rural}}'),
    in_codebook("An option holds the separator", AREA, "several: true\n    options: [Urban, Rural; remote]"),
    in_codebook(
        "An option holds the demographic's own separator",
        AREA,
        'several: true\n    separator: "/"\n    options: [Urban, Rural/remote]',
    ),
    in_codebook("A demographic has the name of a table's column", "name: age", "name: order"),
    in_codebook("A demographic's name has no letters", "name: age", "name: 年齢"),
    in_codebook("Two demographics have one name", "name: age", "name: living-area"),
    in_codebook("A band without an end", BANDS, "bands: [{label: young}, {label: old, at_least: 40}]"),
    in_codebook(
        "A band that holds no number",
        BANDS,
        "bands: [{label: young, below: 40}, {label: old, at_least: 40, below: 40}]",
    ),
    in_codebook("Bands overlap", BANDS, "bands: [{label: young, below: 41}, {label: old, at_least: 40}]"),
    in_codebook("Bands together with codes", BANDS, f"{BANDS}\n    codes: {{99: old}}"),
    in_codebook("A band's label is not among the options", BANDS, f"{BANDS}\n    options: [young, elderly]"),
    in_codebook("A wave's name with a capital letter", AREA, f"{AREA}\n    waves: [UK-*]"),
    in_codebook("A stratum that is no demographic", TITLE, f"{TITLE}\nstrata: [gender]"),
]

QUESTIONS = [
    in_codebook("A question's id is no name", "id: hunger", "id: How hungry?"),
    in_codebook("Two questions have one id", "id: likes", "id: hunger"),
    in_codebook("A scale has no room", SCALE, "scale: {low: 9, high: 9}"),
    in_codebook("A step does not lead from low to high", SCALE, "scale: {low: 0, high: 100, step: 7}"),
    in_codebook("A question with a scale and options", OPTIONS, f"{OPTIONS}\n    scale: {{low: 1, high: 3}}"),
    in_codebook("A question without a scale", f"    {SCALE}\n", "", f"- id: hunger\n  {ANSWER}"),
    in_codebook("An option of a question is listed twice", OPTIONS, "options: [never, often, often]"),
    in_codebook("Answering by label without labels", SCALE, f"{SCALE}\n    answer_by: label"),
    in_codebook("A code of a question stands for no answer", OPTIONS, f"{OPTIONS}\n    codes: {{N: nevr}}"),
    in_codebook(
        '"Don\'t know" as an answer without number and label',
        SCALE,
        f"{SCALE}\n    dont_know: {{values: [99], as: answer}}",
    ),
    in_codebook(
        'The number of "don\'t know" is not beside the scale',
        SCALE,
        f"{SCALE}\n    dont_know: {{values: [99], as: answer, number: 99, label: I do not know}}",
    ),
    in_codebook("`before` names no earlier question", ANSWER, f"{ANSWER}\n    before: likes"),
    in_codebook("`before` names a question on another scale", OPTIONS, f"{OPTIONS}\n    before: hunger"),
    in_codebook("A field has the name of a placeholder", ANSWER, f"{ANSWER}\n    fields: {{low: one}}"),
    in_codebook(
        "A question with an unknown placeholder of its own", SCALE, f'{SCALE}\n    user: "How {{much}}?"'
    ),
]

WORDINGS = [
    in_codebook("An unknown placeholder in the system prompt", "{demographics}", "{demographic}"),
    in_codebook("An unknown placeholder in the survey prompt", USER, '"{snack}: from {low} to {high}?"'),
    in_codebook("A placeholder without a name", USER, '"From {} to {high}?"'),
    in_codebook("A placeholder with a format", USER, '"From {low:>3} to {high}?"'),
    in_codebook("A brace that is not closed", USER, '"From {low to {high}?"'),
    in_codebook(
        "An unknown placeholder in the list of demographics",
        USER,
        f'{USER}\n  demographics: {{item: "{{label}}: {{value}}"}}',
    ),
    in_codebook(
        "An unknown placeholder around the list", USER, f'{USER}\n  demographics: {{frame: "({{list}})"}}'
    ),
    in_codebook(
        "A list of demographics without their values", USER, f'{USER}\n  demographics: {{item: "{{name}}"}}'
    ),
    in_codebook(
        "An unknown placeholder in the list of options", USER, f'{USER}\n  options: {{item: "{{word}}"}}'
    ),
    in_codebook(
        "A prompt shows a demographic that is none", USER, f"{USER}\n  demographics: {{show: [gender]}}"
    ),
    in_codebook(
        "Another wording is called default", USER, f"{USER}\n  templates: {{default: {{user: How much?}}}}"
    ),
    in_codebook("A wording's name", USER, f"{USER}\n  templates: {{Plain words: {{user: How much?}}}}"),
]

SITUATIONS = [*FILE, *VALUES, *DEMOGRAPHICS, *QUESTIONS, *WORDINGS]
