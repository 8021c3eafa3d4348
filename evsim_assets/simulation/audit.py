"""The audit of answers that were taken to end unread: which prompts, and what it found.

Belongs here: the choice of prompts that are read to the ends of their numbers, and the judgement. Not here:
reading (`distributions.py`), where a number is taken to end (`number_walk.py`).

A model that was trained on numbers of a scale ends them there: behind the second digit of 0–100 hardly any
mass goes on. `reading: audited` leaves that unread, which saves most of the continuations, and shows on
some prompts how much it leaves out. Where nothing was taken to end, as with labels, there is nothing to show.
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
    taken to end there; `mean` (T,): the mean over the random ones (0 without any). `all_in_full`: that was
    above `limit`, and so every prompt was read in full.
    """

    prompts: int
    random: int
    largest: Floats
    mean: Floats
    limit: float
    all_in_full: bool


def audited_at_most(audit: Audit, prompts: int) -> int:
    """How many of so many prompts are read on at most."""
    return min(prompts, 2 * _size(audit, prompts))


def to_audit(
    audit: Audit, tokens: Sequence[Sequence[int]], taken: Floats, unlike: Floats
) -> tuple[Ints, int]:
    """The numbers of the prompts to read on, and how many of them, the first, are random.

    Only prompts with something `taken` (P,) to end are chosen: first at random, which follows from their
    tokens alone, and then by `taken` × `unlike` (P,), the largest.
    """
    some = np.flatnonzero(taken > 0).tolist()
    size = _size(audit, len(some))
    keys = {p: hashlib.blake2b(np.array(tokens[p], dtype=np.int64).tobytes()).digest() for p in some}
    random = sorted(some, key=keys.__getitem__)[:size]
    drawn = set(random)
    by_risk = np.argsort(-taken * unlike, kind="stable").tolist()
    others = [p for p in by_risk if p in keys and p not in drawn][:size]
    return np.array([*random, *others], dtype=np.int64), len(random)


def _size(audit: Audit, prompts: int) -> int:
    return min(prompts, max(audit.at_least, round(audit.share * prompts)))


def unlike_others(mass: Floats, kind: Ints) -> Floats:
    """How unlike the mean of the others of its kind (P,) each distribution (P, outcomes) is: their total
    variation, between 0 and 1; 1 for the only one of a kind."""
    unlike = np.ones(len(mass))
    for of_one in np.unique(kind):
        those = np.flatnonzero(kind == of_one)
        if len(those) > 1:
            others = (mass[those].sum(0) - mass[those]) / (len(those) - 1)
            unlike[those] = np.abs(mass[those] - others).sum(1) / 2
    return unlike


def judged(audit: Audit, goes_on: Floats, random: int) -> AuditFound:
    """The finding, from the mass (prompts, T) that goes on behind answers taken to end; random ones first."""
    largest = goes_on.max(0, initial=0)
    mean = goes_on[:random].sum(0) / max(random, 1)
    return AuditFound(len(goes_on), random, largest, mean, audit.limit, bool((largest > audit.limit).any()))
