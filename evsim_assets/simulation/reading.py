"""A model reads prompts once, and then any number of continuations of each.

Belongs here: forward passes, the key-value cache and its masks. Not here: what a token means
(`numbers.py`), which continuations are worth reading (`number_walk.py`). Imports torch and
transformers; import this module inside functions.

The prompts of one participant are read as one token tree (`token_tree/`), several trees to a pass.
Every prompt then gets a cache row of its own, holding its own path only, and its continuations grow as
a tree in that row: a new node sees what its parent sees, and itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from evsim_assets.simulation.padded_trees import pad_trees
from evsim_assets.specs.errors import BadInput
from evsim_assets.token_tree.tree import build_tree

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """R prompts that have been read. `prompt`: their numbers, (R,). `length`: their tokens, (R,).

    `cache`: keys and values (R, heads, S, size) a layer; S grows with every `feed`.
    """

    cache: DynamicCache
    prompt: Ints
    length: Ints


@dataclass(frozen=True)
class Nodes:
    """n continuations, all of t ≥ 0 tokens, sorted by `row` (n,), the row of their prompt.

    `path`: their tokens (n, t). `allowed`: bool (n, S), the cached keys that their last token saw.
    """

    row: Ints
    path: Ints
    allowed: torch.Tensor

    def __len__(self) -> int:
        return len(self.row)


def read_prompts(
    model: Any, groups: Sequence[Sequence[tuple[int, Sequence[int]]]]
) -> tuple[Rows, Nodes, torch.Tensor]:
    """Read each group of (prompt number, tokens) as one tree, all trees in one forward pass.

    Returns one row a prompt, the empty continuation of every row, and its logits (R, V): the
    distribution of the first token of the answer.
    """
    built = [build_tree([tokens for _, tokens in group]) for group in groups]
    batch = pad_trees([tree for tree, _ in built], model.device)
    paths = [path for _, of_tree in built for path in of_tree]
    tree = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    prompts = np.array([number for group in groups for number, _ in group], dtype=np.int64)
    length = np.array([len(path) for path in paths], dtype=np.int64)
    width = batch.input_ids.shape[1]
    ends, of_path = np.unique(tree * width + [path[-1] for path in paths], return_inverse=True)
    keep = torch.zeros(batch.input_ids.numel(), dtype=torch.bool, device=model.device)
    keep[torch.from_numpy(ends).to(model.device)] = True
    cache = DynamicCache()
    logits = _forward(
        model,
        batch.input_ids,
        batch.position_ids,
        batch.allowed,
        cache,
        logits_to_keep=keep.view_as(batch.input_ids),
    )[torch.from_numpy(of_path).to(model.device)]
    rows = Rows(_paths_of(cache, tree, paths), prompts, length)
    seen = torch.arange(int(length.max()))[None, :] < torch.from_numpy(length)[:, None]
    roots = Nodes(np.arange(len(paths)), np.empty((len(paths), 0), np.int64), seen.to(model.device))
    return rows, roots, logits


def feed(model: Any, rows: Rows, nodes: Nodes) -> tuple[Nodes, torch.Tensor]:
    """Read the last token of every node (t ≥ 1); `nodes.allowed` is what their parents saw.

    Returns the nodes, now seeing themselves too, and the logits (n, V) of what follows them.
    """
    count = np.bincount(nodes.row, minlength=len(rows.prompt))
    slot = np.arange(len(nodes)) - (np.cumsum(count) - count)[nodes.row]
    before, width = rows.cache.get_seq_length(), int(count.max())
    device = nodes.allowed.device
    at = torch.from_numpy(nodes.row).to(device), torch.from_numpy(slot).to(device)
    tokens = torch.zeros((len(count), width), dtype=torch.int64, device=device)
    tokens[at] = torch.from_numpy(np.ascontiguousarray(nodes.path[:, -1])).to(device)
    depth = torch.from_numpy(rows.length + nodes.path.shape[1] - 1).to(device)
    mask = torch.zeros((len(count), width, before + width), dtype=torch.bool, device=device)
    mask[:, :, before:] = torch.eye(width, dtype=torch.bool, device=device)
    mask[at[0], at[1], : nodes.allowed.shape[1]] = nodes.allowed
    keep = torch.zeros((len(count), width), dtype=torch.bool, device=device)
    keep[at] = True
    logits = _forward(
        model, tokens, depth[:, None].expand(-1, width), mask[:, None], rows.cache, logits_to_keep=keep
    )
    return replace(nodes, allowed=mask[at]), logits


def split(rows: Rows, nodes: Nodes, tokens: int, *, keep: bool = True) -> Iterator[tuple[Rows, Nodes, Ints]]:
    """Parts of at most `tokens` padded tokens (but at least one row), rows of similar size together.

    Each part has a cache of its own, unless it is all of `rows` and those need not be kept as they
    are; rows without a node are in no part. The third entry says which of `nodes` the part holds.
    """
    count = np.bincount(nodes.row, minlength=len(rows.prompt))
    by_size = np.argsort(count, kind="stable")
    by_size = by_size[count[by_size] > 0]
    while len(by_size):
        padded = count[by_size[-1]] * np.arange(1, len(by_size) + 1)
        size = max(1, int(np.searchsorted(padded, tokens, side="right")))
        kept = np.sort(by_size[-size:])
        by_size = by_size[:-size]
        if not keep and len(kept) == len(count):
            yield rows, nodes, np.arange(len(nodes))
            return
        place = np.full(len(count), -1)
        place[kept] = np.arange(len(kept))
        chosen = np.flatnonzero(place[nodes.row] >= 0)
        part = take(nodes, chosen)
        yield _rows_of(rows, kept), replace(part, row=place[part.row]), chosen


def take(nodes: Nodes, chosen: Ints) -> Nodes:
    """The nodes numbered `chosen` (ascending by row)."""
    index = torch.from_numpy(chosen).to(nodes.allowed.device)
    return Nodes(nodes.row[chosen], nodes.path[chosen], nodes.allowed[index])


def _forward(
    model: Any,
    tokens: torch.Tensor,
    positions: torch.Tensor,
    allowed: torch.Tensor,
    cache: DynamicCache,
    logits_to_keep: torch.Tensor,
) -> torch.Tensor:
    """Logits (kept, V) in row-major order of the bool `logits_to_keep` (B, N); `cache` grows by N."""
    _check(model, int(positions.max()) + 1)
    if model.config._attn_implementation == "eager":  # adds its mask to the scores
        lowest = torch.finfo(model.dtype).min
        allowed = torch.zeros_like(allowed, dtype=model.dtype).masked_fill_(~allowed, lowest)
    with torch.inference_mode():
        logits: torch.Tensor = model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=allowed,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
        ).logits
    if bool(logits.sum().isnan()):
        raise BadInput(
            "the model's logits are not numbers",
            value=model.config.name_or_path,
            remedy="train the adapter again with a smaller learning rate, or use another precision",
        )
    return logits


def _check(model: Any, length: int) -> None:
    """A ready mask needs attention that takes one, and replaces a model's sliding window."""
    attention = model.config._attn_implementation
    if attention not in ("sdpa", "eager"):
        raise BadInput(
            "answers are read with a mask of the token tree, which this attention does not take",
            field="attn_implementation",
            value=attention,
            remedy='load the model with "sdpa"',
        )
    window = getattr(model.config, "sliding_window", None)
    if window and length > window:
        raise BadInput(
            f"a text is longer than the model's sliding attention window of {window} tokens",
            value=length,
            remedy="shorten the prompts, or use another model",
        )


