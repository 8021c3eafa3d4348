"""The codebook of a survey: what its raw files mean.

Belongs here: the fields of `data/surveys/<survey>/survey.yaml`, and what can be said of them
without a wave. Not here: reading waves (`surveys/`), rendering prompts (`prompts/`).
"""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.yaml_file import Spec, SpecError, read_spec

SEVERAL_SEPARATOR = "; "
"""Between the options of a demographic that allows several, in raw files and in tables."""

RESERVED = {
    "participant",
    "wave",
    "question",
    "order",
    "intervention",
    "intervention_text",
    "answer",
    "split",
}
"""Columns of tables that hold demographics, so no demographic may be called so."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]


class Scale(Spec):
    """A numeric answer scale: `low`, `low + step`, … `high`.

    `rounding` says what happens to a raw answer between two steps: `none` quarantines it,
    `half_up` takes the nearest step and, between two, the upper one.
    """

    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1
    rounding: Literal["none", "half_up"] = "none"

    @model_validator(mode="after")
    def _has_room(self) -> Scale:
        if self.low >= self.high:
            raise SpecError(
                f"the scale has no room: low {self.low} is not below high {self.high}",
                remedy="set low below high",
            )
        if (self.high - self.low) % self.step:
            raise SpecError(
                f"step {self.step} does not lead from {self.low} to {self.high}",
                at=("step",),
                remedy="choose a step that divides high - low",
            )
        return self

    @property
    def answers(self) -> tuple[int, ...]:
        """Every answer on the scale, ascending."""
        return tuple(range(self.low, self.high + 1, self.step))


ASKED = ("intervention", "low", "high")
"""The placeholders of a survey prompt that every question fills."""

DIGITS = Scale(low=0, high=9)
"""The single-token scale of the paper's numeric penalty (B.3)."""


class Demographic(Spec):
    """One thing known of a participant before any question.

    `options` are the labels allowed, in their order; `codes` translates raw values to labels.
    With `several`, a raw cell holds any number of labels separated by "; ".
    """

    name: str
    column: str
    options: Annotated[tuple[str, ...], Field(min_length=2)]
    codes: dict[str, str] = Field(default_factory=dict)
    several: bool = False

    @property
    def slug(self) -> str:
        """The name of the demographic's column in tables: `living state` becomes `living_state`."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")

    @field_validator("codes", mode="before")
    @classmethod
    def _codes_as_text(cls, codes: object) -> object:
        return {str(k): str(v) for k, v in codes.items()} if isinstance(codes, dict) else codes

    @model_validator(mode="after")
    def _codes_lead_to_options(self) -> Demographic:
        for code, label in self.codes.items():
            if label not in self.options:
                raise SpecError(
                    f"code {code!r} stands for a label that is not among the options",
                    at=("codes", code),
                    value=label,
                    remedy="add the label to options, or correct the code",
                )
        for position, option in enumerate(self.options):
            at = ("options", position)
            if option in self.options[:position]:
                raise SpecError(
                    "an option is listed twice", at=at, value=option, remedy="list each option once"
                )
            if self.several and SEVERAL_SEPARATOR.strip() in option:
                raise SpecError(
                    "an option holds ';', which separates several options",
                    at=at,
                    value=option,
                    remedy="rename the option",
                )
        return self

    @model_validator(mode="after")
    def _has_a_column_of_its_own(self) -> Demographic:
        if not self.slug or self.slug in RESERVED:
            raise SpecError(
                f"the demographic would be the column {self.slug!r} of tables, which "
                + ("is taken" if self.slug else "is no name"),
                at=("name",),
                value=self.name,
                remedy="use another name, with letters a to z or digits in it",
            )
        return self


class AnswerColumns(Spec):
    """Where one answer stands in a raw row, and which intervention came before it."""

    answer: str
    intervention: str | None = None


class Question(Spec):
    """Something participants were asked, on one scale.

    A wide file has a column (or several, with the interventions they follow) per question; in a
    long file `where` picks the rows of this question. `fields` fill the prompt template.
    """

    id: Name
    columns: Annotated[tuple[AnswerColumns, ...], Field(min_length=1)]
    scale: Scale
    where: dict[str, str] = Field(default_factory=dict)
    fields: dict[str, str] = Field(default_factory=dict)

    @field_validator("where", mode="before")
    @classmethod
    def _where_as_text(cls, where: object) -> object:
        return {str(k): str(v) for k, v in where.items()} if isinstance(where, dict) else where

    @model_validator(mode="after")
    def _fields_have_names_of_their_own(self) -> Question:
        for name in self.fields:
            if name in ASKED:
                raise SpecError(
                    f"every question has {{{name}}} already", at=("fields", name), remedy="use another name"
                )
        return self


class Interventions(Spec):
    """The table of intervention texts, and the raw values that mean "no intervention".

    `file` lies in the survey's folder; `id` and `text` are its columns.
    """

    file: str
    id: str
    text: str
    none: tuple[str, ...] = ()

    @field_validator("none", mode="before")
    @classmethod
    def _none_as_text(cls, none: object) -> object:
        return tuple(str(value) for value in none) if isinstance(none, (list, tuple)) else none


class PromptTemplates(Spec):
    """Appendix B.1: what the model is told it is, and what it is asked.

    `system` takes `{demographics}`; `user` takes `{intervention}`, `{low}`, `{high}` and the
    questions' own `fields`.
    """

    system: str
    user: str


class Waves(Spec):
    """The form of the raw files. `encoding` is any that Python knows."""

    format: Literal["csv"] = "csv"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError:
            raise SpecError(
                "unknown encoding", value=encoding, remedy="use a name such as utf-8 or latin-1"
            ) from None
        return encoding


class Splits(Spec):
    """Fractions of participants; they must sum to one."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.8
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _sum_to_one(self) -> Splits:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise SpecError(
                f"the split fractions sum to {self.train + self.validation + self.test:g}, not 1",
                remedy="make train + validation + test equal 1",
            )
        return self


