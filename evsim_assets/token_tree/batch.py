"""A few trees padded to one batch of tensors, and one forward pass over it.

Belongs here: how trees become a model's inputs, and logits at chosen nodes. Not here: what is read
or trained there (`losses.py`, `simulation/`). Imports torch; import this module inside functions.

The model's code stays untouched: depth is the position id, and the attention rule is a 4D mask,
which transformers hands to every layer as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evsim_assets.specs.errors import BadInput
from evsim_assets.token_tree.tree import Indices, TokenTree


@dataclass(frozen=True)
class TreeBatch:
    """B trees padded to N nodes.

    `input_ids`, `position_ids`: int64 (B, N). `allowed`: bool (B, 1, N, N), query by key.
    A padding node is a root of its own: it sees itself alone (a row with nothing to see is NaN),
    and nobody sees it.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    allowed: torch.Tensor

    def flat(self, tree: int, nodes: Indices) -> Indices:
        """Rows of the flattened (B·N) batch at which the `nodes` of tree number `tree` stand."""
        return nodes + tree * self.input_ids.shape[1]


def pad_trees(trees: Sequence[TokenTree], device: str | torch.device = "cpu") -> TreeBatch:
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
    return TreeBatch(torch.from_numpy(token).to(device), torch.from_numpy(depth).to(device), allowed[:, None])


def logits_at(model: Any, batch: TreeBatch, rows: torch.Tensor) -> torch.Tensor:
    """Logits (R, V) at the flattened `rows` (R,), ascending, from one forward pass over the batch.

    Only those rows reach the language-model head, by transformers' own `logits_to_keep`, so whatever
    the model does to its logits (soft-capping, scaling) stays the model's own.
    """
    _check_window(model, batch)
    keep = torch.zeros(batch.input_ids.numel(), dtype=torch.bool, device=rows.device)
    keep[rows] = True
    logits: torch.Tensor = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        use_cache=False,
        attention_mask=_as_mask(model, batch.allowed),
        logits_to_keep=keep.view_as(batch.input_ids),
    ).logits
    if logits.shape[:-1] != rows.shape:  # a model that takes the argument but not as a mask
        raise BadInput(
            "the model's forward pass cannot keep logits by a mask",
            value=type(model).__name__,
            remedy="use a model of the transformers library",
        )
    return logits


def _as_mask(model: Any, allowed: torch.Tensor) -> torch.Tensor:
    """Added to the scores, 0 or the lowest number; on CUDA bool for scaled_dot_product_attention,
    which on a CPU would turn it into numbers anew in every layer."""
    if allowed.is_cuda and model.config._attn_implementation == "sdpa":
        return allowed
    lowest = torch.finfo(model.dtype).min
    return torch.zeros_like(allowed, dtype=model.dtype).masked_fill_(~allowed, lowest)


def _check_window(model: Any, batch: TreeBatch) -> None:
    """A ready mask replaces the model's sliding window, so texts longer than it would be wrong."""
    window = getattr(model.config, "sliding_window", None)
    if window and batch.input_ids.shape[1] > window and int(batch.position_ids.max()) >= window:
        raise BadInput(
            f"a text is longer than the model's sliding attention window of {window} tokens",
            value=int(batch.position_ids.max()) + 1,
            remedy="shorten the prompts, or use another model",
        )
