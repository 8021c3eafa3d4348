"""The drafted codebook: what is recognised, and that it is valid whatever the file."""

from __future__ import annotations

import csv
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from evsim_assets.drafting.draft import Draft, drafted, put_in_place
from evsim_assets.drafting.guess import guess_form
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.landing import WaveFile
from evsim_assets.surveys.look import Look, look_at
from tests.conftest import SHARED_SURVEYS

ROWS = 60


def write(path: Path, columns: dict[str, list[Any]], **form: Any) -> Path:
    with path.open("w", newline="", encoding=form.pop("encoding", "utf-8")) as file:
        writer = csv.writer(file, **form)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def codebook(tmp_path: Path, path: Path, **said: Any) -> tuple[Draft, SurveySpec]:
    draft = drafted("drafted", path, guess_form(path, **said), "../../../docs/survey.schema.json")
    return draft, put_in_place(draft, tmp_path / "drafted")


def cycle(*values: Any) -> list[Any]:
    return [values[row % len(values)] for row in range(ROWS)]


def basic(**columns: list[Any]) -> dict[str, list[Any]]:
    """A file that has a person, a trait and a question, and whatever else."""
    return {
        "person_id": [f"p{row}" for row in range(ROWS)],
        "gender": cycle("Woman", "Man"),
        "mood": cycle(1, 2, 3, 4, 5),
        **columns,
    }


def looked_at(spec: SurveySpec, path: Path, tmp_path: Path) -> Look:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return look_at(spec, WaveFile("first", path), scratch)


def test_an_id_a_trait_and_a_rating_are_told_apart(tmp_path: Path) -> None:
    draft, spec = codebook(tmp_path, write(tmp_path / "a.csv", basic(weight=cycle(0.5, 1.5, 1.0))))
    assert (spec.participant, spec.weight) == ("person_id", "weight")
    assert [(d.name, d.options) for d in spec.demographics] == [("gender", ("Man", "Woman"))]
    [question] = spec.questions
    assert (question.id, question.scale.low, question.scale.high) == ("mood", 1, 5)
    assert draft.text.startswith("# yaml-language-server: $schema=../../../docs/survey.schema.json\n")


def test_what_is_drafted_uses_every_cell_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", basic(agegroup=cycle("18-24", "25-44", "45+")))
    _, spec = codebook(tmp_path, path)
    look = looked_at(spec, path, tmp_path)
    assert look.cleaned.counts == {"cells": ROWS, "used": ROWS, "missing": 0, "quarantined": 0}
    assert look.unusable == ()


def test_columns_that_differ_in_a_word_are_one_question_table(tmp_path: Path) -> None:
    names = ["Algeria", "Bosnia and Herzegovina", "the Netherlands", "Italy"]
    columns = {f"How much do you like the food of {name}?": cycle(5, 4, 3, 2, 1, "N/A") for name in names}
    draft, spec = codebook(tmp_path, write(tmp_path / "a.csv", basic(**columns)))
    table = [q for q in spec.questions if q.id != "mood"]
    assert [q.id for q in table] == ["algeria", "bosnia_and_herzegovina", "the_netherlands", "italy"]
    assert [q.columns[0].answer for q in table] == list(columns)
    assert table[1].fields["question"] == "How much do you like the food of Bosnia and Herzegovina?"
    assert all(q.dont_know is not None and q.dont_know.values == ("N/A",) for q in table)
    assert "N/A in 40 of 240 cells (17%)" in draft.text


def test_labels_are_put_in_their_usual_order(tmp_path: Path) -> None:
    columns = basic(
        doctor=cycle(
            "Agree", "Strongly agree", "Disagree", "Strongly disagree", "Neither agree nor disagree"
        ),
        often=cycle("Sometimes", "Never", "Always", "Often", "Rarely"),
        taste=cycle("sweet", "sour", "bitter", "salty"),
    )
    draft, spec = codebook(tmp_path, write(tmp_path / "a.csv", columns))
    options = {q.id: q.options for q in spec.questions}
    assert options["doctor"] == (
        *("Strongly disagree", "Disagree", "Neither agree nor disagree", "Agree", "Strongly agree"),
    )
    assert options["often"] == ("Never", "Rarely", "Sometimes", "Often", "Always")
    assert "taste" not in options  # no order in these words: what a person is, to be checked
    assert [d.name for d in spec.demographics] == ["gender", "taste"]
    assert ("column: taste", "is this what a person is? Else remove these lines") in [
        (said, todo) for _, said, todo in draft.checks
    ]


