"""An adapter's own prompts: those in its wording, and the words in which it answers them.

Belongs here: which rows of a study's prompts an adapter is trained on and asked. Not here: tokens
(`texts.py`), how prompts are worded (`prompts/`).
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from evsim_assets.specs.errors import BadInput


def own_prompts(prompts: pd.DataFrame, template: str, *splits: str) -> pd.DataFrame:
    """The rows in the wording `template`, of the given splits (of all, if none is given).

    Raises:
        BadInput: no prompt is in that wording.
    """
    worded = prompts[prompts["template"] == template]
    if worded.empty:
        raise BadInput(
            "no prompt is in the adapter's wording",
            field="template",
            value=template,
            remedy="make the study's prompts again",
        )
    return worded[worded["split"].isin(splits)] if splits else worded


def answer_labels(cell: Any) -> tuple[str, ...]:
    """The words of the answers, low to high, from the column `labels`; none of a question answered by
    number (where the cell is missing)."""
    return tuple(json.loads(cell)) if isinstance(cell, str) else ()
