"""New nodes at the leaves of a tree that a model has read: they see what their ancestors left behind.

Belongs here: keys and values of read nodes, and the attention of new ones over them. Not here: which nodes
are worth adding (`simulation/`). Imports torch; import this module inside functions.

The tree is read once, with `TreeAttention.remember`. New nodes then come in levels, each the child of a node
of the level before, or of the tree. Nothing is copied: a node's scores stand in one row by depth, every
chain of the tree is multiplied with all new nodes below it as it lies in memory, and of each level a
node sees one ancestor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from evsim_assets.token_tree.tree import Indices, TokenTree

Remembered = dict[int, tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of one row of nodes, (H', n, D) each, by attention module."""


class Growth:
    """One level of m new nodes below a tree.

    `read` is None: every new node is read (`last_layer.py`). `remembered`: their own keys and values, after
    the forward pass.
    """

    read = None

    def __init__(
        self,
        tree: TokenTree,
        left: Remembered,
        levels: Sequence[Remembered],
        leaf: Indices,
        line: Indices,
    ) -> None:
        """
        Args:
            tree, left: what was read first, and what it left behind.
            levels: the same of the t levels between the tree and this one, in order.
            leaf: int64 (m,), ascending: the node of `tree` that each new node grows from.
            line: int64 (m, t): the place of each one's ancestor in every level.
        """
        self.remembered: Remembered = {}
        self._left, self._levels = left, levels
        self.depth = tree.depth[leaf] + 1 + len(levels)
        self.windows: set[int | None] = set()
        starts = tree.branch_starts
        stops = np.append(starts[1:], len(tree))
        first = np.searchsorted(leaf, starts)
        last = np.searchsorted(leaf, tree.end[starts])
        self._deepest = int(tree.depth[leaf].max(initial=-1)) + 1
        depth = tree.depth[starts]
        stops = np.minimum(stops, starts + self._deepest - depth)  # a chain may go on behind the deepest leaf
        self._chains = [
            (slice(a, b), slice(q, r), slice(d, d + b - a))
            for a, b, q, r, d in zip(starts, stops, first, last, depth, strict=True)
            if r > q
        ]
        self._leaf_depth = tree.depth[leaf]
        self._line = torch.from_numpy(np.ascontiguousarray(line.T))
        self._hidden: dict[int | None, torch.Tensor] = {}

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        layer: int,
        scaling: float | None,
        dropout: float,
        window: int | None,
        softcap: float | None,
    ) -> torch.Tensor:
        """query (1, H, m, D), key and value (1, H' <= H, m, D) to (1, m, H, D). Dropout has no place here."""
        self.windows.add(window)
        self.remembered[layer] = key[0], value[0]
        shared = key.shape[1]
        q = query[0].unflatten(0, (shared, -1)).transpose(1, 2).contiguous()  # (H', m, H/H', D)
        q = q * (q.shape[-1] ** -0.5 if scaling is None else scaling)
        keys, values = self._left[layer]
        line = self._line.to(key.device)
        chosen = [
            (one[layer][0][:, of_one], one[layer][1][:, of_one])
            for one, of_one in zip(self._levels, line, strict=True)
        ] + [(key[0], value[0])]

        scores = q.new_full((*q.shape[:3], self._deepest + len(chosen)), -torch.inf)
        for nodes, rows, columns in self._chains:
            scores[:, rows, :, columns] = (
                q[:, rows].flatten(1, 2) @ keys[:, nodes].transpose(1, 2)
            ).unflatten(1, (-1, q.shape[2]))
        for level, (of_level, _) in enumerate(chosen):
            scores[..., self._deepest + level] = (q * of_level[:, :, None]).sum(-1)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores.masked_fill_(self._unseen(window, key.device), -torch.inf)
        weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(q.dtype)

        output = sum(
            weights[..., self._deepest + level, None] * of_level[:, :, None]
            for level, (_, of_level) in enumerate(chosen)
        )
        assert isinstance(output, torch.Tensor)
        for nodes, rows, columns in self._chains:
            output[:, rows] += (weights[:, rows, :, columns].flatten(1, 2) @ values[:, nodes]).unflatten(
                1, (-1, q.shape[2])
            )
        return output.transpose(1, 2).flatten(0, 1).transpose(0, 1)[None]

    def _unseen(self, window: int | None, device: torch.device) -> torch.Tensor:
        """(m, 1, W): columns below a node's leaf, or outside of its sliding window."""
        if window not in self._hidden:
            leaf = self._leaf_depth[:, None]
            grown = leaf + 1 + np.arange(len(self._levels) + 1)
            column = np.broadcast_to(np.arange(self._deepest), (len(leaf), self._deepest))
            hidden = np.concatenate([column > leaf, np.zeros_like(grown, bool)], axis=1)
            if window is not None:
                hidden |= self.depth[:, None] - np.concatenate([column, grown], axis=1) >= window
            self._hidden[window] = torch.from_numpy(hidden)[:, None].to(device)
        return self._hidden[window]
