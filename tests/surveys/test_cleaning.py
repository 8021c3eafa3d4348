"""Cleaning: every answer cell is used, missing or quarantined with a reason, and nobody can be recognised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.surveys.cleaning import clean_wave, pseudonym
from evsim_assets.surveys.landing import intervention_texts
from evsim_assets.surveys.reading import read_cells

from .conftest import CleanTables, clean_rows

TEXTS = {"1": "Eat more.", "78": "Eat less."}
COLUMNS = ["person", "area", "home", "q1", "q2", "read2", "q3", "read3"]
GOOD = ["ann", "Urban", "alone", "10", "20", "1", "30", "78"]
ROOT = Path(__file__).resolve().parents[2]


def clean(survey: SurveySpec, *rows: list[str]) -> CleanTables:
    return clean_rows(survey, COLUMNS, rows, TEXTS, survey.folder / "made")


def row(**cells: str) -> list[str]:
    return [cells.get(name, value) for name, value in zip(COLUMNS, GOOD, strict=True)]


def only(cleaned: CleanTables) -> dict[str, Any]:
    """The one row of the quarantine."""
    assert len(cleaned.quarantine) == 1, cleaned.quarantine
    return dict(cleaned.quarantine.iloc[0])


def test_a_good_row_becomes_its_answers_in_order(make_survey: Any) -> None:
    cleaned = clean(make_survey(), GOOD)
    shown = cleaned.answers.drop(columns="participant").to_dict("records")
    common = {"wave": "w1", "living_area": "Urban", "home": "alone", "fields": None, "weight": 1.0}
    assert shown == [
        common
        | {
            "question": "first",
            "order": 0,
            "intervention": None,
            "intervention_text": "",
            "answer": 10,
        },
        common
        | {
            "question": "second",
            "order": 1,
            "intervention": "1",
            "intervention_text": "Eat more.",
            "answer": 20,
        },
        common
        | {
            "question": "second",
            "order": 2,
            "intervention": "78",
            "intervention_text": "Eat less.",
            "answer": 30,
        },
    ]
    assert cleaned.counts == {"cells": 3, "used": 3, "missing": 0, "quarantined": 0}
    assert cleaned.quarantine.empty and cleaned.people == 1


def test_the_tables_have_the_columns_that_other_stages_read(make_survey: Any) -> None:
    cleaned = clean(make_survey(), GOOD)
    assert list(cleaned.answers) == [
        *("participant", "wave", "question", "order", "intervention", "intervention_text", "fields"),
        *("answer", "weight", "living_area", "home"),
    ]
    assert list(cleaned.quarantine) == ["wave", "row", "column", "value", "reason", "remedy"]


def test_a_missing_answer_is_counted_and_closes_the_order(make_survey: Any) -> None:
    cleaned = clean(make_survey(), row(q1="NA", q2=""))
    assert cleaned.counts == {"cells": 3, "used": 1, "missing": 2, "quarantined": 0}
    assert cleaned.answers[["order", "answer"]].to_dict("records") == [{"order": 0, "answer": 30}]
    assert cleaned.quarantine.empty


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        ("50.5", 51),
        ("50.25", 50),
        ("50.75", 51),
        ("99.75", 100),
        ("0.49", 0),
        ("0.5", 1),
        ("100", 100),
        ("2e1", 20),
        ("7.", 7),
        ("0.49999999999999994", 0),
    ],
)
def test_halves_are_rounded_up(make_survey: Any, raw: str, answer: int) -> None:
    cleaned = clean(make_survey(), row(q2=raw))
    assert cleaned.answers["answer"].tolist() == [10, answer, 30]


def test_rounding_up_goes_up_below_zero_and_on_wider_steps(make_survey: Any) -> None:
    scale = {"low": -10, "high": 10, "step": 5, "rounding": "half_up"}
    survey = make_survey(questions=[{"id": "q", "scale": scale, "columns": [{"answer": "q1"}]}])
    rows = [row(person=str(i), q1=value) for i, value in enumerate(["-2.5", "-2.6", "2.5", "-10", "7.4"])]
    assert clean(survey, *rows).answers["answer"].tolist() == [0, -5, 5, -10, 5]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("q1", "101", "off the scale 0–100"),
        ("q1", "-1", "off the scale 0–100"),
        *[("q1", odd, "not a number") for odd in ("inf", "nan", "1e400", "ten", "7,5", "1_0", "0x1", "١")],
        *[("q1", odd, "not a number") for odd in ("+-7", "--7", ".", "1e", "1 2", "a\0b")],
        ("q1", "50.5", "between two answers of the scale 0–100 (step 1)"),
        ("q2", "100.3", "off the scale"),
        ("q2", "100.4", "off the scale"),
        ("q2", "-0.1", "off the scale"),
        ("read2", "5", "no text for this intervention"),
        ("read3", "", "no intervention"),
    ],
)
def test_an_unusable_answer_is_set_aside_with_row_column_value_reason_and_remedy(
    make_survey: Any, column: str, value: str, reason: str
) -> None:
    cleaned = clean(make_survey(), GOOD, row(person="bob", **{column: value}))
    aside = only(cleaned)
    assert (aside["wave"], aside["row"], aside["column"], aside["value"]) == ("w1", 2, column, value)
    assert reason in aside["reason"] and aside["remedy"]
    assert cleaned.counts == {"cells": 6, "used": 5, "missing": 0, "quarantined": 1}


def test_a_demographic_that_cannot_be_read_costs_only_itself(make_survey: Any) -> None:
    cleaned = clean(make_survey(), row(area="Moon"), row(person="bob", area=""))
    aside = only(cleaned)
    assert (aside["row"], aside["column"], aside["value"]) == (1, "area", "Moon")
    assert "'living area'" in aside["reason"]
    assert cleaned.answers["living_area"].isna().all()
    assert cleaned.counts["used"] == 6
    area, home = cleaned.demographics
    assert area == {"demographic": "living_area", "known": 0, "missing": 1, "refused": 0, "quarantined": 1}
    assert home == {"demographic": "home", "known": 2, "missing": 0, "refused": 0, "quarantined": 0}


@pytest.mark.parametrize(
    ("raw", "label"), [("1", "Urban"), ("1.0", "Urban"), ("1.00", "Urban"), ("Rural", "Rural")]
)
def test_codes_become_labels(make_survey: Any, raw: str, label: str) -> None:
    assert set(clean(make_survey(), row(area=raw)).answers["living_area"]) == {label}


def test_several_options_stand_in_the_codebook_s_order_and_each_once(make_survey: Any) -> None:
    cleaned = clean(
        make_survey(), row(home="children;spouse; children"), row(person="bob", home="spouse; dog")
    )
    assert cleaned.answers.groupby("participant", sort=False)["home"].first().iloc[0] == "spouse; children"
    assert only(cleaned)["value"] == "spouse; dog"
    assert cleaned.answers["home"].isna().sum() == 3


def test_an_intervention_id_written_as_a_fraction_is_the_same_intervention(make_survey: Any) -> None:
    cleaned = clean(make_survey(), row(read2="78.0"))
    assert cleaned.answers["intervention"].tolist() == [None, "78", "78"]
    assert cleaned.answers["intervention_text"].tolist() == ["", "Eat less.", "Eat less."]


def test_a_control_arm_has_no_intervention_and_no_text(make_survey: Any) -> None:
    answers = clean(make_survey(), row(read2="0", read3="0.0")).answers
    assert answers["intervention"].isna().all() and set(answers["intervention_text"]) == {""}


def test_of_a_doubled_participant_the_first_row_is_kept_and_the_id_is_nowhere(make_survey: Any) -> None:
    cleaned = clean(make_survey(), GOOD, row(q1="99"), row(person="bob"))
    assert cleaned.answers.loc[cleaned.answers["question"] == "first", "answer"].tolist() == [10, 10]
    aside = only(cleaned)
    assert (aside["row"], aside["column"]) == (2, "person")
    assert "the first usable one counts" in str(aside["reason"]) and aside["value"] == pseudonym(
        "snacks", "ann"
    )
    assert cleaned.counts == {"cells": 9, "used": 6, "missing": 0, "quarantined": 3}
    for table in (cleaned.answers, cleaned.quarantine):
        assert "ann" not in table.to_csv() and "bob" not in table.to_csv()


@pytest.mark.parametrize("missing", [["", "NA"], ["NA"]])
def test_a_row_without_a_participant_is_set_aside_and_shows_nobody_s_name(
    make_survey: Any, missing: list[str]
) -> None:
    cleaned = clean(make_survey(missing=missing), GOOD, row(person=""))
    aside = only(cleaned)
    assert (aside["row"], aside["column"], aside["value"]) == (2, "person", "")
    assert "no participant id" in aside["reason"]
    assert cleaned.counts == {"cells": 6, "used": 3, "missing": 0, "quarantined": 3}


def test_a_participant_whose_number_is_a_missing_value_of_answers_takes_part(make_survey: Any) -> None:
    rows = [row(person="98"), row(person="99", q1="99"), row(person="99.0", q1="98")]
    cleaned = clean(make_survey(missing=["", 99], duplicates={"within_wave": "panel"}), *rows)
    answers = cleaned.answers.groupby("participant", sort=False)["answer"].agg(list).to_dict()
    assert answers == {
        pseudonym("snacks", "98"): [10, 20, 30],
        pseudonym("snacks", "99"): [20, 30, 98, 20, 30],
    }
    assert cleaned.counts == {"cells": 9, "used": 8, "missing": 1, "quarantined": 0}


def test_a_pseudonym_is_stable_within_a_survey_and_another_in_another() -> None:
    assert pseudonym("a", "ann") == pseudonym("a", "ann") != pseudonym("b", "ann")
    assert len({pseudonym("a", str(i)) for i in range(1000)}) == 1000


LONG = {
    "participant": "person",
    "interventions": None,
    "demographics": [{"name": "living area", "column": "area", "options": ["Urban", "Rural"]}],
    "questions": [
        {
            "id": name,
            "where": {"item": name},
            "columns": [{"answer": "rating"}],
            "scale": {"low": 0, "high": 9},
        }
        for name in ("tea", "nuts")
    ],
}


def test_a_long_file_has_a_row_for_each_of_a_person_s_questions(make_survey: Any) -> None:
    columns = ["person", "area", "item", "rating"]
    rows = [
        ["ann", "Urban", "nuts", "3"],
        ["ann", "Urban", "tea", "4"],
        ["bob", "Rural", "tea", "5"],
        ["ann", "Urban", "tea", "9"],
        ["bob", "Rural", "beer", "1"],
    ]
    survey = make_survey(**LONG)
    cleaned = clean_rows(survey, columns, rows, {}, survey.folder / "made")
    ann = cleaned.answers[cleaned.answers["participant"] == pseudonym("snacks", "ann")]
    assert ann[["question", "order", "answer"]].to_numpy().tolist() == [["nuts", 0, 3], ["tea", 1, 4]]
    assert cleaned.counts == {"cells": 5, "used": 3, "missing": 0, "quarantined": 2}
    aside = cleaned.quarantine[["row", "column", "value"]].to_numpy().tolist()
    assert aside == [[4, "person", pseudonym("snacks", "ann")], [5, "item", "beer"]]


def test_without_a_participant_column_every_row_is_a_person(make_survey: Any) -> None:
    cleaned = clean(make_survey(participant=None), GOOD, GOOD)
    assert cleaned.answers["participant"].nunique() == 2 and cleaned.counts["quarantined"] == 0


def test_of_a_doubled_participant_the_last_row_or_every_row_can_be_kept(make_survey: Any) -> None:
    rows = GOOD, row(person="bob"), row(q1="99")
    last = clean(make_survey(duplicates={"within_wave": "keep last"}), *rows)
    assert (
        last.answers["participant"].tolist()
        == [pseudonym("snacks", "bob")] * 3 + [pseudonym("snacks", "ann")] * 3
    )
    assert (only(last)["row"], last.counts["quarantined"]) == (1, 3)
    assert "the last usable one counts" in only(last)["reason"]
    panel = clean(make_survey(duplicates={"within_wave": "panel"}), *rows)
    assert panel.quarantine.empty and panel.people == 2
    assert panel.answers["order"].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5]


LIVING = [{"name": "home", "column": "home", "options": ["alone", "spouse"]}]
BROKEN_OFF = {"q1": "", "q2": "", "q3": ""}


@pytest.mark.parametrize(
    ("policy", "rows", "counting"),
    [
        ("keep last", [{"q1": "1"}, {"q1": "2"}, {"area": ""}], 2),
        ("keep last", [{"q1": "1"}, {"area": "-1"}, {"area": "much"}], 1),
        ("keep first", [{"area": "NA"}, {"q1": "2"}, {"q1": "3"}], 2),
        ("keep first", [BROKEN_OFF, {"q1": "2"}], 2),
        ("keep last", [{"q1": "1"}, BROKEN_OFF], 1),
        ("keep last", [{"q1": "1"}, {"q1": "101", "read2": "5", "q3": "NA"}], 1),
        ("keep last", [{"q1": "1"}, BROKEN_OFF | {"q3": "3"}], 2),  # one answer makes a row usable
        ("keep last", [{"q1": "1"}, {"area": "0"}], 2),  # and so does a weight of nothing
        ("keep first", [{"area": ""}, BROKEN_OFF], 1),  # neither is usable
        ("keep last", [{"area": ""}, BROKEN_OFF], 2),
    ],
)
def test_a_row_that_cannot_be_used_displaces_no_row_that_can(
    make_survey: Any, policy: str, rows: list[dict[str, str]], counting: int
) -> None:
    survey = make_survey(weight="area", demographics=LIVING, duplicates={"within_wave": policy})
    common = {"area": "1", "home": "alone"}
    alone = clean(survey, row(**common | rows[counting - 1]), row(**common, person="bob"))
    together = clean(survey, *(row(**common | cells) for cells in rows), row(**common, person="bob"))

    assert together.answers.to_dict("records") == alone.answers.to_dict("records")
    assert (together.people, together.demographics) == (alone.people, alone.demographics)
    others = 3 * (len(rows) - 1)
    assert together.counts == alone.counts | {
        "cells": alone.counts["cells"] + others,
        "quarantined": alone.counts["quarantined"] + others,
    }
    said = together.quarantine[together.quarantine["column"] == "person"]
    assert said["row"].tolist() == [n for n in range(1, len(rows) + 1) if n != counting]
    assert set(said["value"]) == {pseudonym("snacks", "ann")}
    assert said["reason"].str.endswith(f"the {policy.split()[1]} usable one counts").all()


def test_in_a_long_file_a_later_row_of_one_question_displaces_only_if_it_answers(make_survey: Any) -> None:
    rows = [
        ["ann", "Urban", "tea", "4"],
        ["ann", "Urban", "nuts", "3"],
        ["ann", "Urban", "tea", ""],
        ["ann", "Urban", "nuts", "5"],
    ]
    survey = make_survey(**LONG, duplicates={"within_wave": "keep last"})
    cleaned = clean_rows(survey, ["person", "area", "item", "rating"], rows, {}, survey.folder / "made")
    assert cleaned.answers[["question", "answer"]].to_numpy().tolist() == [["tea", 4], ["nuts", 5]]
    assert cleaned.quarantine["row"].tolist() == [2, 3]
    assert cleaned.counts == {"cells": 4, "used": 2, "missing": 0, "quarantined": 2}


def one_question(**codebook: Any) -> list[dict[str, Any]]:
    return [{"id": "q", "columns": [{"answer": "q1"}], **codebook}]


def read_as(survey: SurveySpec, *cells: str) -> list[int | str]:
    """The answer to each cell, or the reason why it is none; `missing` where it says nothing."""
    rows = [row(person=str(number), q1=cell) for number, cell in enumerate(cells, 1)]
    cleaned = clean(survey, *rows)
    aside = dict(zip(cleaned.quarantine["row"], cleaned.quarantine["reason"], strict=True))
    people = [pseudonym("snacks", str(number)) for number in range(1, len(cells) + 1)]
    answers = dict(zip(cleaned.answers["participant"], cleaned.answers["answer"], strict=True))
    return [answers.get(people[n], aside.get(n + 1, "missing")) for n in range(len(cells))]


@pytest.mark.parametrize(
    ("rounding", "answers"),
    [
        ("half_up", [0, 5, 5, 10, 10]),
        ("half_even", [0, 0, 5, 10, 10]),
        ("down", [0, 0, 0, 5, 5]),
        ("up", [5, 5, 5, 10, 10]),
    ],
)
def test_an_answer_between_two_steps_is_rounded_as_the_codebook_says(
    make_survey: Any, rounding: str, answers: list[int]
) -> None:
    questions = one_question(scale={"low": 0, "high": 10, "step": 5, "rounding": rounding})
    assert read_as(make_survey(questions=questions), "2.4", "2.5", "2.6", "7.5", "7.6") == answers


def test_labels_codes_and_numbers_lead_to_the_same_answers_and_only_numbers_are_reversed(
    make_survey: Any,
) -> None:
    questions = one_question(
        options=["Never", "Sometimes", "Always"], codes={"n": "Never", 9: 3}, reversed=True
    )
    survey = make_survey(questions=questions)
    assert read_as(survey, "Never", "Always", "n", "9", "9.0", "1", "3.0", "2") == [1, 3, 1, 3, 3, 3, 1, 2]
    assert read_as(survey, "never", "4", "2.5", "") == [
        "neither an option of the question nor a number",
        "off the scale 1–3",
        "between two answers of the scale 1–3 (step 1)",
        "missing",
    ]


@pytest.mark.parametrize(
    ("dont_know", "answer"),
    [
        ({"as": "missing"}, "missing"),
        ({"as": "answer", "number": 0, "label": "Never tried it"}, 0),
    ],
)
def test_dont_know_is_missing_or_an_answer_even_where_the_survey_calls_it_missing(
    make_survey: Any, dont_know: dict[str, Any], answer: int | str
) -> None:
    questions = one_question(scale={"low": 1, "high": 5}, dont_know={"values": ["NA", 98], **dont_know})
    assert read_as(make_survey(questions=questions), "NA", "98.0", "", "5") == [answer, answer, "missing", 5]


def test_zero_weighs_nothing_and_an_impossible_weight_costs_the_row_s_answers(make_survey: Any) -> None:
    weights = ["0.25", "0", "NA", "-1", "much", "inf"]
    rows = [row(person=str(n), area=weight) for n, weight in enumerate(weights)]
    demographics = [{"name": "home", "column": "home", "options": ["alone", "spouse"]}]
    cleaned = clean(make_survey(weight="area", demographics=demographics), *rows)
    assert cleaned.answers["weight"].tolist() == [0.25] * 3 + [0.0] * 3
    assert cleaned.counts == {"cells": 18, "used": 6, "missing": 0, "quarantined": 12}
    assert cleaned.quarantine["reason"].tolist() == [
        "the row's weight is missing",
        "the row's weight is negative",
        "the row's weight is not a number",
        "the row's weight is not a number",
    ]
    assert cleaned.quarantine["value"].tolist() == weights[2:]


def test_an_answer_whose_prompt_would_have_a_hole_is_set_aside(make_survey: Any) -> None:
    questions = one_question(
        scale={"low": 0, "high": 99}, fields={"town": {"column": "area"}, "dish": "soup"}
    )
    survey = make_survey(questions=questions, demographics=[{**HOME, "several": False}])
    cleaned = clean(survey, row(area='St "Ives"'), row(person="bob", area="NA"))
    assert cleaned.answers["fields"].tolist() == ['{"town":"St \\"Ives\\""}']
    aside = only(cleaned)
    assert (aside["row"], aside["column"], aside["value"]) == (2, "area", "NA")
    assert aside["reason"] == "the prompt's {town} is empty"


HOME = {"name": "home", "column": "home", "options": ["alone", "spouse"]}


def test_numbers_fall_into_bands_and_refusals_are_counted_apart(make_survey: Any) -> None:
    bands = [{"label": "young", "below": 30}, {"label": "old", "at_least": 60.5}]
    age = {"name": "age", "column": "home", "bands": bands, "refused": [-1], "missing": [99]}
    cells = ["29.9", "30", "60.5", "-1.0", "99", "NA", "old", "-2"]
    cleaned = clean(
        make_survey(demographics=[age]), *[row(person=str(n), home=cell) for n, cell in enumerate(cells)]
    )
    assert cleaned.answers["age"].tolist()[::3] == ["young", None, "old", None, None, None, "old", "young"]
    assert only(cleaned)["value"] == "30"
    (counts,) = cleaned.demographics
    assert counts == {"demographic": "age", "known": 4, "missing": 2, "refused": 1, "quarantined": 1}


def test_checked_boxes_are_options_in_the_codebook_s_order(make_survey: Any) -> None:
    boxes = {"read2": "Radio", "area": "Television", "home": "Television"}
    trusts = {"name": "trusts", "checkboxes": boxes, "missing": [99]}
    survey = make_survey(demographics=[trusts], questions=one_question(scale={"low": 0, "high": 9}))
    ticks = [("1", "0", "1.0"), ("yes", "no", ""), ("", "", ""), ("1", "99", "0"), ("1", "maybe", "0")]
    rows = [
        row(person=str(n), q1="1", read2=radio, area=tv, home=other)
        for n, (radio, tv, other) in enumerate(ticks)
    ]
    cleaned = clean(survey, *rows)
    assert cleaned.answers["trusts"].tolist() == ["Radio; Television", "Radio", None, None, None]
    assert (only(cleaned)["row"], only(cleaned)["column"]) == (5, "area")
    (counts,) = cleaned.demographics
    assert counts == {"demographic": "trusts", "known": 2, "missing": 2, "refused": 0, "quarantined": 1}


def test_a_wave_is_read_by_its_own_columns_and_codes(make_survey: Any) -> None:
    changes = [{"waves": ["w1"], "columns": {"q1": "Q1"}, "questions": {"first": {"codes": {"x": 7}}}}]
    survey = make_survey(waves={"changes": changes})
    columns = ["Q1" if name == "q1" else name for name in COLUMNS] + ["q1"]  # told apart by case alone
    cleaned = clean_rows(survey, columns, [[*row(q1="x"), "55"]], TEXTS, survey.folder / "made")
    assert cleaned.answers["answer"].tolist() == [7, 20, 30]


def test_a_code_of_one_wave_that_leads_nowhere_is_refused(make_survey: Any) -> None:
    changes = [{"waves": ["w1"], "questions": {"first": {"codes": {"x": 101}}}}]
    with pytest.raises(BadInput, match=r"questions\.first\.codes.*'101'"):
        clean(make_survey(waves={"changes": changes}), GOOD)


def test_what_stood_there_stays_whole_when_the_disk_refuses(make_survey: Any) -> None:
    survey = make_survey()
    clean(survey, GOOD)
    made = survey.folder / "made"
    before = (made / "answers.parquet").read_bytes()
    (made / ".answers.parquet.tmp").mkdir()  # nothing can be written under the temporary name
    with pytest.raises(BadInput, match="could not be read or written"):
        clean(survey, row(q1="99"))
    assert (made / "answers.parquet").read_bytes() == before


def test_a_wave_of_many_row_groups_keeps_the_order_of_its_file(make_survey: Any) -> None:
    survey = make_survey(**LONG)
    folder = survey.folder
    own = "range + 1 AS __row, range + 2 AS __line"
    person = "((range * 7919) % 200000 // 2)::VARCHAR AS person"
    item = "CASE range % 3 WHEN 0 THEN 'tea' WHEN 1 THEN 'nuts' ELSE 'beer' END AS item"
    duckdb.sql(
        f"COPY (SELECT {own}, {person}, 'Urban' AS area, {item}, (range % 10)::VARCHAR AS rating"
        f" FROM range(400000)) TO '{folder / 'cells.parquet'}' (FORMAT parquet)"
    )
    made = clean_wave(folder / "cells.parquet", survey, "w1", {}, folder, "w1.csv")
    answers = pq.read_table(made.answers, columns=["participant", "question", "order", "answer"])
    seen: dict[str, set[str]] = {}
    want = []
    for number in range(400_000):
        person, question = str((number * 7919) % 200_000 // 2), ("tea", "nuts", "beer")[number % 3]
        answered = seen.setdefault(person, set())
        if question != "beer" and question not in answered:
            want.append((person, question, len(answered), number % 10))
            answered.add(question)
    names = {person: pseudonym("snacks", person) for person in seen}
    got = list(zip(*(answers[name].to_pylist() for name in answers.column_names), strict=True))
    assert got == [(names[person], *rest) for person, *rest in want]
    assert made.counts == {
        "cells": 400_000,
        "used": len(want),
        "missing": 0,
        "quarantined": 400_000 - len(want),
    }


def test_a_missing_column_is_refused_before_anything_else(make_survey: Any) -> None:
    survey = make_survey()
    with pytest.raises(BadInput, match="read3"):
        clean_rows(survey, COLUMNS[:-1], [GOOD[:-1]], TEXTS, survey.folder / "made")


def test_the_simulated_survey_has_its_published_counts_and_an_empty_quarantine(tmp_path: Path) -> None:
    survey = read_survey(ROOT / "data" / "surveys" / "ev_shift")
    texts = intervention_texts(survey)
    questions: list[str] = []
    people, missing = set[str](), 0
    for path in sorted((survey.folder / "waves").glob("*.csv")):
        cells = read_cells(path, survey.format_of(path.stem), tmp_path / "cells.parquet")
        cleaned = clean_wave(cells.path, survey, path.stem, texts, tmp_path, path)
        assert pq.read_metadata(cleaned.quarantine).num_rows == 0
        answers = pq.read_table(cleaned.answers)
        questions += answers["question"].to_pylist()
        people |= set(answers["participant"].to_pylist())
        missing += cleaned.counts["missing"]
    assert (questions.count("post"), questions.count("initial")) == (20217, 4045)
    assert len(people) == 4045 and missing == 5 * 4045 - 20217
