"""A small survey with adapters and baselines that say what a test tells them to."""

import numpy as np
import pandas as pd

from evsim_assets.metrics.contest import contest
from evsim_assets.specs.study import AdapterSpec

ANSWERS = [1, 2, 3, 4, 5]


def adapters(*names):
    """Factors of adapters on the survey's own scale, by key."""
    return {name: AdapterSpec(model=name, method="qlora").factors | {"adapter": name} for name in names}


def asked(people=60, each=2, seed=0, weights=None):
    """Test prompts of one question on 1–5."""
    rng = np.random.default_rng(seed)
    person, order = np.repeat(np.arange(people), each), np.tile(np.arange(each), people)
    return pd.DataFrame(
        {
            "prompt_id": [f"p{p:02d}-{o}" for p, o in zip(person, order, strict=True)],
            "participant": [f"p{p:02d}" for p in person],
            "split": "test",
            "question": "q",
            "order": order,
            "intervention": None,
            "template": "default",
            "weight": 1.0 if weights is None else np.asarray(weights, dtype=float)[person],
            "answer": rng.integers(1, 6, people * each),
            "answer_digit": pd.array([None] * (people * each), dtype="Int64"),
            "low": 1,
            "high": 5,
            "step": 1,
            "labels": None,
        }
    )


def said(prompts, given, temperature=1.0):
    """An adapter's distributions; what `given` (n, 5) lacks to 1 is no number."""
    return pd.DataFrame(
        {
            "prompt_id": prompts["prompt_id"],
            "temperature": temperature,
            "probabilities": list(np.asarray(given, dtype=np.float32)),
            "off_scale": 0.0,
            "no_number": 1 - np.asarray(given).sum(axis=1),
            "unexpanded": 0.0,
        }
    )


def kept(prompts, given=None, predictions=None, algorithm="cells", setting="{}"):
    """A baseline's answers: distributions (n, 5), or predictions (n,)."""
    point = given is None
    if point:
        given = np.eye(5)[np.clip(np.floor(np.asarray(predictions) + 0.5), 1, 5).astype(int) - 1]
    return pd.DataFrame(
        {
            "algorithm": algorithm,
            "reading": "point" if point else "distribution",
            "question": "q",
            "answers": "native",
            "setting": setting,
            "participant": prompts["participant"],
            "order": prompts["order"],
            "answer": prompts["answer"],
            "weight": prompts["weight"],
            "prediction": np.nan if predictions is None else np.asarray(predictions, dtype=float),
            "probabilities": list(np.asarray(given, dtype=np.float32)),
        }
    )


def chosen_baseline(algorithm="cells", reading="mean", by="rmse", validation=1.0, setting="{}", question="q"):
    """A row of chosen_baselines."""
    row = {"algorithm": algorithm, "question": question, "answers": "native", "reading": reading}
    return pd.DataFrame([row | {"chosen_by": by, "setting": setting, "validation_rmse": validation}])


def chosen_adapter(adapter="a", by="crps", temperature=1.0, question="q"):
    """A row of chosen_adapters."""
    row = {"question": question, "answers": "native", "chosen_by": by, "adapter": adapter}
    return pd.DataFrame([row | {"temperature": temperature, "point_answer": "mean"}])


def contested(prompts, distributions, baselines, chosen_baselines, chosen_adapters=None, **options):
    """The contest of adapters given by name, with 400 resamples."""
    chosen = chosen_adapter() if chosen_adapters is None else chosen_adapters
    told = dict.fromkeys(distributions)
    options = {"seed": 0, "resamples": 400} | options
    return contest(prompts, distributions, baselines, chosen_baselines, chosen, adapters(*told), **options)
