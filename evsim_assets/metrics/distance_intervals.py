"""95 % intervals from replicates, as each measure needs them: distances are too large between samples.

Belongs here: which interval a measure has, and how it follows from value, bias and replicates. Not here:
replicates and plain percentiles (`bootstrap.py`), values (`scoring.py`).

**Squared distances** (KL, Jensen–Shannon) are to second order ½|δ + ε|², with the populations apart by δ and
noise ε. So they are noncentral χ²: v ~ g χ²_ν(D/g), with the mean D + bias (gν = bias) and the variance of
replicates less what these have too much: a replicate adds noise to noise and varies by V + 2 V₀ on average,
V₀ = 2 bias²/k being the variance at D = 0 in k dimensions. The interval holds the D under which v is neither
among the 2.5 % largest nor among the 2.5 % smallest. It begins at 0 where D = 0 would be no surprise, and is
0 alone where even D = 0 would hardly leave two samples so much alike. Far from 0 it is the usual one. A bin
in which nobody happened to answer is empty in all replicates, so their bias is that of the others; the
interval's is larger by as many.

**Distances** (total variation, Wasserstein-1) grow with noise as |δ + ε|: replicates have the mean m, not v,
and where δ is small are wider by as much as m is larger. Their quantiles are brought back to v, all but LEFT
of the way, and narrowed by √(v/m). Such an interval is of the value expected of as many participants.

**Ratios** (sd_ratio) have the bootstrap's bias taken off twice, once for the replicates and once for the
value. Means over people have their percentiles.

Coverage: `benchmarks/interval_coverage.py`, by which the two constants were set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from evsim_assets.metrics.bootstrap import INTERVAL, interval
from evsim_assets.metrics.measures import KL_BINS, POPULATION_MEASURES, Floats

SQUARED, DISTANCES = (*KL_BINS, "js"), ("w1", "tv")
EXCESS = 1.0
"""How often V₀ is taken off the variance of replicates. 2 would be right if V₀ were known; 1 is careful."""
FAR = 2000.0
"""From this size on noncentral χ² is as good as normal, and scipy slow to invert it."""
LEFT = 0.3
"""The part of m − v that is left on, as small distances are skew."""
HIGHEST = {"js": float(np.log(2)), "tv": 1.0}
"""Where a measure of populations ends; all begin at 0."""


def measure_intervals(
    keys: Sequence[tuple[str, str]],
    value: Floats,
    drawn: Floats,
    excess: Floats,
    bins: Callable[[str, str], tuple[int, int]],
    people: int | None = None,
) -> tuple[Floats, Floats]:
    """Both ends (M,) for values (M,), with replicates `drawn` (B, M) and their bias (M,).

    `keys`: point answer and measure. `bins` says of one of SQUARED how many bins hold human answers, and how
    many those of either side. `people`: how many are resampled, as `interval` takes it. NaN where no
    replicate is defined.
    """
    names = np.array([measure for _, measure in keys], dtype=object)
    low, high = interval(drawn, people)
    far = np.isin(names, DISTANCES)
    low[far], high[far] = distance_interval(value[far], value[far] + excess[far], low[far], high[far])
    ratio = names == "sd_ratio"
    low[ratio], high[ratio] = low[ratio] - 2 * excess[ratio], high[ratio] - 2 * excess[ratio]
    at = np.flatnonzero(np.isin(names, SQUARED) & np.isfinite(low))
    if len(at):
        spread = np.nanvar(drawn[:, at], axis=0, dtype=np.float64)
        held = np.array([bins(*keys[int(k)]) for k in at], dtype=float)
        own, either = np.maximum(held.T - 1, 1)
        raised = excess[at] * either / own
        low[at], high[at] = squared_distance_interval(value[at], raised, spread, either)
    most = np.array([HIGHEST.get(name, np.inf) for name in names])
    least = np.where(np.isin(names, POPULATION_MEASURES), 0.0, -np.inf)
    return np.clip(low, least, most), np.clip(high, least, most)


def squared_distance_interval(
    value: Floats, bias: Floats, variance: Floats, dimensions: Floats, excess: float = EXCESS
) -> tuple[Floats, Floats]:
    """Ends for the populations' D ≥ 0, of squared distances `value`; all (M,).

    Args:
        bias: of `value`. variance: of the replicates; where it is 0, both ends are the value.
        dimensions: k, the bins that hold answers, less one. excess: how often V₀ is taken off `variance`.
    """
    from scipy.special import chndtr, chndtrinc, ndtri

    off = np.maximum(bias, 0)
    null = 2 * off**2 / dimensions
    spread = np.maximum(variance - excess * null, null)
    size = 2 * off + 4 * np.maximum(value - off, 0)
    known = (spread > 0) & (size > 0)
    g = np.where(known, spread, 1.0) / np.where(known, size, 1.0)
    freedom, at = np.maximum(off / g, 1e-3), np.maximum(value / g, 1e-12)
    near = np.minimum(at, FAR)
    ends = []
    for share in reversed(INTERVAL):
        reached = chndtr(near, freedom, 0.0) > share
        found = chndtrinc(near, freedom, np.full(at.shape, share))
        centre = np.where(at < FAR, np.where(reached, found, 0.0), _far(at, freedom, float(ndtri(share))))
        ends.append(np.where(known, centre * g, value))
    return ends[0], ends[1]


def _far(at: Floats, freedom: Floats, point: float) -> Floats:
    """The λ of χ'²_ν(λ) whose quantile at a `point` of the normal distribution is `at`, where that is normal:
    (at − ν − λ)² = z² (2ν + 4λ)."""
    apart, square = np.maximum(at - freedom, 0), point**2
    root = np.sqrt((apart + 2 * square) ** 2 - apart**2 + 2 * square * freedom)
    return np.asarray(np.maximum(apart + 2 * square - np.sign(point) * root, 0))


def distance_interval(value: Floats, mean: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Ends for the distance expected of as many people, from the replicates' mean and quantiles; all (M,)."""
    narrowed = np.sqrt(np.minimum(np.divide(value, mean, out=np.ones_like(mean), where=mean > 0), 1))
    middle = value + LEFT * (mean - value)
    return middle + narrowed * (low - mean), middle + narrowed * (high - mean)