def test_a_group_of_columns_with_labels_of_no_known_order_says_so(tmp_path: Path) -> None:
    columns = {f"meal_{n}": cycle("bread", "rice", "pasta") for n in (1, 2, 3)}
    draft, spec = codebook(tmp_path, write(tmp_path / "a.csv", basic(**columns)))
    assert [q.id for q in spec.questions] == ["mood", "meal_1", "meal_2", "meal_3"]
    assert "the order: lowest first" in [todo for *_, todo in draft.checks]


def test_blocks_of_interventions_and_ratings_are_one_question_asked_again(tmp_path: Path) -> None:
    columns = basic(initial=cycle(0, 50, 100))
    for n in (1, 2):
        columns |= {f"intervention_{n}": cycle("a", "b", "0"), f"rating_{n}": cycle(0, 40, 100)}
    _, spec = codebook(tmp_path, write(tmp_path / "a.csv", columns))
    asked = next(q for q in spec.questions if q.id == "rating")
    assert [(c.answer, c.intervention) for c in asked.columns] == [
        ("rating_1", "intervention_1"),
        ("rating_2", "intervention_2"),
    ]
    assert asked.before == "initial"
    assert spec.interventions is not None
    assert set(spec.interventions.texts or {}) == {"a", "b"} and spec.interventions.none == ("0",)


def test_before_and_after_are_a_pair(tmp_path: Path) -> None:
    columns = basic(
        **{
            "Trust (Post)": cycle(1, 2, 3, 4),
            "Trust (Pre)": cycle(4, 3, 2, 1),
            "treatment": cycle("control", "film"),
        }
    )
    _, spec = codebook(tmp_path, write(tmp_path / "a.csv", columns))
    after = next(q for q in spec.questions if q.id == "trust_post")
    assert (after.before, after.columns[0].intervention) == ("trust_pre", "treatment")
    before = next(q for q in spec.questions if q.id == "trust_pre")
    assert before.columns[0].intervention is None


def test_runs_of_yes_and_no_are_checkboxes(tmp_path: Path) -> None:
    columns = {f"Trust:{who}": cycle("1.0", "0.0", "") for who in ("Radio", "Television", "Friends; family")}
    _, spec = codebook(tmp_path, write(tmp_path / "a.csv", basic(**columns)))
    trusted = next(d for d in spec.demographics if d.name == "trust")
    assert trusted.options == ("Radio", "Television", "Friends, family")
    assert {"1"} <= set(trusted.checked) and {"", "0"} <= set(trusted.unchecked)  # 1.0 is 1


def test_codes_wait_for_their_labels_and_refusals_are_told_apart(tmp_path: Path) -> None:
    columns = basic(education=cycle(1, 2, 3, -9, "Prefer not to say"))
    draft, spec = codebook(tmp_path, write(tmp_path / "a.csv", columns))
    education = next(d for d in spec.demographics if d.name == "education")
    assert education.codes == {"1": "1 (label?)", "2": "2 (label?)", "3": "3 (label?)"}
    assert (education.missing, education.refused) == (("-9",), ("Prefer not to say",))
    assert "what the codes stand for: 1 in 12, 2 in 12, 3 in 12 cells" in [todo for *_, todo in draft.checks]


def test_years_of_age_become_bands_and_every_age_has_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", basic(age=[16 + row for row in range(ROWS)]))
    _, spec = codebook(tmp_path, path)
    age = next(d for d in spec.demographics if d.name == "age")
    assert age.options == ("under 18", "18–24", "25–34", "35–44", "45–54", "55–64", "65 or older")
    told = next(d for d in looked_at(spec, path, tmp_path).cleaned.demographics if d["demographic"] == "age")
    assert told["known"] == ROWS


