"""From raw cells to clean answers, by the codebook, with nothing silently dropped or changed.

Every answer cell of a raw wave is in exactly one of three counts: used, missing (a missing-value
code), or quarantined with a reason. A demographic cell that cannot be read is quarantined and the
participant goes on without it.

Belongs here: the meaning of cells. Not here: reading files (`landing.py`), splits (`splits.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from evsim_assets.specs.survey import (
    SEVERAL_SEPARATOR,
    AnswerColumns,
    Demographic,
    Question,
    Scale,
    SurveySpec,
)
from evsim_assets.surveys.landing import canonical_id, require_columns

QUARANTINE_COLUMNS = ["wave", "row", "column", "value", "reason", "remedy"]
ANSWER_COLUMNS = [
    "participant",
    "wave",
    "question",
    "order",
    "intervention",
    "intervention_text",
    "answer",
]


@dataclass(frozen=True)
class CleanWave:
    """A wave by the codebook.

    Attributes:
        answers: one row an answer: ANSWER_COLUMNS, then one column per demographic (slug).
        quarantine: one row a cell or row that could not be used: QUARANTINE_COLUMNS; `row` counts
            the data rows from 1, so it stands on line `row + 1` of a file without line breaks in
            cells.
        counts: `cells` (answer cells in the raw wave), `used`, `missing`, `quarantined`.
    """

    answers: pd.DataFrame
    quarantine: pd.DataFrame
    counts: dict[str, int]


@dataclass
class _Quarantine:
    wave: str
    rows: list[pd.DataFrame] = field(default_factory=list)

    def add(self, values: pd.Series, column: str, reason: str, remedy: str) -> None:
        """Set aside the cells `values` (index: raw row number from 0)."""
        if len(values):
            self.rows.append(
                pd.DataFrame(
                    {
                        "wave": self.wave,
                        "row": values.index.to_numpy() + 1,
                        "column": column,
                        "value": values.to_numpy(),
                        "reason": reason,
                        "remedy": remedy,
                    }
                )
            )

    def table(self) -> pd.DataFrame:
        if not self.rows:
            empty = {name: pd.Series(dtype="str") for name in QUARANTINE_COLUMNS}
            return pd.DataFrame(empty).astype({"row": "int64"})
        stacked = pd.concat(self.rows, ignore_index=True)
        return stacked.sort_values(["row", "column"], kind="stable", ignore_index=True)


def clean_wave(
    raw: pd.DataFrame, survey: SurveySpec, wave: str, texts: Mapping[str, str], file: str | Path
) -> CleanWave:
    """Read a raw wave by the codebook.

    Args:
        raw: text cells (`landing.read_raw`).
        survey: the codebook.
        wave: the wave's name.
        texts: intervention texts by id.
        file: the raw file's name, for errors.

    Raises:
        BadInput: a column of the codebook is missing. Everything smaller goes to quarantine.
    """
    require_columns(raw, survey, file)
    raw = raw.apply(lambda column: column.str.strip())
    quarantine = _Quarantine(wave)
    participant, usable = _participants(raw, survey, wave, quarantine)
    counts = {"cells": 0, "used": 0, "missing": 0, "quarantined": 0}
    people = pd.DataFrame({"participant": participant, "wave": wave})
    for demographic in survey.demographics:
        people[demographic.slug] = _labels(raw[demographic.column], demographic, survey, quarantine)
    parts, asked = [], pd.Series(False, index=raw.index)
    order = 0
    for question in survey.questions:
        here = _rows_of(question, raw)
        asked |= here
        for columns in question.columns:
            part = _answers(raw[here], usable[here], question, columns, survey, texts, quarantine, counts)
            part["order"] = order
            parts.append(part)
            order += 1
    _set_aside_unasked(raw[~asked], survey, quarantine, counts)
    answers = pd.concat(parts).join(people)
    demographics = [d.slug for d in survey.demographics]
    answers = answers.rename_axis("raw_row").reset_index().sort_values(["raw_row", "order"], kind="stable")
    answers["order"] = answers.groupby("participant", sort=False).cumcount()
    answers = answers[ANSWER_COLUMNS + demographics].reset_index(drop=True)
    return CleanWave(answers, quarantine.table(), counts)


def _participants(
    raw: pd.DataFrame, survey: SurveySpec, wave: str, quarantine: _Quarantine
) -> tuple[pd.Series, pd.Series]:
    """The pseudonym of each row's participant, and which rows are theirs to keep.

    A participant has one row; in a long file one per question, told apart by the `where` columns.
    """
    if survey.participant is None:
        ids = pd.Series([f"{wave}:{row + 1}" for row in range(len(raw))], index=raw.index)
    else:
        ids = raw[survey.participant]
    pseudonyms = ids.map(lambda identifier: pseudonym(survey.name, identifier))
    nameless = ids.isin(survey.missing) | (ids == "")
    told_apart = list(dict.fromkeys(c for question in survey.questions for c in question.where))
    doubled = raw[told_apart].assign(**{"": pseudonyms}).duplicated() & ~nameless
    column = survey.participant or ""
    quarantine.add(ids[nameless], column, "the row has no participant id", "fill in the id")
    # The pseudonym in place of the id: the quarantine table is one that analysts read.
    quarantine.add(
        pseudonyms[doubled],
        column,
        "the participant is in this wave already; the first row is kept",
        "remove one of the two rows, or give each person an id of their own",
    )
    return pseudonyms, ~(nameless | doubled)


def pseudonym(survey: str, identifier: str) -> str:
    """A stable name for a participant that is not their id: 64 bits of a hash keyed by the survey."""
    key = hashlib.blake2b(survey.encode(), digest_size=32).digest()
    return hashlib.blake2b(identifier.encode(), digest_size=8, key=key).hexdigest()


def _labels(
    cells: pd.Series, demographic: Demographic, survey: SurveySpec, quarantine: _Quarantine
) -> pd.Series:
    """The demographic's label per row; None where it is missing or cannot be read."""
    known = cells[~cells.isin(survey.missing)]
    translated = {value: _label(value, demographic) for value in known.unique()}
    labels = known.map(translated)
    unknown = known[labels.isna()]
    for value in unknown.unique():
        quarantine.add(
            unknown[unknown == value],
            demographic.column,
            f"not an option of {demographic.name!r}; the person is kept without it",
            "add the option (or its code) to survey.yaml, or correct the value",
        )
    return labels.where(labels.notna(), None).reindex(cells.index).astype(object).replace({np.nan: None})


