"""How far simulated answers lie from human ones: pure functions of arrays.

Belongs here: each measure's formula, and how answers are counted and binned. Not here: which
answers are compared (`agreement.py`), what a value means beside noise (`noise_floor.py`).

A population is a vector of weights over a scale's answers, shape (..., K): counts, expected counts
or probabilities. Weights are never taken for values: every measure in scale units gets both.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from evsim_assets import distances
from evsim_assets.distances import rebin as rebin
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import Scale

Floats = npt.NDArray[np.float64]
"""Measures of populations keep float32 where both sides have it, as many replicates do."""
SMOOTHING = 0.5
"""Jeffreys' pseudo-count, added to every bin of both sides before KL."""
KL_BINS = {"kl": distances.BINS, "kl_21": 21, "kl_101": 101}
"""Each KL measure and its number of bins; `kl` leads, and takes one bin an answer on short scales."""
POPULATION_MEASURES = (*KL_BINS, "w1", "js", "tv", "sd_ratio")
CORRECTED = {measure: f"{measure}_corrected" for measure in KL_BINS}
"""Each KL measure, and its name less the bias of finite samples, as a bootstrap finds it."""
NLL_FLOOR = 0.01
"""The share of every distribution that is spread evenly over its scale before `nll`: half an answer beside
some fifty. It keeps an impossible answer's penalty finite (ln(101 / 0.01) = 9.2 nats on 0–100), costs a
distribution that needs none at most 0.01 nats, and, unlike a pseudo-count among the answers at hand, is the
same for large and small groups."""


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
    p, q = _shares(_floats(human) + smoothing), _shares(_floats(model) + smoothing)
    return np.asarray((p * np.log(p / q)).sum(axis=-1))


def wasserstein_1(values: npt.ArrayLike, human: npt.ArrayLike, model: npt.ArrayLike) -> Floats:
    """∫ |F_human − F_model| in the units of `values` (K,), ascending; weights (..., K) on them."""
    points = _values_for(values, human, model)
    apart = np.abs(np.cumsum(_shares(human) - _shares(model), axis=-1)[..., :-1])
    return np.asarray(apart @ np.diff(points))


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
    undefined = np.full(np.broadcast_shapes(human_sd.shape, model_sd.shape), np.nan)
    return np.asarray(np.divide(model_sd, human_sd, out=undefined, where=human_sd > 0))


BINNED_MEASURES = {"js": js, "tv": total_variation}
"""What is measured in the bins of `kl`, besides KL."""


def population_measures(
    scale: Scale,
    human: npt.ArrayLike,
    model: npt.ArrayLike,
    measures: Collection[str] = POPULATION_MEASURES,
) -> dict[str, Floats]:
    """Every population measure, for weights (..., K) over the scale's answers. Values: shape (...).

    The leading axes may be replicates, or models beside the same humans: all are measured at once, as
    the shapes broadcast. `measures`: only those of them.

    `human` are counts. `model` may be on any footing (counts, probabilities); for KL it is brought
    to as many answers as the humans gave, so that every model is smoothed alike and none gains by
    failing often. w1 and sd_ratio use each answer, js and tv the bins of `kl`. A KL with more bins
    than the scale has answers is left out.
    """
    humans, models = _floats(human), _floats(model)
    shares = _shares(models)
    expected = shares * humans.sum(axis=-1, keepdims=True)
    values = answer_values(scale).astype(shares.dtype)
    binned = {len(values): (humans, expected)}  # a bin an answer
    measured: dict[str, Floats] = {}
    for name in (*KL_BINS, *BINNED_MEASURES):
        bins = kl_bins(name if name in KL_BINS else "kl", scale)
        if name not in measures or bins is None:
            continue
        if bins not in binned:
            binned[bins] = rebin(humans, bins), rebin(expected, bins)
        measured[name] = BINNED_MEASURES.get(name, kl)(*binned[bins])
    if "w1" in measures:
        measured["w1"] = wasserstein_1(values, humans, models)
    if "sd_ratio" in measures:
        measured["sd_ratio"] = sd_ratio(values, humans, models)
    return measured


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


def nll(
    values: npt.ArrayLike, probabilities: npt.ArrayLike, answers: npt.ArrayLike, floor: float = NLL_FLOOR
) -> Floats:
    """Negative log-likelihood, in nats, of each answer (n,) under its distribution (n, K) on `values` (K,).

    −ln((1 − floor) p(answer) + floor / K): finite for an answer that the distribution excludes, see
    NLL_FLOOR. A model that is certain, and wrong once in a while, is judged by the floor alone.

    Raises:
        BadInput: an answer is not among `values`.
    """
    points = _values_for(values, probabilities)
    given = np.asarray(answers, dtype=np.float64)
    place = np.minimum(np.searchsorted(points, given), len(points) - 1)
    if not np.array_equal(points[place], given):
        raise BadInput(
            "an answer is not among the distribution's values",
            value=float(given[points[place] != given][0]),
            remedy="leave failures out of the answers and count them",
        )
    said = np.take_along_axis(_shares(probabilities), place[..., None], axis=-1)[..., 0]
    return np.asarray(-np.log((1 - floor) * said + floor / len(points)))


def distribution_modes(values: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """The most likely of `values` (K,) in each distribution (..., K); of several, the lowest."""
    return np.asarray(np.asarray(values, dtype=np.float64)[_shares(weights).argmax(axis=-1)])


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


def _floats(weights: npt.ArrayLike) -> Floats:
    """float32 as it is, all else as float64."""
    given = np.asarray(weights)
    return given if given.dtype == np.float32 else np.asarray(given, dtype=np.float64)


def _shares(weights: npt.ArrayLike) -> Floats:
    """Weights (..., K) over their sum. Raises BadInput for a negative one or a sum of zero."""
    given = _floats(weights)
    total = given.sum(axis=-1, keepdims=True)
    if given.size and not (given.min() >= 0 and total.min() > 0 and total.max() < np.inf):
        raise BadInput(
            "a population's weights must be finite, not negative, and not all zero",
            remedy="check that there is at least one answer",
        )
    return np.asarray(given / total)


def _values_for(values: npt.ArrayLike, *weights: npt.ArrayLike) -> Floats:
    """`values` as floats, checked to be ascending and as many as each of `weights` has."""
    points = _floats(values)
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
    ratio = np.divide(p, q, out=np.ones_like(q), where=p > 0)
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
