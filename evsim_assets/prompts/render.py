"""From answers to the chat messages of Appendix B.1, for the participants a study uses.

Belongs here: the text of prompts, and the choice of participants. Not here: tokens (`chat.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Sample
from evsim_assets.specs.survey import DIGITS, SEVERAL_SEPARATOR, Demographic, Scale, SurveySpec

SPLITS = ("train", "validation", "test")
PROMPT_COLUMNS = [
    "prompt_id",
    "participant",
    "split",
    "question",
    "order",
    "intervention",
    "answer",
    "answer_digit",
    "low",
    "high",
    "step",
    "system",
    "user",
    "user_digit",
]


def sampled_participants(splits: pd.DataFrame, sample: Sample | None) -> pd.DataFrame:
    """The rows of `splits` that a study uses: all, or the first of each split by rank.

    The rank is a keyed hash, so a larger sample holds a smaller one, and a new wave that brings
    more people moves only those at the margin.

    Raises:
        BadInput: a split is empty, or has fewer participants than the sample asks for.
    """
    counts = {split: int((splits["split"] == split).sum()) for split in SPLITS}
    if not all(counts.values()):
        raise BadInput(
            f"a study needs participants for training, validation and test, and the survey has"
            f" {', '.join(f'{count} {split}' for split, count in counts.items())}",
            field="splits",
            remedy="add waves with more people, or raise the empty split's fraction in survey.yaml",
        )
    if sample is None:
        return splits
    chosen = []
    for split in SPLITS:
        people = splits[splits["split"] == split].sort_values("rank", kind="stable")
        asked = getattr(sample, split)
        wanted = len(people) if asked is None else asked
        if len(people) < wanted:
            raise BadInput(
                f"the survey has {len(people)} {split} participants, fewer than the sample asks for",
                field=f"sample.{split}",
                value=wanted,
                remedy="ask for fewer, or add waves",
            )
        chosen.append(people.head(wanted))
    return pd.concat(chosen, ignore_index=True)


def build_prompts(
    responses: pd.DataFrame, splits: pd.DataFrame, survey: SurveySpec, sample: Sample | None = None
) -> pd.DataFrame:
    """One row an answer, PROMPT_COLUMNS, sorted by participant and order.

    `user` asks on the question's own scale; `user_digit` and `answer_digit` are the same on 0–9
    (B.3: ratings rescaled by round-half-up(9·a/100), generalised to the scale's ends) and null
    where the scale has ten answers or fewer.

    Raises:
        BadInput: as `sampled_participants`, before anything else.
    """
    people = sampled_participants(splits, sample)
    rows = responses.merge(people[["participant", "split"]], on="participant", how="inner")
    rows = rows.sort_values(["participant", "order"], kind="stable", ignore_index=True)
    table = rows[["participant", "split", "question", "order", "intervention", "answer"]].copy()
    table["prompt_id"] = table["participant"] + "-" + table["order"].astype(str)
    for bound in ("low", "high", "step"):
        by_question = {q.id: getattr(q.scale, bound) for q in survey.questions}
        table[bound] = table["question"].map(by_question).astype("int64")
    table["system"] = [
        survey.prompts.system.format(demographics=describe(row, survey.demographics))
        for row in rows.to_dict("records")
    ]
    table["user"] = _ask(rows, survey, None)
    table["user_digit"] = _ask(rows, survey, DIGITS)
    table["answer_digit"] = _as_digit(table)
    return table[PROMPT_COLUMNS]


def describe(person: Mapping[Any, Any], demographics: tuple[Demographic, ...]) -> str:
    """`{age: 18–25, gender: Man}`: what is known of the person; what is missing is left out."""
    known = [
        f"{d.name}: {str(person[d.slug]).replace(SEVERAL_SEPARATOR, ', ')}"
        for d in demographics
        if not pd.isna(person[d.slug])
    ]
    return "{" + ", ".join(known) + "}"


def is_wide(scale: Scale) -> bool:
    """Whether 0–9 is a coarser scale than this one."""
    return len(scale.answers) > len(DIGITS.answers)


def _ask(rows: pd.DataFrame, survey: SurveySpec, scale: Scale | None) -> list[str | None]:
    """The survey prompt of each row, on its question's scale or on `scale`."""
    questions = {q.id: q for q in survey.questions}
    asked: list[str | None] = []
    for question_id, text in zip(rows["question"], rows["intervention_text"], strict=True):
        question = questions[question_id]
        if scale is not None and not is_wide(question.scale):
            asked.append(None)
            continue
        bounds = scale or question.scale
        asked.append(
            survey.prompts.user.format(
                intervention=text, low=bounds.low, high=bounds.high, **question.fields
            ).strip()
        )
    return asked


def _as_digit(table: pd.DataFrame) -> pd.Series:
    span = table["high"] - table["low"]
    digits = np.floor(DIGITS.high * (table["answer"] - table["low"]) / span + 0.5)
    return digits.where(table["user_digit"].notna()).astype("Int64")
