"""Cleaning: every answer cell is used, missing or quarantined with a reason, and nobody can be recognised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.surveys.cleaning import CleanWave, clean_wave, pseudonym
from evsim_assets.surveys.landing import intervention_texts, read_raw

TEXTS = {"1": "Eat more.", "78": "Eat less."}
COLUMNS = ["person", "area", "home", "q1", "q2", "read2", "q3", "read3"]
GOOD = ["ann", "Urban", "alone", "10", "20", "1", "30", "78"]
ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "surveys" / "scaling_llm_persuasion_us"


def clean(survey: SurveySpec, *rows: list[str]) -> CleanWave:
    raw = pd.DataFrame(list(rows), columns=COLUMNS, dtype=str)
    return clean_wave(raw, survey, "w1", TEXTS, "w1.csv")


def row(**cells: str) -> list[str]:
    return [cells.get(name, value) for name, value in zip(COLUMNS, GOOD, strict=True)]


def only(cleaned: CleanWave) -> dict[str, Any]:
    """The one row of the quarantine."""
    assert len(cleaned.quarantine) == 1, cleaned.quarantine
    return dict(cleaned.quarantine.iloc[0])


def test_a_good_row_becomes_its_answers_in_order(make_survey: Any) -> None:
    cleaned = clean(make_survey(), GOOD)
    shown = cleaned.answers.drop(columns="participant").to_dict("records")
    common = {"wave": "w1", "living_area": "Urban", "home": "alone"}
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
    assert cleaned.quarantine.empty


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
        ("q1", "inf", "off the scale"),
        ("q1", "nan", "not a number"),
        ("q1", "ten", "not a number"),
        ("q1", "50.5", "between two answers of the scale 0–100 (step 1)"),
        ("q2", "100.3", "off the scale"),
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


@pytest.mark.parametrize(("raw", "label"), [("1", "Urban"), ("1.0", "Urban"), (" Rural ", "Rural")])
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
    assert "first row is kept" in aside["reason"] and aside["value"] == pseudonym("snacks", "ann")
    assert cleaned.counts == {"cells": 9, "used": 6, "missing": 0, "quarantined": 3}
    for table in (cleaned.answers, cleaned.quarantine):
        assert "ann" not in table.to_csv() and "bob" not in table.to_csv()


@pytest.mark.parametrize("missing", [["", "NA"], ["NA"]])
def test_a_row_without_a_participant_is_set_aside(make_survey: Any, missing: list[str]) -> None:
    cleaned = clean(make_survey(missing=missing), GOOD, row(person=" "))
    aside = only(cleaned)
    assert (aside["row"], aside["column"]) == (2, "person") and "no participant id" in aside["reason"]
    assert cleaned.counts == {"cells": 6, "used": 3, "missing": 0, "quarantined": 3}


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
    raw = pd.DataFrame(
        [
            ["ann", "Urban", "nuts", "3"],
            ["ann", "Urban", "tea", "4"],
            ["bob", "Rural", "tea", "5"],
            ["ann", "Urban", "tea", "9"],
            ["bob", "Rural", "beer", "1"],
        ],
        columns=["person", "area", "item", "rating"],
        dtype=str,
    )
    cleaned = clean_wave(raw, make_survey(**LONG), "w1", {}, "w1.csv")
    ann = cleaned.answers[cleaned.answers["participant"] == pseudonym("snacks", "ann")]
    assert ann[["question", "order", "answer"]].to_numpy().tolist() == [["nuts", 0, 3], ["tea", 1, 4]]
    assert cleaned.counts == {"cells": 5, "used": 3, "missing": 0, "quarantined": 2}
    aside = cleaned.quarantine[["row", "column", "value"]].to_numpy().tolist()
    assert aside == [[4, "person", pseudonym("snacks", "ann")], [5, "item", "beer"]]


def test_without_a_participant_column_every_row_is_a_person(make_survey: Any) -> None:
    cleaned = clean(make_survey(participant=None), GOOD, GOOD)
    assert cleaned.answers["participant"].nunique() == 2 and cleaned.counts["quarantined"] == 0


def test_a_missing_column_is_refused_before_anything_else(make_survey: Any) -> None:
    raw = pd.DataFrame([GOOD[:-1]], columns=COLUMNS[:-1], dtype=str)
    with pytest.raises(BadInput, match="read3"):
        clean_wave(raw, make_survey(), "w1", TEXTS, "w1.csv")


CELLS = st.fixed_dictionaries(
    {
        "person": st.sampled_from(["", "NA", "ann", "bob", "cy", "dee", "eve", "fay"]),
        "area": st.sampled_from(["Urban", "Rural", "1", "1.0", "2", "", "NA", " "]),
        "home": st.sampled_from(["alone", "spouse; children", "children;spouse", ";", "", "dog"]),
        **{
            q: st.one_of(
                st.sampled_from(["", "NA", "0", "100", "50.5", "-1", "x", "1e400", "nan"]),
                st.integers(-5, 105).map(str),
            )
            for q in ("q1", "q2", "q3")
        },
        **{r: st.sampled_from(["", "NA", "0", "1", "78.0", "5"]) for r in ("read2", "read3")},
    }
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(CELLS, min_size=1, max_size=12), named=st.booleans())
def test_whatever_the_cells_hold_every_answer_cell_is_counted_once(
    make_survey: Any, rows: list[dict[str, str]], named: bool
) -> None:
    raw = pd.DataFrame(rows, columns=COLUMNS, dtype=str)
    survey = make_survey() if named else make_survey(participant=None)
    cleaned = clean_wave(raw, survey, "w1", TEXTS, "w1.csv")
    counts, answers, aside = cleaned.counts, cleaned.answers, cleaned.quarantine
    assert counts["cells"] == 3 * len(rows)
    assert counts["used"] + counts["missing"] + counts["quarantined"] == counts["cells"]
    assert counts["used"] == len(answers)
    # The same count from the quarantine itself: a row set aside holds three cells, a cell one.
    rows_aside = aside[aside["column"] == "person"]
    cells_aside = aside[aside["column"].isin(["q1", "q2", "q3", "read2", "read3"])]
    assert counts["quarantined"] == 3 * len(rows_aside) + len(cells_aside)
    assert answers["answer"].between(0, 100).all()
    assert answers["living_area"].dropna().isin(["Urban", "Rural"]).all()
    assert (answers.groupby("participant")["order"].max() + 1 == answers.groupby("participant").size()).all()
    assert not answers["participant"].isin(raw["person"]).any()
    assert aside["row"].between(1, len(rows)).all() and (aside["reason"] != "").all()


def test_the_simulated_survey_has_its_published_counts_and_an_empty_quarantine() -> None:
    survey = read_survey(ROOT / "data" / "surveys" / "ev_shift")
    texts = intervention_texts(survey)
    cleaned = []
    for path in sorted((survey.folder / "waves").glob("*.csv")):
        raw = read_raw(path.read_bytes(), survey.waves, path)
        cleaned.append(clean_wave(raw, survey, path.stem, texts, path))
    assert [len(wave.quarantine) for wave in cleaned] == [0, 0]
    answers = pd.concat([wave.answers for wave in cleaned])
    assert answers["question"].value_counts().to_dict() == {"post": 20217, "initial": 4045}
    assert answers["participant"].nunique() == 4045
    assert sum(wave.counts["missing"] for wave in cleaned) == 5 * 4045 - 20217


@pytest.mark.skipif(
    not REAL.is_dir(),
    reason=f"the real survey is no part of the repository, and {REAL.name} is not beside it",
)
def test_the_real_survey_gives_every_answer_and_an_empty_quarantine() -> None:
    survey = read_survey(ROOT / "data" / "surveys" / "us_policy")
    table = read_raw((REAL / "messages.csv").read_bytes(), survey.waves, "messages.csv")
    texts = dict(zip(table["response_id"], table["response"].str.strip(), strict=True))
    raw = read_raw((REAL / "responses.csv").read_bytes(), survey.waves, "responses.csv")
    cleaned = clean_wave(raw, survey, "responses", texts, "responses.csv")
    assert cleaned.counts == {"cells": 25982, "used": 25982, "missing": 0, "quarantined": 0}
    assert cleaned.quarantine.empty
    answers = cleaned.answers
    assert answers["participant"].nunique() == 25982
    assert answers["intervention"].isna().sum() == 5163  # the control arm
    # Rounded by hand, from the raw quarters: floor(x + 1/2).
    quarters = (raw["dv_response_mean"].astype(float) * 4).round().astype(int)
    assert (answers["answer"].to_numpy() == ((quarters + 2) // 4).to_numpy()).all()
    assert answers[["party", "ideology", "political_knowledge"]].notna().all(axis=None)
