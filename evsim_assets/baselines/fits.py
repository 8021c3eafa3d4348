"""Baselines over their grids: one (KL, RMSE) point a setting, question and split.

Belongs here: targets, from predictions back to answers, the table of fits. Not here: each
algorithm (`svr.py`, `boosting.py`), which setting is best (`curves.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.baselines.boosting import catboost_settings, fit_catboost
from evsim_assets.baselines.features import learn_features
from evsim_assets.baselines.problem import Fitted, Floats, Problem, Setting, setting_text
from evsim_assets.baselines.svr import distinct_models, fit_svr, svr_settings
from evsim_assets.metrics.measures import (
    answer_counts,
    answer_positions,
    balanced,
    population_measures,
    rmse,
)
from evsim_assets.metrics.nulls import distribution_rows
from evsim_assets.specs.seeds import derived_seed
from evsim_assets.specs.study import AnswerScale, CatBoostGrid, SvrGrid
from evsim_assets.specs.survey import DIGITS, Demographic, Scale

Algorithm = Literal["svr", "catboost", "random"]
EVALUATED = ("validation", "test")
FIT_COLUMNS = [
    "algorithm",
    "question",
    "answers",
    "setting",
    "split",
    "kl",
    "rmse",
    "w1",
    "seconds",
    "n",
    "train_rows",
    "clipped",
    "converged",
    "reason",
]


def fit_grid(
    algorithm: Algorithm,
    grid: SvrGrid | CatBoostGrid | None,
    rows: pd.DataFrame,
    *,
    demographics: Sequence[Demographic],
    scales: Mapping[str, Scale],
    seed: int,
    answers: AnswerScale = "native",
    max_train_rows: int | None = None,
    on_progress: Callable[[float, str], None] | None = None,
) -> pd.DataFrame:
    """Fit every setting for every question; FIT_COLUMNS, two rows (validation, test) a setting.

    Args:
        grid: of the algorithm; None for `random`, which is uniform over the answers and measured
            exactly (rmse: root of the expected squared error), so it needs no draws.
        rows: responses with their participant's `split`, without those held out of training.
        scales: each question's scale. answers: `digit` rescales answers to 0–9 and leaves out
            questions with ten answers or fewer.
        seed: the study's. max_train_rows: train on a random part of this many rows (`train_rows`
            says how many it was), the same for every setting; evaluation always uses all rows.
        on_progress: called with (fraction done, message) after each model.

    Targets are scaled to 0–1. A prediction is scaled back and rounded, halves up, to the nearest
    answer. Measures count answers by their survey weight, and `n` those with one above 0; fits are
    unweighted, as adapters are. A regressor may predict beyond the scale, where no answer is nearer
    than the end: those predictions become the end's answer and are counted in `clipped`. `seconds` is
    the time of a model's fit and prediction, repeated for every setting that is the same model;
    `converged` is False where SVR stopped at its limit of iterations. A question without rows in a
    split gets a `reason`.
    """
    problems = list(_questions(rows, scales, answers))
    settings = _settings(algorithm, grid)
    models = _model_count(algorithm, settings) * max(len(problems), 1)
    records: list[dict[str, Any]] = []
    done = 0
    for question, scale, part in problems:
        place = {"algorithm": algorithm, "question": question, "answers": answers}
        counted = part[(part["split"] == "train") | (part["weight"] > 0)]
        splits = {s: counted[counted["split"] == s] for s in ("train", *EVALUATED)}
        if algorithm == "random":
            records += [place | row for row in _random_rows(splits, scale)]
            continue
        splits["train"] = _training_part(splits["train"], max_train_rows, seed, question)
        empty = [split for split, table in splits.items() if not len(table)]
        if empty:
            records += [place | row for row in _unfitted_rows(settings, f"no {empty[0]} answers")]
            continue
        own_seed = derived_seed(seed, algorithm, question)
        for fitted in _fit(algorithm, splits, scale, demographics, own_seed, settings):
            records += [place | row for row in _fitted_rows(fitted, splits, scale)]
            done += 1
            if on_progress is not None:
                on_progress(done / models, f"{question}: {done} of {models} models")
    return pd.DataFrame(records, columns=FIT_COLUMNS)


def digit_answers(answers: npt.NDArray[np.int64], scale: Scale) -> npt.NDArray[np.int64]:
    """Answers rescaled to 0–9, halves up: ⌊9 (a − low)/(high − low) + ½⌋ (B.3)."""
    return np.floor(DIGITS.high * (answers - scale.low) / (scale.high - scale.low) + 0.5).astype(np.int64)


def predicted_answers(predictions: Floats, scale: Scale) -> tuple[npt.NDArray[np.int64], int]:
    """Answers (n,) nearest to predictions in 0–1 (n,), halves up; how many lay beyond the scale."""
    if not np.all(np.isfinite(predictions)):
        raise ArithmeticError("a baseline predicted something that is not a number")
    last = len(scale.answers) - 1
    position = np.floor(predictions * last + 0.5)
    beyond = int(((position < 0) | (position > last)).sum())
    on_scale = np.clip(position, 0, last).astype(np.int64)
    return scale.low + scale.step * on_scale, beyond


def _questions(
    rows: pd.DataFrame, scales: Mapping[str, Scale], answers: AnswerScale
) -> Iterator[tuple[str, Scale, pd.DataFrame]]:
    """Each question's rows with `answer` on the scale asked for."""
    for question, scale in scales.items():
        part = rows[rows["question"] == question]
        if answers == "native":
            yield question, scale, part
        elif len(scale.answers) > len(DIGITS.answers):
            yield question, DIGITS, part.assign(answer=digit_answers(part["answer"].to_numpy(), scale))


