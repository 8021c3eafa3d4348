"""How well one adapter agrees with the humans: the long table of metrics.

Belongs here: the tables of one adapter over all questions and temperatures. Not here: which answers are put
side by side (`simulated.py`), what is summed and measured (`tallies.py`, `scoring.py`), formulas
(`measures.py`), noise and null models (`noise_floor.py`, `nulls.py`).

**Intervals.** A replicate counts every test participant as often as a Poisson draw says, with all of their
answers and all that was simulated for them (`bootstrap.py`). How an interval follows from them depends on the
measure (`distance_intervals.py`): individual measures have their percentiles; measures of populations are
larger between samples than between their populations, and in replicates by as much again. So an interval of
kl, js or sd_ratio speaks of the populations (KL with its half counts, which are part of the measure), and a
plug-in value may lie above it; `*_corrected` is the value less the bias that replicates show. Those of tv and
w1 speak of the value expected of as many participants, as the noise floor does: |P − Q| is not smooth where
both meet, and no interval for the populations holds them as often as it says.

**Sampling noise of the model.** What is exact adds none. Where answers are draws (`sample`, and the decoded
part), a person's draws are independent given the prompt, and are resampled with the person; so what varies
between people's sums is both what the model says of them and the luck of the draw, each with the variance
it has, and the replicates carry both. So do the corrected KL and its interval.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.metrics.bootstrap import RESAMPLES, participant_weights
from evsim_assets.metrics.drawn import Generations
from evsim_assets.metrics.groups import ALL, group_members
from evsim_assets.metrics.human_answers import HumanAnswers, human_answers
from evsim_assets.metrics.measures import answer_counts, answer_positions
from evsim_assets.metrics.rows import empty_rows
from evsim_assets.metrics.scoring import Asked, score_question
from evsim_assets.metrics.shuffled import shuffled_prompts
from evsim_assets.metrics.simulated import LEAST_SUCCESS as LEAST_SUCCESS
from evsim_assets.metrics.simulated import SimulatedAnswers, simulated_answers
from evsim_assets.metrics.tallies import Tally
from evsim_assets.specs.demographics import Demographic
from evsim_assets.specs.errors import BadInput

MEASURE_COLUMNS = [
    "temperature",
    "question",
    "demographic",
    "level",
    "point_answer",
    "measure",
    "value",
    "low",
    "high",
    "n",
    "participants",
    "reason",
    "shuffled_persona",
    "shuffled_reason",
]
REPLICATE_COLUMNS = [
    "adapter",
    "temperature",
    "question",
    "demographic",
    "level",
    "point_answer",
    "measure",
    "prompts",
    "replicates",
]
NO_WEIGHT = "all test answers have a survey weight of 0"


@dataclass(frozen=True)
class Scored:
    """`metrics`: the factors, then MEASURE_COLUMNS. `replicates`: REPLICATE_COLUMNS, of everybody."""

    metrics: pd.DataFrame
    replicates: pd.DataFrame


def score(
    prompts: pd.DataFrame,
    people: pd.DataFrame,
    distributions: pd.DataFrame,
    generations: Generations,
    factors: Mapping[str, Any],
    *,
    seed: int,
    demographics: Iterable[Demographic | str] | None = None,
    resamples: int = RESAMPLES,
) -> Scored:
    """The metrics of one adapter, over all test participants and per demographic group.

    Args:
        prompts: the study's; the rows of split test in the adapter's own wording are scored.
        people: one row a participant, one column a demographic; see `group_members`.
        distributions: the adapter's answer distributions, one row a prompt and temperature.
        generations: the adapter's generations at all temperatures, or the Parquet files that hold them:
            files are read a temperature at a time and without texts, so many replicates need little memory.
        factors: `AdapterSpec.factors`; `answers` says whether 0–9 or the survey's scale is scored.
        seed: the study's; with a participant's id it makes their resampling, alike for all adapters.
        demographics: those to group by; all of `people`'s columns, if not given.
        resamples: bootstrap replicates, B.

    `point_answer` is `none` for measures of whole populations or distributions, else how one answer was read:
    `sample` (the generations), `mean`, `median` or `mode` (of the prompt's distribution given success), at
    temperature 0 also `greedy`, the answer of its distribution. Of these, kl, w1 and sd_ratio are measured of
    the population of everybody's one answer (a mean counts at the answer next to it). Measures use the
    prompts that have that answer; `n` counts them, `n_failed` the others (per replicate of the generations).
    Measures of `sample` pool all replicates, the root last.

    `low` and `high` are a 95 % interval; a null value or interval has a `reason`, a null `shuffled_persona` a
    `shuffled_reason`. In `replicates`, `kl`
    keeps its bias and `kl_corrected` has it off twice, as its interval does.

    Rows do not depend on the order of any input.

    Raises:
        BadInput: a test prompt without its distribution at some temperature; a test participant who is not
            among `people`.
    """
    own = own_prompts(prompts, factors["template"], "test")
    place_of_question = {name: k for k, name in enumerate(_questions(own))}
    tested = np.array(sorted(own["participant"].unique()), dtype=object)
    groups = _groups(people, demographics, tested)
    resampled = participant_weights(seed, tested, resamples)
    asked: dict[str, Asked] = {}
    rows: list[dict[str, Any]] = []
    # One thread a product of matrices: more would get in the way of the threads that call for products.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(_threads()) as pool:
        for simulated in simulated_answers(prompts, distributions, generations, factors):
            question = simulated.human.question
            if question not in asked:
                asked[question] = _asked(simulated.human, tested, groups, resampled, seed)
            place = {"temperature": simulated.temperature, "question": question}
            rows += [place | row for row in score_question(asked[question], Tally(simulated), pool)]
    rows += _weightless(own, factors["answers"], distributions["temperature"].unique(), set(asked))
    rows.sort(key=lambda row: (place_of_question[row["question"]], row["temperature"]))  # stable
    return Scored(_metrics(rows, factors), _replicates(rows, factors))


def population_histograms(
    prompts: pd.DataFrame, distributions: pd.DataFrame, generations: Generations, factors: Mapping[str, Any]
) -> pd.DataFrame:
    """The answers behind the measures: `factors`, temperature, question, answer, human, simulated.

    One row an answer of the scale. `human` counts test answers by weight; `simulated` is the expected count
    of answers, failures left out, so its sum over answers is the expected number of successes.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    for simulated in simulated_answers(prompts, distributions, generations, factors):
        parts.setdefault(simulated.human.question, []).append(_histogram(simulated, factors))
    return pd.concat([part for of_one in parts.values() for part in of_one], ignore_index=True)


def _histogram(simulated: SimulatedAnswers, factors: Mapping[str, Any]) -> pd.DataFrame:
    human = simulated.human
    return pd.DataFrame(
        {
            **_without_none(factors),
            "temperature": simulated.temperature,
            "question": human.question,
            "answer": human.scale.answers,
            "human": answer_counts(human.answers, human.scale, human.weights),
            "simulated": simulated.population,
        }
    )


def _threads() -> int:
    """As many as whoever runs this lets products of matrices use."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() and int(told) else os.cpu_count() or 1


def _without_none(factors: Mapping[str, Any]) -> dict[str, Any]:
    """A factor that an adapter lacks is numeric (alpha, d): NaN keeps its column one of floats."""
    return {factor: np.nan if value is None else value for factor, value in factors.items()}


def _questions(own: pd.DataFrame) -> list[str]:
    """Those asked early first, then by name."""
    earliest = own.groupby("question")["order"].min().sort_index().sort_values(kind="stable")
    return [str(name) for name in earliest.index]


def _groups(
    people: pd.DataFrame, demographics: Iterable[Demographic | str] | None, tested: Any
) -> list[tuple[str, str, Any]]:
    """The groups of `people`, as masks of the test participants."""
    row = pd.Index(people["participant"].astype(object)).get_indexer(pd.Index(tested))
    if (row < 0).any():
        raise BadInput(
            "a test participant is not among the people whose demographics are known",
            field="participant",
            value=tested[int((row < 0).argmax())],
            remedy="give a row for every participant of the study, empty where nothing is known",
        )
    return [(name, level, member[row]) for name, level, member in group_members(people, demographics)]


def _asked(
    human: HumanAnswers, tested: Any, groups: Sequence[tuple[str, str, Any]], resampled: Any, seed: int
) -> Asked:
    """A question's answers by person, and of everything only the people who were asked it."""
    whose = pd.Index(tested).get_indexer(pd.Index(human.rows["participant"].astype(object)))
    of_tested, first, person = np.unique(whose, return_index=True, return_inverse=True)
    return Asked(
        human,
        answer_positions(human.answers, human.scale),
        person,
        first,
        [(name, level, member[of_tested]) for name, level, member in groups],
        np.ascontiguousarray(resampled[:, of_tested].T),
        shuffled_prompts(human.rows, seed),
    )


def _weightless(
    own: pd.DataFrame, answers: str, temperatures: Any, scored: set[str]
) -> Iterator[dict[str, Any]]:
    """Rows without value for the questions whose test answers all weigh nothing."""
    equal = own.assign(weight=1.0)
    for human in human_answers(equal, "digit" if answers == "digit" else "native"):
        if human.question in scored:
            continue
        for temperature in np.sort(temperatures).tolist():
            place = {"temperature": float(temperature), "question": human.question}
            whole = {"demographic": ALL, "level": ALL, "participants": 0}
            yield from (place | whole | row for row in empty_rows(NO_WEIGHT, float(temperature)))


def _metrics(rows: list[dict[str, Any]], factors: Mapping[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=MEASURE_COLUMNS)
    for column in ("reason", "shuffled_reason"):
        table[column] = table[column].astype(object).where(table[column].notna(), None)
    for place, (factor, value) in enumerate(_without_none(factors).items()):
        table.insert(place, factor, value)
    return table


def _replicates(rows: list[dict[str, Any]], factors: Mapping[str, Any]) -> pd.DataFrame:
    kept = [
        {**row, "adapter": factors["adapter"], "replicates": np.asarray(row["replicates"], dtype=np.float32)}
        for row in rows
        if row.get("replicates") is not None
    ]
    return pd.DataFrame(kept, columns=REPLICATE_COLUMNS)
