"""How well simulated effects of interventions agree with human ones, and how much of that noise allows.

Belongs here: measures of k pairs of effects with known sampling noise. Not here: the effects
(`contrasts.py`), what they may be in truth (`effect_draws.py`), spreads seen with noise (`spreads.py`).

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

**Intervals.** A resample's effects h + D_h carry the noise twice, so it is taken off twice there. Those of
correlation, slope and rmse are the spread of the resamples about their own mean, laid about the value
(correlations by Fisher's z, rmse by factors): where the measure lies with other participants *as many as
here*. The others are of the effects themselves, and defined whatever these are:

- `reliability`: V_h has the interval of a squared spread (`spreads.py`).
- `disattenuated_correlation`: with λ² = V_h/V_s, ρ = (1 − q²)/(1 + q²), q the ratio of the spreads of h − λ s
  and h + λ s, which has an interval from 0 to anything. So ρ's lies within −1 … 1 and nothing is cut, though
  the value may lie beyond. Where V_h or V_s is not above 0, it is −1 … 1, and the row says so.
- `disattenuated_slope`: all β for which C − β V_h may be 0 (Fieller). Where V_h may be 0, nothing bounds it:
  null, with the reason.
- `sign_accuracy`, `top_k_regret`: quantiles over draws of what the true effects may be (`effect_draws.py`) of
  the share of equal signs among the same interventions, and of what choosing by the simulated effects as they
  are seen costs in *true* effects. The regret as seen lies above that, often beyond its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from evsim_assets.metrics.contrasts import Effects
from evsim_assets.metrics.effect_draws import LEAST, drawn_effects, drawn_effects_beside
from evsim_assets.metrics.measures import Floats
from evsim_assets.metrics.spreads import ratio_interval, spread_of

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
NORMAL = 1.959964
"""The 97.5 % point of the normal distribution."""
UNDEFINED_AT_MOST = 0.01
"""The share of resamples without a value up to which an interval is given from the others."""
NO_SPREAD = "the human effects cannot be told from noise"
NO_MODEL_SPREAD = "the simulated effects cannot be told from noise"
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
        if again is not None and measure in OF_TRUTH:
            ends, lacks = OF_TRUTH[measure](effects, noise, sure)
        elif again is not None and not np.isnan(value):
            ends, lacks = _interval(measure, value, again[measure])
        why = _why(measure, h[0], s[0], sure, known, values) if np.isnan(value) else lacks
        n = int(sure.sum()) if measure == "sign_accuracy" else h.shape[1]
        missing = np.isnan(value) or np.isnan(ends).any() or bool(lacks and again is not None)
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


_Ends = tuple[tuple[float, float], str]


def _of_reliability(effects: Effects, noise: Floats, sure: Any) -> _Ends:
    k = len(effects.human)
    if k < LEAST:
        return _NOTHING
    own = spread_of(effects.human, effects.human_noise, np.full(k, 1 / k))
    low, high = (end**2 * k / (k - 1) for end in (own.low, own.high))
    if not noise[0] + low > 0:
        return _NOTHING
    return (low / (low + noise[0]), high / (high + noise[0])), ""


def _of_correlation(effects: Effects, noise: Floats, sure: Any) -> _Ends:
    k = len(effects.human)
    if k < LEAST or np.ptp(effects.human) < 1e-10 or np.ptp(effects.simulated) < 1e-10:
        return _NOTHING
    seen = _moments(effects.human, effects.simulated)
    own, model = seen[0] - noise[0], seen[1] - noise[1]
    if not (own > 0 and model > 0):
        return (-1.0, 1.0), NO_SPREAD if own <= 0 else NO_MODEL_SPREAD
    scale, shares = np.sqrt(own / model), np.full(k, 1 / k)
    unlike, alike = (
        spread_of(
            effects.human + sign * effects.simulated,
            effects.human_noise + sign * effects.simulated_noise,
            shares,
        )
        for sign in (-scale, scale)
    )
    low, high = ratio_interval(unlike, alike)
    least, most = (-1.0 if np.isinf(q) else float((1 - q**2) / (1 + q**2)) for q in (high, low))
    return (least, most), ""


def _of_slope(effects: Effects, noise: Floats, sure: Any) -> _Ends:
    """Every β with (C − β V)² ≤ z² var(C − β V), the variance less what resamples have too much."""
    k = len(effects.human)
    if k < LEAST or np.ptp(effects.human) < 1e-10:
        return _NOTHING
    seen = _moments(effects.human, effects.simulated)
    own, both = seen[0] - noise[0], seen[2] - noise[2]
    again = _moments(effects.human + effects.human_noise, effects.simulated + effects.simulated_noise)
    chance = _moments(effects.human_noise, effects.simulated_noise)
    (bb, ob), (_, oo) = np.cov(again[2], again[0]) - np.cov(chance[2], chance[0])
    # β² (V² − z² oo) − 2 β (C V − z² ob) + C² − z² bb ≤ 0
    square = NORMAL**2
    a, b, c = own**2 - square * oo, own * both - square * ob, both**2 - square * bb
    if a <= 0 or own <= 0:
        return (np.nan, np.nan), f"unbounded: {NO_SPREAD}"
    root = np.sqrt(max(b * b - a * c, 0.0))
    return (float((b - root) / a), float((b + root) / a)), ""


def _of_signs(effects: Effects, noise: Floats, sure: Any) -> _Ends:
    if not sure.any():
        return _NOTHING
    human = drawn_effects(effects.human, effects.human_noise)
    model = drawn_effects(effects.simulated, effects.simulated_noise)
    return _quantiles((np.sign(human) == np.sign(model))[:, sure].mean(axis=1)), ""


def _of_regret(k: int) -> Callable[[Effects, Floats, Any], _Ends]:
    def regret(effects: Effects, noise: Floats, sure: Any) -> _Ends:
        if k >= len(effects.human):
            return _NOTHING
        true = drawn_effects_beside(
            effects.human, effects.human_noise, effects.simulated, effects.simulated_noise
        )
        chosen = np.broadcast_to(effects.simulated, true.shape)
        return _quantiles(np.maximum(_top(true, true, k) - _top(true, chosen, k), 0.0)), ""

    return regret


OF_TRUTH: dict[str, Callable[[Effects, Floats, Any], _Ends]] = {
    "reliability": _of_reliability,
    "disattenuated_correlation": _of_correlation,
    "disattenuated_slope": _of_slope,
    "sign_accuracy": _of_signs,
    **{f"top_{k}_regret": _of_regret(k) for k in TOP},
}
"""Measures whose intervals are of the effects themselves: from effects, ‹noise› and which signs are sure."""
_NOTHING: _Ends = ((float("nan"), float("nan")), "")


def _quantiles(again: Floats) -> tuple[float, float]:
    low, high = np.quantile(again, [0.025, 0.975])
    return float(low), float(high)


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
