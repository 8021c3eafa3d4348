"""One problem (a question on one scale), and what a fitted model says to it.

Belongs here: what the algorithms are given and give back. Not here: the algorithms, the measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.baselines.features import Features
from evsim_assets.specs.survey import Scale

Floats = npt.NDArray[np.float64]
Setting = dict[str, Any]
EVALUATED = ("validation", "test")
"""The splits that a fit is measured on."""


@dataclass(frozen=True)
class Problem:
    """Training rows with targets in 0–1 (n,), and the rows to predict by split.

    Rows have the responses' columns, `answer` on `scale`. `demographics` are the slugs of those that features
    are made of; `seed` is the problem's own.
    """

    features: Features
    demographics: tuple[str, ...]
    scale: Scale
    train: pd.DataFrame
    target: Floats
    predict: Mapping[str, pd.DataFrame]
    seed: int


@dataclass(frozen=True)
class Model:
    """What is `fitted`, and the `settings` of the grid that it all stands for."""

    fitted: Setting
    settings: list[Setting] = field(default_factory=list)


@dataclass(frozen=True)
class Predicted:
    """By split, a model's answers in 0–1 (n,), or its distributions over the scale's answers (n, K).

    `chosen`: what a model chose by itself on validation, told beside its setting.
    """

    by_split: dict[str, Floats]
    converged: bool = True
    chosen: Setting = field(default_factory=dict)


class FitFailed(RuntimeError):
    """A setting cannot be fitted; says why."""


class Fits(Protocol):
    """All fits of one problem by one algorithm.

    `share` is called before `fit` with the first of the models that are alike by `sharing`, `fit` then for
    each of these, in several threads at once.
    """

    def sharing(self, model: Model) -> tuple[Any, ...]:
        """Models with the same value follow each other."""

    def share(self, like: Model) -> None:
        """Make what models like this one are all fitted on."""

    def fit(self, model: Model) -> Predicted:
        """Fit and predict."""


def grid_settings(**values: tuple[Any, ...]) -> Iterator[Setting]:
    """Every combination, the last name varying fastest; a value listed twice counts once."""
    unique = [tuple(dict.fromkeys(options)) for options in values.values()]
    for combination in product(*unique):
        yield dict(zip(values, combination, strict=True))


def setting_text(setting: Setting) -> str:
    """The setting as canonical JSON."""
    return json.dumps(setting, sort_keys=True)
