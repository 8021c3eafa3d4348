"""The facts from which a survey's stand-in answers are made.

Belongs here: the fields of `data/surveys/<survey>/simulation.yaml`, and whether they fit the
codebook. Not here: drawing anything from them (`surveys/simulated.py`), language models.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.specs.yaml_file import Spec, SpecError, read_spec

FILE = "simulation.yaml"

Weight = Annotated[float, Field(ge=0)]
Chance = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(ge=0)]


class WaveFacts(Spec):
    """How many take part in a wave, and how many of them read one intervention less than the rest."""

    participants: Annotated[int, Field(ge=1)]
    one_short: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _enough_people(self) -> WaveFacts:
        if self.one_short > self.participants:
            raise SpecError(
                f"more than the {self.participants} participants cannot be one short",
                at=("one_short",),
                value=self.one_short,
                remedy="lower one_short",
            )
        return self


class Adjustment(Spec):
    """For participants with one of the options of every demographic in `when`, weights are multiplied."""

    when: Annotated[dict[str, tuple[str, ...]], Field(min_length=1)]
    times: Annotated[dict[str, Weight], Field(min_length=1)]


class DemographicFacts(Spec):
    """How often each option of a demographic is chosen.

    One option each: `shares` are relative weights. Several: `shares` are independent chances (cut
    at 1 after adjusting), `otherwise` is the option of those who chose none, and `instead` are
    options that stand alone, with their chances.
    """

    shares: Annotated[dict[str, Weight], Field(min_length=1)]
    adjust: tuple[Adjustment, ...] = ()
    otherwise: str | None = None
    instead: dict[str, Chance] = Field(default_factory=dict)


class Heap(Spec):
    """An answer that attracts those near it: at distance x with chance exp(-x²/2 reach²) × chance."""

    at: int
    chance: Chance
    reach: Annotated[float, Field(gt=0)]


class PreferenceFacts(Spec):
    """What an answer is made of, in points of the answer scale.

    latent = mean + Σ demographics + person + intervention + noise; person and noise are normal
    with standard deviations `person_sd` and `answer_sd`. The latent value is drawn to `heaps`,
    rounded to the person's `roundings` (multiple: share of persons) and cut at the scale's ends.
    """

    mean: float
    demographics: dict[str, dict[str, float]] = Field(default_factory=dict)
    interventions: dict[str, float] = Field(default_factory=dict)
    person_sd: Spread
    answer_sd: Spread
    heaps: tuple[Heap, ...] = ()
    roundings: Annotated[dict[Annotated[int, Field(ge=1)], Weight], Field(min_length=1)]

    @field_validator("interventions", mode="before")
    @classmethod
    def _ids_as_text(cls, effects: object) -> object:
        return {str(k): v for k, v in effects.items()} if isinstance(effects, dict) else effects

    @model_validator(mode="after")
    def _somebody_rounds(self) -> PreferenceFacts:
        if not sum(self.roundings.values()):
            raise SpecError(
                "all roundings have weight 0", at=("roundings",), remedy="give one a positive weight"
            )
        return self


class SimulationSpec(Spec):
    """`simulation.yaml`, read. Demographics are drawn in the order in which they stand."""

    seed: int
    waves: Annotated[dict[str, WaveFacts], Field(min_length=1)]
    demographics: Annotated[dict[str, DemographicFacts], Field(min_length=1)]
    preference: PreferenceFacts

    def check_against(self, survey: SurveySpec) -> None:
        """Raise BadInput unless the facts speak of this codebook's demographics and options.

        Conditions may only look back, at demographics that were drawn before.
        """
        names = {d.name: d for d in survey.demographics}
        _same("demographics", self.demographics, names, survey)
        drawn: dict[str, tuple[str, ...]] = {}
        for name, facts in self.demographics.items():
            field = f"demographics.{name}"
            options = names[name].options
            alone = [*facts.instead, *([facts.otherwise] if facts.otherwise else [])]
            if bool(alone) != names[name].several:
                raise BadInput(
                    "otherwise and instead are for demographics that allow several options",
                    file=survey.folder / FILE,
                    field=field,
                    remedy="remove them here, or add one of them where several are allowed",
                )
            _same(f"{field}.shares", [*facts.shares, *alone], options, survey)
            for rule in facts.adjust:
                _among(f"{field}.adjust.when", rule.when, drawn, survey)
                for earlier, chosen in rule.when.items():
                    _among(f"{field}.adjust.when.{earlier}", chosen, drawn[earlier], survey)
                _among(f"{field}.adjust.times", rule.times, facts.shares, survey)
            drawn[name] = options
        for name, points in self.preference.demographics.items():
            _among("preference.demographics", [name], names, survey)
            _among(f"preference.demographics.{name}", points, names[name].options, survey)


def read_simulation(survey: SurveySpec) -> SimulationSpec:
    """The facts in the survey's folder. Raises BadInput naming file, field, value and remedy."""
    facts = read_spec(survey.folder / FILE, SimulationSpec)
    facts.check_against(survey)
    return facts


def _among(field: str, given: Iterable[str], allowed: Iterable[str], survey: SurveySpec) -> None:
    """Every name given is one of those allowed."""
    allowed = list(allowed)
    for name in given:
        if name not in allowed:
            raise BadInput(
                "no such name, or not drawn before",
                file=survey.folder / FILE,
                field=field,
                value=name,
                remedy=f"use one of: {', '.join(allowed)}" if allowed else "draw the other one first",
            )


def _same(field: str, given: Iterable[str], wanted: Iterable[str], survey: SurveySpec) -> None:
    """The names given are those wanted: none is left out, none is unknown."""
    given, wanted = list(given), list(wanted)
    _among(field, given, wanted, survey)
    missing = [name for name in wanted if name not in given]
    if missing:
        raise BadInput(
            "required, but not there",
            file=survey.folder / FILE,
            field=f"{field}.{missing[0]}",
            remedy="add it, with a weight of 0 if nobody has it",
        )
