"""How many tokens a study's prompts have for a model, and how many of them are shared.

Belongs here: counting (the paper's Table 5, and the token tree's saving). Not here: trees
(`token_tree/`), budgets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.prompts.chat import render
from evsim_assets.token_tree.tree import build_tree

COUNTED_PARTICIPANTS = 200
"""Lengths are counted on this many participants at most, the first by id."""


def token_lengths(prompts: pd.DataFrame, tokenizer: Any, model: str) -> pd.DataFrame:
    """One row a question, and one for all of them (`question` = "all").

    Columns: `model`, `question`, `participants`, `texts` (counted), `prompt_tokens` and
    `answer_tokens` (means a text), and on the last row `text_tokens` and `tree_tokens` (means a
    participant) with `sharing` = text_tokens / tree_tokens, the work that the token tree saves.
    """
    people = prompts["participant"].drop_duplicates().head(COUNTED_PARTICIPANTS)
    counted = prompts[prompts["participant"].isin(people)].reset_index(drop=True)
    texts = [
        render(tokenizer, system, user, str(answer))
        for system, user, answer in zip(counted["system"], counted["user"], counted["answer"], strict=True)
    ]
    lengths = counted[["participant", "question"]].assign(
        prompt_tokens=[len(prompt) for prompt, _ in texts],
        answer_tokens=[len(answer) for _, answer in texts],
    )
    trees = [
        len(build_tree([texts[i][0] + texts[i][1] for i in rows])[0].token)
        for rows in counted.groupby("participant").indices.values()
    ]
    rows = [_row(model, question, part) for question, part in lengths.groupby("question")]
    total = _row(model, "all", lengths)
    text_tokens = (lengths["prompt_tokens"] + lengths["answer_tokens"]).sum() / len(people)
    total |= {
        "text_tokens": float(text_tokens),
        "tree_tokens": float(np.mean(trees)),
        "sharing": float(text_tokens / np.mean(trees)),
    }
    return pd.DataFrame([*rows, total])


def _row(model: str, question: object, part: pd.DataFrame) -> dict[str, Any]:
    return {
        "model": model,
        "question": str(question),
        "participants": part["participant"].nunique(),
        "texts": len(part),
        "prompt_tokens": float(part["prompt_tokens"].mean()),
        "answer_tokens": float(part["answer_tokens"].mean()),
    }
