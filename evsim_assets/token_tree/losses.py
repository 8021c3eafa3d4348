"""Every loss is a choice of edge weights: L = −Σ weight(edge) · log p(edge).

Belongs here: the weights of cross entropy and of the numeric penalty, the cut of an optimizer step into
trees, and the sum over one of them. Not here: where texts come from (`adapters/texts.py`), optimizer
steps (`adapters/`). Imports torch inside functions only.

The edge into a node is read at its parent: log p = log softmax(logits[parent])[token]. A node at or
below which nothing is read needs no forward pass and is cut off; every last token is such a leaf.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from evsim_assets.token_tree.tree import Indices, Layout, TokenTree, build_tree

if TYPE_CHECKING:
    import torch

    from evsim_assets.token_tree.batch import TreeBatch

Weights = npt.NDArray[np.float64]
Candidate = tuple[float, Sequence[int]]
LossOn = Literal["answer", "text"]


@dataclass(frozen=True)
class Text:
    """One answered question in tokens: the prompt, the answer up to the end of its turn, and, for
    the numeric penalty, (mass, answer tokens) of every candidate near it; the masses sum to one.
    `weight` is the answer's survey weight, 0 or more."""

    prompt: Sequence[int]
    answer: Sequence[int]
    candidates: Sequence[Candidate] = ()
    weight: float = 1.0

    @property
    def tokens(self) -> list[int]:
        """Prompt and answer."""
        return [*self.prompt, *self.answer]

    def targets(self, loss_on: LossOn) -> int:
        """How many of its tokens cross entropy predicts: the answer's, or all that have one before."""
        first = max(1, len(self.prompt)) if loss_on == "answer" else 1
        return len(self.prompt) + len(self.answer) - first


@dataclass(frozen=True)
class WeightedTree:
    """Texts as one tree with the edges that a loss reads, E of them.

    `tree`: the nodes that a forward pass needs. `parent` (E,): the node where an edge is read;
    `token` (E,): the token it leads to; `weight` (E, 2): the survey weights of the target tokens it is,
    and the candidates' mass below it times theirs.
    """

    tree: TokenTree
    parent: Indices
    token: Indices
    weight: Weights


def candidate_masses(
    answer: int, answers: Sequence[int], d: float, *, equation_1: Literal["meant", "printed"] = "meant"
) -> list[tuple[int, float]]:
    """The target distribution of the numeric penalty around `answer` (B.3), as (answer, mass).

    Eq. 2 normalised: w = max(0, 1 − |a − answer| / d) over the sum of all w, for every answer a nearer
    than d. Eq. 1 as *printed* multiplies these masses with log p(answer) of the one true answer; they
    sum to one, so it is cross entropy again. It is *meant* with log p(a) of each candidate.
    """
    if equation_1 == "printed":
        return [(answer, 1.0)]
    near = [(a, 1 - abs(a - answer) / d) for a in answers if abs(a - answer) < d]
    total = sum(w for _, w in near)
    return [(a, w / total) for a, w in near]


def weigh(texts: Sequence[Text], loss_on: LossOn, alpha: float) -> WeightedTree:
    """The tree of `texts` weighted for L = (1 − alpha) L_cross + alpha L_pen.

    With `loss_on` "answer" the targets are the answers' tokens with their end of turn; with "text"
    every token that has one before it. With alpha 0 candidates are left out.
    """
    written = [text.tokens for text in texts]
    masses = [
        (text.weight * mass, len(text.prompt), [*text.prompt, *tokens])
        for text in texts
        if alpha > 0
        for mass, tokens in text.candidates
    ]
    tree, paths = build_tree([*written, *(tokens for *_, tokens in masses)])
    weight = np.zeros((len(tree), 2))
    for text, path in zip(texts, paths[: len(texts)], strict=True):
        weight[path[len(path) - text.targets(loss_on) :], 0] += text.weight
    for (mass, first, _), path in zip(masses, paths[len(texts) :], strict=True):
        weight[path[max(first, 1) :], 1] += mass
    return WeightedTree(*_what_is_read(tree, weight * [1 - alpha > 0, alpha > 0]))


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
    """A micro-batch of a step: R nodes are read, E edges hang on them.

    `nodes` int64 (R,): of the batch's tree, ascending. `node_weight` (R,): sum of the weights read
    there. `edge_node` int64 (E,): index into `nodes`. `edge_token` int64 (E,). `edge_weight` (E,).
    Weights are float32, already divided by the totals of the whole step.
    """

    batch: TreeBatch
    nodes: Indices
    node_weight: torch.Tensor
    edge_node: torch.Tensor
    edge_token: torch.Tensor
    edge_weight: torch.Tensor


