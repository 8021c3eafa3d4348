"""How well simulated effects of interventions agree with human ones, and how much of that noise allows.

Belongs here: measures of k pairs of effects with known sampling noise. Not here: the effects
(`contrasts.py`).

Human effects h and simulated effects s are seen with noise, as few people are in each arm, and the noise of
the two sides is correlated: an arm that happens to have more of the young shifts both, so that a model which
knows nothing of the interventions, and only the young, would correlate with the humans. Over interventions,
with ‹·› the mean over resamples and D a resample's deviations,

    C = cov(h, s) − ‹cov(D_h, D_s)›,   V_h = var(h) − ‹var(D_h)›,   V_s = var(s) − ‹var(D_s)›

are the covariance and the variances of the effects themselves (what a control arm adds to all effects alike
has no part in them). Every covariance here is C.

- `correlation` C / √(var(h) var(s)): that of the effects as they are seen, which noise draws to 0.
- `disattenuated_correlation` C / √(V_h V_s): the correlation over the root of both sides' reliabilities. The
  model's is 1 where its effects are the same for everybody, and the humans' alone is left.
- `reliability` V_h / var(h): the part of the human effects' variance that is no noise.
- `slope` C / var(h), of simulated on human effects, as a model is judged by how much of a human effect it
  shows: 1 is all, below it is too weak. Noise in h draws it to 0; `disattenuated_slope` C / V_h.
- `sign_accuracy`: of the interventions whose human interval excludes 0 (`n` counts them), how many have the
  same sign; a simulated effect of 0 has none.
- `top_k_regret`, k of TOP: the mean human effect of the k with the largest human effects minus that of the k
  with the largest simulated ones (largest: most towards the scale's upper end), in scale units. Both are of
  the same noisy effects, so even a perfect model regrets something.
- `rmse` of simulated against human effects as they are seen, in scale units.

The last three are of the effects as they are seen, with the noise that the two sides share.

A resample's effects h + D_h carry the noise twice, so it is taken off twice there. Intervals of correlation,
slope and rmse are the spread of the resamples about their own mean, laid about the value (correlations by
Fisher's z, rmse by factors): where the measure lies with other participants *as many as here*. All others
are quantiles over resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from evsim_assets.metrics.contrasts import Effects
from evsim_assets.metrics.measures import Floats

TOP = (1, 3)
MEASURES = (
    "correlation",
    "disattenuated_correlation",
    "reliability",
    "slope",
    "disattenuated_slope",
    "sign_accuracy",
    *(f"top_{k}_regret" for k in TOP),
    "rmse",
)
LEAST = 3
"""Interventions below which variances over them say nothing."""
UNDEFINED_AT_MOST = 0.01
"""The share of resamples without a value up to which an interval is given from the others."""
UNKNOWN_NOISE = "no arm has 2 test participants, so the noise is not known"

_Values = dict[str, Floats]


def agreement_of(effects: Effects) -> Iterator[dict[str, Any]]:
    """Rows measure | value | low | high | n | reason, one for each of MEASURES; k ≥ 1 effects, all known."""
    h, s = effects.human[None, :], effects.simulated[None, :]
    known = not (np.isnan(effects.human_noise).any() or np.isnan(effects.simulated_noise).any())
    low, high = np.quantile(effects.human + effects.human_noise, [0.025, 0.975], axis=0)
    sure = ((low > 0) | (high < 0)) if known else np.zeros(h.shape[1], dtype=bool)
    noise = _noise(effects.human_noise, effects.simulated_noise) if known else np.full(3, np.nan)
    values = _measured(h, s, noise, 1, sure)
    again = _measured(h + effects.human_noise, s + effects.simulated_noise, noise, 2, sure) if known else None
    for measure in MEASURES:
        value = float(values[measure][0])
        ends, lacks = (np.nan, np.nan), UNKNOWN_NOISE
        if again is not None and not np.isnan(value):
            ends, lacks = _interval(measure, value, again[measure])
        why = _why(measure, h[0], s[0], sure, known, values) if np.isnan(value) else lacks
        n = int(sure.sum()) if measure == "sign_accuracy" else h.shape[1]
        missing = np.isnan(value) or np.isnan(ends[0])
        yield {
            "measure": measure,
            "value": value,
            "low": ends[0],
            "high": ends[1],
            "n": n,
            "reason": why if missing else None,
        }


def _noise(human: Floats, simulated: Floats) -> Floats:
    """‹var(D_h)›, ‹var(D_s)›, ‹cov(D_h, D_s)› over interventions."""
    if human.shape[1] < 2:
        return np.full(3, np.nan)
    return np.array([part.mean() for part in _moments(human, simulated)])


def _moments(first: Floats, second: Floats) -> tuple[Floats, Floats, Floats]:
    """Variances and covariance along the last axis (…, k), by k − 1."""
    a, b = first - first.mean(axis=-1, keepdims=True), second - second.mean(axis=-1, keepdims=True)
    free = first.shape[-1] - 1
    return (a * a).sum(axis=-1) / free, (b * b).sum(axis=-1) / free, (a * b).sum(axis=-1) / free


def _measured(h: Floats, s: Floats, noise: Floats, times: int, sure: Any) -> _Values:
    """Every measure of effects (R, k) that carry the noise so many times; (R,) each, NaN where undefined."""
    undefined = np.full(len(h), np.nan)
    measured: _Values = dict.fromkeys(MEASURES, undefined)
    if h.shape[1] >= LEAST:
        measured |= _of_moments(*_moments(h, s), noise, times)
    if sure.any():
        measured["sign_accuracy"] = (np.sign(h) == np.sign(s))[:, sure].mean(axis=1)
    for k in [k for k in TOP if k < h.shape[1]]:
        measured[f"top_{k}_regret"] = _top(h, h, k) - _top(h, s, k)
    return measured | {"rmse": np.sqrt(((s - h) ** 2).mean(axis=1))}


def _of_moments(human: Floats, simulated: Floats, both: Floats, noise: Floats, times: int) -> _Values:
    # Equal effects have a variance of rounding errors only.
    human, simulated = (np.where(part > 1e-20, part, 0.0) for part in (human, simulated))
    own, model, shared = (
        seen - times * part for seen, part in zip((human, simulated, both), noise, strict=True)
    )
    model = np.where(simulated > 0, model, 0.0)
    return {
        "correlation": _over(shared, np.sqrt(human * simulated)),
        "disattenuated_correlation": _over(shared, np.sqrt(np.maximum(own, 0) * np.maximum(model, 0))),
        "reliability": _over(own, own + noise[0]),
        "slope": _over(shared, human),
        "disattenuated_slope": _over(shared, np.maximum(own, 0)),
    }


def _over(part: Floats, whole: Floats) -> Floats:
    """part / whole; NaN where the whole is not above 0, or not known."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))


