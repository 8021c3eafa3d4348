"""Adapters against baselines on the same test prompts: who is closer to the people, and for how sure.

Belongs here: measures of both on common prompts, their intervals, and paired differences and ratios. Not
here: who contests (`contestants.py`), what is concluded (`claim.py`), adapters alone (`comparisons.py`).

Both are scored on the same people, resampled with the same weights. Prompts that some contestant hardly ever
answers are left out for all, so that nobody is scored on easier prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.bootstrap import RESAMPLES, Weights, bias, interval, participant_weights
from evsim_assets.metrics.contestants import PLACE, Asked, Distributions, Said, contestants, one_reading
from evsim_assets.metrics.distance_intervals import measure_intervals
from evsim_assets.metrics.measures import (
    Floats,
    answer_positions,
    answer_values,
    crps,
    kl_bins,
    nll,
    population_measures,
    rebin,
)
from evsim_assets.specs.survey import Scale

KL = ("kl", "kl_corrected")
MEASURES = (*KL, "rmse", "crps", "nll")
OF_DISTRIBUTIONS = ("crps", "nll")
"""Measures that one answer a person has no part in."""
CONTEST_COLUMNS = [
    *PLACE,
    "adapter",
    "chosen_by",
    "temperature",
    "baseline",
    "baseline_chosen_by",
    "reading",
    "setting",
    "measure",
    "adapter_value",
    "adapter_low",
    "adapter_high",
    "baseline_value",
    "baseline_low",
    "baseline_high",
    "difference",
    "low",
    "high",
    "ratio",
    "ratio_low",
    "ratio_high",
    "p_value",
    "closer",
    "n",
    "n_left_out",
    "reason",
]
NUMBERS = CONTEST_COLUMNS[CONTEST_COLUMNS.index("adapter_value") : CONTEST_COLUMNS.index("closer")]
NEITHER = "neither"
NONE_COMMON = "no test prompt is answered by all that contest it"
ALONE = "only 1 test participant, so no interval"
NO_INTERVAL = "no resample of the participants has a value"


def contest(
    prompts: pd.DataFrame,
    distributions: Distributions,
    baseline_answers: pd.DataFrame,
    chosen_baselines: pd.DataFrame,
    chosen_adapters: pd.DataFrame,
    factors: Mapping[str, Mapping[str, Any]],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Each chosen adapter against each chosen baseline of the same question and scale: CONTEST_COLUMNS.

    Args:
        prompts: the study's; those of split test are scored.
        distributions: of the adapters, by key; exact ones only: what an adapter answers in prose counts as
            failed here.
        baseline_answers: of `baselines.answers.chosen_answers`. chosen_baselines: of `chosen_on_validation`;
            of each baseline the rows of `one_reading`.
        chosen_adapters: question, answers, chosen_by, adapter, temperature; one row a choice.
        factors: `AdapterSpec.factors` by adapter.
        seed: the study's; with a participant's id it makes their resampling, as everywhere.

    `kl` is the plug-in value, `kl_corrected` that less its bias (once). RMSE reads an adapter's mean, and a
    baseline's `reading`: a regressor's prediction, unrounded; the mean of a distribution; of random answers a
    draw, in expectation. `difference` is adapter − baseline, `ratio` adapter / baseline, with 95 % intervals
    from the replicates of the same people; differences in KL have the bootstrap's own bias taken off twice,
    as in `comparisons`, and ratios of KL, from which it cannot be, have no interval. `p_value`: two-sided, of
    no difference. `closer` names the one whose value is lower where the difference's interval leaves out 0,
    else `neither`. `n` prompts are answered by all that contest the question, `n_left_out` are not. What has
    no value has a `reason`.

    Raises:
        BadInput: as `contestants`.
    """
    choices, parts = one_reading(chosen_baselines), []
    for asked in contestants(
        prompts, distributions, baseline_answers, chosen_baselines, chosen_adapters, factors
    ):
        here = (asked.human.question, asked.human.answer_scale)
        mine, theirs = (
            t[(t["question"] == here[0]) & (t["answers"] == here[1])] for t in (chosen_adapters, choices)
        )
        answered = asked.answered
        counts = {"n": int(answered.sum()), "n_left_out": int((~answered).sum())}
        ring = _Ring.of(asked.among(answered), seed, resamples) if counts["n"] else None
        rows = [dict(zip(PLACE, here, strict=True)) | row | counts for row in _rows(ring, mine, theirs)]
        parts.append(pd.DataFrame(rows, columns=CONTEST_COLUMNS))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=CONTEST_COLUMNS)
    table["reason"] = table["reason"].astype(object).where(table["reason"].notna(), None)
    return table.astype(dict.fromkeys([*NUMBERS, "temperature"], float) | {"n": int, "n_left_out": int})


