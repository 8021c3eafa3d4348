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

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.measures import Floats
from evsim_assets.metrics.ranks import Pairs, rank_correlation
from evsim_assets.metrics.tallies import Lean, Matches, Measured, Tally, by_name, measured, side_by_side
from evsim_assets.simulation.seeded import row_seeds

SHUFFLES = 20
"""Permutations whose measures are averaged."""
Ints = npt.NDArray[np.int64]


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
    tally: Tally, permuted: Ints, human: Ints, weights: Floats, counts: Floats, pool: Executor
) -> Measured:
    """The mean over permutations (S, n) of every measure of G groups: (G,) each; NaN where undefined.

    The rank correlation is that of the first group alone: everybody.

    Args:
        human: the place on the scale of each prompt's human answer, (n,).
        weights: of each prompt in each group, (G, n).
        counts: weighted human answers of each group, (G, K), brought to as many as there are.
    """
    shuffles, groups = len(permuted), len(weights)
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
        values[point, "spearman"] = np.full(groups, np.nan)
        values[point, "spearman"][0] = _correlation(given, permuted, human, weights[0])
    return values


def _correlation(given: Matches, permuted: Ints, human: Ints, weights: Floats) -> float:
    nobody, found = np.zeros(0, dtype=np.int64), []
    for rows in permuted:
        to = np.argsort(rows)[given.row]
        found.append(rank_correlation(Pairs(human[to], given.place, weights[to] * given.times, nobody)))
    return float(_mean(np.array(found)[:, None])[0])


def _mean(values: Floats) -> Floats:
    """The mean over the first axis of what is defined; NaN where nothing is."""
    defined = np.isfinite(values)
    total = np.where(defined, values, 0).sum(axis=0, dtype=np.float64)
    count = defined.sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
