"""One row an adapter, beside floors, nulls, its pretrained self and the baselines chosen on validation."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.metrics.agreement import score
from evsim_assets.metrics.noise_floor import noise_floor
from evsim_assets.metrics.nulls import score_nulls
from evsim_assets.metrics.scoreboard import gap_closed, scoreboard
from evsim_assets.specs.study import AdapterSpec
from tests.metrics.people_who_differ import SCALE, people_who_differ, prompts_of

CHOSEN = pd.DataFrame(
    {
        "algorithm": ["svr", "catboost", "svr", "catboost"],
        "question": "q",
        "answers": "native",
        "reading": ["point", "mean", "point", "sample"],
        "chosen_by": ["rmse", "rmse", "kl", "kl"],
        "setting": "{}",
        "validation_kl": [2.0, 1.0, 0.2, 0.4],
        "validation_rmse": [20.0, 25.0, 30.0, 31.0],
        "kl": [2.1, 1.1, 0.5, 0.3],
        "rmse": [28.0, 24.0, 33.0, 34.0],
        "w1": 1.0,
    }
)
PEOPLE = people_who_differ(1000)
PROMPTS = prompts_of(PEOPLE)
SHARES = np.bincount(PROMPTS["answer"] // 10, minlength=11) / len(PROMPTS)
ZEROS = np.eye(11)[0]


@pytest.fixture(scope="module")
def beside():
    floors = noise_floor(PROMPTS, PEOPLE, ["age"], seed=0, resamples=20)
    return floors, score_nulls(PROMPTS, PEOPLE, ["age"], seed=0)


def metrics_of(probabilities, model="s", method="qlora", template="default", seed=1):
    """Metrics of a model that answers every prompt from the same distribution."""
    asked = PROMPTS.assign(template=template)
    test = asked[asked["split"] == "test"]
    place = {"prompt_id": test["prompt_id"], "temperature": 1.0}
    masses = {"off_scale": 0.0, "no_number": 0.0, "unexpanded": 0.0}
    read = pd.DataFrame({**place, "probabilities": [probabilities] * len(test), **masses})
    drawn = np.random.default_rng(seed).choice(SCALE, len(test), p=probabilities)
    answer = {"answer": pd.array(drawn, dtype="Int64"), "success": True, "made_by": "distribution"}
    said = pd.DataFrame({**place, "replicate": 0, **answer})
    factors = AdapterSpec(model=model, method=method, template=template).factors
    return score(asked, PEOPLE, read, said, factors, seed=0, demographics=["age"], resamples=50).metrics


def measured(metrics, measure, point="none"):
    rows = metrics[(metrics["measure"] == measure) & (metrics["point_answer"] == point)]
    (row,) = rows[rows["demographic"] == "all"].to_dict("records")
    return row


def test_gap_closed_is_none_at_the_base_and_all_at_the_floor():
    assert gap_closed(10, 10, 2) == 0
    assert gap_closed(10, 2, 2) == 1
    assert gap_closed(10, 6, 2) == 0.5
    assert np.isnan(gap_closed(1, 0.5, 2))


def test_the_scoreboard_holds_each_adapter_against_everything(beside):
    metrics = pd.concat(
        [metrics_of(ZEROS, method="pretrained"), metrics_of(SHARES), metrics_of(SHARES, model="m")]
    )
    board = scoreboard(metrics, *beside, CHOSEN).set_index("adapter")
    assert list(board.index) == ["s~pretrained", "s~qlora", "m~qlora"]  # once each, however many groups
    tuned = board.loc["s~qlora"]
    floors = beside[0]
    of_w1 = floors[(floors["measure"] == "w1") & (floors["demographic"] == "all")]
    (floor,), (lowest,) = of_w1["floor"], of_w1["floor_low"]
    before = board.loc["s~pretrained", "w1"]
    assert (tuned["floor_w1"], tuned["floor_w1_low"]) == (floor, lowest)
    assert tuned["gap_closed_w1_pretrained"] == pytest.approx((before - tuned["w1"]) / (before - floor))
    assert board.loc["s~pretrained", "gap_closed_w1_pretrained"] == 0
    assert np.isnan(board.loc["m~qlora", "gap_closed_w1_pretrained"])  # its own pretrained model is not there
    assert tuned["success_rate"] == pytest.approx(1) and tuned["n"] == 150


def test_each_number_is_that_of_everybody_with_its_interval(beside):
    metrics = metrics_of(SHARES)
    (row,) = scoreboard(metrics, *beside, CHOSEN).to_dict("records")
    shown = {"kl": "none", "w1": "none", "js": "none", "tv": "none", "crps": "none", "nll": "none"}
    for column, point in (shown | {"kl_corrected": "none", "sd_ratio": "none"}).items():
        assert row[column] == measured(metrics, column, point)["value"]
    for column, point in (("rmse", "sample"), ("rmse_mean", "mean"), ("rmse_median", "median")):
        assert row[column] == measured(metrics, "rmse", point)["value"]
    intervals = {
        "kl": ("kl", "none"),
        "w1": ("w1", "none"),
        "rmse": ("rmse", "sample"),
        "rmse_mean": ("rmse", "mean"),
    }
    for column, place in intervals.items():
        own = measured(metrics, *place)
        assert (row[f"{column}_low"], row[f"{column}_high"]) == (own["low"], own["high"])
        assert own["low"] <= own["high"]


def test_a_model_is_held_against_its_pretrained_self_in_the_same_wording(beside):
    metrics = pd.concat(
        [metrics_of(ZEROS, method="pretrained"), metrics_of(SHARES), metrics_of(SHARES, template="plain")]
    )
    board = scoreboard(metrics, *beside, CHOSEN).set_index("adapter")
    assert board["template"].tolist() == ["default", "default", "plain"]
    gaps = board["gap_closed_w1_pretrained"]
    assert gaps["s~qlora"] > 0.5 and np.isnan(gaps["s~qlora~template-plain"])


def test_the_best_baseline_is_the_best_on_validation_not_on_test(beside):
    (row,) = scoreboard(metrics_of(SHARES), *beside, CHOSEN).to_dict("records")
    assert (row["best_baseline_rmse"], row["best_baseline_rmse_by"]) == (28.0, "svr")
    assert (row["best_baseline_kl"], row["best_baseline_kl_by"]) == (0.5, "svr")
    assert (row["best_baseline_rmse_reading"], row["best_baseline_kl_reading"]) == ("point", "point")
    assert row["best_baseline_crps"] is None or np.isnan(row["best_baseline_crps"])


def test_a_distributional_baseline_can_be_the_best(beside):
    own = {"algorithm": "ordinal", "question": "q", "answers": "native", "setting": "{}", "w1": 0.5}
    own |= {"reading": "sample"}
    own |= {
        "validation_kl": 0.1,
        "validation_rmse": 26.0,
        "validation_crps": 9.0,
        "kl": 0.05,
        "rmse": 27.0,
        "crps": 9.5,
    }
    better = pd.DataFrame([own | {"chosen_by": by} for by in ("kl", "rmse", "crps")])
    (row,) = scoreboard(metrics_of(SHARES), *beside, pd.concat([CHOSEN, better])).to_dict("records")
    assert (row["best_baseline_kl"], row["best_baseline_kl_by"]) == (0.05, "ordinal")
    assert (row["best_baseline_crps"], row["best_baseline_crps_by"]) == (9.5, "ordinal")
    assert (row["best_baseline_crps_reading"], row["best_baseline_rmse_reading"]) == ("sample", "point")
    assert row["best_baseline_rmse_by"] == "svr"


def test_a_study_without_baselines_has_none(beside):
    (row,) = scoreboard(metrics_of(SHARES), *beside, CHOSEN.head(0)).to_dict("records")
    assert pd.isna(row["best_baseline_kl"]) and pd.isna(row["best_baseline_rmse_by"])
