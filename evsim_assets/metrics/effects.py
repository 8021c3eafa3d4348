"""What interventions do to people's answers, and what they do to a model's.

Belongs here: the tables of effects and of their agreement. Not here: who is compared with whom and the noise
of that (`contrasts.py`), measures of agreement (`effect_agreement.py`), pictures (`effects_figure.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.metrics.bootstrap import RESAMPLES
from evsim_assets.metrics.contrasts import (
    CONTROL,
    Contrasts,
    Effects,
    answer_rows,
    before_after,
    control_arm,
    estimated,
)
from evsim_assets.metrics.effect_agreement import MEASURES, agreement_of
from evsim_assets.metrics.expected import expected_answers, with_factors
from evsim_assets.metrics.measures import Floats

EFFECT_COLUMNS = [
    "temperature",
    "question",
    "intervention",
    "held_out",
    "design",
    "n",
    "n_failed",
    "human_effect",
    "human_low",
    "human_high",
    "simulated_effect",
    "simulated_low",
    "simulated_high",
    "reason",
]
AGREEMENT_COLUMNS = ["temperature", "question", "held_out", "measure", "value", "low", "high", "n", "reason"]
NO_DESIGN = "no question before the intervention is named, and nobody answered without an intervention"
NO_BEFORE = "nobody with an intervention answered the question before it"
NEVER_ANSWERED = "the model answers none of these prompts"
NO_NOISE = "no arm has 2 test participants, so there is no interval"


def effects(
    prompts: pd.DataFrame,
    distributions: pd.DataFrame,
    factors: Mapping[str, Any],
    *,
    before: Mapping[str, str],
    held_out: Collection[str],
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Effects of interventions on test participants, and how well the two sides' effects agree.

    Args:
        prompts: the study's. distributions: the adapter's, at all temperatures.
        factors: `AdapterSpec.factors`, the first columns of both tables.
        before: question → the question that asked the same before the intervention.
        held_out: ids of interventions that were not trained on.

    Returns:
        `effects`: `factors`, then EFFECT_COLUMNS; one row an intervention. Design `before_after`, for a
        question in `before`: the mean over people of answer after − answer before, in scale units; answers
        without an intervention have no part in it. Design `control_arm`, for others with answers without
        an intervention: mean of the arm − mean of those answers. The model's side puts the mean of each
        prompt's exact distribution, given success, in place of the answer; both sides are of the same
        people and by survey weight. `n`: participants of the arm; `n_failed`: their values (answers, or
        pairs of answers) that the model never gives, left out of its side. Intervals: 95 %, over
        participants. A question that offers neither comparison has no rows.

        `effect_agreement`: `factors`, then AGREEMENT_COLUMNS; the measures of `effect_agreement.py` over
        all interventions of a question (`held_out` "all") and, where any are held out, over those ("yes") and
        the others ("no"). `n`: the interventions counted. A null value has a `reason`; a `reason` beside a
        value says why it has no interval.

    Raises:
        BadInput: no prompt in the adapter's wording; a test prompt without its distribution.
    """
    found: list[dict[str, Any]] = []
    agreed: list[dict[str, Any]] = []
    answers = {
        (expected.temperature, expected.human.question): answer_rows(expected)
        for expected in expected_answers(prompts, distributions, factors)
    }
    held = {str(intervention) for intervention in held_out}
    for (temperature, question), rows in answers.items():
        if not rows["intervention"].notna().any():
            continue
        place = {"temperature": temperature, "question": question}
        if question in before:
            contrasts = before_after(question, rows, answers.get((temperature, before[question])))
        else:
            contrasts = control_arm(question, rows)
        why = _no_contrasts(contrasts)
        if why is not None:
            agreed += [place | row for row in _unmeasured(held, why)]
            continue
        made = estimated(contrasts, seed, resamples)
        shown = list(_effect_rows(contrasts, made, held))
        found += [place | row for row in shown]
        agreed += [place | row for row in _agreement_rows(made, shown, bool(held))]
    table = with_factors(found, EFFECT_COLUMNS, factors)
    return table, with_factors(agreed, AGREEMENT_COLUMNS, factors)


def _no_contrasts(contrasts: Contrasts) -> str | None:
    """Why a question with interventions has no effects."""
    if contrasts.design == "before_after":
        return None if contrasts.interventions else NO_BEFORE
    return None if (contrasts.arm == CONTROL).any() else NO_DESIGN


def _effect_rows(contrasts: Contrasts, made: Effects, held: set[str]) -> Iterator[dict[str, Any]]:
    for arm, intervention in enumerate(contrasts.interventions):
        row: dict[str, Any] = {"intervention": intervention, "held_out": intervention in held}
        row |= {"design": contrasts.design, "n": contrasts.people(arm), "n_failed": contrasts.failed(arm)}
        row |= _with_interval("human", made.human[arm], made.human_noise[:, arm])
        row |= _with_interval("simulated", made.simulated[arm], made.simulated_noise[:, arm])
        yield row | {"reason": _reason(row)}


def _with_interval(side: str, effect: float, noise: Floats) -> dict[str, float]:
    low, high = np.quantile(effect + noise, [0.025, 0.975])
    return {f"{side}_effect": float(effect), f"{side}_low": float(low), f"{side}_high": float(high)}


def _reason(row: Mapping[str, Any]) -> str | None:
    if np.isnan(row["simulated_effect"]):
        return NEVER_ANSWERED
    return NO_NOISE if np.isnan(row["human_low"]) else None


def _agreement_rows(
    made: Effects, rows: list[dict[str, Any]], any_held_out: bool
) -> Iterator[dict[str, Any]]:
    held = np.array([row["held_out"] for row in rows], dtype=bool)
    known = ~np.isnan(made.human) & ~np.isnan(made.simulated)
    for name, chosen in (("all", np.ones_like(held)), ("yes", held), ("no", ~held)):
        if name != "all" and not any_held_out:
            continue
        kept = chosen & known
        if not kept.any():
            why = NEVER_ANSWERED if chosen.any() else _none_of(name)
            yield from ({"held_out": name} | row for row in _nulls(why))
            continue
        part = Effects(
            made.human[kept],
            made.simulated[kept],
            made.human_noise[:, kept],
            made.simulated_noise[:, kept],
        )
        yield from ({"held_out": name} | row for row in agreement_of(part))


def _none_of(name: str) -> str:
    return (
        "no intervention of this question is held out" if name == "yes" else "all interventions are held out"
    )


def _unmeasured(held: set[str], why: str) -> Iterator[dict[str, Any]]:
    for name in ("all", "yes", "no") if held else ("all",):
        yield from ({"held_out": name} | row for row in _nulls(why))


def _nulls(why: str) -> list[dict[str, Any]]:
    missing = {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0, "reason": why}
    return [{"measure": measure} | missing for measure in MEASURES]