def test_an_unlikely_negative_code_is_no_answer_and_a_two_sided_scale_keeps_its_own(tmp_path: Path) -> None:
    columns = basic(
        calm=cycle(1, 2, 3, 4, 5, 6, 7, -1, 99), lean=cycle(-2, -1, 0, 1, 2), slider=cycle(0, 99, 98, 100, 50)
    )
    _, spec = codebook(tmp_path, write(tmp_path / "a.csv", columns))
    asked = {q.id: q for q in spec.questions}
    assert asked["calm"].dont_know is not None and set(asked["calm"].dont_know.values) == {"-1", "99"}
    assert (asked["lean"].scale.low, asked["lean"].scale.high, asked["lean"].dont_know) == (-2, 2, None)
    assert (asked["slider"].scale.high, asked["slider"].dont_know) == (100, None)


def test_what_is_not_used_is_listed_with_its_values(tmp_path: Path) -> None:
    columns = basic(words=[14 + 7 * row for row in range(ROWS)], note=[f"note {row}" for row in range(ROWS)])
    draft, _ = codebook(tmp_path, write(tmp_path / "a.csv", columns))
    assert draft.unused == ("words", "note")
    assert "# words: 60 different numbers 14–427" in draft.text


def test_a_long_file_has_a_question_for_each_value_of_its_column(tmp_path: Path) -> None:
    columns = {
        "person_id": [f"p{row // 4}" for row in range(ROWS)],
        "sex": [("F", "M")[row // 4 % 2] for row in range(ROWS)],
        "question": cycle("taxes", "schools", "roads", "parks"),
        "rating": [row % 7 + 1 for row in range(ROWS)],
    }
    path = write(tmp_path / "a.tsv", columns, delimiter="\t")
    _, spec = codebook(tmp_path, path)
    assert [q.id for q in spec.questions] == ["parks", "roads", "schools", "taxes"]
    assert all(q.where == {"question": q.id} for q in spec.questions)
    assert looked_at(spec, path, tmp_path).cleaned.counts["used"] == ROWS


def test_the_labels_and_wordings_of_an_spss_file_are_taken_over(tmp_path: Path) -> None:
    import pandas as pd
    import pyreadstat

    path = tmp_path / "a.sav"
    table = pd.DataFrame({"id": range(ROWS), "sex": cycle(1, 2), "happy": cycle(1, 2, 3, 8)})
    labels = {
        "sex": {1: "Male", 2: "Female"},
        "happy": {1: "Not too happy", 2: "Pretty happy", 3: "Very happy", 8: "Don't know"},
    }
    pyreadstat.write_sav(
        table, path, column_labels={"happy": "How happy are you?"}, variable_value_labels=labels
    )
    _, spec = codebook(tmp_path, path)
    assert spec.demographics[0].codes == {"1": "Male", "2": "Female"}
    [question] = spec.questions
    assert question.options == ("Not too happy", "Pretty happy", "Very happy")
    assert question.fields == {"question": "How happy are you?"}
    assert question.dont_know is not None and question.dont_know.values == ("8",)
    assert looked_at(spec, path, tmp_path).cleaned.counts == {
        **{"cells": ROWS, "used": 45, "missing": 15, "quarantined": 0}
    }


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "cp1252"), ("|", "utf-8"), ("\t", "utf-16")])
def test_delimiter_and_encoding_are_found(tmp_path: Path, delimiter: str, encoding: str) -> None:
    columns = basic(city=cycle("Zürich", "Genève", "São Paulo"))
    path = write(tmp_path / "a.csv", columns, delimiter=delimiter, encoding=encoding)
    _, spec = codebook(tmp_path, path)
    city = next(d for d in spec.demographics if d.name == "city")
    assert set(city.options) == {"Zürich", "Genève", "São Paulo"}
    assert spec.waves.separator == delimiter


def test_a_file_without_a_question_says_what_was_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"name": [f"n{row}" for row in range(ROWS)]})
    with pytest.raises(BadInput, match=r"no column looks like a question.*'name': 60 different values"):
        codebook(tmp_path, path)
    assert not (tmp_path / "drafted").exists()


def test_a_codebook_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", basic())
    draft, _ = codebook(tmp_path, path)
    stored = tmp_path / "drafted" / "survey.yaml"
    stored.write_text("mine")
    with pytest.raises(BadInput, match="already"):
        put_in_place(draft, tmp_path / "drafted")
    assert stored.read_text() == "mine"


