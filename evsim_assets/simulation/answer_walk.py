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

BEFORE = 0.125
"""Share of the tolerance, and of WIDEST, that is meant for texts in which no answer has begun: blanks and
signs. They are chosen first and by themselves, so that what is found of them, and with it every way to write
no answer, is the same whether or not numbers are followed."""

CELLS = 2**21
"""Numbers in one table (nodes, temperatures, tokens) of what may follow: 16 MiB, of which there are a few."""

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

    `state`: behind the token. `begun`: whether an answer has begun there. `outcome`: if the text ends there,
    and for certain unless `open`; `taken`: whether it is taken to end there all the same (but not for greedy
    answers). `followed`: whether anybody needs what lies below. `mass`: (m, T).
    """

    parent: Ints
    token: Ints
    state: Ints
    begun: Bools
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

    def choices(self, state: Ints) -> int:
        """How many tokens go on with an answer from one of these states, at most."""

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

    def take(self, chosen: Ints) -> Outcomes:
        """The ends numbered `chosen`."""
        prompt, outcome, mass = self.prompt[chosen], self.outcome[chosen], self.mass[chosen]
        return Outcomes(prompt, outcome, mass, self.path[chosen], self.next[chosen], self.taken)


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
    unread = np.zeros((2, len(read.prompt), len(walk.temperatures)))
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
    """Divide each node's mass among its next tokens, settle what is certain then, and return the rest.

    `logits` (n, V): behind the level's nodes. Of up to a thousand tokens that go on with a number few leave
    it open, so the steps of some nodes are settled before those of the next are made.
    """
    n = len(level.nodes)
    size = max(1, CELLS // max(1, answers.choices(level.state) * len(walk.temperatures)))
    found = []
    for start in range(0, max(n, 1), size):
        some = np.arange(start, min(start + size, n))
        of_some = Level(level.nodes.take(some), level.state[some], level.mass[some])
        prompt = read.prompt[of_some.nodes.row]
        shares = _shares(of_some.mass, logits[start : start + size], walk)
        stops, steps = answers.divide(prompt, of_some, shares)
        settle(Outcomes(prompt, stops.outcome, stops.mass, of_some.nodes.path, stops.next))
        steps = _open(read, of_some, steps, walk, settle)
        found.append(replace(steps, parent=steps.parent + start))
    return joined(found)


def _shares(mass: Floats, logits: torch.Tensor, walk: Walk) -> Shares:
    """The probabilities behind nodes of `mass` (n, T) and with `logits` (n, V); 0 where there is no mass."""

    def shares(chosen: Ints, tokens: Ints) -> Floats:
        columns = torch.from_numpy(tokens).to(logits.device)
        p = np.zeros((len(chosen), mass.shape[1], len(tokens)))
        alive = mass[chosen] > 0
        for pattern in np.unique(alive, axis=0):
            rows, at = np.flatnonzero((alive == pattern).all(1)), np.flatnonzero(pattern)
            some = [walk.temperatures[t] for t in at.tolist()]
            behind = None if len(rows) == len(logits) else torch.from_numpy(chosen[rows]).to(logits.device)
            of_rows = token_probabilities(logits, columns, some, walk.decoding, behind)
            p[np.ix_(rows, at)] = of_rows.cpu().numpy()
        return p

    return shares


def joined(parts: Sequence[Steps]) -> Steps:
    """All steps of at least one part, ascending by parent."""
    order = np.argsort(np.concatenate([part.parent for part in parts]), kind="stable")
    columns = [[getattr(part, field.name) for part in parts] for field in fields(Steps)]
    return Steps(*(np.concatenate(column)[order] for column in columns))


def _picked(logits: torch.Tensor, chosen: Ints) -> torch.Tensor:
    """The rows `chosen` (ascending) of `logits`."""
    return logits if len(chosen) == len(logits) else logits[torch.from_numpy(chosen).to(logits.device)]


def _open(read: Read, level: Level, steps: Steps, walk: Walk, settle: Settle) -> Steps:
    """Settle the steps whose fate is certain, or taken to be; return the others."""
    limit = walk.limit[read.prompt[level.nodes.row]]
    open_ = steps.open & (level.nodes.path.shape[1] + 1 < limit[steps.parent])
    _settle(read, level, steps.take(np.flatnonzero(~open_)), settle)
    steps = steps.take(np.flatnonzero(open_))
    taken = steps.taken[:, None] & (np.array(walk.temperatures) > 0)
    _settle(read, level, replace(steps, mass=np.where(taken, steps.mass, 0)), settle, taken=True)
    steps = replace(steps, mass=np.where(taken, 0, steps.mass))
    return steps.take(np.flatnonzero(steps.mass.max(1, initial=0) > 0))


def _settle(read: Read, level: Level, steps: Steps, settle: Settle, *, taken: bool = False) -> None:
    """Settle the steps that have a mass, as their `outcome` says."""
    steps = steps.take(np.flatnonzero(steps.mass.max(1, initial=0) > 0))
    prompt, path = _behind(read, level, steps)
    settle(Outcomes(prompt, steps.outcome, steps.mass, path, np.full(len(prompt), FREE), taken))


def _behind(read: Read, level: Level, steps: Steps) -> tuple[Ints, Ints]:
    """Each step's prompt (m,), and its path (m, t + 1)."""
    path = np.concatenate([level.nodes.path[steps.parent], steps.token[:, None]], 1)
    return read.prompt[level.nodes.row[steps.parent]], path


