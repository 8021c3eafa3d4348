"""Which adapter, at which temperature, one would take by what it scores on validation.

Belongs here: the choice. Not here: the scores (`validation.py`), how what was chosen fares on test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

PLACE = ["question", "answers"]
CHOSEN_BY = ("kl", "rmse", "crps", "nll")
ALL_ROUND = "crps"
"""What to choose by for one adapter that is right of the population and of the persons: a proper score of
each person's distribution, so that neither a good mean nor a good population alone wins it."""
_FOUND = [*(f"validation_{measure}" for measure in CHOSEN_BY), "n", "reason"]
CHOSEN_COLUMNS = [*PLACE, "chosen_by", "adapter", "temperature", "point_answer", *_FOUND]
TEMPERATURE_COLUMNS = ["adapter", *PLACE, "temperature", "validation_kl", "n", "reason"]
NONE_COMPLETE = "no candidate answers every validation prompt, so all are candidates"


def chosen_adapters(scores: pd.DataFrame) -> pd.DataFrame:
    """Per question and answer scale, the adapter, temperature and point answer to take: CHOSEN_COLUMNS.

    Args:
        scores: of `validation_scores`, of all adapters in the study's order.

    `chosen_by` is the measure that is lowest on validation. The rules, in this order:

    - only candidates that answer every validation prompt (`n_failed` 0) are chosen, since measures of
      different prompts do not compare; where there is none, all are candidates, and `reason` says so;
    - ties go to the first row of `scores`: the study's order, then the lower temperature, then `sample`,
      `mean`, `median`. For kl, crps and nll all point answers tie, so `sample` stands for them;
    - there is no row where nobody has the measure.
    """
    rows: list[dict[str, Any]] = []
    for place, part in scores.groupby(PLACE, sort=False):
        named = dict(zip(PLACE, place, strict=True))
        for measure in CHOSEN_BY:
            rows += [named | {"chosen_by": measure} | row for row in _lowest(part, measure)]
    return pd.DataFrame(rows, columns=CHOSEN_COLUMNS)


def chosen_temperatures(scores: pd.DataFrame) -> pd.DataFrame:
    """Each adapter's temperature per question, by the lowest KL on validation: TEMPERATURE_COLUMNS.

    The rules are those of `chosen_adapters`, within an adapter.
    """
    rows: list[dict[str, Any]] = []
    for place, part in scores.groupby(["adapter", *PLACE], sort=False):
        named = dict(zip(["adapter", *PLACE], place, strict=True))
        rows += [named | row for row in _lowest(part, "kl")]
    return pd.DataFrame(rows, columns=TEMPERATURE_COLUMNS)


def _lowest(candidates: pd.DataFrame, measure: str) -> Iterator[dict[str, Any]]:
    """The first of the rows with the lowest value; none where no row has one."""
    known = candidates[candidates[measure].notna()]
    complete = known[known["n_failed"] == 0]
    fit = complete if len(complete) else known
    if fit.empty:
        return
    best = fit.iloc[int(fit[measure].astype(float).to_numpy().argmin())]
    yield {
        "adapter": best["adapter"],
        "temperature": float(best["temperature"]),
        "point_answer": best["point_answer"],
        **{f"validation_{name}": float(best[name]) for name in CHOSEN_BY},
        "n": int(best["n"]),
        "reason": None if len(complete) else NONE_COMPLETE,
    }
