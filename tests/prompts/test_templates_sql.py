"""Filling templates in SQL is `str.format`, row by row, whatever the texts hold."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsim_assets.prompts.render import build_prompts
from evsim_assets.specs.seeds import keyed_rank
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.landing import Intervention

from .conftest import stored_responses, stored_splits

DEMOGRAPHICS = ("age", "home town", "pets")
NASTY = st.text(st.sampled_from("ab{}'\"\\$%;\n\t \u00a0\u2003\x1f–é日🙂𝒳,:/~"), max_size=6)
WORD = NASTY.map(lambda text: "x" + text.replace(";", "")).filter(lambda text: bool(text.strip()))


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def wording(*names: str) -> st.SearchStrategy[str]:
    """A template with each of the names any number of times between nasty texts."""
    part = st.one_of(NASTY.map(escaped), st.sampled_from([f"{{{name}}}" for name in names]))
    return st.lists(part, max_size=6).map("".join)


def holding(name: str, *others: str) -> st.SearchStrategy[str]:
    return st.tuples(wording(name, *others), wording(name, *others)).map(
        lambda ends: f"{ends[0]}{{{name}}}{ends[1]}"
    )


@st.composite
def lists(draw: st.DrawFn) -> dict[str, Any]:
    form: dict[str, Any] = {
        "item": draw(holding("value", "name")),
        "separator": draw(NASTY),
        "frame": draw(holding("items")),
        "shuffle": draw(st.booleans()),
    }
    shown = draw(st.none() | st.lists(st.sampled_from(DEMOGRAPHICS), unique=True))
    return form if shown is None else form | {"show": shown}


@st.composite
def templates(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "system": draw(wording("demographics")),
        "user": draw(wording("intervention", "low", "high", "options", "topic", "headline", "source")),
        "demographics": draw(lists()),
        "options": {"item": draw(wording("number", "label")), "separator": draw(NASTY)},
    }


@st.composite
def surveys(draw: st.DrawFn) -> SurveySpec:
    labels = draw(st.lists(WORD, min_size=2, max_size=12, unique=True))
    fields = st.fixed_dictionaries({"topic": NASTY, "headline": st.just({"column": "h"})})
    own = draw(st.none() | wording("low", "topic", "headline", "intervention", "source"))
    questions = [
        {"id": "wide", "scale": {"low": -3, "high": 27, "step": 3}, "fields": draw(fields), "user": own},
        {
            "id": "words",
            "options": labels,
            "answer_by": draw(st.sampled_from(["label", "number"])),
            "fields": draw(fields),
        },
    ]
    document = {
        "name": "snacks",
        "folder": Path("snacks"),
        "title": "t",
        "source": "s",
        "participant": None,
        "demographics": [
            {"name": name, "column": name, "options": ["a", "b"], "several": name == "pets"}
            for name in DEMOGRAPHICS
        ],
        "questions": [{"columns": [{"answer": "x", "intervention": "i"}], **q} for q in questions],
        "interventions": {"file": "i.csv", "fields": {"source": "s"}},
        "prompts": {**draw(templates()), "templates": {"other": draw(templates())}},
    }
    return SurveySpec.model_validate(document)


ANSWERS = st.lists(
    st.fixed_dictionaries(
        {
            "participant": st.sampled_from(["p", "q'", "é{}"]),
            "question": st.sampled_from(["wide", "words"]),
            "intervention": st.sampled_from([None, "1", "2"]),
            "intervention_text": NASTY,
            "headline": NASTY,
            "answer": st.sampled_from([0, 1]),
            "age": st.none() | NASTY,
            "home_town": st.none() | NASTY,
            "pets": st.none() | st.lists(WORD, min_size=1).map("; ".join),
        }
    ),
    min_size=1,
    max_size=4,
)


def rendered(survey: SurveySpec, name: str, row: dict[str, Any], sources: dict[str, str]) -> tuple[Any, ...]:
    """System, user, user on 0–9 and target of one answer, with nothing but `str.format`."""
    template = survey.prompts.named(name)
    question = next(q for q in survey.questions if q.id == row["question"])
    form = template.demographics
    known = []
    for d in survey.demographics:
        value = row[d.slug]
        if value is None or (form.show is not None and d.name not in form.show):
            continue
        value = value.replace("; ", ", ") if d.has_several else value
        rank = keyed_rank(f"shuffle:snacks:{d.slug}", row["participant"])
        place = list(form.show or DEMOGRAPHICS).index(d.name)
        known.append((rank if form.shuffle else place, form.item.format(name=d.name, value=value)))
    people = form.frame.format(items=form.separator.join(item for _, item in sorted(known)))
    system = template.system.format(demographics=people)
    words = [*enumerate(question.labels, question.scale.low)]
    listed = [template.options.item.format(number=number, label=label) for number, label in words]
    fields = {
        "intervention": row["intervention_text"],
        "source": sources.get(row["intervention"] or "", ""),
        "options": template.options.separator.join(listed),
        "topic": question.fields["topic"],
        "headline": row["headline"],
    }
    asked = question.user or template.user
    user = asked.format(low=question.scale.low, high=question.scale.high, **fields).strip()
    digit = asked.format(low=0, high=9, **fields).strip() if question.id == "wide" else None
    target = dict(words)[row["answer"]] if question.answer_by == "label" else str(row["answer"])
    return system, user, digit, target


@settings(deadline=None, max_examples=60)
@given(surveys(), ANSWERS, st.tuples(NASTY, NASTY))
def test_every_row_is_what_str_format_makes_of_it(
    survey: SurveySpec, answers: list[dict[str, Any]], sources: tuple[str, str]
) -> None:
    by_id = dict(zip(("1", "2"), sources, strict=True))
    for answer in answers:  # words are numbered from 1, and the wide scale has 0 and 3
        answer["answer"] = 1 + answer["answer"] if answer["question"] == "words" else 3 * answer["answer"]
    rows = [
        {key: value for key, value in answer.items() if key != "headline"}
        | {"order": order, "fields": json.dumps({"headline": answer["headline"]})}
        for order, answer in enumerate(answers)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_prompts(
            stored_responses(folder / "responses", survey, rows),
            stored_splits(folder / "splits", {row["participant"]: "train" for row in rows}),
            survey,
            ("default", "other"),
            None,
            folder / "prompts",
            {key: Intervention("", {"source": text}) for key, text in by_id.items()},
        )
        table = pd.read_parquet(folder / "prompts")
    found = table[["system", "user", "user_digit", "target"]].astype(object)
    found = found.where(found.notna(), None)
    expected = [rendered(survey, name, answer, by_id) for answer in answers for name in ("default", "other")]
    assert [tuple(row) for row in found.itertuples(index=False)] == expected


def shuffled(people: list[str], folder: Path) -> dict[str, str]:
    names = ["a", "b", "c"]
    survey = SurveySpec.model_validate(
        {
            "name": "snacks",
            "folder": folder,
            "title": "t",
            "source": "s",
            "participant": None,
            "demographics": [{"name": name, "column": name, "options": names} for name in names],
            "questions": [{"id": "q", "scale": {"low": 0, "high": 9}, "columns": [{"answer": "x"}]}],
            "prompts": {
                "system": "{demographics}",
                "user": "?",
                "demographics": {"shuffle": True, "item": "{value}", "separator": "", "frame": "{items}"},
            },
        }
    )
    known = {name: name for name in names}
    build_prompts(
        stored_responses(folder / "responses", survey, [{"participant": p, **known} for p in people]),
        stored_splits(folder / "splits", dict.fromkeys(people, "train")),
        survey,
        ("default",),
        None,
        folder / "prompts",
        {},
    )
    table = pd.read_parquet(folder / "prompts")
    return dict(zip(table["participant"], table["system"], strict=True))


def test_shuffled_demographics_have_every_order_and_stay_whatever_rows_are_there(tmp_path: Path) -> None:
    people = [f"{i:04d}" for i in range(1200)]
    orders = shuffled(people, tmp_path)
    counts = Counter(orders.values())
    assert set(counts) == {"".join(order) for order in permutations("abc")}
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 20.5  # chi-square, 5 df, p = 0.001
    some = people[700:900]
    assert shuffled(some, tmp_path) == {person: orders[person] for person in some}


@pytest.mark.parametrize("name", ["place", "of", "t0", "low", "system", "words", "kept_wave"])
def test_a_demographic_may_have_the_name_of_anything_inside(name: str, tmp_path: Path) -> None:
    survey = SurveySpec.model_validate(
        {
            "name": "snacks",
            "folder": tmp_path,
            "title": "t",
            "source": "s",
            "participant": None,
            "demographics": [{"name": name, "column": name, "options": ["1", "2"]}],
            "questions": [{"id": "q", "scale": {"low": 0, "high": 50}, "columns": [{"answer": "x"}]}],
            "prompts": {"system": "{demographics}", "user": "{intervention}?"},
        }
    )
    build_prompts(
        stored_responses(tmp_path / "responses", survey, [{survey.demographics[0].slug: "2"}]),
        stored_splits(tmp_path / "splits", {"p": "train"}),
        survey,
        ("default",),
        None,
        tmp_path / "prompts",
        {},
    )
    assert pd.read_parquet(tmp_path / "prompts")["system"].tolist() == [f"{{{name}: 2}}"]
