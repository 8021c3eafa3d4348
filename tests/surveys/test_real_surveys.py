"""Three real surveys, described by codebooks alone, against counts taken straight from their CSV files.

What is expected is worked out here with Python's csv module and rules written by hand; none of evsim's
code has a part in it, and neither have the codebooks.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.surveys.cleaning import Cleaned, clean_wave
from evsim_assets.surveys.landing import add_wave, intervention_texts
from evsim_assets.surveys.reading import read_cells
from evsim_assets.surveys.responses import merge_waves
from evsim_assets.surveys.splits import split_participants

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "surveys"
pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"the real surveys are not on this machine ({REAL})"
)

POLICY = {
    "Medicaid": "medicaid",
    "Veteran Healthcare": "veteran_healthcare",
    "Worker Pensions": "worker_pensions",
    "Foreign Aid": "foreign_aid",
    "Solitary Confinement": "solitary_confinement",
    "Assisted Suicide": "assisted_suicide",
    "Border Restrictions": "border_restrictions",
    "Felons Voting": "felons_voting",
    "Affirmative Action": "affirmative_action",
    "Electoral College": "electoral_college",
}
PARTY = "Strong Democrat|Moderate Democrat|Independent or Other|Moderate Republican|Strong Republican"
IDEOLOGY = "Very liberal|Moderately liberal|Neutral or Other|Moderately conservative|Very conservative"
FROM_ZERO = {
    "party": ("party", PARTY.split("|")),
    "ideology": ("ideology", IDEOLOGY.split("|")),
    "political_knowledge": ("knowledge", ["0 of 3", "1 of 3", "2 of 3", "3 of 3"]),
}
"""us_policy: demographic → its raw column, and the labels of the codes 0, 1, …"""

LAST = "Other or prefer not to answer"
BOTH_COUNTRIES = {
    "age": ("Age", "18-24|25-34|35-44|45-54|55-64|65 or older"),
    "gender": ("Gender", f"Male|Female|{LAST}"),
    "employment": ("Employment", "Employed|Unemployed|Student|Retired|Other"),
    "religion": ("Religion", "Christian|Jewish|Muslim|Atheist or agnostic|Other"),
    "social_media_a_day": (
        "Social media usage",
        "none|less than 10 minutes|10–30 minutes|31–60 minutes|1–2 hours|2–3 hours|more than 3 hours",
    ),
}
US_EDUCATION = "No high school diploma|High school diploma or GED|2-year college degree|4-year college degree"
UK_EDUCATION = (
    "No qualifications|GCSE or O-levels|2 or more A-levels|Undergraduate degree|Postgraduate degree"
)
US_INCOME = "less than $15,000|$15,000 to $34,999|$35,000 to $54,999|$55,000 to $94,999|$95,000 or more"
UK_INCOME = "less than £15,000|£15,000 to £24,999|£25,000 to £34,999|£35,000 to £54,999|£55,000 or more"
BY_COUNTRY = {
    "orb_us": {
        "education": ("Education", f"{US_EDUCATION}|Postgraduate or professional degree|{LAST}"),
        "party": ("Political", "Republican|Democrat|Other or independent"),
        "ethnicity": ("Ethnicity", "White|Hispanic|Black|Asian|Other"),
        "income": ("Income", US_INCOME),
    },
    "orb_uk": {
        "education": ("Education", f"{UK_EDUCATION}|{LAST}"),
        "party": ("Political", "Conservative|Labour|Liberal Democrat|SNP|Other or independent"),
        "ethnicity": ("Ethnicity", "White|Black|Asian|Other"),
        "income": ("Income", UK_INCOME),
    },
}
"""vaccine_intent: demographic → its raw column, and the labels of codes 1, 2, …; income 6 is refused."""

TRUST = {
    "White House Briefings": "White House briefings",
    "State Govt. Briefings": "state government briefings",
    "Govt. Briefings": "government briefings",
    "Govt. Websites": "government websites",
    "Work Guidelines": "guidelines at work",
    "Other": "others",
}
"""Sources that the codebook calls by other words; the rest are in small letters here."""

INTENT = {
    "self_pre": "Vaccine Intent for self (Pre)",
    "others_pre": "Vaccine Intent for others (Pre)",
    "self_post": "Vaccine Intent for self (Post)",
    "others_post": "Vaccine Intent for others (Post)",
}
FOOD = {
    "gender": "Gender",
    "age": "Age",
    "household_income": "Household Income",
    "education": "Education",
    "region": "Location (Census Region)",
}
KNOWLEDGE = "Generally speaking, how would you rate your level of knowledge of cuisines"
INTEREST = "How much, if at all, are you interested in cuisines"
CUISINE = "Please rate how much you like the traditional cuisine of "


@dataclass(frozen=True)
class Answer:
    """One answer as it is to be in `clean_wave`; a demographic that is not known is None."""

    person: int
    question: str
    order: int
    intervention: str | None
    answer: int
    demographics: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Wave:
    """What is expected of a wave: its answers in order, and its empty answer cells."""

    answers: list[Answer]
    missing: int
    rows: int

    @property
    def people(self) -> int:
        """Participants with an answer."""
        return len({answer.person for answer in self.answers})


def rows_of(path: Path, encoding: str) -> Iterator[dict[str, str]]:
    """The records of a CSV file, every cell and header without outer blanks and odd spaces."""
    lines = csv.reader(io.StringIO(path.read_bytes().decode(encoding), newline=""))
    header = [" ".join(cell.split()) for cell in next(lines)]
    for cells in lines:
        assert len(cells) == len(header)
        yield dict(zip(header, (cell.strip() for cell in cells), strict=True))


def policy(wave: str) -> Wave:
    """One row a person and one answer a row; quarters, halves up; message 0 is the control arm."""
    answers = []
    for person, row in enumerate(rows_of(REAL / "scaling_llm_persuasion_us" / f"{wave}.csv", "utf-8")):
        rating = Fraction(row["dv_response_mean"])
        assert 0 <= rating <= 100 and (4 * rating).denominator == 1
        rounded = (2 * rating + 1) // 2
        number = row["message_id"].removesuffix(".0")  # the file has 78.0, the table of messages 78
        message = None if number == "0" else number
        known = tuple((name, labels[int(row[column])]) for name, (column, labels) in FROM_ZERO.items())
        answers.append(Answer(person, POLICY[row["issue"]], 0, message, rounded, known))
    return Wave(answers, missing=0, rows=len(answers))


def vaccine(wave: str) -> Wave:
    """Four answers a row, never empty, coded 1 to 4; the last two after the images of arm 0 or 1."""
    answers, rows = [], 0
    for person, row in enumerate(rows_of(REAL / "covid_vaccine_misinfo" / f"{wave}.csv", "utf-8")):
        known: dict[str, str | None] = {
            "country": {"orb_us": "United States", "orb_uk": "United Kingdom"}[wave]
        }
        for name, (column, labels) in (BOTH_COUNTRIES | BY_COUNTRY[wave]).items():
            code = int(row[column])
            known[name] = labels.split("|")[code - 1] if name != "income" or code != 6 else None
        for country in ("us", "uk"):
            ticked = [
                source
                for column, cell in row.items()
                if (source := column.removeprefix("Trust:")) != column and cell == "1"
            ]
            name = f"trusted_on_covid_19_in_the_{country}"
            words = "; ".join(TRUST.get(source, source.lower()) for source in ticked)
            known[name] = words if wave.endswith(country) else None
        for order, (question, column) in enumerate(INTENT.items()):
            assert row[column] in {"1", "2", "3", "4"} and row["Treatment"] in {"0", "1"}
            arm = row["Treatment"] if question.endswith("post") else None
            answers.append(
                Answer(person, question, order, arm, int(row[column]), tuple(sorted(known.items())))
            )
        rows += 1
    return Wave(answers, missing=0, rows=rows)


def food(wave: str) -> Wave:
    """Forty cells a row: 1 to 5, N/A (not known, 0) or empty (skipped, missing)."""
    answers, missing, rows = [], 0, 0
    for person, row in enumerate(rows_of(REAL / "food_world_cup" / f"{wave}.csv", "mac_roman")):
        known = {name: row[column] or None for name, column in FOOD.items()}
        for name, start in (("knowledge_of_cuisines", KNOWLEDGE), ("interest_in_cuisines", INTEREST)):
            known[name] = next(cell or None for column, cell in row.items() if column.startswith(start))
        asked = [(column, cell) for column, cell in row.items() if column.startswith(CUISINE)]
        assert len(asked) == 40
        given = [(column, cell) for column, cell in asked if cell]
        for order, (column, cell) in enumerate(given):
            country = column.removeprefix(CUISINE).rstrip(".:").removeprefix("the ")
            number = {"N/A": 0, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5}[cell]
            question = country.lower().replace(" ", "_")
            answers.append(Answer(person, question, order, None, number, tuple(sorted(known.items()))))
        missing += len(asked) - len(given)
        rows += 1
    return Wave(answers, missing, rows)


SOURCES: dict[str, tuple[str, Callable[[str], Wave], tuple[str, ...]]] = {
    "us_policy": ("scaling_llm_persuasion_us", policy, ("responses",)),
    "vaccine_intent": ("covid_vaccine_misinfo", vaccine, ("orb_uk", "orb_us")),
    "food_world_cup": ("food_world_cup", food, ("food-world-cup-data",)),
}
WAVES = [(survey, wave) for survey, (_, _, waves) in SOURCES.items() for wave in waves]
each_wave = pytest.mark.parametrize(("survey", "wave"), WAVES)
each_survey = pytest.mark.parametrize("survey", SOURCES)


@cache
def expected(survey: str, wave: str) -> Wave:
    return SOURCES[survey][1](wave)


@dataclass(frozen=True)
class Made:
    """A survey's tables as evsim makes them."""

    spec: SurveySpec
    cleaned: Mapping[str, Cleaned]
    answers: Mapping[str, pd.DataFrame]
    responses: pd.DataFrame
    splits: pd.DataFrame


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """The survey's tables, from a copy of its codebook and its raw files, made once."""

    @cache
    def make(survey: str) -> Made:
        folder = tmp_path_factory.mktemp("real") / survey
        folder.mkdir()
        for file in (ROOT / "data" / "surveys" / survey).iterdir():
            if file.suffix in {".yaml", ".csv"} and file.name != "messages.csv":
                (folder / file.name).write_bytes(file.read_bytes())
        spec = read_survey(folder)
        source, _, waves = SOURCES[survey]
        cleaned: dict[str, Cleaned] = {}
        for wave in waves:
            landed = add_wave(spec, REAL / source / f"{wave}.csv")
            scratch = folder / f"made-{wave}"
            scratch.mkdir()
            cells = read_cells(landed.path, spec.format_of(wave), scratch / "cells.parquet")
            texts = intervention_texts(spec)
            cleaned[wave] = clean_wave(cells.path, spec, wave, texts, scratch, landed.path.name)
        merged, splits = folder / "merged", folder / "splits.parquet"
        merged.mkdir()
        responses = merge_waves([cleaned[wave].answers for wave in waves], spec, merged).responses
        split_participants(responses, spec, splits)
        return Made(
            spec,
            cleaned,
            {wave: pd.read_parquet(cleaned[wave].answers) for wave in waves},
            pd.read_parquet(responses),
            pd.read_parquet(splits),
        )

    return make


