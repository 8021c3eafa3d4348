"""One regression problem (a question on one scale), and what a fitted setting says to it.

Belongs here: what the algorithms are given and give back. Not here: the algorithms, the measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.baselines.features import Features

Floats = npt.NDArray[np.float64]
Setting = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """Training rows with targets in 0–1 (n,), and the rows to predict by split.

    Rows have the responses' columns; `seed` is the problem's own.
    """

    features: Features
    train: pd.DataFrame
    target: Floats
    predict: Mapping[str, pd.DataFrame]
    seed: int


@dataclass(frozen=True)
class Fitted:
    """One model: the `settings` that all are this model, and its predictions (0–1) by split."""

    settings: list[Setting]
    predictions: dict[str, Floats]
    seconds: float
    converged: bool


def grid_settings(**values: tuple[Any, ...]) -> Iterator[Setting]:
    """Every combination, the last name varying fastest; a value listed twice counts once."""
    unique = [tuple(dict.fromkeys(options)) for options in values.values()]
    for combination in product(*unique):
        yield dict(zip(values, combination, strict=True))


def setting_text(setting: Setting) -> str:
    """The setting as canonical JSON."""
    return json.dumps(setting, sort_keys=True)