def _settings(algorithm: Algorithm, grid: SvrGrid | CatBoostGrid | None) -> list[Setting]:
    if algorithm == "svr" and isinstance(grid, SvrGrid):
        return svr_settings(grid)
    if algorithm == "catboost" and isinstance(grid, CatBoostGrid):
        return catboost_settings(grid)
    if algorithm == "random":
        return [{}]
    raise ValueError(f"{algorithm} does not take a grid of {type(grid).__name__}")


def _model_count(algorithm: Algorithm, settings: list[Setting]) -> int:
    return len(distinct_models(settings)) if algorithm == "svr" else len(settings)


def _training_part(train: pd.DataFrame, most: int | None, seed: int, question: str) -> pd.DataFrame:
    """At most `most` rows, drawn at random from the question's own seed, in their order."""
    if most is None or len(train) <= most:
        return train
    rng = np.random.default_rng(derived_seed(seed, "baseline training rows", question))
    return train.iloc[np.sort(rng.permutation(len(train))[:most])]


def _fit(
    algorithm: Algorithm,
    splits: Mapping[str, pd.DataFrame],
    scale: Scale,
    demographics: Sequence[Demographic],
    seed: int,
    settings: list[Setting],
) -> Iterator[Fitted]:
    train = splits["train"]
    target = answer_positions(train["answer"], scale) / (len(scale.answers) - 1)
    problem = Problem(
        learn_features(train, demographics), train, target, {s: splits[s] for s in EVALUATED}, seed
    )
    return fit_svr(problem, settings) if algorithm == "svr" else fit_catboost(problem, settings)


def _fitted_rows(
    fitted: Fitted, splits: Mapping[str, pd.DataFrame], scale: Scale
) -> Iterator[dict[str, Any]]:
    measured = {}
    for split, predictions in fitted.predictions.items():
        answers, weights = _answers_of(splits[split])
        given, clipped = predicted_answers(predictions, scale)
        human, model = answer_counts(answers, scale, weights), answer_counts(given, scale, weights)
        population = population_measures(scale, human, model)
        measured[split] = {
            "kl": float(population["kl"]),
            "rmse": rmse(answers, given, weights),
            "w1": float(population["w1"]),
            "n": len(answers),
            "clipped": clipped,
        }
    fit = {"seconds": fitted.seconds, "converged": fitted.converged, "train_rows": len(splits["train"])}
    for setting in fitted.settings:
        for split, values in measured.items():
            yield {"setting": setting_text(setting), "split": split, "reason": None} | fit | values


def _answers_of(rows: pd.DataFrame) -> tuple[npt.NDArray[np.int64], Floats]:
    """Answers and survey weights of mean 1, (n,) each, n at least 1."""
    return rows["answer"].to_numpy(dtype=np.int64), balanced(rows["weight"])


def _random_rows(splits: Mapping[str, pd.DataFrame], scale: Scale) -> Iterator[dict[str, Any]]:
    uniform = np.full(len(scale.answers), 1 / len(scale.answers))
    for split in EVALUATED:
        if not len(splits[split]):
            yield from _unfitted_rows([{}], f"no {split} answers", (split,))
            continue
        answers, weights = _answers_of(splits[split])
        measured = distribution_rows(scale, answers, weights, uniform)
        rows = {(r["point_answer"], r["measure"]): r["value"] for r in measured}
        yield {
            "setting": "{}",
            "split": split,
            "kl": rows["none", "kl"],
            "w1": rows["none", "w1"],
            "rmse": rows["sample", "rmse"],
            "seconds": 0.0,
            "n": len(answers),
            "train_rows": 0,
            "clipped": 0,
            "converged": True,
            "reason": None,
        }


def _unfitted_rows(
    settings: list[Setting], reason: str, splits: Sequence[str] = EVALUATED
) -> Iterator[dict[str, Any]]:
    for setting in settings:
        for split in splits:
            yield {
                "setting": setting_text(setting),
                "split": split,
                "kl": np.nan,
                "rmse": np.nan,
                "w1": np.nan,
                "seconds": 0.0,
                "n": 0,
                "train_rows": 0,
                "clipped": 0,
                "converged": False,
                "reason": reason,
            }
