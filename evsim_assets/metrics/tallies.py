"""What is summed over prompts, and the measures that follow from the sums.

Belongs here: the columns whose weighted sums over prompts give every measure, and how. Not here: over whom
is summed (`agreement.py`), the formulas of measures of populations (`measures.py`).

Every measure but the rank correlation is a function of sums over prompts. So a group's value, all its
bootstrap replicates and its shuffled personas come from the same columns: summed once by participant, and
then by how often each participant counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from evsim_assets.metrics.measures import (
    NLL_FLOOR,
    POPULATION_MEASURES,
    Floats,
    answer_positions,
    answer_values,
    distribution_means,
    distribution_medians,
    distribution_modes,
    population_measures,
)
from evsim_assets.metrics.simulated import LEAST_SUCCESS, LOST_MASSES, SimulatedAnswers
from evsim_assets.specs.survey import Scale

Ints = npt.NDArray[np.int64]
READINGS = {"mean": distribution_means, "median": distribution_medians, "mode": distribution_modes}
"""How one answer is read from a prompt's distribution, besides a draw (`sample`). Of several answers that are
exactly the most likely, the lowest is the mode."""
GREEDY = "greedy"
"""The answer of temperature 0, whose distributions have all their mass on one answer: read there alone, as it
does not depend on the temperature."""
POINT_ANSWERS = ("sample", GREEDY, *READINGS)
POINT_POPULATION = ("kl", "w1", "sd_ratio")
"""What is measured of everybody's point answers, taken for a population."""
Measured = dict[tuple[str, str], Floats]
"""Values by point answer and measure."""


@dataclass(frozen=True)
class Matches:
    """m point answers: the row of their prompt, their place among the different answers, how often given."""

    row: Ints
    place: Ints
    times: Floats