class SurveySpec(Spec):
    """`survey.yaml`, read. `name` and `folder` follow from where the file lies.

    `participant` is the raw column that identifies a person; without one every row is a person
    of its own, named by wave and row number.
    """

    name: Name
    folder: Path
    title: str
    source: str
    simulated: bool = False
    participant: str | None
    waves: Waves = Waves()
    missing: tuple[str, ...] = ("",)
    demographics: Annotated[tuple[Demographic, ...], Field(min_length=1)]
    questions: Annotated[tuple[Question, ...], Field(min_length=1)]
    interventions: Interventions | None = None
    prompts: PromptTemplates
    splits: Splits = Splits()

    @field_validator("missing", mode="before")
    @classmethod
    def _missing_as_text(cls, missing: object) -> object:
        return tuple(str(v) for v in missing) if isinstance(missing, (list, tuple)) else missing

    @model_validator(mode="after")
    def _consistent(self) -> SurveySpec:
        _check_doubled("demographics", "name", [d.slug for d in self.demographics])
        _check_doubled("questions", "id", [q.id for q in self.questions])
        for position, question in enumerate(self.questions):
            asks = any(columns.intervention for columns in question.columns)
            if asks and self.interventions is None:
                raise SpecError(
                    "the question names an intervention column, but there is no `interventions` table",
                    at=("questions", position, "columns"),
                    remedy="add `interventions: {file, id, text}`",
                )
        _check_placeholders("system", self.prompts.system, {"demographics"})
        for question in self.questions:
            _check_placeholders("user", self.prompts.user, {*ASKED, *question.fields}, question.id)
        return self

    @property
    def raw_columns(self) -> tuple[str, ...]:
        """Every column a raw wave must have, in the codebook's order."""
        columns = [self.participant] if self.participant else []
        columns += [d.column for d in self.demographics]
        for question in self.questions:
            columns += list(question.where)
            for pair in question.columns:
                columns += [pair.answer, *([pair.intervention] if pair.intervention else [])]
        return tuple(dict.fromkeys(columns))


def read_survey(folder: Path) -> SurveySpec:
    """The codebook in `folder`/survey.yaml. Raises BadInput naming file, line, field and remedy."""
    name = folder.name
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise BadInput(
            "a survey's folder is its name",
            file=folder,
            value=name,
            remedy="use lower-case letters, digits and underscores",
        )
    return read_spec(folder / "survey.yaml", SurveySpec, name=name, folder=folder)


def _check_doubled(listed: str, field: str, names: list[str]) -> None:
    """Raise SpecError for the first name that stands twice in the list."""
    for position, name in enumerate(names):
        if name in names[:position]:
            raise SpecError(
                "listed twice", at=(listed, position, field), value=name, remedy="give each its own name"
            )


def _check_placeholders(field: str, template: str, allowed: set[str], question: str | None = None) -> None:
    """Raise SpecError for a placeholder nobody fills, or for braces that do not pair."""
    at = ("prompts", field)
    try:
        used = [(name, form, how) for _, name, form, how in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise SpecError(
            f"this is no template: {error}", at=at, remedy="write a literal brace as {{ or }}"
        ) from None
    where = f" for question {question!r}" if question else ""
    for name, form, how in used:
        if name not in allowed:
            raise SpecError(
                f"unknown placeholder{where}",
                at=at,
                value="{" + name + "}",
                remedy=f"use one of {', '.join('{' + a + '}' for a in sorted(allowed))}",
            )
        if form or how:
            raise SpecError(
                "a placeholder takes no format",
                at=at,
                remedy=f"write {{{name}}}",
                value="{" + name + (f"!{how}" if how else "") + (f":{form}" if form else "") + "}",
            )
