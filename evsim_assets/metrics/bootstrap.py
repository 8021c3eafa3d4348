"""The bootstrap over participants: resampling weights, and intervals from replicates.

Belongs here: how often each participant counts in each replicate, and what replicates say of a value.
Not here: which measure is replicated (`agreement.py`).

All of a person's answers, and all that was simulated for them, count together in a replicate: answers of
one person resemble each other, and a resampling of answers would take them for independent.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import factorial

import numpy as np
import numpy.typing as npt

from evsim_assets.metrics.measures import Floats
from evsim_assets.simulation.seeded import row_seeds, uniforms

RESAMPLES = 1000
INTERVAL = (0.025, 0.975)
"""The quantiles of the replicates at a 95 % interval's ends."""
_MOST = 12
"""A participant counts at most so often; a Poisson count is larger once in 10^10."""

Weights = npt.NDArray[np.float32]


def participant_weights(seed: int, participants: Iterable[str], resamples: int = RESAMPLES) -> Weights:
    """How often each of P participants counts in each replicate: whole numbers, (resamples, P).

    Each is a Poisson count of mean 1 (the Poisson bootstrap: in a sample of any size the resampling with
    replacement is that, given the sum). It follows from the study's `seed`, the participant's id and the
    replicate alone, so it does not depend on who else is there or in which order, and two adapters of a
    study are resampled alike: their difference is a paired one.
    """
    ids = [str(participant) for participant in participants]
    if not ids:
        return np.zeros((resamples, 0), dtype=np.float32)
    streams = row_seeds(seed, "bootstrap", ids, 1)[:, 0]
    at_most = np.cumsum([np.exp(-1.0) / factorial(k) for k in range(_MOST)])
    drawn = uniforms(streams, resamples)  # (P, resamples)
    return np.ascontiguousarray(np.searchsorted(at_most, drawn, side="right").T, dtype=np.float32)


def bias(value: Floats, replicates: Floats) -> Floats:
    """How far the mean of replicates (B, M) lies above the values (M,); undefined replicates (NaN) left out.

    A distance between two samples is larger than that between their populations, and that of resampled
    samples is larger by as much again; so this estimates by how much the value itself is too large.
    0 where no replicate is defined.
    """
    defined = np.isfinite(replicates)
    count = defined.sum(axis=0)
    total = np.where(defined, replicates, 0).sum(axis=0, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1) - value, 0.0)


def interval(replicates: Floats, people: int | None = None) -> tuple[Floats, Floats]:
    """Both ends of the 95 % percentile intervals of replicates (B, M): (M,) each; NaN where none is defined.

    Undefined replicates (NaN: a group that happened to be empty, say) are left out. With the number n of
    `people` behind them, the quantiles lie as far out as Student's t does beyond the normal distribution, as
    replicates of few people spread too little (by √((n−1)/n)) and are of normal shape where they should be of
    t's: the expanded percentile interval of Hesterberg (2015).
    """
    quantiles = INTERVAL if people is None else expanded(people)
    ordered = np.sort(np.where(np.isfinite(replicates), replicates, np.nan), axis=0)  # NaN come last
    count = np.isfinite(ordered).sum(axis=0)
    ends = []
    for quantile in quantiles:
        at = np.maximum(count - 1, 0) * quantile
        below = np.floor(at).astype(np.int64)
        above = np.minimum(below + 1, np.maximum(count - 1, 0))
        column = np.arange(ordered.shape[1])
        low, high = ordered[below, column], ordered[above, column]
        ends.append(np.asarray(low + (high - low) * (at - below), dtype=np.float64))
    return ends[0], ends[1]


def expanded(people: int) -> tuple[float, float]:
    """The quantiles of replicates of n `people` at a 95 % interval's ends: Φ(∓ √(n/(n−1)) t), t of Student's
    with n − 1 degrees of freedom."""
    from scipy.special import ndtr, stdtrit

    out = np.sqrt(people / (people - 1)) * stdtrit(people - 1, INTERVAL[1]) if people > 1 else np.inf
    return float(ndtr(-out)), float(ndtr(out))
