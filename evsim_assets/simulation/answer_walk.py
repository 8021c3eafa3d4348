"""Walks every spelling of every answer that a model might give to a prompt, as far as needed.

Belongs here: which continuations are worth reading, and what becomes of each one's probability. Not
here: what a token does to a number (`number_walk.py`) or to a label (`label_walk.py`), forward passes
(`reading.py`), tables (`distributions.py`, `generations.py`). Imports torch; import this module inside
functions.

The walk keeps, for each node (a path of tokens), what is written so far, as a state of its kind of
answer, and the path's probability at every temperature: Π p_T(token | path).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from evsim_assets.simulation.reading import Nodes, Read
from evsim_assets.simulation.sampling import token_probabilities
from evsim_assets.specs.study import Decoding
from evsim_assets.token_tree.growth import Remembered

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

OFF_SCALE, NO_ANSWER, UNEXPANDED = -3, -2, -1
"""Outcomes other than an answer's index; as indices they are the last three columns of a table."""

WIDEST = 1024
"""Most continuations of a prompt that are read in one level, at one temperature; the likeliest."""

FREE = 0
"""Anything may follow an outcome's path. Other codes of `next` belong to the kind of answer."""

Shares = Callable[[Ints, Ints], Floats]
"""Given k nodes of a level and C tokens: the tokens' probabilities behind each node, (k, T, C)."""


@dataclass(frozen=True)
class Level:
    """n nodes with the state of what is written so far (n,) and their mass (n, T)."""

    nodes: Nodes
    state: Ints
    mass: Floats


@dataclass(frozen=True)
class Stops:
    """What each of n nodes is worth where no token follows that goes on with the answer.

    `outcome`: an answer's index, or a code above; `next`: which tokens that excludes; `mass`: (n, T).
    """

    outcome: Ints
    next: Ints
    mass: Floats


@dataclass(frozen=True)
class Steps:
    """m nodes followed by a token that goes on with the answer; ascending by `parent`.

    `state`: behind the token. `outcome`: if the text ends there, and for certain unless `open`; `taken`:
    whether it is taken to end there all the same (but not for greedy answers). `followed`: whether anybody
    needs what lies below. `mass`: (m, T).
    """

    parent: Ints
    token: Ints
    state: Ints
    outcome: Ints
    open: Bools
    taken: Bools
    followed: Bools
    mass: Floats

    def take(self, chosen: Ints) -> Steps:
        """The steps numbered `chosen`."""
        return Steps(*(getattr(self, field.name)[chosen] for field in fields(self)))


class Answers(Protocol):
    """One kind of answer: numbers or labels."""

    def begin(self, prompt: Ints) -> Ints:
        """The state of the numbered prompts before anything is written."""

    def divide(self, prompt: Ints, level: Level, shares: Shares) -> tuple[Stops, Steps]:
        """Divide each node's mass among the tokens that go on with the answer, and the rest."""

    def excluded(self, following: int) -> Ints:
        """The tokens that a code `next` says do not follow."""


@dataclass(frozen=True)
class Outcomes:
    """m ends of the walk. `prompt`, `outcome` (an answer's index, or a code above), `next`: (m,).

    `mass`: (m, T). `path`: the tokens (m, t) after which the outcome is certain, given that what
    follows obeys `next`; or where it is `taken` to be certain, unread.
    """

    prompt: Ints
    outcome: Ints
    mass: Floats
    path: Ints
    next: Ints
    taken: bool = False


@dataclass(frozen=True)
class Walk:
    """How to walk: the kinds of answers, and which one (`kind`) and how many tokens (`limit`) each
    prompt has, (P,) both; the tokens without text (`silent`, bool (V,)); the temperatures (T).

    `tolerance` (P,): how much of a prompt's distribution is left unexpanded at most (or more, where that
    would take more than WIDEST continuations), at every temperature by itself, so that what is found at one
    does not depend on the others asked for. `at_once`: nodes in one forward pass.
    """

    kinds: Sequence[Answers]
    kind: Ints
    limit: Ints
    silent: Bools
    temperatures: Sequence[float]
    decoding: Decoding
    tolerance: Floats
    at_once: int


Settle = Callable[[Outcomes], None]


def walk_answers(read: Read, logits: torch.Tensor, walk: Walk, settle: Settle) -> int:
    """Hand every outcome of every prompt to `settle`; returns how many continuations were read.

    `logits` (R, V): behind the prompts of `read`.
    """
    count = 0
    kind = walk.kind[read.prompt]
    for number, answers in enumerate(walk.kinds):
        chosen = np.flatnonzero(kind == number)
        if not len(chosen):
            continue
        mass = np.ones((len(chosen), len(walk.temperatures)))
        level = Level(read.roots.take(chosen), answers.begin(read.prompt[chosen]), mass)
        steps = _divided(read, level, _picked(logits, chosen), answers, walk, settle)
        count += _descend(read, level, steps, answers, walk, settle)
    return count


