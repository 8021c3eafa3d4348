"""Effects of interventions on the same people's answers, human and simulated, with their sampling noise.

Belongs here: who is compared with whom (the designs), means by arm, and how far these means would lie off
with other participants. Not here: how well two sets of effects agree (`effect_agreement.py`).

**Noise.** With other participants an arm's mean would be off by D = Σ_x w(x) e(x) / Σ_x w(x), e the
residual of an answer from its arm's mean. An arm of SMALL people or more resamples its own: e is multiplied
with the participant's bootstrap weight (one for all of a person's answers and for both sides, which keeps
humans and model paired, and arms that share people correlated). A smaller arm tells too little of its own
variance, one of a single person nothing: its e are drawn from the residuals of all arms of the question, a
person's human and simulated residual always together. That takes answers to vary alike in all arms.
Residuals of an arm of n people are raised by √(n/(n−1)), as they are taken from the arm's own mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.bootstrap import participant_weights
from evsim_assets.metrics.expected import ExpectedAnswers
from evsim_assets.metrics.measures import Floats
from evsim_assets.specs.seeds import derived_seed

Ints = npt.NDArray[np.int64]
SMALL = 30
"""People below which an arm borrows the residuals of the question's other arms."""
CONTROL = -1
"""The arm of people who read no intervention."""


@dataclass(frozen=True)
class Contrasts:
    """n values in arms of one question: answers, or differences of a person's answers after and before.

    `interventions`: names of arms 0, 1, …. `arm` (n,): place among them, or CONTROL. `participant` (n,).
    `human`, `simulated` (n,): in scale units; `simulated` is NaN where the model never answers. `weights`
    (n,): survey weights.
    """

    question: str
    design: str
    interventions: tuple[str, ...]
    arm: Ints
    participant: npt.NDArray[np.object_]
    human: Floats
    simulated: Floats
    weights: Floats

    def people(self, arm: int) -> int:
        """Participants in an arm."""
        return len(set(self.participant[self.arm == arm]))

    def failed(self, arm: int) -> int:
        """Values of an arm that the model has none for."""
        return int(np.isnan(self.simulated[self.arm == arm]).sum())


@dataclass(frozen=True)
class Effects:
    """Effects of k interventions: `human`, `simulated` (k,), NaN where there is none, and how far they would
    be off in each of R resamples: `human_noise`, `simulated_noise` (R, k), NaN where that is not known."""

    human: Floats
    simulated: Floats
    human_noise: Floats
    simulated_noise: Floats


def answer_rows(expected: ExpectedAnswers) -> pd.DataFrame:
    """participant | order | intervention | human | simulated | weight, one row a prompt."""
    asked = expected.human.rows
    return pd.DataFrame(
        {
            "participant": asked["participant"].to_numpy(dtype=object),
            "order": asked["order"].to_numpy(),
            "intervention": asked["intervention"].to_numpy(dtype=object),
            "human": expected.human.answers.astype(float),
            "simulated": expected.means,
            "weight": expected.human.weights,
        }
    )


def before_after(question: str, after: pd.DataFrame, before: pd.DataFrame | None) -> Contrasts:
    """After − before of each person: every answer that followed an intervention, less the person's last
    answer to the earlier question that came before it. Who has none is in no arm.

    `after`, `before`: `answer_rows` of the two questions; None where nobody answered the earlier one.
    """
    rows = after[after["intervention"].notna()]
    pairs = rows.merge(
        rows.iloc[:0] if before is None else before, on="participant", suffixes=("", "_before")
    )
    pairs = pairs[pairs["order_before"] < pairs["order"]].sort_values(
        ["participant", "order", "order_before"], kind="stable"
    )
    pairs = pairs.drop_duplicates(["participant", "order"], keep="last")
    for side in ("human", "simulated"):
        pairs[side] = pairs[side] - pairs[f"{side}_before"]
    return _contrasts(question, "before_after", pairs)


def control_arm(question: str, rows: pd.DataFrame) -> Contrasts:
    """`answer_rows` in arms; the control is the answers that followed no intervention."""
    return _contrasts(question, "control_arm", rows)


