"""Histograms and learning curves are drawn, and adapters are told apart by their looks."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.adapters.curve import learning_curve_figure
from evsim_assets.figures.canvas import adapter_looks
from evsim_assets.metrics.histograms import histogram_figure

PNG = b"\x89PNG"


def test_adapters_differ_in_look_and_models_in_hue():
    names = pd.DataFrame(
        {
            "adapter": ["a~pretrained", "a~lora", "a~qlora", "b~qlora"],
            "model": ["a", "a", "a", "b"],
            "method": ["pretrained", "lora", "qlora", "qlora"],
        }
    )
    looks = adapter_looks(names)
    assert len({(look.colour, look.marker, look.trained) for look in looks.values()}) == 4
    assert looks["a~pretrained"].fill == "white"
    assert looks["b~qlora"].colour != looks["a~lora"].colour


def histograms():
    base = {"model": "s", "method": "qlora", "temperature": 1.0, "question": "q", "answer": range(101)}
    human = np.bincount([0, 50, 50, 100], minlength=101)
    spoken = pd.DataFrame({**base, "adapter": "s~qlora", "human": human, "simulated": np.eye(101)[50] * 4})
    silent = pd.DataFrame({**base, "adapter": "s~lora", "human": human, "simulated": 0.0})
    return pd.concat([spoken, silent])


def test_histograms_show_shares_and_adapters_that_never_answer(drawn, words):
    png = histogram_figure(histograms(), "q", 1.0, title="t", simulated=True)
    assert png.startswith(PNG)
    spoken, silent = drawn[0].axes
    heights = [bar.get_height() for bar in spoken.containers[0]]
    assert heights == pytest.approx([0.25, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0.25])
    assert "never answers" in [t.get_text() for t in silent.texts]
    assert "highest: 100%" in words(drawn[0])


def test_learning_curves_mark_the_lowest_validation_loss(drawn):
    history = pd.DataFrame(
        {
            "adapter": "s~qlora",
            "epoch": [1, 2, 3, 1, 2, 3],
            "split": ["train"] * 3 + ["validation"] * 3,
            "loss": [3.0, 2.0, 1.0, 3.1, 2.5, 2.9],
        }
    )
    assert learning_curve_figure(history, title="t", simulated=True).startswith(PNG)
    marked = [line for line in drawn[0].axes[0].lines if line.get_label() == "lowest validation loss"]
    assert (marked[0].get_xdata()[0], marked[0].get_ydata()[0]) == (2, 2.5)
