"""What a model is expected to answer to each prompt: the mean of its exact distribution, given success.

Belongs here: human answers beside each prompt's distribution, for measures of means and differences. Not
here: generations (`drawn.py`), the measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.human_answers import HumanAnswers
from evsim_assets.metrics.measures import Floats, answer_values
from evsim_assets.metrics.simulated import LEAST_SUCCESS, simulated_answers


@dataclass(frozen=True)
class ExpectedAnswers:
    """One question at one temperature: n test prompts, by participant and order.

    `human`: their answers. `given` (n, K): each prompt's distribution given success, its rows 0 where the
    model hardly ever answers (success below LEAST_SUCCESS). `means` (n,): their means in scale units, NaN
    in those rows.
    """

    temperature: float
    human: HumanAnswers
    given: Floats
    means: Floats

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Which prompts have a mean (n,)."""
        return ~np.isnan(self.means)


def expected_answers(
    prompts: pd.DataFrame, distributions: pd.DataFrame, factors: Mapping[str, Any]
) -> Iterator[ExpectedAnswers]:
    """Each temperature and question of the test split, in the adapter's own wording and scale.

    Raises:
        BadInput: no prompt in the adapter's wording; a test prompt without its distribution.
    """
    for simulated in simulated_answers(prompts, distributions, [], factors):
        success = simulated.exact.sum(axis=1)
        usable = success >= LEAST_SUCCESS
        given = np.where(usable[:, None], simulated.exact / np.where(usable, success, 1.0)[:, None], 0.0)
        means = np.where(usable, given @ answer_values(simulated.human.scale), np.nan)
        yield ExpectedAnswers(simulated.temperature, simulated.human, given, means)


def with_factors(
    records: list[dict[str, Any]], columns: list[str], factors: Mapping[str, Any]
) -> pd.DataFrame:
    """A table of `factors`, then `columns`, by question and temperature; a `reason` not given is null.

    A factor that an adapter lacks is numeric (alpha, d): NaN keeps its column one of floats.
    """
    questions = list(dict.fromkeys(record["question"] for record in records))
    ordered = sorted(records, key=lambda r: (questions.index(r["question"]), r["temperature"]))
    table = pd.DataFrame(ordered, columns=columns)
    table["reason"] = table["reason"].astype(object).where(table["reason"].notna(), None)
    for place, (factor, value) in enumerate(factors.items()):
        table.insert(place, factor, np.nan if value is None else value)
    return table
