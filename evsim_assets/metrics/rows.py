"""Which rows every group has in the table of metrics, and why a value may be missing.

Belongs here: the measures of each point answer, in their order, and the reasons' words. Not here: values
(`scoring.py`, `shuffled.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from evsim_assets.metrics.measures import CORRECTED, POPULATION_MEASURES
from evsim_assets.metrics.simulated import LOST_MASSES
from evsim_assets.metrics.tallies import GREEDY, POINT_ANSWERS

_OF_POINTS = ("rmse", "mae", "spearman", "n_failed", "kl", CORRECTED["kl"], "w1", "sd_ratio")
MEASURES = (
    *(("none", name) for name in (*POPULATION_MEASURES, *CORRECTED.values(), "crps", "nll")),
    *(("none", name) for name in ("success_rate", *LOST_MASSES)),
    *((point, name) for point in POINT_ANSWERS for name in _OF_POINTS),
)
"""Every point answer and measure of a group, in the order of the table; GREEDY at temperature 0 only."""
COMPARED = frozenset(
    (
        "kl",
        "kl_corrected",
        "w1",
        "js",
        "tv",
        "sd_ratio",
        "crps",
        "nll",
        "success_rate",
        "rmse",
        "mae",
        "spearman",
    )
)
"""What adapters are compared by, so that its replicates are kept."""
PLAIN = {corrected: plain for plain, corrected in CORRECTED.items()}
"""A corrected measure, and what it corrects."""
NEVER_ANSWERED = "no test prompt was answered"
NO_GENERATIONS = "there are no generations at this temperature"
ONE_VALUE = "all answers of one side are the same, so there is no correlation"
ONE_HUMAN_ANSWER = "all humans gave the same answer"
ALONE = "only 1 test participant"
NOBODY = "no test participant"
NOT_SHUFFLED = "no shuffle has a value"
NO_INTERVAL = "no resample of the participants has a value"


def measures_at(temperature: float) -> tuple[tuple[str, str], ...]:
    """MEASURES that there are at a temperature."""
    return tuple(key for key in MEASURES if temperature == 0 or key[0] != GREEDY)


def empty_rows(reason: str, temperature: float) -> Iterator[dict[str, Any]]:
    """A row without value for every measure."""
    nothing = {"value": np.nan, "low": np.nan, "high": np.nan, "shuffled_persona": np.nan}
    for point, measure in measures_at(temperature):
        yield {
            "point_answer": point,
            "measure": measure,
            **nothing,
            "n": 0,
            "reason": reason,
            "shuffled_reason": reason,
            "replicates": None,
        }
