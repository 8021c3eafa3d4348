"""What a codebook says of waves that are not there.

Belongs here: names and patterns of waves that no landed wave matches. Not here: what they say
(`specs/waves.py`), finding waves (`landing.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from evsim_assets.specs.survey import SurveySpec
from evsim_assets.specs.waves import matches


def idle_patterns(survey: SurveySpec, waves: Collection[str]) -> list[tuple[str, str]]:
    """(field of the codebook, name or pattern) for each that is of none of the waves: it is misspelt, or
    its wave is still to come. Lists are counted from 0, as in errors."""
    found = [
        (field, pattern)
        for field, pattern in _patterns(survey)
        if not any(matches(wave, (pattern,)) for wave in waves)
    ]
    return found + [
        (f"waves.changes.{position}.since", change.since)
        for position, change in enumerate(survey.waves.changes)
        if change.since is not None and not any(map(change.concerns, waves))
    ]


def _patterns(survey: SurveySpec) -> Iterator[tuple[str, str]]:
    """Every name or pattern of waves, with its field, in the codebook's order."""
    named = [(f"waves.changes.{n}.waves", change.waves) for n, change in enumerate(survey.waves.changes)]
    for position, demographic in enumerate(survey.demographics):
        named.append((f"demographics.{position}.constant", tuple(demographic.constant)))
        named.append((f"demographics.{position}.waves", demographic.waves))
    named += [(f"questions.{n}.waves", question.waves) for n, question in enumerate(survey.written)]
    for field, patterns in named:
        yield from ((field, pattern) for pattern in patterns or ())
