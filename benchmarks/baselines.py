"""The SVR grid of Table 9 on EV-shift's post question, against a plain loop of sklearn fits.

    python benchmarks/baselines.py [--quick] [--settings N] [--rows N] [--jobs N] [--whole]

The plain loop is what one would write: `SVR(kernel=…, C=…, epsilon=…, gamma=…)` on the dummies, one setting
after the other, fitted and asked for validation and test people, in one process. Both sides get the same rows
(SIMULATED people of the bundled survey, all training answers unless --rows), the same dummies, tolerance
(1e-3) and limit of iterations, and run one after the other in this process.

The grid is 384 settings, of which the plain loop would need many hours, so both fit the same settings,
drawn at random (seed 0) from all 384. `ratio` is plain seconds over evsim's with --jobs fits at a time, dot
products and kernel matrices included; `ratio_one_job` with one at a time, and `ratio_without_numba` is of
libsvm on evsim's shared kernels, one at a time, as where numba is not installed. `cpu_ratio` is of processor
seconds, one job on either side: what the ratio is on a machine that does nothing else.

The few settings drawn share the dot products, and hardly two of them are the same model; of the 384 all do,
and 105 are. `grid` is the estimate for the whole: the plain mean times 384 against the dot products for each
of the grid's 8 parts and, for 279 distinct models, evsim's mean of the rest; in processor seconds too, one
job each. --whole has evsim fit all 279 really.

`largest_difference` is the largest of a prediction, on targets scaled to 0–1, over linear, polynomial and rbf
settings where both converged; `unconverged_difference` over those where the limit of iterations stopped one.
The sigmoid's kernel is not positive: its dual has many solutions, and which one is found depends on the order
of the rows. So `sigmoid_difference` is to be held against `sigmoid_rows_reversed`, that of sklearn from
sklearn given the same rows in reverse (not timed).
Compiling numba's loops is timed apart; it is done once a machine.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core a fit on either side

import numpy as np
import pandas as pd
from sklearn.svm import SVR

from evsim_assets.baselines.features import learn_features
from evsim_assets.baselines.problem import Model, Predicted, Problem, Setting
from evsim_assets.baselines.rows import answers_in_splits, read_answers
from evsim_assets.baselines.svr import (
    TOLERANCE,
    Engine,
    SvrFits,
    distinct_models,
    engine,
    most_iterations,
    svr_settings,
)
from evsim_assets.specs.project import Project
from evsim_assets.specs.study import Baselines, SvrGrid

ROOT = Path(__file__).resolve().parents[1]
STUDY = """\
survey: ev_shift
title: Everybody
models: {s: {path: data/models/s}}
adapters:
  - {models: [s], method: pretrained}
temperatures: [0]
"""
Key = str


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and of processors (all threads together)."""

    seconds: float
    cpu: float

    @classmethod
    def now(cls) -> Took:
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Took) -> Took:
        return Took(self.seconds - other.seconds, self.cpu - other.cpu)


def responses(folder: Path) -> pd.DataFrame:
    """The post answers of every participant with their split, as the survey's stages make them."""
    (folder / "data" / "studies").mkdir(parents=True)
    for part in ("surveys", "models"):
        (folder / "data" / part).symlink_to(ROOT / "data" / part)
    (folder / "data" / "studies" / "everybody.yaml").write_text(STUDY)
    stages = "raw_wave,clean_wave,responses,splits"
    environment = {key: value for key, value in os.environ.items() if key != "EVSIM_LAKE"}
    subprocess.run(
        ["evsim", "run", "everybody", "--only", stages],
        cwd=folder,
        env=environment | {"EVSIM_PROJECT": str(folder)},
        check=True,
        capture_output=True,
    )
    survey = Project(folder).survey("ev_shift")
    lake = folder / ".evsim" / "lake" / "ev_shift"
    people = pd.read_parquet(lake / "splits" / "data.parquet")
    rows = answers_in_splits(
        read_answers([lake / "responses" / "data.parquet"], survey), people, survey.held_out
    )
    return rows[rows["question"] == "post"]


def problem(rows: pd.DataFrame, most: int | None) -> Problem:
    survey = Project(ROOT).survey("ev_shift")
    [scale] = [question.answer_scale for question in survey.questions if question.id == "post"]
    train = rows[rows["split"] == "train"]
    if most is not None and most < len(train):
        train = train.iloc[np.sort(np.random.default_rng(0).permutation(len(train))[:most])]
    return Problem(
        learn_features(train, survey.demographics),
        tuple(d.slug for d in survey.demographics),
        scale,
        train,
        (train["answer"].to_numpy() - scale.low) / (scale.high - scale.low),
        {split: rows[rows["split"] == split] for split in ("validation", "test")},
        seed=0,
    )


def key(setting: Setting) -> Key:
    return json.dumps(setting, sort_keys=True)


def plain(
    given: Problem, settings: list[Setting], limit: int, *, backwards: bool = False
) -> tuple[Took, dict[Key, Predicted]]:
    """What the loop one would write takes and predicts."""
    made, started = {}, Took.now()
    turn = slice(None, None, -1 if backwards else 1)
    x = given.features.dummies(given.train)
    asked = {split: given.features.dummies(part) for split, part in given.predict.items()}
    for setting in settings:
        begun = time.perf_counter()
        model = SVR(**setting, tol=TOLERANCE, max_iter=limit).fit(x[turn], given.target[turn])
        made[key(setting)] = Predicted(
            {split: model.predict(new) for split, new in asked.items()}, model.fit_status_ == 0
        )
        took = time.perf_counter() - begun
        print(f"  sklearn {key(setting)}: {took:.1f} s, {model.n_iter_} iterations", flush=True)
    return Took.now() - started, made


