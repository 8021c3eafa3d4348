"""Who contests a question: the chosen adapters and baselines, and what each says to the same test prompts.

Belongs here: which choices take part, and putting their answers side by side, prompt by prompt. Not here: who
wins (`contest.py`), fitting baselines (`baselines/`), choosing (`chosen.py`).

A prompt is a person's answer to be told, named by participant and order whatever its wording, so adapters in
several wordings and baselines, which read no words, are asked the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.human_answers import HumanAnswers
from evsim_assets.metrics.measures import Floats, answer_values, balanced, distribution_means
from evsim_assets.metrics.simulated import LEAST_SUCCESS, LOST_MASSES, simulated_answers
from evsim_assets.specs.errors import BadInput

PLACE = ["question", "answers"]
KEPT_READINGS = ("point", "mean")
"""A baseline contests with one reading: its point answer, or the mean of its distribution, as adapters do."""
Distributions = Mapping[str, pd.DataFrame | Path]
"""Each adapter's answer distributions: the table, or the Parquet file of it, read as far as needed."""


@dataclass(frozen=True)
class Said:
    """What a contestant says to n prompts: masses over the scale's answers (n, K), and squared errors (n,).

    `square` is the squared error of the answer that RMSE reads. Rows of `given` sum to less than 1 where the
    contestant sometimes fails; `whole` is False where it gives one answer and no distribution.
    """

    given: Floats
    square: Floats
    whole: bool

    @property
    def failed(self) -> npt.NDArray[np.bool_]:
        """The prompts that are hardly ever answered, (n,)."""
        return np.asarray(self.given.sum(axis=1) < LEAST_SUCCESS)

    def of(self, rows: npt.NDArray[Any]) -> Said:
        """What it says to some of the prompts."""
        return Said(self.given[rows], self.square[rows], self.whole)


@dataclass(frozen=True)
class Asked:
    """The test prompts of one question on one scale, and what all that contest it say to them.

    `adapters`: by adapter and temperature. `baselines`: by algorithm, setting and reading.
    """

    human: HumanAnswers
    adapters: Mapping[tuple[str, float], Said]
    baselines: Mapping[tuple[str, str, str], Said]

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """The prompts that all of them answer (n,)."""
        everyone = [*self.adapters.values(), *self.baselines.values()]
        return np.asarray(~np.any([said.failed for said in everyone], axis=0))

    def among(self, rows: npt.NDArray[np.bool_]) -> Asked:
        """The same of some of the prompts, at least one, whose weights have mean 1 again."""
        human = self.human
        kept = HumanAnswers(
            human.question,
            human.answer_scale,
            human.scale,
            human.rows[rows],
            human.answers[rows],
            balanced(human.weights[rows]),
        )
        return Asked(
            kept,
            {name: said.of(rows) for name, said in self.adapters.items()},
            {name: said.of(rows) for name, said in self.baselines.items()},
        )


def one_reading(chosen: pd.DataFrame) -> pd.DataFrame:
    """The rows of `chosen_baselines` that contest: those of KEPT_READINGS.

    A random answer has no reading but the draw itself, and contests with that.
    """
    kept = chosen["reading"].isin(KEPT_READINGS)
    curve = ["algorithm", *PLACE]
    has = pd.MultiIndex.from_frame(chosen.loc[kept, curve])
    return chosen[kept | ~pd.MultiIndex.from_frame(chosen[curve]).isin(has)].reset_index(drop=True)


def contestants(
    prompts: pd.DataFrame,
    distributions: Distributions,
    baseline_answers: pd.DataFrame,
    chosen_baselines: pd.DataFrame,
    chosen_adapters: pd.DataFrame,
    factors: Mapping[str, Mapping[str, Any]],
) -> Iterator[Asked]:
    """Each question and answer scale of `chosen_adapters`, in its order; those without a test answer are left
    out. Arguments as of `contest`.

    Raises:
        BadInput: a test prompt without its distribution, or without a baseline's answer to it.
    """
    told = _adapters_say(prompts, distributions, chosen_adapters, factors)
    of_baselines = dict(iter(baseline_answers.groupby(PLACE, sort=False)))
    choices = one_reading(chosen_baselines)
    for question, answers in chosen_adapters[PLACE].drop_duplicates().itertuples(index=False):
        here = told.get((question, answers), {})
        if not here:
            continue
        human, _ = next(iter(here.values()))
        keys = _keys(human.rows)
        adapters = {
            name: _adapter(human, given[_places(_keys(own.rows), keys, name[0])])
            for name, (own, given) in here.items()
        }
        mine = choices[(choices["question"] == question) & (choices["answers"] == answers)]
        rows = of_baselines.get((question, answers), baseline_answers.iloc[:0])
        yield Asked(human, adapters, dict(_baselines_say(human, keys, rows, mine)))


