"""Every row's own randomness: seeds of a prompt's replicates, and uniform numbers from a seed.

Belongs here: SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"),
which makes the k-th number of a stream without those before it, for any number of streams at once. Not
here: what a seed is for (`specs/seeds.py`), what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from evsim_assets.specs.seeds import derived_seed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_Words = npt.NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def row_seeds(study_seed: int, purpose: str, keys: Iterable[str], replicates: int) -> Ints:
    """63-bit seeds (keys, replicates). A replicate's does not depend on how many are asked for."""
    streams = np.array([derived_seed(study_seed, purpose, key) for key in keys], dtype=np.uint64)
    return (splitmix64(streams, replicates) >> np.uint64(1)).astype(np.int64)


def uniforms(seed: Ints, count: int) -> Floats:
    """The first `count` numbers in [0, 1) of each seed's stream: (n, count), multiples of 2^−53."""
    return (splitmix64(seed.astype(np.uint64), count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def splitmix64(seed: _Words, count: int) -> _Words:
    """The first `count` words of each seed's stream: (n, count)."""
    word = seed[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    word = (word ^ (word >> np.uint64(30))) * _FIRST
    word = (word ^ (word >> np.uint64(27))) * _SECOND
    return word ^ (word >> np.uint64(31))
