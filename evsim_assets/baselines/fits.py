"""Baselines over their grids: a (KL, RMSE) point a setting, question, split and reading.

Belongs here: which models there are, each question's rows, the table of fits. Not here: each
algorithm (`svr.py`, `boosting.py`, `distributions.py`), the fitting of many models (`side_by_side.py`),
measures of a prediction (`scoring.py`), which setting is best (`curves.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.baselines.boosting import CatBoostFits, catboost_models
from evsim_assets.baselines.distributions import BoostedFits, CellFits, boosted_models
from evsim_assets.baselines.features import INTERVENTION, learn_features
from evsim_assets.baselines.finished import Finished, follows_from
from evsim_assets.baselines.problem import EVALUATED, Fits, Model, Problem
from evsim_assets.baselines.scoring import Row, scored
from evsim_assets.baselines.side_by_side import MEASURED, fit_all, unfitted
from evsim_assets.baselines.svr import SvrFits, distinct_models, engine, svr_settings
from evsim_assets.metrics.measures import answer_positions
from evsim_assets.specs.seeds import derived_seed
from evsim_assets.specs.study import AnswerScale, BoostedGrid, CatBoostGrid, SvrGrid
from evsim_assets.specs.survey import DIGITS, Demographic, Scale

Algorithm = Literal["svr", "catboost", "boosted", "cells", "random"]
Grid = SvrGrid | CatBoostGrid | BoostedGrid
FIT_COLUMNS = [
    "algorithm",
    "question",
    "answers",
    "setting",
    "split",
    "reading",
    "kl",
    "rmse",
    "w1",
    "mae",
    "crps",
    "nll",
    "seconds",
    "n",
    "train_rows",
    "clipped",
    "converged",
    "reason",
]
TYPES = {
    **dict.fromkeys(("algorithm", "question", "answers", "setting", "split"), "str"),
    **dict.fromkeys((*MEASURED, "seconds"), "float64"),
    **dict.fromkeys(("n", "train_rows", "clipped"), "int64"),
    "converged": "bool",
}
"""Of the columns that always have a value, so that a part without a model is a table of the same columns."""
FITS: dict[str, Callable[[Problem], Fits]] = {
    "svr": SvrFits,
    "catboost": CatBoostFits,
    "boosted": BoostedFits,
    "cells": CellFits,
}


def fit_grid(
    algorithm: Algorithm,
    grid: Grid | None,
    rows: pd.DataFrame,
    *,
    demographics: Sequence[Demographic],
    scales: Mapping[str, Scale],
    seed: int,
    answers: AnswerScale = "native",
    max_train_rows: int | None = None,
    part: tuple[int, int] = (1, 1),
    jobs: int = 1,
    work: Path | None = None,
    on_progress: Callable[[float, str], None] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """Fit every setting for every question; FIT_COLUMNS, a row a split (validation, test) and reading.

    Args:
        grid: of the algorithm; None for `cells`, and for `random`, which is uniform over the answers.
        rows: responses with their participant's `split`, without those held out of training.
        scales: each question's scale. answers: `digit` rescales answers to 0–9 and leaves out
            questions with ten answers or fewer.
        seed: the study's. max_train_rows: train on a random part of this many rows (`train_rows`
            says how many it was), the same for every setting; evaluation always uses all rows.
        part: (k, of): only the k-th of so many parts of the distinct models, k from 1.
        jobs: models fitted at the same time. The table is the same for any number but for `seconds`.
        work: a folder for finished fits, from which a killed run goes on.
        on_progress: called with (fraction done, message) after each model. say: told what was taken.

    Targets are scaled to 0–1. A prediction is scaled back; rmse and mae are of the prediction itself, kl and
    w1 of the nearest answers, halves up. Measures count answers by their survey weight, and `n` those with
    one above 0; fits are unweighted, as adapters without weights are (but `cells`, which counts). A regressor
    may predict beyond the scale, where no answer is nearer than the end: those predictions become the end and
    are counted in `clipped` (where they would round to no answer of the scale).

    `reading`: `point` for a regressor. What gives distributions has three rows, alike but for rmse and mae,
    which are of each person's `mean`, of the `median`, and of one draw (`sample`: the root of the
    expected squared error). Its kl and w1 are those of all people's distributions together, crps and nll
    those of each person's answer. `seconds` is the time of a model's fit and prediction, repeated for every
    setting that is the same model; `converged` is False where SVR stopped at its limit of iterations. A
    question without rows in a split, and a fit that failed, get a `reason`.
    """
    models = part_of_models(models_of(algorithm, grid), part)
    problems = list(questions_on(rows, scales, answers))
    records: list[Row] = []
    for at, (question, scale, given) in enumerate(problems):

        def progress(done: int, at: int = at, question: str = question) -> None:
            if on_progress is not None:
                words = f"{question}: {done} of {len(models)} models"
                on_progress((at + done / len(models)) / len(problems), words)

        place = {"algorithm": algorithm, "question": question, "answers": answers}
        splits = in_splits(given, max_train_rows, seed, question)
        if algorithm == "random":
            records += [place | row for row in _random_rows(splits, scale)]
        elif empty := [split for split, table in splits.items() if not len(table)]:
            settings = [setting for model in models for setting in model.settings]
            records += [place | row for row in unfitted(settings, f"no {empty[0]} answers")]
        else:
            own_seed = derived_seed(seed, algorithm, question)
            problem = problem_of(splits, scale, demographics, own_seed)
            finished = finished_fits(work, place, problem, demographics)
            table = fit_all(FITS[algorithm](problem), problem, models, jobs, finished, progress)
            records += [place | row for row in table]
            if finished is not None and finished.taken:
                say(f"{question}: {finished.taken} of {len(models)} fits are there from an earlier run")
    return pd.DataFrame(records, columns=FIT_COLUMNS).astype(TYPES)


def part_of(partition: str) -> tuple[Algorithm, tuple[int, int]]:
    """The algorithm of a partition key of `Baselines.parts`, and which part of its models (k, of)."""
    algorithm, *numbers = partition.split("-")
    k, of = (int(numbers[0]), int(numbers[2])) if numbers else (1, 1)
    return cast(Algorithm, algorithm), (k, of)


def part_of_models(models: list[Model], part: tuple[int, int]) -> list[Model]:
    """The k-th of so many parts of nearly the same size, k from 1, each model in one of them.

    A part is empty where there are fewer models than parts, for parts are counted by settings and several
    settings may be one model.
    """
    k, of = part
    return models[len(models) * (k - 1) // of : len(models) * k // of]


def digit_answers(answers: npt.NDArray[np.int64], scale: Scale) -> npt.NDArray[np.int64]:
    """Answers rescaled to 0–9, halves up: ⌊9 (a − low)/(high − low) + ½⌋ (B.3)."""
    return np.floor(DIGITS.high * (answers - scale.low) / (scale.high - scale.low) + 0.5).astype(np.int64)


def models_of(algorithm: Algorithm, grid: Grid | None) -> list[Model]:
    """The distinct models of an algorithm's grid, in its order; `cells` and `random` have one each."""
    if isinstance(grid, SvrGrid) and algorithm == "svr":
        return distinct_models(svr_settings(grid))
    if isinstance(grid, CatBoostGrid) and algorithm == "catboost":
        return catboost_models(grid)
    if isinstance(grid, BoostedGrid) and algorithm == "boosted":
        return boosted_models(grid)
    if grid is None and algorithm in ("cells", "random"):
        return [Model({}, [{}])]
    raise ValueError(f"{algorithm} does not take a grid of {type(grid).__name__}")


