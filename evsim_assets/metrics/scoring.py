"""One question at one temperature: every measure of every group, with its interval.

Belongs here: values, bootstrap replicates and intervals from the sums of `tallies.py`, and why a value is
missing. Not here: which questions there are, and the tables (`agreement.py`), how an interval follows from
replicates (`bootstrap.py`, `distance_intervals.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from evsim_assets.metrics.bootstrap import Weights, bias
from evsim_assets.metrics.distance_intervals import measure_intervals
from evsim_assets.metrics.groups import ALL
from evsim_assets.metrics.human_answers import HumanAnswers
from evsim_assets.metrics.measures import (
    CORRECTED,
    KL_BINS,
    Floats,
    kl_bins,
    missing_measure_reason,
    rebin,
)
from evsim_assets.metrics.ranks import Correlation, Pairs, correlation
from evsim_assets.metrics.rows import (
    ALONE,
    COMPARED,
    NEVER_ANSWERED,
    NO_GENERATIONS,
    NO_INTERVAL,
    NOBODY,
    NOT_SHUFFLED,
    ONE_HUMAN_ANSWER,
    ONE_VALUE,
    PLAIN,
    empty_rows,
    measures_at,
)
from evsim_assets.metrics.shuffled import shuffled_measures
from evsim_assets.metrics.tallies import (
    POINT_ANSWERS,
    Lean,
    Measured,
    Tally,
    by_name,
    measured,
    populations,
    side_by_side,
)

Ints = npt.NDArray[np.int64]
OF_GROUPS = 0.4
"""The share of the replicates, the first of them, that a demographic group's intervals are made of, as there
are many groups. Where replicates are normal, chance moves an end by √(0.025 · 0.975 / B) / φ(1.96) standard
errors: 0.13 of 400 replicates, 0.08 of 1,000."""


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

    @cached_property
    def keys(self) -> npt.NDArray[np.object_]:
        """What each prompt is known by in every wording, (n,)."""
        rows = self.human.rows
        return (rows["participant"].astype(str) + "|" + rows["order"].astype(str)).to_numpy(dtype=object)

    def name_of(self, prompts: npt.NDArray[np.bool_]) -> str:
        """A name of these `prompts` (n,): two adapters have it in common where they answered the same."""
        return hashlib.blake2b("\n".join(self.keys[prompts]).encode(), digest_size=8).hexdigest()

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

    Every row has demographic, level, point_answer, measure, value, low, high, n, participants, reason,
    shuffled_persona and shuffled_reason; where `replicates` is not None it is (B,), and `prompts` names those
    behind them (`Asked.name_of`). `pool`: threads, for groups and shuffles.
    """
    sums = _summed(asked, tally)
    people = [int(member.sum()) for _, _, member in asked.groups]
    scored = [g for g, count in enumerate(people) if count > (0 if g == 0 else 1)]
    named = sums.named(sums.of_groups[scored])
    values = _with_failures(measured(asked.human.scale, named["human"], named), named, tally)
    shuffled = _shuffled(asked, tally, [asked.groups[g][2] for g in scored], named["human"], pool)
    answered = {point: asked.name_of(prompts) for point, prompts in _answered(tally).items()}

    def rows_of(g: int) -> list[dict[str, Any]]:
        demographic, level, member = asked.groups[g]
        group = {"demographic": demographic, "level": level, "participants": people[g]}
        if g not in scored:
            why = ALONE if people[g] else NOBODY
            return [group | row for row in empty_rows(why, tally.simulated.temperature)]
        k = scored.index(g)
        of_group = {key: float(v[k]) for key, v in values.items()}
        used = asked.resampled.shape[1] if demographic == ALL else round(OF_GROUPS * asked.resampled.shape[1])
        said = {name: answers[k] for name, answers in populations(named).items()}
        one = _Group(asked, tally, sums, member, of_group, said, used)
        counts = {name: float(named[name][k]) for name in _COUNTS if name in named}
        rows = [group | row for row in one.rows(counts, with_replicates=demographic == ALL)]
        return [row | _beside(row, shuffled, k, answered) for row in rows]

    return [row for rows in pool.map(rows_of, range(len(asked.groups))) for row in rows]


_COUNTS = ("prompts", "prompts usable", "prompts sampled")


def _answered(tally: Tally) -> dict[str, npt.NDArray[np.bool_]]:
    """Which prompts have an answer, by point answer; `none`: those with a distribution."""
    found = dict.fromkeys(("none", *tally.points), tally.usable)
    if "sample" in tally.of_model:
        found["sample"] = np.asarray(tally.simulated.said.any(axis=1))
    return found


def _beside(
    row: Mapping[str, Any], shuffled: Measured, k: int, answered: Mapping[str, str]
) -> dict[str, Any]:
    """The k-th group's shuffled_persona with its reason, and the name of the row's prompts."""
    point, measure = str(row["point_answer"]), str(row["measure"])
    base = shuffled.get((point, measure))
    value = float("nan") if base is None else float(base[k])
    reason = None
    if np.isnan(value):
        reason = row["reason"] if np.isnan(row["value"]) else NOT_SHUFFLED
    names = {"prompts": answered.get(point)} if row["replicates"] is not None else {}
    return {"shuffled_persona": value, "shuffled_reason": reason} | names


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
    for point in tally.points:
        found[point, "n_failed"] = named["prompts"] - named["prompts usable"]
    if "failures" in named:
        found["sample", "n_failed"] = named["failures"] / tally.replicates
    return found


def _shuffled(asked: Asked, tally: Tally, members: list[Any], counts: Floats, pool: Executor) -> Measured:
    inside = np.array([member[asked.person] for member in members])
    return shuffled_measures(
        tally, asked.permuted, asked.place, asked.first, inside, asked.human.weights, counts, pool
    )


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
    """One group's values and how they vary over the first `used` resamples of its people; `said` (K,): what
    its humans answer, and the model by point answer."""

    asked: Asked
    tally: Tally
    sums: _Summed
    member: npt.NDArray[np.bool_]
    values: Mapping[tuple[str, str], float]
    said: Mapping[str, Floats]
    used: int

    def rows(self, counts: Mapping[str, float], *, with_replicates: bool) -> Iterator[dict[str, Any]]:
        """A row a measure, without the group's name."""
        found, alone = self._estimates(), self.member.sum() < 2
        for point, measure in measures_at(self.tally.simulated.temperature):
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
        keys = [key for key in replicates if not np.isnan(values.get(key, np.nan))]
        value = np.array([values[key] for key in keys])
        drawn = np.stack([replicates[key] for key in keys], axis=1)  # (B, M)
        excess = bias(value, drawn)
        low, high = measure_intervals(keys, value, drawn, excess, self._occupied, int(self.member.sum()))
        found = {}
        for k, (point, measure) in enumerate(keys):
            ends = float(low[k]), float(high[k])
            if measure in CORRECTED:
                corrected = _Estimate(float(value[k] - excess[k]), *ends, drawn[:, k] - 2 * excess[k])
                found[point, CORRECTED[measure]] = corrected
            found[point, measure] = _Estimate(float(value[k]), *ends, drawn[:, k])
        return found

    def _occupied(self, point: str, measure: str) -> tuple[int, int]:
        """How many of the measure's bins hold human answers, and how many those of either side: half an
        answer at the least."""
        bins = kl_bins(measure if measure in KL_BINS else "kl", self.asked.human.scale)
        human, model = self.said["human"], self.said[point]
        own, other = (rebin(said, bins or 1) for said in (human, model / model.sum() * human.sum()))
        return int((own > 0).sum()), int(((own > 0) | (other >= 0.5)).sum())

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
