"""A token tree laid out as a model's inputs, and one forward pass over it.

Belongs here: the three layouts, and logits at chosen nodes. Not here: which layout a model can take
(`layout.py`), what is read or trained there (`losses.py`). Imports torch; import this module inside
functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evsim_assets.specs.errors import BadInput
from evsim_assets.token_tree.tree import Indices, Layout, TokenTree

if TYPE_CHECKING:
    from evsim_assets.token_tree.attention import TreeAttention
    from evsim_assets.token_tree.growth import Growth


@dataclass(frozen=True)
class TreeBatch:
    """A tree of n nodes as B rows of N tokens.

    `inputs`: what the model is called with, tensors (B, N) and whatever its layout needs. `place`:
    int64 (n,), where each node stands in the flattened B·N tokens.
    """

    inputs: dict[str, Any]
    place: Indices

    @property
    def tokens(self) -> int:
        """How many tokens a forward pass takes, padding included."""
        return int(self.inputs["input_ids"].numel())


def lay_out(
    tree: TokenTree,
    layout: Layout = "tree",
    device: str | torch.device = "cpu",
    *,
    remember: bool = False,
) -> TreeBatch:
    """The inputs of one forward pass over all of `tree`.

    Args:
        remember: whether the tree may grow afterwards (`growth.py`); in the layout "tree" only.
    """
    device = torch.device(device)

    def tensor(array: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    if layout == "tree":
        from evsim_assets.token_tree.attention import TreeAttention

        attention = TreeAttention(tree, device, remember=remember)
        return TreeBatch(_row(tree.token, tree.depth, attention, device), np.arange(len(tree)))
    texts = [tree.path(leaf) for leaf in np.flatnonzero(tree.end == np.arange(1, len(tree) + 1)).tolist()]
    place = np.empty(len(tree), dtype=np.int64)
    if layout == "packed":
        row = np.concatenate(texts)
        place[row[::-1]] = np.arange(len(row))[::-1]  # a shared node is read where it comes first
        inputs = {"input_ids": tensor(tree.token[row][None]), "position_ids": tensor(tree.depth[row][None])}
        return TreeBatch(inputs, place)
    width = max(len(text) for text in texts)
    token = np.zeros((len(texts), width), dtype=np.int64)
    seen = np.zeros((len(texts), width), dtype=np.int64)
    for b in range(len(texts) - 1, -1, -1):
        token[b, : len(texts[b])], seen[b, : len(texts[b])] = tree.token[texts[b]], 1
        place[texts[b]] = b * width + np.arange(len(texts[b]))
    return TreeBatch({"input_ids": tensor(token), "attention_mask": tensor(seen)}, place)


def _row(
    token: Indices, depth: Indices, attention: TreeAttention | Growth, device: torch.device
) -> dict[str, Any]:
    """What a model is called with for one row of nodes under evsim's attention."""
    return {
        "input_ids": torch.from_numpy(np.ascontiguousarray(token[None])).to(device),
        "position_ids": torch.from_numpy(np.ascontiguousarray(depth[None])).to(device),
        # Transformers hands a ready 4D mask down as it is, instead of making one of n × n.
        "attention_mask": torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device),
        "tree": attention,
    }


def logits_below(model: Any, growth: Growth, token: Indices) -> torch.Tensor:
    """Logits (m, V) of what follows each of m new nodes, in one forward pass over these alone.

    `token`: int64 (m,). `growth` then holds what the next level sees of them.
    """
    logits: torch.Tensor = model(**_row(token, growth.depth, growth, model.device), use_cache=False).logits
    return logits[0]


def logits_at(model: Any, batch: TreeBatch, nodes: Indices) -> torch.Tensor:
    """Logits (R, V) of what follows each of the R `nodes`, from one forward pass over the batch.

    Only those places go through the last layer (`last_layer.py`) and reach the language-model head, by
    transformers' own `logits_to_keep`, so whatever the model does to its logits (soft-capping, scaling) stays
    the model's own.
    """
    ids = batch.inputs["input_ids"]
    wanted = batch.place[nodes]
    rows, back = np.unique(wanted, return_inverse=True)
    at = torch.from_numpy(rows).to(ids.device)
    keep = torch.zeros(ids.numel(), dtype=torch.bool, device=ids.device)
    keep[at] = True
    inputs = dict(batch.inputs)
    if "tree" in inputs:
        inputs["tree"] = inputs["tree"].reading(at)
    logits: torch.Tensor = model(**inputs, use_cache=False, logits_to_keep=keep.view_as(ids)).logits
    if logits.shape[:-1] == ids.shape:  # a model that does not know the argument
        logits = logits.flatten(0, 1)[at]
    if logits.shape[:-1] != rows.shape:
        raise BadInput(
            "the model's forward pass cannot keep logits by a mask",
            value=type(model).__name__,
            remedy="use a model of the transformers library",
        )
    same = len(back) == len(rows) and bool((wanted == rows).all())
    return logits if same else logits[torch.from_numpy(back).to(ids.device)]
