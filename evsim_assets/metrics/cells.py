"""What people like this one answered: the marginal of a demographic cell, shrunk to the population's.

Belongs here: which demographics make the cells, how far a cell is believed, probabilities for
people. Not here: measures of it as a null model (`nulls.py`) or a baseline (`baselines/`).

With counts c of the answers in a person's cell, n their sum and m the population's marginal,

    p(a) = (c(a) + κ m(a)) / (n + κ),   m(a) = (C(a) + 1/K) / (N + 1),

where C and N count all training answers and K the answers of the scale: one answer, spread over the
scale, keeps every probability above zero. The demographics of the cells and κ are those with the
lowest negative log-likelihood on validation; no test answer is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.measures import Floats, answer_counts, answer_positions, balanced
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import Scale

LARGEST_CELLS = 2
"""Cells cross at most so many demographics: three leave few people in each."""
SHRINKAGE = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""κ: how many people of the population a cell is filled up with."""
UNKNOWN = "(unknown)"
"""The level of people who did not say; they are a cell like any other."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CellMarginals:
    """Fitted cells: `demographics` (slugs; none means the population's marginal for everyone), `kappa`.

    `marginal` (K,); `counts` holds (K,) training answers by weight for each cell seen in training;
    `validation_nll` is the mean of −ln p of a validation answer, NaN without any.
    """

    demographics: tuple[str, ...]
    kappa: float
    marginal: Floats
    counts: Mapping[tuple[str, ...], Floats]
    validation_nll: float

    def probabilities(self, rows: pd.DataFrame) -> Floats:
        """p(a | the person's cell) of each of `rows`: (n, K), rows sum to 1, all above 0.

        `rows` need the columns of `demographics`. A cell never seen in training has the marginal.
        """
        nothing = np.zeros_like(self.marginal)
        if not self.demographics:
            return np.tile(self.marginal, (len(rows), 1))
        cells = list(zip(*(_levels(rows[slug]) for slug in self.demographics), strict=True))
        cell_of = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
        counts = np.reshape([self.counts.get(cell, nothing) for cell in cell_of], (-1, len(nothing)))
        shrunk = _shrunk(counts, counts.sum(axis=1, keepdims=True), self.marginal, self.kappa)
        return np.asarray(shrunk[[cell_of[cell] for cell in cells]])

    @property
    def label(self) -> str:
        """What was chosen, for tables: `age × region, κ 30`."""
        if not self.demographics:
            return "none: no demographic tells more of validation answers than the marginal"
        return f"{' × '.join(self.demographics)}, κ {self.kappa:g}"


def fit_cells(
    train_rows: pd.DataFrame,
    validation_rows: pd.DataFrame,
    demographics: Sequence[str],
    scale: Scale,
) -> CellMarginals:
    """The cells of one or two demographics, and the κ, that are best on validation.

    Args:
        train_rows, validation_rows: of one question: `answer` (on `scale`), `weight` and a column a
            demographic. Answers count by weight; those of weight 0 for nobody.
        demographics: columns (slugs) to choose from; a cell with several options is a level
            of its own.

    No candidate better than the marginal alone, or no validation row: cells of no demographic. Ties go
    to fewer demographics, then to the codebook's order, then to the smaller κ.

    Raises:
        BadInput: no training row, or an answer off the scale.
    """
    train, validation = (rows[rows["weight"] > 0] for rows in (train_rows, validation_rows))
    if not len(train):
        raise BadInput("there is no training answer to learn cells from", remedy="train on some people")
    counts = answer_counts(train["answer"], scale, balanced(train["weight"]))
    answers = len(counts)
    marginal = (counts + 1 / answers) / (counts.sum() + 1)
    if not len(validation):
        return CellMarginals((), 0.0, marginal, {}, float("nan"))
    said = _Said.of(train, validation, demographics, scale)
    best = ((), 0.0, said.marginal_nll(marginal))
    slugs, kappa, nll = min([best, *said.candidates(marginal)], key=lambda candidate: candidate[2])
    return CellMarginals(slugs, kappa, marginal, _cell_counts(train, slugs, scale), nll)


@dataclass(frozen=True)
class _Said:
    """Training and validation answers as integers: positions on the scale, and levels by demographic."""

    answers: int
    train: Integers
    train_weights: Floats
    validation: Integers
    validation_weights: Floats
    levels: Mapping[str, tuple[Integers, int]]

    @classmethod
    def of(
        cls, train: pd.DataFrame, validation: pd.DataFrame, demographics: Sequence[str], scale: Scale
    ) -> _Said:
        both = pd.concat([train, validation], ignore_index=True)
        levels = {}
        for slug in demographics:
            codes, found = pd.factorize(_levels(both[slug]))
            levels[slug] = (codes.astype(np.int64), len(found))
        return cls(
            len(scale.answers),
            answer_positions(train["answer"], scale),
            balanced(train["weight"]),
            answer_positions(validation["answer"], scale),
            balanced(validation["weight"]),
            levels,
        )

    def marginal_nll(self, marginal: Floats) -> float:
        return self._mean_nll(marginal[self.validation])

    def candidates(self, marginal: Floats) -> Iterator[tuple[tuple[str, ...], float, float]]:
        """Every set of demographics and κ: slugs, κ, mean −ln p of the validation answers."""
        given = marginal[self.validation]
        for size in range(1, LARGEST_CELLS + 1):
            for slugs in combinations(self.levels, size):
                count, total = self._seen(slugs)
                for kappa in SHRINKAGE:
                    yield slugs, kappa, self._mean_nll(_shrunk(count, total, given, kappa))

    def _seen(self, slugs: tuple[str, ...]) -> tuple[Floats, Floats]:
        """Of each validation answer's cell: training answers that say the same, and all; (n,) each."""
        cell, cells = np.zeros(len(self.train) + len(self.validation), dtype=np.int64), 1
        for codes, levels in (self.levels[slug] for slug in slugs):
            cell, cells = cell * levels + codes, cells * levels
        here, there = cell[: len(self.train)], cell[len(self.train) :]
        same = np.bincount(
            here * self.answers + self.train, self.train_weights, minlength=cells * self.answers
        )
        total = np.bincount(here, self.train_weights, minlength=cells)
        said = same[there * self.answers + self.validation]
        return said.astype(np.float64), total[there].astype(np.float64)

    def _mean_nll(self, probabilities: Floats) -> float:
        return float(np.average(-np.log(probabilities), weights=self.validation_weights))


def _shrunk(counts: Floats, total: Floats, marginal: Floats, kappa: float) -> Floats:
    return np.asarray((counts + kappa * marginal) / (total + kappa))


def _levels(column: pd.Series) -> npt.NDArray[np.object_]:
    """Each person's level as text, (n,); UNKNOWN where there is none."""
    return column.astype(object).where(column.notna(), UNKNOWN).astype(str).to_numpy(dtype=object)


def _cell_counts(train: pd.DataFrame, slugs: tuple[str, ...], scale: Scale) -> dict[tuple[str, ...], Floats]:
    """Training answers by weight, (K,) a cell."""
    if not slugs:
        return {}
    cells = list(zip(*(_levels(train[slug]) for slug in slugs), strict=True))
    place_of = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
    counts = np.zeros((len(place_of), len(scale.answers)))
    places = np.array([place_of[cell] for cell in cells])
    np.add.at(counts, (places, answer_positions(train["answer"], scale)), balanced(train["weight"]))
    return {cell: counts[place] for cell, place in place_of.items()}
