"""How far one wave lies from another in one demographic or question: the measures of drift.

Belongs here: the measures as functions of counts. Not here: which counts (`drift.py`), what of a
measure is mere noise (`drift_noise.py`), how models differ from people (`metrics/`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evsim_assets.distances import total_variation, wasserstein_1
from evsim_assets.surveys.drift_people import Subject

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

SMOOTHING = 0.5
"""Jeffreys' pseudo-count, added on both sides to every category that either side has."""
MODERATE, LARGE = 0.1, 0.25
"""The usual thresholds of the population stability index: N. Siddiqi, Credit Risk Scorecards, Wiley 2006."""
MEASURES = {
    "demographic": ("psi", "total_variation"),
    "question": ("psi", "wasserstein", "total_variation"),
}


@dataclass(frozen=True)
class Sides:
    """What one subject looks like on both sides: everybody's counts, and those of people drawn from.

    Counts (K,), and people (units, K), are on a footing on which a person counts one on average.
    `wave_size` and `reference_size` are the numbers of answers.
    """

    wave: Floats
    reference: Floats
    wave_people: int
    reference_people: int
    wave_size: float
    reference_size: float
    of_wave: Singles
    of_reference: Singles


@dataclass(frozen=True)
class Measure:
    """One measure of one subject, of counts (..., K) on both sides; NaN where one has nobody."""

    name: str
    subject: Subject
    sides: Sides

    def __call__(self, wave: Floats, reference: Floats) -> Floats:
        """The measure of counts (..., K) over all categories."""
        return self.over_categories(self.categories(wave), self.categories(reference))

    def categories(self, counts: Floats) -> Floats:
        """What the measure looks at: single answers, or those categories that either side has."""
        if self.name == "wasserstein":
            return counts
        there = self.subject.bins(self.sides.wave + self.sides.reference) > 0
        return np.asarray(self.subject.bins(counts)[..., there])

    def over_categories(self, wave: Floats, reference: Floats) -> Floats:
        """The measure of what `categories` gives."""
        p, q = _shares(wave), _shares(reference)
        if self.name == "psi":
            return psi(p, q, self.sides.wave_size, self.sides.reference_size)
        if self.name == "wasserstein" and self.subject.values is not None:
            return wasserstein_1(self.subject.values, p, q)
        return total_variation(p, q)


def psi(p: Floats, q: Floats, n: float, m: float) -> Floats:
    """Population stability index Σ (p − q) ln(p / q) of shares (..., K) of `n` and of `m` answers."""
    categories = p.shape[-1]
    one = (n * p + SMOOTHING) / (n + SMOOTHING * categories)
    other = (m * q + SMOOTHING) / (m + SMOOTHING * categories)
    return np.asarray(((one - other) * np.log(one / other)).sum(axis=-1))


def severity(psi: float) -> str:
    """The usual word for a PSI."""
    return "stable" if psi < MODERATE else "moderate" if psi < LARGE else "large"


def _shares(counts: Floats) -> Floats:
    total = counts.sum(axis=-1, keepdims=True)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
