"""How far two groups of humans lie apart: what no model can be asked to beat.

Belongs here: population measures between two disjoint samples of participants. Not here: models,
real (`agreement.py`) or null (`nulls.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.metrics.human_answers import (
    HumanAnswers,
    answer_scales,
    each_answer_once,
    human_answers,
)
from evsim_assets.metrics.measures import (
    INDIVIDUAL_MEASURES,
    POPULATION_MEASURES,
    Floats,
    answer_positions,
    missing_measure_reason,
    population_measures,
)
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.seeds import derived_seed

RESAMPLES = 200
FLOOR_COLUMNS = [
    "question",
    "answers",
    "measure",
    "floor",
    "floor_low",
    "floor_high",
    "n",
    "resamples",
    "reason",
]
NO_SECOND_ANSWER = "nobody answers the same prompt twice, so there is no human-to-human error"


def noise_floor(prompts: pd.DataFrame, seed: int, resamples: int = RESAMPLES) -> pd.DataFrame:
    """The floor of every measure per question and answer scale: FLOOR_COLUMNS.

    Each resample draws, from the study's participants of all splits, two disjoint groups of `n`
    participants each, with all their answers, where `n` is the number of test participants (or half
    of all, if that is less). `floor` is the mean over resamples of the measure between the groups;
    `floor_low` and `floor_high` are the 2.5 % and 97.5 % quantiles. Both sides of the floor are
    samples: a model whose exact distribution is the population's own carries no sampling noise of
    its own and can fall below the floor (its KL by up to one half). Answers count by their survey
    weights; what is held out is in no group, and each answer is taken once, in whatever wording.

    Individual measures have no floor and a `reason`.

    Raises:
        BadInput: fewer than two participants, or no test participant.
    """
    prompts = each_answer_once(prompts)
    people = pd.Index(sorted(prompts["participant"].unique()))
    tested = prompts.loc[prompts["split"] == "test", "participant"].nunique()
    if len(people) < 2 or tested < 1:
        raise BadInput(
            "a noise floor needs two participants, one of them in the test split",
            value=len(people),
            remedy="add waves, or ask for a larger sample",
        )
    n = min(tested, len(people) // 2)
    first, second = _disjoint_groups(len(people), n, resamples, seed)
    records = []
    for answer_scale in answer_scales(prompts):
        for human in human_answers(prompts, answer_scale):
            records += _floors(human, people, first, second, n)
    table = pd.DataFrame(records, columns=FLOOR_COLUMNS)
    table["reason"] = table["reason"].astype(object).where(table["reason"].notna(), None)
    return table


def _disjoint_groups(people: int, n: int, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Two 0/1 matrices (resamples, people): who is in the first group, and who in the second."""
    rng = np.random.default_rng(derived_seed(seed, "noise floor", ""))
    first, second = np.zeros((resamples, people)), np.zeros((resamples, people))
    for resample in range(resamples):
        drawn = rng.permutation(people)[: 2 * n]
        first[resample, drawn[:n]] = 1.0
        second[resample, drawn[n:]] = 1.0
    return first, second


def _floors(
    human: HumanAnswers, people: pd.Index, first: Floats, second: Floats, n: int
) -> list[dict[str, Any]]:
    """The rows of one question on one scale."""
    place_of = people.get_indexer(pd.Index(human.rows["participant"]))
    asked, who = np.unique(place_of, return_inverse=True)  # few of all people, where questions vary
    answered = np.zeros((len(asked), len(human.scale.answers)))  # (people asked, answers): weighted counts
    np.add.at(answered, (who, answer_positions(human.answers, human.scale)), human.weights)
    one, other = first[:, asked] @ answered, second[:, asked] @ answered
    usable = (one.sum(axis=1) > 0) & (other.sum(axis=1) > 0)
    measured = population_measures(human.scale, one[usable], other[usable]) if usable.any() else {}
    place: dict[str, Any] = {"question": human.question, "answers": human.answer_scale, "n": n}
    place["resamples"] = int(usable.sum())
    rows = []
    for measure in POPULATION_MEASURES:
        values = measured.get(measure, np.empty(0))
        values = values[~np.isnan(values)]
        reason = missing_measure_reason(measure, human.scale)
        rows.append(place | {"measure": measure} | _summary(values, reason or "too few people answered"))
    missing = _summary(np.empty(0), NO_SECOND_ANSWER)
    return rows + [place | {"measure": measure} | missing for measure in INDIVIDUAL_MEASURES]


def _summary(values: Floats, reason: str) -> dict[str, Any]:
    if not len(values):
        return {"floor": np.nan, "floor_low": np.nan, "floor_high": np.nan, "reason": reason}
    low, high = np.quantile(values, [0.025, 0.975])
    return {"floor": float(values.mean()), "floor_low": float(low), "floor_high": float(high), "reason": None}
