"""By how much KL is too large for being measured between finite samples of people.

Belongs here: the bias that a bootstrap over participants would find, in closed form. Not here: KL
itself (`measures.py`), the bootstrap (`bootstrap.py`).

To second order, with shares p of the humans and q of the model, smoothed as in `measures.kl`,

    bias = Σ_b ½ Var(p_b)/p_b − Cov(p_b, q_b)/q_b + ½ p_b Var(q_b)/q_b²,

where variances are those of drawing participants, with all their answers, with replacement. Between
two samples of n people who answer once it is about (bins − 1)/n, of a sample and a fixed model half
of that. A bootstrap inside every resample of a noise floor would cost a thousand times as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evsim_assets.metrics.measures import SMOOTHING, Floats


@dataclass(frozen=True)
class Moments:
    """Sums over the participants i of samples, for weights x_ib of answers in bins b and t_i = Σ_b x_ib.

    `counts` Σ x_ib, `squares` Σ x_ib², `crossed` Σ x_ib t_i: (..., B); `totals` Σ t_i²: (...).
    """

    counts: Floats
    squares: Floats
    crossed: Floats
    totals: Floats

    @classmethod
    def of(cls, drawn: Floats, answered: Floats) -> Moments:
        """Of samples: `drawn` (..., people) says how often each is in it, `answered` is (people, B)."""
        total = answered.sum(axis=1)
        return cls(
            drawn @ answered, drawn @ answered**2, drawn @ (answered * total[:, None]), drawn @ total**2
        )

    def raised(self, factor: Floats) -> Moments:
        """Those of all weights times `factor` (...)."""
        column = factor[..., None]
        return Moments(
            self.counts * column,
            self.squares * column**2,
            self.crossed * column**2,
            self.totals * factor**2,
        )

    @property
    def variances(self) -> Floats:
        """Of each bin's share, Σ_i (x_ib − share_b t_i)² / (Σ t)²: (..., B)."""
        size = self.counts.sum(axis=-1, keepdims=True)
        share = self.counts / size
        spread = self.squares - 2 * share * self.crossed + share**2 * self.totals[..., None]
        return np.asarray(spread / size**2)


def kl_bias_of_samples(human: Moments, model: Moments, smoothing: float = SMOOTHING) -> Floats:
    """The bias of `kl(human.counts, …)` between samples of different people: (...)."""
    size = human.counts.sum(axis=-1, keepdims=True)
    p, shrunk = _smoothed(human.counts / size, size, smoothing)
    q, _ = _smoothed(model.counts / model.counts.sum(axis=-1, keepdims=True), size, smoothing)
    terms = human.variances / p + p * model.variances / q**2
    return np.asarray((shrunk**2 * terms).sum(axis=-1) / 2)


def kl_bias_of_model(human: Floats, model: Floats, smoothing: float = SMOOTHING) -> float:
    """The bias where participants bring both their answers and what the model says of them.

    `human`, `model`: (people, B), each participant's weights of answers in bins. A model that says the
    same of everyone has no share in the bias.
    """
    size = np.array([human.sum()])
    (share, apart), (said, said_apart) = _linear(human), _linear(model)
    p, shrunk = _smoothed(share, size, smoothing)
    q, _ = _smoothed(said, size, smoothing)
    terms = (apart**2).sum(0) / p - 2 * (apart * said_apart).sum(0) / q + p * (said_apart**2).sum(0) / q**2
    return float((shrunk**2 * terms).sum() / 2)


def _linear(answered: Floats) -> tuple[Floats, Floats]:
    """Shares (B,), and what each participant moves them by (people, B)."""
    size = answered.sum()
    share = answered.sum(axis=0) / size
    return share, (answered - share * answered.sum(axis=1, keepdims=True)) / size


def _smoothed(share: Floats, size: Floats, smoothing: float) -> tuple[Floats, Floats]:
    """Shares with pseudo-counts, and how much less they move for it; `size` (..., 1)."""
    total = size + smoothing * share.shape[-1]
    return (share * size + smoothing) / total, size / total
