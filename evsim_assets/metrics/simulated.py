"""One adapter's simulated answers beside the human ones, question by question and temperature by temperature.

Belongs here: which human and simulated answers are put side by side, and how failures count. Not here:
the measures' formulas (`measures.py`), what is measured of whom (`agreement.py`, `tallies.py`).

**The simulated population of a question.** A prompt x has an exact part p(a|x), for texts that
start with a number, and a mass `no_number` whose texts were decoded: a replicate is decoded with
exactly that probability. So over prompts

    q(a) ∝ Σ_x p(a|x) + N · (decoded rows that say a) / (decoded rows),   N = Σ_x no_number(x).

Decoded rows visit prompts in proportion to no_number(x), so their share that says a estimates
Σ_x no_number(x) p(a|x, decoded) / N: the sum is consistent, however many replicates there are.
Adding the decoded rows themselves (divided by replicates) has the same mean, but more noise, and
could show a success rate above 1. The success rate is the sum over a, divided by the prompts.
`off_scale` and `unexpanded` mass never counts as success, and both are reported beside it.

**Survey weights.** Every prompt counts by its person's weight w(x), of mean 1 over the question's test
answers: the sums over x above are of w(x) p(a|x) and w(x) no_number(x), decoded rows count w(x) each, and
the means of measures, errors and masses are weighted. Counts of prompts (`n`, `n_failed`) are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.metrics.drawn import Drawn, Generations, drawn_at
from evsim_assets.metrics.human_answers import HumanAnswers, human_answers
from evsim_assets.metrics.measures import Floats, answer_positions
from evsim_assets.specs.errors import BadInput

LEAST_SUCCESS = 1e-3
"""A prompt answered less often than this has no mean, median, mode, CRPS or NLL: it is counted as failed."""
LOST_MASSES = ("off_scale", "no_number", "unexpanded")
ROW_ORDER = ["participant", "order", "prompt_id"]


@dataclass(frozen=True)
class SimulatedAnswers:
    """One question at one temperature, for n prompts in the order of `human.rows`.

    `exact` (n, K): each prompt's probabilities of the scale's answers. `masses`: LOST_MASSES by name, (n,)
    each. `drawn`: the generations, by row of `human.rows`.
    """

    temperature: float
    human: HumanAnswers
    exact: Floats
    masses: Mapping[str, Floats]
    drawn: Drawn

    @property
    def lost(self) -> dict[str, float]:
        """The weighted mean of each of LOST_MASSES."""
        return {name: float(np.average(m, weights=self.human.weights)) for name, m in self.masses.items()}

    @cached_property
    def said(self) -> Floats:
        """How many of a prompt's generations gave each answer, (n, K)."""
        return self._counts(~np.isnan(self.drawn.answer))

    @cached_property
    def decoded_said(self) -> Floats:
        """How many of a prompt's decoded rows gave each answer, (n, K)."""
        return self._counts(~np.isnan(self.drawn.answer) & self.drawn.decoded)

    @cached_property
    def decodes(self) -> Floats:
        """How many of a prompt's rows were decoded, (n,)."""
        return np.bincount(self.drawn.prompt[self.drawn.decoded], minlength=len(self.exact)).astype(float)

    @cached_property
    def population(self) -> Floats:
        """Expected answers by survey weight, summing to the expected successes: (K,)."""
        weights, decodes = self.human.weights, self.human.weights @ self.decodes
        exact = (weights[:, None] * self.exact).sum(axis=0)
        if decodes <= 0:
            return np.asarray(exact)
        return np.asarray(
            exact + weights @ self.masses["no_number"] * (weights @ self.decoded_said) / decodes
        )

    @cached_property
    def conditional(self) -> Floats:
        """Each prompt's own success mass by answer, (n, K); rows sum to 1 or less."""
        decoded = self.decodes > 0
        if not decoded.any():
            return self.exact
        each = np.divide(
            self.masses["no_number"], self.decodes, out=np.zeros_like(self.decodes), where=decoded
        )
        return np.asarray(self.exact + self.decoded_said * each[:, None])

    @property
    def success_rate(self) -> float:
        """Expected successes per prompt."""
        return float(self.population.sum() / len(self.human.rows))

    @property
    def sampled(self) -> pd.DataFrame:
        """Generations as `prompt` (row of human.rows), `replicate`, `answer` (NaN: failed), `decoded`."""
        drawn = self.drawn
        return pd.DataFrame(
            {
                "prompt": drawn.prompt,
                "replicate": drawn.replicate,
                "answer": drawn.answer,
                "decoded": drawn.decoded,
            }
        )

    def _counts(self, chosen: Any) -> Floats:
        n, answers = self.exact.shape
        at = answer_positions(self.drawn.answer[chosen], self.human.scale)
        counts = np.bincount(self.drawn.prompt[chosen] * answers + at, minlength=n * answers)
        return counts.reshape(n, answers).astype(np.float64)


def simulated_answers(
    prompts: pd.DataFrame, distributions: pd.DataFrame, generations: Generations, factors: Mapping[str, Any]
) -> Iterator[SimulatedAnswers]:
    """Each question of the test split, temperature by temperature (ascending).

    Rows are ordered by participant, order and prompt, whatever the order of `prompts`.

    Raises:
        BadInput: a test prompt without its distribution at some temperature.
    """
    own = own_prompts(prompts, factors["template"]).sort_values(ROW_ORDER, kind="stable")
    humans = list(human_answers(own, factors["answers"], split="test"))
    asked = pd.concat([human.rows for human in humans]) if humans else own.iloc[:0]
    ends = np.cumsum([0, *(len(human.rows) for human in humans)])
    places = [np.arange(first, last) for first, last in pairwise(ends)]
    temperatures = np.sort(distributions["temperature"].unique())
    for temperature in temperatures.tolist():
        read = distributions[distributions["temperature"] == temperature].drop_duplicates("prompt_id")
        row_of = pd.Index(read["prompt_id"]).get_indexer(pd.Index(asked["prompt_id"]))
        drawn = drawn_at(generations, asked, temperature)
        for human, place in zip(humans, places, strict=True):
            exact, masses = _exact_part(human, float(temperature), read, row_of[place])
            yield SimulatedAnswers(float(temperature), human, exact, masses, drawn.of(place))


def _exact_part(
    human: HumanAnswers, temperature: float, read: pd.DataFrame, row_of: Any
) -> tuple[Floats, dict[str, Floats]]:
    """p(a|x) as (n, K), and the masses off the scale's answers as (n,) each, in the prompts' order."""
    missing = np.flatnonzero(row_of < 0)
    if len(missing):
        raise BadInput(
            f"{len(missing)} of {len(row_of)} test prompts of question {human.question!r} have no answer"
            f" distribution at temperature {temperature:g}",
            value=human.rows["prompt_id"].iloc[missing[0]],
            remedy="materialize the answer distributions again",
        )
    ordered = read.iloc[row_of]
    exact = np.array([np.asarray(p) for p in ordered["probabilities"]], dtype=np.float64)
    if exact.shape[1] != len(human.scale.answers):
        raise BadInput(
            f"distributions over {exact.shape[1]} answers for question {human.question!r}, whose scale has"
            f" {len(human.scale.answers)}",
            remedy="materialize the answer distributions again",
        )
    return exact, {name: ordered[name].to_numpy(dtype=np.float64) for name in LOST_MASSES}
