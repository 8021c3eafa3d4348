"""Pictures beside the tables of measures: what stands where, and what is said where there is nothing."""

import numpy as np
import pandas as pd

from evsim_assets.metrics.agreement_figures import ADAPTERS, forest_figure, metrics_figure, plane_figure
from evsim_assets.metrics.noise_figures import floors_figure, nulls_figure

WORDS = {"title": "study", "simulated": True}
EVERYBODY = {"question": "q", "answers": "native", "demographic": "all", "level": "all"}
WIDTHS = pd.Series({"q": 100})


def test_floors_stand_in_the_row_of_their_question_and_scale_units_are_shares(drawn, words):
    row = {"floor": 5.0, "floor_low": 2.0, "floor_high": 9.0}
    table = pd.DataFrame(
        [
            EVERYBODY | row | {"measure": "w1"},
            EVERYBODY
            | {"measure": "w1", "answers": "digit", "floor": 0.9, "floor_low": 0.0, "floor_high": 1.8},
            EVERYBODY | row | {"measure": "w1", "demographic": "age", "floor": 50.0},
            EVERYBODY | {"measure": "kl", "floor": np.nan, "floor_low": np.nan, "floor_high": np.nan},
        ]
    )
    floors_figure(table, WIDTHS, **WORDS)
    (axis,) = drawn[0].axes  # no panel for a measure without any floor
    (dots,) = [line for line in axis.lines if line.get_marker() == "o"]
    assert dots.get_xydata().tolist() == [[0.05, 0.0], [0.1, 1.0]]  # of 100, and of 9
    assert axis.collections[0].get_segments()[0].tolist() == [[0.02, 0.0], [0.09, 0.0]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["q", "q (0–9)"]
    assert "SIMULATED" in words(drawn[0])


def test_null_models_are_told_apart_by_their_marks(drawn, words):
    nulls = {"uniform": 0.4, "population_marginal": 0.1, "cell_marginal": 0.05}
    row = EVERYBODY | {"measure": "kl", "point_answer": "none"}
    table = pd.DataFrame([row | {"null": null, "value": value} for null, value in nulls.items()])
    nulls_figure(table, WIDTHS, **WORDS)
    (axis,) = drawn[0].axes
    assert {line.get_label(): line.get_xdata().tolist() for line in axis.lines} == {
        "uniform": [0.4],
        "population marginal": [0.1],
        "cell marginal": [0.05],
    }
    assert "further left" in words(drawn[0])


def test_without_any_floor_the_picture_says_so(drawn, words):
    empty = pd.DataFrame([EVERYBODY | {"measure": "kl", "floor": np.nan}])
    floors_figure(empty, WIDTHS, **WORDS)
    assert "nothing could be measured" in words(drawn[0])


def metrics(measure, point, values, **columns):
    row = EVERYBODY | {"measure": measure, "point_answer": point, "temperature": [0.0, 1.0], "value": values}
    ends = {"low": np.subtract(values, 0.1), "high": np.add(values, 0.1), "population_marginal": 0.3}
    return pd.DataFrame(row | ends | {"floor": 0.2, "floor_low": 0.1, "floor_high": 0.4} | columns)


def test_values_by_temperature_stand_over_the_floor_s_band(drawn, words):
    none = {"floor": np.nan, "floor_low": np.nan, "floor_high": np.nan}
    table = pd.concat(
        [
            metrics("kl", "none", [4.0, 0.2]),
            metrics("w1", "none", [3.0, 2.0]),
            metrics("crps", "none", [np.nan, np.nan], **none),
            metrics("rmse", "sample", [40.0, 30.0], **none),
            metrics("rmse", "mean", [30.0, 29.0], **none),
        ]
    )
    metrics_figure(table, **WORDS)
    kl, w1, crps, rmse = drawn[0].axes
    assert kl.lines[0].get_xydata().tolist() == [[0.0, 4.0], [1.0, 0.2]]
    (band,) = kl.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == (0.1, 0.4)
    assert (kl.get_yscale(), w1.get_yscale()) == ("log", "linear")
    assert not crps.lines and "no answers" in crps.texts[0].get_text()
    assert len(rmse.patches) == 0  # nobody answers twice
    assert {"RMSE of a drawn answer", "RMSE of the mean"} <= {line.get_label() for line in rmse.lines}


def pairs(rows, measure="w1"):
    columns = ["adapter", "other", "difference", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    place = {"question": "q", "answers": "native", "temperature": 1.0, "point_answer": "none"}
    return table.assign(measure=measure, **place)


def test_a_forest_starts_at_the_nearest_and_turns_differences_around(drawn, words):
    # values: a 3, b 1, c 2; so b leads
    rows = [("a", "b", 2.0, 1.5, 2.5), ("a", "c", 1.0, 0.5, 1.5), ("b", "c", -1.0, -2.2, 0.2)]
    forest_figure(pairs(rows), **WORDS)
    (axis,) = drawn[0].axes
    assert "less that of\nb" in axis.get_title()
    assert [label.get_text() for label in axis.get_yticklabels()] == ["c", "a"]
    dots = axis.collections[1].get_offsets().tolist()
    assert dots == [[1.0, 0.0], [2.0, 1.0]]
    bars = [segment[:, 0].tolist() for segment in axis.collections[0].get_segments()]
    assert bars == [[-0.2, 2.2], [1.5, 2.5]]
    assert "could be chance" in words(drawn[0])


def test_a_rival_far_beyond_the_frame_is_an_arrow_with_its_number(drawn):
    rows = [("a", "b", -1.0, -1.5, -0.5), ("a", "c", -90.0, -95.0, -85.0), ("b", "c", -89.0, -94.0, -84.0)]
    forest_figure(pairs(rows), **WORDS)
    (axis,) = drawn[0].axes
    assert axis.get_xlim()[1] < 10
    assert [text.get_text() for text in axis.texts] == ["90 (85 to 95)"]


def test_a_forest_of_many_shows_the_nearest_and_says_so(drawn):
    rows = [("best", f"x{at:02d}", -float(at), -at - 0.5, -at + 0.5) for at in range(1, ADAPTERS + 6)]
    forest_figure(pairs(rows), **WORDS)
    (axis,) = drawn[0].axes
    assert len(axis.get_yticklabels()) == ADAPTERS
    assert f"nearest of {ADAPTERS + 5}" in axis.get_xlabel()


def test_one_adapter_alone_has_no_forest(drawn, words):
    forest_figure(pairs([]), **WORDS)
    assert "no two adapters" in words(drawn[0])


def test_the_plane_shows_paths_floor_and_best_baselines(drawn, board):
    table = board().assign(
        floor_kl=0.06,
        rmse_mean=[np.nan, 33.0, 31.0, 30.0],
        best_baseline_kl=0.05,
        best_baseline_rmse=28.0,
        best_baseline_kl_by="cells",
        best_baseline_rmse_by="svr",
        best_baseline_rmse_reading="point",
    )
    plane_figure(table, **WORDS)
    (axis,) = drawn[0].axes
    paths = [line.get_xydata().tolist() for line in axis.lines[:2]]
    assert paths == [[[0.9, 33.0]], [[0.5, 31.0], [0.02, 30.0]]]
    upright = {line.get_label(): line.get_xdata()[0] for line in axis.lines[2:4]}
    assert upright == {"noise floor of KL": 0.06, "KL of the best baseline": 0.05}
    assert axis.lines[4].get_ydata()[0] == 28.0
    assert "cells in KL, svr (point) in RMSE" in axis.get_title()
