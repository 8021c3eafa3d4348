"""What the chosen baselines say to each test person, kept so that adapters can be compared with them.

A grid keeps figures, not predictions: of thousands of settings few are ever looked at again. Those that
validation chose are fitted once more, on the same rows from the same seed, and what they say is kept.

Belongs here: which settings those are, their answers, and whether they are the ones that were chosen. Not
here: fitting (`fits.py`), choosing (`curves.py`), comparing (`metrics/contest.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evsim_assets.baselines.fits import (
    FITS,
    Algorithm,
    Grid,
    finished_fits,
    in_splits,
    models_of,
    problem_of,
    questions_on,
)
from evsim_assets.baselines.problem import Fits, Floats, Model, setting_text
from evsim_assets.baselines.scoring import answers_on_scale, predicted_answers
from evsim_assets.metrics.measures import (
    answer_counts,
    answer_positions,
    answer_values,
    balanced,
    population_measures,
)
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.seeds import derived_seed
from evsim_assets.specs.study import AnswerScale
from evsim_assets.specs.survey import Demographic, Scale

SETTING = ["algorithm", "question", "answers", "setting"]
ANSWER_COLUMNS = [
    "algorithm",
    "reading",
    "question",
    "answers",
    "setting",
    "participant",
    "order",
    "answer",
    "weight",
    "prediction",
    "probabilities",
]
TOLERANCE = 1e-5
"""What is kept must have the figures that were chosen by, to this share (or difference, below 1): more than
storing probabilities in four bytes can change, less than any other setting would."""


def chosen_answers(
    algorithm: Algorithm,
    grid: Grid | None,
    chosen: pd.DataFrame,
    rows: pd.DataFrame,
    *,
    demographics: Sequence[Demographic],
    scales: Mapping[str, Scale],
    seed: int,
    answers: AnswerScale = "native",
    max_train_rows: int | None = None,
    work: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """Fit the chosen settings again and keep their test answers: ANSWER_COLUMNS, a row a setting and person.

    Args:
        chosen: of `one_reading`, this algorithm's rows on this answer scale; a setting chosen by several
            measures is fitted once.
        rows: as `fit_grid`'s, with `participant` and `order`, which together name a prompt of the study.
            The other arguments are those that the grid was fitted with.

    `reading`: `point` or `distribution`. `answer`, `weight`: the person's. `prediction`: a regressor's, in
    units of the scale, not rounded, at the scale's end where it lay beyond; null for distributions.
    `probabilities` (float32): over the scale's answers; a regressor's are one at the nearest answer.

    Raises:
        BadInput: a chosen setting is not in the grid.
        FitFailed: a setting that could be fitted before cannot now.
    """
    parts = [pd.DataFrame(columns=ANSWER_COLUMNS)]
    for question, scale, given in questions_on(rows, scales, answers):
        wanted = list(dict.fromkeys(chosen.loc[chosen["question"] == question, "setting"]))
        if not wanted:
            continue
        place = {"algorithm": algorithm, "question": question, "answers": answers}
        splits = in_splits(given, max_train_rows, seed, question)
        if algorithm == "random":
            uniform = np.full((len(splits["test"]), len(scale.answers)), 1 / len(scale.answers))
            made = [_answers(uniform, "{}", scale)]
        else:
            problem = problem_of(splits, scale, demographics, derived_seed(seed, algorithm, question))
            finished = finished_fits(work, place, problem, demographics, kept="answers")
            fits, made = FITS[algorithm](problem), []
            for model in _models_with(wanted, algorithm, grid):

                def fit(fits: Fits = fits, model: Model = model, scale: Scale = scale) -> pd.DataFrame:
                    return _fitted(fits, model, scale)

                key = setting_text({"fitted": model.fitted, "settings": model.settings})
                made.append(fit() if finished is None else finished.rows(key, fit))
            if finished is not None and finished.taken:
                say(f"{question}: {finished.taken} of {len(made)} fits are there from an earlier run")
        _check_settings(wanted, made, place)
        people = splits["test"][["participant", "order", "answer", "weight"]].reset_index(drop=True)
        parts += [pd.concat([people, table], axis=1).assign(**place) for table in made]
    kept = pd.concat(parts[1:] or parts, ignore_index=True)[ANSWER_COLUMNS]
    return kept.astype({"prediction": float})


def recomputed(
    kept: pd.DataFrame, chosen: pd.DataFrame, scales: Mapping[tuple[str, str], Scale]
) -> pd.DataFrame:
    """The test figures of what is kept beside those of the choice: a row a row of `chosen` and measure.

    `algorithm`, `question`, `answers`, `setting`, `reading`, `chosen_by`, `measure` (kl, rmse), `chosen`,
    `kept`, and `equal`: whether they are, within TOLERANCE. `scales`: by question and answer scale.
    """
    by_setting = dict(iter(kept.groupby(SETTING, sort=False)))
    records = []
    for choice in chosen.to_dict("records"):
        place = tuple(choice[column] for column in SETTING)
        found = dict.fromkeys(("kl", "rmse"), float("nan"))
        if place in by_setting:
            found = _figures(by_setting[place], choice["reading"], scales[place[1], place[2]])
        named = {column: choice[column] for column in (*SETTING, "reading", "chosen_by")}
        for measure, value in found.items():
            before = float(choice[measure])
            equal = abs(value - before) <= TOLERANCE * max(1.0, abs(before))
            records.append(named | {"measure": measure, "chosen": before, "kept": value, "equal": equal})
    columns = [*SETTING, "reading", "chosen_by", "measure", "chosen", "kept", "equal"]
    return pd.DataFrame(records, columns=columns).astype({"equal": bool})


def _figures(rows: pd.DataFrame, reading: str, scale: Scale) -> dict[str, float]:
    """Test KL and RMSE of one setting, from its stored answers alone."""
    answers, weights = rows["answer"].to_numpy(dtype=float), balanced(rows["weight"])
    given, values = np.stack(rows["probabilities"].to_list()).astype(float), answer_values(scale)
    square = {
        "point": lambda: (rows["prediction"].to_numpy(dtype=float) - answers) ** 2,
        "mean": lambda: (given @ values / given.sum(axis=1) - answers) ** 2,
        "sample": lambda: (given * (values - answers[:, None]) ** 2).sum(axis=1) / given.sum(axis=1),
    }[reading]()
    humans = answer_counts(answers, scale, weights)
    return {
        "kl": float(population_measures(scale, humans, weights @ given, ["kl"])["kl"]),
        "rmse": float(np.sqrt(np.average(square, weights=weights))),
    }


def _models_with(wanted: list[str], algorithm: Algorithm, grid: Grid | None) -> Iterator[Model]:
    """The models that stand for the settings, each with those alone; of `cells` the one there is, for its
    setting is what it chooses when fitted."""
    for model in models_of(algorithm, grid):
        settings = [s for s in model.settings if algorithm == "cells" or setting_text(s) in wanted]
        if settings:
            yield Model(model.fitted, settings)


def _fitted(fits: Fits, model: Model, scale: Scale) -> pd.DataFrame:
    """The model's test answers, once a setting that it stands for."""
    fits.share(model)
    predicted = fits.fit(model)
    texts = [setting_text(setting | predicted.chosen) for setting in model.settings]
    given = predicted.by_split["test"]
    return pd.concat([_answers(given, text, scale) for text in texts], ignore_index=True)


def _answers(given: Floats, setting: str, scale: Scale) -> pd.DataFrame:
    """Answers in 0–1 (n,), or distributions (n, K), as the table keeps them."""
    prediction = np.full(len(given), np.nan)
    reading = "point" if given.ndim == 1 else "distribution"
    if given.ndim == 1:
        prediction = answers_on_scale(given, scale)
        nearest, _ = predicted_answers(given, scale)
        given = np.eye(len(scale.answers))[answer_positions(nearest, scale)]
    return pd.DataFrame(
        {
            "setting": setting,
            "reading": reading,
            "prediction": prediction,
            "probabilities": list(given.astype(np.float32)),
        }
    )


def _check_settings(wanted: list[str], made: list[pd.DataFrame], place: Mapping[str, str]) -> None:
    """Raise BadInput for a chosen setting that no model of the grid stands for."""
    there = {text for table in made for text in table["setting"].unique()}
    lost = [text for text in wanted if text not in there]
    if lost:
        raise BadInput(
            f"a chosen setting of {place['algorithm']} for question {place['question']!r} is not in the grid",
            field="setting",
            value=lost[0],
            remedy="run baseline_fits and chosen_baselines again: the grid has changed since",
        )
