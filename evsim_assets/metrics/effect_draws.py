"""What the effects of interventions may be, behind those that are seen with noise.

Belongs here: draws of true effects, given the seen ones. Not here: the noise (`contrasts.py`), measures of
the draws (`effect_agreement.py`).

A seen effect h = μ + D. To draw what μ may be, effects are taken to scatter about a common mean, or about a
line in what the model says of each (s, as seen: a model that is right tells much of μ), so that μ given h and
s is normal: shrunk to mean or line,

    μ = m + D̄ + B (h − m) + √B (D − D̄),   m = h̄ + γ (s − s̄),   B = τ²/(τ² + ‹(D − D̄)²›)

with a resample's deviations D, their mean over interventions D̄ (the noise of a control arm, common to all
effects), γ = C/var(s) and τ² = V − γ C. The variance V and the covariance C of the true effects are not known
either: each draw has those of another resample, moved so that their mean is the estimate.
"""

from __future__ import annotations

import numpy as np

from evsim_assets.metrics.measures import Floats

LEAST = 3
"""Interventions below which variances over them say nothing, and effects are not shrunk."""


def drawn_effects(seen: Floats, noise: Floats) -> Floats:
    """R draws (R, k) of true effects behind `seen` (k,), with `noise` (R, k); shrunk to their mean."""
    if len(seen) < LEAST:
        return seen + noise
    chance = _moment(noise, noise)
    variance = np.maximum(_moved(_moment(seen, seen), _moment(seen + noise, seen + noise), chance), 0)
    return _posterior(seen, noise, np.full((1, 1), seen.mean()), variance)


def drawn_effects_beside(seen: Floats, noise: Floats, other: Floats, other_noise: Floats) -> Floats:
    """The same, shrunk to the line in the model's effects `other` (k,), with their noise (R, k)."""
    spread = float(_moment(other, other))
    if len(seen) < LEAST or spread < 1e-20:
        return drawn_effects(seen, noise)
    chance, shared = _moment(noise, noise), _moment(noise, other_noise)
    variance = np.maximum(_moved(_moment(seen, seen), _moment(seen + noise, seen + noise), chance), 0)
    both = _moved(_moment(seen, other), _moment(seen + noise, other + other_noise), shared)
    most = np.sqrt(variance * spread)
    slope = np.clip(both, -most, most) / spread
    line = seen.mean() + slope[:, None] * (other - other.mean())
    return _posterior(seen, noise, line, np.maximum(variance - slope**2 * spread, 0))


def _posterior(seen: Floats, noise: Floats, middle: Floats, variance: Floats) -> Floats:
    """Draws (R, k) about `middle` with the variance (R,) of true effects about it."""
    common = noise.mean(axis=1, keepdims=True)
    own = noise - common
    whole = variance[:, None] + (own**2).mean(axis=0)
    kept = np.divide(variance[:, None], whole, out=np.zeros(whole.shape), where=whole > 0)
    return np.asarray(middle + common + kept * (seen - middle) + np.sqrt(kept) * own)


def _moved(seen: Floats, again: Floats, chance: Floats) -> Floats:
    """A moment without noise, as each resample may have it: of another one than its deviations are."""
    return np.roll(seen - chance.mean() + again - again.mean(), len(again) // 2)


def _moment(first: Floats, second: Floats) -> Floats:
    """The covariance over the last axis (…, k), by k − 1."""
    a, b = first - first.mean(axis=-1, keepdims=True), second - second.mean(axis=-1, keepdims=True)
    return np.asarray((a * b).sum(axis=-1) / (first.shape[-1] - 1))
