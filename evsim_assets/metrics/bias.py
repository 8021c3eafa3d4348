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
found. A resample's means carry the noise twice, so it is taken off twice there.
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
    "simulated_spread",
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
UNDEFINED_AT_MOST = 0.01
"""The share of resamples without a value up to which an interval is given from the others."""
NEVER_ANSWERED = "the model answers none of these prompts"
NO_DIFFERENCE = "the human groups differ no more than chance alone would make them"


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
        `amplification`: 1 is as different as people, above is exaggerated, 0 is levelled out. 95 % interval
        over participants. `worst_level`: the level whose simulated mean lies furthest from the human one, by
        `worst_difference`. `n`: participants in those levels. A `reason` beside a value says why it has no
        interval.

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
    """amplification | low | high | human_spread | simulated_spread | reason."""
    row: dict[str, Any] = dict.fromkeys(["amplification", "low", "high"], np.nan)
    row |= dict.fromkeys(["human_spread", "simulated_spread"], np.nan)
    if len(human.means) < 2:
        return row | {"reason": "fewer than 2 levels have 2 test participants"}
    own, own_again = _spread(human)
    row["human_spread"] = own
    if np.isnan(model.means).any() or np.isnan(model.noise).any():
        nothing = bool(np.isnan(model.means).all())
        return row | {"reason": NEVER_ANSWERED if nothing else "the model answers hardly anybody of a level"}
    models, models_again = _spread(model)
    row["simulated_spread"] = models
    if own <= 0:
        return row | {"reason": NO_DIFFERENCE}
    row["amplification"] = models / own
    defined = own_again > 0
    if (~defined).mean() > UNDEFINED_AT_MOST:
        return row | {"reason": f"no interval: in {(~defined).mean():.0%} of the resamples {NO_DIFFERENCE}"}
    row["low"], row["high"] = np.quantile(models_again[defined] / own_again[defined], [0.025, 0.975])
    return row | {"reason": None}


def _spread(groups: _Means) -> tuple[float, Floats]:
    """The spread between groups, and in each resample (R,)."""

    def variance(means: Floats) -> Floats:
        centred = means - (means @ groups.shares)[..., None]
        return np.asarray(centred**2 @ groups.shares)

    chance = float(variance(groups.noise).mean())
    found, again = variance(groups.means) - chance, variance(groups.means + groups.noise) - 2 * chance
    return float(_signed_root(found)), _signed_root(again)


def _signed_root(square: Floats) -> Floats:
    square = np.where(np.abs(square) < 1e-20, 0.0, square)  # rounding errors of equal means
    return np.asarray(np.sign(square) * np.sqrt(np.abs(square)))