def none_for_null(values: Any) -> list[Any]:
    return [None if pd.isna(value) else value for value in values]


def test_the_rules_of_this_file_give_the_figures_that_the_authors_publish() -> None:
    us = Counter((a.question, a.answer) for a in expected("vaccine_intent", "orb_us").answers)
    uk = Counter((a.question, a.answer) for a in expected("vaccine_intent", "orb_uk").answers)
    assert [us["self_pre", n] for n in (1, 2, 3, 4)] == [1704, 1200, 497, 600]
    assert [us["self_post", n] for n in (1, 2, 3, 4)] == [1642, 1127, 554, 678]
    assert [uk["self_pre", n] for n in (1, 2, 3, 4)] == [2167, 1277, 318, 238]
    assert [uk["self_post", n] for n in (1, 2, 3, 4)] == [1972, 1255, 439, 334]
    ratings = Counter(a.answer for a in expected("food_world_cup", "food-world-cup-data").answers)
    assert sum(ratings[n] for n in (1, 2, 3, 4, 5)) == 23_943
    arms = Counter(a.intervention is None for a in expected("us_policy", "responses").answers)
    assert arms == {True: 5_163, False: 20_819}


@each_wave
def test_every_answer_cell_is_used_or_missing_and_none_is_in_quarantine(
    made: Callable[[str], Made], survey: str, wave: str
) -> None:
    want, got = expected(survey, wave), made(survey).cleaned[wave]
    assert got.counts == {
        "cells": len(want.answers) + want.missing,
        "used": len(want.answers),
        "missing": want.missing,
        "quarantined": 0,
    }
    assert len(pd.read_parquet(got.quarantine)) == 0
    assert got.people == want.people


