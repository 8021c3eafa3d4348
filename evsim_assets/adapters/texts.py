"""A study's prompts as the token texts that an adapter learns from.

Belongs here: the tokens of each participant's texts, the candidates of the numeric penalty, and
which participants a data fraction keeps. Not here: what a loss makes of them (`token_tree/losses.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evsim_assets.adapters.own_prompts import answer_labels
from evsim_assets.prompts.chat import render
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.seeds import keyed_rank
from evsim_assets.specs.study import AdapterSpec, LossSpec
from evsim_assets.specs.survey import DIGITS, Scale
from evsim_assets.token_tree.losses import Text, candidate_masses


def texts_by_participant(prompts: pd.DataFrame, tokenizer: Any, spec: AdapterSpec) -> dict[str, list[Text]]:
    """Every participant's texts in the order of the table; participants in order of appearance.

    With `spec.answers` "digit", of the 0–9 form of each question (`user_digit`, `target_digit`). What is
    learnt is the target: the number, or the label of a question that is answered by label.

    With `training.survey_weights` a text carries its row's weight, as given; an answer of weight 0
    counts for nobody, so it has no text. Without, every text weighs 1.

    Raises:
        BadInput: a row has no 0–9 form though the adapter answers in digits; or every row weighs 0.
    """
    candidates = _Candidates(tokenizer, spec.penalty)
    weighted = spec.training is not None and spec.training.survey_weights
    texts: dict[str, list[Text]] = {}
    row: Any
    for row in _counting(prompts, weighted).itertuples(index=False):
        asked = _asked(row, spec.answers == "digit")
        prompt, answer_tokens = render(tokenizer, asked.system, asked.user, asked.target)
        near = candidates.near(asked, answer_tokens)
        text = Text(prompt, answer_tokens, near, float(row.weight) if weighted else 1.0)
        texts.setdefault(str(row.participant), []).append(text)
    return texts


def fraction_of(participants: Iterable[str], fraction: float, seed: int) -> list[str]:
    """The `fraction` of participants (at least one) that come first by keyed hash, in their order.

    For one seed the smaller fraction is part of the larger; another seed keeps other participants.
    """
    everyone = list(participants)
    if fraction == 1.0:
        return everyone
    ranked = sorted(everyone, key=lambda p: (keyed_rank(f"fraction {seed}", p), p))
    kept = set(ranked[: max(1, round(fraction * len(everyone)))])
    return [p for p in everyone if p in kept]


def _counting(prompts: pd.DataFrame, weighted: bool) -> pd.DataFrame:
    """The rows that count: where weights do, those above 0."""
    counting = prompts[prompts["weight"] > 0] if weighted else prompts
    if len(prompts) and counting.empty:
        raise BadInput(
            "every answer has a survey weight of 0, so there is nothing to learn from",
            field="split",
            value=", ".join(sorted(set(prompts["split"]))),
            remedy="correct the weights, or set training.survey_weights to false",
        )
    return counting


@dataclass(frozen=True)
class _Asked:
    """One row as the adapter sees it. `labels`: the answers' words, low to high; none: numbers."""

    system: str
    user: str
    answer: int
    target: str
    scale: Scale
    labels: tuple[str, ...]

    def text(self, answer: int) -> str:
        """How an answer of the scale is written."""
        return self.labels[self.scale.answers.index(answer)] if self.labels else str(answer)


def _asked(row: Any, digit: bool) -> _Asked:
    """The messages, the answer and its text of a prompt row."""
    system = str(row.system)
    if not digit:
        scale = Scale(low=int(row.low), high=int(row.high), step=int(row.step))
        labels = answer_labels(row.labels)
        return _Asked(system, str(row.user), int(row.answer), str(row.target), scale, labels)
    if pd.isna(row.answer_digit) or pd.isna(row.user_digit):
        raise BadInput(
            "the prompt has no 0–9 form, but the adapter answers in digits",
            value=row.prompt_id,
            remedy="use answers: native for this survey",
        )
    return _Asked(system, str(row.user_digit), int(row.answer_digit), str(row.target_digit), DIGITS, ())


class _Candidates:
    """The answers near a given one with their mass and tokens; each text is rendered once.

    That is right as long as the tokens after the prompt do not depend on the prompt, which is
    checked at every row's own answer.
    """

    def __init__(self, tokenizer: Any, penalty: LossSpec | None) -> None:
        self.tokenizer, self.penalty = tokenizer, penalty
        self.tokens: dict[str, list[int]] = {}

    def near(self, asked: _Asked, answer_tokens: list[int]) -> list[tuple[float, list[int]]]:
        if self.penalty is None:
            return []
        if self.tokens.setdefault(asked.target, answer_tokens) != answer_tokens:
            raise BadInput(
                "the tokens of an answer depend on the prompt before it",
                value=asked.target,
                remedy="use a chat template that separates the answer from the prompt",
            )
        masses = candidate_masses(asked.answer, asked.scale.answers, self.penalty.d)
        return [(mass, self._tokens_of(asked.text(answer), asked)) for answer, mass in masses]

    def _tokens_of(self, text: str, asked: _Asked) -> list[int]:
        if text not in self.tokens:
            self.tokens[text] = render(self.tokenizer, asked.system, asked.user, text)[1]
        return self.tokens[text]
