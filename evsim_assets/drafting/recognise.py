"""What the columns of a raw file may be together: who a row is, what they are, what they were asked.

Belongs here: rules of thumb over names and values, which a person corrects. Not here: single columns
(`guess.py`, `column_roles.py`), the text of the codebook (`draft.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evsim_assets.drafting.column_names import common_template, words_of
from evsim_assets.drafting.column_roles import (
    FEW_LABELS,
    INTERVENTION,
    MANY_LABELS,
    MOST_TEXTS,
    NOT_ASKED,
    PARTICIPANT,
    is_age,
    is_box,
    is_person,
    is_weight,
)
from evsim_assets.drafting.guess import Column, likely_scale
from evsim_assets.drafting.recognise_questions import FoundQuestion, find_questions, give_interventions, take
from evsim_assets.specs.survey import Scale
from evsim_assets.specs.values import each_once


@dataclass
class FoundDemographic:
    """A demographic to be: its columns, and how many labels a cell may hold."""

    columns: list[Column]
    separator: str | None = None

    @property
    def is_boxes(self) -> bool:
        """Whether it is a column for each option."""
        return len(self.columns) > 1

    @property
    def is_named(self) -> bool:
        """Whether its name says that it tells what a person is."""
        return is_person(self.columns[0])


@dataclass
class Found:
    """What a file's columns may be; `unused` are all others."""

    participant: Column | None = None
    counter: Column | None = None
    weight: Column | None = None
    demographics: list[FoundDemographic] = field(default_factory=list)
    questions: list[FoundQuestion] = field(default_factory=list)
    interventions: list[Column] = field(default_factory=list)
    table_ids: list[Column] = field(default_factory=list)
    unused: list[Column] = field(default_factory=list)


def recognise(columns: Sequence[Column], labels: Mapping[str, Mapping[str, str]]) -> Found:
    """What the columns may be. `labels`: value labels of an SPSS file, column → raw value → label."""
    found, left = Found(), [c for c in columns if c.different > 1 or (c.different == 1 and c.empty)]
    take(left, _people(left, found))
    boxes = _checkboxes(left)
    found.demographics += boxes
    take(left, [column for group in boxes for column in group.columns])
    _intervention_columns(left, found)
    take(left, [*found.interventions, *found.table_ids])
    asked = [c for c in left if not NOT_ASKED.fullmatch(c.name) and not is_person(c)]
    found.questions = find_questions(asked, found.interventions, labels)
    used = [c for q in found.questions for c in (*q.columns, *([q.where] if q.where else []))]
    take(left, used)
    for column in left:
        if demographic := _demographic(column, labels):
            found.demographics.append(demographic)
    _at_least_one_of_each(left, found)
    used = [
        c for q in found.questions for c in (*q.columns, *q.interventions, *([q.where] if q.where else []))
    ]
    used += [c for d in found.demographics for c in d.columns]
    used += [c for c in (found.participant, found.weight) if c]
    place = {column.name: position for position, column in enumerate(columns)}
    found.demographics.sort(key=lambda d: place[d.columns[0].name])
    found.questions.sort(key=lambda q: place[q.columns[0].name])
    _before_first(found.questions)
    found.unused = [c for c in columns if all(c is not other for other in used)]
    return found


def _people(columns: Sequence[Column], found: Found) -> list[Column]:
    """Sets who a row is, and its weight; returns the columns taken."""
    named = [c for c in columns if PARTICIPANT.fullmatch(c.name) and c.empty < 0.05 * c.rows]
    alone = [c for c in named if c.different == c.rows - c.empty]
    repeated = [
        c
        for c in named
        if c.different >= 0.05 * c.rows and not INTERVENTION.search(" ".join(words_of(c.name)))
    ]
    found.participant = next(iter([*alone, *repeated]), None)
    first = columns[0] if columns else None
    if (
        found.participant is None
        and first is not None
        and first.different == first.rows > 1
        and (first.whole or not first.numbers)
    ):
        if re.fullmatch(r"column_\d+|index|unnamed.*", first.name, re.IGNORECASE):
            found.counter = first
        elif not likely_scale([first]):
            found.participant = first
    found.weight = next((c for c in columns if is_weight(c)), None)
    return [c for c in (found.participant, found.counter, found.weight) if c is not None]


