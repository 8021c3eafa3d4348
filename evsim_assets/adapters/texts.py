"""A study's prompts as the token texts that an adapter learns from.

Belongs here: the tokens of each participant's texts, the candidates of the numeric penalty, and
which participants a data fraction keeps. Not here: what a loss makes of them (`token_tree/losses.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from evsim_assets.prompts.chat import render
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.seeds import keyed_rank
from evsim_assets.specs.study import AdapterSpec, LossSpec
from evsim_assets.specs.survey import DIGITS, Scale
from evsim_assets.token_tree.losses import Text, candidate_masses


def texts_by_participant(prompts: pd.DataFrame, tokenizer: Any, spec: AdapterSpec) -> dict[str, list[Text]]:
    """Every participant's texts in the order of the table; participants in order of appearance.

    With `spec.answers` "digit", of the 0–9 form of each question (`user_digit`, `answer_digit`).

    Raises:
        BadInput: a row has no 0–9 form though the adapter answers in digits.
    """
    candidates = _Candidates(tokenizer, spec.penalty)
    texts: dict[str, list[Text]] = {}
    for row in prompts.itertuples(index=False):
        user, answer, scale = _asked(row, spec.answers == "digit")
        system = str(row.system)
        prompt, answer_tokens = render(tokenizer, system, user, str(answer))
        near = candidates.near(answer, answer_tokens, scale, system, user)
        texts.setdefault(str(row.participant), []).append(Text(prompt, answer_tokens, near))
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


def _asked(row: Any, digit: bool) -> tuple[str, int, Scale]:
    """The user message, the answer and the scale of a prompt row."""
    if not digit:
        scale = Scale(low=int(row.low), high=int(row.high), step=int(row.step))
        return row.user, int(row.answer), scale
    if pd.isna(row.answer_digit) or pd.isna(row.user_digit):
        raise BadInput(
            "the prompt has no 0–9 form, but the adapter answers in digits",
            value=row.prompt_id,
            remedy="use answers: native for this survey",
        )
    return row.user_digit, int(row.answer_digit), DIGITS


class _Candidates:
    """The answers near a given one with their mass and tokens; each answer is rendered once.

    That is right as long as the tokens after the prompt do not depend on the prompt, which is
    checked at every row's own answer.
    """

    def __init__(self, tokenizer: Any, penalty: LossSpec | None) -> None:
        self.tokenizer, self.penalty = tokenizer, penalty
        self.tokens: dict[int, list[int]] = {}

    def near(
        self, answer: int, answer_tokens: list[int], scale: Scale, system: str, user: str
    ) -> list[tuple[float, list[int]]]:
        if self.penalty is None:
            return []
        if self.tokens.setdefault(answer, answer_tokens) != answer_tokens:
            raise BadInput(
                "the tokens of an answer depend on the prompt before it",
                value=answer,
                remedy="use a chat template that separates the answer from the prompt",
            )
        masses = candidate_masses(answer, scale.answers, self.penalty.d)
        for a, _ in masses:
            if a not in self.tokens:
                self.tokens[a] = render(self.tokenizer, system, user, str(a))[1]
        return [(mass, self.tokens[a]) for a, mass in masses]
