"""The model with its personas shuffled: what is left of an agreement where nobody is asked as themselves.

Belongs here: the permutations, and the measures under them. Not here: null models that need no adapter
(`nulls.py`).

A shuffle keeps all that the model says of a question and an intervention, and takes from it only who says
it: each person's prompt gets the answers to the prompt of another, who was asked the same after the same
intervention. Over everybody it moves measures of individuals alone (and those of populations by survey
weights); of a group it tells what the model knows of the group.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.kl_bias import Moments, kl_bias_of_samples
from evsim_assets.metrics.measures import CORRECTED, Floats, kl_bins, rebin
from evsim_assets.metrics.ranks import Pairs, rank_correlation
from evsim_assets.metrics.tallies import (
    POINT_POPULATION,
    Lean,
    Matches,
    Measured,
    Tally,
    by_name,
    measured,
    populations,
    side_by_side,
)
from evsim_assets.simulation.seeded import row_seeds

SHUFFLES = 20
"""Permutations whose measures are averaged."""
OF_GROUPS = 5
"""Permutations, the first of them, whose rank correlations within groups are: ranks are costly."""
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def shuffled_prompts(rows: pd.DataFrame, seed: int, shuffles: int = SHUFFLES) -> Ints:
    """Whose answers each prompt gets: permutations (shuffles, n) within the rows of one intervention.

    `rows` (of one question): participant, order, intervention; a missing intervention is one of its own.
    They follow from the study's `seed`, the participants' ids and the order of their answers alone. The only
    prompt of an intervention keeps its persona.
    """
    arm = pd.factorize(rows["intervention"].astype(object))[0]  # -1: none
    keys = rows["participant"].astype(str) + "|" + rows["order"].astype(str)
    rank = row_seeds(seed, "shuffled persona", keys, shuffles)
    together = np.argsort(arm, kind="stable")
    permuted = np.empty((shuffles, len(rows)), dtype=np.int64)
    for shuffle in range(shuffles):
        permuted[shuffle, together] = np.lexsort((rank[:, shuffle], arm))
    return permuted


def shuffled_measures(
    tally: Tally,
    permuted: Ints,
    human: Ints,
    first: Ints,
    inside: Bools,
    own_weights: Floats,
    counts: Floats,
    pool: Executor,
) -> Measured:
    """The mean over permutations (S, n) of every measure of G groups: (G,) each; NaN where undefined.

    Rank correlations of groups (all but the first, everybody) are of the first OF_GROUPS permutations. A
    corrected KL is less the bias (`kl_bias.py`) that it has under the first of them.

    Args:
        human: the place on the scale of each prompt's human answer, (n,). first: each person's first prompt.
        inside: which prompts are of each group's people, (G, n). own_weights: survey weights, (n,).
        counts: weighted human answers of each group, (G, K), brought to as many as there are.
    """
    shuffles, groups = len(permuted), len(inside)
    weights = inside * own_weights
    model, model_places = side_by_side(tally.of_model)
    lean, light = Lean.of(model), weights.astype(np.float32)
    shift = model.shape[1]
    _, places = side_by_side(tally.paired(permuted[0], human))
    places = model_places | {n: slice(p.start + shift, p.stop + shift) for n, p in places.items()}

    def sums_under(rows: Ints) -> Floats:
        errors, _ = side_by_side(tally.paired(rows, human))
        backwards = np.argsort(rows)  # the prompt that each prompt's answers go to
        own = light @ errors.astype(np.float32)
        return np.concatenate([lean.summed(light[:, backwards]), own], axis=1)

    sums = list(pool.map(sums_under, permuted))
    named = by_name(np.concatenate(sums), places)
    named["weight"] = np.tile(light.sum(axis=1), shuffles)
    found = measured(tally.simulated.human.scale, np.tile(counts, (shuffles, 1)), named)
    values = {key: _mean(value.reshape(shuffles, groups)) for key, value in found.items()}
    for point, given in tally.answered.items():
        values[point, "spearman"] = _correlations(given, permuted, human, inside, own_weights, pool)
    biases = _kl_biases(tally, permuted[0], human, first, inside, own_weights, counts)
    for (point, measure), bias in biases.items():
        values[point, CORRECTED[measure]] = values[point, measure] - bias
    return values | _failures(tally, permuted, inside)


def _kl_biases(
    tally: Tally, rows: Ints, human: Ints, first: Ints, inside: Bools, weights: Floats, counts: Floats
) -> Measured:
    """How much too large each KL of each group is, (G,): what people get does not depend on what they say."""
    scale = tally.simulated.human.scale
    members = inside[:, first].astype(np.float64)

    def moments(answers: Floats, bins: int) -> Moments:
        return Moments.of(members, np.add.reduceat(rebin(answers * weights[:, None], bins), first, axis=0))

    said = np.eye(len(scale.answers))[human]
    with np.errstate(divide="ignore", invalid="ignore"):
        models = populations(tally.of_model | {"human": said})
    found: Measured = {}
    for point, model in models.items():
        for measure in (m for m in CORRECTED if point == "none" or m in POINT_POPULATION):
            bins = kl_bins(measure, scale)
            if point == "human" or bins is None:
                continue
            own, other = moments(said, bins), moments(model[rows], bins)
            with np.errstate(divide="ignore", invalid="ignore"):
                raised = counts.sum(axis=1) / own.counts.sum(axis=1)
                found[point, measure] = kl_bias_of_samples(own.raised(raised), other)
    return found


def _failures(tally: Tally, permuted: Ints, inside: Bools) -> Measured:
    """How many prompts of each group get nobody's answer: (G,) each."""
    lost: dict[str, npt.NDArray[Any]] = dict.fromkeys(tally.points, ~tally.usable)
    if "sample" in tally.of_model:
        drawn = np.bincount(tally.simulated.drawn.prompt, minlength=len(tally.usable))
        lost["sample"] = (drawn - tally.simulated.said.sum(axis=1)) / tally.replicates
    return {
        (point, "n_failed"): inside @ np.mean([failed[rows] for rows in permuted], axis=0)
        for point, failed in lost.items()
    }


def _correlations(
    given: Matches, permuted: Ints, human: Ints, inside: Bools, weights: Floats, pool: Executor
) -> Floats:
    """The rank correlation of every group, (G,)."""
    nobody = np.zeros(0, dtype=np.int64)

    def under(rows: Ints, groups: Bools) -> list[float]:
        to = np.argsort(rows)[given.row]  # the prompt that each prompt's answers go to
        pairs = Pairs(human[to], given.place, weights[to] * given.times, nobody)
        found = []
        for member in groups:
            kept = member[to]
            chosen = Pairs(pairs.first[kept], pairs.second[kept], pairs.weight[kept], nobody)
            found.append(rank_correlation(chosen) if kept.any() else float("nan"))
        return found

    everybody = _mean(np.array(list(pool.map(lambda rows: under(rows, inside[:1]), permuted))))
    others = _mean(np.array(list(pool.map(lambda rows: under(rows, inside[1:]), permuted[:OF_GROUPS]))))
    return np.concatenate([everybody, others])


def _mean(values: Floats) -> Floats:
    """The mean over the first axis of what is defined; NaN where nothing is."""
    defined = np.isfinite(values)
    total = np.where(defined, values, 0).sum(axis=0, dtype=np.float64)
    count = defined.sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
