"""How a survey's waves differ: who takes part, what they answer, and what of it is mere noise.

Belongs here: measures of drift between waves, their intervals and their floors. Not here: the
picture (`drift_figure.py`), reading answers from SQL (`drift_people.py`), how models differ from
people (`metrics/`).

Intervals and floors rest on participants, with all their answers. A replicate draws as many of them as
there are, with replacement, apart for those in the wave alone, in the reference alone and in both.
Of more than PEOPLE in one of these groups, only the PEOPLE first by a keyed hash are drawn from:
shares are means over people, so a replicate's deviation from the sample's mean, times √(PEOPLE / n) a
person, has the spread that n people have; it is added to the shares of everybody. Nothing is
scaled after the measure, which is not linear.

The floor is what the measure is where both waves are drawn from the two together: people of one side
alone are drawn from both sides' pool, those in both keep their pair and swap its sides at random.
Where a side's people differ in how much each tells (more answers, other weights), its deviations
are brought to that side's own variance (a first-order correction as of Rao and Scott, 1981).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.specs.seeds import derived_seed
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.drift_people import People, Subject, WavePeople, wave_people

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

REPLICATES = 1000
PEOPLE = 5_000
ROUNDING = 1e-12
"""Differences below it are of floating point alone."""
FALSE_ALARMS = 0.05
"""The share of values above `floor_95` where nothing drifts."""
SMOOTHING = 0.5
"""Jeffreys' pseudo-count, added on both sides to every category that either side has."""
MODERATE, LARGE = 0.1, 0.25
"""The usual thresholds of the population stability index: N. Siddiqi, Credit Risk Scorecards, Wiley 2006."""
MEASURES = {
    "demographic": ("psi", "total_variation"),
    "question": ("psi", "wasserstein", "total_variation"),
}
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


