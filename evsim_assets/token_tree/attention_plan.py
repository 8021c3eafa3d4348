"""Which queries meet which keys, so that a tree's attention is a few small dense calls.

Belongs here: cutting a forest into groups of queries that share their ancestors, and putting groups of
like size into one call. Not here: tensors, the attention itself (`attention.py`).

A mask over all n × n pairs of a row would mostly hold pairs that may not meet. A group is a subtree (or
several siblings with all below them) whose keys are its own nodes and its ancestors; a chain above it
is a group of its own. Where to cut is the cheapest choice by the costs below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evsim_assets.token_tree.tree import Indices, TokenTree

KEY_COST, GROUP_COST, CALL_COST = 24.0, 200.0, 4000.0
"""What copying a key, one more group and one more call cost, in pairs of query and key; measured on two
CPU cores at hidden size 512. They decide about speed alone."""


@dataclass(frozen=True)
class Call:
    """G groups, padded to Lq queries and Lk keys. `queries` (G, Lq), `keys` (G, Lk): int64 nodes, −1 is
    padding."""

    queries: Indices
    keys: Indices

    def allowed(self, tree: TokenTree, window: int | None = None) -> npt.NDArray[np.bool_]:
        """(G, Lq, Lk): node i sees node j exactly when j <= i < end[j], and, in layers with a sliding
        window, when its depth is less than `window` below. A padding query sees everything."""
        i, j = self.queries[:, :, None], self.keys[:, None, :]
        sees = (j >= 0) & (j <= i) & (i < tree.end[j])
        if window is not None:
            sees &= tree.depth[i] - tree.depth[j] < window
        return sees | (i < 0)


def plan_calls(tree: TokenTree) -> list[Call]:
    """Calls in which every node of `tree` is a query exactly once, together with all keys it sees."""
    groups = [_Group(start, stop, tree) for start, stop in _cut(tree)]
    groups.sort(key=lambda g: (-g.pairs, g.start))
    calls: list[list[_Group]] = []
    for group in groups:
        if not calls or not _worth_padding(calls[-1], group):
            calls.append([])
        calls[-1].append(group)
    return [_call(tree, call) for call in calls]


class _Group:
    """The queries start … stop − 1, which all have the ancestors of `start`."""

    def __init__(self, start: int, stop: int, tree: TokenTree) -> None:
        self.start, self.stop, self.above = start, stop, int(tree.depth[start])
        self.n_queries, self.n_keys = stop - start, self.above + stop - start

    @property
    def pairs(self) -> int:
        return self.n_queries * self.n_keys

    def keys(self, tree: TokenTree) -> Indices:
        return np.concatenate([tree.path(self.start)[:-1], np.arange(self.start, self.stop)])


def _worth_padding(call: Sequence[_Group], group: _Group) -> bool:
    """Whether `group` is cheaper in this call, padded, than in one of its own."""
    n_queries = max(group.n_queries, *(g.n_queries for g in call))
    n_keys = max(group.n_keys, *(g.n_keys for g in call))
    before = max(g.n_queries for g in call) * max(g.n_keys for g in call) * len(call)
    padded = n_queries * n_keys * (len(call) + 1)
    return padded - before - group.pairs <= CALL_COST


def _call(tree: TokenTree, groups: Sequence[_Group]) -> Call:
    groups = sorted(groups, key=lambda g: g.start)
    queries = np.full((len(groups), max(g.n_queries for g in groups)), -1, dtype=np.int64)
    keys = np.full((len(groups), max(g.n_keys for g in groups)), -1, dtype=np.int64)
    for row, group in enumerate(groups):
        queries[row, : group.n_queries] = np.arange(group.start, group.stop)
        keys[row, : group.n_keys] = group.keys(tree)
    return Call(queries, keys)


def _cut(tree: TokenTree) -> list[tuple[int, int]]:
    """(start, stop) of every group, in order.

    Bottom up over the chains: a subtree is one group, or its first chain is one and what hangs below it
    is cut on, or stays together as one group.
    """
    starts = tree.branch_starts
    stop_of = dict(zip(starts.tolist(), [*starts[1:].tolist(), len(tree)], strict=True))
    children: dict[int, list[int]] = {}
    for start in starts.tolist():
        children.setdefault(int(tree.parent[start]), []).append(start)
    cost: dict[int, float] = {}
    choice: dict[int, str] = {}
    for start in reversed(starts.tolist()):
        above, size = int(tree.depth[start]), int(tree.end[start]) - start
        chain = stop_of[start] - start
        below = children.get(stop_of[start] - 1, [])
        options = {"whole": _cost(size, above + size)}
        if below:
            one, rest = _cost(chain, above + chain), size - chain
            options["apart"] = one + sum(cost[child] for child in below)
            options["together"] = one + _cost(rest, above + chain + rest)
        choice[start] = min(options, key=lambda name: options[name])
        cost[start] = options[choice[start]]
    found: list[tuple[int, int]] = []
    waiting = list(reversed(children.get(-1, [])))
    while waiting:
        start = waiting.pop()
        stop, end = stop_of[start], int(tree.end[start])
        found.append((start, end if choice[start] == "whole" else stop))
        if choice[start] == "together":
            found.append((stop, end))
        elif choice[start] == "apart":
            waiting.extend(reversed(children[stop - 1]))
    return found


def _cost(queries: int, keys: int) -> float:
    return queries * keys + KEY_COST * keys + GROUP_COST
