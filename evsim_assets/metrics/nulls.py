"""Models that know nothing of the person asked, or only a cell: where the distance to be closed begins.

Belongs here: null models and their measures, exact wherever a draw can be avoided. Not here: how
cells are chosen (`cells.py`), models with more features (`baselines/`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.cells import fit_cells
from evsim_assets.metrics.groups import ALL, group_members
from evsim_assets.metrics.human_answers import HumanAnswers, answer_scales, each_answer_once, human_answers
from evsim_assets.metrics.kl_bias import kl_bias_of_model
from evsim_assets.metrics.measures import (
    CORRECTED,
    POPULATION_MEASURES,
    Floats,
    answer_counts,
    answer_positions,
    answer_values,
    balanced,
    crps,
    kl_bins,
    mae,
    missing_measure_reason,
    nll,
    population_measures,
    rebin,
    rmse,
    spearman,
)
from evsim_assets.metrics.noise_floor import rows_of_people, too_few_reason
from evsim_assets.metrics.simulated import LOST_MASSES
from evsim_assets.metrics.tallies import GREEDY, POINT_ANSWERS, POINT_POPULATION, READINGS
from evsim_assets.specs.demographics import Demographic
from evsim_assets.specs.seeds import derived_seed
from evsim_assets.specs.survey import Scale

NULLS = ("uniform", "population_marginal", "cell_marginal")
NULL_COLUMNS = [
    "null",
    "question",
    "answers",
    "demographic",
    "level",
    "point_answer",
    "measure",
    "value",
    "n",
    "cells",
    "reason",
]
DRAWS = 20
"""Draws a prompt for the rank correlation of drawn answers, the one value that is not exact."""
SAME_FOR_ALL = "it says the same of everyone, so there is no correlation"
"""Why a model that knows nothing of a person has no rank correlation."""
AGREED = "all humans gave the same answer"
TIED = "several answers are the most likely, so there is no single mode"
"""Why a null model has no mode, nor a greedy answer: all of the uniform's answers are."""
ALWAYS = {"success_rate": 1.0, **dict.fromkeys(LOST_MASSES, 0.0)}
"""What is known of a model that answers every prompt on the scale."""

Integers = npt.NDArray[np.int64]


def score_nulls(
    prompts: pd.DataFrame,
    people: pd.DataFrame,
    demographics: Iterable[Demographic | str] | None,
    seed: int,
) -> pd.DataFrame:
    """Null models against the human test answers: NULL_COLUMNS, per question, answer scale and group.

    - `uniform` gives every answer of the scale the same probability;
    - `population_marginal` gives each its share among the training answers to the question;
    - `cell_marginal` the share in the person's demographic cell, shrunk to the population's; `cells`
      says which demographics and how much, as chosen on validation (`fit_cells`).

    Point answers: `none` for measures of the whole distribution; `mean`, `median`, `mode` of the
    person's distribution; `greedy`, as of temperature 0, is its most likely answer, so the mode; `sample` is
    one draw from it, where rmse, mae and populations are the expectation over draws (rmse: under the root)
    and spearman is the mean of DRAWS draws. A model in which all distributions have several most likely
    answers has no mode; where some have, the lowest stands for it, as it does for adapters. `*_corrected` is
    KL less the bias of having `n` answers only. All succeed and fail at nothing. Answers count by their
    survey weights; each is taken once, and what is held out only where it is a test answer. A null value has
    a `reason`.

    Args:
        people: `participant` and a column a demographic; everyone in `prompts`.
        demographics: those to group by, as `group_members` takes them, and to make cells of.

    Raises:
        BadInput: a test participant who is not in `people`.
    """
    records: list[dict[str, Any]] = []
    prompts = each_answer_once(prompts).sort_values(["participant", "order"])  # draws belong to places
    groups = list(group_members(people, demographics))
    known = list(dict.fromkeys(demographic for demographic, _, _ in groups if demographic != ALL))
    for answer_scale in answer_scales(prompts):
        learned = {
            split: {h.question: h for h in human_answers(prompts, answer_scale, split=split)}
            for split in ("train", "validation")
        }
        for human in human_answers(prompts, answer_scale, split="test"):
            train, validation = (learned[s].get(human.question) for s in ("train", "validation"))
            models = list(_null_models(human, train, validation, people, known))
            rows = rows_of_people(people, pd.Index(human.rows["participant"]))
            participants = np.unique(rows, return_inverse=True)[1]
            for demographic, level, members in groups:
                chosen = members[rows]
                place = {"question": human.question, "answers": answer_scale}
                place |= {"demographic": demographic, "level": level}
                for model in models:
                    draws = derived_seed(seed, "null models", f"{human.question} {answer_scale}")
                    own = {"null": model.name, "cells": model.cells}
                    records += [
                        place | own | row for row in _group_rows(human, participants, model, chosen, draws)
                    ]
    table = pd.DataFrame(records, columns=NULL_COLUMNS)
    for column in ("cells", "reason"):
        table[column] = table[column].astype(object).where(table[column].notna(), None)
    return table


