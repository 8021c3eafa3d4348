"""Seeds and ranks follow from what they are for, and from nothing else."""

import hashlib

import numpy as np

from evsim_assets.specs.seeds import derived_seed, keyed_rank


def test_a_seed_is_the_same_everywhere_and_differs_in_every_part() -> None:
    parts = b"".join(len(p).to_bytes(4, "big") + p for p in (b"7", b"train", b"s~qlora"))
    expected = int.from_bytes(hashlib.blake2b(parts, digest_size=8).digest(), "big") // 2
    assert derived_seed(7, "train", "s~qlora") == expected
    purposes = [(8, "train", "s"), (7, "train", "s"), (7, "test", "s"), (7, "trains", "")]
    others = {derived_seed(*parts) for parts in purposes}
    assert len(others) == 4 and all(0 <= seed < 2**63 for seed in others)


def test_parts_do_not_run_into_each_other() -> None:
    assert derived_seed(0, "ab", "c") != derived_seed(0, "a", "bc")


def test_ranks_are_uniform_in_zero_to_one() -> None:
    ranks = np.array([keyed_rank("split:x", str(i)) for i in range(4000)])
    assert ranks.min() >= 0 and ranks.max() < 1
    counts, _ = np.histogram(ranks, bins=10, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001
