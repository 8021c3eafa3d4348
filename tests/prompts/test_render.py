"""Prompts are those of the paper's section B.1, word for word, and 0–9 is the paper's rescaling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evsim_assets.prompts.render import examples
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Sample
from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.surveys.landing import Intervention

ROOT = Path(__file__).resolve().parents[2]
Build = Callable[..., pd.DataFrame]

SYSTEM = (
    "I want you to act as the following character. Answer all of the following questions from the point of"
    " view of this character, do not break character. {age: 18–25, gender: Man}"
)
ASKED = (
    "On a scale from 0 to 100, what is your current preference for battery electric vehicles (BEVs)? Please"
    " reply with just a single number rating and no additional words or explanations. Score:"
)
COLUMNS = (
    "prompt_id participant wave split held_out question order intervention template weight answer"
    " answer_digit low high step labels system user user_digit target target_digit"
)


@pytest.fixture(scope="module")
def ev_shift() -> SurveySpec:
    return read_survey(ROOT / "data" / "surveys" / "ev_shift")


def snacks(*questions: dict[str, Any], **changes: Any) -> SurveySpec:
    document = {
        "name": "snacks",
        "folder": Path("snacks"),
        "title": "t",
        "source": "s",
        "participant": None,
        "demographics": [{"name": "home", "column": "h", "options": ["a", "b", "c"], "several": True}],
        "questions": [{"columns": [{"answer": "x"}], **question} for question in questions],
        "prompts": {"system": "{demographics}", "user": "{intervention} {low}-{high}?"},
    }
    return SurveySpec.model_validate({**document, **changes})


def scaled(low: int, high: int, step: int = 1) -> SurveySpec:
    return snacks({"id": "q", "scale": {"low": low, "high": high, "step": step}})


def test_the_prompts_of_ev_shift_are_those_of_section_b1(ev_shift: SurveySpec, build: Build) -> None:
    man = {"age": "18–25", "gender": "Man", "weight": 0.5}
    text = "Some BEV manufacturers may start offering free charging."
    read = {"intervention": "9", "intervention_text": text}
    table = build(
        ev_shift,
        {**man, "question": "initial", "answer": 40},
        {**man, **read, "question": "post", "answer": 60, "order": 1},
    )
    assert list(table.columns) == COLUMNS.split()
    assert table["system"].tolist() == [SYSTEM, SYSTEM]
    assert table["user"].tolist() == [ASKED, f"{text} {ASKED}"]
    assert table["prompt_id"].tolist() == ["p-0", "p-1"]
    assert table[["low", "high", "step"]].drop_duplicates().to_numpy().tolist() == [[0, 100, 1]]
    assert table["target"].tolist() == ["40", "60"] and table["weight"].tolist() == [0.5, 0.5]
    assert table["template"].tolist() == ["default"] * 2 and table["labels"].isna().all()


def test_a_blank_intervention_leaves_no_blank_behind(ev_shift: SurveySpec, build: Build) -> None:
    table = build(ev_shift, {"question": "initial"})
    for column in ("user", "user_digit"):
        assert table[column].str.startswith("On a scale").all() and table[column].str.endswith("Score:").all()


# round-half-up(9 a / 100), by hand: 5.5 is 0.495, 6 is 0.54, 50 is 4.5, 61 is 5.49, 95 is 8.55
BY_HAND = {0: 0, 5: 0, 6: 1, 16: 1, 17: 2, 49: 4, 50: 5, 61: 5, 62: 6, 94: 8, 95: 9, 100: 9}


def test_digits_are_the_answer_times_nine_hundredths_halves_up(ev_shift: SurveySpec, build: Build) -> None:
    table = build(ev_shift, *({"answer": a, "order": i} for i, a in enumerate(BY_HAND)))
    assert dict(zip(table["answer"], table["answer_digit"], strict=True)) == BY_HAND
    assert table["target_digit"].tolist() == [str(digit) for digit in BY_HAND.values()]
    assert set(table["user_digit"]) == {ASKED.replace("0 to 100", "0 to 9")}


def test_digits_reach_from_end_to_end_of_any_wide_scale(build: Build) -> None:
    table = build(scaled(-20, 200, 10), *({"answer": a, "order": i} for i, a in enumerate((-20, 0, 90, 200))))
    assert table["answer_digit"].tolist() == [0, 1, 5, 9]  # 9 · 0, 20, 110, 220 / 220 = 0, 0.82, 4.5, 9
    assert set(table["user_digit"]) == {"0-9?"} and set(table["user"]) == {"-20-200?"}


@pytest.mark.parametrize(
    ("low", "high", "step", "wide"), [(1, 10, 1, False), (0, 10, 1, True), (0, 90, 10, False)]
)
def test_a_scale_of_ten_answers_or_fewer_has_no_digits(
    low: int, high: int, step: int, wide: bool, build: Build
) -> None:
    table = build(scaled(low, high, step), {"answer": high})
    for column in ("answer_digit", "user_digit", "target_digit"):
        assert table[column].notna().all() == wide


MONTHS = [f"month {i}" for i in range(1, 13)]
NOT_SURE = {"values": ["?"], "as": "answer", "number": -1, "label": "not sure"}


def test_words_and_dont_know_have_no_digits(build: Build) -> None:
    worded = {"id": "worded", "options": MONTHS}
    unsure = {"id": "unsure", "scale": {"low": 0, "high": 100}, "dont_know": NOT_SURE}
    survey = snacks(worded, unsure, {"id": "plain", "scale": {"low": 0, "high": 100}})
    names = ("worded", "unsure", "plain")
    table = build(survey, *({"question": name, "order": i} for i, name in enumerate(names)))
    assert table["user_digit"].notna().tolist() == [False, False, True]
    assert table[["low", "high"]].to_numpy().tolist() == [[1, 12], [-1, 100], [0, 100]]


def test_a_question_answered_by_label_has_words_as_its_target(build: Build) -> None:
    options = {"options": ["No", "Maybe", "Yes"], "first": 0, "dont_know": NOT_SURE}
    survey = snacks({"id": "words", **options, "answer_by": "label"}, {"id": "numbers", **options})
    asked = {"system": "", "user": "{options}"}
    survey = survey.model_copy(update={"prompts": survey.prompts.model_copy(update=asked)})
    answers = [
        {"question": name, "answer": a, "order": 4 * place + a + 1}
        for place, name in enumerate(("words", "numbers"))
        for a in (-1, 0, 1, 2)
    ]
    table = build(survey, *answers)
    assert table["target"].tolist() == ["not sure", "No", "Maybe", "Yes", "-1", "0", "1", "2"]
    words = table["labels"][:4]
    assert all(json.loads(labels) == ["not sure", "No", "Maybe", "Yes"] for labels in words)
    assert table["labels"][4:].isna().all()
    assert set(table["user"]) == {"-1 = not sure; 0 = No; 1 = Maybe; 2 = Yes"}


def test_people_of_a_wave_that_offered_less_read_what_they_were_offered(build: Build) -> None:
    options = {"options": ["No", "Maybe", "Yes", "Sure"], "dont_know": {**NOT_SURE, "number": 0}}
    fewer = {"options": ["No", "Yes"], "dont_know": []}
    survey = snacks(
        {"id": "words", **options, "answer_by": "label"},
        {"id": "numbers", **options},
        {"id": "own", "scale": {"low": 1, "high": 5}, "user": "{low}-{high} {options}"},
        prompts={
            "system": "",
            "user": "{low}-{high}: {options}",
            "templates": {"b": {"user": "{options}?", "options": {"item": "{label}", "separator": "/"}}},
        },
        waves={
            "changes": [
                {"waves": ["old-*"], "questions": {"words": fewer, "numbers": {"options": ["Maybe", "Yes"]}}},
                {"since": "old-3", "questions": {"numbers": {"options": ["No", "Maybe", "Yes"]}}},
                {"waves": ["late"], "questions": {"words": fewer}},
            ]
        },
    )
    waves = ("late", "new", "old-1", "old-2", "old-3")
    asked = [(wave, question) for wave in waves for question in ("words", "numbers", "own")]
    answers = [{"wave": w, "question": q, "order": i, "answer": 3} for i, (w, q) in enumerate(asked)]
    table = build(survey, *answers)
    user = dict(zip(asked, table["user"], strict=True))
    everything = "0-4: 0 = not sure; 1 = No; 2 = Maybe; 3 = Yes; 4 = Sure"
    few, some, more = (
        "1-3: 1 = No; 3 = Yes",
        "0-3: 0 = not sure; 2 = Maybe; 3 = Yes",
        "0-3: 0 = not sure; 1 = No; 2 = Maybe; 3 = Yes",
    )
    words = {"late": few, "new": everything, "old-1": few, "old-2": few, "old-3": few}
    numbers = {"late": everything, "new": everything, "old-1": some, "old-2": some, "old-3": more}
    assert {wave: user[wave, "words"] for wave in waves} == words
    assert {wave: user[wave, "numbers"] for wave in waves} == numbers
    assert {user[wave, "own"] for wave in waves} == {"1-5"}
    other = dict(zip(asked, build(survey, *answers, templates=("b",))["user"], strict=True))
    assert (other["late", "words"], other["old-1", "numbers"]) == ("No/Yes?", "not sure/Maybe/Yes?")
    # What is stored of the answer is the question's, whatever the wave.
    assert table[["low", "high", "step"]].drop_duplicates().to_numpy().tolist() == [[0, 4, 1], [1, 5, 1]]
    assert table["target"].tolist() == ["Yes", "3", "3"] * 5
    assert set(table["labels"].dropna()) == {'["not sure", "No", "Maybe", "Yes", "Sure"]'}


def test_what_is_missing_of_a_person_is_left_out(build: Build) -> None:
    survey = snacks(
        {"id": "q", "scale": {"low": 0, "high": 9}},
        demographics=[
            {"name": "living area", "column": "a", "options": ["Urban; dense", "Rural"]},
            {"name": "home", "column": "h", "options": ["alone", "spouse", "children"], "several": True},
        ],
    )
    table = build(
        survey,
        {"participant": "a"},
        {"participant": "b", "living_area": "Urban; dense", "home": "spouse; children"},
        {"participant": "c", "home": "alone"},
    )
    both = "{living area: Urban; dense, home: spouse, children}"
    assert table["system"].tolist() == ["{}", both, "{home: alone}"]


def test_braces_in_a_text_are_text(ev_shift: SurveySpec, build: Build) -> None:
    odd = {"question": "post", "intervention": "1", "intervention_text": "{low} {x}"}
    assert build(ev_shift, odd)["user"][0] == f"{{low}} {{x}} {ASKED}"


def test_a_template_makes_a_prompt_of_every_answer_with_a_name_of_its_own(build: Build) -> None:
    terse = {"system": "Be {demographics}.", "demographics": {"frame": "{items}", "item": "{value}"}}
    survey = snacks(
        {"id": "q", "scale": {"low": 0, "high": 9}},
        {"id": "own", "scale": {"low": 1, "high": 5}, "user": "Own, to {high}:"},
        prompts={"system": "{demographics}", "user": "From {low}:", "templates": {"terse": terse}},
    )
    answers = [{"question": name, "order": i, "home": "a"} for i, name in enumerate(("q", "own"))]
    table = build(survey, *answers, templates=("terse", "default"))
    assert table["prompt_id"].tolist() == ["p-0-terse", "p-0", "p-1-terse", "p-1"]
    assert table["template"].tolist() == ["terse", "default"] * 2
    assert table["system"].tolist() == ["Be a.", "{home: a}"] * 2
    assert table["user"].tolist() == ["From 0:"] * 2 + ["Own, to 5:"] * 2
    assert build(survey, *answers, templates=("terse",))["prompt_id"].tolist() == ["p-0-terse", "p-1-terse"]


HELD_OUT = {"interventions": ["7"], "questions": ["post"]}


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train", "held_out"), ("validation", "held_out"), ("test", "test")],
)
def test_what_is_held_out_is_out_of_training_and_stays_in_the_test(
    ev_shift: SurveySpec, build: Build, split: str, expected: str
) -> None:
    survey = ev_shift.model_copy(
        update={"held_out": ev_shift.held_out.model_validate({**HELD_OUT, "questions": []})}
    )
    strict = ev_shift.model_copy(update={"held_out": ev_shift.held_out.model_validate(HELD_OUT)})
    answers: list[dict[str, Any]] = [
        {"participant": person, "order": order, "question": question, "intervention": intervention}
        for person in ("in", "out")
        for order, (question, intervention) in enumerate([("initial", None), ("post", "7"), ("post", "8")])
    ]
    people = {"in": split, "out": split}
    read = {"7": Intervention("a", {}), "8": Intervention("b", {})}
    loose = build(survey, *answers, people=people, held_out=("out",), interventions=read)
    assert loose["held_out"].fillna("").tolist() == ["", "intervention", "", "cell", "cell", "cell"]
    assert loose["split"].tolist() == [split, expected, split, expected, expected, expected]
    table = build(strict, *answers, people=people, held_out=("out",), interventions=read)
    assert table["held_out"].fillna("").tolist() == ["", "question", "question", "cell", "cell", "cell"]


def test_a_held_out_intervention_is_known_as_spreadsheets_write_it(
    ev_shift: SurveySpec, build: Build
) -> None:
    held = ev_shift.held_out.model_validate({"interventions": [" 7.0"]})
    survey = ev_shift.model_copy(update={"held_out": held})
    answers = [{"question": "post", "order": n, "intervention": i} for n, i in enumerate(("7", "8"))]
    read = {"7": Intervention("a", {}), "8": Intervention("b", {})}
    table = build(survey, *answers, people={"p": "train"}, interventions=read)
    assert table["split"].tolist() == ["held_out", "train"]


def test_a_held_out_intervention_that_nobody_wrote_is_refused(ev_shift: SurveySpec, build: Build) -> None:
    survey = ev_shift.model_copy(update={"held_out": ev_shift.held_out.model_validate(HELD_OUT)})
    with pytest.raises(BadInput) as caught:
        build(survey, {"question": "initial"}, interventions={"8": Intervention("b", {})})
    assert (caught.value.field, caught.value.value) == ("held_out.interventions", "7")
    assert "8" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("answer", "people", "value"),
    [
        ({"question": "gone"}, None, "gone"),
        ({"answer": 101}, None, "initial"),
        ({"participant": "new"}, {"p": "test"}, "new"),
        ({"intervention": "99"}, None, "99"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(
    ev_shift: SurveySpec, build: Build, answer: dict[str, Any], people: Any, value: str
) -> None:
    with pytest.raises(BadInput) as caught:
        build(ev_shift, {"question": "initial", **answer}, people=people, interventions={})
    assert caught.value.value == value and caught.value.remedy and caught.value.field


def test_rows_keep_their_order_and_only_the_sampled_take_part(ev_shift: SurveySpec, build: Build) -> None:
    people = {"a": "train", "b": "validation", "c": "train", "d": "test"}
    answers = [{"participant": person, "order": order} for person in "abcd" for order in (0, 1)]
    table = build(ev_shift, *answers, people=people, sample=Sample(train=2, validation=2, test=2))
    assert table["prompt_id"].tolist() == ["a-0", "a-1", "b-0", "b-1", "d-0", "d-1"]  # `0 train` is first
    assert table["split"].tolist() == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2


def test_many_rows_keep_their_order_whatever_is_looked_up(build: Build, tmp_path: Path) -> None:
    """More rows than one row group, more people than answers, and two templates."""
    survey = snacks(
        {"id": "q", "scale": {"low": 0, "high": 100}},
        prompts={"system": "", "user": "{high}", "templates": {"b": {"system": "B"}}},
    )
    people = {f"{i:06d}": ("train", "validation", "test")[i % 3] for i in range(200_000)}
    answers = [{"participant": p, "answer": i % 101} for i, p in enumerate(people) if i % 2]
    table = build(survey, *answers, people=people, templates=("default", "b"))
    assert table["participant"].tolist() == [a["participant"] for a in answers for _ in range(2)]
    assert table["template"].tolist() == ["default", "b"] * 100_000
    assert table["target"].tolist() == [str(a["answer"]) for a in answers for _ in range(2)]
    assert table["split"].tolist() == [people[a["participant"]] for a in answers for _ in range(2)]
    shown = examples(tmp_path / "prompts")
    assert sorted(shown["prompt_id"]) == ["000001-0", "000001-0-b"]
