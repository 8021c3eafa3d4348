"""How well one adapter agrees with the humans: the long table of metrics.

Belongs here: which human and simulated answers are put side by side, and how failures count. Not
here: the measures' formulas (`measures.py`), noise and null models (`noise_floor.py`, `nulls.py`).

**The simulated population of a question.** A prompt x has an exact part p(a|x), for texts that
start with a number, and a mass `no_number` whose texts were decoded: a replicate is decoded with
exactly that probability. So over prompts

    q(a) ∝ Σ_x p(a|x) + N · (decoded rows that say a) / (decoded rows),   N = Σ_x no_number(x).

Decoded rows visit prompts in proportion to no_number(x), so their share that says a estimates
Σ_x no_number(x) p(a|x, decoded) / N: the sum is consistent, however many replicates there are.
Adding the decoded rows themselves (divided by replicates) has the same mean, but more noise, and
could show a success rate above 1. The success rate is the sum over a, divided by the prompts.
`off_scale` and `unexpanded` mass never counts as success, and both are reported beside it.

**Survey weights.** Every prompt counts by its person's weight w(x), of mean 1 over the question's test
answers: the sums over x above are of w(x) p(a|x) and w(x) no_number(x), decoded rows count w(x) each, and
the means of measures, errors and masses are weighted. Counts of prompts (`n`, `n_failed`) are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.metrics.human_answers import HumanAnswers, human_answers
from evsim_assets.metrics.measures import (
    POPULATION_MEASURES,
    Floats,
    answer_counts,
    answer_positions,
    answer_values,
    crps,
    distribution_means,
    distribution_medians,
    mae,
    missing_measure_reason,
    population_measures,
    rmse,
    spearman,
)
from evsim_assets.specs.errors import BadInput

MEASURE_COLUMNS = ["temperature", "question", "point_answer", "measure", "value", "n", "reason"]
LEAST_SUCCESS = 1e-3
"""A prompt answered less often than this has no mean, median or CRPS: it is counted as failed."""
NEVER_ANSWERED = "no test prompt was answered"
LOST_MASSES = ("off_scale", "no_number", "unexpanded")


@dataclass(frozen=True)
class SimulatedAnswers:
    """One question at one temperature, for n prompts in the order of `human.rows`.

    `population` (K,): expected answers by survey weight, summing to the expected successes.
    `conditional` (n, K): each prompt's own success mass by answer (rows sum to 1 or less). `sampled`:
    generations with `prompt` (row of human.rows), `replicate`, `answer` (NaN for a failure). `lost`: mean
    masses.
    """

    temperature: float
    human: HumanAnswers
    population: Floats
    conditional: Floats
    sampled: pd.DataFrame
    lost: Mapping[str, float]

    @property
    def success_rate(self) -> float:
        """Expected successes per prompt."""
        return float(self.population.sum() / len(self.human.rows))


def score(
    prompts: pd.DataFrame, distributions: pd.DataFrame, generations: pd.DataFrame, factors: Mapping[str, Any]
) -> pd.DataFrame:
    """The metrics of one adapter: `factors`, then MEASURE_COLUMNS.

    Args:
        prompts: the study's; the rows of split test in the adapter's own wording are scored.
        distributions: the adapter's answer distributions, one row a prompt and temperature.
        generations: the adapter's generations at all temperatures.
        factors: `AdapterSpec.factors`; `answers` says whether 0–9 or the survey's scale is scored.

    `point_answer` is `none` for measures of whole populations or distributions, else how one answer
    was read: `sample` (the generation), `mean` or `median` (of the prompt's distribution given
    success). Point measures use the prompts that have that answer; `n` counts them, the measure
    `n_failed` the others (per replicate). With several replicates rmse and mae pool all sampled
    answers (root last), spearman is the mean over replicates. A null has a `reason`.

    Raises:
        BadInput: a test prompt without its distribution at some temperature.
    """
    records = [
        record
        for simulated in simulated_answers(prompts, distributions, generations, factors)
        for record in _measure(simulated)
    ]
    table = pd.DataFrame(records, columns=MEASURE_COLUMNS)
    table["reason"] = table["reason"].astype(object).where(table["reason"].notna(), None)
    for place, (factor, value) in enumerate(_without_none(factors).items()):
        table.insert(place, factor, value)
    return table


def population_histograms(
    prompts: pd.DataFrame, distributions: pd.DataFrame, generations: pd.DataFrame, factors: Mapping[str, Any]
) -> pd.DataFrame:
    """The answers behind the measures: `factors`, temperature, question, answer, human, simulated.

    One row an answer of the scale. `human` counts test answers by weight; `simulated` is the expected count
    of answers, failures left out, so its sum over answers is the expected number of successes.
    """
    parts, known = [], _without_none(factors)
    for simulated in simulated_answers(prompts, distributions, generations, factors):
        human = simulated.human
        parts.append(
            pd.DataFrame(
                {
                    **known,
                    "temperature": simulated.temperature,
                    "question": human.question,
                    "answer": human.scale.answers,
                    "human": answer_counts(human.answers, human.scale, human.weights),
                    "simulated": simulated.population,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def simulated_answers(
    prompts: pd.DataFrame, distributions: pd.DataFrame, generations: pd.DataFrame, factors: Mapping[str, Any]
) -> Iterator[SimulatedAnswers]:
    """Each question of the test split at each temperature, ascending. Raises BadInput as `score` does."""
    own = own_prompts(prompts, factors["template"])
    for human in human_answers(own, factors["answers"], split="test"):
        asked = set(human.rows["prompt_id"])
        read = distributions[distributions["prompt_id"].isin(asked)]
        drawn = generations[generations["prompt_id"].isin(asked)]
        for temperature in sorted(distributions["temperature"].unique()):
            yield _simulated(
                human,
                float(temperature),
                read[read["temperature"] == temperature],
                drawn[drawn["temperature"] == temperature],
            )


def _without_none(factors: Mapping[str, Any]) -> dict[str, Any]:
    """A factor that an adapter lacks is numeric (alpha, d): NaN keeps its column one of floats."""
    return {factor: np.nan if value is None else value for factor, value in factors.items()}


def _simulated(
    human: HumanAnswers, temperature: float, read: pd.DataFrame, drawn: pd.DataFrame
) -> SimulatedAnswers:
    """Both parts of a question's simulated answers: the exact and the decoded."""
    exact, lost = _exact_part(human, temperature, read)
    answer = drawn["answer"].astype("Float64")
    sampled = pd.DataFrame(
        {
            "prompt": pd.Index(human.rows["prompt_id"]).get_indexer(pd.Index(drawn["prompt_id"])),
            "replicate": drawn["replicate"].to_numpy(),
            "answer": answer.where(drawn["success"]).to_numpy(dtype=float, na_value=np.nan),
            "decoded": _is_decoded(human, drawn).to_numpy(dtype=bool),
        }
    )
    decoded = sampled[sampled["decoded"]]
    said = decoded[decoded["answer"].notna()]
    positions = answer_positions(said["answer"], human.scale)
    no_number, weights = lost["no_number"], human.weights
    population = (weights[:, None] * exact).sum(axis=0)
    conditional = exact.copy()
    if len(decoded):
        said_weight = np.bincount(positions, weights[said["prompt"]], minlength=exact.shape[1])
        mass = (weights * no_number).sum()
        population = population + mass * said_weight / weights[decoded["prompt"]].sum()
        decodes = np.bincount(decoded["prompt"], minlength=len(exact))
        weight = no_number[said["prompt"]] / decodes[said["prompt"]]
        np.add.at(conditional, (said["prompt"].to_numpy(), positions), weight)
    mean_lost = {name: float(np.average(mass, weights=weights)) for name, mass in lost.items()}
    return SimulatedAnswers(temperature, human, population, conditional, sampled, mean_lost)


