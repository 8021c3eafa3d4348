"""How well one adapter agrees with the *validation* participants: what adapters are chosen by.

Belongs here: the measures that something is chosen by, of the validation split. Not here: the choice
(`chosen.py`), test answers (`agreement.py`), formulas (`tallies.py`, `measures.py`).

The measures are those of the test split, by the same code, with two differences. Nothing is decoded on
validation: mass that does not begin with an answer is lost here, where on test the texts behind it may hold
one. And nothing is drawn: `sample` is what test measures of drawn answers come to with very many draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.metrics.human_answers import human_answers
from evsim_assets.metrics.measures import answer_counts, answer_positions, answer_values
from evsim_assets.metrics.simulated import SimulatedAnswers, simulated_answers
from evsim_assets.metrics.tallies import Tally, measured

SPLIT = "validation"
POINT_ANSWERS = ("sample", "mean", "median")
OF_ALL = ("kl", "w1", "crps", "nll", "success_rate")
"""Measures of the whole distributions, alike for every point answer."""
MEASURES = ("kl", "w1", "rmse", "mae", "crps", "nll", "success_rate")
SCORE_COLUMNS = ["temperature", "question", "point_answer", *MEASURES, "n", "n_failed", "reason"]
NEVER_ANSWERED = "no validation prompt was answered"
NO_WEIGHT = "all validation answers have a survey weight of 0"


def validation_scores(
    prompts: pd.DataFrame, distributions: pd.DataFrame, factors: Mapping[str, Any]
) -> pd.DataFrame:
    """One row a temperature, question and point answer: `factors`, then SCORE_COLUMNS.

    Args:
        prompts: the study's; the rows of split validation in the adapter's own wording are scored. What is
            held out of training is in another split, so that nothing is chosen by it either.
        distributions: of those prompts, one row a prompt and temperature, as `answer_distributions` has them.
        factors: `AdapterSpec.factors`; `answers` says whether 0–9 or the survey's scale is scored.

    `n` prompts are answered often enough to have a mean, `n_failed` are not (`simulated.LEAST_SUCCESS`).
    `rmse` and `mae` differ by point answer, the other measures do not: the model's population is all its
    distributions together, whichever answer is read from them. A null value has a `reason`.

    Raises:
        BadInput: no prompt is in the adapter's wording; a prompt without its distribution.
    """
    own = own_prompts(prompts, factors["template"], SPLIT)
    # Prompts are put beside their distributions by the split's name; no generations: nothing is drawn.
    asked = own.assign(split="test")
    rows = [row for one in simulated_answers(asked, distributions, (), factors) for row in _rows(one)]
    rows += _weightless(own, factors["answers"], distributions, {row["question"] for row in rows})
    table = pd.DataFrame(rows, columns=SCORE_COLUMNS)
    questions = {name: place for place, name in enumerate(_questions(own))}
    place = table["question"].map(questions)
    table = table.iloc[np.lexsort((table["temperature"], place))].reset_index(drop=True)  # stable
    table["reason"] = table["reason"].astype(object).where(table["reason"].notna(), None)
    for at, (factor, value) in enumerate(factors.items()):
        table.insert(at, factor, np.nan if value is None else value)  # what may be missing is a number
    return table


def _rows(simulated: SimulatedAnswers) -> Iterator[dict[str, Any]]:
    """A row a point answer of one question at one temperature."""
    human, tally = simulated.human, Tally(simulated)
    place = answer_positions(human.answers, human.scale)
    every = np.arange(len(place))
    columns = {"weight": np.ones(len(place))} | tally.of_model | tally.paired(every, place)
    sums = {name: np.asarray(human.weights @ column)[None] for name, column in columns.items()}
    counts = answer_counts(human.answers, human.scale, human.weights)[None]
    found = {key: float(value[0]) for key, value in measured(human.scale, counts, sums).items()}
    for name, value in zip(("rmse", "mae"), _expected_errors(tally), strict=True):
        found["sample", name] = value
    n = int(tally.usable.sum())
    for point in POINT_ANSWERS:
        row = {name: found["none" if name in OF_ALL else point, name] for name in MEASURES}
        missing = any(np.isnan(value) for value in row.values())
        yield {
            "temperature": simulated.temperature,
            "question": human.question,
            "point_answer": point,
            **row,
            "n": n,
            "n_failed": len(place) - n,
            "reason": NEVER_ANSWERED if missing else None,
        }


def _expected_errors(tally: Tally) -> tuple[float, float]:
    """RMSE and MAE of an answer drawn at each prompt, over the draws that are answers; NaN without any.

    Each prompt counts by how often it is answered, as draws of it would: √(Σ w p(a|x) (a − answer)² / Σ w p).
    """
    human = tally.simulated.human
    said = tally.simulated.conditional * (tally.usable * human.weights)[:, None]  # (n, K)
    apart = answer_values(human.scale)[None, :] - human.answers[:, None]
    if not said.any():
        return float("nan"), float("nan")
    total = said.sum()
    return float(np.sqrt((said * apart**2).sum() / total)), float((said * np.abs(apart)).sum() / total)


def _weightless(
    own: pd.DataFrame, answers: str, distributions: pd.DataFrame, scored: set[str]
) -> Iterator[dict[str, Any]]:
    """Rows without value for the questions whose validation answers all weigh nothing."""
    nothing = dict.fromkeys(MEASURES, np.nan)
    for human in human_answers(own.assign(weight=1.0), "digit" if answers == "digit" else "native"):
        if human.question in scored:
            continue
        for temperature in np.sort(distributions["temperature"].unique()).tolist():
            for point in POINT_ANSWERS:
                place = {"temperature": temperature, "question": human.question, "point_answer": point}
                yield place | nothing | {"n": 0, "n_failed": 0, "reason": NO_WEIGHT}


def _questions(own: pd.DataFrame) -> list[str]:
    """Those asked early first, then by name."""
    earliest = own.groupby("question")["order"].min().sort_index().sort_values(kind="stable")
    return [str(name) for name in earliest.index]