def test_texts_that_are_one_value_are_drafted_once(tmp_path: Path) -> None:
    columns = basic(
        sex=cycle("1", "1.0", "2", "2.00"),
        region=cycle("True", "TRUE", "false", "1"),
        pets=cycle("1;2.0", "1.0", "2"),
    )
    path = write(tmp_path / "a.csv", columns)
    _, spec = codebook(tmp_path, path)
    sex, region, pets = (
        next(d for d in spec.demographics if d.name == name) for name in ("sex", "region", "pets")
    )
    assert list(sex.codes) == ["1", "2"]
    assert sorted(region.options) == ["1", "false", "true"]
    assert sorted(pets.options) == ["1", "2.0"]
    known = {
        told["demographic"]: told["known"] for told in looked_at(spec, path, tmp_path).cleaned.demographics
    }
    assert (known["sex"], known["region"], known["pets"]) == (ROWS, ROWS, ROWS)


CELLS = st.one_of(
    st.integers(-10, 120).map(str),
    st.sampled_from(
        [
            "",
            "NA",
            "N/A",
            "yes",
            "no",
            "Agree",
            "Disagree",
            "Never",
            "true",
            "TRUE",
            "null",
            "1",
            "1.0",
            "1.00",
            "#",
            ": x",
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8),
    st.text(string.punctuation + " \n", max_size=6),
)
NAMES = st.one_of(
    st.sampled_from(
        ["age", "gender", "id", "weight", "answer", "q_1", "q_2", "q_3", "treatment", "pre", "post"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12),
    st.text(string.punctuation + "ab1", min_size=1, max_size=6),
)


def test_a_label_that_no_screen_shows_is_read_back_as_it_is(tmp_path: Path) -> None:
    odd = ["\U0001f600", "\U00018d09", "a\x85b", "yes: no", "- x", "#1", "true", "1e3"]
    _, spec = codebook(tmp_path, write(tmp_path / "a.csv", basic(region=cycle(*odd))))
    region = next(d for d in spec.demographics if d.name == "region")
    assert set(region.options) == set(odd)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take minutes
)
@given(data=st.data())
def test_whatever_the_file_holds_the_draft_is_a_valid_codebook_that_reads_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("any")
    names = data.draw(st.lists(NAMES, min_size=1, max_size=7, unique_by=lambda n: n.casefold()))
    columns = {}
    for name in names:
        few = data.draw(st.lists(CELLS, min_size=1, max_size=5))
        columns[name] = [few[data.draw(st.integers(0, len(few) - 1))] for _ in range(12)]
    path = write(folder / "any.csv", columns, quoting=csv.QUOTE_ALL)
    try:
        draft = drafted("drafted", path, guess_form(path, delimiter=","), "schema.json")
    except BadInput:
        return  # nothing that could be a question, or names that no survey can have
    spec = put_in_place(draft, folder / "drafted")
    counts = looked_at(spec, path, folder).cleaned.counts
    assert counts["cells"] == counts["used"] + counts["missing"] + counts["quarantined"]


@pytest.mark.skipif(not SHARED_SURVEYS.is_dir(), reason=f"the real surveys are not here ({SHARED_SURVEYS})")
@pytest.mark.parametrize(
    ("file", "demographics", "questions", "cells"),
    [
        ("food_world_cup/food-world-cup-data.csv", 5, 42, 42 * 1373),
        ("covid_vaccine_misinfo/orb_us.csv", 10, 31, 31 * 4001),
        ("scaling_llm_persuasion_us/responses.csv", 5, 10, 25982),
    ],
)
def test_a_real_file_is_drafted_and_nothing_of_it_is_set_aside(
    tmp_path: Path, file: str, demographics: int, questions: int, cells: int
) -> None:
    path = SHARED_SURVEYS / file
    _, spec = codebook(tmp_path, path)
    assert (len(spec.demographics), len(spec.questions)) == (demographics, questions)
    counts = looked_at(spec, path, tmp_path).cleaned.counts
    assert (counts["cells"], counts["quarantined"]) == (cells, 0)