def estimated(contrasts: Contrasts, seed: int, resamples: int) -> Effects:
    """The effects of `contrasts.interventions`, humans and model, with their noise (module's docstring)."""
    arms = range(len(contrasts.interventions))
    draws = _Draws(contrasts, seed, resamples)
    sides = {}
    for side in ("human", "simulated"):
        means, noise = draws.of(side)
        sides[side] = np.array([means[arm] for arm in arms]), np.stack([noise[arm] for arm in arms], axis=1)
        if contrasts.design == "control_arm":
            own, own_noise = sides[side]
            sides[side] = own - means[CONTROL], own_noise - noise[CONTROL][:, None]
    return Effects(sides["human"][0], sides["simulated"][0], sides["human"][1], sides["simulated"][1])


def _contrasts(question: str, design: str, rows: pd.DataFrame) -> Contrasts:
    names = tuple(sorted(str(name) for name in rows["intervention"].dropna().unique()))
    arm = pd.Index(names, dtype=object).get_indexer(pd.Index(rows["intervention"], dtype=object))
    return Contrasts(
        question,
        design,
        names,
        arm.astype(np.int64),  # get_indexer says -1 of what is in no list: the control
        rows["participant"].to_numpy(dtype=object),
        rows["human"].to_numpy(dtype=float),
        rows["simulated"].to_numpy(dtype=float),
        rows["weight"].to_numpy(dtype=float),
    )


class _Draws:
    """Which residuals each arm gets in each resample: the same for humans and model."""

    def __init__(self, contrasts: Contrasts, seed: int, resamples: int) -> None:
        self._of, self._seed, self._resamples = contrasts, seed, resamples
        people, self._person = np.unique(contrasts.participant.astype(str), return_inverse=True)
        self._weights = participant_weights(seed, people.tolist(), resamples)
        self._rows = {int(arm): np.flatnonzero(contrasts.arm == arm) for arm in np.unique(contrasts.arm)}
        alone = {arm for arm in self._rows if contrasts.people(arm) < 2}
        lent = ~np.isin(contrasts.arm, sorted(alone))
        answered = ~np.isnan(contrasts.simulated)
        self._lent = np.flatnonzero(lent & (answered if (lent & answered).any() else True))
        self._borrowed = {arm: self._borrow(arm) for arm in self._rows if contrasts.people(arm) < SMALL}

    def of(self, side: str) -> tuple[dict[int, float], dict[int, Floats]]:
        """Of one side: each arm's mean, and its deviations (R,)."""
        values = getattr(self._of, side)
        counted = np.where(np.isnan(values), 0.0, self._of.weights)
        known = np.nan_to_num(values)
        means, residuals = {}, np.zeros(len(values))
        for arm, rows in self._rows.items():
            total = counted[rows].sum()
            means[arm] = float(counted[rows] @ known[rows] / total) if total > 0 else np.nan
            residuals[rows] = self._raised(rows, counted, known[rows] - means[arm]) if total > 0 else np.nan
        pool = residuals[self._lent]
        pool = pool - pool.mean() if len(pool) else pool
        noise = {arm: self._noise(arm, counted, residuals, pool) for arm in self._rows}
        return means, noise

    def _raised(self, rows: Ints, counted: Floats, residuals: Floats) -> Floats:
        """Residuals of an arm as if from its true mean; by people, as answers of one person go together."""
        of_people = np.bincount(self._person[rows], counted[rows])
        people = of_people.sum() ** 2 / (of_people**2).sum()
        return residuals * np.sqrt(people / (people - 1)) if people > 1 + 1e-9 else residuals

    def _borrow(self, arm: int) -> Ints:
        """Places in the pool (R, rows of the arm); none, if there is no pool."""
        rows = self._rows[arm]
        if not len(self._lent):
            return np.empty((self._resamples, 0), dtype=np.int64)
        name = "" if arm == CONTROL else self._of.interventions[arm]
        key = f"{self._of.question}\n{arm == CONTROL}\n{name}"
        rng = np.random.default_rng(derived_seed(self._seed, "residuals of small arms", key))
        return rng.integers(0, len(self._lent), (self._resamples, len(rows)))

    def _noise(self, arm: int, counted: Floats, residuals: Floats, pool: Floats) -> Floats:
        rows = self._rows[arm]
        total = counted[rows].sum()
        if total <= 0 or (arm in self._borrowed and not len(pool)):
            return np.full(self._resamples, np.nan)
        if arm in self._borrowed:
            return np.asarray(pool[self._borrowed[arm]] @ counted[rows] / total)
        pulls: Any = np.bincount(
            self._person[rows], counted[rows] * residuals[rows], minlength=self._weights.shape[1]
        )
        return np.asarray(self._weights @ pulls / total)
