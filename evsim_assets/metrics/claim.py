"""Does an adapter match the population better than every baseline, and persons nearly as well as the best?

The paper finds that no language model beats SVR or CatBoost on RMSE. Read at the mean of its distribution, a
calibrated model should come close to them *and* win on KL. The adapter is the one of the
lowest CRPS on validation, which asks for both. It is held against

- the lowest KL on test of any baseline, whatever chose its setting: a choice in the baselines' favour;
- the RMSE on test of the baseline whose RMSE on validation is the lowest. Few validation people choose badly
  among baselines, so the one that is hardest to match on test is told beside it.

Belongs here: the verdict of each question, and its words. Not here: measuring (`contest.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.metrics.chosen import ALL_ROUND
from evsim_assets.metrics.contestants import PLACE, one_reading
from evsim_assets.specs.study import temperature_key

WITHIN = 0.02
"""How far above the best baseline's RMSE an adapter's may lie, as a share of it."""
TEXTS = ["adapter", "kl_baseline", "rmse_baseline", "hardest_baseline", "baselines", "sentence", "reason"]
FLAGS = [
    "kl_below_every_baseline",
    "kl_for_sure",
    "rmse_within_2_percent",
    "rmse_for_sure",
    "both",
    "both_for_sure",
]
NUMBERS = [
    "temperature",
    "kl",
    "lowest_baseline_kl",
    "kl_difference",
    "kl_difference_low",
    "kl_difference_high",
    "rmse",
    "best_baseline_rmse",
    "rmse_ratio",
    "rmse_ratio_low",
    "rmse_ratio_high",
    "hardest_ratio",
    "hardest_ratio_low",
    "hardest_ratio_high",
]
CLAIM_COLUMNS = [
    *PLACE,
    "adapter",
    "temperature",
    "kl",
    "kl_baseline",
    "lowest_baseline_kl",
    "kl_difference",
    "kl_difference_low",
    "kl_difference_high",
    "kl_below_every_baseline",
    "kl_for_sure",
    "rmse",
    "rmse_baseline",
    "best_baseline_rmse",
    "rmse_ratio",
    "rmse_ratio_low",
    "rmse_ratio_high",
    "rmse_within_2_percent",
    "rmse_for_sure",
    "hardest_baseline",
    "hardest_ratio",
    "hardest_ratio_low",
    "hardest_ratio_high",
    "both",
    "both_for_sure",
    "baselines",
    "n",
    "n_left_out",
    "sentence",
    "reason",
]
UNDECIDED = "nothing can be said"
NOT_FITTED = "no baseline but random answers could be fitted and chosen"
NO_ERROR = "the best baseline makes no error, so no ratio can be said"
NO_ADAPTER = "no adapter has a CRPS on validation"


def claim(contest: pd.DataFrame, chosen_baselines: pd.DataFrame) -> pd.DataFrame:
    """The verdict of each question and answer scale of `contest`: CLAIM_COLUMNS.

    `kl_difference` (adapter − baseline) is against the baseline of the lowest KL, `rmse_ratio` (adapter /
    baseline) against the one of the best RMSE on validation, with 95 % intervals. `kl_below_every_baseline`
    and `rmse_within_2_percent` compare the values; `kl_for_sure` and `rmse_for_sure` say whether the
    intervals leave out the contrary: of a KL that is below, against every baseline; of one that is not,
    against some. `hardest_ratio` is the RMSE's ratio to the lowest RMSE on test of any chosen baseline, and
    decides nothing. `both` is the claim, `both_for_sure` whether it is met, or missed, for sure. Where a
    `reason` is given, nothing can be said: numbers and flags are null.

    Args:
        contest: of `contest.contest`. chosen_baselines: that it was made with (for `validation_rmse`).
    """
    rows = [_verdict(place, part, chosen_baselines) for place, part in contest.groupby(PLACE, sort=False)]
    table = pd.DataFrame(rows, columns=CLAIM_COLUMNS)
    for name in TEXTS:
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    kinds = dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(FLAGS, "boolean")
    return table.astype(kinds | {"n": "int64", "n_left_out": "int64"})


def summary(verdicts: pd.DataFrame) -> str:
    """One paragraph: how often the claim is met, then each question's sentence."""
    decided = verdicts["both"].dropna()
    met = int(decided.sum())
    said = (
        f"The claim is met on {met} of {len(decided)} questions." if len(decided) else "Nothing is decided."
    )
    return " ".join([said, *verdicts["sentence"]])


