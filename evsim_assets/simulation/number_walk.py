"""Walks every spelling of every number that a model might answer a prompt with, as far as needed.

Belongs here: which continuations are worth reading, and what becomes of each one's probability. Not
here: forward passes (`reading.py`), tables (`distributions.py`, `generations.py`). Imports torch;
import this module inside functions.

A text begins with a number when it begins with blanks and then a digit. The walk keeps, for each
node (a path of tokens), the value written so far and the path's probability at every temperature:
Π p_T(token | path). A number ends where the next token does not begin with a digit, where its
last token already holds something else ("5,"), or where the text may not grow any longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evsim_assets.simulation import reading
from evsim_assets.simulation.numbers import NO_DIGIT, NumberTokens, may_grow_into_answer, on_scale
from evsim_assets.simulation.sampling import token_probabilities
from evsim_assets.specs.study import Decoding

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

OFF_SCALE, NO_NUMBER, UNEXPANDED = -3, -2, -1
"""Outcomes other than an answer's index; as indices they are the last three columns of a table."""

FREE, NO_NUMBER_NEXT, NO_DIGIT_NEXT = 0, 1, 2
"""What may follow an outcome's path: anything; no blank and no number; nothing that extends it."""


@dataclass(frozen=True)
class Scales:
    """The scale of every prompt, int64 (P,) each."""

    low: Ints
    high: Ints
    step: Ints

    def of(self, prompt: Ints) -> tuple[Ints, Ints, Ints]:
        """Low, high and step of each of the numbered prompts."""
        return self.low[prompt], self.high[prompt], self.step[prompt]


@dataclass(frozen=True)
class Outcomes:
    """m ends of the walk. `prompt`, `outcome` (an answer's index, or a code above), `next`: (m,).

    `mass`: (m, T). `path`: the tokens (m, t) after which the outcome is certain, given that what
    follows obeys `next`.
    """

    prompt: Ints
    outcome: Ints
    mass: Floats
    path: Ints
    next: Ints


@dataclass(frozen=True)
class Walk:
    """How to walk: the tokens' meaning, the scales, the temperatures (T), limits and tolerance.

    A node is read for the temperatures at which its mass exceeds `tolerance`; at the others its mass
    is unexpanded, so that what is found at a temperature does not depend on the others asked for.
    With `within_numbers` (bool, one a prompt) numbers are followed only for the prompts that ask for it.
    """

    numbers: NumberTokens
    scales: Scales
    temperatures: Sequence[float]
    decoding: Decoding
    tolerance: float
    batch_tokens: int
    within_numbers: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Level:
    """Nodes with the value written so far (n,) and their mass (n, T)."""

    nodes: reading.Nodes
    value: Ints
    mass: Floats


def walk_numbers(
    model: Any,
    rows: reading.Rows,
    roots: reading.Nodes,
    logits: torch.Tensor,
    walk: Walk,
    settle: Callable[[Outcomes], None],
) -> int:
    """Hand every outcome of every prompt in `rows` to `settle`; returns how many nodes were read."""
    n = len(roots)
    level = _Level(roots, np.full(n, NO_DIGIT), np.ones((n, len(walk.temperatures))))
    return _descend(model, rows, _branch(rows, level, logits, walk, settle), walk, settle, keep=True)


def _descend(
    model: Any,
    rows: reading.Rows,
    level: _Level,
    walk: Walk,
    settle: Callable[[Outcomes], None],
    *,
    keep: bool,
) -> int:
    """Read the nodes of `level` part by part, and everything below each part; how many were read.

    `keep`: whether the caller still needs the cache of `rows` as it is.
    """
    read = len(level.nodes)
    for part_rows, nodes, chosen in reading.split(rows, level.nodes, walk.batch_tokens, keep=keep):
        nodes, logits = reading.feed(model, part_rows, nodes)
        part = _Level(nodes, level.value[chosen], level.mass[chosen])
        below = _branch(part_rows, part, logits, walk, settle)
        read += _descend(model, part_rows, below, walk, settle, keep=False)
    return read


