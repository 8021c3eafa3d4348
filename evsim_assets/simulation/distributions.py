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
import numpy.typing as npt
import pandas as pd

from evsim_assets.simulation.asked import AskedPrompts, asked_prompts, batches
from evsim_assets.simulation.audit import (
    AuditFound,
    audited_at_most,
    judged,
    to_audit,
    unlike_others,
    unread_at_most,
)
from evsim_assets.simulation.labels import LabelTree
from evsim_assets.simulation.numbers import NumberTokens, classify_tokens
from evsim_assets.simulation.vocabulary import token_bytes
from evsim_assets.specs.study import Audit, Decoding

if TYPE_CHECKING:
    from evsim_assets.simulation.answer_walk import Answers, Bools, Outcomes, Walk

Progress = Callable[[int, int], None]
"""Told how many prompts are done, of how many. The first never falls."""

Masses = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BATCH_TOKENS = 4096


def answer_distributions(
    model: Any,
    tokenizer: Any,
    prompts: pd.DataFrame,
    *,
    digit_answers: bool,
    temperatures: Sequence[float],
    decoding: Decoding,
    batch_tokens: int = BATCH_TOKENS,
    tolerance: float | None = None,
    on_progress: Progress | None = None,
    on_audit: Callable[[AuditFound], None] | None = None,
) -> pd.DataFrame:
    """The distribution over answers for every row of `prompts` and every temperature.

    Args:
        model: a transformers or peft causal language model, on its device, in eval mode.
        digit_answers: whether the model answers 0–9 (`user_digit`) or on the question's scale.
        batch_tokens: tokens in one forward pass.
        tolerance: in place of the decoding's.
        on_progress: prompts that are read a second time for the audit, or in full because of it, count twice.
        on_audit: told what the audit found, where answers are read `audited`.

    Returns:
        prompt_id | temperature | probabilities (float32, one per answer low, low + step, … high) |
        off_scale | no_number | unexpanded | taken, in the order of `prompts`, then of `temperatures`. All but
        `taken` sum to 1. `off_scale`: the text begins with a number that is no answer; `no_number`: it does
        not begin with a number (blanks may stand before one). Where a question is answered by label,
        `off_scale` is 0, and `no_number` is the mass of texts that begin with no label. `unexpanded`: what
        the least likely continuations lead to, unread, at most the tolerance. `taken`: the part of the
        probabilities that was taken to end unread (`reading: audited`; else 0).
    """
    asked = asked_prompts(tokenizer, prompts, digit_answers=digit_answers)
    at_most = decoding.tolerance if tolerance is None else tolerance

    reading = _Reading(asked, on_progress)

    def read(some: AskedPrompts, at_most: float, *, brief: bool = False) -> tuple[Masses, Masses]:
        briefly = np.full(len(asked.tokens), brief)
        walk = walk_of(model, tokenizer, some, temperatures, decoding, at_most, batch_tokens, brief=briefly)
        return _masses(model, some, walk, batch_tokens, reading)

    if decoding.reading == "full":
        mass, taken = read(asked, at_most)
    else:
        reading.of += audited_at_most(decoding.audit, len(asked.tokens))
        nearly = max(at_most, unread_at_most(decoding.audit))
        mass, taken = read(asked, nearly, brief=True)
        found = _audited(
            decoding.audit,
            asked,
            int(np.argmax(temperatures)),
            mass,
            taken,
            lambda some: read(some, nearly)[0],
            lambda some: read(some, at_most)[0],
            reading,
        )
        if on_audit is not None:
            on_audit(found)
    return _as_table(prompts, asked, mass, taken, temperatures)


class _Reading:
    """How far the reading of some prompts is, told to `on_progress`; `of`: prompts to be read."""

    def __init__(self, asked: AskedPrompts, on_progress: Progress | None) -> None:
        self.done, self.of = 0, sum(map(len, asked.groups))
        self._tell = on_progress

    def add(self, prompts: int) -> None:
        """So many more have been read."""
        self.done += prompts
        if self._tell is not None:
            self._tell(self.done, self.of)


def _masses(
    model: Any, asked: AskedPrompts, walk: Walk, batch_tokens: int, reading: _Reading
) -> tuple[Masses, Masses]:
    """Each outcome's mass (P, widest scale + 3, T), and that of answers taken to end (P, T)."""
    from evsim_assets.simulation.answer_walk import walk_answers
    from evsim_assets.simulation.reading import read_prompts

    n, width = len(asked.tokens), int(asked.scales.sizes.max(initial=0)) + 3
    mass = np.zeros((n * width, len(walk.temperatures)))
    taken = np.zeros((n, len(walk.temperatures)))

    def settle(outcomes: Outcomes) -> None:
        np.add.at(mass, outcomes.prompt * width + outcomes.outcome % width, outcomes.mass)
        if outcomes.taken:
            np.add.at(taken, outcomes.prompt, outcomes.mass)

    for batch in batches(asked, batch_tokens):
        groups = [[(number, asked.tokens[number]) for number in group] for group in batch]
        read, logits = read_prompts(model, groups)
        walk_answers(read, logits, walk, settle)
        reading.add(len(read.prompt))
    return mass.reshape(n, width, -1), taken


