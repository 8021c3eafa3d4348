"""Every loss is a choice of edge weights: L = −Σ weight(edge) · log p(edge).

Belongs here: the weights of cross entropy and of the numeric penalty, and their sum over a batch.
Not here: where texts come from (`adapters/texts.py`), optimizer steps (`adapters/`). Imports torch
inside functions only.

The edge into a node is read at its parent: log p = log softmax(logits[parent])[token]. A node at or
below which nothing is read needs no forward pass and is cut off; every last token is such a leaf.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from evsim_assets.token_tree.tree import Indices, TokenTree, build_tree

if TYPE_CHECKING:
    import torch

    from evsim_assets.token_tree.batch import TreeBatch

Weights = npt.NDArray[np.float64]
Candidate = tuple[float, Sequence[int]]


@dataclass(frozen=True)
class Text:
    """One answered question in tokens: the prompt, the answer up to the end of its turn, and, for
    the numeric penalty, (mass, answer tokens) of every candidate near it; the masses sum to one."""

    prompt: Sequence[int]
    answer: Sequence[int]
    candidates: Sequence[Candidate] = ()


@dataclass(frozen=True)
class WeightedTree:
    """Texts as one tree with the edges that a loss reads, E of them.

    `tree`: the nodes that a forward pass needs. `parent` (E,): the node where an edge is read;
    `token` (E,): the token it leads to; `weight` (E, 2): how many target tokens it is, and the
    candidates' mass below it. `targets`, `texts`: what the two sums are divided by. `text_tokens`:
    the tokens of the texts written out one by one, as a padded batch would hold them.
    """

    tree: TokenTree
    parent: Indices
    token: Indices
    weight: Weights
    targets: int
    texts: int
    text_tokens: int


def candidate_masses(answer: int, answers: Sequence[int], d: float) -> list[tuple[int, float]]:
    """Eq. 2 normalised: mass of every answer a nearer than d, w = max(0, 1 − |a − answer| / d)."""
    near = [(a, 1 - abs(a - answer) / d) for a in answers if abs(a - answer) < d]
    total = sum(w for _, w in near)
    return [(a, w / total) for a, w in near]


def weigh(texts: Sequence[Text], loss_on: Literal["answer", "text"], alpha: float) -> WeightedTree:
    """The tree of `texts` weighted for L = (1 − alpha) L_cross + alpha L_pen.

    With `loss_on` "answer" the targets are the answers' tokens with their end of turn; with "text"
    every token that has one before it. With alpha 0 candidates are left out.
    """
    written = [[*text.prompt, *text.answer] for text in texts]
    masses = [
        (mass, len(text.prompt), [*text.prompt, *tokens])
        for text in texts
        if alpha > 0
        for mass, tokens in text.candidates
    ]
    tree, paths = build_tree([*written, *(tokens for *_, tokens in masses)])
    weight = np.zeros((len(tree), 2))
    targets = 0
    for text, path in zip(texts, paths[: len(texts)], strict=True):
        first = max(1, len(text.prompt)) if loss_on == "answer" else 1
        weight[path[first:], 0] += 1
        targets += len(path) - first
    for (mass, first, _), path in zip(masses, paths[len(texts) :], strict=True):
        weight[path[first:], 1] += mass
    kept, parent, token, weight = _what_is_read(tree, weight * [1 - alpha > 0, alpha > 0])
    return WeightedTree(
        kept, parent, token, weight, targets, len(texts), sum(len(tokens) for tokens in written)
    )


def _what_is_read(tree: TokenTree, weight: Weights) -> tuple[TokenTree, Indices, Indices, Weights]:
    """The tree without nodes at or below which nothing is read, and the edges with weight."""
    read = weight.any(axis=1)
    before = np.concatenate([[0], np.cumsum(read)])
    needed = before[tree.end] > before[np.arange(len(tree)) + 1]  # an edge below is read
    place = np.concatenate([[0], np.cumsum(needed)])
    above = tree.parent[needed]
    kept = TokenTree(
        tree.token[needed],
        tree.depth[needed],
        np.where(above < 0, -1, place[above]),
        place[tree.end[needed]],
    )
    return kept, place[tree.parent[read]], tree.token[read], weight[read]


@dataclass(frozen=True)
class LossBatch:
    """A micro-batch of a step: R rows are read, E edges hang on them.

    `rows` int64 (R,): of the flattened batch. `row_weight` (R,): sum of the weights read at a row.
    `edge_row` int64 (E,): index into `rows`. `edge_token` int64 (E,). `edge_weight` (E,). Weights
    are float32, already divided by the totals of the whole step.
    """

    batch: TreeBatch
    rows: torch.Tensor
    row_weight: torch.Tensor
    edge_row: torch.Tensor
    edge_token: torch.Tensor
    edge_weight: torch.Tensor


def loss_batches(
    trees: Sequence[WeightedTree], alpha: float, max_tokens: int, device: Any = "cpu"
) -> Iterator[LossBatch]:
    """One optimizer step (or one validation set) as micro-batches whose losses add up to its loss.

    L_cross is divided by the target tokens, L_pen by the texts, of *all* `trees`, so that neither
    the cut into micro-batches nor padding changes the sum. Trees of like size are put together;
    a micro-batch holds at most `max_tokens` padded tokens, but at least one tree.
    """
    scale = np.array([(1 - alpha) / sum(t.targets for t in trees), alpha / sum(t.texts for t in trees)])
    for group in _of_like_size(trees, max_tokens):
        yield _loss_batch(group, scale, device)


def _of_like_size(trees: Sequence[WeightedTree], max_tokens: int) -> list[list[WeightedTree]]:
    groups: list[list[WeightedTree]] = []
    for tree in sorted(trees, key=lambda t: -len(t.tree)):
        if not groups or (len(groups[-1]) + 1) * len(groups[-1][0].tree) > max_tokens:
            groups.append([])
        groups[-1].append(tree)
    return groups


def _loss_batch(trees: Sequence[WeightedTree], scale: Weights, device: Any) -> LossBatch:
    import torch

    from evsim_assets.token_tree.batch import pad_trees

    batch = pad_trees([t.tree for t in trees], device)
    read_at = np.concatenate([batch.flat(b, t.parent) for b, t in enumerate(trees)])
    weight = np.concatenate([t.weight @ scale for t in trees])
    rows, edge_row = np.unique(read_at, return_inverse=True)
    row_weight = np.bincount(edge_row, weights=weight, minlength=len(rows))

    def on_device(array: npt.NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(array).to(device, dtype)

    return LossBatch(
        batch,
        on_device(rows, torch.int64),
        on_device(row_weight, torch.float32),
        on_device(edge_row, torch.int64),
        on_device(np.concatenate([t.token for t in trees]), torch.int64),
        on_device(weight, torch.float32),
    )


def weighted_loss(model: Any, part: LossBatch) -> torch.Tensor:
    """−Σ weight(edge) · log softmax(logits[parent])[token] of one micro-batch; a scalar, in float32."""
    from evsim_assets.token_tree.batch import logits_at

    logits = logits_at(model, part.batch, part.rows).float()  # (R, V)
    picked = logits[part.edge_row, part.edge_token]  # (E,)
    return part.row_weight @ logits.logsumexp(-1) - part.edge_weight @ picked
