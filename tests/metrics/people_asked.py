"""Small surveys with known answers, and a model whose distributions have known means."""

import numpy as np
import pandas as pd

from evsim_assets.specs.study import AdapterSpec

NATIVE = AdapterSpec(model="s", method="qlora").factors


def prompts_of(rows):
    """Test prompts on 0–100 from dicts: participant, answer, and what is not as usual."""
    usual = {
        "question": "q",
        "order": 0,
        "intervention": None,
        "weight": 1.0,
        "wave": "w1",
        "split": "test",
        "held_out": None,
        "template": "default",
        "answer_digit": pd.NA,
        "low": 0,
        "high": 100,
        "step": 1,
        "labels": None,
    }
    table = pd.DataFrame([usual | row for row in rows])
    table["prompt_id"] = table["participant"] + "-" + table["order"].astype(str)
    table["answer_digit"] = table["answer_digit"].astype("Int64")
    table["intervention"] = table["intervention"].astype(object)
    return table


def spread_over_two(means):
    """Probabilities (n, 101) of the two numbers next to each mean, so that it is the mean."""
    means = np.asarray(means, dtype=float)
    below = np.clip(np.floor(means), 0, 99).astype(int)
    rows = np.zeros((len(means), 101), dtype=np.float32)
    rows[np.arange(len(means)), below] = 1 - (means - below)
    rows[np.arange(len(means)), below + 1] = means - below
    return rows


def distributions_of(prompts, rows, no_number=0.0, temperature=1.0):
    """Distributions (n, 101), in the order of `prompts`; `no_number` of each is on no number."""
    lost = np.broadcast_to(np.asarray(no_number, dtype=float), len(prompts))
    return pd.DataFrame(
        {
            "prompt_id": prompts["prompt_id"].to_numpy(),
            "temperature": temperature,
            "probabilities": list((rows * (1 - lost)[:, None]).astype(np.float32)),
            "off_scale": 0.0,
            "no_number": lost,
            "unexpanded": 0.0,
        }
    )


def whole(numbers):
    """To whole numbers on 0–100."""
    return np.clip(np.round(numbers), 0, 100).astype(int)
