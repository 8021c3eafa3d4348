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
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from evsim_assets.simulation import reading
from evsim_assets.simulation.sampling import token_probabilities
from evsim_assets.specs.study import Decoding

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

OFF_SCALE, NO_ANSWER, UNEXPANDED = -3, -2, -1
"""Outcomes other than an answer's index; as indices they are the last three columns of a table."""

FREE = 0
"""Anything may follow an outcome's path. Other codes of `next` belong to the kind of answer."""

Shares = Callable[[Ints, Ints], Floats]
"""Given k nodes of a level and C tokens: the tokens' probabilities behind each node, (k, T, C)."""


@dataclass(frozen=True)
class Level:
    """n nodes with the state of what is written so far (n,) and their mass (n, T)."""

    nodes: reading.Nodes
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

    `state`: behind the token. `outcome`: if the text ends there, and for certain unless `open`.
    `followed`: whether anybody needs what lies below. `mass`: (m, T).
    """

    parent: Ints
    token: Ints
    state: Ints
    outcome: Ints
    open: Bools
    followed: Bools
    mass: Floats


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
    follows obeys `next`.
    """

    prompt: Ints
    outcome: Ints
    mass: Floats
    path: Ints
    next: Ints


@dataclass(frozen=True)
class Walk:
    """How to walk: the kinds of answers, and which one (`kind`) and how many tokens (`limit`) each
    prompt has, (P,) both; the tokens without text (`silent`, bool (V,)); the temperatures (T).

    A node is read for the temperatures at which its mass exceeds `tolerance`; at the others its mass
    is unexpanded, so that what is found at a temperature does not depend on the others asked for.
    """

    kinds: Sequence[Answers]
    kind: Ints
    limit: Ints
    silent: Bools
    temperatures: Sequence[float]
    decoding: Decoding
    tolerance: float
    batch_tokens: int


Settle = Callable[[Outcomes], None]


def walk_answers(
    model: object,
    rows: reading.Rows,
    roots: reading.Nodes,
    logits: torch.Tensor,
    walk: Walk,
    settle: Settle,
) -> int:
    """Hand every outcome of every prompt in `rows` to `settle`; returns how many nodes were read."""
    read = 0
    kind = walk.kind[rows.prompt[roots.row]]
    for number, answers in enumerate(walk.kinds):
        chosen = np.flatnonzero(kind == number)
        if not len(chosen):
            continue
        nodes = roots if len(chosen) == len(roots) else reading.take(roots, chosen)
        prompt = rows.prompt[nodes.row]
        level = Level(nodes, answers.begin(prompt), np.ones((len(nodes), len(walk.temperatures))))
        of_kind = _picked(logits, chosen)
        below = _branch(rows, level, of_kind, answers, walk, settle)
        read += _descend(model, rows, below, answers, walk, settle, keep=True)
    return read


def _descend(
    model: object,
    rows: reading.Rows,
    level: Level,
    answers: Answers,
    walk: Walk,
    settle: Settle,
    *,
    keep: bool,
) -> int:
    """Read the nodes of `level` part by part, and everything below each part; how many were read.

    `keep`: whether the caller still needs the cache of `rows` as it is.
    """
    read = len(level.nodes)
    for part_rows, nodes, chosen in reading.split(rows, level.nodes, walk.batch_tokens, keep=keep):
        nodes, logits = reading.feed(model, part_rows, nodes)
        part = Level(nodes, level.state[chosen], level.mass[chosen])
        below = _branch(part_rows, part, logits, answers, walk, settle)
        read += _descend(model, part_rows, below, answers, walk, settle, keep=False)
    return read


def _branch(
    rows: reading.Rows, level: Level, logits: torch.Tensor, answers: Answers, walk: Walk, settle: Settle
) -> Level:
    """Divide each node's mass among its next tokens; the children that must be read are returned."""

    def shares(chosen: Ints, tokens: Ints) -> Floats:
        columns = torch.from_numpy(tokens).to(logits.device)
        p = np.zeros((len(chosen), level.mass.shape[1], len(tokens)))
        for t, temperature in enumerate(walk.temperatures):
            alive = np.flatnonzero(level.mass[chosen, t])
            some = _picked(logits, chosen[alive])
            p[alive, t] = token_probabilities(some, columns, temperature, walk.decoding).cpu().numpy()
        return p

    prompt = rows.prompt[level.nodes.row]
    stops, steps = answers.divide(prompt, level, shares)
    settle(Outcomes(prompt, stops.outcome, stops.mass, level.nodes.path, stops.next))
    return _children(prompt, level, steps, walk, settle)


def _picked(logits: torch.Tensor, chosen: Ints) -> torch.Tensor:
    """The rows `chosen` (ascending) of `logits`."""
    return logits if len(chosen) == len(logits) else logits[torch.from_numpy(chosen).to(logits.device)]


def _children(prompt: Ints, level: Level, steps: Steps, walk: Walk, settle: Settle) -> Level:
    """Settle the children whose fate is certain, or too unlikely to read; return the others."""
    prompt = prompt[steps.parent]
    path = np.concatenate([level.nodes.path[steps.parent], steps.token[:, None]], 1)
    open_ = steps.open & (path.shape[1] < walk.limit[prompt])
    outcome = np.where(open_, UNEXPANDED, steps.outcome)
    likely = np.where(open_[:, None] & (steps.mass > walk.tolerance), steps.mass, 0)
    mass = steps.mass - likely
    done = mass.max(1, initial=0) > 0
    settle(Outcomes(prompt[done], outcome[done], mass[done], path[done], np.full(int(done.sum()), FREE)))
    read = (likely.max(1, initial=0) > 0) & steps.followed
    nodes = reading.take(level.nodes, steps.parent[read])
    return Level(reading.Nodes(nodes.row, path[read], nodes.allowed), steps.state[read], likely[read])