def _branch(
    rows: reading.Rows, level: _Level, logits: torch.Tensor, walk: Walk, settle: Callable[[Outcomes], None]
) -> _Level:
    """Divide each node's mass among its next tokens; the children that must be read are returned."""
    numbers, inside = walk.numbers, level.value != NO_DIGIT
    tokens = torch.from_numpy(numbers.columns).to(logits.device)
    p = np.zeros((*level.mass.shape, len(tokens)))
    for t, temperature in enumerate(walk.temperatures):
        alive = np.flatnonzero(level.mass[:, t])
        some = logits if len(alive) == len(level.nodes) else logits[torch.from_numpy(alive).to(logits.device)]
        p[alive, t] = token_probabilities(some, tokens, temperature, walk.decoding).cpu().numpy()
    goes_on = np.concatenate([np.zeros(len(numbers.blank), bool), numbers.extends])
    p *= np.where(inside[:, None], goes_on, True)[:, None, :]  # other tokens end the number
    prompt = rows.prompt[level.nodes.row]
    stops = level.mass * np.clip(1 - p.sum(-1), 0, None)
    settle(_stopped(prompt, level, stops, walk))
    mass = level.mass[:, :, None] * p
    parent, column = np.nonzero(mass.max(1) > 0)
    return _children(prompt, level, parent, column, mass[parent, :, column], walk, settle)


def _stopped(prompt: Ints, level: _Level, mass: Floats, walk: Walk) -> Outcomes:
    """The outcome where the next token neither begins nor continues a number."""
    inside = level.value != NO_DIGIT
    outcome = np.where(inside, _answer(prompt, level.value, walk.scales), NO_NUMBER)
    return Outcomes(prompt, outcome, mass, level.nodes.path, np.where(inside, NO_DIGIT_NEXT, NO_NUMBER_NEXT))


def _children(
    prompt: Ints,
    level: _Level,
    parent: Ints,
    column: Ints,
    mass: Floats,
    walk: Walk,
    settle: Callable[[Outcomes], None],
) -> _Level:
    """Settle the children whose fate is certain, or too unlikely to read; return the others."""
    numbers, last = walk.numbers, level.nodes.path.shape[1] + 1 == walk.decoding.max_new_tokens
    prompt, before = prompt[parent], level.value[parent]
    is_digit = column >= len(numbers.blank)
    digit = np.maximum(column - len(numbers.blank), 0)
    value = np.where(is_digit, np.maximum(before, 0) * numbers.shift[digit] + numbers.value[digit], NO_DIGIT)
    outcome = np.where(is_digit, _answer(prompt, value, walk.scales), NO_NUMBER)
    open_ = is_digit & ~numbers.closes[digit]
    open_ &= (outcome >= 0) | may_grow_into_answer(value, *walk.scales.of(prompt))
    open_ = (open_ | ~is_digit) & (not last)
    outcome[open_] = UNEXPANDED
    path = np.concatenate([level.nodes.path[parent], numbers.columns[column][:, None]], 1)
    likely = np.where(open_[:, None] & (mass > walk.tolerance), mass, 0)
    mass = mass - likely
    done = mass.max(1, initial=0) > 0
    settle(Outcomes(prompt[done], outcome[done], mass[done], path[done], np.full(int(done.sum()), FREE)))
    read = likely.max(1, initial=0) > 0
    if walk.within_numbers is not None:
        read &= ~is_digit | walk.within_numbers[prompt]
    nodes = reading.take(level.nodes, parent[read])
    return _Level(reading.Nodes(nodes.row, path[read], nodes.allowed), value[read], likely[read])


def _answer(prompt: Ints, value: Ints, scales: Scales) -> Ints:
    """The index of `value` on its prompt's scale, or OFF_SCALE."""
    low, high, step = scales.of(prompt)
    return np.where(on_scale(value, low, high, step), (value - low) // step, OFF_SCALE)
