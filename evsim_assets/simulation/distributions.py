"""The exact distribution of a model's answers to every prompt, at every temperature, in one reading.

Belongs here: the table of answer distributions. Not here: how a number is walked (`number_walk.py`),
draws from these distributions (`generations.py`).

p_T(a | x) is the probability that F finds a in a text whose tokens are drawn one by one, each from
softmax(logits / T) over the whole vocabulary (unless the study limits it), where F's number
stands at the beginning of the text: the sum over all spellings of a, each the product along its
path, times the probability that no further digit follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evsim_assets.prompts.chat import render
from evsim_assets.simulation.numbers import LARGEST_ANSWER, NumberTokens, classify_tokens
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Decoding
from evsim_assets.specs.survey import DIGITS

if TYPE_CHECKING:
    from evsim_assets.simulation.number_walk import Outcomes, Scales

Progress = Callable[[int, int], None]
"""Told how many prompts are done, of how many."""

BATCH_TOKENS = 4096
TOLERANCE = 1e-5


@dataclass(frozen=True)
class AskedPrompts:
    """P different prompts with their scales, and which of them every row of a table asks.

    `groups`: prompt numbers that are read together, as one token tree; `of_row`: (rows,).
    """

    tokens: list[list[int]]
    scales: Scales
    groups: list[list[int]]
    of_row: np.ndarray[Any, np.dtype[np.int64]]


def answer_distributions(
    model: Any,
    tokenizer: Any,
    prompts: pd.DataFrame,
    *,
    digit_answers: bool,
    temperatures: Sequence[float],
    decoding: Decoding,
    batch_tokens: int = BATCH_TOKENS,
    tolerance: float = TOLERANCE,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """The distribution over answers for every row of `prompts` and every temperature.

    Args:
        model: a transformers or peft causal language model, on its device, in eval mode.
        digit_answers: whether the model answers 0–9 (`user_digit`) or on the question's scale.
        batch_tokens: tokens in one forward pass, padding included.
        tolerance: a continuation is read when its probability exceeds this; the others' are summed,
            temperature by temperature, in `unexpanded`.

    Returns:
        prompt_id | temperature | probabilities (float32, one per answer low, low + step, … high) |
        off_scale | no_number | unexpanded, in the order of `prompts`, then of `temperatures`. Every row
        sums to 1. `off_scale`: the text begins with a number that is no answer; `no_number`: it does
        not begin with a number (blanks may stand before one).
    """
    from evsim_assets.simulation.number_walk import Walk, walk_numbers
    from evsim_assets.simulation.reading import read_prompts

    asked = asked_prompts(tokenizer, prompts, digit_answers=digit_answers)
    walk = Walk(
        number_tokens(model, tokenizer), asked.scales, temperatures, decoding, tolerance, batch_tokens
    )
    answers = (asked.scales.high - asked.scales.low) // asked.scales.step + 1
    table = np.zeros((len(asked.tokens), int(answers.max(initial=0)) + 3, len(temperatures)))

    def settle(outcomes: Outcomes) -> None:
        np.add.at(table, (outcomes.prompt, outcomes.outcome), outcomes.mass)

    done = 0
    for batch in batches(asked, batch_tokens):
        groups = [[(number, asked.tokens[number]) for number in group] for group in batch]
        rows, roots, logits = read_prompts(model, groups)
        walk_numbers(model, rows, roots, logits, walk, settle)
        done += len(roots)
        if on_progress is not None:
            on_progress(done, len(asked.tokens))
    return _as_table(prompts, asked, table, answers, temperatures)


def number_tokens(model: Any, tokenizer: Any) -> NumberTokens:
    """The vocabulary of `model`, classified; its own end-of-turn ids end a text."""
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return classify_tokens(tokenizer, model.config.get_text_config().vocab_size, ends)


def asked_prompts(tokenizer: Any, prompts: pd.DataFrame, *, digit_answers: bool) -> AskedPrompts:
    """The different prompts of the table, grouped by the participant who first asks them.

    Raises:
        BadInput: a prompt lacks its 0–9 form, or a scale reaches further than numbers are followed.
    """
    from evsim_assets.simulation.number_walk import Scales

    if digit_answers and prompts["user_digit"].isna().any():
        row = prompts[prompts["user_digit"].isna()].iloc[0]
        raise BadInput(
            "the prompt has no 0–9 form",
            field="user_digit",
            value=row["prompt_id"],
            remedy="use answers: native for this survey",
        )
    users = prompts["user_digit" if digit_answers else "user"]
    scales = prompts[["low", "high", "step"]].to_numpy(np.int64)
    if digit_answers:
        scales = np.tile(np.array([[DIGITS.low, DIGITS.high, DIGITS.step]]), (len(prompts), 1))
    if (scales[:, 1] >= LARGEST_ANSWER).any():
        raise BadInput(
            "an answer is too large to be read",
            field="high",
            value=int(scales[:, 1].max()),
            remedy=f"use a scale that ends below {LARGEST_ANSWER}",
        )
    numbers: dict[tuple[Any, ...], int] = {}
    groups: dict[str, list[int]] = {}
    of_row = np.empty(len(prompts), dtype=np.int64)
    columns = zip(prompts["participant"], prompts["system"], users, scales.tolist(), strict=True)
    for r, (participant, system, user, scale) in enumerate(columns):
        key = (system, user, *scale)
        if key not in numbers:
            groups.setdefault(participant, []).append(len(numbers))
        of_row[r] = numbers.setdefault(key, len(numbers))
    tokens = [render(tokenizer, key[0], key[1])[0] for key in numbers]
    low, high, step = (np.array([key[k] for key in numbers], dtype=np.int64) for k in (2, 3, 4))
    return AskedPrompts(tokens, Scales(low, high, step), list(groups.values()), of_row)


def batches(asked: AskedPrompts, batch_tokens: int) -> Iterator[list[list[int]]]:
    """Groups for one forward pass each, similar sizes together, at most `batch_tokens` with padding.

    A group's size is that of its tree where its prompts stand in the order of their beginnings, and
    an upper bound elsewhere; a group that is too large alone is cut into several.
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
    parts.sort(key=lambda part: part[0])
    batch: list[list[int]] = []
    for size, part in parts:
        if batch and size * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(part)
    if batch:
        yield batch


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


def _as_table(
    prompts: pd.DataFrame,
    asked: AskedPrompts,
    table: np.ndarray[Any, np.dtype[np.float64]],
    answers: np.ndarray[Any, np.dtype[np.int64]],
    temperatures: Sequence[float],
) -> pd.DataFrame:
    """The contract's table from masses (P, widest scale + 3, T)."""
    records = []
    for prompt_id, number in zip(prompts["prompt_id"], asked.of_row, strict=True):
        for t, temperature in enumerate(temperatures):
            mass = table[number, :, t]
            records.append(
                (prompt_id, float(temperature), mass[: answers[number]].astype(np.float32), *mass[-3:])
            )
    columns = ["prompt_id", "temperature", "probabilities", "off_scale", "no_number", "unexpanded"]
    return pd.DataFrame(records, columns=columns)