@each_wave
def test_each_question_has_the_answers_that_the_file_holds(
    made: Callable[[str], Made], survey: str, wave: str
) -> None:
    table = made(survey).answers[wave]
    got = Counter(zip(table["question"], none_for_null(table["intervention"]), table["answer"], strict=True))
    want = Counter((a.question, a.intervention, a.answer) for a in expected(survey, wave).answers)
    assert got == want
    assert set(table["wave"]) == {wave}


@each_wave
def test_answers_stand_row_by_row_in_the_order_of_the_file(
    made: Callable[[str], Made], survey: str, wave: str
) -> None:
    table, want = made(survey).answers[wave], expected(survey, wave).answers
    assert table["question"].tolist() == [a.question for a in want]
    assert table["order"].tolist() == [a.order for a in want]
    assert table["answer"].tolist() == [a.answer for a in want]
    assert none_for_null(table["intervention"]) == [a.intervention for a in want]
    people, _ = pd.factorize(table["participant"])
    numbered, _ = pd.factorize(pd.Series([a.person for a in want]))
    assert people.tolist() == numbered.tolist()


@each_wave
def test_every_demographic_is_the_label_that_the_file_gives_or_not_known(
    made: Callable[[str], Made], survey: str, wave: str
) -> None:
    table, want = made(survey).answers[wave], expected(survey, wave).answers
    names = [name for name, _ in want[0].demographics]
    assert sorted(names) == sorted(d.slug for d in made(survey).spec.demographics)
    for position, name in enumerate(names):
        assert none_for_null(table[name]) == [a.demographics[position][1] for a in want], name


