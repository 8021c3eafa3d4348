"""The codebook of a survey: what its raw files mean.

Belongs here: `data/surveys/<survey>/survey.yaml` as a whole, and the codebook as it holds for one
wave. Not here: its parts (`waves.py`, `demographics.py`, `questions.py`, `templates.py`), reading
waves (`surveys/`), rendering prompts (`prompts/`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from evsim_assets.specs.demographics import SEVERAL_SEPARATOR as SEVERAL_SEPARATOR
from evsim_assets.specs.demographics import Demographic as Demographic
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.questions import DIGITS as DIGITS
from evsim_assets.specs.questions import AnswerColumns as AnswerColumns
from evsim_assets.specs.questions import Name as Name
from evsim_assets.specs.questions import Question as Question
from evsim_assets.specs.questions import RowField, check_before, unfolded
from evsim_assets.specs.questions import Scale as Scale
from evsim_assets.specs.templates import ASKED, PromptTemplates, check_placeholders
from evsim_assets.specs.values import check_apart
from evsim_assets.specs.waves import QuestionChange, RawText, WaveChange, WaveFormat, Waves, matches
from evsim_assets.specs.yaml_file import Spec, SpecError, read_spec

Repeats = Literal["keep first", "keep last", "panel"]


class Interventions(Spec):
    """What participants read before an answer, by id: a table `file`, or `texts` written here.

    `file` (CSV, TSV, Excel or Parquet) lies in the survey's folder; `id` and `text` are its columns,
    and `fields` leads from placeholders of prompts to further columns. In `texts` an arm without a
    text is null. `none` are raw values that mean "no intervention".
    """

    file: str | None = None
    id: str = "id"
    text: str = "text"
    fields: dict[str, str] = Field(default_factory=dict)
    texts: dict[RawText, str | None] | None = None
    none: tuple[RawText, ...] = ()

    @model_validator(mode="after")
    def _has_one_source(self) -> Interventions:
        if (self.file is None) == (self.texts is None):
            raise SpecError(
                "interventions come either from a file or from `texts`", remedy="keep exactly one of the two"
            )
        if self.fields and self.file is None:
            raise SpecError(
                "`fields` are columns of a file, and there is none",
                at=("fields",),
                remedy="put the interventions into a file, or remove the fields",
            )
        return self


class Duplicates(Spec):
    """What becomes of a participant who is there more than once.

    `within_wave`: rows of one wave; `across_waves`: waves, in the order of their names. `keep first`
    and `keep last` keep one and set the others aside, with the reason (within a wave, one that can be
    used, where there is any); `panel` keeps all as answers of one participant, in order.
    """

    within_wave: Repeats = "keep first"
    across_waves: Repeats = "panel"


class HeldOut(Spec):
    """What no model is trained on: interventions by id, questions, and demographic cells.

    A cell is a set of demographics with the options that belong to it; who is in all of them is
    held out, and so is everything they answered.
    """

    interventions: tuple[RawText, ...] = ()
    questions: tuple[str, ...] = ()
    cells: tuple[
        Annotated[dict[str, Annotated[tuple[RawText, ...], Field(min_length=1)]], Field(min_length=1)], ...
    ] = ()


class Splits(Spec):
    """Fractions of participants; they must sum to one.

    Everybody is drawn by a hash, so at n people the train share has a standard deviation of
    √(train · (1 − train) / n): 1.3 points at a thousand, 0.4 at ten thousand. `key` draws anew. Choose it
    once, before any result is looked at: another key moves people between the splits.
    """

    train: Annotated[float, Field(gt=0, lt=1)] = 0.8
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1
    key: Annotated[int, Field(ge=0)] = 0

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
    of its own, named by wave and row number. `missing` are raw values that mean "no answer",
    `weight` is the raw column of survey weights, `strata` are demographics by which splits are
    reported. `written` is `questions` as they stand in the file; `questions` are these with question
    tables unfolded.
    """

    name: Name
    folder: Path
    title: str
    source: str
    simulated: bool = False
    participant: str | None
    duplicates: Duplicates = Duplicates()
    waves: Waves = Waves()
    missing: tuple[RawText, ...] = ("",)
    weight: str | None = None
    demographics: Annotated[tuple[Demographic, ...], Field(min_length=1)]
    strata: tuple[str, ...] = ()
    written: Annotated[tuple[Question, ...], Field(min_length=1, alias="questions")]
    interventions: Interventions | None = None
    held_out: HeldOut = HeldOut()
    prompts: PromptTemplates
    splits: Splits = Splits()

    _questions: tuple[Question, ...] = PrivateAttr(default=())

    @property
    def landing(self) -> Path | str:
        """Where raw files land: a folder of this machine, or the URL of one elsewhere."""
        return self.waves.landing(self.folder)

    @property
    def questions(self) -> tuple[Question, ...]:
        """Every question, question tables unfolded, in the codebook's order."""
        return self._questions

    @model_validator(mode="after")
    def _values_are_apart(self) -> SurveySpec:
        check_apart(self.missing, "missing")
        check_apart(self.held_out.interventions, "held_out", "interventions")
        if self.interventions:
            check_apart(self.interventions.none, "interventions", "none")
        return self

    @model_validator(mode="after")
    def _questions_unfold(self) -> SurveySpec:
        questions: list[Question] = []
        for position, entry in enumerate(self.written):
            try:
                made = list(unfolded(entry, self.folder))
            except SpecError as error:
                raise SpecError(
                    error.problem,
                    at=("questions", position, *error.at),
                    value=error.value,
                    remedy=error.remedy,
                ) from None
            for question in made:
                self._check_question(question, position, questions)
                questions.append(question)
        self._questions = tuple(questions)
        return self

    def _check_question(self, question: Question, position: int, before: list[Question]) -> None:
        """Raise SpecError for what the question alone cannot know to be wrong."""
        if question.id in [other.id for other in before]:
            raise SpecError(
                "listed twice",
                at=("questions", position, "id"),
                value=question.id,
                remedy="give each its own name",
            )
        check_before(question, before, ("questions", position, "before"))
        if any(columns.intervention for columns in question.columns) and self.interventions is None:
            raise SpecError(
                "the question names an intervention column, but there is no `interventions` table",
                at=("questions", position, "columns"),
                remedy="add `interventions: {file, id, text}`",
            )
        taken = {*ASKED, *(self.interventions.fields if self.interventions else ())}
        for field in question.fields:
            if field in taken:
                raise SpecError(
                    f"every question has {{{field}}} already",
                    at=("questions", position, "for_each" if question.for_each else "fields", field),
                    remedy="use another name",
                )
        if question.user is not None:
            allowed = taken | set(question.fields)
            check_placeholders(("questions", position, "user"), question.user, allowed, question.id)

    @model_validator(mode="after")
    def _names_lead_somewhere(self) -> SurveySpec:
        slugs = [d.slug for d in self.demographics]
        for position, slug in enumerate(slugs):
            if slug in slugs[:position]:
                raise SpecError(
                    "listed twice",
                    at=("demographics", position, "name"),
                    value=slug,
                    remedy="give each its own name",
                )
        known = {d.name: d for d in self.demographics}
        _check_known(("strata",), self.strata, known)
        for position, cell in enumerate(self.held_out.cells):
            at: tuple[str | int, ...] = ("held_out", "cells", position)
            _check_known(at, tuple(cell), known)
            for name, options in cell.items():
                _check_known((*at, name), options, known[name].options)
        _check_known(("held_out", "questions"), self.held_out.questions, [q.id for q in self.questions])
        return self

    @model_validator(mode="after")
    def _changes_fit(self) -> SurveySpec:
        known = {d.name: d for d in self.demographics}
        for position, change in enumerate(self.waves.changes):
            at: tuple[str | int, ...] = ("waves", "changes", position)
            _check_known((*at, "demographics"), tuple(change.demographics), known)
            _check_known((*at, "questions"), tuple(change.questions), [q.id for q in self.questions])
            _check_known((*at, "columns"), tuple(change.columns), self.raw_columns)
            for name, part in change.demographics.items():
                labels = (*(part.codes or {}).values(), *(part.options or ()))
                _check_known((*at, "demographics", name), labels, known[name].options)
            for question in [q for q in self.questions if q.id in change.questions]:
                _check_change(question, change.questions[question.id], (*at, "questions", question.id))
        return self

    @model_validator(mode="after")
    def _wordings_can_be_filled(self) -> SurveySpec:
        known = [d.name for d in self.demographics]  # in an order, for the remedy
        further = set(self.interventions.fields) if self.interventions else set()
        for name in self.prompts.names:
            template = self.prompts.named(name)
            at = ("prompts",) if name == "default" else ("prompts", "templates", name)
            check_placeholders((*at, "system"), template.system, {"demographics"})
            for question in self.questions:
                if question.user is None:
                    allowed = {*ASKED, *further, *question.fields}
                    check_placeholders((*at, "user"), template.user, allowed, question.id)
            _check_known((*at, "demographics", "show"), template.demographics.show or (), known)
        return self

    @property
    def raw_columns(self) -> tuple[str, ...]:
        """Every column a raw wave must have, in the codebook's order."""
        columns = [column for column in (self.participant, self.weight) if column]
        for demographic in self.demographics:
            columns += demographic.columns
        for question in self.questions:
            columns += [*question.where, *question.row_fields.values()]
            for pair in question.columns:
                columns += [pair.answer, *([pair.intervention] if pair.intervention else [])]
        return tuple(dict.fromkeys(columns))

    def format_of(self, wave: str) -> WaveFormat:
        """How the file of this wave is to be read."""
        form: WaveFormat = self.waves
        for change in self._changes_of(wave):
            form = change.format or form
        return WaveFormat(**{field: getattr(form, field) for field in WaveFormat.model_fields})

    def for_wave(self, wave: str) -> SurveySpec:
        """The codebook as it holds for one wave.

        Columns have the names, and cells the codes, that they have in that wave. What was not asked
        in it is gone from `questions`; a demographic that was not is there without a column.
        """
        demographics = {d.name: _in_wave(d, wave) for d in self.demographics}
        questions = {q.id: q for q in self.questions if matches(wave, q.waves)}
        missing, renamed = self.missing, dict[str, str]()
        for change in self._changes_of(wave):
            renamed |= change.columns
            missing = missing if change.missing is None else change.missing
            for name, part in change.demographics.items():
                given = {field: value for field, value in part if value is not None}
                demographics[name] = demographics[name].model_copy(update=given)
            for name in change.questions.keys() & questions.keys():
                questions[name] = questions[name].changed(change.questions[name])
        if not questions:
            raise BadInput(
                "no question of the codebook was asked in this wave",
                file=self.folder / "survey.yaml",
                field="questions",
                value=wave,
                remedy="correct `waves` of the questions, or the file's name",
            )
        return self.model_copy(
            update={
                "participant": renamed.get(self.participant or "", self.participant),
                "weight": renamed.get(self.weight or "", self.weight),
                "missing": missing,
                "waves": Waves(**dict(self.format_of(wave))),
                "demographics": tuple(_renamed_demographic(d, renamed) for d in demographics.values()),
                "written": (asked := tuple(_renamed_question(q, renamed) for q in questions.values())),
            }
        )._asking(asked)

    def _asking(self, questions: tuple[Question, ...]) -> SurveySpec:
        self._questions = questions
        return self

    def _changes_of(self, wave: str) -> list[WaveChange]:
        return [change for change in self.waves.changes if change.concerns(wave)]


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


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `survey.yaml`, for editors."""
    schema = SurveySpec.model_json_schema(by_alias=True)
    for given in ("name", "folder"):
        schema["properties"].pop(given)
        schema["required"].remove(given)
    for part, follows in (("Question", "scale"), ("Demographic", "options")):  # from other fields
        schema["$defs"][part]["required"].remove(follows)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "evsim survey.yaml"}


def _check_known(at: tuple[str | int, ...], named: tuple[str, ...], known: Any) -> None:
    for name in named:
        if name not in known:
            raise SpecError(
                "nothing in the codebook is called so",
                at=at,
                value=name,
                remedy=f"use one of: {', '.join(map(str, known))}",
            )


def _check_change(question: Question, change: QuestionChange, at: tuple[str | int, ...]) -> None:
    """Raise SpecError for a change of a question that the question knows nothing of."""
    if change.dont_know and question.dont_know is None:
        raise SpecError(
            'the question has no "don\'t know" that could be otherwise',
            at=(*at, "dont_know"),
            value=list(change.dont_know),
            remedy="give the question its `dont_know: {values, as}`",
        )
    if change.options is None:
        return
    if not question.options:
        raise SpecError(
            "the question has no options, but a scale",
            at=(*at, "options"),
            value=list(change.options),
            remedy="remove them; a question asked on another scale is another question",
        )
    _check_known((*at, "options"), change.options, question.options)
    if list(change.options) != [option for option in question.options if option in change.options]:
        raise SpecError(
            "the options offered stand in another order than the question's, or twice",
            at=(*at, "options"),
            value=list(change.options),
            remedy="write them in the question's order; raw numbers that run the other way: `reversed`",
        )


def _in_wave(demographic: Demographic, wave: str) -> Demographic:
    """The demographic without a source where it was not asked, and with the wave's own constant."""
    if not matches(wave, demographic.waves):
        return demographic.model_copy(update={"column": None, "checkboxes": {}, "constant": {}})
    own = [option for pattern, option in demographic.constant.items() if matches(wave, (pattern,))]
    return demographic.model_copy(update={"constant": {wave: own[0]} if own else {}})


def _renamed_demographic(demographic: Demographic, renamed: Mapping[str, str]) -> Demographic:
    boxes = {renamed.get(column, column): option for column, option in demographic.checkboxes.items()}
    column = renamed.get(demographic.column or "", demographic.column)
    return demographic.model_copy(update={"column": column, "checkboxes": boxes})


def _renamed_question(question: Question, renamed: Mapping[str, str]) -> Question:
    def new(column: str) -> str:
        return renamed.get(column, column)

    columns = tuple(
        AnswerColumns(
            answer=new(pair.answer), intervention=new(pair.intervention) if pair.intervention else None
        )
        for pair in question.columns
    )
    fields = {
        key: RowField(column=new(field.column)) if isinstance(field, RowField) else field
        for key, field in question.fields.items()
    }
    where = {new(column): value for column, value in question.where.items()}
    return question.model_copy(update={"columns": columns, "fields": fields, "where": where})