def _top(judged: Floats, ranked: Floats, k: int) -> Floats:
    """The mean of `judged` over the k largest of `ranked`; of equal ones, their mean stands for each."""
    order = np.argsort(-ranked, axis=1, kind="stable")
    border = np.take_along_axis(ranked, order[:, k - 1 : k], axis=1)
    above, level = ranked > border, ranked == border
    share = (k - above.sum(axis=1, keepdims=True)) / level.sum(axis=1, keepdims=True)
    return np.asarray((judged * (above + level * share)).sum(axis=1) / k)


def _interval(measure: str, value: float, again: Floats) -> tuple[tuple[float, float], str]:
    """The 95 % interval, or why there is none."""
    defined = again[~np.isnan(again)]
    lost = 1 - len(defined) / len(again)
    if lost > UNDEFINED_AT_MOST:
        return (np.nan, np.nan), f"undefined in {lost:.0%} of the resamples, so there is no interval"
    if measure == "correlation":
        return _about(value, defined, _fisher, np.tanh), ""
    if measure == "slope":
        return _about(value, defined, np.asarray, np.asarray), ""
    low, high = np.quantile(defined, [0.025, 0.975])
    if measure == "rmse" and defined.mean() > 0:
        low, high = value * low / defined.mean(), value * high / defined.mean()
    return (float(low), float(high)), ""


def _about(
    value: float, again: Floats, there: Callable[[Any], Any], back: Callable[[Any], Any]
) -> tuple[float, float]:
    moved = there(again)
    low, high = back(there(value) + np.quantile(moved, [0.025, 0.975]) - moved.mean())
    return float(low), float(high)


def _fisher(correlation: Any) -> Any:
    """Fisher's z; of a correlation of exactly ±1, that of the next number to it."""
    return np.arctanh(np.clip(correlation, -1 + 1e-15, 1 - 1e-15))


def _why(measure: str, h: Floats, s: Floats, sure: Any, known: bool, values: _Values) -> str:
    """Why a measure has no value."""
    k = len(h)
    if measure.startswith("top_"):
        return (
            f"there are {k} interventions to choose from"
            if k > 1
            else "there is 1 intervention to choose from"
        )
    if measure == "sign_accuracy":
        return "no human effect's interval excludes 0" if known else UNKNOWN_NOISE
    if k < LEAST:
        return f"needs {LEAST} interventions, and there {'are' if k > 1 else 'is'} {k}"
    if np.ptp(h) < 1e-10:
        return "all human effects are the same"
    if measure in ("correlation", "disattenuated_correlation") and np.ptp(s) < 1e-10:
        return "all simulated effects are the same"
    if not known:
        return UNKNOWN_NOISE
    if values["reliability"][0] <= 0:
        return "the human effects vary no more than noise alone would make them (reliability not above 0)"
    return "the simulated effects vary no more than noise alone would make them"
