"""Makes the raw waves of a survey whose real answers are not public.

Belongs here: drawing participants, the interventions they read and their answers from a codebook
and the facts in `simulation.yaml`. Not here: any fact about a survey, reading waves, simulating
participants with a language model (`simulation/`).

The model: latent preference = mean + demographics' main effects + the person + the intervention
+ noise, all in points of the scale; then heaps, the person's habit of rounding, the scale's ends.
Each kind of draw has its own seed, so that a change of one fact leaves the other draws alone.

A wave is drawn and written in blocks of participants, so that a million of them need no more memory
than twenty thousand.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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
from evsim_assets.specs.survey import Demographic, Scale, SurveySpec

ORIGIN_COLUMN, ORIGIN = "data_origin", "simulated"
"""In every row of every file, so that a file that leaves its folder still says what it is."""

Chosen = dict[str, np.ndarray]
"""Demographic → (participants, options) bool: which options each participant chose."""


BLOCK = 20_000
"""Participants drawn at once. Each block after the first has seeds of its own, so another number here
gives other answers in every wave that is larger than it."""


@dataclass(frozen=True)
class SimulatedWave:
    """A wave that is drawn while it is iterated over: one raw table a block, the same every time.

    A table has one row a participant, the codebook's columns as text, and `data_origin` last.
    """

    survey: SurveySpec
    facts: SimulationSpec
    wave: str
    effects: Mapping[str, float]

    def __iter__(self) -> Iterator[pd.DataFrame]:
        for block in _blocks(self.wave, self.facts.waves[self.wave]):
            yield _simulated_block(self.survey, self.facts, block, self.effects)


@dataclass(frozen=True)
class _Block:
    """Participants `first` to `first + people - 1` of a wave (from 1), and what their seeds are drawn for."""

    wave: str
    key: str
    first: int
    people: int
    one_short: int


def simulate(survey: SurveySpec, facts: SimulationSpec) -> dict[str, SimulatedWave]:
    """Wave → its tables, not drawn yet.

    The same codebook and facts give the same tables; a wave does not depend on the other waves.

    Raises:
        BadInput: the codebook does not own up to being simulated, it needs a form this generator
            does not make (only plain CSV files with one row a participant and one scale), or the facts
            do not fit it.
            While drawing: the adjustments leave somebody without any option.
    """
    _check_form(survey)
    facts.check_against(survey)
    effects = _intervention_effects(survey, facts.preference)
    for size in facts.waves.values():
        _check_readings(survey, size, effects)
    return {wave: SimulatedWave(survey, facts, wave, effects) for wave in facts.waves}


def write_waves(survey: SurveySpec, waves: Mapping[str, Iterable[pd.DataFrame]]) -> list[Path]:
    """Write each wave's tables to `waves/<wave>.csv` in the survey's folder, in the codebook's form.

    One table is in memory at a time. The same tables give the same bytes on every system ("\\n"
    ends a line). The files are replaced when all of them are complete; returns their paths.

    Raises:
        BadInput: a text does not exist in the codebook's encoding.
    """
    folder = survey.folder / "waves"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = {folder / f".{wave}.csv.unfinished": folder / f"{wave}.csv" for wave in waves}
    try:
        for path, tables in zip(unfinished, waves.values(), strict=True):
            _write(survey, tables, path)
        for path, finished in unfinished.items():
            path.replace(finished)
    finally:
        for path in unfinished:
            path.unlink(missing_ok=True)
    return list(unfinished.values())


def _write(survey: SurveySpec, tables: Iterable[pd.DataFrame], path: Path) -> None:
    with path.open("w", encoding=survey.waves.encoding, newline="") as file:
        for number, table in enumerate(tables):
            try:
                table.to_csv(
                    file, index=False, header=number == 0, sep=survey.waves.separator, lineterminator="\n"
                )
            except UnicodeEncodeError as error:
                raise BadInput(
                    f"a text of the codebook does not exist in the encoding {survey.waves.encoding}",
                    file=survey.folder / "survey.yaml",
                    field="waves.encoding",
                    value=error.object[error.start : error.end],
                    remedy="use utf-8",
                ) from None


def _blocks(wave: str, size: WaveFacts) -> Iterator[_Block]:
    """The wave in blocks; those one short are spread evenly. The first block's key is the wave's name,
    so that no wave of one block changed when blocks were introduced."""
    for number, start in enumerate(range(0, size.participants, BLOCK)):
        end = min(start + BLOCK, size.participants)
        before, until = (size.one_short * people // size.participants for people in (start, end))
        key = wave if number == 0 else f"{wave}/block {number}"
        yield _Block(wave, key, start + 1, end - start, until - before)


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
    for field, value in _forms_not_made(survey).items():
        if value:
            raise BadInput(
                "the generator does not make such files",
                file=file,
                field=field,
                value=value,
                remedy="describe a plain CSV file: one row a participant, a column a demographic, numbers",
            )
    for question in survey.questions:
        if question.scale != survey.questions[0].scale:
            raise BadInput(
                "simulated questions share one scale",
                file=file,
                field=f"questions.{question.id}.scale",
                value=question.scale.model_dump(),
                remedy="give all questions the same scale",
            )


def _forms_not_made(survey: SurveySpec) -> dict[str, object]:
    """Field of the codebook → what it says, or nothing where the generator can do it."""
    fields: dict[str, object] = {
        "waves.format": survey.waves.format.removeprefix("csv"),
        "waves.skip_rows": survey.waves.skip_rows,
        "waves.changes": survey.waves.changes,
        "weight": survey.weight,
    }
    for d in survey.demographics:
        fields |= {
            f"demographics.{d.name}.{form}": getattr(d, form) for form in ("bands", "checkboxes", "waves")
        }
    for q in survey.questions:
        for form in ("where", "row_fields", "reversed", "waves"):
            fields[f"questions.{q.id}.{form}"] = getattr(q, form)
    return fields


def _intervention_effects(survey: SurveySpec, preference: PreferenceFacts) -> dict[str, float]:
    """Id → points, in the order of the survey's table of interventions."""
    given = preference.interventions
    ids = _intervention_ids(survey)
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


