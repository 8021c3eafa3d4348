"""Makes the raw waves of a survey whose real answers are not public.

Belongs here: drawing participants, the interventions they read and their answers from a codebook
and the facts in `simulation.yaml`. Not here: any fact about a survey, reading waves, simulating
participants with a language model (`simulation/`).

The model: latent preference = mean + demographics' main effects + the person + the intervention
+ noise, all in points of the scale; then heaps, the person's habit of rounding, the scale's ends.
Each kind of draw has its own seed, so that a change of one fact leaves the other draws alone.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.seeds import derived_seed
from evsim_assets.specs.simulation import (
    FILE,
    Adjustment,
    DemographicFacts,
    PreferenceFacts,
    SimulationSpec,
    WaveFacts,
)
from evsim_assets.specs.survey import SEVERAL_SEPARATOR, Demographic, Scale, SurveySpec

ORIGIN_COLUMN, ORIGIN = "data_origin", "simulated"
"""In every row of every file, so that a file that leaves its folder still says what it is."""

Chosen = dict[str, np.ndarray]
"""Demographic → (participants, options) bool: which options each participant chose."""


def simulate(survey: SurveySpec, facts: SimulationSpec) -> dict[str, pd.DataFrame]:
    """Wave → raw table: one row a participant, the codebook's columns as text, `data_origin` last.

    The same codebook and facts give the same tables; a wave does not depend on the other waves.

    Raises:
        BadInput: the codebook does not own up to being simulated, it needs a form this generator
            does not make (long files, questions on different scales), or the facts do not fit it.
    """
    _check_form(survey)
    facts.check_against(survey)
    effects = _intervention_effects(survey, facts.preference)
    return {wave: _simulated_wave(survey, facts, wave, size, effects) for wave, size in facts.waves.items()}


def write_waves(survey: SurveySpec, waves: dict[str, pd.DataFrame]) -> list[Path]:
    """Write each table to `waves/<wave>.csv` in the survey's folder, in the codebook's form.

    Files are replaced whole, with "\\n" line ends on every system; returns their paths.
    """
    folder = survey.folder / "waves"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for wave, table in waves.items():
        path, unfinished = folder / f"{wave}.csv", folder / f".{wave}.csv.unfinished"
        unfinished.write_bytes(raw_bytes(survey, table))
        unfinished.replace(path)
        paths.append(path)
    return paths


def raw_bytes(survey: SurveySpec, table: pd.DataFrame) -> bytes:
    """The raw file of a wave: the same table gives the same bytes on every system."""
    text = table.to_csv(index=False, sep=survey.waves.delimiter, lineterminator="\n")
    return text.encode(survey.waves.encoding)


def _check_form(survey: SurveySpec) -> None:
    file = survey.folder / "survey.yaml"
    if not survey.simulated:
        raise BadInput(
            "only a survey that says it is simulated gets simulated answers",
            file=file,
            field="simulated",
            value=survey.simulated,
            remedy="set simulated: true, if there are no real answers in waves/",
        )
    if survey.participant is None:
        raise BadInput(
            "simulated participants need an id",
            file=file,
            field="participant",
            remedy="name the raw column that identifies a person",
        )
    for question in survey.questions:
        if question.where:
            raise BadInput(
                "long files cannot be simulated",
                file=file,
                field=f"questions.{question.id}.where",
                remedy="describe a wide file: one row a participant",
            )
        if question.scale != survey.questions[0].scale:
            raise BadInput(
                "simulated questions share one scale",
                file=file,
                field=f"questions.{question.id}.scale",
                value=question.scale.model_dump(),
                remedy="give all questions the same scale",
            )


def _intervention_effects(survey: SurveySpec, preference: PreferenceFacts) -> dict[str, float]:
    """Id → points, in the order of the survey's table of interventions."""
    given = preference.interventions
    ids: list[str] = []
    if survey.interventions is not None:
        table = survey.folder / survey.interventions.file
        with table.open(encoding="utf-8", newline="") as lines:
            ids = [row[survey.interventions.id] for row in csv.DictReader(lines)]
    if sorted(ids) != sorted(given):
        odd = sorted(set(ids) ^ set(given)) or sorted(i for i in ids if ids.count(i) > 1)
        raise BadInput(
            "the facts must name each intervention of the survey's table once",
            file=survey.folder / FILE,
            field="preference.interventions",
            value=odd[0],
            remedy="add it to the facts, or correct the id",
        )
    return {intervention: given[intervention] for intervention in ids}


