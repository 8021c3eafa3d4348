"""What the entries of a drafted codebook share.

Belongs here: the mark for a person, what is known while writing. Not here: any entry
(`demographics.py`, `questions.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evsim_assets.drafting.guess import NO_ANSWER
from evsim_assets.drafting.yaml_words import one_line

CHECK = "# CHECK"


@dataclass
class Drafted:
    """What the entries share: value labels and wordings of an SPSS file, the survey's missing values,
    and the names given so far."""

    labels: Mapping[str, Mapping[str, str]]
    wordings: Mapping[str, str]
    missing: Sequence[str]
    demographics: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    """The question's id, by the answer column of those that have one."""


def is_no(label: str) -> bool:
    """Whether the label says that there is no answer."""
    return NO_ANSWER.fullmatch(label) is not None


def with_label(value: str, labels: Mapping[str, str]) -> str:
    """The value for a comment, with its SPSS label."""
    return one_line(value, 20) + (f" ({one_line(labels[value], 30)})" if value in labels else "")
