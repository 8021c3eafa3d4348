"""How the texts of one step, or of the validation split, go through the model: in which micro-batches, and
which of them each process takes.

Belongs here: the share of a process. Not here: the tree (`token_tree/`), gradients (`trainer.py`). Imports
torch inside functions only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from evsim_assets.token_tree.losses import LossBatch, LossOn, Text, cut, loss_batches, tree_tokens
from evsim_assets.token_tree.tree import Layout

FULLER = (1.0, 1.05, 1.15, 1.3, 1.6, 2.0)
"""How much above an even share the largest may be, tried in this order."""


@dataclass(frozen=True)
class Batching:
    """The loss, and the most tokens that go through the model at once."""

    loss_on: LossOn
    alpha: float
    max_tokens: int
    layout: Layout

    def tokens(self, texts: Sequence[Text]) -> int:
        """How many tokens one pass over `texts` takes."""
        return tree_tokens(
            texts, loss_on=self.loss_on, alpha=self.alpha, max_tokens=self.max_tokens, layout=self.layout
        )

    def share(
        self, texts: Sequence[Text], device: Any, rank: int = 0, processes: int = 1
    ) -> Iterator[LossBatch]:
        """The micro-batches of one process; over all processes their losses add up to the loss of `texts`.

        Every process gets equally many, as sharded weights need (FSDP); a process for which none is left
        over gets one that counts for nothing.
        """
        limit = self.max_tokens if processes == 1 else self._even(texts, processes)
        parts = loss_batches(
            texts,
            loss_on=self.loss_on,
            alpha=self.alpha,
            max_tokens=limit,
            layout=self.layout,
            device=device,
        )
        if processes == 1:
            yield from parts
            return
        everything = list(parts)
        own = list(islice(everything, rank, None, processes))
        yield from own
        if everything and len(own) < math.ceil(len(everything) / processes):
            yield _silent(everything[0])

    def _even(self, texts: Sequence[Text], processes: int) -> int:
        """The largest micro-batch with which every process has about as much to do."""
        tokens = self.tokens(texts)
        rounds = math.ceil(tokens / (self.max_tokens * processes))
        for fuller in FULLER:
            limit = min(self.max_tokens, math.ceil(fuller * tokens / (rounds * processes)))
            if len(cut(texts, alpha=self.alpha, max_tokens=limit, layout=self.layout)) <= rounds * processes:
                break
        return limit


def _silent(part: LossBatch) -> LossBatch:
    """The same micro-batch with a loss of 0 and gradients of 0."""
    return replace(part, node_weight=0 * part.node_weight, edge_weight=0 * part.edge_weight)
