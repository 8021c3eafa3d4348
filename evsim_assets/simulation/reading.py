"""A model reads prompts once, and then any number of continuations of each.

Belongs here: forward passes over prompts and what continues them. Not here: what a token means
(`numbers.py`), which continuations are worth reading (`answer_walk.py`). Imports torch and transformers;
import this module inside functions.

The prompts of a batch are one token tree (`token_tree/`), so that what they share is read once. Their
continuations grow below it, level by level, and see what the tree left behind. A model that cannot take
trees reads prompt and continuation again, as texts in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evsim_assets.specs.errors import BadInput
from evsim_assets.token_tree.batch import lay_out, logits_at, logits_below
from evsim_assets.token_tree.growth import Growth, Remembered
from evsim_assets.token_tree.layout import can_grow, prepare
from evsim_assets.token_tree.tree import Layout, TokenTree, build_tree

Ints = npt.NDArray[np.int64]

LOGITS = 2**25
"""Logits of one forward pass over continuations, 128 MiB of them."""
_HOW = "_evsim_reading"


@dataclass(frozen=True)
class Nodes:
    """n continuations, all of t ≥ 0 tokens, ascending by `row` (n,), the place of their prompt.

    `path`: their tokens (n, t). `line` (n, t − 1): the place of each token but the last among those that the
    levels so far left behind.
    """

    row: Ints
    path: Ints
    line: Ints

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: Ints) -> Nodes:
        """The nodes numbered `chosen` (ascending)."""
        return Nodes(self.row[chosen], self.path[chosen], self.line[chosen])


@dataclass(frozen=True)
class Read:
    """R prompts that have been read, and levels of continuations below them.

    `prompt`: their numbers (R,), `tokens`: theirs. `leaf` (R,): the last node of each one in `tree`.
    `tree_left`: what the tree's nodes left behind; None where every continuation is read in full again.
    `levels_left`: the same of each level.
    """

    model: Any
    layout: Layout
    prompt: Ints
    tokens: Sequence[Sequence[int]]
    tree: TokenTree
    leaf: Ints
    tree_left: Remembered | None
    levels_left: tuple[Remembered, ...] = ()

    @property
    def roots(self) -> Nodes:
        """The empty continuation of every prompt."""
        nothing = np.empty((len(self.prompt), 0), np.int64)
        return Nodes(np.arange(len(self.prompt)), nothing, nothing)

    def parts(self, nodes: Nodes, at_once: int) -> list[Ints]:
        """The nodes by number, for one pass each: at most `at_once`, and few enough for their logits."""
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        if self.tree_left is None:
            at_once //= max(map(len, self.tokens))
        size = max(1, min(at_once, LOGITS // vocabulary))
        return [np.arange(i, min(i + size, len(nodes))) for i in range(0, len(nodes), size)]

    def feed(self, nodes: Nodes) -> tuple[Remembered, torch.Tensor]:
        """Read the last token (of t ≥ 1) of every node; those before it are in the levels so far.

        Returns what they leave behind, for `below`, and the logits (n, V) of what follows them.
        """
        if self.tree_left is None:
            return {}, self._in_full(nodes)
        growth = Growth(self.tree, self.tree_left, self.levels_left, self.leaf[nodes.row], nodes.line)
        with torch.inference_mode():
            logits = _checked(self.model, logits_below(self.model, growth, nodes.path[:, -1]))
        return growth.remembered, logits

    def below(
        self, fed: Sequence[Remembered], nodes: Nodes, parent: Ints, tokens: Ints
    ) -> tuple[Read, Nodes]:
        """The next level: below the nodes numbered `parent` (m,), which have been fed, `tokens` (m,).

        `fed`: what all of `nodes` left behind, part by part; kept is that of the parents.
        """
        path = np.concatenate([nodes.path[parent], tokens[:, None]], 1)
        kept, place = np.unique(parent, return_inverse=True)
        if not nodes.path.shape[1]:  # the prompts' last tokens, which are in the tree
            return self, Nodes(nodes.row[parent], path, nodes.line[parent])
        children = Nodes(nodes.row[parent], path, np.concatenate([nodes.line[parent], place[:, None]], 1))
        if self.tree_left is None:
            return self, children
        left = _of_rows(fed, kept, self.model.device)
        return replace(self, levels_left=(*self.levels_left, left)), children

    def _in_full(self, nodes: Nodes) -> torch.Tensor:
        """Logits behind each node, its whole text read again."""
        texts = [[*self.tokens[row], *path] for row, path in zip(nodes.row, nodes.path.tolist(), strict=True)]
        tree, paths = build_tree(texts)
        return _logits(self.model, tree, self.layout, np.array([path[-1] for path in paths]))[0]


def _of_rows(parts: Sequence[Remembered], rows: Ints, device: torch.device) -> Remembered:
    """What the nodes numbered `rows` (ascending), counted through all parts, left behind."""
    layers = list(parts[0])
    start = np.cumsum([0, *(part[layers[0]][0].shape[1] for part in parts)])
    of_part = np.split(rows, np.searchsorted(rows, start[1:-1]))
    chosen = [torch.from_numpy(own - at).to(device) for own, at in zip(of_part, start[:-1], strict=True)]

    def joined(layer: int, which: int) -> torch.Tensor:
        some = [part[layer][which][:, own] for part, own in zip(parts, chosen, strict=True)]
        return torch.cat(some, 1)

    return {layer: (joined(layer, 0), joined(layer, 1)) for layer in layers}


def read_prompts(
    model: Any, groups: Sequence[Sequence[tuple[int, Sequence[int]]]]
) -> tuple[Read, torch.Tensor]:
    """Read groups of (prompt number, tokens) in one forward pass.

    Returns the prompts, in the order of their places in the tree, and the logits (R, V) of the first
    token of each one's answer.

    Raises:
        BadInput: the model's logits are not numbers, or it cannot be read exactly.
    """
    layout, grows = _how(model)
    asked = [one for group in groups for one in group]
    tree, paths = build_tree([tokens for _, tokens in asked])
    leaf = np.array([path[-1] for path in paths], dtype=np.int64)
    order = np.argsort(leaf, kind="stable")
    logits, left = _logits(model, tree, layout, leaf[order], remember=grows)
    read = Read(
        model,
        layout,
        np.array([asked[k][0] for k in order], dtype=np.int64),
        [asked[k][1] for k in order],
        tree,
        leaf[order],
        left,
    )
    return read, logits


def _how(model: Any) -> tuple[Layout, bool]:
    """The layout in which the model is exact, and whether its trees can grow; tried once."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    how: tuple[Layout, bool] | None = getattr(plain, _HOW, None)
    if how is None:
        with torch.inference_mode():
            layout = prepare(model)
            how = layout, layout == "tree" and can_grow(model)
        setattr(plain, _HOW, how)
    return how


def _logits(
    model: Any, tree: TokenTree, layout: Layout, nodes: Ints, *, remember: bool = False
) -> tuple[torch.Tensor, Remembered | None]:
    """Logits (R, V) behind `nodes`, and what the tree left behind where that is to be remembered."""
    batch = lay_out(tree, layout, model.device, remember=remember)
    with torch.inference_mode():
        logits = logits_at(model, batch, nodes)
    return _checked(model, logits), batch.inputs["tree"].remembered if remember else None


def _checked(model: Any, logits: torch.Tensor) -> torch.Tensor:
    if bool(logits.sum().isnan()):
        raise BadInput(
            "the model's logits are not numbers",
            value=model.config.name_or_path,
            remedy="train the adapter again with a smaller learning rate, or use another precision",
        )
    return logits