def _verdict(place: tuple[Any, ...], part: pd.DataFrame, chosen: pd.DataFrame) -> dict[str, Any]:
    named = dict(zip(PLACE, place, strict=True))
    found = named | {"n": int(part["n"].iloc[0]), "n_left_out": int(part["n_left_out"].iloc[0])}
    found["baselines"] = ", ".join(sorted(part["baseline"].unique()))
    found = dict.fromkeys(CLAIM_COLUMNS) | found
    ours = part[part["chosen_by"] == ALL_ROUND]
    best, reason = _best_by_rmse(named, ours, chosen), None
    if ours.empty:
        reason = NO_ADAPTER
    elif best is None or best["baseline"] == "random":
        reason = NOT_FITTED
    elif pd.isna(best["ratio"]):
        reason = NO_ERROR if pd.isna(best["reason"]) else best["reason"]
    if best is None or reason is not None:
        return found | {"reason": reason, "sentence": f"{_name(named)}: {UNDECIDED}, since {reason}."}
    kl = ours[(ours["measure"] == "kl") & ours["difference"].notna()]
    lowest = kl.iloc[int(kl["baseline_value"].to_numpy(dtype=float).argmin())]
    rmse = ours[(ours["measure"] == "rmse") & ours["ratio"].notna()]
    hardest = rmse.iloc[int(rmse["baseline_value"].to_numpy(dtype=float).argmin())]
    below, near = bool((kl["difference"] < 0).all()), bool(best["ratio"] <= 1 + WITHIN)
    sure_kl = bool((kl["high"] < 0).all() if below else (kl["low"] > 0).any())
    sure_rmse = bool(best["ratio_high"] <= 1 + WITHIN if near else best["ratio_low"] > 1 + WITHIN)
    both = below and near
    missed_for_sure = (not below and sure_kl) or (not near and sure_rmse)
    found |= {
        "adapter": lowest["adapter"],
        "temperature": lowest["temperature"],
        "kl": lowest["adapter_value"],
        "kl_baseline": lowest["baseline"],
        "lowest_baseline_kl": lowest["baseline_value"],
        "kl_difference": lowest["difference"],
        "kl_difference_low": lowest["low"],
        "kl_difference_high": lowest["high"],
        "kl_below_every_baseline": below,
        "kl_for_sure": sure_kl,
        "rmse": best["adapter_value"],
        "rmse_baseline": best["baseline"],
        "best_baseline_rmse": best["baseline_value"],
        "rmse_ratio": best["ratio"],
        "rmse_ratio_low": best["ratio_low"],
        "rmse_ratio_high": best["ratio_high"],
        "rmse_within_2_percent": near,
        "rmse_for_sure": sure_rmse,
        "hardest_baseline": hardest["baseline"],
        "hardest_ratio": hardest["ratio"],
        "hardest_ratio_low": hardest["ratio_low"],
        "hardest_ratio_high": hardest["ratio_high"],
        "both": both,
        "both_for_sure": (sure_kl and sure_rmse) if both else missed_for_sure,
    }
    return found | {"sentence": " ".join(_sentence(named, found))}


def _best_by_rmse(named: dict[str, Any], ours: pd.DataFrame, chosen: pd.DataFrame) -> dict[str, Any] | None:
    """The row of RMSE against the baseline that is best by RMSE on validation; None where none is chosen."""
    rows = one_reading(chosen)
    rows = rows[(rows["chosen_by"] == "rmse") & rows["validation_rmse"].notna()]
    for column, value in named.items():
        rows = rows[rows[column] == value]
    rmse = ours[(ours["measure"] == "rmse") & (ours["baseline_chosen_by"] == "rmse")]
    if rows.empty or rmse.empty:
        return None
    best = str(rows["algorithm"].iloc[int(rows["validation_rmse"].to_numpy(dtype=float).argmin())])
    [row, *_] = rmse[rmse["baseline"] == best].to_dict("records")
    return {str(column): value for column, value in row.items()}


def _sentence(named: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    yield f"{_name(named)}: {'met' if found['both'] else 'missed'}{_sure(found['both_for_sure'])}."
    side = "below every baseline's" if found["kl_below_every_baseline"] else "not below every baseline's"
    apart = _interval(found["kl_difference_low"], found["kl_difference_high"], "+.3f")
    yield (
        f"{found['adapter']} at T {temperature_key(found['temperature'])} has KL {found['kl']:.3f},"
        f" {side}{_sure(found['kl_for_sure'])} (lowest: {found['kl_baseline']},"
        f" {found['lowest_baseline_kl']:.3f}; difference {found['kl_difference']:+.3f}{apart}),"
    )
    inside = "within" if found["rmse_within_2_percent"] else "not within"
    yield (
        f"and RMSE {found['rmse']:.3g} against {found['rmse_baseline']}'s {found['best_baseline_rmse']:.3g}:"
        f" {_percent(found, 'rmse_ratio')}, {inside} {100 * WITHIN:g} %{_sure(found['rmse_for_sure'])}."
    )
    if found["hardest_ratio"] > 1 + WITHIN and found["hardest_baseline"] != found["rmse_baseline"]:
        yield f"On test {found['hardest_baseline']} is lower: {_percent(found, 'hardest_ratio')}."
    if found["n_left_out"]:
        yield f"{found['n_left_out']} prompts that somebody fails to answer are left out for all."


def _percent(found: dict[str, Any], ratio: str) -> str:
    """`+6.4 %, +3.0 to +9.8`."""
    value, low, high = (100 * (found[f"{ratio}{end}"] - 1) for end in ("", "_low", "_high"))
    return f"{value:+.1f} %{_interval(low, high, '+.1f')}"


def _name(named: dict[str, Any]) -> str:
    return str(named["question"]) if named["answers"] == "native" else f"{named['question']} on 0–9"


def _sure(sure: bool) -> str:
    return " for sure" if sure else ", not for sure"


def _interval(low: float, high: float, form: str) -> str:
    return "" if np.isnan(low) or np.isnan(high) else f", {low:{form}} to {high:{form}}"
