"""A few trees padded to one batch, for a forward pass that fills a key-value cache.

Belongs here: the trees' tensors with a dense mask. Not here: training, whose rows are packed
(`token_tree/batch.py`); what is read (`reading.py`). Imports torch; import this module inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evsim_assets.token_tree.tree import TokenTree


@dataclass(frozen=True)
class PaddedTrees:
    """B trees padded to N nodes.

    `input_ids`, `position_ids`: int64 (B, N). `allowed`: bool (B, 1, N, N), query by key.
    A padding node is a root of its own: it sees itself alone (a row with nothing to see is NaN),
    and nobody sees it.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    allowed: torch.Tensor


def pad_trees(trees: Sequence[TokenTree], device: str | torch.device = "cpu") -> PaddedTrees:
    """The batch of `trees` on `device`; N is the size of the largest."""
    n = max(len(tree) for tree in trees)
    token = np.zeros((len(trees), n), dtype=np.int64)
    depth = np.zeros((len(trees), n), dtype=np.int64)
    end = np.tile(np.arange(1, n + 1), (len(trees), 1))
    for b, tree in enumerate(trees):
        token[b, : len(tree)], depth[b, : len(tree)] = tree.token, tree.depth
        end[b, : len(tree)] = tree.end
    ends = torch.from_numpy(end).to(device)
    i = torch.arange(n, device=device)
    allowed = (i[None, None, :] <= i[None, :, None]) & (i[None, :, None] < ends[:, None, :])
    return PaddedTrees(
        torch.from_numpy(token).to(device), torch.from_numpy(depth).to(device), allowed[:, None]
    )
