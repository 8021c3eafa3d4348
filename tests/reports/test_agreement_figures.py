"""Effects, bias and discriminability are drawn beside what would be ideal; empty tables say why."""

import struct

import numpy as np
import pandas as pd
import pytest

from evsim_assets.metrics.effects_figure import effects_figure
from evsim_assets.metrics.figures import RING, bias_figure, discriminability_figure, spreads_figure

ADAPTER = {"adapter": "s~qlora", "model": "s", "method": "qlora", "temperature": 1.0, "question": "q"}


def size(png):
    """Width and height in pixels, from the PNG's own header."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def effects(simulated, held_out=(False, False, True)):
    human = [-2.0, 0.0, 4.0]
    return pd.DataFrame(
        {
            **ADAPTER,
            "intervention": ["a", "b", "c"],
            "held_out": held_out,
            "design": "before_after",
            "human_effect": human,
            "human_low": [h - 1 for h in human],
            "human_high": [h + 1 for h in human],
            "simulated_effect": simulated,
            "simulated_low": [s - 0.5 for s in simulated],
            "simulated_high": [s + 0.5 for s in simulated],
            "reason": None,
        }
    )


AGREEMENT = pd.DataFrame(
    [
        {**ADAPTER, "held_out": "all", "measure": "correlation", "value": 0.875, "low": 0.5, "high": 0.95},
        {**ADAPTER, "held_out": "all", "measure": "slope", "value": 0.5, "low": np.nan, "high": np.nan},
        {**ADAPTER, "held_out": "yes", "measure": "slope", "value": 0.25, "low": 0.125, "high": 0.75},
        {
            **ADAPTER,
            "temperature": 0.5,
            "held_out": "all",
            "measure": "slope",
            "value": 9.0,
            "low": 8,
            "high": 10,
        },
    ]
)


def test_effects_stand_at_human_and_simulated_with_held_out_ones_apart(drawn, words):
    png = effects_figure(effects([-1.0, 0.5, 2.0]), AGREEMENT, title="study", simulated=True)
    assert size(png) == (600, 460)
    (axis,) = drawn[0].axes
    points = {
        line.get_marker(): line.get_xydata().tolist() for line in axis.lines if line.get_marker() != "None"
    }
    assert points == {"o": [[-2.0, -1.0], [0.0, 0.5]], "D": [[4.0, 2.0]]}
    across, upright = (c.get_segments() for c in axis.collections)
    assert across[0].tolist() == [[-3.0, -1.0], [-1.0, -1.0]]
    assert upright[2].tolist() == [[4.0, 1.5], [4.0, 2.5]]
    assert axis.get_xlim() == axis.get_ylim()
    said = words(drawn[0])
    assert "SIMULATED" in said and "s~qlora, T=1" in said
    assert "r 0.88 (0.50 to 0.95)\nslope 0.50\nheld out: slope 0.25 (0.12 to 0.75)" in said
    assert "9.00" not in said  # another temperature's


def test_effects_far_off_are_counted_and_do_not_squeeze_the_others(drawn, words):
    effects_figure(effects([-1.0, 900.0, 2.0]), AGREEMENT, title="study", simulated=False)
    assert drawn[0].axes[0].get_ylim()[1] < 20
    assert "1 of 3 beyond the frame" in words(drawn[0])
    assert "SIMULATED" not in words(drawn[0])


def test_without_effects_a_picture_says_why(drawn, words):
    empty = effects_figure(pd.DataFrame(), pd.DataFrame(), title="t", simulated=True)
    assert size(empty)[0] == 600 and "no interventions" in words(drawn[0])
    silent = effects([1.0, 1.0, 1.0]).assign(simulated_effect=np.nan, reason="the model never answers")
    effects_figure(silent, AGREEMENT.iloc[:0], title="t", simulated=True)
    assert "the model never answers" in words(drawn[1])


def test_of_many_panels_the_first_are_drawn_and_the_title_says_so(drawn, words):
    many = pd.concat([effects([1.0, 2.0, 3.0]).assign(adapter=f"s~{n}") for n in range(14)])
    effects_figure(many, AGREEMENT, title="study", simulated=True)
    assert len([axis for axis in drawn[0].axes if axis.get_visible()]) == 12
    assert "the first 12 of 14" in words(drawn[0])


def bias(**columns):
    return pd.DataFrame(
        {
            **ADAPTER,
            "demographic": ["age", "gender", "region"],
            "measure": "mean",
            "amplification": [0.5, 2.0, np.nan],
            "low": [0.25, 1.5, np.nan],
            "high": [0.75, 2.5, np.nan],
            "reason": [None, None, "only one group"],
            **columns,
        }
    )


def test_amplification_stands_in_its_demographic_s_row_beside_one(drawn, words):
    png = bias_figure(bias(), title="study", simulated=True)
    assert size(png) == (600, 320)  # at least 1.4 inches, 1.2 around them, 0.6 for the title
    (axis,) = drawn[0].axes
    dots = [line for line in axis.lines if line.get_marker() == "s" or line.get_marker() == "o"]
    assert dots[0].get_xydata().tolist() == [[0.5, 0.0], [2.0, 1.0]]
    assert axis.collections[0].get_segments()[0].tolist() == [[0.25, 0.0], [0.75, 0.0]]
    assert [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--"] == [1.0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["age", "gender", "region"]
    assert axis.get_xscale() == "log"
    said = words(drawn[0])
    assert "SIMULATED" in said and "only one group" in said


def test_amplification_beyond_the_frame_is_an_arrow_at_its_end(drawn):
    bias_figure(bias(amplification=[0.0, 2.0, 1.0]), title="study", simulated=True)
    (axis,) = drawn[0].axes
    (arrow,) = [line for line in axis.lines if line.get_marker() == "<"]
    assert arrow.get_xydata().tolist() == [[pytest.approx(axis.get_xlim()[0]), 0.0]]


def test_only_the_measure_asked_for_is_drawn(drawn):
    both = pd.concat([bias(), bias(measure="kl", amplification=[3.0, 3.0, 3.0])])
    bias_figure(both, title="study", simulated=True, measure="kl")
    assert "amplification (kl)" in drawn[0].axes[0].get_xlabel()
    assert any(list(line.get_xdata()) == [3.0, 3.0, 3.0] for line in drawn[0].axes[0].lines)


def test_discriminability_stands_at_its_temperature_beside_one_half(drawn, words):
    table = pd.DataFrame(
        {**ADAPTER, "temperature": [0.0, 1.0], "auc": [0.95, 0.55], "low": [0.9, 0.5], "high": [1.0, 0.6]}
    ).assign(p_value=[0.001, 0.2])
    png = discriminability_figure(table, title="study", simulated=True)
    assert size(png) == (600, 420)
    (axis,) = drawn[0].axes
    assert any(line.get_xydata().tolist() == [[0.0, 0.95], [1.0, 0.55]] for line in axis.lines)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "1"]
    assert [line.get_ydata()[0] for line in axis.lines if line.get_linestyle() == "--"] == [0.5]
    assert "SIMULATED" in words(drawn[0]) and "cannot be told apart" in words(drawn[0])
    (ring,) = [line for line in axis.lines if line.get_markersize() == RING["markersize"]]
    assert ring.get_xydata().tolist() == [[1.0, 0.55]]  # no more than chance


def test_a_picture_of_levelled_groups_alone_has_arrows_at_its_left_end(drawn):
    bias_figure(bias(amplification=[-0.2, 0.0, -1.0], low=np.nan, high=np.nan), title="t", simulated=True)
    (axis,) = drawn[0].axes
    (arrows,) = [line for line in axis.lines if line.get_marker() == "<"]
    assert set(arrows.get_xdata()) == {axis.get_xlim()[0]}


def test_an_amplification_without_an_upper_bound_has_a_bar_to_the_frame(drawn):
    bias_figure(bias(high=np.nan), title="t", simulated=True)
    (axis,) = drawn[0].axes
    assert axis.collections[0].get_segments()[0].tolist() == [[0.25, 0.0], [axis.get_xlim()[1], 0.0]]


def test_spreads_stand_beside_those_of_people(drawn, words):
    ends = {
        "human_low": [3.0, 1.0, -2.0],
        "human_high": [5.0, 3.0, 1.0],
        "simulated_low": 0.0,
        "simulated_high": 3.5,
    }
    table = bias(human_spread=[4.0, 2.0, -1.0], simulated_spread=[1.0, 3.0, 0.5], **ends)
    spreads_figure(table, title="study", simulated=True)
    (axis,) = drawn[0].axes
    people, model = (next(line for line in axis.lines if line.get_marker() == m) for m in ("|", "o"))
    assert people.get_xdata().tolist() == [4.0, 2.0, -1.0]
    assert model.get_xdata().tolist() == [1.0, 3.0, 0.5]
    assert [(bar.get_x(), bar.get_width()) for bar in axis.patches] == [(3.0, 2.0), (1.0, 2.0), (-2.0, 3.0)]
    (bars,) = axis.collections
    assert [segment[:, 0].tolist() for segment in bars.get_segments()] == [[0.0, 3.5]] * 3
    assert "SIMULATED" in words(drawn[0]) and "people" in words(drawn[0])


@pytest.mark.parametrize("draw", [bias_figure, discriminability_figure])
def test_without_values_a_picture_says_why(draw, drawn, words):
    draw(pd.DataFrame(), title="t", simulated=True)
    unknown = bias(amplification=np.nan, auc=np.nan, reason="only 1 test participant")
    draw(unknown, title="t", simulated=False)
    assert "no bias" in words(drawn[0]) or "nothing to tell apart" in words(drawn[0])
    assert "only 1 test participant" in words(drawn[1]) and "SIMULATED" not in words(drawn[1])
