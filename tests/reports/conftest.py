"""A small scoreboard with what belongs beside it, and what figures say."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure


@pytest.fixture
def board():
    """Makes a scoreboard."""
    return _board


def _board():
    """Two adapters at two temperatures; the pretrained one never answers at T=0."""
    table = pd.DataFrame(
        {
            "adapter": ["s~pretrained"] * 2 + ["s~qlora"] * 2,
            "model": "s",
            "method": ["pretrained"] * 2 + ["qlora"] * 2,
            "answers": "native",
            "temperature": [0.0, 1.0] * 2,
            "question": "q",
            "kl": [np.nan, 0.9, 0.5, 0.02],
            "rmse": [np.nan, 40.0, 31.0, 37.0],
            "reason": ["no test prompt was answered", None, None, None],
        }
    )
    rest = [
        "floor_kl",
        "w1",
        "floor_w1",
        "gap_closed_w1",
        "gap_closed_w1_pretrained",
        "rmse_mean",
        "best_baseline_kl",
        "best_baseline_rmse",
    ]
    table = table.assign(**dict.fromkeys(rest, 0.5), success_rate=[0.0, 0.4, 1.0, 0.9996])
    return table.assign(best_baseline_kl_by="random", best_baseline_rmse_by="svr")


@pytest.fixture
def temperatures():
    """Each adapter's temperature as chosen on validation: what is worse on test for the second one."""
    return pd.DataFrame(
        {
            "adapter": ["s~pretrained", "s~qlora"],
            "question": "q",
            "answers": "native",
            "temperature": [1.0, 0.0],
            "validation_kl": [0.8, 0.1],
            "n": 10,
            "reason": None,
        }
    )


@pytest.fixture
def choices():
    """The adapters chosen on validation: by KL one that is not the best on test."""
    return pd.DataFrame(
        {
            "question": "q",
            "answers": "native",
            "chosen_by": ["kl", "crps"],
            "adapter": ["s~qlora", "s~pretrained"],
            "temperature": [0.0, 1.0],
            "point_answer": ["sample", "mean"],
            "validation_kl": [0.1, 0.8],
            "validation_rmse": [32.0, 29.5],
            "validation_crps": 17.0,
            "validation_nll": 3.5,
            "n": 10,
            "reason": [None, "a doubt"],
        }
    )


@pytest.fixture
def curves():
    return pd.DataFrame(
        {
            "algorithm": ["svr"] * 3 + ["random"],
            "question": "q",
            "answers": "native",
            "setting": list("abcd"),
            "kl": [1.0, 2.0, 90.0, 0.2],
            "rmse": [30.0, 28.0, 300.0, 42.0],
            "w1": 1.0,
            "on_front": [True, True, False, True],
        }
    )


@pytest.fixture
def floors():
    return pd.DataFrame(
        {
            "question": ["q"],
            "answers": "native",
            "measure": "kl",
            "floor": 0.01,
            "floor_low": 0.005,
            "floor_high": 0.02,
        }
    )


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were turned into PNG."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


@pytest.fixture
def words():
    """Everything a figure says."""
    return _words


def _words(figure):
    """Everything a figure says."""
    texts = [figure.get_suptitle(), *(t.get_text() for t in figure.texts)]
    for axis in figure.axes:
        texts += [axis.get_title(), *(t.get_text() for t in axis.texts)]
    for legend in figure.legends:
        texts += [legend.get_title().get_text(), *(t.get_text() for t in legend.get_texts())]
    return "\n".join(texts)
