"""When two raw texts are the same value: `78` and `78.0`, `true` and `TRUE`.

Belongs here: that comparison, and codebooks in which one value stands twice. Not here: the same
comparison as SQL (`surveys/cell_sql.py`), what a value means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from evsim_assets.specs.yaml_file import SpecError

TRUTH = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
"""Truth values as programs write them (Python, R, Excel), each with the text that stands for it."""


def canonical(value: str) -> str:
    """The text that stands for a value: spreadsheets write the code 78 as 78.0, and it is the same."""
    return TRUTH.get(value) or re.sub(r"\A(-?[0-9]+)\.0+\Z", r"\1", value)


def each_once(values: Iterable[str]) -> list[str]:
    """The values without those that are the same as one before."""
    found: dict[str, str] = {}
    for value in values:
        found.setdefault(canonical(value), value)
    return list(found.values())


def check_apart(values: Iterable[str], *at: str | int) -> None:
    """Raise SpecError where two different texts of the field `at` are the same value."""
    found: dict[str, str] = {}
    for value in values:
        other = found.setdefault(canonical(value), value)
        if other != value:
            raise SpecError(
                f"{other!r} and {value!r} are the same value in a raw cell",
                at=at,
                value=[other, value],
                remedy="keep one of the two",
            )