def _is_decoded(human: HumanAnswers, drawn: pd.DataFrame) -> pd.Series[bool]:
    """Which rows stand for the mass `no_number`: those decoded for it, and, where an engine generated every
    text, those that do not begin with an answer."""
    decoded = drawn["made_by"] == "decode"
    generated = drawn["made_by"].isin(["generate", "vllm"])
    if generated.any():
        labelled = human.rows.loc[human.rows["labels"].notna(), "prompt_id"]
        begins = drawn["text"].str.match(r"\s*[-\u2212]?[0-9]")
        begins = begins.where(~drawn["prompt_id"].isin(labelled), drawn["success"]).astype(bool)
        decoded |= generated & ~begins
    return decoded


def _exact_part(
    human: HumanAnswers, temperature: float, read: pd.DataFrame
) -> tuple[Floats, dict[str, Floats]]:
    """p(a|x) as (n, K), and the masses off the scale's answers as (n,) each, in the prompts' order."""
    wanted = human.rows["prompt_id"].tolist()
    by_prompt = read.drop_duplicates("prompt_id").set_index("prompt_id")
    missing = [prompt for prompt in wanted if prompt not in by_prompt.index]
    if missing:
        raise BadInput(
            f"{len(missing)} of {len(wanted)} test prompts of question {human.question!r} have no answer"
            f" distribution at temperature {temperature:g}",
            value=missing[0],
            remedy="materialize the answer distributions again",
        )
    ordered = by_prompt.loc[wanted]
    exact = np.stack([np.asarray(p, dtype=np.float64) for p in ordered["probabilities"]])
    if exact.shape[1] != len(human.scale.answers):
        raise BadInput(
            f"distributions over {exact.shape[1]} answers for question {human.question!r}, whose scale has"
            f" {len(human.scale.answers)}",
            remedy="materialize the answer distributions again",
        )
    return exact, {name: ordered[name].to_numpy(dtype=np.float64) for name in LOST_MASSES}


