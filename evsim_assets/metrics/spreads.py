"""Spreads of means that are seen with noise: 95 % intervals of each, of two spreads' difference and ratio.

Belongs here: the spread of L means by their shares, human and simulated, and intervals that hold whatever the
spread is, 0 included. Not here: means and their noise (`bias.py`, `contrasts.py`), distances between
populations (`distance_intervals.py`).

With means m, shares π and D the deviations of a resample, the squared spread Σ π (m − m̄)² is too large by
‹Σ π (D − D̄)²›, what chance alone would give. It is distributed as a squared distance is, and has the interval
of one (`distance_intervals.py`, with the variance V₀ known from D): from 0 where chance alone may have made
it, and always defined.

Two spreads σ_s and σ_h of the same people, with intervals l … u: their difference with a factor, σ_s − A σ_h,
has the interval of variance estimates recovered (MOVER; Zou and Donner 2008, Donner and Zou 2012)

    σ_s − A σ_h − √(a² − 2 r A a b + A² b²),   a = σ_s − l_s,   b = u_h − σ_h,
    σ_s − A σ_h + √(c² − 2 r A c d + A² d²),   c = u_s − σ_s,   d = σ_h − l_h,

r the correlation of both over resamples. The ratio σ_s / σ_h may be every A whose interval holds 0, as for
Fieller: bounded above only where l_h > 0. So it leaves out 1 where that of the difference leaves out 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evsim_assets.metrics.distance_intervals import squared_distance_interval
from evsim_assets.metrics.measures import Floats

MOST = 1e9
"""A ratio as large as this is not bounded."""


@dataclass(frozen=True)
class Spread:
    """A spread less chance: `squared` (below 0 where chance would give more), the spread's interval `low` …
    `high`, and the squared spreads of resamples `again` (R,)."""

    squared: float
    low: float
    high: float
    again: Floats

    @property
    def value(self) -> float:
        """√squared; 0 where chance alone would give more."""
        return float(np.sqrt(max(self.squared, 0.0)))

    @property
    def signed(self) -> float:
        """√squared; where that is below 0, −√|squared|."""
        return float(np.sign(self.squared) * np.sqrt(abs(self.squared)))


def spread_of(means: Floats, noise: Floats, shares: Floats) -> Spread:
    """The spread of means (L,) with noise (R, L), by shares (L,)."""

    def square(values: Floats) -> Floats:
        centred = values - (values @ shares)[..., None]
        found = np.asarray(centred**2 @ shares)
        return np.where(found < 1e-20, 0.0, found)  # rounding errors of equal means

    seen, again, chance = square(means), square(means + noise), square(noise)
    off, null = np.array([chance.mean()]), float(chance.var())
    dimensions = 2 * off**2 / null if null > 0 else np.ones(1)
    ends = squared_distance_interval(seen[None], off, again.var(keepdims=True), dimensions, excess=2.0)
    low, high = (float(np.sqrt(end[0])) for end in ends)
    return Spread(float(seen - off[0]), low, high, again)


def difference_interval(one: Spread, other: Spread) -> tuple[float, float]:
    """Both ends for one − other."""
    lower, upper = _recovered(one, other)
    return lower(1.0), upper(1.0)


def ratio_interval(one: Spread, other: Spread) -> tuple[float, float]:
    """Both ends for one / other; infinite where there is no bound above, or (both) below."""
    lower, upper = _recovered(one, other)
    return _root(lower), _root(upper) if other.low > 0 else np.inf


def _recovered(one: Spread, other: Spread) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """The ends of σ_one − A σ_other, as functions of A."""
    # values lie within their intervals: these hold the truth under which the value is no surprise
    first, second = (min(max(s.value, s.low), s.high) for s in (one, other))
    deviating = one.again.std() * other.again.std() > 0
    r = float(np.corrcoef(one.again, other.again)[0, 1]) if deviating else 0.0

    def end(factor: float, of_one: float, of_other: float) -> float:
        squares = of_one**2 - 2 * r * factor * of_one * of_other + (factor * of_other) ** 2
        return float(np.sqrt(max(squares, 0.0)))

    def lower(factor: float) -> float:
        return first - factor * second - end(factor, first - one.low, other.high - second)

    def upper(factor: float) -> float:
        return first - factor * second + end(factor, one.high - first, second - other.low)

    return lower, upper


def _root(falling: Callable[[float], float]) -> float:
    """Where a function that begins at 0 or above falls below 0; infinite if nowhere up to MOST."""
    below, above = 0.0, 1.0
    while falling(above) > 0:
        below, above = above, 2 * above
        if above > MOST:
            return float("inf")
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if falling(middle) > 0 else (below, middle)
    return (below + above) / 2
