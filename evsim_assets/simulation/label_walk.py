"""What a token does to a label that a model is writing, for `answer_walk.py`.

Belongs here: the division of a node's mass among labels. Not here: how labels are matched
(`labels.py`), which continuations are read (`answer_walk.py`). Imports torch; import this module inside
functions.

A label is certain where the text goes on as no longer label does, or may not grow any longer. Labels are
always followed, so blanks before one count as its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evsim_assets.simulation.answer_walk import FREE, NO_ANSWER, Ints, Level, Shares, Steps, Stops, joined
from evsim_assets.simulation.labels import NO_LABEL, LabelTree


class LabelAnswers:
    """The labels of every prompt (none for prompts of another kind); a state is one of `tree`."""

    def __init__(self, tree: LabelTree, labels: Sequence[tuple[str, ...]]) -> None:
        self._tree = tree
        self._root = np.array([tree.root(of_one) if of_one else -1 for of_one in labels], dtype=np.int64)

    def begin(self, prompt: Ints) -> Ints:
        """Nothing written."""
        return self._root[prompt]

    def excluded(self, following: int) -> Ints:
        """What goes on from a state: `next` is 1 + the state (0 is FREE)."""
        return self._tree.onward(following - 1).token

    def choices(self, state: Ints) -> int:
        """As `Answers.choices`."""
        return max(len(self._tree.onward(one).token) for one in np.unique(state).tolist())

    def divide(self, prompt: Ints, level: Level, shares: Shares) -> tuple[Stops, Steps]:
        """As `Answers.divide`; nodes of one state are divided together."""
        stopped = np.zeros_like(level.mass)
        outcome = np.empty(len(level.nodes), dtype=np.int64)
        parts: list[Steps] = []
        for state in np.unique(level.state).tolist():
            nodes = np.flatnonzero(level.state == state)
            onward = self._tree.onward(state)
            p = shares(nodes, onward.token)
            stopped[nodes] = level.mass[nodes] * np.clip(1 - p.sum(-1), 0, None)
            outcome[nodes] = self._tree.found(state)
            mass = level.mass[nodes][:, :, None] * p
            at, column = np.nonzero(mass.max(1) > 0)
            parts.append(
                Steps(
                    nodes[at],
                    onward.token[column],
                    onward.state[column],
                    np.ones(len(at), dtype=bool),
                    _coded(onward.outcome[column]),
                    onward.open[column],
                    np.zeros(len(at), dtype=bool),
                    np.ones(len(at), dtype=bool),
                    mass[at, :, column],
                )
            )
        return Stops(_coded(outcome), FREE + 1 + level.state, stopped), joined(parts)


def _coded(found: Ints) -> Ints:
    return np.where(found == NO_LABEL, NO_ANSWER, found)
