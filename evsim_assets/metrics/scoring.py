"""One question at one temperature: every measure of every group, with its interval.

Belongs here: values, bootstrap replicates and intervals from the sums of `tallies.py`, and why a value is
missing. Not here: which questions there are, and the tables (`agreement.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evsim_assets.metrics.bootstrap import Weights, bias, interval
from evsim_assets.metrics.groups import ALL
from evsim_assets.metrics.human_answers import HumanAnswers
from evsim_assets.metrics.measures import (
    CORRECTED,
    POPULATION_MEASURES,
    Floats,
    missing_measure_reason,
)
from evsim_assets.metrics.ranks import Correlation, Pairs, correlation
from evsim_assets.metrics.rows import (
    ALONE,
    COMPARED,
    MEASURES,
    NEVER_ANSWERED,
    NO_GENERATIONS,
    NO_INTERVAL,
    NOBODY,
    ONE_HUMAN_ANSWER,
    ONE_VALUE,
    PLAIN,
    empty_rows,
)
from evsim_assets.metrics.shuffled import shuffled_measures
from evsim_assets.metrics.simulated import LOST_MASSES
from evsim_assets.metrics.tallies import (
    POINT_ANSWERS,
    Lean,
    Measured,
    Tally,
    by_name,
    measured,
    side_by_side,
)

Ints = npt.NDArray[np.int64]
BIAS_TAKEN_OFF = {measure: {"w1": 0, "tv": 1}.get(measure, 2) for measure in POPULATION_MEASURES}
"""How often the bootstrap's own bias is taken off an interval: once for the replicates, whose ends then speak
of as many participants as there are, and once more for the value, to speak of the whole population. w1 and tv
are not smooth where two populations meet, and no shift is right for the population there: theirs speak of as
many participants, and that of w1 covers best as it comes (`benchmarks/interval_coverage.py`)."""
OF_GROUPS = 0.4
"""The share of the replicates, the first of them, that a demographic group's intervals are made of, as there
are many groups. Where replicates are normal, chance moves an end by √(0.025 · 0.975 / B) / φ(1.96) standard
errors: 0.13 of 400 replicates, 0.08 of 1,000."""
HIGHEST = {"js": float(np.log(2)), "tv": 1.0}
"""Where a measure of populations ends; all begin at 0."""


@dataclass(frozen=True)
class Asked:
    """One question's test answers, by people: n prompts of P participants, sorted by participant.

    `place` (n,): each human answer's index on the scale. `person` (n,): whose it is. `first` (P,): each
    person's first prompt. `groups`: demographic, level and who is in it (P,), everybody first. `resampled`
    (P, B): how often each counts in each replicate. `permuted` (S, n): shuffled personas.
    """

    human: HumanAnswers
    place: Ints
    person: Ints
    first: Ints
    groups: Sequence[tuple[str, str, npt.NDArray[np.bool_]]]
    resampled: Weights
    permuted: Ints

    @property
    def participants(self) -> int:
        """P."""
        return len(self.first)

    def by_person(self, column: Floats) -> Floats:
        """Sums (P, …) of a column (n, …) over each person's prompts."""
        return np.asarray(np.add.reduceat(column, self.first, axis=0))


@dataclass(frozen=True)
class _Summed:
    """Sums of all columns by participant, (P, D), the same to be resampled, and by group, (G, D)."""

    of_people: Floats
    lean: Lean
    of_groups: Floats
    places: Mapping[str, slice]

    def named(self, sums: npt.NDArray[Any]) -> dict[str, Floats]:
        """Sums (R, D) by column, the human counts brought to as many as there are answers."""
        found = by_name(sums, self.places)
        with np.errstate(divide="ignore", invalid="ignore"):
            raised = np.where(found["weight"] > 0, found["prompts"] / found["weight"], 0)
        found["human"] = found["human"] * raised.astype(sums.dtype)[:, None]
        return found


