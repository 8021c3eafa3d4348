"""Models that know nothing of the person asked: where the distance to be closed begins.

Belongs here: null models and their measures, exact (no draws). Not here: models with features
(`baselines/`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.human_answers import HumanAnswers, answer_scales, each_answer_once, human_answers
from evsim_assets.metrics.measures import Floats, answer_counts, answer_values, population_measures, rmse
from evsim_assets.specs.survey import Scale

NULL_COLUMNS = ["null", "question", "answers", "point_answer", "measure", "value", "n"]


def score_nulls(prompts: pd.DataFrame) -> pd.DataFrame:
    """Null models against the human test answers: NULL_COLUMNS, per question and answer scale.

    `uniform` gives every answer of the scale the same probability; `population_marginal` gives each
    its share among the training answers to that question. Population measures compare the whole
    distribution. `rmse` is of its mean (point answer `mean`) and of one draw from it (`sample`:
    the expectation over draws under the root, sqrt(mean_x Σ_a p(a)(a − â_x)²)). Answers count by their
    survey weights; each is taken once, and what is held out only where it is a test answer.
    """
    prompts, records = each_answer_once(prompts), []
    for answer_scale in answer_scales(prompts):
        trained = {h.question: h for h in human_answers(prompts, answer_scale, split="train")}
        for human in human_answers(prompts, answer_scale, split="test"):
            place = {"question": human.question, "answers": answer_scale, "n": len(human.answers)}
            for null, probabilities in _null_models(human, trained.get(human.question)):
                rows = distribution_rows(human.scale, human.answers, human.weights, probabilities)
                records += [place | {"null": null} | row for row in rows]
    return pd.DataFrame(records, columns=NULL_COLUMNS)


def distribution_rows(
    scale: Scale, answers: npt.NDArray[np.int64], weights: Floats, probabilities: Floats
) -> Iterator[dict[str, Any]]:
    """Measures of one distribution (K,) given to every person: point_answer, measure, value.

    `answers`, `weights`: (n,), the weights of mean 1.
    """
    values, humans = answer_values(scale), answers.astype(float)
    counts = answer_counts(answers, scale, weights)
    for measure, value in population_measures(scale, counts, probabilities).items():
        if not np.isnan(value):  # sd_ratio, where all humans agree
            yield {"point_answer": "none", "measure": measure, "value": float(value)}
    mean = float(probabilities @ values)
    spread = float(probabilities @ (values - mean) ** 2)
    of_mean = rmse(humans, np.full_like(humans, mean), weights)
    yield {"point_answer": "mean", "measure": "rmse", "value": of_mean}
    yield {"point_answer": "sample", "measure": "rmse", "value": float(np.sqrt(of_mean**2 + spread))}


def _null_models(human: HumanAnswers, train: HumanAnswers | None) -> Iterator[tuple[str, Floats]]:
    answers = len(human.scale.answers)
    yield "uniform", np.full(answers, 1 / answers)
    if train is not None:
        counts = answer_counts(train.answers, train.scale, train.weights)
        yield "population_marginal", counts / counts.sum()
