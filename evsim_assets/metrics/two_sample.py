"""A classifier two-sample test of pairs: can one tell, given the features, which of two values is whose?

Belongs here: the classifier, its scores out of fold, AUC with an interval, and the permutation test. Not
here: features and answers (`discriminability.py`).

**Scores.** Participants are cut into FOLDS folds; a pair's two rows, and all pairs of a participant, are in
one. A row's score comes from a gradient boosting fitted to the other folds. AUC: the probability that a
random row of the first kind scores above a random row of the second (ties count half).

**Interval.** Participants are resampled, the scores as they are. That misses what people do when fitted to:
by chance in fold A, they teach the classifier that scores fold B, and the other way round. Where nothing can
be told apart, each pair of participants so counts twice, and the variance of the AUC is twice that of the
resamples; where much can, the classifier hardly changes with those fitted to. The distances of the resamples'
quantiles from the AUC are therefore taken √2-fold, on the scale of arcsin √AUC: right for an AUC of 0.5, too
wide by up to 41 % for a high one.

**Why scores out of fold are not permuted.** If the two values of a pair are exchangeable, every participant's
labels may be swapped by the flip of a coin. But swapping the labels of ready scores takes the folds for
independent, and for the same reason the AUC varies more than such swaps do: the test would reject too often.
Refitting after each swap is right, and costs hundreds of times as much.

**The test.** Fold j (j = 2, …) is scored by a classifier fitted to the folds before it only. Given these, the
coins of fold j are still to be thrown: its rows' scores are fixed, and swapping labels within its
participants (PERMUTATIONS times) gives the exact null distribution of its AUC. So each p_j is uniform given
the folds before, hence the p_j are independent, and Stouffer's z = Σ √m_j Φ⁻¹(1 − p_j) / √(Σ m_j), with m_j
the participants fitted to, is standard normal. With one pair a participant this is exact, but for ties (which
count half) and the grid of 1/(PERMUTATIONS + 1). With several pairs, a participant's are swapped together;
then the participants' sums have mean 0 under the null, though they need not be symmetric, and the test holds
for many participants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evsim_assets.metrics.bootstrap import participant_weights
from evsim_assets.metrics.measures import Floats
from evsim_assets.specs.seeds import derived_seed

Ints = npt.NDArray[np.int64]
FOLDS = 5
PERMUTATIONS = 999
LEAF = 20
"""Rows of a leaf at least; a feature that fewer rows have, or lack, can split nothing and is left out."""
BOOSTING: dict[str, Any] = {
    "max_iter": 50,
    "learning_rate": 0.1,
    "max_leaf_nodes": 8,
    "min_samples_leaf": LEAF,
    "early_stopping": False,
    "random_state": 0,
}
FOLDS_DEPEND = np.sqrt(2)
"""By how much the AUC varies more than resampled scores (module's docstring)."""
_CELLS = 4_000_000
"""Weights held at once when AUCs are resampled."""


@dataclass(frozen=True)
class TwoSample:
    """`auc` with its 95 % interval, `accuracy` out of fold, `p_value` (one-sided: AUC above 0.5)."""

    auc: float
    low: float
    high: float
    accuracy: float
    p_value: float


def two_sample(
    features: Floats, first: Floats, second: Floats, participants: Any, *, seed: int, resamples: int
) -> TwoSample:
    """Tells n values `first` from n values `second`, the pairs having `features` (n, F) in common.

    Args:
        participants: ids (n,), of at least 2 · FOLDS different people.
    """
    people, person = np.unique(np.asarray(participants).astype(str), return_inverse=True)
    fold = _folds(people, seed)[person]
    rows = _Rows(features, first, second)
    scores = np.empty((2, len(first)))
    for j in range(FOLDS):
        scores[:, fold == j] = rows.scored(fold != j, fold == j)
    weights = participant_weights(seed, people.tolist(), resamples)
    whole = float(weighted_auc(scores[0], scores[1], np.ones((1, len(people))), person)[0])
    low, high = _interval(whole, weighted_auc(scores[0], scores[1], weights, person))
    accuracy = ((scores[0] > 0.5).mean() + (scores[1] < 0.5).mean() + (scores == 0.5).mean()) / 2
    return TwoSample(whole, low, high, float(accuracy), _p_value(rows, fold, person, seed))


def _interval(auc: float, again: Floats) -> tuple[float, float]:
    """95 %, from AUCs of resamples (module's docstring); within 0 … 1, where every AUC is."""
    angle = np.arcsin(np.sqrt(auc))
    ends = np.arcsin(np.sqrt(np.quantile(again[~np.isnan(again)], [0.025, 0.975])))
    low, high = np.sin(np.clip(angle + FOLDS_DEPEND * (ends - angle), 0, np.pi / 2)) ** 2
    return float(low), float(high)


def weighted_auc(first: Floats, second: Floats, weights: Any, person: Ints) -> Floats:
    """AUCs (R,) of scores (n,) of the first kind against (n,) of the second, for weights (R, P) of people.

    NaN where all weights are 0.
    """
    n = len(first)
    _, level = np.unique(np.concatenate([first, second]), return_inverse=True)
    order = np.argsort(level, kind="stable")
    starts = np.flatnonzero(np.diff(level[order], prepend=-1))
    owner, is_first = np.concatenate([person, person])[order], order < n
    values = np.empty(len(weights))
    step = max(1, _CELLS // (2 * n))
    for at in range(0, len(weights), step):
        each = np.asarray(weights[at : at + step], dtype=np.float64)[:, owner]
        ones = np.add.reduceat(each * is_first, starts, axis=1)
        others = np.add.reduceat(each * ~is_first, starts, axis=1)
        below = np.cumsum(others, axis=1) - others / 2
        whole = ones.sum(axis=1) * others.sum(axis=1)
        won = (ones * below).sum(axis=1)
        values[at : at + step] = np.divide(won, whole, out=np.full(len(won), np.nan), where=whole > 0)
    return values


class _Rows:
    """2n rows: the pairs' features with the first value, and with the second."""

    def __init__(self, features: Floats, first: Floats, second: Floats) -> None:
        common = 2 * features.astype(bool).sum(axis=0)
        kept = features[:, (common >= LEAF) & (common <= 2 * len(features) - LEAF)]
        self._sides = [np.column_stack([kept, value]) for value in (first, second)]

    def scored(self, fitted: Any, asked: Any) -> Floats:
        """Scores (2, m) of the asked pairs by a classifier of the fitted ones; above 0.5: the first kind."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        rows = np.concatenate([side[fitted] for side in self._sides])
        kind = np.repeat([1, 0], len(rows) // 2)
        model = HistGradientBoostingClassifier(**BOOSTING).fit(rows, kind)
        return np.stack([model.predict_proba(side[asked])[:, 1] for side in self._sides])


def _folds(people: npt.NDArray[Any], seed: int) -> Ints:
    """The fold of each participant, by a hash; folds differ by one participant at most."""
    keys = np.array([derived_seed(seed, "folds of the two-sample test", str(person)) for person in people])
    return np.asarray(np.argsort(np.argsort(keys, kind="stable"), kind="stable") % FOLDS, dtype=np.int64)


def _p_value(rows: _Rows, fold: Ints, person: Ints, seed: int) -> float:
    """Stouffer's combination over the folds after the first (module's docstring)."""
    from scipy.special import ndtr, ndtri

    total, squares = 0.0, 0.0
    for j in range(1, FOLDS):
        scores = rows.scored(fold < j, fold == j)
        fitted = len(set(person[fold < j]))
        p = _swapped(scores, person[fold == j], derived_seed(seed, "swaps of the two-sample test", str(j)))
        total, squares = total - np.sqrt(fitted) * float(ndtri(p)), squares + fitted
    return float(ndtr(-total / np.sqrt(squares)))


def _swapped(scores: Floats, person: Ints, seed: int) -> float:
    """How often swapping labels within participants gives a higher AUC than that seen; ties count half.

    A swap leaves the ranks of all rows as they are, so the AUC follows from the sum of (rank of the first −
    rank of the second) over pairs, with a participant's sign turned. Multiples of ½: sums are exact.
    """
    from scipy.stats import rankdata

    ranks = rankdata(scores.ravel()).reshape(scores.shape)
    sums = np.bincount(person, ranks[0] - ranks[1])
    sums = sums[np.unique(person)]
    signs = np.random.default_rng(seed).integers(0, 2, (PERMUTATIONS, len(sums))) * 2 - 1
    again, seen = signs @ sums, sums.sum()
    return float(((again > seen).sum() + ((again == seen).sum() + 1) / 2) / (PERMUTATIONS + 1))