def _descend(read: Read, level: Level, steps: Steps, answers: Answers, walk: Walk, settle: Settle) -> int:
    """Read what lies below `level`, level by level; how many continuations were read."""
    count = 0
    fed: list[Remembered] = []
    unread = np.zeros((len(read.prompt), len(walk.temperatures)))
    while True:
        steps = _worth_reading(read, level, steps, walk, settle, unread)
        if not len(steps.parent):
            return count
        read, nodes = read.below(fed, level.nodes, steps.parent, steps.token)
        level = Level(nodes, steps.state, steps.mass)
        count += len(nodes)
        fed, found = [], []
        for part in read.parts(nodes, walk.at_once):
            left, logits = read.feed(nodes.take(part))
            of_part = Level(nodes.take(part), level.state[part], level.mass[part])
            steps = _divided(read, of_part, logits, answers, walk, settle)
            fed.append(left)
            found.append(replace(steps, parent=steps.parent + part[0]))
        steps = joined(found)


def _divided(
    read: Read, level: Level, logits: torch.Tensor, answers: Answers, walk: Walk, settle: Settle
) -> Steps:
    """Divide each node's mass among its next tokens, and settle what does not go on with an answer.

    `logits` (n, V): behind the level's nodes.
    """

    def shares(chosen: Ints, tokens: Ints) -> Floats:
        columns = torch.from_numpy(tokens).to(logits.device)
        p = np.zeros((len(chosen), level.mass.shape[1], len(tokens)))
        alive = level.mass[chosen] > 0
        for pattern in np.unique(alive, axis=0):
            rows, at = np.flatnonzero((alive == pattern).all(1)), np.flatnonzero(pattern)
            some = [walk.temperatures[t] for t in at.tolist()]
            behind = None if len(rows) == len(logits) else torch.from_numpy(chosen[rows]).to(logits.device)
            of_rows = token_probabilities(logits, columns, some, walk.decoding, behind)
            p[np.ix_(rows, at)] = of_rows.cpu().numpy()
        return p

    prompt = read.prompt[level.nodes.row]
    stops, steps = answers.divide(prompt, level, shares)
    settle(Outcomes(prompt, stops.outcome, stops.mass, level.nodes.path, stops.next))
    return steps


def joined(parts: Sequence[Steps]) -> Steps:
    """All steps of at least one part, ascending by parent."""
    order = np.argsort(np.concatenate([part.parent for part in parts]), kind="stable")
    columns = [[getattr(part, field.name) for part in parts] for field in fields(Steps)]
    return Steps(*(np.concatenate(column)[order] for column in columns))


def _picked(logits: torch.Tensor, chosen: Ints) -> torch.Tensor:
    """The rows `chosen` (ascending) of `logits`."""
    return logits if len(chosen) == len(logits) else logits[torch.from_numpy(chosen).to(logits.device)]


def _worth_reading(
    read: Read, level: Level, steps: Steps, walk: Walk, settle: Settle, unread: Floats
) -> Steps:
    """Settle the steps whose fate is certain, or too unlikely to be read; return the others.

    `unread` (R, T): what so far was left unread of each prompt for its tolerance; this level's is added.
    Behind t tokens it is at most 1 − 2⁻ᵗ of the tolerance, so that something is left for the levels below.
    """
    row = level.nodes.row[steps.parent]
    prompt = read.prompt[row]
    path = np.concatenate([level.nodes.path[steps.parent], steps.token[:, None]], 1)

    def settle_some(mass: Floats, outcome: Ints, *, taken: bool = False) -> None:
        some = np.flatnonzero(mass.max(1, initial=0) > 0)
        free = np.full(len(some), FREE)
        settle(Outcomes(prompt[some], outcome[some], mass[some], path[some], free, taken))

    open_ = steps.open & (path.shape[1] < walk.limit[prompt])
    settle_some(np.where(open_[:, None], 0, steps.mass), steps.outcome)
    likely = np.where(open_[:, None], steps.mass, 0)
    taken = steps.taken[:, None] & (np.array(walk.temperatures) > 0)
    settle_some(np.where(taken, likely, 0), steps.outcome, taken=True)
    likely[taken] = 0
    allowed = walk.tolerance[read.prompt, None] * (1 - 0.5 ** path.shape[1]) - unread
    negligible, too_many = _negligible(row, likely, allowed)
    np.add.at(unread, row, np.where(negligible, likely, 0))
    left = negligible | too_many
    settle_some(np.where(left, likely, 0), np.full(len(row), UNEXPANDED))
    likely[left] = 0
    chosen = np.flatnonzero((likely.max(1, initial=0) > 0) & steps.followed)
    return replace(steps.take(chosen), mass=likely[chosen])


def _negligible(row: Ints, mass: Floats, allowed: Floats) -> tuple[Bools, Bools]:
    """Bool (m, T) twice: of every row and temperature the smallest masses, together at most what is `allowed`
    (R, T), and those behind the WIDEST largest. `row` (m,) ascends; `mass` (m, T)."""
    negligible, too_many = np.zeros((2, *mass.shape), dtype=bool)
    first, behind = np.searchsorted(row, row), np.searchsorted(row, row, side="right")
    for t in range(mass.shape[1]):
        order = np.lexsort((mass[:, t], row))
        total = np.cumsum(mass[order, t])
        so_far = total - np.concatenate([[0.0], total])[first]
        limit = allowed[row, t]
        negligible[order, t] = (so_far <= limit) & (limit > 0)
        too_many[order, t] = np.arange(len(row)) < behind - WIDEST
    return negligible, too_many