def questions_on(
    rows: pd.DataFrame, scales: Mapping[str, Scale], answers: AnswerScale
) -> Iterator[tuple[str, Scale, pd.DataFrame]]:
    """Each question's rows with `answer` on the scale asked for."""
    for question, scale in scales.items():
        part = rows[rows["question"] == question]
        if answers == "native":
            yield question, scale, part
        elif len(scale.answers) > len(DIGITS.answers):
            yield question, DIGITS, part.assign(answer=digit_answers(part["answer"].to_numpy(), scale))


def in_splits(given: pd.DataFrame, most: int | None, seed: int, question: str) -> dict[str, pd.DataFrame]:
    """The rows of each split; of train at most `most`, drawn from the question's own seed, in their order."""
    counted = given[(given["split"] == "train") | (given["weight"] > 0)]
    splits = {s: counted[counted["split"] == s] for s in ("train", *EVALUATED)}
    train = splits["train"]
    if most is not None and len(train) > most:
        rng = np.random.default_rng(derived_seed(seed, "baseline training rows", question))
        splits["train"] = train.iloc[np.sort(rng.permutation(len(train))[:most])]
    return splits


def problem_of(
    splits: Mapping[str, pd.DataFrame], scale: Scale, demographics: Sequence[Demographic], seed: int
) -> Problem:
    """What a question's models are fitted to and asked: the rows of its splits, and the problem's seed."""
    train = splits["train"]
    return Problem(
        features=learn_features(train, demographics),
        demographics=tuple(d.slug for d in demographics),
        scale=scale,
        train=train,
        target=answer_positions(train["answer"], scale) / (len(scale.answers) - 1),
        predict={s: splits[s] for s in EVALUATED},
        seed=seed,
    )


def finished_fits(
    work: Path | None, place: Row, problem: Problem, demographics: Sequence[Demographic], **known: Any
) -> Finished | None:
    """The problem's finished fits in `work`, which follow from its rows, and from what is `known` besides."""
    if work is None:
        return None
    looked_at = ["answer", "weight", INTERVENTION, *problem.demographics]
    rows = {s: t[looked_at] for s, t in ({"train": problem.train} | dict(problem.predict)).items()}
    return Finished(
        work / f"{place['question']}-{place['answers']}",
        follows_from(
            rows,
            **place,
            seed=problem.seed,
            scale=[problem.scale.low, problem.scale.high, problem.scale.step],
            several=[d.slug for d in demographics if d.has_several],
            solver=engine() if place["algorithm"] == "svr" else None,
            **known,
        ),
    )


def _random_rows(splits: Mapping[str, pd.DataFrame], scale: Scale) -> Iterator[Row]:
    """One draw, uniform over the scale, for everyone; exact, so it needs no draws."""
    for split in EVALUATED:
        people = len(splits[split])
        if not people:
            yield from unfitted([{}], f"no {split} answers", (split,))
            continue
        uniform = np.full((people, len(scale.answers)), 1 / len(scale.answers))
        [row] = [r for r in scored(uniform, splits[split], scale) if r["reading"] == "sample"]
        fit = {"seconds": 0.0, "train_rows": 0, "converged": True, "reason": None}
        yield {"setting": "{}", "split": split, **row, **fit}
