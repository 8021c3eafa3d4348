"""Adapters against baselines on the page: the verdict of each question, and who is closer than whom.

Belongs here: that section's tables and captions. Not here: what is concluded (`metrics/claim.py`), markup.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from evsim_assets.metrics.chosen import ALL_ROUND
from evsim_assets.reports.page import Section, Table
from evsim_assets.reports.tables import NOTHING, three_digits, two_digits, with_interval
from evsim_assets.specs.study import temperature_key

VERDICT = (
    "The paper finds that no language model beats SVR or CatBoost on RMSE. Asked here: is there an adapter"
    " whose KL is below every baseline's, and whose RMSE (of the mean of its distribution) is within 2 % of"
    " the best baseline's? The adapter and its temperature are chosen on validation, by CRPS, which asks for"
    " both; so is each baseline's setting. Intervals are 95 %, over the same resampled"
    " participants; for sure: the interval leaves out the contrary."
)
PAIRS = (
    "The same adapter against every chosen baseline, on the test prompts that all of them answer. Differences"
    " are adapter − baseline, negative where the adapter is closer; a ratio below 1 is a smaller error. SVR"
    " and CatBoost predict one answer a person, so CRPS is only of those that give distributions. Other"
    " choices, and NLL, are in the table contest."
)
SHOWN = {"kl": ("KL difference", three_digits), "crps": ("CRPS difference", two_digits)}


def contest_section(claim: pd.DataFrame, contest: pd.DataFrame) -> Section:
    """The section "Adapters against baselines"; empty where nothing was contested.

    Args:
        claim, contest: the assets of these names.
    """
    if not len(claim):
        return Section("Adapters against baselines", [])
    parts = [Table("Is the claim met?", VERDICT, claim_rows(claim))]
    pairs = contest_rows(contest)
    if len(pairs) > 1:
        parts.append(Table("Against each baseline", PAIRS, pairs))
    return Section("Adapters against baselines", parts)


def claim_rows(claim: pd.DataFrame) -> list[list[str]]:
    """A header, then one row a question and answer scale; the last cell is the verdict in words."""
    rows = [["question", "answers", "adapter", "T", "claim", "KL − lowest", "RMSE / best", "n", "in words"]]
    for r in claim.to_dict("records"):
        place = [str(r["question"]), str(r["answers"])]
        if pd.notna(r["reason"]):
            rows.append([*place, *[NOTHING] * 5, str(r["n"]), str(r["sentence"])])
            continue
        met = ("met" if r["both"] else "missed") + (" for sure" if r["both_for_sure"] else ", not for sure")
        kl = with_interval(r["kl_difference"], r["kl_difference_low"], r["kl_difference_high"], three_digits)
        rmse = with_interval(r["rmse_ratio"], r["rmse_ratio_low"], r["rmse_ratio_high"], three_digits)
        who = [str(r["adapter"]), temperature_key(r["temperature"])]
        rows.append([*place, *who, met, kl, rmse, str(r["n"]), str(r["sentence"])])
    return rows


def contest_rows(contest: pd.DataFrame) -> list[list[str]]:
    """A header, then one row a question, scale and baseline's setting, for the adapter of the claim."""
    names = [name for name, _ in SHOWN.values()]
    rows = [["question", "answers", "baseline", "chosen by", *names, "RMSE ratio", "closer on RMSE"]]
    ours = contest[contest["chosen_by"] == ALL_ROUND]
    keys = ["question", "answers", "baseline", "setting"]
    for place, part in ours.groupby(keys, sort=False):
        by_measure: dict[str, dict[Any, Any]] = {str(r["measure"]): r for r in part.to_dict("records")}
        chosen = ", ".join(part["baseline_chosen_by"].unique())
        cells = [
            with_interval(r["difference"], r["low"], r["high"], write)
            for r, (_, write) in ((by_measure[measure], words) for measure, words in SHOWN.items())
        ]
        rmse = by_measure["rmse"]
        ratio = with_interval(rmse["ratio"], rmse["ratio_low"], rmse["ratio_high"], three_digits)
        closer = NOTHING if pd.isna(rmse["difference"]) else str(rmse["closer"])
        rows.append([*map(str, place[:-1]), chosen, *cells, ratio, closer])
    return rows
