"""How far simulated answers lie from human ones: pure functions of arrays.

Belongs here: each measure's formula, and how answers are counted and binned. Not here: which
answers are compared (`agreement.py`), what a value means beside noise (`noise_floor.py`).

A population is a vector of weights over a scale's answers, shape (..., K): counts, expected counts
or probabilities. Weights are never taken for values: every measure in scale units gets both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evsim_assets import distances
from evsim_assets.distances import rebin as rebin
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import Scale

Floats = npt.NDArray[np.float64]
SMOOTHING = 0.5
"""Jeffreys' pseudo-count, added to every bin of both sides before KL."""
KL_BINS = {"kl": distances.BINS, "kl_21": 21, "kl_101": 101}
"""Each KL measure and its number of bins; `kl` leads, and takes one bin an answer on short scales."""
POPULATION_MEASURES = (*KL_BINS, "w1", "js", "tv", "sd_ratio")
INDIVIDUAL_MEASURES = ("rmse", "mae", "spearman")


# --- answers as weights on a scale ---------------------------------------------------------------


def answer_values(scale: Scale) -> Floats:
    """Every answer on the scale, ascending, in scale units. Shape (K,)."""
    return np.asarray(scale.answers, dtype=np.float64)


def answer_counts(answers: npt.ArrayLike, scale: Scale, weights: npt.ArrayLike | None = None) -> Floats:
    """How often each answer of the scale occurs in `answers` (n,), each by its weight. Shape (K,).

    Raises:
        BadInput: an answer that is not on the scale; nothing is clipped or dropped.
    """
    positions = answer_positions(answers, scale)
    return np.bincount(positions, weights, minlength=len(scale.answers)).astype(np.float64)


def balanced(weights: npt.ArrayLike) -> Floats:
    """Survey weights (n,) over their mean, so that they sum to n; all positive, and at least one.

    What a weight is counted in (people, shares) then says nothing, and smoothed counts stay counts.
    """
    given = np.asarray(weights, dtype=np.float64)
    return given * (len(given) / given.sum())


def answer_positions(answers: npt.ArrayLike, scale: Scale) -> npt.NDArray[np.int64]:
    """The index on the scale of each of `answers` (n,): 0 for `low`. Raises BadInput off the scale."""
    given = np.asarray(answers, dtype=np.float64)
    positions = (given - scale.low) / scale.step
    off = ~((positions >= 0) & (positions < len(scale.answers)) & (positions == np.floor(positions)))
    if off.any():
        raise BadInput(
            f"an answer is not on the scale {scale.low}, {scale.low + scale.step}, … {scale.high}",
            value=float(given[off][0]),
            remedy="leave failures out of the answers and count them",
        )
    return positions.astype(np.int64)


def kl_bins(measure: str, scale: Scale) -> int | None:
    """How many bins the KL `measure` has on this scale; None where the scale has fewer answers."""
    bins, answers = KL_BINS[measure], len(scale.answers)
    if measure == "kl":
        return min(bins, answers)
    return bins if bins <= answers else None


# --- populations ---------------------------------------------------------------------------------


def kl(human: npt.ArrayLike, model: npt.ArrayLike, smoothing: float = SMOOTHING) -> Floats:
    """KL(human ‖ model) in nats, between COUNTS (..., B), each bin of both raised by `smoothing`.

    Pass counts or expected counts, never probabilities: half a count added to a probability would
    drown it. Finite by construction for `smoothing` > 0.
    """
    p, q = _shares(np.asarray(human) + smoothing), _shares(np.asarray(model) + smoothing)
    return np.asarray((p * np.log(p / q)).sum(axis=-1))


def wasserstein_1(values: npt.ArrayLike, human: npt.ArrayLike, model: npt.ArrayLike) -> Floats:
    """∫ |F_human − F_model| in the units of `values` (K,), ascending; weights (..., K) on them."""
    points = _values_for(values, human, model)
    return distances.wasserstein_1(points, _shares(human), _shares(model))


