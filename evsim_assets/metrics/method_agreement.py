"""How alike adapters answer that differ in LoRA or QLoRA alone: do 4-bit weights change answers?

Belongs here: which adapters are such a pair, and the rank correlation of their answers over prompts. Not
here: how near either is to people (`agreement.py`), the correlation itself (`ranks.py`).

The paper compares LoRA and QLoRA adapters of 7B by Spearman's correlation of their answers over prompts. Here
it is of the greedy answer at temperature 0, and of the mean of the distribution at others: a drawn answer
would put the draws' noise into the correlation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.bootstrap import RESAMPLES, interval, participant_weights
from evsim_assets.metrics.expected import ExpectedAnswers, expected_answers
from evsim_assets.metrics.measures import Floats, answer_values, distribution_modes
from evsim_assets.metrics.ranks import Pairs, correlation

METHODS = ("lora", "qlora")
SHARED = ["model", "answers", "template", "alpha", "d", "fraction", "tuned", "trial"]
"""What both adapters of a pair have in common: the model, what it was trained on, and how it is asked."""
COLUMNS = [
    "adapter",
    "other",
    *SHARED,
    "temperature",
    "question",
    "point_answer",
    "spearman",
    "low",
    "high",
    "n",
    "n_failed",
    "participants",
    "reason",
]
NO_PAIR = "no two adapters of the study differ in LoRA or QLoRA alone"
NOTHING_IN_COMMON = "no prompt is answered by both adapters"
ALL_THE_SAME = "one of the adapters gives every prompt the same answer"
Factors = Mapping[str, Any]


def method_pairs(adapters: Iterable[Factors]) -> list[tuple[Factors, Factors]]:
    """Pairs (LoRA, QLoRA) of adapters with all of SHARED in common, in their order.

    Args:
        adapters: `AdapterSpec.factors` of each.
    """
    adapters = list(adapters)
    others = {_shared(factors): factors for factors in adapters if factors["method"] == METHODS[1]}
    return [
        (factors, others[_shared(factors)])
        for factors in adapters
        if factors["method"] == METHODS[0] and _shared(factors) in others
    ]


def method_agreement(
    pairs: Iterable[tuple[Factors, Factors]],
    prompts: pd.DataFrame,
    distributions: Callable[[str], pd.DataFrame],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Spearman's correlation of two adapters' answers over test prompts; COLUMNS.

    One row a pair, temperature and question. `point_answer`: `greedy` (the most likely answer) at
    temperature 0, else `mean`. `spearman` counts each prompt once, without survey weights; `low` and `high`
    are a 95 % interval over participants. `n` prompts, of `participants` people, are answered by both;
    `n_failed` are not. Null with a `reason` where one adapter always answers the same, or no prompt is in
    common.

    Args:
        pairs: of `method_pairs`. distributions: those of an adapter, by its key.

    Raises:
        BadInput: no prompt in the adapters' wording; a test prompt without its distribution.
    """
    records = [
        _place(first, second) | row
        for first, second in pairs
        for row in _rows(first, second, prompts, distributions, seed, resamples)
    ]
    table = pd.DataFrame(records, columns=COLUMNS)
    table["reason"] = table["reason"].astype(object).where(table["reason"].notna(), None)
    return table


def _shared(factors: Factors) -> tuple[Any, ...]:
    return tuple(factors[name] for name in SHARED)


def _place(first: Factors, second: Factors) -> dict[str, Any]:
    kept = {name: np.nan if first[name] is None else first[name] for name in SHARED}
    return {"adapter": first["adapter"], "other": second["adapter"]} | kept


def _rows(
    first: Factors,
    second: Factors,
    prompts: pd.DataFrame,
    distributions: Callable[[str], pd.DataFrame],
    seed: int,
    resamples: int,
) -> Iterable[dict[str, Any]]:
    read = [expected_answers(prompts, distributions(one["adapter"]), one) for one in (first, second)]
    theirs = {(other.temperature, other.human.question): other for other in read[1]}
    for own in read[0]:
        other = theirs[own.temperature, own.human.question]
        place = {"temperature": own.temperature, "question": own.human.question}
        yield place | _agreement(own, other, seed, resamples)


def _agreement(own: ExpectedAnswers, other: ExpectedAnswers, seed: int, resamples: int) -> dict[str, Any]:
    """One row from `point_answer` on; both sides are of the same prompts in the same order."""
    greedy = own.temperature == 0
    both = own.answered & other.answered
    first, second = (_points(one, both, greedy) for one in (own, other))
    people = own.human.rows["participant"].astype(str).to_numpy()[both]
    names, person = np.unique(people, return_inverse=True)
    row: dict[str, Any] = {
        "point_answer": "greedy" if greedy else "mean",
        **dict.fromkeys(["spearman", "low", "high"], np.nan),
        "n": int(both.sum()),
        "n_failed": int((~both).sum()),
        "participants": len(names),
    }
    if not len(first):
        return row | {"reason": NOTHING_IN_COMMON}
    one, two = (np.unique(side, return_inverse=True)[1] for side in (first, second))
    found = correlation(Pairs(one, two, np.ones(len(first)), person), len(names))
    if np.isnan(found.value):
        return row | {"reason": ALL_THE_SAME}
    weights = participant_weights(seed, names.tolist(), resamples)
    low, high = interval(found.replicates(weights @ found.pull, weights @ found.share)[:, None])
    return row | {"spearman": found.value, "low": float(low[0]), "high": float(high[0]), "reason": None}


def _points(expected: ExpectedAnswers, kept: npt.NDArray[np.bool_], greedy: bool) -> Floats:
    """The one answer to each prompt that is `kept`, (m,).

    Means are rounded to 1e-6, so that those that differ by rounding errors alone are ties.
    """
    if greedy:
        return distribution_modes(answer_values(expected.human.scale), expected.given[kept])
    return np.round(expected.means[kept], 6)
