"""The audit of answers that were taken to end unread: which prompts, and what it found.

Belongs here: the choice of prompts that are read to the ends of their numbers, and the judgement. Not here:
reading (`distributions.py`), where a number is taken to end (`number_walk.py`).

A model that was trained on numbers of a scale ends them there: behind the second digit of 0–100 hardly any
mass goes on. `reading: audited` leaves that unread, which saves most of the continuations, and shows on
some prompts how much it leaves out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evsim_assets.specs.study import Audit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def unread_at_most(audit: Audit) -> float:
    """How much of a prompt's distribution may be left unread, so that it does not count beside the limit."""
    return audit.limit / 10


@dataclass(frozen=True)
class AuditFound:
    """What the audit of P prompts at T temperatures found.

    `prompts`: how many were read on, and of those `random` drawn by keyed hash, the others because they
    look unlike the rest. `largest` (T,): the largest mass, among all of them, that goes on behind an answer
    taken to end there; `mean` (T,): the mean over the random ones. `all_in_full`: that was above `limit`, and
    so every prompt was read in full.
    """

    prompts: int
    random: int
    largest: Floats
    mean: Floats
    limit: float
    all_in_full: bool


def to_audit(audit: Audit, tokens: Sequence[Sequence[int]], unlike: Floats) -> tuple[Ints, int]:
    """The numbers of the prompts to read on, and how many of them, the first, are random.

    `unlike` (P,): how little a prompt's distribution looks like those of the others; the largest are taken.
    Which are random follows from their tokens alone.
    """
    size = min(len(tokens), max(audit.at_least, round(audit.share * len(tokens))))
    keys = [
        hashlib.blake2b(np.array(one, dtype=np.int64).tobytes(), digest_size=8).digest() for one in tokens
    ]
    random = sorted(range(len(tokens)), key=keys.__getitem__)[:size]
    drawn = set(random)
    others = [p for p in np.argsort(-unlike, kind="stable").tolist() if p not in drawn][:size]
    return np.array([*random, *others], dtype=np.int64), len(random)


def judged(audit: Audit, goes_on: Floats, random: int) -> AuditFound:
    """The finding, from the mass (prompts, T) that goes on behind answers taken to end; random ones first."""
    largest = goes_on.max(0, initial=0)
    mean = goes_on[:random].mean(0)
    return AuditFound(len(goes_on), random, largest, mean, audit.limit, bool((largest > audit.limit).any()))
