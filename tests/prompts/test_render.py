"""Prompts are those of the paper's section B.1, word for word, and 0–9 is the paper's rescaling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evsim_assets.prompts.render import PROMPT_COLUMNS, build_prompts, describe
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Sample
from evsim_assets.specs.survey import Demographic, SurveySpec, read_survey

ROOT = Path(__file__).resolve().parents[2]

SYSTEM = (
    "I want you to act as the following character. Answer all of the following questions from the point of"
    " view of this character, do not break character. {age: 18–25, gender: Man}"
)
ASKED = (
    "On a scale from 0 to 100, what is your current preference for battery electric vehicles (BEVs)? Please"
    " reply with just a single number rating and no additional words or explanations. Score:"
)


@pytest.fixture(scope="module")
def ev_shift() -> SurveySpec:
    return read_survey(ROOT / "data" / "surveys" / "ev_shift")


def responses(survey: SurveySpec, *answers: dict[str, Any]) -> pd.DataFrame:
    unknown = {d.slug: None for d in survey.demographics}
    common = {"participant": "p", "wave": "w", "order": 0, "intervention": None, "intervention_text": ""}
    return pd.DataFrame([{**unknown, **common, **answer} for answer in answers])


def splits(*people: str) -> pd.DataFrame:
    """`people` are tested; one more in each of the other splits has given no answer."""
    tested = pd.DataFrame({"participant": people, "split": "test", "rank": 0.95})
    others = pd.DataFrame({"participant": ["t", "v"], "split": ["train", "validation"], "rank": [0.1, 0.85]})
    return pd.concat([tested, others], ignore_index=True)


def test_the_prompts_of_ev_shift_are_those_of_section_b1(ev_shift: SurveySpec) -> None:
    man = {"age": "18–25", "gender": "Man"}
    text = "Some BEV manufacturers may start offering free charging."
    table = build_prompts(
        responses(
            ev_shift,
            {**man, "question": "initial", "answer": 40},
            {
                **man,
                "question": "post",
                "answer": 60,
                "order": 1,
                "intervention": "9",
                "intervention_text": text,
            },
        ),
        splits("p"),
        ev_shift,
    )
    assert list(table.columns) == PROMPT_COLUMNS
    assert table["system"].tolist() == [SYSTEM, SYSTEM]
    assert table["user"].tolist() == [ASKED, f"{text} {ASKED}"]
    assert table["prompt_id"].tolist() == ["p-0", "p-1"]
    assert table[["low", "high", "step"]].drop_duplicates().to_numpy().tolist() == [[0, 100, 1]]


def test_a_blank_intervention_leaves_no_blank_behind(ev_shift: SurveySpec) -> None:
    table = build_prompts(responses(ev_shift, {"question": "initial", "answer": 1}), splits("p"), ev_shift)
    for column in ("user", "user_digit"):
        assert table[column].str.startswith("On a scale").all() and table[column].str.endswith("Score:").all()


# round-half-up(9 a / 100), by hand: 5.5 is 0.495, 6 is 0.54, 50 is 4.5, 61 is 5.49, 95 is 8.55
BY_HAND = {0: 0, 5: 0, 6: 1, 16: 1, 17: 2, 49: 4, 50: 5, 61: 5, 62: 6, 94: 8, 95: 9, 100: 9}


def test_digits_are_the_answer_times_nine_hundredths_halves_up(ev_shift: SurveySpec) -> None:
    answers = [{"question": "initial", "answer": a, "order": i} for i, a in enumerate(BY_HAND)]
    table = build_prompts(responses(ev_shift, *answers), splits("p"), ev_shift)
    assert dict(zip(table["answer"], table["answer_digit"], strict=True)) == BY_HAND
    assert set(table["user_digit"]) == {ASKED.replace("0 to 100", "0 to 9")}


def scaled(low: int, high: int, step: int, fields: dict[str, str] | None = None) -> SurveySpec:
    return SurveySpec.model_validate(
        {
            "name": "snacks",
            "folder": Path("snacks"),
            "title": "t",
            "source": "s",
            "participant": None,
            "demographics": [{"name": "home", "column": "h", "options": ["a", "b", "c"], "several": True}],
            "questions": [
                {
                    "id": "q",
                    "scale": {"low": low, "high": high, "step": step},
                    "columns": [{"answer": "x"}],
                    "fields": fields or {},
                }
            ],
            "prompts": {"system": "{demographics}", "user": "{intervention} {low}-{high}?"},
        }
    )


def test_digits_reach_from_end_to_end_of_any_wide_scale() -> None:
    survey = scaled(-20, 200, 10)
    answers = [{"question": "q", "answer": a, "order": i} for i, a in enumerate((-20, 0, 90, 200))]
    table = build_prompts(responses(survey, *answers), splits("p"), survey)
    assert table["answer_digit"].tolist() == [0, 1, 5, 9]  # 9 · 0, 20, 110, 220 / 220 = 0, 0.82, 4.5, 9
    assert set(table["user_digit"]) == {"0-9?"} and set(table["user"]) == {"-20-200?"}


@pytest.mark.parametrize(
    ("low", "high", "step", "wide"), [(1, 10, 1, False), (0, 10, 1, True), (0, 90, 10, False)]
)
def test_a_scale_of_ten_answers_or_fewer_has_no_digits(low: int, high: int, step: int, wide: bool) -> None:
    survey = scaled(low, high, step)
    table = build_prompts(responses(survey, {"question": "q", "answer": high}), splits("p"), survey)
    assert table["answer_digit"].notna().all() == wide and table["user_digit"].notna().all() == wide
    assert str(table["answer_digit"].dtype) == "Int64"


def test_what_is_missing_of_a_person_is_left_out() -> None:
    demographics = (
        Demographic(name="living area", column="a", options=("Urban", "Rural")),
        Demographic(name="home", column="h", options=("alone", "spouse", "children"), several=True),
    )
    assert describe({"living_area": None, "home": float("nan")}, demographics) == "{}"
    known = {"living_area": "Urban", "home": "spouse; children"}
    assert describe(known, demographics) == "{living area: Urban, home: spouse, children}"


def test_braces_in_a_text_are_text(ev_shift: SurveySpec) -> None:
    odd = {"question": "post", "answer": 1, "intervention": "1", "intervention_text": "{low} {x}"}
    table = build_prompts(responses(ev_shift, odd), splits("p"), ev_shift)
    assert table["user"][0] == f"{{low}} {{x}} {ASKED}"


def test_rows_are_sorted_and_only_the_sampled_take_part(ev_shift: SurveySpec) -> None:
    people = [("c", "train", 0.3), ("a", "train", 0.2), ("b", "validation", 0.85), ("d", "test", 0.95)]
    answers = [
        {"participant": person, "question": "initial", "answer": 5, "order": order}
        for person in "cabd"
        for order in (1, 0)
    ]
    table = build_prompts(
        responses(ev_shift, *answers),
        pd.DataFrame(people, columns=["participant", "split", "rank"]),
        ev_shift,
        Sample(train=1, validation=1, test=1),
    )
    assert table["prompt_id"].tolist() == ["a-0", "a-1", "b-0", "b-1", "d-0", "d-1"]
    assert table["split"].tolist() == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2


@pytest.mark.parametrize("empty", ["train", "validation", "test"])
@pytest.mark.parametrize("sample", [None, Sample(test=5)], ids=["all", "sampled"])
def test_a_split_without_people_is_refused_with_the_counts_of_all(
    ev_shift: SurveySpec, empty: str, sample: Sample | None
) -> None:
    people = splits("p", "q")
    with pytest.raises(BadInput) as caught:
        build_prompts(pd.DataFrame(), people[people["split"] != empty], ev_shift, sample)
    counts = {"train": 1, "validation": 1, "test": 2} | {empty: 0}
    assert ", ".join(f"{count} {split}" for split, count in counts.items()) in str(caught.value)
    assert "survey.yaml" in str(caught.value.remedy)
