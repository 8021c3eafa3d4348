"""Rank correlation of many pairs, and how it moves as people count more or less.

Belongs here: Spearman's correlation of weighted pairs of places, and its first-order term for a bootstrap.
Not here: the plain measure of two lists (`measures.spearman`), resampling weights (`bootstrap.py`).

Ranks of all pairs anew in each of a thousand replicates would cost more than all other measures together.
So a replicate takes the correlation's derivative with respect to how much each person counts (its influence
function, ranks included), on Fisher's scale atanh ρ, where its spread hardly depends on ρ: it never
leaves −1 … 1, and agrees with ranks taken anew as the number of pairs grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evsim_assets.metrics.measures import Floats

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """m pairs of answers, as places 0, 1, … among the values of each side; (m,) each.

    `weight` how much the pair counts, `person` whose it is: an index among some participants.
    """

    first: Ints
    second: Ints
    weight: Floats
    person: Ints

    def of(self, member: npt.NDArray[np.bool_]) -> Pairs:
        """The pairs of some people, by whether each person is one of them."""
        kept = member[self.person]
        return Pairs(self.first[kept], self.second[kept], self.weight[kept], self.person[kept])


@dataclass(frozen=True)
class Correlation:
    """Spearman's ρ (NaN where a side is constant), and what each of P people adds on Fisher's scale.

    `pull` (P,): the derivative of atanh ρ by a person's share, times their share; sums to 0. `share` (P,).
    """

    value: float
    pull: Floats
    share: Floats

    def replicates(self, pulled: npt.NDArray[Any], counted: npt.NDArray[Any]) -> Floats:
        """ρ in replicates, from the sums of `pull` and of `share`, each by how often people count: (B,)."""
        if np.isnan(self.value):
            return np.full(np.shape(pulled), np.nan)
        if abs(self.value) >= 1 - 1e-9:  # and stays there, whoever is left out
            return np.where(counted > 0, self.value, np.nan)
        moved = np.divide(pulled, counted, out=np.full(np.shape(pulled), np.nan), where=counted > 0)
        return np.asarray(np.tanh(np.arctanh(self.value) + moved))


def rank_correlation(pairs: Pairs) -> float:
    """Spearman's rank correlation, ties at their mean rank, each pair counted by its weight.

    NaN where a side is constant, or nothing counts.
    """
    total = pairs.weight.sum()
    if not total > 0 or _one_value(pairs.first) or _one_value(pairs.second):
        return float("nan")
    share = pairs.weight / total
    u, v = _centred(pairs.first, share), _centred(pairs.second, share)
    own, other = share @ u**2, share @ v**2
    if not own * other > 0:
        return float("nan")
    return float(np.clip(share @ (u * v) / np.sqrt(own * other), -1, 1))


def correlation(pairs: Pairs, people: int) -> Correlation:
    """`rank_correlation`, and its first-order term for each of P = `people`.

    With mid-distribution functions F, G and U = F − ½, V = G − ½ (of mean 0), ρ = ⟨UV⟩ / √(⟨U²⟩⟨V²⟩). A
    pair z = (x, y) that counts a little more moves ⟨UV⟩ by U_x V_y + S_V(x) + S_U(y) − 3⟨UV⟩, where
    S_V(x) is the sum of V over pairs whose first answer is above x, and half of those beside; ⟨U²⟩ by
    U_x² + 2 S_U(x) − 3⟨U²⟩.
    """
    total = pairs.weight.sum()
    cells, of_pair = _cells(pairs)
    value = rank_correlation(cells)
    if np.isnan(value):
        return Correlation(value, np.zeros(people), np.zeros(people))
    share = cells.weight / total
    u, v = _centred(cells.first, share), _centred(cells.second, share)
    own, other, both = share @ u**2, share @ v**2, share @ (u * v)
    moves_both = u * v + _above(cells.first, share * v) + _above(cells.second, share * u) - 3 * both
    moves_own = u**2 + 2 * _above(cells.first, share * u) - 3 * own
    moves_other = v**2 + 2 * _above(cells.second, share * v) - 3 * other
    influence = moves_both / np.sqrt(own * other) - value / 2 * (moves_own / own + moves_other / other)
    steep = 1 - value**2
    of_pairs = pairs.weight / total
    pull = np.bincount(pairs.person, of_pairs * influence[of_pair], minlength=people)
    return Correlation(
        value,
        pull / steep if steep > 0 else np.zeros(people),
        np.bincount(pairs.person, of_pairs, minlength=people).astype(np.float64),
    )


def _cells(pairs: Pairs) -> tuple[Pairs, Ints]:
    """Equal pairs taken together, and which of them each pair is; many samples are few different pairs."""
    width = int(pairs.second.max(initial=0)) + 1
    size = width * (int(pairs.first.max(initial=0)) + 1)
    if size > len(pairs.first):
        return pairs, np.arange(len(pairs.first))
    cell = pairs.first * width + pairs.second
    weight = np.bincount(cell, pairs.weight, minlength=size).astype(np.float64)
    first, second = np.divmod(np.flatnonzero(weight), width)
    number = np.zeros(size, dtype=np.int64)
    number[weight > 0] = np.arange(len(first))
    nobody = np.zeros(0, dtype=np.int64)
    return Pairs(first, second, weight[weight > 0], nobody), number[cell]


def _one_value(places: Ints) -> bool:
    return bool(places.min() == places.max())


def _centred(places: Ints, share: Floats) -> Floats:
    """Each pair's mid-rank as a share, less one half: (m,)."""
    beside = np.bincount(places, share)
    return np.asarray((np.cumsum(beside) - beside / 2)[places] - 0.5)


def _above(places: Ints, amount: Floats) -> Floats:
    """The sum of `amount` over pairs of a higher place, and half of it over those of the same: (m,)."""
    beside = np.bincount(places, amount)
    return np.asarray((beside[::-1].cumsum()[::-1] - beside / 2)[places])