def _simulated_wave(
    survey: SurveySpec, facts: SimulationSpec, wave: str, size: WaveFacts, effects: dict[str, float]
) -> pd.DataFrame:
    chosen = _draw_demographics(survey, facts, wave, size.participants)
    read = _draw_interventions(survey, facts.seed, wave, size, list(effects))
    answers = _draw_answers(survey, facts, wave, chosen, read, effects)
    columns: dict[str, Sequence[str] | np.ndarray] = {
        str(survey.participant): [f"{wave}-{i:04d}" for i in range(1, size.participants + 1)]
    }
    for demographic in survey.demographics:
        columns[demographic.column] = _labels(demographic, chosen[demographic.name])
    for pair in (pair for question in survey.questions for pair in question.columns):
        columns[pair.answer] = answers[pair.answer]
        if pair.intervention:
            columns[pair.intervention] = read[pair.intervention]
    return pd.DataFrame(columns | {ORIGIN_COLUMN: [ORIGIN] * size.participants}, dtype="str")


def _draw_demographics(survey: SurveySpec, facts: SimulationSpec, wave: str, people: int) -> Chosen:
    """In the order of the facts, so that later demographics may depend on earlier ones."""
    by_name = {d.name: d for d in survey.demographics}
    chosen: Chosen = {}
    for name, shares in facts.demographics.items():
        rng = np.random.default_rng(derived_seed(facts.seed, "simulated demographic", f"{wave}/{name}"))
        options = by_name[name].options
        weights = np.tile([shares.shares.get(option, 0.0) for option in options], (people, 1))
        for rule in shares.adjust:
            weights[_apply_to(rule, by_name, chosen)] *= [rule.times.get(option, 1.0) for option in options]
        draw = _draw_several if by_name[name].several else _draw_one
        chosen[name] = draw(rng, weights, options, shares)
    return chosen


def _apply_to(rule: Adjustment, by_name: dict[str, Demographic], chosen: Chosen) -> np.ndarray:
    """(participants,) bool: who has one of the options of every demographic in the rule."""
    meets = [
        chosen[name][:, [by_name[name].options.index(option) for option in wanted]].any(axis=1)
        for name, wanted in rule.when.items()
    ]
    return np.logical_and.reduce(meets)


def _draw_one(
    rng: np.random.Generator, weights: np.ndarray, options: tuple[str, ...], shares: DemographicFacts
) -> np.ndarray:
    """One option a participant, by relative weight; weights is (participants, options)."""
    heights = weights.cumsum(axis=1)
    if not heights[:, -1].all():
        raise BadInput(
            "the adjustments leave somebody without any option",
            file=FILE,
            field="demographics",
            value=options,
            remedy="leave a positive weight for whoever the adjustments speak of",
        )
    drawn = (rng.random(len(weights))[:, None] * heights[:, -1:] >= heights).sum(axis=1)
    return np.eye(len(options), dtype=bool)[drawn]


def _draw_several(
    rng: np.random.Generator, weights: np.ndarray, options: tuple[str, ...], shares: DemographicFacts
) -> np.ndarray:
    """Any number of options a participant, by chance; never one of `instead` or `otherwise` with others."""
    chosen = rng.random(weights.shape) < weights
    if shares.otherwise is not None:
        chosen[:, options.index(shares.otherwise)] = ~chosen.any(axis=1)
    for option, chance in shares.instead.items():
        only = np.eye(len(options), dtype=bool)[options.index(option)]
        chosen[rng.random(len(weights)) < chance] = only
    return chosen