def drift(responses: Path, survey: SurveySpec, seed: int = 0) -> pd.DataFrame:
    """One row per wave after the first, reference, demographic or question, and measure: COLUMNS.

    Args:
        responses: Parquet file with the answers of all waves, in any order of rows.
        survey: the codebook.
        seed: other seeds give other replicates; the same one gives the same table.

    `reference` is `earlier` (all earlier waves pooled) or `previous` (the one before);
    `reference_waves` are those of them in which the demographic or question is known. Categories of
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
    with wave_people(responses, survey) as people:
        names = people.waves
        rows: list[dict[str, Any]] = []
        for at, wave in enumerate(names[1:], 1):
            found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
            for kind, reference in (("earlier", names[:at]), ("previous", names[at - 1 : at])):
                if reference not in found:
                    found[reference] = list(_pair_rows(people, survey, wave, reference, seed))
                rows += [{"wave": wave, "reference": kind} | row for row in found[reference]]
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
    # With two waves "all earlier" and "the previous" are the same one: said once.
    table = table.drop_duplicates(["wave", "reference_waves", "kind", "name", "measure"])
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
    people: WavePeople, survey: SurveySpec, wave: str, reference: tuple[str, ...], seed: int
) -> Iterator[dict[str, Any]]:
    drawn = people.drawn(wave, reference, PEOPLE)
    draws = _draws(drawn, derived_seed(seed, "drift", repr((survey.name, wave, reference))))
    for subject in people.subjects:
        usable = tuple(name for name in reference if name in subject.counts)
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


@dataclass(frozen=True)
class _Sides:
    """What one subject looks like on both sides: everybody's counts, and those of people drawn from.

    Counts (K,), and people (units, K), are on a footing on which a person counts one on average.
    `wave_size` and `reference_size` are the numbers of answers.
    """

    wave: Floats
    reference: Floats
    wave_people: int
    reference_people: int
    wave_size: float
    reference_size: float
    of_wave: Singles
    of_reference: Singles


def _sides(people: WavePeople, drawn: People, subject: Subject, wave: str, usable: tuple[str, ...]) -> _Sides:
    empty = np.zeros(subject.categories)
    totals = [subject.counts.get(wave, empty), sum((subject.counts[name] for name in usable), empty)]
    sizes = [float(total.sum()) for total in totals]
    counted = people.count(subject, (wave,)), people.count(subject, usable)
    footing = [n / size if size else 0.0 for n, size in zip(counted, sizes, strict=True)]
    of_wave, of_reference = (
        (drawn.counts(subject, names) * foot).astype(np.float32)
        for names, foot in zip(((wave,), usable), footing, strict=True)
    )
    return _Sides(
        totals[0] * footing[0], totals[1] * footing[1], *counted, sizes[0], sizes[1], of_wave, of_reference
    )


def _measured(subject: Subject, sides: _Sides, drawn: People, draws: _Draws) -> Iterator[dict[str, Any]]:
    own = _sum(sides.of_wave, draws.own), _sum(sides.of_reference, draws.own)
    null = _without_drift(sides, drawn, draws)
    for measure in MEASURES[subject.kind]:
        of = _Measure(measure, subject, sides)
        value = float(of(sides.wave, sides.reference))
        noise = of(*null)
        noise = noise[np.isfinite(noise)] if np.isfinite(noise).any() else np.zeros(1)
        limit = float(np.quantile(noise, 1 - FALSE_ALARMS))
        above = value > limit + ROUNDING
        low, high = _interval(of, sides, own, value)
        yield {
            "measure": measure,
            "value": value,
            "low": low if above else 0.0,
            "high": high,
            "floor": float(noise.mean()),
            "floor_95": limit,
            "drifted": above and (measure != "psi" or value >= MODERATE),
            "severity": _severity(value) if measure == "psi" else None,
        }


def _severity(psi: float) -> str:
    return "stable" if psi < MODERATE else "moderate" if psi < LARGE else "large"


def _interval(
    of: _Measure, sides: _Sides, deviations: tuple[Floats, Floats], value: float
) -> tuple[float, float]:
    """The interval of 95 %, which holds `value`.

    The upper end is the replicates' 97.5 % percentile. Their 2.5 % percentile would lie above weak
    drift, so the lower end is where a test would no longer find the value surprising: on the line
    from no drift, both sides at the pooled shares (0), to the shares found (1), it is the point
    about which 97.5 % of replicates lie below the value.
    """
    pooled = (sides.wave + sides.reference) / (sides.wave.sum() + sides.reference.sum())
    sizes = sides.wave.sum(), sides.reference.sum()
    noise = of.categories(deviations[0]), of.categories(deviations[1])

    def at(along: float) -> tuple[Floats, Floats]:
        one, other = (
            size * pooled + along * (counts - size * pooled)
            for size, counts in zip(sizes, (sides.wave, sides.reference), strict=True)
        )
        return of.categories(one), of.categories(other)

    def reached(along: float) -> float:
        one, other = (np.maximum(c + n, 0) for c, n in zip(at(along), noise, strict=True))
        return float(np.nanquantile(of.over_categories(one, other), 0.975))

    low = float(of.over_categories(*at(_crossing(reached, value))))
    return min(low, value), max(reached(1.0), value)


def _crossing(rising: Callable[[float], float], level: float) -> float:
    """Where in 0 … 1 a rising function passes `level`, to 0.1 %; the nearer end if it does not."""
    if rising(0.0) >= level - ROUNDING:
        return 0.0
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < level else (low, middle)
    return high


# --- replicates ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draws:
    """How much more than on average each of the people is drawn, by replicate: (units, replicates).

    `own` for the interval. For the floor, `as_wave` and `as_reference` draw from the `pool` of those in
    one side alone; `kept` and `swapped` draw those in both, on their own sides and on the other's.
    """

    own: Singles
    pool: npt.NDArray[np.int64]
    as_wave: Singles
    as_reference: Singles
    kept: Singles
    swapped: Singles


def _draws(drawn: People, seed: int) -> _Draws:
    rng = np.random.default_rng(seed)
    own = np.zeros((len(drawn.group), REPLICATES), dtype=np.float32)
    for group, n in enumerate(drawn.sizes):
        units = np.flatnonzero(drawn.group == group)
        own[units] = _multiplicities(rng, len(units), n)
    alone = np.flatnonzero(drawn.group != 2)
    pool = np.sort(alone[np.argsort(drawn.rank[alone], kind="stable")][:PEOPLE])
    pairs = _multiplicities(rng, 2 * int((drawn.group == 2).sum()), drawn.sizes[2])
    return _Draws(
        own,
        pool,
        _multiplicities(rng, len(pool), drawn.sizes[0]),
        _multiplicities(rng, len(pool), drawn.sizes[1]),
        *np.split(pairs, 2),
    )


def _multiplicities(rng: np.random.Generator, units: int, n: int) -> Singles:
    """Deviations of `n` draws from `units`, (units, REPLICATES); of more than PEOPLE draws, scaled."""
    if not units or not n:
        return np.zeros((units, REPLICATES), dtype=np.float32)
    times = min(n, PEOPLE)
    drawn = rng.integers(units, size=(REPLICATES, times)) * REPLICATES + np.arange(REPLICATES)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=units * REPLICATES).reshape(units, REPLICATES)
    return ((counts - times / units) * np.sqrt(n / times)).astype(np.float32)


def _without_drift(sides: _Sides, drawn: People, draws: _Draws) -> tuple[Floats, Floats]:
    """Counts of both sides in every replicate where both are drawn from the two together."""
    pooled = (sides.wave + sides.reference) / (sides.wave.sum() + sides.reference.sum())
    both, paired = drawn.group == 2, drawn.group[draws.pool]
    pool = np.where((paired == 0)[:, None], sides.of_wave[draws.pool], sides.of_reference[draws.pool])
    spread = _spread(pool)
    results = []
    for mine, theirs, group, alone in (
        (sides.of_wave, sides.of_reference, 0, draws.as_wave),
        (sides.of_reference, sides.of_wave, 1, draws.as_reference),
    ):
        people = sides.wave_people if group == 0 else sides.reference_people
        own = _spread(mine[drawn.group == group])
        apart = _sum(pool, alone) * (np.sqrt(own / spread) if spread else 0.0)
        apart += _sum(mine[both], draws.kept) + _sum(theirs[both], draws.swapped)
        results.append(np.maximum(people * pooled + apart, 0))
    return results[0], results[1]


def _sum(units: Singles, draws: Singles) -> Floats:
    """Σ over people of draws × counts, (REPLICATES, K); only over those who count at all."""
    counted = units.any(axis=1)
    return (draws[counted].T @ units[counted]).astype(np.float64)


def _spread(units: Singles) -> float:
    """How far people (units, K) lie from their common shares: the mean squared distance a person."""
    if not units.any():
        return 0.0
    mass = units.sum(axis=1, dtype=np.float64)
    shares = units.sum(axis=0, dtype=np.float64) / mass.sum()
    return float(((units - mass[:, None] * shares) ** 2).sum() / len(units))


# --- measures ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measure:
    """One measure of one subject, of counts (..., K) on both sides; NaN where one has nobody."""

    name: str
    subject: Subject
    sides: _Sides

    def __call__(self, wave: Floats, reference: Floats) -> Floats:
        return self.over_categories(self.categories(wave), self.categories(reference))

    def categories(self, counts: Floats) -> Floats:
        """What the measure looks at: single answers, or those categories that either side has."""
        if self.name == "wasserstein":
            return counts
        there = self.subject.bins(self.sides.wave + self.sides.reference) > 0
        return np.asarray(self.subject.bins(counts)[..., there])

    def over_categories(self, wave: Floats, reference: Floats) -> Floats:
        """The measure of what `categories` gives."""
        p, q = _shares(wave), _shares(reference)
        if self.name == "psi":
            return psi(p, q, self.sides.wave_size, self.sides.reference_size)
        if self.name == "wasserstein" and self.subject.values is not None:
            apart = np.abs(np.cumsum(p - q, axis=-1))[..., :-1]
            return np.asarray((apart * np.diff(self.subject.values)).sum(axis=-1))
        return np.asarray(np.abs(p - q).sum(axis=-1) / 2)


def psi(p: Floats, q: Floats, n: float, m: float) -> Floats:
    """Population stability index Σ (p − q) ln(p / q) of shares (..., K) of `n` and of `m` answers."""
    categories = p.shape[-1]
    one = (n * p + SMOOTHING) / (n + SMOOTHING * categories)
    other = (m * q + SMOOTHING) / (m + SMOOTHING * categories)
    return np.asarray(((one - other) * np.log(one / other)).sum(axis=-1))


def _shares(counts: Floats) -> Floats:
    total = counts.sum(axis=-1, keepdims=True)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
