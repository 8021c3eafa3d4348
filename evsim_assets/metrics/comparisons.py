"""Which of two adapters is closer to the humans, and whether that is more than chance.

Belongs here: paired differences from stored bootstrap replicates. Not here: making replicates
(`bootstrap.py`), one adapter beside floors and nulls (`beside.py`).

Adapters are scored on the same participants, resampled with the same weights: what is hard about a
participant is hard for both, so their difference is known better than either value.

Each is scored on the prompts that it answered. Where one fails these are not the same, and a difference may
be that of the prompts: replicates hold sums over each adapter's own, and no common ones can be picked from
them. Such a pair is marked, and once one of the two failed at more than MAY_FAIL, neither is called closer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.groups import ALL
from evsim_assets.metrics.measures import KL_BINS

COMPARED = ["answers", "temperature", "question", "point_answer", "measure"]
COMPARISON_COLUMNS = [
    *COMPARED,
    "adapter",
    "other",
    "difference",
    "low",
    "high",
    "p_value",
    "closer",
    "n_adapter",
    "n_other",
    "different_prompts",
    "reason",
]
MORE_IS_CLOSER = ("spearman", "success_rate")
"""Measures of which the larger value is better; of `sd_ratio` the one nearer to 1, of others the smaller."""
BIAS_TAKEN_OFF = {**dict.fromkeys((*KL_BINS, "js"), 2), "sd_ratio": 1}
"""How often the bootstrap's own bias is taken off the replicates of what is larger between samples than
between populations: of squared distances for replicates and value, of distances from 1, which are folded
there, once. (The `*_corrected` have it off already.)"""
MAY_FAIL = 0.01
"""The share of its prompts that an adapter may have failed at and still be called closer than one that
answered others. Below it the prompts are all but the same."""
DIFFERENT = "scored on different prompts, each on those it answered"
PAIRS_AT_ONCE = 256
"""Differences of so many pairs are in memory at a time: of 1000 replicates, 1 MiB."""
INTERVAL = (0.025, 0.975)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Replicates = npt.NDArray[np.float32]


def comparisons(replicates: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """Each pair of adapters, over all participants: COMPARISON_COLUMNS.

    Pairs have the answer scale, temperature, question, point answer and measure in common; each comes
    once, in the order of `metrics`. `difference` is adapter − other, for `sd_ratio` of the distances from 1,
    |ratio − 1|; `low` and `high` its 95 % interval: the quantiles of the replicates' differences, of those
    BIAS_TAKEN_OFF less their bias (mean of replicates − difference). `p_value`, two-sided: twice the smaller
    share of replicates, so shifted, on one side of 0 (counting one more on each side, so never 0). `closer`
    names the one that is nearer to the humans where the interval leaves out 0, else `neither`.

    `n_adapter`, `n_other`: prompts behind each value. `different_prompts`: whether they are not the same
    ones; then a `reason` says so beside the numbers, and `closer` is neither if one adapter failed at more
    than MAY_FAIL of its prompts. A pair in which one has no value has null numbers, `closer` neither and a
    `reason`.

    Args:
        replicates: of the adapters, concatenated: adapter, temperature, question, demographic, level,
            point_answer, measure, prompts (what the answered prompts are known by), replicates (one array of
            equal length a row).
        metrics: of the same adapters, at least their factors and the values of what has replicates.
    """
    table = _values_with_replicates(replicates, metrics)
    order = {adapter: place for place, adapter in enumerate(table["adapter"].unique())}
    parts = []
    for place, rows in table.groupby(COMPARED, sort=False):
        rows = rows.sort_values("adapter", key=lambda names: names.map(order), kind="stable")
        if len(rows) > 1:
            contest = _Contest.of(rows)
            shared: dict[str, Any] = dict(zip(COMPARED, place, strict=True))
            parts.append(pd.DataFrame(shared | contest.columns(shared["measure"])))
    if not parts:
        return pd.DataFrame(columns=COMPARISON_COLUMNS)
    compared = pd.concat(parts, ignore_index=True)[COMPARISON_COLUMNS]
    compared["reason"] = compared["reason"].astype(object).where(compared["reason"].notna(), None)
    return compared


def _values_with_replicates(replicates: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """The metrics of group `all` whose measure is replicated, with their replicates, None where missing."""
    keys = ["adapter", "temperature", "question", "point_answer", "measure"]
    stored = replicates[replicates["demographic"] == ALL][[*keys, "prompts", "replicates"]]
    kinds = set(zip(stored["point_answer"], stored["measure"], strict=True))
    wanted = [kind in kinds for kind in zip(metrics["point_answer"], metrics["measure"], strict=True)]
    everybody = metrics[metrics["demographic"] == ALL]
    asked = everybody.groupby(["adapter", "temperature", "question"])["n"].transform("max")
    values = everybody.assign(asked=asked)[np.array(wanted, dtype=bool)[metrics["demographic"] == ALL]]
    values = values[[*keys, "answers", "value", "n", "asked", "reason"]]
    return values.merge(stored, on=keys, how="left", validate="one_to_one")


@dataclass(frozen=True)
class _Contest:
    """A adapters at the same task: `values`, `n` of `asked` prompts answered and their name `prompts` (A,),
    `replicates` (A, B), NaN where there are none."""

    adapters: npt.NDArray[np.object_]
    values: Floats
    n: Integers
    asked: Integers
    prompts: npt.NDArray[np.object_]
    replicates: Replicates
    missing: list[str | None]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> _Contest:
        given = [row if isinstance(row, (np.ndarray, list)) else None for row in rows["replicates"]]
        length = max((len(row) for row in given if row is not None), default=1)
        blank = np.full(length, np.nan, dtype=np.float32)
        replicates = np.stack([blank if row is None else np.asarray(row, np.float32) for row in given])
        values = rows["value"].to_numpy(dtype=float)
        lost = np.isnan(values) | ~np.isfinite(replicates).any(axis=1)
        missing = [
            f"{adapter}: {reason or 'no replicates'}" if gone else None
            for adapter, reason, gone in zip(rows["adapter"], rows["reason"], lost, strict=True)
        ]
        n, asked = (rows[name].to_numpy(dtype=np.int64) for name in ("n", "asked"))
        adapters, prompts = (rows[name].to_numpy(dtype=object) for name in ("adapter", "prompts"))
        return cls(adapters, values, n, asked, prompts, replicates, missing)

    def columns(self, measure: str) -> dict[str, Any]:
        """Every pair's columns from `adapter` on, (pairs,) each."""
        one, two = np.triu_indices(len(self.adapters), k=1)
        parts = [self._compared(measure, one[at], two[at]) for at in _chunks(len(one))]
        numbers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        known = np.array([why is None for why in self.missing])
        different = known[one] & known[two] & (self.prompts[one] != self.prompts[two])
        failing = self.n < (1 - MAY_FAIL) * self.asked
        side = np.where(different & (failing[one] | failing[two]), 0, numbers.pop("closer")).astype(int)
        closer = np.select([side > 0, side < 0], [self.adapters[one], self.adapters[two]], "neither")
        reasons = [
            "; ".join(why for why in (self.missing[a], self.missing[b], DIFFERENT if differ else None) if why)
            or None
            for a, b, differ in zip(one, two, different, strict=True)
        ]
        named = {"adapter": self.adapters[one], "other": self.adapters[two]}
        return (
            named
            | numbers
            | {
                "closer": closer,
                "n_adapter": self.n[one],
                "n_other": self.n[two],
                "different_prompts": different,
                "reason": np.array(reasons, dtype=object),
            }
        )

    def _compared(self, measure: str, one: Integers, two: Integers) -> dict[str, Floats]:
        """Numbers of the pairs (one[i], two[i]); `closer` is 1 for the first, -1 for the second, else 0."""
        values, replicates = self.values, self.replicates
        if measure == "sd_ratio":
            values, replicates = np.abs(values - 1), np.abs(replicates - 1)
        found = _differences(
            values[one] - values[two], replicates[one] - replicates[two], times=BIAS_TAKEN_OFF.get(measure, 0)
        )
        closer = (found["high"] < 0).astype(float) - (found["low"] > 0)
        return found | {"closer": -closer if measure in MORE_IS_CLOSER else closer}


