"""The different prompts that a table asks, and how many of them are read at once.

Belongs here: prompts as tokens with their scales or labels, and batches of them. Not here: reading
them (`reading.py`), what is answered (`distributions.py`, `generations.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.adapters.own_prompts import answer_labels
from evsim_assets.prompts.chat import render
from evsim_assets.simulation.numbers import LARGEST_ANSWER, Scales
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import DIGITS

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AskedPrompts:
    """P different prompts with their scales, and which of them every row of a table asks.

    `labels`: the words of the answers, low to high, of each prompt; none where it is answered by
    number. `label_tokens` (P,): tokens, with the end of turn, that the longest label takes; 0 for numbers.
    `groups`: prompt numbers that are read together, as one token tree. `of_row`: (rows,).
    """

    tokens: list[list[int]]
    scales: Scales
    labels: list[tuple[str, ...]]
    label_tokens: Ints
    groups: list[list[int]]
    of_row: Ints

    def only(self, numbers: Collection[int]) -> AskedPrompts:
        """The same prompts, with only these in groups, so that only these are read."""
        wanted = set(numbers)
        groups = [[p for p in group if p in wanted] for group in self.groups]
        return replace(self, groups=[group for group in groups if group])

    def apart(self, kind: Ints) -> AskedPrompts:
        """The same, but a prompt that rows of several kinds ask is there once a kind; `kind`: (rows,)."""
        pairs, of_row = np.unique(np.stack([self.of_row, kind]), axis=1, return_inverse=True)
        prompt: Ints = pairs[0]
        own: dict[int, list[int]] = {}
        for number, of_pair in enumerate(prompt.tolist()):
            own.setdefault(of_pair, []).append(number)
        return AskedPrompts(
            [self.tokens[p] for p in prompt],
            Scales(*self.scales.of(prompt)),
            [self.labels[p] for p in prompt],
            self.label_tokens[prompt],
            [[number for p in group for number in own[p]] for group in self.groups],
            of_row.reshape(-1),
        )


def row_scales(prompts: pd.DataFrame, *, digit_answers: bool) -> Ints:
    """Low, high and step of what every row may be answered with: (rows, 3)."""
    if digit_answers:
        return np.tile(np.array([[DIGITS.low, DIGITS.high, DIGITS.step]]), (len(prompts), 1))
    return prompts[["low", "high", "step"]].to_numpy(np.int64)


def row_labels(prompts: pd.DataFrame, *, digit_answers: bool) -> list[tuple[str, ...]]:
    """The labels that every row may be answered with; none where it is answered by number.

    Raises:
        BadInput: a row has not as many labels as answers.
    """
    if digit_answers:
        return [()] * len(prompts)
    read = {cell: answer_labels(cell) for cell in prompts["labels"].unique()}
    labels = [read.get(cell, ()) if isinstance(cell, str) else () for cell in prompts["labels"]]
    answers = (prompts["high"] - prompts["low"]) // prompts["step"] + 1
    for prompt_id, of_one, size in zip(prompts["prompt_id"], labels, answers, strict=True):
        if of_one and len(of_one) != size:
            raise BadInput(
                f"the prompt has {len(of_one)} labels for {size} answers",
                field="labels",
                value=prompt_id,
                remedy="make the study's prompts again",
            )
    return labels


def asked_prompts(tokenizer: Any, prompts: pd.DataFrame, *, digit_answers: bool) -> AskedPrompts:
    """The different prompts of the table, grouped by the participant who first asks them.

    Raises:
        BadInput: a prompt lacks its 0–9 form, a scale reaches further than numbers are followed, or
            labels do not fit their scale.
    """
    if digit_answers and prompts["user_digit"].isna().any():
        row = prompts[prompts["user_digit"].isna()].iloc[0]
        raise BadInput(
            "the prompt has no 0–9 form",
            field="user_digit",
            value=row["prompt_id"],
            remedy="use answers: native for this survey",
        )
    users = prompts["user_digit" if digit_answers else "user"]
    scales = row_scales(prompts, digit_answers=digit_answers)
    for column, field in enumerate(("low", "high")):
        if (furthest := int(np.abs(scales[:, column]).max(initial=0))) >= LARGEST_ANSWER:
            raise BadInput(
                "an answer is too large to be read",
                field=field,
                value=furthest,
                remedy=f"use a scale between -{LARGEST_ANSWER} and {LARGEST_ANSWER}",
            )
    labels = row_labels(prompts, digit_answers=digit_answers)
    numbers: dict[tuple[Any, ...], int] = {}
    groups: dict[str, list[int]] = {}
    of_row = np.empty(len(prompts), dtype=np.int64)
    columns = zip(prompts["participant"], prompts["system"], users, scales.tolist(), labels, strict=True)
    for r, (participant, system, user, scale, words) in enumerate(columns):
        key = (system, user, *scale, words)
        if key not in numbers:
            groups.setdefault(participant, []).append(len(numbers))
        of_row[r] = numbers.setdefault(key, len(numbers))
    tokens = [render(tokenizer, key[0], key[1])[0] for key in numbers]
    low, high, step = (np.array([key[k] for key in numbers], dtype=np.int64) for k in (2, 3, 4))
    asked_labels = [key[5] for key in numbers]
    longest = _label_tokens(tokenizer, numbers)
    return AskedPrompts(tokens, Scales(low, high, step), asked_labels, longest, list(groups.values()), of_row)


def _label_tokens(tokenizer: Any, keys: Collection[tuple[Any, ...]]) -> Ints:
    """The tokens of each prompt's longest label as the model's own template writes it; 0 for numbers."""
    longest: dict[tuple[str, ...], int] = {(): 0}
    for system, user, *_, labels in keys:
        if labels not in longest:
            longest[labels] = max(len(render(tokenizer, system, user, label)[1]) for label in labels)
    return np.array([longest[labels] for *_, labels in keys], dtype=np.int64)


def batches(asked: AskedPrompts, batch_tokens: int) -> Iterator[list[list[int]]]:
    """Groups for one forward pass each, at most `batch_tokens` together, in their order.

    A group's size is that of its tree where its prompts stand in the order of their beginnings, and
    an upper bound elsewhere; one that is too large by itself is cut.
    """
    parts: list[tuple[int, list[int]]] = []
    for group in asked.groups:
        size, part, before = 0, list[int](), list[int]()
        for number in group:
            tokens = asked.tokens[number]
            new = len(tokens) - _shared(before, tokens)
            if part and size + new > batch_tokens:
                parts.append((size, part))
                size, part, new = 0, [], len(tokens)
            part.append(number)
            size, before = size + new, tokens
        parts.append((size, part))
    batch: list[list[int]] = []
    filled = 0
    for size, part in parts:
        if batch and filled + size > batch_tokens:
            yield batch
            batch, filled = [], 0
        batch.append(part)
        filled += size
    if batch:
        yield batch


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))