def _adapters_say(
    prompts: pd.DataFrame,
    distributions: Distributions,
    chosen: pd.DataFrame,
    factors: Mapping[str, Mapping[str, Any]],
) -> dict[tuple[str, str], dict[tuple[str, float], tuple[HumanAnswers, Floats]]]:
    """By question and scale, then by adapter and temperature: the prompts, and masses (n, K)."""
    told: dict[tuple[str, str], dict[tuple[str, float], tuple[HumanAnswers, Floats]]] = {}
    for adapter, wanted in chosen.groupby("adapter", sort=False):
        name, own = str(adapter), factors[str(adapter)]
        scale = str(own["answers"])
        places = set(zip(wanted["question"], wanted["temperature"], strict=True))
        read = _read(distributions[name], sorted({temperature for _, temperature in places}))
        for one in simulated_answers(prompts, read, [], own):
            if (one.human.question, one.temperature) in places:
                here = told.setdefault((one.human.question, scale), {})
                here[name, one.temperature] = (one.human, one.exact)
    return told


def _read(stored: pd.DataFrame | Path, temperatures: list[float]) -> pd.DataFrame:
    """An adapter's distributions at some temperatures."""
    if isinstance(stored, pd.DataFrame):
        return stored[stored["temperature"].isin(temperatures)]
    import pyarrow.parquet as pq

    columns = ["prompt_id", "temperature", "probabilities", *LOST_MASSES]
    return pq.read_table(stored, columns=columns, filters=[("temperature", "in", temperatures)]).to_pandas()


def _adapter(human: HumanAnswers, given: Floats) -> Said:
    """RMSE reads the mean of the distribution given success; 0 where there hardly is any, and never used."""
    usable = given.sum(axis=1) >= LEAST_SUCCESS
    mass = np.where(usable[:, None], given, 1.0)
    error = distribution_means(answer_values(human.scale), mass) - human.answers
    return Said(given, np.where(usable, error**2, 0.0), whole=True)


def _baselines_say(
    human: HumanAnswers, keys: pd.MultiIndex, rows: pd.DataFrame, chosen: pd.DataFrame
) -> Iterator[tuple[tuple[str, str, str], Said]]:
    """What each chosen baseline says to the prompts, once a setting and reading."""
    by_setting = dict(iter(rows.groupby(["algorithm", "setting"], sort=False)))
    values, answers = answer_values(human.scale), human.answers.astype(np.float64)
    for algorithm, setting, reading in (
        chosen[["algorithm", "setting", "reading"]].drop_duplicates().itertuples(index=False)
    ):
        own = by_setting.get((algorithm, setting), rows.iloc[:0])
        ordered = own.iloc[_places(_keys(own), keys, algorithm)]
        given = np.stack(ordered["probabilities"].to_list()).astype(np.float64)
        given /= given.sum(axis=1, keepdims=True)  # stored in four bytes
        if not np.array_equal(ordered["answer"].to_numpy(dtype=np.float64), answers):
            raise _stale(
                f"people's answers to {human.question!r} are not those that {algorithm} was kept with"
            )
        if reading == "point":
            square = (ordered["prediction"].to_numpy(dtype=np.float64) - answers) ** 2
        elif reading == "sample":
            square = (given * (values - answers[:, None]) ** 2).sum(axis=1)
        else:
            square = (given @ values - answers) ** 2
        yield (algorithm, setting, reading), Said(given, square, whole=reading != "point")


def _keys(rows: pd.DataFrame) -> pd.MultiIndex:
    """What names each prompt, whatever its wording."""
    return pd.MultiIndex.from_arrays([rows["participant"].astype(object), rows["order"].astype("int64")])


def _places(own: pd.MultiIndex, keys: pd.MultiIndex, name: str) -> npt.NDArray[np.int64]:
    """Where each of the prompts `keys` is among the contestant's own."""
    place = own.get_indexer(keys)
    if (place < 0).any():
        raise _stale(f"{int((place < 0).sum())} of {len(keys)} test prompts have no answer of {name}")
    return np.asarray(place, dtype=np.int64)


def _stale(problem: str) -> BadInput:
    return BadInput(
        problem, remedy="make the study's prompts, answer_distributions and baseline_answers again"
    )
