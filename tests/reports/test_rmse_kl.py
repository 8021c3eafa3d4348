"""The RMSE–KL plane draws every adapter, reading, interval and baseline, and says who is missing."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.figures import canvas
from evsim_assets.reports.rmse_kl import rmse_kl_figure

PNG = b"\x89PNG"


def test_the_rmse_kl_plot_draws_every_adapter_and_says_who_is_missing(drawn, board, curves, floors, words):
    png = rmse_kl_figure(board(), curves, floors, title="study", simulated=True)
    assert png.startswith(PNG)
    said = words(drawn[0])
    assert "SIMULATED" in said
    assert "for want of answers: s~pretrained" in said
    assert "1 of 4 baseline points lie beyond the frame" in said
    assert {"s~qlora", "s~pretrained", "svr (Pareto front)", "random"} <= set(said.splitlines())
    (axis,) = drawn[0].axes
    assert axis.get_xscale() == "log"
    assert axis.get_ylim()[1] < 50


def with_readings(board):
    """The board with readings and intervals; at T=1 s~qlora's KL interval reaches below zero."""
    known = board.assign(rmse_median=[np.nan, 41.0, 31.0, 30.0], rmse_mean=[np.nan, 40.0, 31.0, 29.0])
    known = known.assign(kl_low=[np.nan, 0.8, 0.4, -0.01], kl_high=[np.nan, 1.0, 0.6, 0.05])
    return known.assign(rmse_low=known["rmse"] - 1, rmse_high=known["rmse"] + 1)


def drawn_lines(axis, x, y):
    """How many lines of the axis go through exactly these points."""
    return sum(
        list(line.get_xdata()) == pytest.approx(x) and list(line.get_ydata()) == pytest.approx(y)
        for line in axis.lines
        if len(line.get_xdata()) == len(x)
    )


def test_every_reading_of_an_answer_has_its_own_path_at_the_same_kl(drawn, board, curves, floors, words):
    rmse_kl_figure(with_readings(board()), curves, floors, title="t", simulated=True)
    (axis,) = drawn[0].axes
    for rmse in ([37.0, 31.0], [29.0, 31.0], [30.0, 31.0]):  # by temperature: 0 comes first
        assert drawn_lines(axis, [0.5, 0.02], rmse[::-1]) == 1
    said = words(drawn[0])
    assert "sample: one drawn answer" in said and "mean of the distribution" in said
    assert "KL is of the whole population" in said


def test_intervals_are_drawn_where_the_board_has_them_and_end_at_the_frame(
    drawn, board, curves, floors, words
):
    rmse_kl_figure(with_readings(board()), curves, floors, title="t", simulated=True)
    rmse_kl_figure(board(), curves, floors, title="t", simulated=True)
    bars = [
        [tuple(map(tuple, segment)) for segment in collection.get_segments()]
        for collection in drawn[0].axes[0].collections
        if type(collection).__name__ == "LineCollection"
    ]
    left = drawn[0].axes[0].get_xlim()[0]
    across = [bar for group in bars for bar in group if bar[0][1] == bar[1][1] == 37.0]
    assert [end for end, _ in across[0]] == pytest.approx([left, 0.05])
    upright = [bar for group in bars for bar in group if bar[0][0] == bar[1][0] == 0.5]
    assert [end for _, end in upright[0]] == pytest.approx([30.0, 32.0])
    assert "95 % intervals" in words(drawn[0]) and "95 % intervals" not in words(drawn[1])
    assert not [c for c in drawn[1].axes[0].collections if type(c).__name__ == "LineCollection"]


def test_a_board_with_empty_intervals_and_readings_is_drawn(drawn, board, curves, floors, words):
    empty = dict.fromkeys(("kl_low", "kl_high", "rmse_low", "rmse_high", "rmse_median"), np.nan)
    assert rmse_kl_figure(board().assign(**empty), curves, floors, title="t", simulated=True).startswith(PNG)
    assert "median" not in words(drawn[0])


def test_any_baseline_has_a_front_and_only_floors_of_everybody_are_drawn(drawn, board, curves, floors, words):
    more = [curves.iloc[:3].assign(algorithm="boosted"), curves[3:].assign(algorithm="new")]
    groups = floors.assign(demographic="age", level="18", floor=0.9)
    every = pd.concat([floors.assign(demographic="all", level="all"), groups])
    rmse_kl_figure(board(), pd.concat([curves, *more]), every, title="t", simulated=True)
    assert {"boosted (Pareto front)", "new", "svr (Pareto front)"} <= set(words(drawn[0]).splitlines())
    assert len(drawn[0].axes[0].patches) == 1


def test_a_baseline_that_gives_distributions_is_drawn_in_every_reading_with_one_entry(
    drawn, board, curves, floors, words
):
    point = curves[:3].assign(reading="point")
    grid = curves[:2].assign(algorithm="boosted", kl=[0.1, 0.2])
    readings = {"mean": [29.0, 28.5], "median": [29.5, 29.25], "sample": [39.0, 38.0]}
    parts = [grid.assign(reading=name, rmse=rmse) for name, rmse in readings.items()]
    every = pd.concat([point, *parts], ignore_index=True)
    every = every.assign(chosen_by_kl=False, chosen_by_rmse=every["rmse"] == 28.5)
    rmse_kl_figure(board(), every, floors, title="t", simulated=True)
    (axis,) = drawn[0].axes
    assert all(drawn_lines(axis, [0.1, 0.2], rmse) == 2 for rmse in readings.values())  # dots, and the front
    assert drawn_lines(axis, [0.2], [28.5]) == 1
    said = words(drawn[0]).splitlines()
    assert said.count("boosted (Pareto front)") == 1 and "baseline chosen on validation" in said


def test_published_points_are_drawn_only_when_given(drawn, board, curves, floors, words):
    paper = pd.DataFrame({"question": ["q"], "label": ["7B"], "kl": [0.063], "rmse": [37.9]})
    rmse_kl_figure(board(), curves, floors, title="t", simulated=False, paper=paper)
    rmse_kl_figure(board(), curves, floors, title="t", simulated=False)
    assert "published (paper)" in words(drawn[0])
    assert "published" not in words(drawn[1])
    assert "SIMULATED" not in words(drawn[0])


def test_the_legend_lies_within_the_figure_with_one_question_and_with_two(drawn, board, curves, floors):
    two = pd.concat([with_readings(board()), with_readings(board()).assign(question="p")])
    for table in (with_readings(board()), two):
        rmse_kl_figure(table, curves, floors, title="t", simulated=True)
        figure = drawn[-1]
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0
    assert [figure.bbox.width for figure in drawn] == [900, 1200]


def test_a_study_where_nobody_answers_still_has_a_plot(board, curves, floors):
    silent = board().assign(kl=np.nan, rmse=np.nan, reason="no test prompt was answered")
    assert rmse_kl_figure(silent, curves.iloc[:0], floors.iloc[:0], title="t", simulated=True).startswith(PNG)


def test_the_same_figure_is_the_same_bytes(board, curves, floors):
    first, second = (rmse_kl_figure(board(), curves, floors, title="t", simulated=True) for _ in range(2))
    assert first == second
    assert canvas.as_text("$5") == r"\$5"
