"""How a survey's waves differ: who takes part, what they answer, and what of it is mere noise.

Belongs here: the table of drift, what is compared with what, its summary. Not here: the measures
(`drift_measures.py`), intervals and floors (`drift_noise.py`), reading answers from SQL
(`drift_people.py`), the picture (`drift_figure.py`), how models differ from people (`metrics/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.specs.seeds import derived_seed
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.drift_measures import MEASURES, MODERATE, Measure, Sides, severity
from evsim_assets.surveys.drift_noise import (
    PEOPLE,
    ROUNDING,
    Draws,
    drawn_counts,
    draws_of,
    interval,
    without_drift,
)
from evsim_assets.surveys.drift_people import People, Subject, WavePeople, wave_people

FALSE_ALARMS = 0.05
"""The share of values above `floor_95` where nothing drifts."""
COLUMNS = {
    "wave": "object",
    "reference": "object",
    "reference_waves": "object",
    "kind": "object",
    "name": "object",
    "measure": "object",
    "value": "float64",
    "low": "float64",
    "high": "float64",
    "floor": "float64",
    "floor_95": "float64",
    "n_wave": "int64",
    "n_reference": "int64",
    "drifted": "bool",
    "severity": "object",
    "reason": "object",
}


def drift(waves: Sequence[Path], survey: SurveySpec, seed: int = 0) -> pd.DataFrame:
    """One row per wave after the first, reference, demographic or question, and measure: COLUMNS.

    Args:
        waves: `clean_wave` tables, in any order of files and rows (not `responses`, where the policy for
            people of several waves may have set answers aside). Who is in several waves counts in each.
        survey: the codebook.
        seed: other seeds give other replicates; the same one gives the same table.

    `reference` is `previous` (the wave before) or `earlier` (all earlier waves pooled);
    `reference_waves` are those of them in which the demographic or question is known (all, where it is in
    none). Where both have the same `reference_waves`, as they do in the second wave, they are one
    comparison, and there once, as `previous`. Categories of
    a demographic are its options and "not known"; one with several options a person counts every
    option named. Answers are those of `answer_scale`, over all interventions.

    `psi` is Σ (p − q) ln(p / q) over categories, with SMOOTHING; answers on long scales are in the 11 bins
    of the metrics. `total_variation` (0 … 1) has the same categories, `wasserstein` is in scale units
    over single answers. Weights are brought to a mean of one in each wave, so that a wave counts in a
    pooled reference by its size and not by the unit of its weights.

    `low` and `high` are a 95 % bootstrap interval: `high` a percentile, `low` the inversion of a test.
    These measures are never negative, so noise pushes them upwards, and replicates of a sample
    twice: with percentiles alone, small drift would often lie below the interval. `low` is 0 where the
    value is no higher than noise.

    `floor` and `floor_95` are the mean and the 95 % quantile of the measure without drift. `drifted`:
    above `floor_95` and, for psi, at least MODERATE; without any drift at most 5 % of rows are.
    `severity` is for psi alone. What is undefined has a `reason`, and NaN for its numbers.

    Raises:
        BadInput: an answer, label or question that the codebook does not have.
    """
    with wave_people(waves, survey) as people:
        names = people.waves
        rows: list[dict[str, Any]] = []
        for at, wave in enumerate(names[1:], 1):
            earlier, previous = names[:at], names[at - 1 : at]
            pooled = [s for s in people.subjects if s.known_in(earlier) != s.known_in(previous)]
            for kind, reference, subjects in (
                ("earlier", earlier, pooled),
                ("previous", previous, people.subjects),
            ):
                found = _pair_rows(people, subjects, survey, wave, reference, seed) if subjects else ()
                rows += [{"wave": wave, "reference": kind} | row for row in found]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for column in ("severity", "reason"):
        table[column] = table[column].astype(object).where(table[column].notna(), None)
    return table.astype(COLUMNS)


def drift_summary(table: pd.DataFrame) -> tuple[bool, str]:
    """Whether no PSI says that a wave drifted, and which did by how much, in a few lines.

    Wasserstein and total variation tell more of what drifted but do not decide: 5 % of their rows are
    flagged without any drift. PSI's too, where waves are so small that noise alone passes MODERATE;
    the lines say how many such alarms to expect.
    """
    if table.empty:
        return True, "one wave only: there is nothing to compare"
    lines, drifted = [], 0
    for (wave, reference), part in table.groupby(["wave", "reference"], sort=False):
        psi = part[(part["measure"] == "psi") & part["drifted"]].sort_values("value", ascending=False)
        compared = part[(part["measure"] == "psi") & part["value"].notna()]
        undefined = part[(part["measure"] == "psi") & part["value"].isna()]
        drifted += len(psi)
        told = [_told(row, part) for _, row in psi.iterrows()]
        line = f"{wave} against {reference}: {len(psi)} of {len(compared)} drifted"
        line += f" ({'; '.join(told)})" if told else ""
        chance = FALSE_ALARMS * (compared["floor_95"] >= MODERATE).sum()
        line += f"; noise alone would flag about {max(chance, 1):.0f} of so many" if chance >= 0.5 else ""
        line += f"; {len(undefined)} not compared" if len(undefined) else ""
        lines.append(line)
    return drifted == 0, "\n".join(lines)


def _told(row: pd.Series, part: pd.DataFrame) -> str:
    words = f"{row['name']}: PSI {row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}], {row['severity']}"
    apart = part[(part["name"] == row["name"]) & (part["kind"] == row["kind"])]
    apart = apart[apart["measure"] == "wasserstein"]
    return words + (f", {apart['value'].iloc[0]:.1f} points apart" if len(apart) else "")


# --- one wave against one reference --------------------------------------------------------------


def _pair_rows(
    people: WavePeople,
    subjects: Sequence[Subject],
    survey: SurveySpec,
    wave: str,
    reference: tuple[str, ...],
    seed: int,
) -> Iterator[dict[str, Any]]:
    drawn = people.drawn(wave, reference, PEOPLE)
    draws = draws_of(drawn, derived_seed(seed, "drift", repr((survey.name, wave, reference))))
    for subject in subjects:
        usable = subject.known_in(reference)
        place: dict[str, Any] = {"reference_waves": ", ".join(usable or reference)}
        place |= {"kind": subject.kind, "name": subject.name}
        sides = _sides(people, drawn, subject, wave, usable)
        place |= {"n_wave": sides.wave_people, "n_reference": sides.reference_people, "drifted": False}
        reason = _reason(survey, subject, wave, reference, usable)
        if reason:
            yield from (place | {"measure": m, "reason": reason} for m in MEASURES[subject.kind])
        else:
            yield from (place | row for row in _measured(subject, sides, drawn, draws))


def _reason(
    survey: SurveySpec, subject: Subject, wave: str, reference: tuple[str, ...], usable: tuple[str, ...]
) -> str | None:
    """Why the subject has no measure between the wave and the reference; None where it has."""
    without = [] if wave in subject.counts else [wave]
    without += [] if usable else list(reference)
    if not without:
        return None
    asked = any(subject.is_asked(survey.for_wave(name)) for name in without)
    nobody = "known of nobody" if subject.kind == "demographic" else "answered by nobody"
    return f"{nobody if asked else 'not asked'} in {', '.join(without)}"


def _sides(people: WavePeople, drawn: People, subject: Subject, wave: str, usable: tuple[str, ...]) -> Sides:
    empty = np.zeros(subject.categories)
    totals = [subject.counts.get(wave, empty), sum((subject.counts[name] for name in usable), empty)]
    sizes = [float(total.sum()) for total in totals]
    counted = people.count(subject, (wave,)), people.count(subject, usable)
    footing = [n / size if size else 0.0 for n, size in zip(counted, sizes, strict=True)]
    of_wave, of_reference = (
        (drawn.counts(subject, names) * foot).astype(np.float32)
        for names, foot in zip(((wave,), usable), footing, strict=True)
    )
    return Sides(
        totals[0] * footing[0], totals[1] * footing[1], *counted, sizes[0], sizes[1], of_wave, of_reference
    )


def _measured(subject: Subject, sides: Sides, drawn: People, draws: Draws) -> Iterator[dict[str, Any]]:
    own = drawn_counts(sides.of_wave, draws.own), drawn_counts(sides.of_reference, draws.own)
    null = without_drift(sides, drawn, draws)
    for measure in MEASURES[subject.kind]:
        of = Measure(measure, subject, sides)
        value = float(of(sides.wave, sides.reference))
        noise = of(*null)
        noise = noise[np.isfinite(noise)] if np.isfinite(noise).any() else np.zeros(1)
        limit = float(np.quantile(noise, 1 - FALSE_ALARMS))
        above = value > limit + ROUNDING
        low, high = interval(of, sides, own, value)
        yield {
            "measure": measure,
            "value": value,
            "low": low if above else 0.0,
            "high": high,
            "floor": float(noise.mean()),
            "floor_95": limit,
            "drifted": above and (measure != "psi" or value >= MODERATE),
            "severity": severity(value) if measure == "psi" else None,
        }
