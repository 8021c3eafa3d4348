"""Which participants each optimizer step sees, planned before training begins.

Belongs here: the order and the grouping. Not here: tokens, tensors, the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evsim_assets.specs.seeds import derived_seed


@dataclass(frozen=True)
class Step:
    """`participants`: indices; a person's texts stay together, so that they share their prompt.
    `epoch`: how many times the data has been seen when the step is done."""

    participants: tuple[int, ...]
    epoch: float


def plan_steps(texts: Sequence[int], batch_size: int, epochs: float, seed: int) -> list[Step]:
    """Steps of whole participants with `batch_size` texts or just above (an epoch's last: the rest).

    Args:
        texts: how many texts each participant has.
        epochs: may end within an epoch; there the step that reaches the fraction is the last.
        seed: every epoch is shuffled by its own seed derived from this one.
    """
    total = sum(texts)
    steps: list[Step] = []
    for epoch in range(math.ceil(epochs)):
        shuffled = np.random.default_rng(derived_seed(seed, "batches", str(epoch)))
        seen, group = 0, list[int]()
        for participant in shuffled.permutation(len(texts)).tolist():
            group.append(participant)
            if sum(texts[p] for p in group) >= batch_size:
                seen += sum(texts[p] for p in group)
                steps.append(Step(tuple(group), epoch + seen / total))
                group = []
                if steps[-1].epoch >= epochs:
                    return steps
        if group:
            steps.append(Step(tuple(group), epoch + 1.0))
    return steps