def js(human: npt.ArrayLike, model: npt.ArrayLike) -> Floats:
    """Jensen–Shannon divergence in nats, 0 … ln 2; finite without smoothing. Weights (..., B)."""
    p, q = _shares(human), _shares(model)
    middle = (p + q) / 2
    return np.asarray((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2)


def total_variation(human: npt.ArrayLike, model: npt.ArrayLike) -> Floats:
    """Half the sum of absolute differences, 0 … 1. Weights (..., B)."""
    return distances.total_variation(_shares(human), _shares(model))


def sd_ratio(values: npt.ArrayLike, human: npt.ArrayLike, model: npt.ArrayLike) -> Floats:
    """Standard deviation of the model over that of the humans; NaN where no two humans differ."""
    points = _values_for(values, human, model)
    human_sd, model_sd = _standard_deviation(points, human), _standard_deviation(points, model)
    undefined = np.full(np.shape(human_sd), np.nan)
    return np.asarray(np.divide(model_sd, human_sd, out=undefined, where=human_sd > 0))


def population_measures(scale: Scale, human: npt.ArrayLike, model: npt.ArrayLike) -> dict[str, Floats]:
    """Every population measure, for weights (..., K) over the scale's answers. Values: shape (...).

    `human` are counts. `model` may be on any footing (counts, probabilities); for KL it is brought
    to as many answers as the humans gave, so that every model is smoothed alike and none gains by
    failing often. w1 and sd_ratio use each answer, js and tv the bins of `kl`. A KL with more bins
    than the scale has answers is left out.
    """
    humans, models = np.asarray(human, dtype=np.float64), np.asarray(model, dtype=np.float64)
    expected = _shares(models) * humans.sum(axis=-1, keepdims=True)
    values = answer_values(scale)
    measured: dict[str, Floats] = {}
    for name in KL_BINS:
        bins = kl_bins(name, scale)
        if bins is not None:
            measured[name] = kl(rebin(humans, bins), rebin(expected, bins))
    bins = kl_bins("kl", scale) or len(values)
    coarse_human, coarse_model = rebin(humans, bins), rebin(expected, bins)
    return measured | {
        "w1": wasserstein_1(values, humans, models),
        "js": js(coarse_human, coarse_model),
        "tv": total_variation(coarse_human, coarse_model),
        "sd_ratio": sd_ratio(values, humans, models),
    }


def missing_measure_reason(measure: str, scale: Scale) -> str | None:
    """Why `population_measures` leaves `measure` out on this scale; None where it does not."""
    if measure in KL_BINS and kl_bins(measure, scale) is None:
        return f"{KL_BINS[measure]} bins on a scale of {len(scale.answers)} answers"
    return None


# --- individuals ---------------------------------------------------------------------------------


def rmse(human: npt.ArrayLike, model: npt.ArrayLike, weights: Floats | None = None) -> float:
    """Root mean square error between paired answers (n,), in scale units; a weighted mean, if asked."""
    return float(np.sqrt(np.average(_paired_errors(human, model) ** 2, weights=weights)))


def mae(human: npt.ArrayLike, model: npt.ArrayLike, weights: Floats | None = None) -> float:
    """Mean absolute error between paired answers (n,), in scale units; a weighted mean, if asked."""
    return float(np.average(np.abs(_paired_errors(human, model)), weights=weights))


def spearman(human: npt.ArrayLike, model: npt.ArrayLike, weights: Floats | None = None) -> float:
    """Rank correlation of paired answers (n,), ties at their mean rank; NaN where a side is constant.

    With weights (n,), all positive, ranks count weights in place of answers, and the correlation is
    weighted: an answer of weight 2 is two answers.
    """
    _paired_errors(human, model)
    if weights is not None and np.ptp(weights) == 0:
        weights = None  # equal weights change nothing, not even rounding
    first, second = _mean_ranks(human, weights), _mean_ranks(model, weights)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    if weights is None:
        return float(np.corrcoef(first, second)[0, 1])
    (own, both), (_, other) = np.cov(first, second, aweights=weights, ddof=0)
    return float(both / np.sqrt(own * other))


def crps(values: npt.ArrayLike, probabilities: npt.ArrayLike, answers: npt.ArrayLike) -> Floats:
    """Continuous ranked probability score of each answer (n,) under its distribution (n, K).

    ∫ (F(v) − 1[v ≥ answer])² dv, exact for a distribution on `values` (K,); scale units, 0 is best.
    """
    points = _values_for(values, probabilities, probabilities)
    below = np.cumsum(_shares(probabilities), axis=-1)[..., :-1]
    reached = points[:-1] >= np.asarray(answers, dtype=np.float64)[..., None]
    return np.asarray(((below - reached) ** 2 * np.diff(points)).sum(axis=-1))


def distribution_means(values: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """The mean of each distribution (..., K) on `values` (K,)."""
    return np.asarray(_shares(weights) @ np.asarray(values, dtype=np.float64))


def distribution_medians(values: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """The median of each distribution (..., K): the first of `values` (K,) with half the weight at or below.

    Float32 masses may sum to a hair under one half where half is meant, hence the 1e-6.
    """
    reached = np.cumsum(_shares(weights), axis=-1) >= 0.5 - 1e-6
    return np.asarray(np.asarray(values, dtype=np.float64)[reached.argmax(axis=-1)])


# --- shared by the above -------------------------------------------------------------------------


def _shares(weights: npt.ArrayLike) -> Floats:
    """Weights (..., K) over their sum. Raises BadInput for a negative one or a sum of zero."""
    given = np.asarray(weights, dtype=np.float64)
    total = given.sum(axis=-1, keepdims=True)
    if not (np.all(given >= 0) and np.all(total > 0) and np.all(np.isfinite(total))):
        raise BadInput(
            "a population's weights must be finite, not negative, and not all zero",
            remedy="check that there is at least one answer",
        )
    return np.asarray(given / total)


def _values_for(values: npt.ArrayLike, *weights: npt.ArrayLike) -> Floats:
    """`values` as floats, checked to be ascending and as many as each of `weights` has."""
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 1 or np.any(np.diff(points) <= 0):
        raise BadInput(
            "values must ascend along one axis", value=points.shape, remedy="pass values first, then weights"
        )
    for weight in weights:
        if np.shape(weight)[-1] != len(points):
            raise BadInput(
                f"{len(points)} values, but weights of shape {np.shape(weight)}",
                remedy="pass one weight a value",
            )
    return points


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    """Σ p ln(p/q) with 0 ln 0 = 0; q > 0 wherever p > 0."""
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    return np.asarray((p * np.log(ratio)).sum(axis=-1))


def _standard_deviation(values: Floats, weights: npt.ArrayLike) -> Floats:
    shares = _shares(weights)
    mean = shares @ values
    return np.asarray(np.sqrt((shares * (values - mean[..., None]) ** 2).sum(axis=-1)))


def _paired_errors(human: npt.ArrayLike, model: npt.ArrayLike) -> Floats:
    first, second = np.asarray(human, dtype=np.float64), np.asarray(model, dtype=np.float64)
    if first.shape != second.shape or first.size == 0 or not np.all(np.isfinite(second)):
        raise BadInput(
            "paired answers must be as many on both sides, at least one, and all there",
            value=(first.shape, second.shape),
            remedy="leave failures out of both sides and count them",
        )
    return first - second


def _mean_ranks(answers: npt.ArrayLike, weights: Floats | None) -> Floats:
    """Ranks from 1, ties at their mean; with weights, the weight below and half of that beside."""
    _, place, size = np.unique(np.asarray(answers), return_inverse=True, return_counts=True)
    if weights is not None:
        beside = np.bincount(place, weights)
        return np.asarray((np.cumsum(beside) - beside / 2)[place], dtype=np.float64)
    last = np.cumsum(size)
    return np.asarray(((last - size + 1 + last) / 2)[place], dtype=np.float64)
