"""What a single column may be for, by its name and values: an id, a weight, a trait, a checkbox.

Belongs here: the words by which names are known. Not here: columns together (`recognise.py`).
"""

from __future__ import annotations

import re

from evsim_assets.drafting.column_names import words_of
from evsim_assets.drafting.guess import Column

FEW_LABELS = 12
"""Different labels up to which a column of texts may tell what a person is, whatever its name."""

MANY_LABELS = 60
"""Different labels up to which one may whose name says so (51 states)."""

MOST_TEXTS = 120
"""Interventions up to which their texts are written in the codebook itself."""

PARTICIPANT = re.compile(
    r"(respondent|participant|person|subject|case|worker|user|panelist|response|record|voter|prolific|caseid|pid"
    r"|sub|id|uuid|guid|serial)([ _.-]*(id|no|nr|num|number|key|code|pid))?|.*[ _.-]id|.*[a-z]I[Dd]"
)
WEIGHT = re.compile(
    r"(.*[ _.-])?(weights?|wts?|wgts?|wght|pond\w*|gewicht\w*|poids)([ _.-]?\w*)?", re.IGNORECASE
)
NOT_ASKED = re.compile(
    r".*(date|time|duration|timestamp|seconds|latitude|longitude|ip[ _]?address|user[ _]?agent|browser"
    r"|progress|finished|recorded|status|distribution|zip|postal|collector|word_count).*",
    re.IGNORECASE,
)
PERSON = re.compile(
    r"\b(age|ages|agegrp|agegroup|gender|sex|educ\w*|schooling|degree|incomes?|earnings|region|state|country"
    r"|province|county|party|partyid|pid\d?|ideology|politic\w*|religi\w*|church|ethnic\w*|race|racial|hispanic"
    r"|employ\w*|occupation|job|marital|married|relationship|urban\w*|rural|living|area|household|hh\w*|children|kids"
    r"|language|born|birth\w*|nationality|citizen\w*|housing|homeowner|orientation|generation|class|nse|sexe?"
    r"|edad|sexo|alter|geschlecht|bildung)\b",
    re.IGNORECASE,
)
INTERVENTION = re.compile(
    r"\b(intervention|treatment|treat|treated|condition|arm|vignette|stimulus|stimuli|message|msg|manipulation"
    r"|experimental|frame|framing|script|exposure)\b",
    re.IGNORECASE,
)
NAMES_QUESTION = re.compile(
    r"(question|item|issue|topic|variable|statement|policy|target|q)([ _]?(id|name|no|code))?", re.IGNORECASE
)
CONTROL = re.compile(
    r"0|none|no|control( group)?|placebo|baseline|untreated|no (treatment|message|intervention)",
    re.IGNORECASE,
)
BOX = {"0", "1", "yes", "no", "true", "false", "checked", "unchecked", "selected", "not selected", "x"}
CHECKED = {"1", "yes", "true", "checked", "selected", "x"}


def is_weight(column: Column) -> bool:
    """A weight by its name, with numbers around one: what a person weighs is another matter."""
    return bool(WEIGHT.fullmatch(column.name)) and column.is_numeric and column.low >= 0 and column.low < 25


def is_person(column: Column) -> bool:
    """Whether the name says that it tells what a person is."""
    return bool(PERSON.search(" ".join(words_of(column.name)))) and len(words_of(column.name)) <= 6


def is_box(column: Column) -> bool:
    """Whether the cells say yes or no, as a checkbox does."""
    values = {v.lower().removesuffix(".0") for v in column.values}
    if column.different == 1:  # the label itself where it was ticked, and nothing where not
        return column.empty > 0
    return column.different <= 3 and values <= BOX and bool(values & CHECKED)


def is_age(column: Column) -> bool:
    """Whether the column holds years of life, or years of birth."""
    words = words_of(column.name)
    if not column.is_numeric or len(column.answers) <= FEW_LABELS:
        return False
    return (bool({"age", "ages", "edad", "alter"} & set(words)) and column.high <= 120) or is_birth_year(
        column
    )


def is_birth_year(column: Column) -> bool:
    """Whether the numbers are years in which people were born."""
    return (
        bool({"birth", "born", "birthyear"} & set(words_of(column.name)))
        and 1880 < column.low <= column.high < 2030
    )
