"""Distances between two distributions of answers, and the bins that long scales are seen in.

Belongs here: formulas that several stages share, on shares that sum to one. Not here: checking and
smoothing what is given, which measures are taken of what (`metrics/measures.py`,
`surveys/drift_measures.py`).

NaN stays NaN, for whoever draws replicates of which some are empty.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BINS = 11
"""Bins of answers where nothing else is said; a shorter scale has one an answer."""


def rebin(weights: npt.ArrayLike, bins: int) -> Floats:
    """Weights (..., K) summed into `bins` bins (..., bins).

    Bin centres are spread evenly from the first answer to the last, so on 101 answers 11 bins are
    centred on 0, 10, … 100. A bin's edge never falls on an answer: one midway between two centres
    goes to the upper, whole, since people heap on round answers and a heap must not be cut.
    """
    given = np.asarray(weights, dtype=np.float64)
    answers = given.shape[-1]
    bin_of = (2 * np.arange(answers) * (bins - 1) + (answers - 1)) // (2 * (answers - 1))
    member = np.zeros((answers, bins))
    member[np.arange(answers), bin_of] = 1.0
    return np.asarray(given @ member)


def wasserstein_1(values: Floats, p: Floats, q: Floats) -> Floats:
    """∫ |P − Q| of the cumulative shares, in the units of `values` (K,), ascending; shares (..., K)."""
    apart = np.abs(np.cumsum(p, axis=-1) - np.cumsum(q, axis=-1))
    return np.asarray((apart[..., :-1] * np.diff(values)).sum(axis=-1))


def total_variation(p: Floats, q: Floats) -> Floats:
    """Half the sum of absolute differences of shares (..., B), 0 … 1."""
    return np.asarray(np.abs(p - q).sum(axis=-1) / 2)