def _label(value: str, demographic: Demographic) -> str | None:
    parts = value.split(SEVERAL_SEPARATOR.strip()) if demographic.several else [value]
    labels = []
    for part in parts:
        label = demographic.codes.get(part.strip(), demographic.codes.get(canonical_id(part), part.strip()))
        if label not in demographic.options:
            return None
        labels.append(label)
    return SEVERAL_SEPARATOR.join(sorted(set(labels), key=demographic.options.index))


def _rows_of(question: Question, raw: pd.DataFrame) -> pd.Series:
    here = pd.Series(True, index=raw.index)
    for column, value in question.where.items():
        here &= raw[column] == value
    return here


def _set_aside_unasked(
    rows: pd.DataFrame, survey: SurveySpec, quarantine: _Quarantine, counts: dict[str, int]
) -> None:
    """Rows of a long file that belong to no question of the codebook."""
    column = next(iter(survey.questions[0].where), None)
    if column is None or rows.empty:
        return
    quarantine.add(
        rows[column],
        column,
        "no question of the codebook has this value",
        "add the question to survey.yaml, or correct the value",
    )
    counts["cells"] += len(rows)
    counts["quarantined"] += len(rows)


def _answers(
    raw: pd.DataFrame,
    usable: pd.Series,
    question: Question,
    columns: AnswerColumns,
    survey: SurveySpec,
    texts: Mapping[str, str],
    quarantine: _Quarantine,
    counts: dict[str, int],
) -> pd.DataFrame:
    """The answers of one column pair; every cell is counted once."""
    cells = raw[columns.answer]
    missing = cells.isin(survey.missing)
    given = cells[usable & ~missing]
    numbers = pd.to_numeric(given, errors="coerce")
    on_scale, reasons = _on_scale(numbers, question.scale)
    bad = on_scale.isna()
    for reason in sorted(set(reasons[bad])):
        quarantine.add(
            given[bad & (reasons == reason)],
            columns.answer,
            reason,
            "correct the answer, or the scale (or its rounding) in survey.yaml",
        )
    table = pd.DataFrame(
        {
            "question": question.id,
            "intervention": None,
            "intervention_text": "",
            "answer": on_scale[~bad].astype("int64"),
        }
    )
    if columns.intervention is not None:
        read = raw[columns.intervention]
        table = _with_intervention(table, read, columns.intervention, survey, texts, quarantine)
    counts["cells"] += len(cells)
    counts["used"] += len(table)
    counts["missing"] += int((usable & missing).sum())
    counts["quarantined"] += int((~usable).sum()) + len(given) - len(table)
    return table


def _on_scale(numbers: pd.Series, scale: Scale) -> tuple[pd.Series, pd.Series]:
    """Answers as steps of the scale (NaN where they are none), and the reason for each NaN."""
    reasons = pd.Series("", index=numbers.index)
    steps = (numbers - scale.low) / scale.step
    if scale.rounding == "half_up":
        steps = np.floor(steps + 0.5)
    between = steps != np.floor(steps)
    outside = (numbers < scale.low) | (numbers > scale.high)
    reasons[between] = f"between two answers of the scale {scale.low}–{scale.high} (step {scale.step})"
    reasons[outside] = f"off the scale {scale.low}–{scale.high}"
    reasons[numbers.isna()] = "not a number"
    values = scale.low + steps * scale.step
    return values.mask(reasons != ""), reasons


def _with_intervention(
    table: pd.DataFrame,
    cells: pd.Series,
    column: str,
    survey: SurveySpec,
    texts: Mapping[str, str],
    quarantine: _Quarantine,
) -> pd.DataFrame:
    """The table with intervention ids and texts; answers after an unknown intervention are set aside."""
    none = survey.interventions.none if survey.interventions else ()
    ids = cells.reindex(table.index).map(canonical_id)
    without = ids.isin(none)
    known = ids.isin(list(texts)) | without
    absent = ids.isin(survey.missing) & ~known
    remedy = "correct the id, or add the text to the table of interventions"
    quarantine.add(ids[absent], column, "the answer has no intervention", remedy)
    quarantine.add(ids[~known & ~absent], column, "there is no text for this intervention", remedy)
    table = table[known].copy()
    table["intervention"] = ids[known].mask(without[known], None).astype(object).replace({np.nan: None})
    table["intervention_text"] = ids[known].map(lambda i: texts.get(i, "")).mask(without[known], "")
    return table
