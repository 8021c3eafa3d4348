"""Token sequences that begin alike, as one tree in depth-first order.

Belongs here: the arrays of a tree; node i attends to j exactly when j <= i < end[j]. Not here: tensors
(`batch.py`), what an edge is worth in a loss (`losses.py`), what any token means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

Layout = Literal["tree", "packed", "padded"]
"""tree: every node once, with evsim's attention. packed: every full text one after the other in one row,
kept apart by transformers. padded: every full text in a row of its own."""


@dataclass(frozen=True)
class TokenTree:
    """A forest of n tokens in depth-first order (a node before its children, subtrees contiguous).

    All four are int64 of shape (n,). `token`: token id. `depth`: 0 at a root, and the position id.
    `parent`: index of the parent, −1 at a root. `end`: one past the last index of the subtree.
    """

    token: Indices
    depth: Indices
    parent: Indices
    end: Indices

    def __len__(self) -> int:
        return len(self.token)

    @cached_property
    def branch_starts(self) -> Indices:
        """The nodes, ascending, that are not the only child of the node before them."""
        above = np.arange(-1, len(self) - 1)
        only = (self.parent >= 0) & (self.parent == above) & (self.end == self.end[above])
        return np.flatnonzero(~only)

    @cached_property
    def run_starts(self) -> Indices:
        """The nodes, ascending, whose parent is not the node before them: every path from a root is made of
        pieces that each begin at such a node and lie side by side."""
        return np.flatnonzero((self.parent < 0) | (self.parent != np.arange(-1, len(self) - 1)))

    def path(self, node: int) -> Indices:
        """The nodes from the root down to `node`, both included: int64 (depth + 1,)."""
        path = np.empty(int(self.depth[node]) + 1, dtype=np.int64)
        stop = len(path)
        while node >= 0:
            first = int(self.run_starts[np.searchsorted(self.run_starts, node, side="right") - 1])
            path[stop - (node - first + 1) : stop] = np.arange(first, node + 1)
            stop -= node - first + 1
            node = int(self.parent[first])
        return path


def joined(trees: Sequence[TokenTree]) -> TokenTree:
    """One forest of all `trees`, in their order."""
    offsets = np.cumsum([0, *(len(tree) for tree in trees)])
    return TokenTree(
        np.concatenate([tree.token for tree in trees]),
        np.concatenate([tree.depth for tree in trees]),
        np.concatenate(
            [
                np.where(tree.parent < 0, -1, tree.parent + offset)
                for tree, offset in zip(trees, offsets[:-1], strict=True)
            ]
        ),
        np.concatenate([tree.end + offset for tree, offset in zip(trees, offsets[:-1], strict=True)]),
    )


def build_tree(sequences: Sequence[Sequence[int]]) -> tuple[TokenTree, list[Indices]]:
    """The trie of `sequences`, and the node of every token of every sequence.

    Children stand in the order in which the sequences first need them. Two equal sequences share
    all nodes. The second result holds one int64 array per sequence, of that sequence's length.
    """
    token, parent, paths = _insert_all(sequences)
    n = len(token)
    size = [1] * n
    for node in range(n - 1, -1, -1):  # a node is created after its parent
        if parent[node] >= 0:
            size[parent[node]] += size[node]
    place, depth = [0] * n, [0] * n
    free = [0] * n  # where the next child of a node goes
    free_root = 0
    for node in range(n):
        above = parent[node]
        if above < 0:
            place[node], free_root = free_root, free_root + size[node]
        else:
            place[node], depth[node] = free[above], depth[above] + 1
            free[above] += size[node]
        free[node] = place[node] + 1
    to_place = np.array(place, dtype=np.int64)
    created_parent = np.array(parent, dtype=np.int64)
    tree = TokenTree(*(np.empty(n, dtype=np.int64) for _ in range(4)))
    tree.token[to_place] = np.array(token, dtype=np.int64)
    tree.depth[to_place] = np.array(depth, dtype=np.int64)
    if n:
        tree.parent[to_place] = np.where(created_parent < 0, -1, to_place[created_parent])
    tree.end[to_place] = to_place + np.array(size, dtype=np.int64)
    return tree, [to_place[np.array(path, dtype=np.int64)] for path in paths]


def _insert_all(sequences: Sequence[Sequence[int]]) -> tuple[list[int], list[int], list[list[int]]]:
    """Token and parent of every trie node in the order of creation, and each sequence's nodes."""
    token: list[int] = []
    parent: list[int] = []
    child: dict[tuple[int, int], int] = {}
    paths: list[list[int]] = []
    previous: Sequence[int] = ()
    for sequence in sequences:
        shared = _shared_length(previous, sequence)
        path = paths[-1][:shared] if shared else []
        node = path[-1] if path else -1
        for word in sequence[shared:]:
            key = (node, int(word))
            found = child.get(key)
            if found is None:
                found = child[key] = len(token)
                token.append(key[1])
                parent.append(node)
            node = found
            path.append(node)
        paths.append(path)
        previous = sequence
    return token, parent, paths


def _shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with. Comparing is cheaper than walking the trie again."""
    length = min(len(one), len(other))
    for i in range(length):
        if one[i] != other[i]:
            return i
    return length
