"""Can one tell a model's answers from people's, knowing who was asked?

Belongs here: the rows that a classifier is shown (demographics, intervention, answer), and the table of how
well it does. Not here: the classifier and its test (`two_sample.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.bootstrap import RESAMPLES
from evsim_assets.metrics.expected import ExpectedAnswers, expected_answers, with_factors
from evsim_assets.metrics.groups import ALL, group_members
from evsim_assets.metrics.measures import Floats, answer_values
from evsim_assets.metrics.two_sample import PERMUTATIONS, two_sample
from evsim_assets.simulation.seeded import row_seeds, uniforms
from evsim_assets.specs.demographics import Demographic

COLUMNS = [
    "temperature",
    "question",
    "auc",
    "low",
    "high",
    "p_value",
    "accuracy",
    "n",
    "n_failed",
    "permutations",
    "reason",
]
LEAST = 25
"""Participants below which a classifier has nothing to learn from."""
NEVER_ANSWERED = "the model answers none of these prompts"


def discriminability(
    prompts: pd.DataFrame,
    people: pd.DataFrame,
    distributions: pd.DataFrame,
    factors: Mapping[str, Any],
    *,
    seed: int,
    demographics: Iterable[Demographic | str] | None = None,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """How well a classifier tells the model's answers from those of test participants.

    Each prompt makes a pair of rows, the human answer and one drawn from the prompt's exact distribution
    given success, with the study's seed; both with the person's demographics and the intervention, one-hot.
    Rows are not weighted: the question is whether an answer could be this person's.

    Args:
        people: one row a participant, one column a demographic; who is missing has no option of any.
        demographics: the columns shown; all, if not given.

    Returns:
        `factors`, then COLUMNS, a row a temperature and question. `auc`: 0.5 is not told apart, 1 always;
        95 % interval over participants. `p_value`: of an AUC above 0.5, one-sided. `accuracy`: labels found
        right, of all. `n`: pairs; `n_failed`: prompts that the model never answers, left out. Null with a
        `reason` for fewer than LEAST participants.

    Raises:
        BadInput: no such demographic; no prompt in the adapter's wording; a test prompt without its
            distribution.
    """
    groups = {
        f"{demographic}\n{level}": set(people["participant"].astype(str).to_numpy()[member])
        for demographic, level, member in group_members(people, demographics)
        if demographic != ALL
    }
    records = []
    for expected in expected_answers(prompts, distributions, factors):
        place = {"temperature": expected.temperature, "question": expected.human.question}
        records.append(place | _told_apart(expected, groups, seed, resamples))
    return with_factors(records, COLUMNS, factors)


def drawn_answers(expected: ExpectedAnswers, seed: int) -> Floats:
    """One answer a prompt (n,), drawn from its distribution given success; NaN where there is none.

    A draw follows from the seed and the prompt alone, and is the same quantile at every temperature.
    """
    keys = expected.human.rows["prompt_id"].astype(str)
    chance = uniforms(row_seeds(seed, "discriminability", keys, 1)[:, 0], 1)
    reached = np.cumsum(expected.given, axis=1)
    place = (reached <= chance * reached[:, -1:]).sum(axis=1)
    values = answer_values(expected.human.scale)[np.minimum(place, expected.given.shape[1] - 1)]
    return np.where(expected.answered, values, np.nan)


def _told_apart(
    expected: ExpectedAnswers, groups: Mapping[str, set[str]], seed: int, resamples: int
) -> dict[str, Any]:
    kept = expected.answered
    row: dict[str, Any] = dict.fromkeys(["auc", "low", "high", "p_value", "accuracy"], np.nan)
    row |= {"n": int(kept.sum()), "n_failed": int((~kept).sum()), "permutations": 0}
    asked = expected.human.rows[kept]
    participants = asked["participant"].astype(str).to_numpy()
    people = len(set(participants))
    if people < LEAST:
        few = f"the model answers {people} test participants, and {LEAST} are needed"
        return row | {"reason": few if people else NEVER_ANSWERED}
    made = two_sample(
        _features(asked, participants, groups),
        expected.human.answers[kept].astype(float),
        drawn_answers(expected, seed)[kept],
        participants,
        seed=seed,
        resamples=resamples,
    )
    return row | vars(made) | {"permutations": PERMUTATIONS, "reason": None}


def _features(asked: pd.DataFrame, participants: npt.NDArray[Any], groups: Mapping[str, set[str]]) -> Floats:
    """Demographics and intervention of n rows, one-hot (n, F)."""
    read = asked["intervention"].to_numpy(dtype=object)
    columns = [np.array([person in members for person in participants]) for members in groups.values()]
    columns += [read == name for name in sorted(asked["intervention"].dropna().unique())]
    return np.array(columns, dtype=float).reshape(len(columns), len(asked)).T