# --- the models ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Null:
    """A null model's distributions (n, K) for n test answers.

    None: there was nothing to learn it from, and `reason` says so.
    """

    name: str
    probabilities: Floats | None
    cells: str | None = None
    reason: str | None = None


def _null_models(
    human: HumanAnswers,
    train: HumanAnswers | None,
    validation: HumanAnswers | None,
    people: pd.DataFrame,
    demographics: Sequence[str],
) -> Iterator[_Null]:
    size = (len(human.rows), len(human.scale.answers))
    yield _Null("uniform", np.full(size, 1 / size[1]))
    if train is None:
        for name in NULLS[1:]:
            yield _Null(name, None, reason="no training answer to this question")
        return
    counts = answer_counts(train.answers, train.scale, train.weights)
    yield _Null("population_marginal", np.broadcast_to(counts / counts.sum(), size))
    known = [_answers_of_people(part, people, demographics) for part in (train, validation or train)]
    cells = fit_cells(known[0], known[1] if validation else known[1].head(0), demographics, human.scale)
    own = cells.probabilities(_answers_of_people(human, people, demographics))
    yield _Null("cell_marginal", own, cells.label)


def _answers_of_people(
    human: HumanAnswers, people: pd.DataFrame, demographics: Sequence[str]
) -> pd.DataFrame:
    """`answer` on the question's scale and `weight`, beside the person's demographics; in order."""
    known = people.set_index("participant")[list(demographics)]
    rows = known.reindex(human.rows["participant"]).reset_index(drop=True)
    return rows.assign(answer=human.answers, weight=human.weights)


# --- measures ------------------------------------------------------------------------------------


def _group_rows(
    human: HumanAnswers, participants: Integers, model: _Null, chosen: npt.NDArray[np.bool_], seed: int
) -> Iterator[dict[str, Any]]:
    """The rows of one model in one group: point_answer, measure, value, n, reason.

    `participants` (n,) numbers who gave each answer; `chosen` (n,) says which are of the group's members.
    """
    n = int(chosen.sum())
    members, who = np.unique(participants[chosen], return_inverse=True)
    reason = too_few_reason(len(members)) or model.reason
    if reason or model.probabilities is None:
        for point, measure in _measures():
            yield _row(point, measure, None, reason) | {"n": n}
        return
    answers, weights = human.answers[chosen], balanced(human.weights[chosen])
    given = model.probabilities[chosen]
    for row in _exact_rows(human.scale, answers, weights, given, who):
        yield row | {"n": n}
    correlation = None
    if model.name == "cell_marginal":
        draws = np.random.default_rng(seed).random((DRAWS, len(chosen)))[:, chosen]
        correlation = _drawn_spearman(human.scale, answers, weights, given, draws)
    yield _row("sample", "spearman", correlation, SAME_FOR_ALL) | {"n": n}


def _measures() -> Iterator[tuple[str, str]]:
    """Every (point answer, measure) of a null model."""
    for measure in (*POPULATION_MEASURES, *CORRECTED.values(), "crps", "nll", *ALWAYS):
        yield "none", measure
    for point in POINT_ANSWERS:
        for measure in (*POINT_POPULATION, CORRECTED["kl"], "rmse", "mae", "spearman", "n_failed"):
            yield point, measure


