"""Seeds and uniform numbers of rows: SplitMix64, and nothing that depends on a neighbour."""

from __future__ import annotations

import numpy as np
from scipy.stats import kstest

from evsim_assets.simulation.seeded import row_seeds, splitmix64, uniforms


def test_the_stream_is_the_published_one() -> None:
    words = splitmix64(np.array([1234567, 0], dtype=np.uint64), 5)
    assert words[0].tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]  # the published reference implementation's first words
    assert hex(words[1, 0]) == "0xe220a8397b1dcdaf"


def test_a_rows_seed_depends_on_its_key_and_replicate_alone() -> None:
    many = row_seeds(7, "generation", ["a", "b", "c"], 50)
    few = row_seeds(7, "generation", ["c", "a"], 3)
    assert (few == many[[2, 0], :3]).all()
    assert len(np.unique(many)) == 150
    assert many.min() >= 0
    assert not np.isin(row_seeds(8, "generation", ["a"], 50), many).any()
    assert not np.isin(row_seeds(7, "else", ["a"], 50), many).any()


def test_numbers_are_uniform_within_and_across_rows() -> None:
    seeds = row_seeds(0, "generation", map(str, range(2000)), 5)
    first = uniforms(seeds.ravel(), 1)[:, 0]
    assert kstest(first, "uniform").pvalue > 0.001
    pairs = first.reshape(2000, 5)
    assert np.abs(np.corrcoef(pairs.T) - np.eye(5)).max() < 0.1
    several = uniforms(seeds[0, :1], 10_000)[0]
    assert kstest(several, "uniform").pvalue > 0.001
    assert (uniforms(seeds[0, :1], 3)[0] == several[:3]).all()
    assert several.min() >= 0
    assert several.max() < 1
