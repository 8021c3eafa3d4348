"""Grids by name, their partitions, fits side by side, and going on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evsim_assets.baselines.assets import baseline_assets
from evsim_assets.baselines.boosting import catboost_models
from evsim_assets.baselines.fits import fit_grid, part_of, part_of_models
from evsim_assets.baselines.svr import distinct_models, svr_settings
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project
from evsim_assets.specs.study import Baselines, BoostedGrid, CatBoostGrid, SvrGrid, read_study
from evsim_assets.specs.survey import Demographic, Scale

RATING = Scale(low=0, high=100)
AREA = Demographic(name="area", column="area", options=("Rural", "Urban"))
SMALL = SvrGrid(kernel=("linear", "rbf"), C=(0.5, 8), epsilon=(0.02, 0.2), gamma=(0.1, 1.0))
STUDY = """\
survey: people
title: A study
models: {s: {path: s}}
adapters:
  - {models: [s], method: lora}
temperatures: [0]
baselines:
"""


def rows(n=200, seed=0):
    rng = np.random.default_rng(seed)
    area, told = rng.choice(["Rural", "Urban"], n), rng.choice(["1", "2"], n)
    answer = 20 + 40 * (area == "Urban") + 20 * (told == "2") + rng.integers(-5, 6, n)
    split = rng.choice(["train", "validation", "test"], n, p=[0.6, 0.2, 0.2])
    return pd.DataFrame(
        {"question": "q", "intervention": told, "answer": answer, "weight": 1.0, "area": area, "split": split}
    )


def fit(grid=SMALL, table=None, algorithm="svr", **options):
    table = rows() if table is None else table
    return fit_grid(algorithm, grid, table, demographics=[AREA], scales={"q": RATING}, seed=0, **options)


def study(folder: Path, baselines: str):
    path = folder / "study.yaml"
    path.write_text(STUDY + baselines)
    return read_study(path)


def test_the_whole_grids_are_written_as_full(tmp_path):
    given = study(
        tmp_path, "  svr: full\n  catboost: full\n  boosted: full\n  max_train_rows: 500\n"
    ).baselines
    assert (given.svr.size, given.catboost.size, given.boosted.size) == (384, 4 * 2 * 2 * 6 * 5, 24)
    assert len(svr_settings(given.svr)) == 384 and len(catboost_models(given.catboost)) == 480
    assert given.max_train_rows == 500 and given.catboost.iterations == 200


def test_table_9_and_10_as_printed():
    svr, catboost = SvrGrid.model_validate("full"), CatBoostGrid.model_validate("full")
    assert svr.C == (0.03125, 0.5, 8, 128) and svr.epsilon == (0.0009765625, 0.015625, 0.25)
    assert svr.gamma[0] == 9.5367431640625e-07 and svr.gamma[-1] == 256 and len(svr.gamma) == 8
    assert catboost.learning_rate == (0.001, 0.01, 0.1, 1) and catboost.one_hot_max_size == (0, 25)
    assert catboost.l2_leaf_reg == (0.03, 0.1, 1, 3, 5, 10)


def test_any_study_can_be_made_full():
    small = Baselines(svr=SMALL, max_train_rows=100)
    assert small.full() == Baselines(svr="full", catboost="full", boosted="full")


def test_a_small_grid_is_one_part_named_as_its_algorithm():
    assert Baselines(svr=SMALL).parts == ("cells", "random", "svr")
    assert part_of("svr") == ("svr", (1, 1))


def test_a_whole_grid_has_parts_with_names_that_sort():
    parts = Baselines().full().parts
    assert [p for p in parts if p.startswith("svr")] == [f"svr-{k}-of-8" for k in range(1, 9)]
    assert sum(p.startswith("catboost") for p in parts) == 10
    assert part_of("catboost-10-of-10") == ("catboost", (10, 10))


def test_each_part_is_a_partition_of_the_asset(project_folder: Path):
    project = Project(project_folder)
    full = project.study("small").model_copy(update={"baselines": Baselines().full()})
    asset = baseline_assets(project.survey("ev_shift"), full)[0]
    assert asset.partitions_def.get_partition_keys() == list(full.baselines.parts)


@pytest.mark.parametrize("of", [1, 3, 8, 500])
def test_every_distinct_model_is_in_one_part(of):
    models = distinct_models(svr_settings(SvrGrid.model_validate("full")))
    parts = [part_of_models(models, (k, of)) for k in range(1, of + 1)]
    assert [m.fitted for part in parts for m in part] == [m.fitted for m in models]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_parts_together_are_the_whole():
    whole = fit().drop(columns="seconds")
    parts = pd.concat([fit(part=(k, 4)) for k in (1, 2, 3, 4)], ignore_index=True).drop(columns="seconds")
    order = ["setting", "split"]
    pd.testing.assert_frame_equal(
        whole.sort_values(order, ignore_index=True), parts.sort_values(order, ignore_index=True)
    )


def test_rows_are_in_the_grid_s_order_whatever_is_fitted_together():
    grid = SvrGrid(kernel=("rbf",), C=(8, 0.5), epsilon=(0.2,), gamma=(1.0, 0.1))
    settings = [json.loads(s) for s in fit(grid)["setting"].drop_duplicates()]
    assert [(s["C"], s["gamma"]) for s in settings] == [(8, 1.0), (8, 0.1), (0.5, 1.0), (0.5, 0.1)]


@pytest.mark.parametrize(
    ("algorithm", "grid"),
    [
        ("svr", SMALL),
        (
            "catboost",
            CatBoostGrid(
                learning_rate=(0.1, 0.3),
                random_strength=(1,),
                one_hot_max_size=(0, 25),
                l2_leaf_reg=(3,),
                bagging_temperature=(0, 1),
                iterations=20,
            ),
        ),
        ("boosted", BoostedGrid(learning_rate=(0.1, 0.3), iterations=(5, 10))),
    ],
)
def test_the_table_is_the_same_for_one_and_for_three_jobs(algorithm, grid):
    one, three = (fit(grid, algorithm=algorithm, jobs=jobs).drop(columns="seconds") for jobs in (1, 3))
    pd.testing.assert_frame_equal(one, three)


@pytest.mark.parametrize(
    ("written", "line", "field", "said"),
    [
        ("  svr: whole\n", 8, "baselines.svr", "write full, or lists for kernel, C, epsilon, gamma"),
        ("  catboost: half\n", 8, "baselines.catboost", "write full"),
        (
            "  svr: {kernel: [rbf], C: [0], epsilon: [0], gamma: [1]}\n",
            8,
            "baselines.svr.C.0",
            "greater than 0",
        ),
        ("  svr: {kernel: [rbf], C: [1], epsilon: [0], gamma: [-1]}\n", 8, "baselines.svr.gamma.0", "than 0"),
        ("  boosted: {learning_rate: [2]}\n", 8, "baselines.boosted.learning_rate.0", "less than or equal"),
        ("  boosted: {learning_rate: [0.1], depth: [17]}\n", 8, "baselines.boosted.depth.0", "16"),
        ("  svr: full\n  max_train_rows: 99\n", 9, "baselines.max_train_rows", "100"),
    ],
)
def test_a_bad_grid_is_refused_with_its_line_and_field(tmp_path, written, line, field, said):
    with pytest.raises(BadInput) as caught:
        study(tmp_path, written)
    assert (caught.value.line, caught.value.field) == (line, field)
    assert said in str(caught.value)


def files(work: Path):
    return {path: path.stat().st_ino for path in work.rglob("*.parquet")}


def test_finished_fits_are_taken_and_give_the_same_table(tmp_path):
    said, again = [], []
    first = fit(work=tmp_path, say=said.append)
    before = files(tmp_path)
    assert len(before) == 4 + 8 and said == []  # linear without gamma, and rbf
    second = fit(work=tmp_path, say=again.append)
    pd.testing.assert_frame_equal(first, second)  # the seconds too: nothing was fitted again
    assert files(tmp_path) == before
    assert again == ["q: 12 of 12 fits are there from an earlier run"]
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), fit().drop(columns="seconds"))


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.assign(weight=table["weight"].where(table["split"] != "test", 2.0)),
        lambda table: table.assign(answer=table["answer"].where(table["split"] != "train", 50)),
        lambda table: table.assign(area=table["area"].where(table.index != 3, None)),
    ],
)
def test_fits_of_other_data_are_not_mistaken(tmp_path, change):
    fit(work=tmp_path)
    said = []
    changed = change(rows())
    there = fit(table=changed, work=tmp_path, say=said.append)
    assert said == []
    pd.testing.assert_frame_equal(there.drop(columns="seconds"), fit(table=changed).drop(columns="seconds"))
    assert len(files(tmp_path)) == 12  # those of the other data are gone


def test_a_torn_file_is_fitted_again(tmp_path):
    first = fit(work=tmp_path)
    torn = sorted(files(tmp_path))[0]
    torn.write_bytes(torn.read_bytes()[:100])
    said = []
    second = fit(work=tmp_path, say=said.append)
    assert said == ["q: 11 of 12 fits are there from an earlier run"]
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))


SLOW_GRID = CatBoostGrid(
    learning_rate=(0.1, 0.2, 0.3, 0.4),
    random_strength=(1, 2),
    one_hot_max_size=(2,),
    l2_leaf_reg=(1, 2),
    bagging_temperature=(0,),
    iterations=400,
)
KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_parts import SLOW_GRID, fit
fit(SLOW_GRID, algorithm="catboost", work=Path(sys.argv[1]), jobs=2)
"""