def _worth_reading(
    read: Read, level: Level, steps: Steps, walk: Walk, settle: Settle, unread: Floats
) -> Steps:
    """Settle the steps that are too unlikely to be read; return the others.

    `unread` (2, R, T): what so far was left unread of each prompt for its tolerance, before an answer had
    begun and behind; this level's is added. Behind t tokens both together are at most 1 − 2⁻ᵗ of the
    tolerance, so that something is left for the levels below. What stands before an answer is chosen first,
    and nothing behind matters to it.
    """
    row, t = level.nodes.row[steps.parent], level.nodes.path.shape[1] + 1
    allowed = walk.tolerance[read.prompt, None] * (1 - 0.5**t)
    widest = np.full(unread[0].shape, WIDEST)
    left = np.zeros(steps.mass.shape, dtype=bool)
    for begun in (0, 1):
        those = np.flatnonzero(steps.begun == begun)
        share = 1 if begun else BEFORE
        of_row, mass = row[those], steps.mass[those]
        spent = unread[: begun + 1].sum(0)
        negligible, too_many = _negligible(of_row, mass, share * allowed - spent, share * widest)
        np.add.at(unread[begun], of_row, np.where(negligible, mass, 0))
        left[those] = negligible | too_many
        np.subtract.at(widest, of_row, (mass > 0) & ~left[those])
    lost = np.full(len(row), UNEXPANDED)
    _settle(read, level, replace(steps, outcome=lost, mass=np.where(left, steps.mass, 0)), settle)
    likely = np.where(left, 0, steps.mass)
    chosen = np.flatnonzero((likely.max(1, initial=0) > 0) & steps.followed)
    return replace(steps.take(chosen), mass=likely[chosen])


def _negligible(row: Ints, mass: Floats, allowed: Floats, widest: Floats) -> tuple[Bools, Bools]:
    """Bool (m, T) twice: of every row and temperature the smallest masses, together at most what is `allowed`
    (R, T), and those behind the `widest` (R, T) largest. `row` (m,) ascends; `mass` (m, T)."""
    negligible, too_many = np.zeros((2, *mass.shape), dtype=bool)
    first, behind = np.searchsorted(row, row), np.searchsorted(row, row, side="right")
    for t in range(mass.shape[1]):
        order = np.lexsort((mass[:, t], row))
        total = np.cumsum(mass[order, t])
        so_far = total - np.concatenate([[0.0], total])[first]
        limit = allowed[row, t]
        negligible[order, t] = (so_far <= limit) & (limit > 0)
        too_many[order, t] = np.arange(len(row)) < behind - widest[row, t]
    return negligible, too_many
