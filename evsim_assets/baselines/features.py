"""A person and an intervention as numbers (SVR) or as categories (CatBoost).

Belongs here: dummy coding and its levels. Not here: the models (`svr.py`, `boosting.py`), targets
(`fits.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.specs.survey import SEVERAL_SEPARATOR, Demographic

INTERVENTION = "intervention"
MISSING = "(none)"


@dataclass(frozen=True)
class Features:
    """The columns used, and the levels of each that training rows hold.

    `single`: column → levels. `several`: column → options, any number of which one cell names.
    """

    single: dict[str, tuple[str, ...]]
    several: dict[str, tuple[str, ...]]

    def dummies(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        """0/1 of shape (rows, levels): a column per level or option; all zeros where none is known."""
        parts = [_equals(rows[column], levels) for column, levels in self.single.items()]
        parts += [_names(rows[column], options) for column, options in self.several.items()]
        return np.hstack([np.empty((len(rows), 0)), *parts])

    def categories(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Text of the same rows: a column per demographic, one (yes or no) per option of `several`."""
        table = {column: _text(rows[column]).to_numpy() for column in self.single}
        for column, options in self.several.items():
            named = _names(rows[column], options)
            for at, option in enumerate(options):
                table[f"{column}: {option}"] = np.where(named[:, at] > 0, "yes", "no")
        return pd.DataFrame(table, index=rows.index)


def learn_features(train: pd.DataFrame, demographics: Sequence[Demographic]) -> Features:
    """The levels of the demographics and the intervention that occur in `train` (responses columns).

    A column that never varies in training tells nothing and is left out.
    """
    single = {d.slug: _levels(train[d.slug]) for d in demographics if not d.has_several}
    single[INTERVENTION] = _levels(train[INTERVENTION])
    several = {}
    for demographic in demographics:
        if demographic.has_several:
            cells = train[demographic.slug].dropna()
            several[demographic.slug] = tuple(sorted({o for cell in cells for o in _options(cell)}))
    return Features({column: levels for column, levels in single.items() if len(levels) > 1}, several)


def _text(cells: pd.Series) -> pd.Series:
    return cells.astype(object).where(cells.notna(), MISSING).astype(str)


def _levels(cells: pd.Series) -> tuple[str, ...]:
    """The levels of a column; "nothing" (no answer, no intervention) is one where it occurs."""
    return tuple(sorted(_text(cells).unique()))


def _equals(cells: pd.Series, levels: tuple[str, ...]) -> npt.NDArray[np.float64]:
    same = _text(cells).to_numpy()[:, None] == np.array(levels, dtype=object)[None, :]
    return np.asarray(same, dtype=np.float64)


def _options(cell: str) -> list[str]:
    return str(cell).split(SEVERAL_SEPARATOR)


def _names(cells: pd.Series, options: tuple[str, ...]) -> npt.NDArray[np.float64]:
    place = {option: at for at, option in enumerate(options)}
    named = np.zeros((len(cells), len(options)))
    for row, cell in enumerate(cells):
        for option in _options(cell) if pd.notna(cell) else ():
            if option in place:
                named[row, place[option]] = 1.0
    return named
