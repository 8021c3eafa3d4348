"""Labels as a tokenizer spells them, and as they are found in a text.

Belongs here: what a vocabulary entry does to a label that is being written, and reading a label off a
text. Not here: the entries' bytes (`vocabulary.py`), probabilities (`sampling.py`), numbers (`numbers.py`).

A text answers with a label when, stripped of white space, it begins with it, in exactly these
letters; of several such labels the longest counts. Labels are matched byte by byte, so that a letter
that a tokenizer cuts into bytes is found too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evsim_assets.specs.errors import BadInput

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NO_LABEL = -1
"""The outcome of a text that begins with no label."""

_WHITE_SPACE = "".join(filter(str.isspace, map(chr, range(sys.maxunicode + 1))))  # what str.strip takes off


def first_label(text: str, labels: Sequence[str]) -> int | None:
    """The index of the label that the text answers with (see above); None without one."""
    begins = text.strip()
    found = [at for at, label in enumerate(labels) if begins.startswith(label.strip())]
    return max(found, key=lambda at: len(labels[at].strip())) if found else None


@dataclass(frozen=True)
class Onward:
    """The tokens (c,) that go on with a label, or end it by completing another one, from some state.

    `state`: behind each; `outcome`: the label found if the text ends there, or NO_LABEL; `open`:
    whether what follows may change that. Every other token leaves the state's own outcome for certain.
    """

    token: Ints
    state: Ints
    outcome: Ints
    open: Bools


class LabelTree:
    """The beginnings of labels, one tree for every set of labels; a state is a node of some tree.

    Blanks lead from a root to itself, since they are stripped.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """`pieces`: the bytes of each vocabulary entry, none for entries without text."""
        self._pieces = pieces
        self._beginning: dict[int, list[int]] = {}  # first byte: tokens
        for token, piece in enumerate(pieces):
            if piece:
                self._beginning.setdefault(piece[0], []).append(token)
        self._child: list[dict[int, int]] = []  # of each state, by byte
        self._found: list[int] = []  # the longest label that each state begins with
        self._roots: dict[tuple[str, ...], int] = {}
        self._onward: dict[int, Onward] = {}

    def root(self, labels: tuple[str, ...]) -> int:
        """The state before anything is written of these labels. Raises BadInput where two are the same."""
        if labels not in self._roots:
            root = self._roots[labels] = self._new(NO_LABEL)
            for blank in _WHITE_SPACE:
                *begin, last = blank.encode()
                self._child[self._walked(root, bytes(begin))][last] = root
            spelled = [label.strip().encode() for label in labels]
            if len(set(spelled)) < len(spelled) or not all(spelled):
                raise BadInput("two labels are the same, or one is empty", field="labels", value=labels)
            # The shorter first: what a longer label adds then begins with the shorter one.
            for at in sorted(range(len(labels)), key=lambda at: len(spelled[at])):
                self._found[self._walked(root, spelled[at])] = at
        return self._roots[labels]

    def found(self, state: int) -> int:
        """The label that a text in this state answers with if it ends, or NO_LABEL."""
        return self._found[state]

    def onward(self, state: int) -> Onward:
        """What may follow in this state; found out once."""
        if state not in self._onward:
            steps = [
                (token, *step)
                for first in self._child[state]
                for token in self._beginning.get(first, ())
                if (step := self._step(state, self._pieces[token])) is not None
            ]
            token, behind, outcome, open_ = np.array(sorted(steps), dtype=np.int64).reshape(-1, 4).T
            self._onward[state] = Onward(token, behind, outcome, open_.astype(bool))
        return self._onward[state]

    def _step(self, state: int, piece: bytes) -> tuple[int, int, int] | None:
        """State, outcome and whether it is open behind `piece`; None where nothing changes by it."""
        at = state
        for byte in piece:
            after = self._child[at].get(byte)
            if after is None:  # no label goes on like this: the longest one so far counts
                return None if self._found[at] == self._found[state] else (at, self._found[at], 0)
            at = after
        return at, self._found[at], int(bool(self._child[at]))

    def _new(self, found: int) -> int:
        self._child.append({})
        self._found.append(found)
        return len(self._child) - 1

    def _walked(self, state: int, piece: bytes) -> int:
        """The state behind `piece`, made where there is none."""
        for byte in piece:
            if byte not in self._child[state]:
                self._child[state][byte] = self._new(self._found[state])
            state = self._child[state][byte]
        return state
