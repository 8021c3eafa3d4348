"""A question that asks again what another asked before the intervention."""

from pathlib import Path

import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import read_survey

CODEBOOK = """
title: Twice
source: Made up
participant: id
waves: {{format: csv}}
demographics: [{{name: age, column: age, options: [young, old]}}]
questions:
  - {{id: pre, columns: [{{answer: q1}}], {pre}}}
  - {{id: post, columns: [{{answer: q2, intervention: arm}}], {post}}}
interventions: {{texts: {{a: A text.}}}}
prompts: {{system: "{{demographics}}", user: "{{intervention}} {{low}} {{high}}"}}
splits: {{train: 0.8, validation: 0.1, test: 0.1}}
"""
WARM = "scale: {low: 0, high: 10}"
ROUNDED = "scale: {low: 0, high: 10, rounding: half_up}"


def read(folder: Path, pre: str, post: str) -> dict[str, str | None]:
    survey = folder / "twice"
    survey.mkdir()
    (survey / "survey.yaml").write_text(CODEBOOK.format(pre=pre, post=post), encoding="utf-8")
    return {question.id: question.before for question in read_survey(survey).questions}


def test_a_question_names_the_one_before_it_on_the_same_scale(tmp_path: Path) -> None:
    assert read(tmp_path, WARM, f"{ROUNDED}, before: pre") == {"pre": None, "post": "pre"}


@pytest.mark.parametrize(
    ("pre", "post"),
    [
        (WARM, "scale: {low: 0, high: 100}"),
        (WARM, "scale: {low: 0, high: 10, step: 2}"),
        ("options: [no, maybe]", "options: [maybe, no]"),
        (WARM, f"{WARM}, dont_know: {{values: [99], as: answer, number: 11, label: unsure}}"),
    ],
)
def test_answers_on_two_scales_have_no_difference(tmp_path: Path, pre: str, post: str) -> None:
    with pytest.raises(BadInput) as raised:
        read(tmp_path, pre, f"{post}, before: pre")
    assert raised.value.field == "questions.1.before" and raised.value.value == "pre"
    assert "scale" in raised.value.problem and "same scale" in str(raised.value.remedy)


@pytest.mark.parametrize("named", ["post", "nothing"])
def test_a_question_that_is_not_earlier_cannot_come_before(tmp_path: Path, named: str) -> None:
    with pytest.raises(BadInput, match="no such question earlier") as raised:
        read(tmp_path, WARM, f"{WARM}, before: {named}")
    assert raised.value.field == "questions.1.before" and raised.value.value == named


def test_the_surveys_with_answers_before_and_after_say_so() -> None:
    surveys = Path(__file__).resolve().parents[2] / "data" / "surveys"
    named = {
        folder.name: {q.id: q.before for q in read_survey(folder).questions if q.before}
        for folder in surveys.iterdir()
    }
    assert named.pop("ev_shift") == {"post": "initial"}
    assert named.pop("vaccine_intent") == {"self_post": "self_pre", "others_post": "others_pre"}
    assert not any(named.values())
