"""Marginals of demographic cells: which cells, how far they are believed, and what they say of a person."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.metrics.cells import SHRINKAGE, CellMarginals, fit_cells
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import Scale
from tests.metrics.people_who_differ import (
    DEMOGRAPHICS,
    distributions_of,
    people_who_differ,
    prompts_of,
)

TENS = Scale(low=0, high=100, step=10)
THREE = Scale(low=1, high=3)


def known(people, prompts, split):
    rows = prompts[prompts["split"] == split].merge(people, on="participant")
    return rows[["answer", "weight", *DEMOGRAPHICS]]


def rows(answers, sexes, weights=1.0):
    return pd.DataFrame({"answer": answers, "sex": sexes, "weight": weights})


def test_the_demographics_that_answers_depend_on_are_chosen_and_luck_is_not():
    people = people_who_differ()
    prompts = prompts_of(people)
    train, validation = (known(people, prompts, split) for split in ("train", "validation"))
    cells = fit_cells(train, validation, DEMOGRAPHICS, TENS)
    assert cells.demographics == ("age", "region")
    assert cells.label == f"age × region, κ {cells.kappa:g}"
    said = cells.probabilities(people)
    assert said.sum(axis=1) == pytest.approx(np.ones(len(people)))
    assert np.abs(said - distributions_of(people)).sum(axis=1).mean() / 2 < 0.08  # total variation


def test_a_cells_probabilities_by_hand():
    train = rows([1, 1, 2, 3, 3, 3], ["m", "m", "m", "f", "f", "f"])
    validation = rows([1, 1, 3, 3], ["m", "m", "f", "f"])
    cells = fit_cells(train, validation, ["sex"], THREE)
    assert cells.demographics == ("sex",) and cells.kappa == SHRINKAGE[0] == 1
    marginal = np.array([2 + 1 / 3, 1 + 1 / 3, 3 + 1 / 3]) / 7
    assert cells.marginal == pytest.approx(marginal)
    men, women = cells.probabilities(rows([0, 0], ["m", "f"]))
    assert men == pytest.approx((np.array([2, 1, 0]) + marginal) / 4)
    assert women == pytest.approx((np.array([0, 0, 3]) + marginal) / 4)
    nll = -np.mean(np.log([men[0], men[0], women[2], women[2]]))
    assert cells.validation_nll == pytest.approx(nll)


def test_the_larger_kappa_the_closer_to_the_population():
    marginal = np.array([0.5, 0.3, 0.2])
    cells = CellMarginals(("sex",), 6.0, marginal, {("m",): np.array([2.0, 0, 0])}, 0.0)
    (men,) = cells.probabilities(rows([0], ["m"]))
    assert men == pytest.approx(np.array([2 + 3, 1.8, 1.2]) / 8)


def test_people_of_a_cell_never_seen_have_the_marginal():
    cells = fit_cells(rows([1, 1, 3, 3], ["m", "m", "f", "f"]), rows([1, 3], ["m", "f"]), ["sex"], THREE)
    (other, unknown) = cells.probabilities(rows([0, 0], ["x", None]))
    assert other == pytest.approx(cells.marginal) and unknown == pytest.approx(cells.marginal)


def test_people_who_did_not_say_are_a_cell_of_their_own():
    train = rows([1] * 5 + [3] * 5, [None] * 5 + ["f"] * 5)
    cells = fit_cells(train, rows([1, 3], [None, "f"]), ["sex"], THREE)
    silent, women = cells.probabilities(rows([0, 0], [None, "f"]))
    assert silent.argmax() == 0 and women.argmax() == 2


def test_answers_count_by_weight_and_those_of_weight_nought_for_nobody():
    train = rows([1, 2, 3], ["m", "m", "m"], [3.0, 1.0, 0.0])
    cells = fit_cells(train, rows([1], ["m"]), [], THREE)
    assert cells.marginal == pytest.approx((np.array([1.5, 0.5, 0]) + 1 / 3) / 3)


def test_a_demographic_that_makes_validation_worse_is_left_out():
    train = rows([1, 1, 1, 3, 3, 3], ["m", "m", "m", "f", "f", "f"])
    cells = fit_cells(train, rows([3, 3, 1, 1], ["m", "m", "f", "f"]), ["sex"], THREE)
    assert cells.demographics == () and "no demographic" in cells.label
    assert cells.probabilities(rows([0, 0], ["m", "f"])) == pytest.approx(np.tile(cells.marginal, (2, 1)))


def test_without_validation_there_is_only_the_marginal_and_without_training_nothing():
    train = rows([1, 1, 3, 3], ["m", "m", "f", "f"])
    cells = fit_cells(train, train.head(0), ["sex"], THREE)
    assert cells.demographics == () and np.isnan(cells.validation_nll)
    with pytest.raises(BadInput, match="no training answer"):
        fit_cells(train.assign(weight=0.0), train, ["sex"], THREE)