def ours(
    given: Problem, models: list[Model], jobs: int, solver: Engine, limit: int
) -> tuple[Took, dict[Key, Predicted]]:
    """What evsim's fits take and predict."""
    made, started = {}, Took.now()
    fits = SvrFits(given, solver, limit)
    with ThreadPoolExecutor(jobs) as pool:
        for _, group in groupby(sorted(models, key=lambda m: repr(fits.sharing(m))), key=fits.sharing):
            alike = list(group)
            fits.share(alike[0])
            for model, predicted in zip(alike, pool.map(fits.fit, alike), strict=True):
                made |= {key(setting): predicted for setting in model.settings}
    return Took.now() - started, made


def differences(one: dict[Key, Predicted], other: dict[Key, Predicted]) -> dict[str, Any]:
    """The largest difference of any prediction by kind of setting, and how many settings are of the kind."""
    found: dict[str, list[float]] = {"largest": [], "unconverged": [], "sigmoid": []}
    for name, first in one.items():
        second = other[name]
        kind = "largest" if first.converged and second.converged else "unconverged"
        kind = "sigmoid" if '"sigmoid"' in name else kind
        apart = (np.abs(first.by_split[s] - second.by_split[s]).max() for s in first.by_split)
        found[kind].append(float(max(apart)))
    said = {f"{kind}_difference": float(f"{max(v):.3g}") for kind, v in found.items() if v}
    return said | {f"{kind}_settings": len(v) for kind, v in found.items() if kind != "largest"}


def multiplying(given: Problem) -> Took:
    """What the dot products take, which all fits of a part share."""
    started = Took.now()
    SvrFits(given).multiply()
    return Took.now() - started


def whole_grid(
    loop: Took, together: Took, alone: Took, dots: Took, settings: int, models: int
) -> dict[str, float]:
    """The estimate of the module's docstring."""
    grid = SvrGrid.model_validate("full")
    parts = len(Baselines(svr=grid).parts) - 2  # without cells and random
    distinct = len(distinct_models(svr_settings(grid)))
    plain_seconds = loop.seconds / settings * grid.size
    evsim_seconds = dots.seconds * parts + (together.seconds - dots.seconds) / models * distinct
    plain_cpu = loop.cpu / settings * grid.size
    evsim_cpu = dots.cpu * parts + (alone.cpu - dots.cpu) / models * distinct
    return {
        "plain_hours": round(plain_seconds / 3600, 2),
        "evsim_hours": round(evsim_seconds / 3600, 2),
        "ratio": round(plain_seconds / evsim_seconds, 1),
        "cpu_ratio": round(plain_cpu / evsim_cpu, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="6 settings on 3000 rows")
    parser.add_argument("--settings", type=int, default=None, help="how many of the 384 are drawn (12)")
    parser.add_argument("--rows", type=int, default=None, help="training rows (all)")
    parser.add_argument("--jobs", type=int, default=2, help="evsim's fits at the same time")
    parser.add_argument("--limit", type=int, default=None, help="iterations a fit (evsim's own limit)")
    parser.add_argument("--whole", action="store_true", help="evsim fits the whole grid as well")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    drawn = given.settings or (6 if given.quick else 12)
    with tempfile.TemporaryDirectory() as folder:
        rows = responses(Path(folder))
    asked = problem(rows, given.rows or (3000 if given.quick else None))
    grid = svr_settings(SvrGrid.model_validate("full"))
    some = [grid[at] for at in sorted(np.random.default_rng(0).permutation(len(grid))[:drawn])]
    models = distinct_models(some)
    limit = given.limit or most_iterations(len(asked.train))
    begun = time.perf_counter()
    ours(problem(rows, 100), models[:1], 1, engine(), 1000)
    compiling = time.perf_counter() - begun
    figures: dict[str, Any] = {
        "train_rows": len(asked.train),
        "settings": len(some),
        "limit": limit,
        "distinct_models": len(models),
        "solver": engine(),
        "jobs": given.jobs,
        "cores": os.cpu_count(),
        "first_call_seconds": round(compiling, 1),
    }
    together, predicted = ours(asked, models, given.jobs, engine(), limit)
    alone, _ = ours(asked, models, 1, engine(), limit)
    dots = multiplying(asked)
    loop, reference = plain(asked, some, limit)
    figures |= {
        "plain_seconds": round(loop.seconds, 1),
        "evsim_seconds": round(together.seconds, 1),
        "ratio": round(loop.seconds / together.seconds, 1),
        "ratio_one_job": round(loop.seconds / alone.seconds, 1),
        "cpu_ratio": round(loop.cpu / alone.cpu, 1),
        **differences(reference, predicted),
        "dot_products_seconds": round(dots.seconds, 1),
        "grid": whole_grid(loop, together, alone, dots, len(some), len(models)),
    }
    sigmoid = [setting for setting in some if setting["kernel"] == "sigmoid"]
    if sigmoid:
        _, turned = plain(asked, sigmoid, limit, backwards=True)
        own = differences(turned, reference)["sigmoid_difference"]
        figures["sigmoid_rows_reversed"] = own
    if engine() == "numba":
        shared, by_libsvm = ours(asked, models, 1, "libsvm", limit)
        figures["ratio_without_numba"] = round(loop.seconds / shared.seconds, 1)
        figures["cpu_ratio_without_numba"] = round(loop.cpu / shared.cpu, 1)
        apart = differences(reference, by_libsvm).get("largest_difference")
        figures["largest_difference_without_numba"] = apart
    if given.whole:
        whole, made = ours(asked, distinct_models(grid), given.jobs, engine(), limit)
        figures["whole_grid_seconds"] = round(whole.seconds, 1)
        figures["whole_grid_unconverged_settings"] = sum(not p.converged for p in made.values())
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