def _audited(
    audit: Audit,
    asked: AskedPrompts,
    warmest: int,
    mass: Masses,
    taken: Masses,
    read_on: Callable[[AskedPrompts], Masses],
    read_in_full: Callable[[AskedPrompts], Masses],
    reading: _Reading,
) -> AuditFound:
    """Read on behind the answers of some prompts, or all in full where that shows too much; `mass` and
    `taken` are put right.

    `warmest`: the temperature by number at which prompts are compared. Where colder, what is likely is nearly
    certain, and every prompt is unlike the others.
    """

    def put_right(numbers: Ints, read: Callable[[AskedPrompts], Masses]) -> Masses:
        """And at most what went on behind answers taken to end: (len(numbers), T). What was left unread
        before may be among the answers now, and hide as much that went on."""
        full, before = read(asked.only(numbers.tolist()))[numbers], mass[numbers]
        mass[numbers], taken[numbers] = full, 0
        goes_on: Masses = np.clip((before - full)[:, :-3].sum(1) + before[:, -1], 0, None)
        return goes_on

    scale = np.unique(np.stack(asked.scales.of(np.arange(len(mass)))), axis=1, return_inverse=True)[1]
    at_risk = taken[:, warmest]
    kind = np.where(at_risk > 0, scale.reshape(-1), -1)  # what is answered by label is no measure of numbers
    chosen, random = to_audit(audit, asked.tokens, at_risk, unlike_others(mass[:, :, warmest], kind))
    reading.of = reading.done + len(chosen)
    reading.add(0)
    found = judged(audit, put_right(chosen, read_on), random)
    if found.all_in_full:
        reading.of += len(mass)
        put_right(np.arange(len(mass)), read_in_full)
    return found


def walk_of(
    model: Any,
    tokenizer: Any,
    asked: AskedPrompts,
    temperatures: Sequence[float],
    decoding: Decoding,
    tolerance: float | Masses,
    batch_tokens: int,
    within: Bools | None = None,
    brief: Bools | None = None,
) -> Walk:
    """How the prompts are walked: numbers and, where there are any, labels.

    Args:
        tolerance: of all prompts, or one each (P,).
        within, brief: see `NumberAnswers`.
    """
    from evsim_assets.simulation.answer_walk import Walk
    from evsim_assets.simulation.label_walk import LabelAnswers
    from evsim_assets.simulation.number_walk import NumberAnswers

    numbers = number_tokens(model, tokenizer)
    kinds: list[Answers] = [NumberAnswers(numbers, asked.scales, within, brief)]
    by_label = np.array([bool(labels) for labels in asked.labels], dtype=np.int64)
    if by_label.any():
        kinds.append(LabelAnswers(LabelTree(token_bytes(tokenizer, numbers.silent)), asked.labels))
    limit = np.maximum(decoding.max_new_tokens, asked.label_tokens)
    at_most = np.full(len(asked.tokens), tolerance)
    return Walk(kinds, by_label, limit, numbers.silent, temperatures, decoding, at_most, batch_tokens)


def number_tokens(model: Any, tokenizer: Any) -> NumberTokens:
    """The vocabulary of `model`, classified; its own end-of-turn ids end a text."""
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return classify_tokens(tokenizer, model.config.get_text_config().vocab_size, ends)


def _as_table(
    prompts: pd.DataFrame,
    asked: AskedPrompts,
    mass: Masses,
    taken: Masses,
    temperatures: Sequence[float],
) -> pd.DataFrame:
    """The contract's table."""
    answers = asked.scales.sizes
    exact = mass.astype(np.float32)
    probabilities = [
        exact[number, : answers[number], t] for number in asked.of_row for t in range(len(temperatures))
    ]
    rest = mass[asked.of_row, -3:].transpose(0, 2, 1).reshape(-1, 3)
    return pd.DataFrame(
        {
            "prompt_id": np.repeat(prompts["prompt_id"].to_numpy(), len(temperatures)),
            "temperature": np.tile(np.array(temperatures, dtype=float), len(prompts)),
            "probabilities": probabilities,
            "off_scale": rest[:, 0],
            "no_number": rest[:, 1],
            "unexpanded": rest[:, 2],
            "taken": taken[asked.of_row].ravel(),
        }
    )