def _intervention_ids(survey: SurveySpec) -> list[str]:
    """In the order of the survey's table."""
    table = survey.interventions
    if table is None or table.file is None:
        return list(table.texts or ()) if table else []
    with (survey.folder / table.file).open(encoding="utf-8", newline="") as lines:
        return [row[table.id] for row in csv.DictReader(lines)]


def _check_readings(survey: SurveySpec, size: WaveFacts, effects: Mapping[str, float]) -> None:
    columns = _intervention_columns(survey)
    if len(columns) > len(effects) or (size.one_short and not columns):
        raise BadInput(
            f"{len(columns)} interventions a participant cannot be drawn from {len(effects)}",
            file=survey.folder / "survey.yaml",
            field="questions",
            remedy="add interventions, or name fewer intervention columns",
        )


def _intervention_columns(survey: SurveySpec) -> list[str]:
    return [pair.intervention for q in survey.questions for pair in q.columns if pair.intervention]


def _simulated_block(
    survey: SurveySpec, facts: SimulationSpec, block: _Block, effects: Mapping[str, float]
) -> pd.DataFrame:
    chosen = _draw_demographics(survey, facts, block)
    read = _draw_interventions(survey, facts.seed, block, list(effects))
    answers = _draw_answers(survey, facts, block, chosen, read, effects)
    people = range(block.first, block.first + block.people)
    columns: dict[str, list[str] | np.ndarray] = {
        str(survey.participant): [f"{block.wave}-{i:04d}" for i in people]
    }
    for demographic in survey.demographics:
        columns[str(demographic.column)] = _labels(demographic, chosen[demographic.name])
    for pair in (pair for question in survey.questions for pair in question.columns):
        columns[pair.answer] = answers[pair.answer]
        if pair.intervention:
            columns[pair.intervention] = read[pair.intervention]
    return pd.DataFrame(columns | {ORIGIN_COLUMN: [ORIGIN] * block.people}, dtype="str")


def _draw_demographics(survey: SurveySpec, facts: SimulationSpec, block: _Block) -> Chosen:
    """In the order of the facts, so that later demographics may depend on earlier ones."""
    by_name = {d.name: d for d in survey.demographics}
    chosen: Chosen = {}
    for name, shares in facts.demographics.items():
        rng = np.random.default_rng(derived_seed(facts.seed, "simulated demographic", f"{block.key}/{name}"))
        options = by_name[name].options
        weights = np.tile([shares.shares.get(option, 0.0) for option in options], (block.people, 1))
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
    survey: SurveySpec, seed: int, block: _Block, ids: list[str]
) -> dict[str, np.ndarray]:
    """Intervention column → ids, "" where none was read; nobody reads one twice."""
    columns = _intervention_columns(survey)
    rng = np.random.default_rng(derived_seed(seed, "simulated interventions", block.key))
    order = rng.random((block.people, len(ids))).argsort(axis=1)[:, : len(columns)]
    read = np.array(ids, dtype=object)[order] if columns else order
    short = rng.random(block.people).argsort()[: block.one_short]
    read[short, -1:] = ""
    return {column: read[:, i] for i, column in enumerate(columns)}


def _draw_answers(
    survey: SurveySpec,
    facts: SimulationSpec,
    block: _Block,
    chosen: Chosen,
    read: dict[str, np.ndarray],
    effects: Mapping[str, float],
) -> dict[str, np.ndarray]:
    """Answer column → answers as text, "" where an intervention was due but not read."""
    preference, scale = facts.preference, survey.questions[0].scale
    persons = np.random.default_rng(derived_seed(facts.seed, "simulated persons", block.key))
    expected = _expected(survey, preference, chosen)
    person = expected + preference.person_sd * persons.standard_normal(len(expected))
    multiples = np.array(list(preference.roundings))
    shares = np.array(list(preference.roundings.values())) / sum(preference.roundings.values())
    multiple = multiples[persons.choice(len(multiples), len(expected), p=shares)]
    answers = {}
    for pair in (pair for question in survey.questions for pair in question.columns):
        rng = np.random.default_rng(
            derived_seed(facts.seed, "simulated answers", f"{block.key}/{pair.answer}")
        )
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


def _labels(demographic: Demographic, chosen: np.ndarray) -> np.ndarray:
    """(participants, options) bool to (participants,) cells, options in the codebook's order."""
    options = np.array(demographic.options, dtype=object)
    if not demographic.several:
        return options[chosen.argmax(axis=1)]
    sets, whose = np.unique(chosen, axis=0, return_inverse=True)
    separator = f"{demographic.separator} "
    cells = np.array([separator.join(options[row]) for row in sets], dtype=object)
    return cells[whose.ravel()]