def loss_batches(
    texts: Sequence[Text],
    *,
    loss_on: LossOn,
    alpha: float,
    max_tokens: int,
    layout: Layout = "tree",
    device: Any = "cpu",
) -> Iterator[LossBatch]:
    """One optimizer step (or one validation set) as micro-batches whose losses add up to its loss.

    L_cross is the weighted mean over the target tokens, L_pen over the texts, of *all* `texts`, so that
    neither the cut into micro-batches nor the layout changes the sum. Where all weights are 0 nothing
    is read, and there is no micro-batch.
    """
    cross = sum(text.weight * text.targets(loss_on) for text in texts)
    penalty = sum(text.weight for text in texts)
    scale = np.array([(1 - alpha) / cross if cross else 0.0, alpha / penalty if penalty else 0.0])
    for part in cut(texts, alpha=alpha, max_tokens=max_tokens, layout=layout):
        tree = weigh(part, loss_on, alpha)
        if len(tree.tree):
            yield _loss_batch(tree, scale, layout, device)


def cut(texts: Sequence[Text], *, alpha: float, max_tokens: int, layout: Layout = "tree") -> list[list[Text]]:
    """`texts` in the order of their tokens, cut into trees of at most `max_tokens` tokens.

    A text belongs to one tree; what it shares with the next tree is read again there. One that is longer
    than `max_tokens` has a tree of its own. A layout without sharing is counted text by text.
    """
    parts: list[list[Text]] = []
    size, before = 0, list[int]()
    for tokens, text in sorted(((text.tokens, text) for text in texts), key=lambda pair: pair[0]):
        near = [len(answer) for _, answer in text.candidates] if alpha > 0 else []
        shared = _shared(before, tokens) if parts and layout == "tree" else 0
        one = sum(near) if layout == "tree" else len(text.prompt) * len(near) + sum(near)
        if not parts or size + len(tokens) - shared + one > max_tokens:
            parts.append([])
            size, shared = 0, 0
        parts[-1].append(text)
        size += len(tokens) - shared + one
        before = tokens
    return parts


def tree_tokens(
    texts: Sequence[Text], *, loss_on: LossOn, alpha: float, max_tokens: int, layout: Layout = "tree"
) -> int:
    """How many nodes a forward pass over one step takes, its micro-batches added up."""
    parts = cut(texts, alpha=alpha, max_tokens=max_tokens, layout=layout)
    return sum(len(weigh(part, loss_on, alpha).tree) for part in parts)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    shortest = min(len(one), len(other))
    alike = np.array(one[:shortest]) == np.array(other[:shortest])
    return shortest if alike.all() else int(alike.argmin())


def _loss_batch(tree: WeightedTree, scale: Weights, layout: Layout, device: Any) -> LossBatch:
    import torch

    from evsim_assets.token_tree.batch import lay_out

    weight = tree.weight @ scale
    nodes, edge_node = np.unique(tree.parent, return_inverse=True)
    node_weight = np.bincount(edge_node, weights=weight, minlength=len(nodes))

    def on_device(array: npt.NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(array).to(device, dtype)

    return LossBatch(
        lay_out(tree.tree, layout, device),
        nodes,
        on_device(node_weight, torch.float32),
        on_device(edge_node, torch.int64),
        on_device(tree.token, torch.int64),
        on_device(weight, torch.float32),
    )


def weighted_loss(model: Any, part: LossBatch) -> torch.Tensor:
    """−Σ weight(edge) · log softmax(logits[parent])[token] of one micro-batch; a scalar, in float32."""
    from evsim_assets.token_tree.batch import logits_at
    from evsim_assets.token_tree.edge_loss import edge_loss

    logits = logits_at(model, part.batch, part.nodes)  # (R, V)
    return edge_loss(logits, part.node_weight, part.edge_node, part.edge_token, part.edge_weight)