@dataclass(frozen=True)
class Tally:
    """The columns of one question at one temperature, for its n prompts (n, K) or (n,).

    `of_model` depend on the model alone, so that another person's may stand in their place.
    """

    simulated: SimulatedAnswers

    @cached_property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Prompts that are answered often enough for a mean. (n,)."""
        return np.asarray(self.simulated.conditional.sum(axis=1) >= LEAST_SUCCESS)

    @cached_property
    def given(self) -> Floats:
        """Each prompt's distribution given success, (n, K); uniform, and never used, where not `usable`."""
        mass = np.where(self.usable[:, None], self.simulated.conditional, 1.0)
        return np.asarray(mass / mass.sum(axis=1, keepdims=True))

    @cached_property
    def replicates(self) -> int:
        """How many times each prompt was drawn."""
        return len(np.unique(self.simulated.drawn.replicate))

    @cached_property
    def points(self) -> dict[str, Floats]:
        """The mean, median and mode of each prompt, at temperature 0 also the greedy answer, (n,) each; never
        used where not `usable`."""
        values = answer_values(self.simulated.human.scale)
        read = {name: reading(values, self.given) for name, reading in READINGS.items()}
        return ({GREEDY: read["mode"]} if self.simulated.temperature == 0 else {}) | read

    @cached_property
    def of_model(self) -> dict[str, Floats]:
        """Columns of the model's answers: (n, K) for populations, else (n,)."""
        said = self.simulated
        columns: dict[str, Floats] = {"exact": said.exact}
        if len(said.drawn.prompt):
            columns["sample"] = said.said
        if said.decodes.any():
            columns |= {"decoded_said": said.decoded_said, "decodes": said.decodes}
        for name in self.points:
            columns[name] = self._indicators(name)
        return columns | dict(said.masses)

    def paired(self, model: Ints, human: Ints) -> dict[str, Floats]:
        """Columns of errors, (m,) each, of the prompts `model` against humans who gave the answers at
        the places `human`: of each point answer its weight, squared and absolute errors; CRPS and NLL."""
        answer = answer_values(self.simulated.human.scale)[human]
        usable = self.usable[model].astype(float)
        columns = {"usable": usable}
        for name, point in self.points.items():
            error = (point[model] - answer) * usable
            columns |= {f"{name} square": error**2, f"{name} error": np.abs(error)}
        columns["crps"] = self._crps[model, human] * usable
        columns["nll"] = self._nll[model, human] * usable
        if "sample" in self.of_model:
            count, first, second = (moment[model] for moment in self._moments)
            columns |= {
                "answered": count,
                "sample square": second - 2 * answer * first + answer**2 * count,
                "sample error": self._distances[model, human],
            }
        return columns

    @cached_property
    def answered(self) -> dict[str, Matches]:
        """Which prompts have each point answer, and its place among the different ones; of samples, all."""
        kept = np.flatnonzero(self.usable)
        once = np.ones(len(kept))
        found = {
            point: Matches(kept, np.unique(of_prompts[kept], return_inverse=True)[1], once)
            for point, of_prompts in self.points.items()
        }
        if "sample" in self.of_model:
            row, place = np.nonzero(self.simulated.said)
            found["sample"] = Matches(row, place, self.simulated.said[row, place])
        return found

    def _indicators(self, point: str) -> Floats:
        """A one at each usable prompt's point answer, (n, K); a mean counts at the answer next to it."""
        scale = self.simulated.human.scale
        steps = np.floor((self.points[point] - scale.low) / scale.step + 0.5)
        counted = np.zeros(self.given.shape)
        rows = np.flatnonzero(self.usable)
        counted[rows, answer_positions(scale.low + scale.step * steps[rows], scale)] = 1.0
        return counted

    @cached_property
    def _crps(self) -> Floats:
        """CRPS of every answer under every prompt's distribution: (n, K).

        Σ_k (F_k − 1[k ≥ a])² dv_k = Σ_k F_k² dv_k + Σ_{k ≥ a} (1 − 2 F_k) dv_k.
        """
        widths = np.diff(answer_values(self.simulated.human.scale))
        below = np.cumsum(self.given, axis=1)[:, :-1]
        beyond = np.zeros(self.given.shape)
        beyond[:, :-1] = np.cumsum(((1 - 2 * below) * widths)[:, ::-1], axis=1)[:, ::-1]
        return np.asarray((below**2 @ widths)[:, None] + beyond)

    @cached_property
    def _nll(self) -> Floats:
        return np.asarray(-np.log((1 - NLL_FLOOR) * self.given + NLL_FLOOR / self.given.shape[1]))

    @cached_property
    def _moments(self) -> tuple[Floats, Floats, Floats]:
        values, said = answer_values(self.simulated.human.scale), self.simulated.said
        return said.sum(axis=1), said @ values, said @ values**2

    @cached_property
    def _distances(self) -> Floats:
        """Σ of the distances of a prompt's samples from every answer: (n, K)."""
        values = answer_values(self.simulated.human.scale)
        return np.asarray(self.simulated.said @ np.abs(values[:, None] - values[None, :]))


def side_by_side(columns: Mapping[str, Floats]) -> tuple[Floats, dict[str, slice]]:
    """All columns in one matrix (n, D), and where each is."""
    blocks, places, at = [], {}, 0
    for name, column in columns.items():
        block = column[:, None] if column.ndim == 1 else column
        blocks.append(block)
        places[name] = slice(at, at + block.shape[1])
        at += block.shape[1]
    return np.concatenate(blocks, axis=1), places


