"""The exact distribution of a model's answers to every prompt, at every temperature, in one reading.

Belongs here: the table of answer distributions. Not here: how an answer is walked (`answer_walk.py`),
draws from these distributions (`generations.py`).

p_T(a | x) is the probability that a text whose tokens are drawn one by one, each from
softmax(logits / T) over the whole vocabulary (unless the study limits it), answers a. It answers a
number where F finds that number at its beginning: the sum over all spellings of a, each the product
along its path, times the probability that no further digit follows. It answers a label where that is
the longest label it begins with, white space aside: again the sum over all spellings, times the
probability that no longer label follows.

A text has at most `decoding.max_new_tokens` tokens; for a question answered by label at least as many
as the longest label takes with its end of turn, or no model could answer it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evsim_assets.simulation.asked import AskedPrompts, asked_prompts, batches
from evsim_assets.simulation.labels import LabelTree, token_bytes
from evsim_assets.simulation.numbers import NumberTokens, classify_tokens
from evsim_assets.specs.study import Decoding

if TYPE_CHECKING:
    from evsim_assets.simulation.answer_walk import Answers, Bools, Outcomes, Walk

Progress = Callable[[int, int], None]
"""Told how many prompts are done, of how many."""

BATCH_TOKENS = 4096
TOLERANCE = 1e-5


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
        not begin with a number (blanks may stand before one). Where a question is answered by label,
        `off_scale` is 0, and `no_number` is the mass of texts that begin with no label.
    """
    from evsim_assets.simulation.answer_walk import walk_answers
    from evsim_assets.simulation.reading import read_prompts

    asked = asked_prompts(tokenizer, prompts, digit_answers=digit_answers)
    walk = walk_of(model, tokenizer, asked, temperatures, decoding, tolerance, batch_tokens)
    answers = asked.scales.sizes
    table = np.zeros((len(asked.tokens), int(answers.max(initial=0)) + 3, len(temperatures)))

    def settle(outcomes: Outcomes) -> None:
        np.add.at(table, (outcomes.prompt, outcomes.outcome), outcomes.mass)

    done = 0
    for batch in batches(asked, batch_tokens):
        groups = [[(number, asked.tokens[number]) for number in group] for group in batch]
        rows, roots, logits = read_prompts(model, groups)
        walk_answers(model, rows, roots, logits, walk, settle)
        done += len(roots)
        if on_progress is not None:
            on_progress(done, len(asked.tokens))
    return _as_table(prompts, asked, table, answers, temperatures)


def walk_of(
    model: Any,
    tokenizer: Any,
    asked: AskedPrompts,
    temperatures: Sequence[float],
    decoding: Decoding,
    tolerance: float,
    batch_tokens: int,
    within_numbers: Bools | None = None,
) -> Walk:
    """How the prompts are walked: numbers and, where there are any, labels.

    Args:
        within_numbers: see `NumberAnswers.within`.
    """
    from evsim_assets.simulation.answer_walk import Walk
    from evsim_assets.simulation.label_walk import LabelAnswers
    from evsim_assets.simulation.number_walk import NumberAnswers

    numbers = number_tokens(model, tokenizer)
    kinds: list[Answers] = [NumberAnswers(numbers, asked.scales, within_numbers)]
    by_label = np.array([bool(labels) for labels in asked.labels], dtype=np.int64)
    if by_label.any():
        kinds.append(LabelAnswers(LabelTree(token_bytes(tokenizer, numbers.silent)), asked.labels))
    limit = np.maximum(decoding.max_new_tokens, asked.label_tokens)
    return Walk(kinds, by_label, limit, numbers.silent, temperatures, decoding, tolerance, batch_tokens)


def number_tokens(model: Any, tokenizer: Any) -> NumberTokens:
    """The vocabulary of `model`, classified; its own end-of-turn ids end a text."""
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return classify_tokens(tokenizer, model.config.get_text_config().vocab_size, ends)


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
