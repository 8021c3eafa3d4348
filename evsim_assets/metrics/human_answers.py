"""What people answered, question by question, on the survey's own scale or on 0–9.

Belongs here: the choice of a question's rows, scale and answers from a study's prompts. Not here:
any measure of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.measures import Floats, balanced
from evsim_assets.specs.study import AnswerScale
from evsim_assets.specs.survey import DIGITS, Scale


@dataclass(frozen=True)
class HumanAnswers:
    """The answered prompts of one question: `rows` (n of them) and `answers` (n,) on `scale`.

    `weights` (n,): survey weights with mean 1.
    """

    question: str
    answer_scale: AnswerScale
    scale: Scale
    rows: pd.DataFrame
    answers: npt.NDArray[np.int64]
    weights: Floats


def each_answer_once(prompts: pd.DataFrame) -> pd.DataFrame:
    """The prompts without those held out, each answer in one wording only (the first of the table)."""
    used = prompts[prompts["split"] != "held_out"]
    return used.drop_duplicates(["participant", "order"])


def human_answers(
    prompts: pd.DataFrame, answer_scale: AnswerScale, split: str | None = None
) -> Iterator[HumanAnswers]:
    """Each question of `prompts`, those asked early first, then by name; of all splits, or of one.

    On the digit scale, questions with ten answers or fewer have no digit prompt and are left out. So are
    answers with a survey weight of 0: they count for nobody.
    """
    chosen = prompts if split is None else prompts[prompts["split"] == split]
    chosen = chosen[chosen["weight"] > 0]
    column = "answer" if answer_scale == "native" else "answer_digit"
    earliest = chosen.groupby("question")["order"].min().sort_index().sort_values(kind="stable")
    for question in earliest.index:
        rows = chosen[chosen["question"] == question]
        asked = rows[rows[column].notna()]
        if len(asked):
            scale = native_scale(asked) if answer_scale == "native" else DIGITS
            answers = asked[column].to_numpy(dtype=np.int64)
            weights = balanced(asked["weight"].to_numpy(dtype=np.float64))
            yield HumanAnswers(str(question), answer_scale, scale, asked, answers, weights)


def native_scale(rows: pd.DataFrame) -> Scale:
    """The survey's own scale of one question's rows."""
    first = rows.iloc[0]
    return Scale(low=int(first["low"]), high=int(first["high"]), step=int(first["step"]))


def answer_scales(prompts: pd.DataFrame) -> tuple[AnswerScale, ...]:
    """The scales on which the study's prompts can be answered."""
    return ("native", "digit") if prompts["answer_digit"].notna().any() else ("native",)
