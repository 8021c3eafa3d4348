"""The order of answers in words: Strongly disagree … Strongly agree, Never … Always, 18–24 … 65 or older.

Belongs here: what the words themselves say of their order. Not here: columns (`recognise.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LISTS = (
    "never|almost never|very rarely|rarely|seldom|once in a while|occasionally|sometimes|about half the time"
    "|regularly|often|frequently|usually|most of the time|very often|almost always|nearly always|always",
    "never|less than once a year|less than once per year|once a year|several times per year"
    "|several times a year|less than once a month|once a month|once per month|several times a month"
    "|2-3 times per month|once a week|nearly every week|weekly|several times a week|more than once per week"
    "|every day|daily|several times a day",
    "never|yearly|monthly|weekly|daily",
    "terrible|very poor|poor|below average|fair|average|okay|ok|good|above average|very good|excellent"
    "|outstanding",
    "very bad|bad|neither good nor bad|fair|good|very good",
    "no knowledge|novice|beginner|basic|intermediate|advanced|expert",
    "none|very low|low|medium|moderate|high|very high",
    "none|not at all|hardly at all|only a little|a little|a little bit|not much|not very much|some|somewhat"
    "|a fair amount|a moderate amount|quite a bit|quite a lot|a lot|very much|a great deal|completely"
    "|entirely",
    "much worse|worse|somewhat worse|a little worse|about the same|the same|no change|a little better"
    "|somewhat better|better|much better",
    "far too little|too little|about right|too much|far too much",
    "definitely no|definitely not|no, definitely not|definitely would not|no, probably not|probably not"
    "|probably no|probably would not|unsure, but leaning towards no|might or might not|maybe|unsure"
    "|unsure, but leaning towards yes|probably would|probably|probably yes|yes, probably|definitely would"
    "|definitely|definitely yes|yes, definitely",
    "no|maybe|unsure|not sure|yes",
    "definitely false|mostly false|false|probably false|don't know|probably true|true|mostly true"
    "|definitely true",
    "less than 8th grade|8th grade|no high school|less than high school|less than high school degree"
    "|some high school|high school|high school degree|high school graduate|high school diploma"
    "|some college|some college, no degree|some college or associate degree|associate degree"
    "|associate's degree|college degree|college graduate|bachelor|bachelor degree|bachelor's degree"
    "|some graduate school|graduate degree|postgraduate degree|master's degree|master degree"
    "|professional degree|doctorate|doctorate degree|doctoral degree|phd",
)
"""Usual lists, lowest first; any three or more of a list, or all its ends, are in its order."""

POSITIVE = re.compile(
    r"\b(agree|likely|satisfied|support|favou?r|favou?rable|approve|important|interested|comfortable|willing"
    r"|confident|trust|accurate|true|easy|positive|happy|concerned|worried|familiar|useful|helpful|liberal"
    r"|effective|safe|like|increase|effectively|well)\b"
)
NEGATIVE = re.compile(
    r"\b(disagree|unlikely|dissatisfied|oppose|disapprove|unimportant|uninterested|uncomfortable|unwilling"
    r"|distrust|inaccurate|untrue|difficult|negative|unhappy|unfavou?rable|useless|unhelpful|conservative"
    r"|ineffective|unsafe|dislike|decrease|against)\b"
)
NEUTRAL = re.compile(r"\b(neither|neutral|undecided|no opinion either way|moderate|in the middle|mixed)\b")
DEGREES = (
    (r"\bnot at all\b", 0.0),
    (r"\b(not very|not too|not so|hardly)\b", 0.5),
    (r"\b(slightly|a little|a bit|lean(s|ing)?)\b", 1.0),
    (r"\b(somewhat|fairly|rather)\b", 1.5),
    (r"\b(moderately|quite|generally)\b", 2.0),
    (r"\b(mostly|mainly)\b", 3.0),
    (r"\b(very|strongly|highly|a great deal|a lot|definitely)\b", 4.0),
    (r"\b(extremely|completely|totally|absolutely|entirely)\b", 5.0),
)
PLAIN = 2.5
"""Agree, without a word of degree, is more than somewhat and less than strongly."""

BELOW = re.compile(r"^\s*(<|less|under|below|up to|younger|before|fewer)", re.IGNORECASE)
ABOVE = re.compile(r"(>|\+|more|over|above|older|after)", re.IGNORECASE)


def usual_order(labels: Iterable[str]) -> tuple[str, ...] | None:
    """The labels from lowest to highest where their words say it, else None.

    Known are usual lists (LISTS), words of degree for or against something, and numbers that the
    labels begin with (`1 - never`).
    """
    given = sorted(labels)
    for rank in (_by_leading_number, _by_list, _by_degree):
        ranks = rank(given)
        if ranks is not None and len(set(ranks)) == len(given) > 1:
            return tuple(label for _, label in sorted(zip(ranks, given, strict=True)))
    return None


def ordered_as_found(counts: Iterable[str]) -> tuple[str, ...]:
    """The labels in the order of their words or numbers (`under 18`, `18–24`), else as they are given."""
    given = tuple(counts)
    usual = usual_order(given)
    if usual:
        return usual
    ranks = {label: rank for label in given if (rank := _interval(label)) is not None}
    return tuple(sorted(given, key=ranks.__getitem__)) if len(ranks) == len(given) else given


def _interval(label: str) -> tuple[float, int] | None:
    found = re.search(r"\d[\d,]*(\.\d+)?", label)
    if found is None:
        return None
    side = -1 if BELOW.search(label) else 1 if ABOVE.search(label) else 0
    return float(found[0].replace(",", "")), side


def _by_leading_number(labels: list[str]) -> list[float] | None:
    found = [re.match(r"\s*\(?(-?\d+)\)?\s*[-–.:=)]\s*[^\d\s]", label) for label in labels]
    return [float(f[1]) for f in found if f] if all(found) else None


def _by_list(labels: list[str]) -> list[float] | None:
    plain = [_plain(label) for label in labels]
    for line in LISTS:
        words = line.split("|")
        if all(label in words for label in plain) and (len(plain) > 2 or {words[0], words[-1]} == set(plain)):
            return [float(words.index(label)) for label in plain]
    return None


def _by_degree(labels: list[str]) -> list[float] | None:
    """Degrees for and against; those for something that nobody is against begin with `not at all`."""
    ranks = []
    for label in map(_plain, labels):
        degree = next((rank for pattern, rank in DEGREES if re.search(pattern, label)), PLAIN)
        if NEUTRAL.search(label):
            ranks.append(0.0)
        elif NEGATIVE.search(label):
            ranks.append(-degree)
        elif POSITIVE.search(label):
            ranks.append(degree)
        else:
            return None
    return ranks if len(ranks) > 2 else None


def _plain(label: str) -> str:
    return re.sub(r"\s+", " ", label.lower().replace("’", "'")).strip(" .!?:")