def _chunks(pairs: int) -> Iterator[slice]:
    for start in range(0, pairs, PAIRS_AT_ONCE):
        yield slice(start, start + PAIRS_AT_ONCE)


def _differences(values: Floats, replicates: Replicates, *, times: int) -> dict[str, Floats]:
    """Intervals and p-values of differences (M,) with replicates (M, B); NaN where none is defined.

    Replicates that are not defined (NaN) for one of both adapters are left out.
    """
    gone = np.isnan(values) | np.isnan(replicates).all(axis=1)
    ordered = np.sort(np.where(gone[:, None], np.float32(0), replicates), axis=1)  # NaN come last
    count = np.isfinite(ordered).sum(axis=1)
    mean = np.nansum(ordered, axis=1, dtype=np.float64) / count
    shift = times * (mean - np.where(gone, 0, values))
    low, high = (_quantiles(ordered, count, quantile) - shift for quantile in INTERVAL)
    below = (ordered <= shift[:, None]).sum(axis=1)
    above = (ordered >= shift[:, None]).sum(axis=1)
    p_value = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (count + 1))
    found = {"difference": values, "low": low, "high": high, "p_value": p_value}
    return {name: np.where(gone, np.nan, numbers).astype(float) for name, numbers in found.items()}


def _quantiles(ordered: Replicates, count: Integers, quantile: float) -> Floats:
    """The quantile of the first `count` (M,) of each ordered row (M, B), between two linearly."""
    at = (count - 1) * quantile
    below = np.floor(at).astype(np.int64)
    row = np.arange(len(ordered))
    low, high = ordered[row, below], ordered[row, np.minimum(below + 1, count - 1)]
    return np.asarray(low + (high - low) * (at - below), dtype=np.float64)