@dataclass(frozen=True)
class Lean:
    """Columns (n, D) to be summed many times: in float32, without those that hold nothing.

    Answers that nobody gave cost nothing then, and those are many.
    """

    kept: npt.NDArray[np.float32]
    places: Ints
    width: int

    @classmethod
    def of(cls, columns: Floats) -> Lean:
        """Of columns (n, D)."""
        places = np.flatnonzero(columns.any(axis=0))
        return cls(columns[:, places].astype(np.float32), places, columns.shape[1])

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Lean:
        """The same columns of some rows (n,)."""
        return Lean(self.kept[chosen], self.places, self.width)

    def summed(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Sums (R, D) by R sets of weights (R, n)."""
        sums = np.zeros((len(weights), self.width), dtype=np.float32)
        sums[:, self.places] = weights @ self.kept
        return sums


def by_name(sums: npt.NDArray[Any], places: Mapping[str, slice]) -> dict[str, Floats]:
    """Sums (R, D) by column: (R, K) for populations, else (R,)."""
    return {
        name: sums[:, at.start] if at.stop - at.start == 1 else sums[:, at] for name, at in places.items()
    }


def measured(scale: Scale, human: Floats, sums: Mapping[str, Floats]) -> Measured:
    """Every measure of R sums: values (R,), NaN where there is none.

    Args:
        human: weighted counts of human answers (R, K), brought to as many answers as there are.
        sums: of the columns of `Tally.of_model` and `Tally.paired`, and of `weight`, the prompts' own.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        population = _population(sums)
        found: Measured = {("none", "success_rate"): population.sum(axis=-1) / sums["weight"]}
        found |= {("none", name): sums[name] / sums["weight"] for name in LOST_MASSES}
        for name in ("crps", "nll"):
            found["none", name] = sums[name] / sums["usable"]
        for point in POINT_ANSWERS:
            if f"{point} square" in sums:
                counted = sums["answered" if point == "sample" else "usable"]
                found[point, "rmse"] = np.sqrt(np.maximum(sums[f"{point} square"], 0) / counted)
                found[point, "mae"] = sums[f"{point} error"] / counted
    found |= _of_populations(scale, "none", human, population, POPULATION_MEASURES)
    return found | _of_points(scale, human, {p: sums[p] for p in POINT_ANSWERS if p in sums})


def populations(sums: Mapping[str, Floats]) -> dict[str, Floats]:
    """Answers (R, K) of humans, of the model's distributions (`none`) and of each point answer."""
    found = {"human": sums["human"], "none": _population(sums)}
    return found | {point: sums[point] for point in POINT_ANSWERS if point in sums}


def _population(sums: Mapping[str, Floats]) -> Floats:
    """Expected answers (R, K): the exact part, and the mass `no_number` as the decoded rows say it."""
    exact = sums["exact"]
    if "decodes" not in sums:
        return exact
    decodes = np.maximum(sums["decodes"], np.finfo(np.float32).tiny)  # where none is, `decoded_said` is 0
    mass = np.where(sums["decodes"] > 0, sums["no_number"] / decodes, 0).astype(exact.dtype)
    return np.asarray(exact + mass[:, None] * sums["decoded_said"])


def _of_points(scale: Scale, human: Floats, models: Mapping[str, Floats]) -> Measured:
    """Measures of several point answers' populations (R, K), at once where none of them is empty."""
    together = np.stack(list(models.values()))
    if not (human.any(axis=-1).all() and together.any(axis=-1).all()):
        found: Measured = {}
        for point, model in models.items():
            found |= _of_populations(scale, point, human, model, POINT_POPULATION)
        return found
    values = population_measures(scale, human, together, POINT_POPULATION)
    return {(point, name): value[k] for name, value in values.items() for k, point in enumerate(models)}


def _of_populations(
    scale: Scale, point: str, human: Floats, model: Floats, measures: Any
) -> dict[tuple[str, str], Floats]:
    """Measures (R,) of populations (R, K); NaN where one of the two is empty."""
    defined = (human.sum(axis=-1) > 0) & (model.sum(axis=-1) > 0)
    values = {}
    if defined.all():
        values = population_measures(scale, human, model, measures)
        return {(point, name): value for name, value in values.items()}
    if defined.any():
        values = population_measures(scale, human[defined], model[defined], measures)
    found = {}
    for name in measures:
        found[point, name] = np.full(len(defined), np.nan)
        if name in values:
            found[point, name][defined] = values[name]
    return found