def _exact_rows(
    scale: Scale, answers: Integers, weights: Floats, given: Floats, who: Integers
) -> Iterator[dict[str, Any]]:
    """All but the rank correlation of drawn answers. `given`: (n, K); `who` (n,) numbers people from 0."""
    values, humans = answer_values(scale), answers.astype(float)
    yield from (_row("none", measure, value, None) for measure, value in ALWAYS.items())
    yield from (_row(point, "n_failed", 0.0, None) for point in POINT_ANSWERS)
    for measure, corrected in CORRECTED.items():
        why = missing_measure_reason(measure, scale)
        if why is not None:
            yield from (_row("none", name, None, why) for name in (measure, corrected))
    said = _Said.of(scale, answers, weights, who)
    yield from said.population_rows("none", given, POPULATION_MEASURES)
    for measure, scores in (("crps", crps(values, given, humans)), ("nll", nll(values, given, humans))):
        yield _row("none", measure, _mean(scores, weights), None)
    yield from said.population_rows("sample", given, POINT_POPULATION)
    apart = values - humans[:, None]  # (n, K)
    squared, absolute = ((given * f(apart)).sum(axis=1) for f in (np.square, np.abs))
    yield _row("sample", "rmse", float(np.sqrt(_mean(squared, weights))), None)
    yield _row("sample", "mae", _mean(absolute, weights), None)
    no_mode = bool(((given == given.max(axis=1, keepdims=True)).sum(axis=1) > 1).all())
    for point, read in (READINGS | {GREEDY: READINGS["mode"]}).items():
        if no_mode and read is READINGS["mode"]:
            measures = (*POINT_POPULATION, CORRECTED["kl"], "rmse", "mae", "spearman")
            yield from (_row(point, measure, None, TIED) for measure in measures)
            continue
        points = read(values, given)
        yield from said.population_rows(point, _indicators(scale, points), POINT_POPULATION)
        yield _row(point, "rmse", rmse(humans, points, weights), None)
        yield _row(point, "mae", mae(humans, points, weights), None)
        ranked = points.round(9)  # means of equal distributions differ in their last bits: no order
        constant = SAME_FOR_ALL if np.ptp(ranked) == 0 else AGREED
        yield _row(point, "spearman", spearman(humans, ranked, weights), constant)


@dataclass(frozen=True)
class _Said:
    """Humans as a population: weighted `counts` (K,), `by_person` (people, K); `who`, `weights` (n,)."""

    scale: Scale
    counts: Floats
    by_person: Floats
    who: Integers
    weights: Floats

    @classmethod
    def of(cls, scale: Scale, answers: Integers, weights: Floats, who: Integers) -> _Said:
        by_person = np.zeros((who.max() + 1, len(scale.answers)))
        np.add.at(by_person, (who, answer_positions(answers, scale)), weights)
        return cls(scale, answer_counts(answers, scale, weights), by_person, who, weights)

    def population_rows(
        self, point: str, given: Floats, measures: Collection[str]
    ) -> Iterator[dict[str, Any]]:
        """Measures of the population of all `given` (n, K); each KL also less its bias."""
        measured = population_measures(self.scale, self.counts, self.weights @ given, measures)
        for measure, value in measured.items():
            yield _row(point, measure, float(value), AGREED)
        for measure in CORRECTED:
            bins = kl_bins(measure, self.scale)
            if measure in measures and bins is not None:
                bias = self._kl_bias(given, bins)
                yield _row(point, CORRECTED[measure], float(measured[measure]) - bias, None)

    def _kl_bias(self, given: Floats, bins: int) -> float:
        """Of KL with `bins` bins, where people bring their answers and the model's."""
        expected = np.zeros((len(self.by_person), bins))
        np.add.at(expected, self.who, rebin(given, bins) * self.weights[:, None])
        return kl_bias_of_model(rebin(self.by_person, bins), expected)


def _indicators(scale: Scale, points: Floats) -> Floats:
    """A one at each point answer (n,), a mean at the answer next to it (half a step up): (n, K)."""
    steps = np.floor((points - scale.low) / scale.step + 0.5).astype(np.int64)
    return np.asarray(np.eye(len(scale.answers))[steps])


def _drawn_spearman(
    scale: Scale, answers: Integers, weights: Floats, given: Floats, draws: Floats
) -> float | None:
    """The mean rank correlation over draws (D, n), uniform on 0–1; None where there is never one."""
    below, values = np.cumsum(given, axis=1), answer_values(scale)
    found = []
    for draw in draws:
        drawn = values[np.minimum((below < draw[:, None]).sum(axis=1), len(values) - 1)]
        found.append(spearman(answers, drawn, weights))
    kept = [value for value in found if not np.isnan(value)]
    return float(np.mean(kept)) if kept else None


def _mean(values: Floats, weights: Floats) -> float:
    return float(np.average(values, weights=weights))


def _row(point: str, measure: str, value: float | None, reason: str | None) -> dict[str, Any]:
    """One row; `reason` is kept only where there is no value."""
    missing = value is None or np.isnan(value)
    return {
        "point_answer": point,
        "measure": measure,
        "value": None if missing else value,
        "reason": reason if missing else None,
    }
