"""Does a model exaggerate or level out the differences between groups of people?

Belongs here: spreads of group means, human and simulated, their ratio, and differences by group. Not here:
the measures of each group (`agreement.py`), who is in a group (`groups.py`), pictures (`figures.py`).

The spread between the groups of a demographic is the standard deviation of their mean answers, each by its
share of the people. Means of few people differ by chance, the model's as well, as other people would have
given it other prompts. So with D the deviations of a resample (a group's residuals by the participants'
bootstrap weights, raised by √(n/(n−1)) as they are taken from the group's own mean), and ‹·› the mean over
resamples, the spread between the groups themselves is

    spread² = var(means) − ‹var(D)›,     amplification = simulated spread / human spread.

Where chance alone would give more, spread² is below 0 and the spread shown is −√|spread²|: no difference
found. Intervals of both spreads, their difference and their ratio always hold (`spreads.py`): where the human
spread may be 0, that of the ratio has no end above, and the row says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.bootstrap import RESAMPLES, participant_weights
from evsim_assets.metrics.expected import ExpectedAnswers, expected_answers, with_factors
from evsim_assets.metrics.groups import ALL, group_members
from evsim_assets.metrics.measures import Floats
from evsim_assets.metrics.spreads import difference_interval, ratio_interval, spread_of
from evsim_assets.specs.demographics import Demographic

BIAS_COLUMNS = [
    "temperature",
    "question",
    "demographic",
    "measure",
    "amplification",
    "low",
    "high",
    "human_spread",
    "human_low",
    "human_high",
    "simulated_spread",
    "simulated_low",
    "simulated_high",
    "spread_difference",
    "difference_low",
    "difference_high",
    "worst_level",
    "worst_difference",
    "levels",
    "n",
    "reason",
]
LEVEL_COLUMNS = [
    "temperature",
    "question",
    "demographic",
    "level",
    "n",
    "n_failed",
    "human_mean",
    "simulated_mean",
    "difference",
    "low",
    "high",
    "reason",
]
MEASURE = "mean"
"""The statistic of a group whose spread is measured."""
LEAST = 2
"""Participants below which a group has no mean here."""
_OF_SPREADS = BIAS_COLUMNS[BIAS_COLUMNS.index("amplification") : BIAS_COLUMNS.index("worst_level")]
NEVER_ANSWERED = "the model answers none of these prompts"
NO_DIFFERENCE = "the human groups differ no more than chance alone would make them"
UNBOUNDED = "unbounded above: the human spread cannot be told from 0"


@dataclass(frozen=True)
class _Means:
    """Means of L groups on one side, their deviations (R, L) and values that are missing (L,); `shares`
    (L,) of the people."""

    means: Floats
    noise: Floats
    failed: npt.NDArray[np.int64]
    shares: Floats


def bias(
    prompts: pd.DataFrame,
    people: pd.DataFrame,
    distributions: pd.DataFrame,
    factors: Mapping[str, Any],
    *,
    seed: int,
    demographics: Iterable[Demographic | str] | None = None,
    resamples: int = RESAMPLES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Amplification of group differences among test participants, and the differences by group.

    Args:
        people: one row a participant, one column a demographic; who is missing is in no group.
        demographics: the columns to group by; all, if not given.

    Returns:
        `bias`: `factors`, then BIAS_COLUMNS; one row a temperature, question and demographic. Spreads are in
        scale units, between the levels (`levels` of them) with 2 or more test participants; the model's
        side puts the mean of each prompt's exact distribution, given success, in place of the answer.
        `amplification`: 1 is as different as people, above is exaggerated, 0 is levelled out. All intervals
        are 95 %, over participants; `low` and `high` are of the amplification, `high` null with a `reason`
        where nothing bounds it above; `spread_difference` is simulated − human, a spread below 0 taken for 0.
        `worst_level`: the level whose simulated mean lies furthest from the human one, by
        `worst_difference`. `n`: participants in those levels. A null value, or end of an interval, has a
        `reason`.

        levels: `factors`, then LEVEL_COLUMNS; per level, means and simulated − human with its interval;
        `n_failed`: answers of the group that the model never gives, left out of its mean.

    Raises:
        BadInput: no such demographic; no prompt in the adapter's wording; a test prompt without its
            distribution.
    """
    groups: dict[str, dict[str, set[str]]] = {}
    ids = people["participant"].astype(str).to_numpy()
    for demographic, level, member in group_members(people, demographics):
        if demographic != ALL:
            groups.setdefault(demographic, {})[level] = set(ids[member])
    found: list[dict[str, Any]] = []
    by_level: list[dict[str, Any]] = []
    for expected in expected_answers(prompts, distributions, factors):
        place = {"temperature": expected.temperature, "question": expected.human.question}
        asked = _Asked(expected, seed, resamples)
        for demographic, members in groups.items():
            row, levels = asked.compared(members)
            here = place | {"demographic": demographic}
            found.append(here | row)
            by_level += [here | level for level in levels]
    return with_factors(found, BIAS_COLUMNS, factors), with_factors(by_level, LEVEL_COLUMNS, factors)