def test_everybody_has_the_text_of_their_message_and_the_control_arm_none(
    made: Callable[[str], Made],
) -> None:
    messages = rows_of(REAL / "scaling_llm_persuasion_us" / "messages.csv", "utf-8")
    texts: dict[str | None, str] = {row["response_id"]: row["response"] for row in messages}
    texts[None] = ""
    want = [texts[a.intervention] for a in expected("us_policy", "responses").answers]
    assert made("us_policy").answers["responses"]["intervention_text"].tolist() == want


@each_survey
def test_every_answer_weighs_one(made: Callable[[str], Made], survey: str) -> None:
    assert set(made(survey).responses["weight"]) == {1.0}


@each_survey
def test_merging_loses_nobody_and_no_two_waves_share_a_person(
    made: Callable[[str], Made], survey: str
) -> None:
    waves = SOURCES[survey][2]
    responses = made(survey).responses
    assert len(responses) == sum(len(expected(survey, wave).answers) for wave in waves)
    assert responses["participant"].nunique() == sum(expected(survey, wave).people for wave in waves)
    got = Counter(zip(responses["wave"], responses["question"], responses["answer"], strict=True))
    assert got == Counter((w, a.question, a.answer) for w in waves for a in expected(survey, w).answers)
    for _, orders in responses.groupby("participant")["order"]:
        assert orders.tolist() == list(range(len(orders)))


@each_survey
def test_every_participant_is_in_one_split_of_about_the_size_asked_for(
    made: Callable[[str], Made], survey: str
) -> None:
    splits = made(survey).splits
    assert set(splits["participant"]) == set(made(survey).responses["participant"])
    assert splits["participant"].is_unique
    counts = splits["split"].value_counts()
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        spread = (len(splits) * share * (1 - share)) ** 0.5
        assert abs(counts[split] - share * len(splits)) < 4 * spread
    assert not splits["held_out"].any()


def test_who_answered_nothing_is_no_participant_and_their_cells_are_missing(
    made: Callable[[str], Made],
) -> None:
    want = expected("food_world_cup", "food-world-cup-data")
    assert (want.rows, want.people) == (1_373, 1_290)
    assert made("food_world_cup").responses["participant"].nunique() == 1_290


def test_refused_incomes_are_counted_apart(made: Callable[[str], Made]) -> None:
    for wave in ("orb_us", "orb_uk"):
        people = rows_of(REAL / "covid_vaccine_misinfo" / f"{wave}.csv", "utf-8")
        refused = sum(row["Income"] == "6" for row in people)
        (counts,) = [
            dict(counts)
            for counts in made("vaccine_intent").cleaned[wave].demographics
            if counts["demographic"] in {"income"}
        ]
        assert refused > 200
        assert (counts["refused"], counts["missing"], counts["quarantined"]) == (refused, 0, 0)