def _measure(simulated: SimulatedAnswers) -> list[dict[str, Any]]:
    """The rows of one question and temperature, without factors."""
    rows = [*_population_rows(simulated), *_sample_rows(simulated), *_point_rows(simulated)]
    place = {"temperature": simulated.temperature, "question": simulated.human.question}
    return [place | row for row in rows]


def _population_rows(simulated: SimulatedAnswers) -> Iterator[dict[str, Any]]:
    human = simulated.human
    n = len(human.rows)
    yield _row("none", "success_rate", simulated.success_rate, n)
    for name, mass in simulated.lost.items():
        yield _row("none", name, mass, n)
    if simulated.success_rate <= 0:
        for name in POPULATION_MEASURES:
            yield _row("none", name, None, n, NEVER_ANSWERED)
        return
    counts = answer_counts(human.answers, human.scale, human.weights)
    measured = population_measures(human.scale, counts, simulated.population)
    for name in POPULATION_MEASURES:
        reason = missing_measure_reason(name, human.scale)
        yield _row("none", name, measured.get(name), n, reason or "all humans gave the same answer")


def _sample_rows(simulated: SimulatedAnswers) -> Iterator[dict[str, Any]]:
    """The generations against the humans' own answers."""
    sampled, human = simulated.sampled, simulated.human
    if not len(sampled):
        for name in ("rmse", "mae", "spearman", "n_failed"):
            yield _row("sample", name, None, 0, "there are no generations at this temperature")
        return
    answered = sampled[sampled["answer"].notna()]
    places = answered["prompt"].to_numpy()
    pairs = _Pairs(human.answers[places], answered["answer"].to_numpy(), human.weights[places])
    correlations = [
        pairs.at(answered["replicate"].to_numpy() == r).spearman for r in np.unique(sampled["replicate"])
    ]
    kept = [value for value in correlations if not np.isnan(value)]
    failed = (len(sampled) - len(answered)) / sampled["replicate"].nunique()
    correlation = float(np.mean(kept)) if kept else np.nan
    yield from _paired_rows("sample", pairs, correlation, answered["prompt"].nunique(), failed)


def _point_rows(simulated: SimulatedAnswers) -> Iterator[dict[str, Any]]:
    """Mean, median and CRPS of each prompt's distribution given success."""
    human, values = simulated.human, answer_values(simulated.human.scale)
    usable = simulated.conditional.sum(axis=1) >= LEAST_SUCCESS
    given = simulated.conditional[usable]
    humans, weights = human.answers[usable], human.weights[usable]
    n, failed = int(usable.sum()), int((~usable).sum())
    for point, read in (("mean", distribution_means), ("median", distribution_medians)):
        pairs = _Pairs(humans, read(values, given) if n else np.empty(0), weights)
        yield from _paired_rows(point, pairs, pairs.spearman, n, failed)
    scores = crps(values, given, humans) if n else np.empty(0)
    mean_score = np.average(scores, weights=weights) if n else None
    yield _row("none", "crps", mean_score, n, NEVER_ANSWERED)


@dataclass(frozen=True)
class _Pairs:
    """Answers of humans and model to the same prompts, with survey weights; (n,) each."""

    humans: Any
    points: Floats
    weights: Floats

    def at(self, chosen: Any) -> _Pairs:
        return _Pairs(self.humans[chosen], self.points[chosen], self.weights[chosen])

    @property
    def spearman(self) -> float:
        return spearman(self.humans, self.points, self.weights) if len(self.points) else np.nan


def _paired_rows(
    point: str, pairs: _Pairs, correlation: float, n: int, failed: float
) -> Iterator[dict[str, Any]]:
    for name, measure in (("rmse", rmse), ("mae", mae)):
        value = measure(pairs.humans, pairs.points, pairs.weights) if n else None
        yield _row(point, name, value, n, NEVER_ANSWERED)
    constant = "all answers of one side are the same, so there is no correlation"
    yield _row(point, "spearman", correlation, n, constant if n else NEVER_ANSWERED)
    yield _row(point, "n_failed", failed, n)


def _row(point: str, measure: str, value: Any, n: int, reason: str | None = None) -> dict[str, Any]:
    """One row; `reason` is kept only where there is no value."""
    number = np.nan if value is None else float(value)
    why = reason if np.isnan(number) else None
    if np.isnan(number) and why is None:
        raise ArithmeticError(f"{measure} is not a number, and nothing says why")
    return {"point_answer": point, "measure": measure, "value": number, "n": n, "reason": why}