class _Asked:
    """One question at one temperature, with the resampling weights of those who answered it."""

    def __init__(self, expected: ExpectedAnswers, seed: int, resamples: int) -> None:
        self._expected = expected
        ids = expected.human.rows["participant"].astype(str).to_numpy()
        self._people, self._person = np.unique(ids, return_inverse=True)
        self._weights = participant_weights(seed, self._people.tolist(), resamples)

    def compared(self, members: Mapping[str, set[str]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The row of one demographic, and those of its levels."""
        inside = {name: np.array([p in ids for p in self._people]) for name, ids in members.items()}
        counts = {name: int(flags.sum()) for name, flags in inside.items()}
        kept = [name for name, count in counts.items() if count >= LEAST]
        member = (
            np.array([inside[name] for name in kept], dtype=float).reshape(len(kept), len(self._people)).T
        )
        human = self._means(self._expected.human.answers.astype(float), member)
        model = self._means(self._expected.means, member)
        levels = list(_level_rows(counts, kept, human, model))
        row: dict[str, Any] = {"measure": MEASURE, "levels": len(kept)}
        row["n"] = int(member.any(axis=1).sum())
        return row | _worst(levels) | _amplification(human, model), levels

    def _means(self, values: Floats, member: Floats) -> _Means:
        """Group means of values (n,), NaN where the model never answers; `member` (P, L) of 0 and 1."""
        known = ~np.isnan(values)
        own, people = self._expected.human.weights, len(self._people)
        weight = np.bincount(self._person, np.where(known, own, 0.0), people)  # (P,): of a person's values
        total = np.bincount(self._person, np.where(known, own * np.nan_to_num(values), 0.0), people)
        lost = np.bincount(self._person, ~known, people)
        everybody = np.bincount(self._person, own, people)
        mass = member.T @ weight
        means = _over(member.T @ total, mass)
        pulls = member * (total[:, None] - weight[:, None] * np.nan_to_num(means))
        effective = _over(mass**2, member.T @ weight**2)
        raised = np.sqrt(_over(effective, effective - 1))  # NaN of a single person with values
        noise = self._weights @ (pulls * _over(raised, mass))
        shares = member.T @ everybody
        failed = (member.T @ lost).astype(np.int64)
        return _Means(means, noise, failed, shares / max(shares.sum(), 1e-300))


def _over(part: Floats, whole: Floats) -> Floats:
    """part / whole; NaN where the whole is not above 0, rounding aside."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 1e-9))


def _level_rows(
    counts: Mapping[str, int], kept: Sequence[str], human: _Means, model: _Means
) -> Iterator[dict[str, Any]]:
    """One row a level."""
    empty = dict.fromkeys(["human_mean", "simulated_mean", "difference", "low", "high"], np.nan)
    for level, count in counts.items():
        row: dict[str, Any] = {"level": level, "n": count, "n_failed": 0, **empty}
        if level not in kept:
            yield row | {"reason": "only 1 test participant" if count else "no test participant"}
            continue
        place = kept.index(level)
        difference = model.means[place] - human.means[place]
        row |= {"human_mean": human.means[place], "simulated_mean": model.means[place]}
        row |= {"difference": difference, "n_failed": int(model.failed[place])}
        noise = model.noise[:, place] - human.noise[:, place]
        row["low"], row["high"] = np.quantile(difference + noise, [0.025, 0.975])
        reason = NEVER_ANSWERED if np.isnan(difference) else None
        yield row | {"reason": reason or ("answers of only 1 participant" if np.isnan(row["low"]) else None)}


def _worst(levels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The level that is off by most for certain: whose interval's nearer end lies furthest from 0. None where
    every interval holds 0; by the differences alone, levels of two people would always be the worst."""
    certain = [max(level["low"], -level["high"]) for level in levels]
    sure = [(apart, level) for apart, level in zip(certain, levels, strict=True) if apart > 0]  # no NaN
    if not sure:
        return {"worst_level": None, "worst_difference": np.nan}
    _, worst = max(sure, key=lambda pair: pair[0])
    return {"worst_level": worst["level"], "worst_difference": worst["difference"]}


def _amplification(human: _Means, model: _Means) -> dict[str, Any]:
    """The columns from `amplification` to `difference_high`, and `reason`."""
    row: dict[str, Any] = dict.fromkeys(_OF_SPREADS, np.nan)
    if len(human.means) < 2:
        return row | {"reason": "fewer than 2 levels have 2 test participants"}
    own = spread_of(human.means, human.noise, human.shares)
    row |= {"human_spread": own.signed, "human_low": own.low, "human_high": own.high}
    if np.isnan(model.means).any() or np.isnan(model.noise).any():
        nothing = bool(np.isnan(model.means).all())
        return row | {"reason": NEVER_ANSWERED if nothing else "the model answers hardly anybody of a level"}
    models = spread_of(model.means, model.noise, model.shares)
    row |= {"simulated_spread": models.signed, "simulated_low": models.low, "simulated_high": models.high}
    row["spread_difference"] = models.value - own.value
    row["difference_low"], row["difference_high"] = difference_interval(models, own)
    low, high = ratio_interval(models, own)
    if np.isinf(low):  # both spreads may be 0, or only the human one is
        return row | {"reason": f"{NO_DIFFERENCE}; {UNBOUNDED}"}
    row |= {"low": low, "high": np.nan if np.isinf(high) else high}
    if own.squared > 0:
        row["amplification"] = models.signed / own.signed
    reasons = [NO_DIFFERENCE] * (own.squared <= 0) + [UNBOUNDED] * bool(np.isinf(high))
    return row | {"reason": "; ".join(reasons) or None}