def _draw_interventions(
    survey: SurveySpec, seed: int, wave: str, size: WaveFacts, ids: list[str]
) -> dict[str, np.ndarray]:
    """Intervention column → ids, "" where none was read; nobody reads one twice."""
    columns = [pair.intervention for q in survey.questions for pair in q.columns if pair.intervention]
    if len(columns) > len(ids) or (size.one_short and not columns):
        raise BadInput(
            f"{len(columns)} interventions a participant cannot be drawn from {len(ids)}",
            file=survey.folder / "survey.yaml",
            field="questions",
            remedy="add interventions, or name fewer intervention columns",
        )
    rng = np.random.default_rng(derived_seed(seed, "simulated interventions", wave))
    order = rng.random((size.participants, len(ids))).argsort(axis=1)[:, : len(columns)]
    read = np.array(ids, dtype=object)[order] if columns else order
    short = rng.random(size.participants).argsort()[: size.one_short]
    read[short, -1:] = ""
    return {column: read[:, i] for i, column in enumerate(columns)}


def _draw_answers(
    survey: SurveySpec,
    facts: SimulationSpec,
    wave: str,
    chosen: Chosen,
    read: dict[str, np.ndarray],
    effects: dict[str, float],
) -> dict[str, np.ndarray]:
    """Answer column → answers as text, "" where an intervention was due but not read."""
    preference, scale = facts.preference, survey.questions[0].scale
    persons = np.random.default_rng(derived_seed(facts.seed, "simulated persons", wave))
    expected = _expected(survey, preference, chosen)
    person = expected + preference.person_sd * persons.standard_normal(len(expected))
    multiples = np.array(list(preference.roundings))
    shares = np.array(list(preference.roundings.values())) / sum(preference.roundings.values())
    multiple = multiples[persons.choice(len(multiples), len(expected), p=shares)]
    answers = {}
    for pair in (pair for question in survey.questions for pair in question.columns):
        rng = np.random.default_rng(derived_seed(facts.seed, "simulated answers", f"{wave}/{pair.answer}"))
        seen = read[pair.intervention] if pair.intervention else np.full(len(person), None)
        shift = np.array([effects.get(intervention, 0.0) for intervention in seen])
        latent = person + shift + preference.answer_sd * rng.standard_normal(len(person))
        answer = _answer(rng, preference, scale, latent, multiple).astype(str)
        answers[pair.answer] = np.where(seen == "", "", answer)
    return answers


def _expected(survey: SurveySpec, preference: PreferenceFacts, chosen: Chosen) -> np.ndarray:
    """(participants,) points: the mean and every main effect of a demographic."""
    total = np.full(len(next(iter(chosen.values()))), preference.mean)
    for demographic in survey.demographics:
        points = preference.demographics.get(demographic.name, {})
        total += chosen[demographic.name] @ np.array([points.get(o, 0.0) for o in demographic.options])
    return total


def _answer(
    rng: np.random.Generator,
    preference: PreferenceFacts,
    scale: Scale,
    latent: np.ndarray,
    multiple: np.ndarray,
) -> np.ndarray:
    """Latent points to answers on the scale: multiples (the person's habit), then heaps, then the ends."""
    answer = np.floor(latent / multiple + 0.5) * multiple
    for heap in preference.heaps:
        pull = heap.chance * np.exp(-((latent - heap.at) ** 2) / (2 * heap.reach**2))
        answer = np.where(rng.random(len(latent)) < pull, heap.at, answer)
    steps = np.floor((answer - scale.low) / scale.step + 0.5)
    on_scale = scale.low + scale.step * steps.astype(int)
    return np.clip(on_scale, scale.low, scale.high)


def _labels(demographic: Demographic, chosen: np.ndarray) -> list[str]:
    """(participants, options) bool to one cell each, options in the codebook's order."""
    return [
        SEVERAL_SEPARATOR.join(o for o, is_chosen in zip(demographic.options, row, strict=True) if is_chosen)
        for row in chosen
    ]
