"""What of drift is mere noise: replicates, the intervals and the floors of its measures.

Belongs here: drawing people, and what a measure is over the draws. Not here: the measures
(`drift_measures.py`), who is drawn from (`drift_people.py`).

Intervals and floors rest on participants, with all their answers. A replicate draws as many of them as
there are, with replacement, apart for those in the wave alone, in the reference alone and in both.
Of more than PEOPLE in one of these groups, only the PEOPLE first by a keyed hash are drawn from:
shares are means over people, so a replicate's deviation from the sample's mean, times √(PEOPLE / n) a
person, has the spread that n people have; it is added to the shares of everybody. Nothing is
scaled after the measure, which is not linear.

The floor is what the measure is where both waves are drawn from the two together: people of one side
alone are drawn from both sides' pool, those in both keep their pair and swap its sides at random.
Where a side's people differ in how much each tells (more answers, other weights), its deviations
are brought to that side's own variance (a first-order correction as of Rao and Scott, 1981).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evsim_assets.surveys.drift_measures import Floats, Measure, Sides, Singles
from evsim_assets.surveys.drift_people import People

REPLICATES = 1000
PEOPLE = 5_000
ROUNDING = 1e-12
"""Differences below it are of floating point alone."""


@dataclass(frozen=True)
class Draws:
    """How much more than on average each of the people is drawn, by replicate: (units, replicates).

    `own` for the interval. For the floor, `as_wave` and `as_reference` draw from the `pool` of those in
    one side alone; `kept` and `swapped` draw those in both, on their own sides and on the other's.
    """

    own: Singles
    pool: npt.NDArray[np.int64]
    as_wave: Singles
    as_reference: Singles
    kept: Singles
    swapped: Singles


def draws_of(drawn: People, seed: int) -> Draws:
    """REPLICATES draws of the people, as many of each group as there are; the same for every subject."""
    rng = np.random.default_rng(seed)
    own = np.zeros((len(drawn.group), REPLICATES), dtype=np.float32)
    for group, n in enumerate(drawn.sizes):
        units = np.flatnonzero(drawn.group == group)
        own[units] = _multiplicities(rng, len(units), n)
    alone = np.flatnonzero(drawn.group != 2)
    pool = np.sort(alone[np.argsort(drawn.rank[alone], kind="stable")][:PEOPLE])
    pairs = _multiplicities(rng, 2 * int((drawn.group == 2).sum()), drawn.sizes[2])
    return Draws(
        own,
        pool,
        _multiplicities(rng, len(pool), drawn.sizes[0]),
        _multiplicities(rng, len(pool), drawn.sizes[1]),
        *np.split(pairs, 2),
    )


def _multiplicities(rng: np.random.Generator, units: int, n: int) -> Singles:
    """Deviations of `n` draws from `units`, (units, REPLICATES); of more than PEOPLE draws, scaled."""
    if not units or not n:
        return np.zeros((units, REPLICATES), dtype=np.float32)
    times = min(n, PEOPLE)
    drawn = rng.integers(units, size=(REPLICATES, times)) * REPLICATES + np.arange(REPLICATES)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=units * REPLICATES).reshape(units, REPLICATES)
    return ((counts - times / units) * np.sqrt(n / times)).astype(np.float32)


def without_drift(sides: Sides, drawn: People, draws: Draws) -> tuple[Floats, Floats]:
    """Counts of both sides in every replicate where both are drawn from the two together."""
    pooled = (sides.wave + sides.reference) / (sides.wave.sum() + sides.reference.sum())
    both, paired = drawn.group == 2, drawn.group[draws.pool]
    pool = np.where((paired == 0)[:, None], sides.of_wave[draws.pool], sides.of_reference[draws.pool])
    spread = _spread(pool)
    results = []
    for mine, theirs, group, alone in (
        (sides.of_wave, sides.of_reference, 0, draws.as_wave),
        (sides.of_reference, sides.of_wave, 1, draws.as_reference),
    ):
        people = sides.wave_people if group == 0 else sides.reference_people
        own = _spread(mine[drawn.group == group])
        apart = drawn_counts(pool, alone) * (np.sqrt(own / spread) if spread else 0.0)
        apart += drawn_counts(mine[both], draws.kept) + drawn_counts(theirs[both], draws.swapped)
        results.append(np.maximum(people * pooled + apart, 0))
    return results[0], results[1]


def drawn_counts(units: Singles, draws: Singles) -> Floats:
    """Σ over people of draws × counts, (REPLICATES, K); only over those who count at all."""
    counted = units.any(axis=1)
    return (draws[counted].T @ units[counted]).astype(np.float64)


def _spread(units: Singles) -> float:
    """How far people (units, K) lie from their common shares: the mean squared distance a person."""
    if not units.any():
        return 0.0
    mass = units.sum(axis=1, dtype=np.float64)
    shares = units.sum(axis=0, dtype=np.float64) / mass.sum()
    return float(((units - mass[:, None] * shares) ** 2).sum() / len(units))


# --- intervals ----------------------------------------------------------------------------------


def interval(
    of: Measure, sides: Sides, deviations: tuple[Floats, Floats], value: float
) -> tuple[float, float]:
    """The interval of 95 %, which holds `value`.

    The upper end is the replicates' 97.5 % percentile. Their 2.5 % percentile would lie above weak
    drift, so the lower end is where a test would no longer find the value surprising: on the line
    from no drift, both sides at the pooled shares (0), to the shares found (1), it is the point
    about which 97.5 % of replicates lie below the value.
    """
    pooled = (sides.wave + sides.reference) / (sides.wave.sum() + sides.reference.sum())
    sizes = sides.wave.sum(), sides.reference.sum()
    noise = of.categories(deviations[0]), of.categories(deviations[1])

    def at(along: float) -> tuple[Floats, Floats]:
        one, other = (
            size * pooled + along * (counts - size * pooled)
            for size, counts in zip(sizes, (sides.wave, sides.reference), strict=True)
        )
        return of.categories(one), of.categories(other)

    def reached(along: float) -> float:
        one, other = (np.maximum(c + n, 0) for c, n in zip(at(along), noise, strict=True))
        return float(np.nanquantile(of.over_categories(one, other), 0.975))

    low = float(of.over_categories(*at(_crossing(reached, value))))
    return min(low, value), max(reached(1.0), value)


def _crossing(rising: Callable[[float], float], level: float) -> float:
    """Where in 0 … 1 a rising function passes `level`, to 0.1 %; the nearer end if it does not."""
    if rising(0.0) >= level - ROUNDING:
        return 0.0
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < level else (low, middle)
    return high