def _checkboxes(columns: Sequence[Column]) -> list[FoundDemographic]:
    """Runs of three or more neighbours that say yes or no, with one beginning."""
    groups: list[FoundDemographic] = []
    run: list[Column] = []
    for column in [*columns, None]:
        start = column and common_template([*(c.name for c in run), column.name])
        if column is not None and is_box(column) and (not run or (start and start.before)):
            run.append(column)
            continue
        if len(run) > 2:
            groups.append(FoundDemographic(run))
        run = [column] if column is not None and is_box(column) else []
    return groups


def _intervention_columns(columns: Sequence[Column], found: Found) -> None:
    """Columns named like what people read: few different values, or ids of a table of texts."""
    for column in columns:
        if not INTERVENTION.search(" ".join(words_of(column.name))) or NOT_ASKED.fullmatch(column.name):
            continue
        if 2 <= column.different <= MOST_TEXTS and (column.whole or not column.numbers):
            found.interventions.append(column)
        elif column.different > MOST_TEXTS and column.whole:
            found.table_ids.append(column)


def _demographic(column: Column, labels: Mapping[str, Mapping[str, str]]) -> FoundDemographic | None:
    if NOT_ASKED.fullmatch(column.name) and not is_person(column):
        return None
    parts = each_once(part.strip() for value in column.answers for part in value.split(";") if part.strip())
    if any(";" in value for value in column.answers) and 2 <= len(parts) <= MANY_LABELS / 2:
        return FoundDemographic([column], separator=";")
    if column.is_numeric:
        if column.name in labels and 2 <= len(column.answers) <= MANY_LABELS:
            return FoundDemographic([column])
        if not is_person(column):
            return None
        codes = column.whole and 2 <= len(column.answers) <= FEW_LABELS
        return FoundDemographic([column]) if codes or is_age(column) else None
    most = MANY_LABELS if is_person(column) else FEW_LABELS
    few = 2 <= len(column.answers) <= most and len(column.answers) < column.rows
    return FoundDemographic([column]) if few else None


def _at_least_one_of_each(left: Sequence[Column], found: Found) -> None:
    """A codebook needs a demographic and a question: what looks most like one, if nothing does."""
    taken = [c for d in found.demographics for c in d.columns]
    free = [c for c in left if all(c is not other for other in taken) and 2 <= len(c.answers) <= MANY_LABELS]
    if not found.questions:
        numeric = [c for c in free if c.is_numeric and c.whole and 2 <= c.high - c.low <= 100]
        labelled = [
            c for c in taken if 3 <= len(c.answers) <= FEW_LABELS and not c.numbers and not is_person(c)
        ]
        if numeric:
            scale = Scale(low=int(numeric[-1].low), high=int(numeric[-1].high))
            found.questions.append(FoundQuestion([numeric[-1]], (scale.low, scale.high), ordered=False))
        elif labelled and len(found.demographics) > 1:
            column = labelled[-1]
            found.demographics = [d for d in found.demographics if d.columns[0] is not column]
            found.questions.append(FoundQuestion([column], None, tuple(column.answers), ordered=False))
        give_interventions(found.questions, found.interventions)
        free = [c for c in free if all(c is not other for q in found.questions for other in q.columns)]
    if not found.demographics and free:
        found.demographics.append(FoundDemographic([free[0]]))


def _before_first(questions: list[FoundQuestion]) -> None:
    """A question that another names as `before` stands before it, and loses the name if it is not there."""
    for question in list(questions):
        if question.before is None:
            continue
        names = [q.columns[0].name for q in questions if q is not question and not q.template]
        if question.before not in names:
            question.before = None
            continue
        asked = next(q for q in questions if q.columns[0].name == question.before and not q.template)
        if questions.index(asked) > questions.index(question):
            questions.remove(asked)
            questions.insert(questions.index(question), asked)