def score_question(asked: Asked, tally: Tally, pool: Executor) -> list[dict[str, Any]]:
    """The rows of one question and temperature, group by group; of everybody with `replicates`.

    Every row has demographic, level, point_answer, measure, value, low, high, n, participants, reason and
    shuffled_persona; where `replicates` is not None it is (B,). `pool`: threads, for groups and shuffles.
    """
    sums = _summed(asked, tally)
    people = [int(member.sum()) for _, _, member in asked.groups]
    scored = [g for g, count in enumerate(people) if count > (0 if g == 0 else 1)]
    named = sums.named(sums.of_groups[scored])
    values = _with_failures(measured(asked.human.scale, named["human"], named), named, tally)
    shuffled = _shuffled(asked, tally, [asked.groups[g][2] for g in scored], named["human"], pool)

    def rows_of(g: int) -> list[dict[str, Any]]:
        demographic, level, member = asked.groups[g]
        group = {"demographic": demographic, "level": level, "participants": people[g]}
        if g not in scored:
            return [group | row for row in empty_rows(ALONE if people[g] else NOBODY)]
        k = scored.index(g)
        of_group = {key: float(v[k]) for key, v in values.items()}
        used = asked.resampled.shape[1] if demographic == ALL else round(OF_GROUPS * asked.resampled.shape[1])
        one = _Group(asked, tally, sums, member, of_group, used)
        counts = {name: float(named[name][k]) for name in _COUNTS if name in named}
        rows = [group | row for row in one.rows(counts, with_replicates=demographic == ALL)]
        for row in rows:
            base = shuffled.get((str(row["point_answer"]), str(row["measure"])))
            row["shuffled_persona"] = np.nan if base is None else float(base[k])
        return rows

    return [row for rows in pool.map(rows_of, range(len(asked.groups))) for row in rows]


_COUNTS = ("prompts", "prompts usable", "prompts sampled")


def _summed(asked: Asked, tally: Tally) -> _Summed:
    """All columns of the tally, summed by participant with survey weights, and the plain counts beside."""
    human, n = asked.human, len(asked.place)
    columns: dict[str, Floats] = {
        "human": np.eye(len(human.scale.answers))[asked.place],
        "weight": np.ones(n),
    }
    columns |= tally.of_model | tally.paired(np.arange(n), asked.place)
    sums = {
        name: asked.by_person(column * (human.weights if column.ndim == 1 else human.weights[:, None]))
        for name, column in columns.items()
    }
    plain = {"prompts": np.ones(n), "prompts usable": tally.usable.astype(float)}
    if "sample" in tally.of_model:
        drawn = np.bincount(tally.simulated.drawn.prompt, minlength=n)
        said = tally.simulated.said.sum(axis=1)
        plain |= {"prompts sampled": (said > 0).astype(float), "failures": drawn - said}
    matrix, places = side_by_side(sums | {name: asked.by_person(column) for name, column in plain.items()})
    members = np.array([member for _, _, member in asked.groups], dtype=np.float64)
    return _Summed(matrix, Lean.of(matrix), members @ matrix, places)


def _with_failures(found: Measured, named: Mapping[str, Floats], tally: Tally) -> Measured:
    """`found` and the number of failures of each point answer, per replicate of the generations."""
    for point in POINT_ANSWERS:
        if point != "sample":
            found[point, "n_failed"] = named["prompts"] - named["prompts usable"]
        elif "failures" in named:
            found[point, "n_failed"] = named["failures"] / len(np.unique(tally.simulated.drawn.replicate))
    return found


def _shuffled(asked: Asked, tally: Tally, members: list[Any], counts: Floats, pool: Executor) -> Measured:
    weights = np.array([member[asked.person] for member in members]) * asked.human.weights
    found = shuffled_measures(tally, asked.permuted, asked.place, weights, counts, pool)
    return {key: value for key, value in found.items() if key[1] not in LOST_MASSES}


@dataclass(frozen=True)
class _Estimate:
    """A value, its interval and its replicates (B,)."""

    value: float
    low: float
    high: float
    replicates: Floats

    def without_interval(self, *, corrected: bool) -> _Estimate:
        """The same where nothing can be resampled: then no bias is known either, and none is taken off."""
        return _Estimate(
            float("nan") if corrected else self.value, float("nan"), float("nan"), self.replicates
        )