def test_a_killed_run_goes_on_with_the_settings_that_are_left(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while len(files(tmp_path)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = files(tmp_path)
    assert 3 <= len(before) < SLOW_GRID.size
    said = []
    table = fit(SLOW_GRID, algorithm="catboost", work=tmp_path, say=said.append)
    assert said == [f"q: {len(before)} of {SLOW_GRID.size} fits are there from an earlier run"]
    after = files(tmp_path)
    assert len(after) == SLOW_GRID.size
    assert {path: after[path] for path in before} == before  # finished settings were not fitted again
    whole = fit(SLOW_GRID, algorithm="catboost")
    pd.testing.assert_frame_equal(table.drop(columns="seconds"), whole.drop(columns="seconds"))


def test_a_fit_that_fails_keeps_its_setting_and_the_others_go_on(tmp_path):
    """CatBoost codes at most 65,535 levels as one-hot."""
    grid = CatBoostGrid(
        learning_rate=(0.1,),
        random_strength=(1,),
        one_hot_max_size=(25, 70000),
        l2_leaf_reg=(3,),
        bagging_temperature=(1,),
        iterations=5,
    )
    table = fit(grid, algorithm="catboost", work=tmp_path)
    failed = table[table["reason"].notna()]
    assert len(failed) == 2 and failed["setting"].str.contains('"one_hot_max_size": 70000').all()
    assert failed["reason"].str.contains("maximum value of one-hot-encoding is 65535").all()
    assert failed["kl"].isna().all()
    rest = table[table["reason"].isna()]
    assert len(rest) == 2 and rest["rmse"].notna().all()
    assert len(files(tmp_path)) == 1  # a failure is tried again