@dataclass(frozen=True)
class _Estimate:
    """A value, its 95 % interval, and its replicates (B,), less twice their bias where they have one."""

    value: float
    ends: tuple[float, float]
    replicates: Floats

    @classmethod
    def of(cls, value: float, replicates: Floats, people: int) -> _Estimate:
        """One whose interval is the replicates' percentiles."""
        return cls(value, _percentiles(replicates, people), replicates)


def _percentiles(replicates: Floats, people: int | None = None) -> tuple[float, float]:
    """Of a value as in `metrics`, with its `people`; of a difference as in `comparisons`, without."""
    low, high = interval(replicates[:, None], people)
    return float(low[0]), float(high[0])


@dataclass(frozen=True)
class _Ring:
    """The common prompts of one question, by people: n prompts of P participants, sorted by participant.

    `place` (n,): each answer's index on the scale. `first` (P,): each person's first prompt. `resampled`
    (B, P): how often each counts in each replicate.
    """

    asked: Asked
    place: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    resampled: Weights

    @classmethod
    def of(cls, asked: Asked, seed: int, resamples: int) -> _Ring:
        human = asked.human
        people, first = np.unique(human.rows["participant"].astype(object).to_numpy(), return_index=True)
        resampled = participant_weights(seed, people, resamples)
        return cls(asked, answer_positions(human.answers, human.scale), first, resampled)

    @property
    def people(self) -> int:
        """How many participants."""
        return len(self.first)

    @property
    def alone(self) -> bool:
        """Whether there is one participant, and nothing to resample."""
        return self.people < 2

    def measured(self, said: Said) -> dict[str, _Estimate]:
        """Every measure of one contestant."""
        human = self.asked.human
        found = self._kl(said)
        square = self._mean(said.square)
        found["rmse"] = _Estimate.of(float(np.sqrt(square.value)), np.sqrt(square.replicates), self.people)
        if said.whole:
            values = answer_values(human.scale)
            found["crps"] = self._mean(crps(values, said.given, human.answers))
            found["nll"] = self._mean(nll(values, said.given, human.answers))
        return found

    def _sums(self, column: Floats) -> tuple[Floats, Floats]:
        """The sum of a column (n, …) over all, and in each replicate (B, …)."""
        by_person = np.add.reduceat(column, self.first, axis=0)
        return np.asarray(by_person.sum(axis=0)), np.asarray(self.resampled.astype(np.float64) @ by_person)

    def _mean(self, column: Floats) -> _Estimate:
        """The weighted mean of a column (n,)."""
        weights = self.asked.human.weights
        (total, replicates), (all_weight, weight) = self._sums(column * weights), self._sums(weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            return _Estimate.of(float(total / all_weight), replicates / weight, self.people)

    def _kl(self, said: Said) -> dict[str, _Estimate]:
        """KL with its bias in the value, and less it; their interval is one, as in `metrics`."""
        human, weights = self.asked.human, self.asked.human.weights[:, None]
        people, resampled = self._sums(np.eye(len(human.scale.answers))[self.place] * weights)
        model, remodelled = self._sums(said.given * weights)
        _, weight = self._sums(human.weights)
        _, prompts = self._sums(np.ones(len(self.place)))
        defined = weight > 0
        resampled[defined] *= (prompts[defined] / weight[defined])[:, None]  # as many answers as there are
        value = _kl_of(human.scale, people, model)
        drawn = np.full((len(weight), 1), np.nan)
        if defined.any():
            drawn[defined, 0] = _kl_of(human.scale, resampled[defined], remodelled[defined])
        excess = bias(value[None], drawn)
        occupied = _occupied(human.scale, people, model)
        low, high = measure_intervals(
            [("none", "kl")], value[None], drawn, excess, lambda *_: occupied, self.people
        )
        ends, replicates = (float(low[0]), float(high[0])), drawn[:, 0] - 2 * excess[0]
        corrected = np.nan if self.alone else float(value - excess[0])
        return {
            "kl": _Estimate(float(value), ends, replicates),
            "kl_corrected": _Estimate(corrected, ends, replicates),
        }


def _kl_of(scale: Scale, human: Floats, model: Floats) -> Floats:
    return population_measures(scale, human, model, ["kl"])["kl"]


def _occupied(scale: Scale, human: Floats, model: Floats) -> tuple[int, int]:
    """How many bins of `kl` hold human answers, and how many those of either, half an answer at the least."""
    bins = kl_bins("kl", scale) or len(scale.answers)
    own, other = rebin(human, bins), rebin(model / model.sum() * human.sum(), bins)
    return int((own > 0).sum()), int(((own > 0) | (other >= 0.5)).sum())


def _rows(ring: _Ring | None, adapters: pd.DataFrame, baselines: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A row an adapter's choice, baseline's choice and measure."""
    measured = _Measured(ring)
    pairs: dict[Any, dict[str, dict[str, Any]]] = {}
    for adapter in adapters.to_dict("records"):
        own = (str(adapter["adapter"]), float(adapter["temperature"]))
        for baseline in baselines.to_dict("records"):
            other = (baseline["algorithm"], baseline["setting"], baseline["reading"])
            if (own, other) not in pairs:
                pairs[own, other] = {measure: measured.pair(own, other, measure) for measure in MEASURES}
            named = {
                "adapter": own[0],
                "chosen_by": adapter["chosen_by"],
                "temperature": own[1],
                "baseline": other[0],
                "baseline_chosen_by": baseline["chosen_by"],
                "reading": other[2],
                "setting": other[1],
            }
            yield from (named | {"measure": m} | found for m, found in pairs[own, other].items())


class _Measured:
    """All that contest one question, each measured once."""

    def __init__(self, ring: _Ring | None) -> None:
        self._ring = ring
        asked = ring.asked if ring else None
        everyone: dict[Any, Said] = {**asked.adapters, **asked.baselines} if asked else {}
        self._found = {name: ring.measured(said) for name, said in everyone.items()} if ring else {}

    def pair(
        self, adapter: tuple[str, float], baseline: tuple[str, str, str], measure: str
    ) -> dict[str, Any]:
        """The columns from `adapter_value` to `closer`, and the `reason`."""
        nothing: dict[str, Any] = dict.fromkeys(NUMBERS, np.nan) | {"closer": NEITHER, "reason": None}
        if self._ring is None:
            return nothing | {"reason": NONE_COMMON}
        one, two = self._found[adapter][measure], self._found[baseline].get(measure)
        sides = _side("adapter", one, alone=self._ring.alone)
        if two is None:
            reason = f"{baseline[0]} gives one answer, and no distribution"
            return nothing | sides | {"reason": reason}
        sides |= _side("baseline", two, alone=self._ring.alone)
        found = nothing | sides | {"difference": one.value - two.value}
        if one.value >= 0 and two.value > 0:
            found["ratio"] = one.value / two.value
        if self._ring.alone:
            return found | {"reason": ALONE}
        apart = one.replicates - two.replicates
        if not np.isfinite(apart).any():
            return found | {"reason": NO_INTERVAL}
        found |= _paired(apart)
        if measure not in KL:
            with np.errstate(divide="ignore", invalid="ignore"):
                found["ratio_low"], found["ratio_high"] = _percentiles(one.replicates / two.replicates)
        if found["high"] < 0 or found["low"] > 0:
            found["closer"] = adapter[0] if found["high"] < 0 else baseline[0]
        return found


def _side(name: str, estimate: _Estimate, *, alone: bool) -> dict[str, float]:
    """A value and its interval; none for one participant."""
    low, high = (np.nan, np.nan) if alone else estimate.ends
    return {f"{name}_value": estimate.value, f"{name}_low": low, f"{name}_high": high}


def _paired(apart: Floats) -> dict[str, float]:
    """The interval of a difference from its replicates (B,), and twice the smaller share of them on one side
    of 0, counting one more on each side, so that it is never 0."""
    low, high = _percentiles(apart)
    known = apart[np.isfinite(apart)]
    fewer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return {"low": low, "high": high, "p_value": min(1.0, 2 * (fewer + 1) / (len(known) + 1))}