@dataclass(frozen=True)
class _Group:
    """One group's values and how they vary over the first `used` resamples of its people."""

    asked: Asked
    tally: Tally
    sums: _Summed
    member: npt.NDArray[np.bool_]
    values: Mapping[tuple[str, str], float]
    used: int

    def rows(self, counts: Mapping[str, float], *, with_replicates: bool) -> Iterator[dict[str, Any]]:
        """A row a measure, without the group's name."""
        found, alone = self._estimates(), self.member.sum() < 2
        for point, measure in MEASURES:
            estimate = found.get((point, measure))
            row: dict[str, Any] = {"point_answer": point, "measure": measure, "replicates": None}
            row["n"] = self._n(point, measure, counts)
            if estimate is None:
                reason = self._reason(point, PLAIN.get(measure, measure))
                yield row | {"value": np.nan, "low": np.nan, "high": np.nan, "reason": reason}
                continue
            if alone or np.isnan(estimate.low):
                estimate = estimate.without_interval(corrected=measure in PLAIN)
                row["reason"] = f"{ALONE}, so no interval" if alone else NO_INTERVAL
            if with_replicates and measure in COMPARED:
                row["replicates"] = estimate.replicates
            yield (
                {"reason": None}
                | row
                | {
                    "value": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                }
            )

    def _estimates(self) -> dict[tuple[str, str], _Estimate]:
        """Every measure that has a value."""
        correlations = self._correlations()
        values = dict(self.values) | {(p, "spearman"): c.value for p, c in correlations.items()}
        replicates = self._replicates(correlations)
        keys = [key for key in MEASURES if key in replicates and not np.isnan(values.get(key, np.nan))]
        value = np.array([values[key] for key in keys])
        drawn = np.stack([replicates[key] for key in keys], axis=1)  # (B, M)
        excess, (low, high) = bias(value, drawn), interval(drawn)
        found = {}
        for k, (point, measure) in enumerate(keys):
            shift = excess[k] * BIAS_TAKEN_OFF.get(measure, 0)
            ends = float(low[k] - shift), float(high[k] - shift)
            if measure in CORRECTED:
                corrected = _Estimate(float(value[k] - excess[k]), *ends, drawn[:, k] - shift)
                found[point, CORRECTED[measure]] = corrected
            if measure in POPULATION_MEASURES:
                most = HIGHEST.get(measure, np.inf)
                ends = float(np.clip(ends[0], 0, most)), float(np.clip(ends[1], 0, most))
            found[point, measure] = _Estimate(float(value[k]), *ends, drawn[:, k])
        return found

    def _correlations(self) -> dict[str, Correlation]:
        asked, found = self.asked, {}
        for point, given in self.tally.answered.items():
            weight = asked.human.weights[given.row] * given.times
            pairs = Pairs(asked.place[given.row], given.place, weight, asked.person[given.row])
            found[point] = correlation(pairs.of(self.member), asked.participants)
        return found

    def _replicates(self, correlations: Mapping[str, Correlation]) -> Measured:
        """Every measure in every replicate, (B,) each."""
        resampled = np.ascontiguousarray(self.asked.resampled[self.member, : self.used]).T
        named = self.sums.named(self.sums.lean.rows(self.member).summed(resampled))
        found = measured(self.asked.human.scale, named["human"], named)
        if correlations:
            pulls = np.stack([half for c in correlations.values() for half in (c.pull, c.share)], axis=1)
            moved = resampled @ pulls[self.member].astype(np.float32)
            for k, (point, one) in enumerate(correlations.items()):
                found[point, "spearman"] = one.replicates(moved[:, 2 * k], moved[:, 2 * k + 1])
        found = _with_failures(found, named, self.tally)
        with np.errstate(divide="ignore", invalid="ignore"):
            brought = self.member_prompts / named["prompts"]
            for point in POINT_ANSWERS:
                if (point, "n_failed") in found:
                    found[point, "n_failed"] = found[point, "n_failed"] * brought
        return found

    @property
    def member_prompts(self) -> float:
        """How many prompts the group's people were asked."""
        return float(self.sums.of_people[self.member, self.sums.places["prompts"].start].sum())

    @staticmethod
    def _n(point: str, measure: str, counts: Mapping[str, float]) -> int:
        if point == "sample":
            return int(counts.get("prompts sampled", 0))
        if point == "none" and measure not in ("crps", "nll"):
            return int(counts["prompts"])
        return int(counts["prompts usable"])

    def _reason(self, point: str, measure: str) -> str:
        """Why there is no value."""
        if point == "sample" and "sample" not in self.tally.of_model:
            return NO_GENERATIONS
        missing = missing_measure_reason(measure, self.asked.human.scale)
        if missing is not None:
            return missing
        if np.isnan(self.values.get((point, "w1" if point == "none" else "rmse"), np.nan)):
            return NEVER_ANSWERED
        if measure == "spearman":
            return ONE_VALUE
        if measure in ("crps", "nll"):
            return NEVER_ANSWERED
        if measure == "sd_ratio":
            return ONE_HUMAN_ANSWER
        raise ArithmeticError(f"{measure} ({point}) is not a number, and nothing says why")