def _paths_of(cache: DynamicCache, tree: Ints, paths: Sequence[Ints]) -> DynamicCache:
    """Keys and values of one path a row: (R, heads, longest path, size), padded with the root's."""
    nodes = np.zeros((len(paths), max(len(path) for path in paths)), dtype=np.int64)
    for r, path in enumerate(paths):
        nodes[r, : len(path)] = path
    of_tree, node = torch.from_numpy(tree)[:, None], torch.from_numpy(nodes)

    def select(states: torch.Tensor) -> torch.Tensor:
        at = of_tree.to(states.device), node.to(states.device)
        return states.transpose(1, 2)[at].transpose(1, 2)

    return _selected(cache, select)


def _rows_of(rows: Rows, kept: Ints) -> Rows:
    """The rows numbered `kept`, with a cache of their own."""
    index = torch.from_numpy(kept)
    cache = _selected(rows.cache, lambda states: states[index.to(states.device)])
    return Rows(cache, rows.prompt[kept], rows.length[kept])


def _selected(cache: DynamicCache, select: Callable[[torch.Tensor], torch.Tensor]) -> DynamicCache:
    """A new cache of what `select` takes from the keys and from the values of every layer."""
    result = DynamicCache()
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
            raise BadInput(
                "the model keeps more than keys and values, so its prompts cannot be shared",
                value=type(layer).__name__,
                remedy="use a model whose every layer is attention",
            )
        fresh = DynamicLayer()
        fresh.lazy_initialization(layer.keys, layer.values)
        fresh.keys, fresh.values = select(layer.keys), select(layer.values)
        result.layers.append(fresh)
    return result
