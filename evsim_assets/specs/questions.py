"""What participants were asked: scales, ordered options, "don't know", question tables.

Belongs here: the codebook's fields for one question, and how a question table unfolds. Not here:
reading answers (`surveys/`), the wording of prompts (`templates.py`).
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.values import check_apart
from evsim_assets.specs.waves import Patterns, QuestionChange, RawText
from evsim_assets.specs.yaml_file import Spec, SpecError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]


class Scale(Spec):
    """A numeric answer scale: `low`, `low + step`, … `high`.

    `rounding` says what happens to a raw answer between two steps: `none` quarantines it; `half_up`
    takes the nearest step and, between two, the upper one; `half_even` between two the one that is an
    even number of steps from `low`; `down` and `up` take the step below and above.
    """

    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1
    rounding: Literal["none", "half_up", "half_even", "down", "up"] = "none"

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


DIGITS = Scale(low=0, high=9)
"""The single-token scale of the paper's numeric penalty (B.3)."""


class AnswerColumns(Spec):
    """Where one answer stands in a raw row, and which intervention came before it."""

    answer: str
    intervention: str | None = None


class RowField(Spec):
    """A placeholder of the prompt that is filled with the row's own cell of `column`."""

    column: str


class DontKnow(Spec):
    """Raw `values` by which people say that they have no answer.

    `as: missing` leaves such an answer out (it is counted as missing). `as: answer` makes it one:
    `number`, one step below the scale or one above it, with its `label`.
    """

    values: Annotated[tuple[RawText, ...], Field(min_length=1)]
    meaning: Literal["missing", "answer"] = Field(alias="as")
    number: int | None = None
    label: str | None = None

    @model_validator(mode="after")
    def _an_answer_has_a_number(self) -> DontKnow:
        given = self.number is not None and self.label is not None
        if (self.meaning == "answer") != given or (self.number is None) != (self.label is None):
            raise SpecError(
                "`number` and `label` go with `as: answer`",
                at=("as",),
                value=self.meaning,
                remedy="give both with `as: answer`, and neither with `as: missing`",
            )
        check_apart(self.values, "values")
        return self


class Question(Spec):
    """Something participants were asked, on one scale.

    A wide file has a column (or several, with the interventions they follow) per question; in a
    long file `where` picks the rows of this question. `fields` fill the prompt template with a text
    or with the row's own cell.

    The answer is a number on a `scale`, or one of ordered `options`, which stand for the numbers
    `first`, `first + 1`, …; a raw cell then holds the label, its number, or a value that `codes`
    translates to either. With `reversed` the raw numbers run the other way. `answer_by: label` makes
    the model answer with the label's words. `before` names the question that was asked on the same
    thing, and the same scale, before the intervention: an intervention's effect is the mean difference of
    the two answers. `waves` are those in which this one was asked (all, unless given).

    With `for_each` this is a question table: every row of that CSV file (or list) makes a question, its
    cells take the place of `{column}` in `id`, `columns`, `where`, `fields` and `before`, and are
    fields of the prompt themselves.
    """

    id: str
    columns: Annotated[tuple[AnswerColumns, ...], Field(min_length=1)]
    scale: Scale
    options: tuple[str, ...] = ()
    first: int = 1
    answer_by: Literal["number", "label"] = "number"
    codes: dict[RawText, RawText] = Field(default_factory=dict)
    reversed: bool = False
    dont_know: DontKnow | None = None
    where: dict[str, RawText] = Field(default_factory=dict)
    fields: dict[str, RawText | RowField] = Field(default_factory=dict)
    user: str | None = None
    before: str | None = None
    waves: Patterns | None = None
    for_each: str | tuple[dict[str, RawText], ...] | None = None

    _offered: tuple[str, ...] | None = PrivateAttr(default=None)

    @property
    def not_offered(self) -> tuple[int, ...]:
        """The answers that could not be given in the wave that this codebook is for, ascending: options
        that were not offered in it, and the answer "don't know" where it was not."""
        numbered = zip(self.answer_scale.answers, self.labels, strict=False)
        gone = {number for number, label in numbered if self._offered and label not in self._offered}
        extra = self.dont_know.number if self.dont_know else None
        if self.dont_know is not None and extra is not None:
            gone = gone - {extra} if self.dont_know.values else gone | {extra}
        return tuple(sorted(gone))

    def changed(self, change: QuestionChange) -> Question:
        """The question with what the change says."""
        given = {field: getattr(change, field) for field in ("codes", "reversed")}
        made = self.model_copy(update={field: said for field, said in given.items() if said is not None})
        if change.dont_know is not None and self.dont_know is not None:
            said = self.dont_know.model_copy(update={"values": change.dont_know})
            made = made.model_copy(update={"dont_know": said})
        if change.options is not None:
            made._offered = change.options
        return made

    @property
    def answer_scale(self) -> Scale:
        """The scale with the answer "don't know", where that is one."""
        extra = self.dont_know.number if self.dont_know else None
        if extra is None:
            return self.scale
        low, high = min(self.scale.low, extra), max(self.scale.high, extra)
        return Scale(low=low, high=high, step=self.scale.step, rounding=self.scale.rounding)

    @property
    def labels(self) -> tuple[str, ...]:
        """The words of every answer of `answer_scale`, ascending; none on a scale of bare numbers."""
        if not self.options:
            return ()
        if self.dont_know is None or self.dont_know.number is None or self.dont_know.label is None:
            return self.options
        if self.dont_know.number < self.scale.low:
            return (self.dont_know.label, *self.options)
        return (*self.options, self.dont_know.label)

    @property
    def row_fields(self) -> dict[str, str]:
        """Placeholder → raw column, of the fields that each row fills."""
        return {key: field.column for key, field in self.fields.items() if isinstance(field, RowField)}

    @model_validator(mode="before")
    @classmethod
    def _scale_follows(cls, given: object) -> object:
        """Ordered options are a scale of their own."""
        if not isinstance(given, dict) or not isinstance(given.get("options"), (list, tuple)):
            return given
        if not given["options"]:
            return given
        if "scale" in given and not isinstance(given["scale"], Scale):
            raise SpecError(
                "a question has either a scale or options",
                at=("options",),
                remedy="remove the scale: options are numbered from `first`",
            )
        first, count = given.get("first", 1), len(given["options"])
        if not isinstance(first, int) or count < 2:
            return given
        return given | {"scale": Scale(low=first, high=first + count - 1)}

    @model_validator(mode="after")
    def _has_a_name(self) -> Question:
        if self.for_each is None and not re.fullmatch(r"[a-z0-9][a-z0-9_]*", self.id):
            raise SpecError(
                "no name for a question",
                at=("id",),
                value=self.id,
                remedy="use lower-case letters, digits and underscores",
            )
        return self

    @model_validator(mode="after")
    def _options_are_apart(self) -> Question:
        for position, label in enumerate(self.labels):
            if label in self.labels[:position] or not label.strip():
                raise SpecError(
                    "an option is listed twice or empty",
                    at=("options", min(position, len(self.options) - 1)),
                    value=label,
                    remedy="give each option its own words",
                )
        if self.answer_by == "label" and not self.options:
            raise SpecError(
                "only a question with options can be answered by label",
                at=("answer_by",),
                remedy="list the options, or answer by number",
            )
        check_apart(self.options, "options")
        check_apart(self.codes, "codes")
        return self

    @model_validator(mode="after")
    def _codes_lead_to_answers(self) -> Question:
        if self.for_each is not None:
            return self
        for code, meant in self.codes.items():
            if meant in self.options or _number_on(self.scale, meant):
                continue
            raise SpecError(
                f"code {code!r} stands for no answer of the question",
                at=("codes", code),
                value=meant,
                remedy="write one of the options, or a number on the scale",
            )
        return self

    @model_validator(mode="after")
    def _dont_know_is_beside_the_scale(self) -> Question:
        number = self.dont_know.number if self.dont_know else None
        beside = (self.scale.low - self.scale.step, self.scale.high + self.scale.step)
        if number is not None and number not in beside:
            raise SpecError(
                'the number of "don\'t know" is not beside the scale',
                at=("dont_know", "number"),
                value=number,
                remedy=f"use {beside[0]} or {beside[1]}",
            )
        return self


def check_before(question: Question, earlier: Sequence[Question], at: tuple[str | int, ...]) -> None:
    """Raise SpecError where `before` names no question of `earlier`, or one on another scale."""
    if question.before is None:
        return
    named = [other for other in earlier if other.id == question.before]
    if not named:
        raise SpecError(
            "there is no such question earlier in the list",
            at=at,
            value=question.before,
            remedy="name a question that stands before this one",
        )
    [before] = named
    if (before.answer_scale.answers, before.labels) != (question.answer_scale.answers, question.labels):
        raise SpecError(
            "the question before has another scale, so the two answers have no difference",
            at=at,
            value=question.before,
            remedy="name a question with the same scale or options, or remove `before`",
        )


def unfolded(question: Question, folder: Path) -> Iterator[Question]:
    """The questions that one entry of the codebook stands for: itself, or one a row of its table.

    Raises:
        BadInput: the table's file is missing or no CSV.
        SpecError: a placeholder that is no column of the table, or a row that makes no valid question.
    """
    if question.for_each is None:
        yield question
        return
    for position, row in enumerate(_table(question.for_each, folder)):
        made: dict[str, Any] = {key: getattr(question, key) for key in question.model_fields_set}
        kept = {key: value for key, value in made.items() if key not in ("for_each", "scale")}
        made = {key: value if key == "user" else _filled(value, row) for key, value in kept.items()}
        if not question.options:
            made["scale"] = question.scale
        made["fields"] = {**row, **made.get("fields", {})}
        try:
            yield Question.model_validate(made)
        except ValidationError as error:
            first = error.errors()[0]
            cause = first.get("ctx", {}).get("error")
            raise SpecError(
                f"row {position + 1} of the question table makes no question: "
                + (cause.problem if isinstance(cause, SpecError) else first["msg"]),
                at=("for_each",),
                value=row,
                remedy=cause.remedy if isinstance(cause, SpecError) else "correct the table",
            ) from None


def _table(given: str | tuple[dict[str, str], ...], folder: Path) -> list[dict[str, str]]:
    if not isinstance(given, str):
        return list(given)
    path = folder / given
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines, strict=True))
    except FileNotFoundError:
        raise BadInput(
            "the question table is not there",
            file=path,
            field="for_each",
            remedy="put it into the survey's folder, or correct its name",
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"no UTF-8 CSV file: {error}",
            file=path,
            remedy="save it as CSV, UTF-8; a quote within a cell is written twice",
        ) from None
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            beyond = row.get(None, [])
            named = [row[key] for key in row if key is not None]
            raise BadInput(
                "the row has more or fewer cells than the header",
                file=path,
                line=number,
                value=[*(cell for cell in named if cell is not None), *beyond],
                remedy="complete the row, or put quotes around a cell that holds a comma",
            )
    if not rows:
        raise BadInput("the question table has no rows", file=path, remedy="write one row a question")
    return [{key.strip(): cell.strip() for key, cell in row.items()} for row in rows]


def _filled(value: Any, row: Mapping[str, str]) -> Any:
    """The value with every `{column}` in its texts replaced by the row's cell."""
    if isinstance(value, str):
        return re.sub(r"\{([^{}]+)\}", lambda found: _cell(found[1], row), value)
    if isinstance(value, Mapping):
        return {key: _filled(part, row) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_filled(part, row) for part in value)
    if isinstance(value, (AnswerColumns, RowField)):
        return type(value)(**{key: _filled(part, row) for key, part in value})
    return value


def _cell(column: str, row: Mapping[str, str]) -> str:
    if column not in row:
        raise SpecError(
            "the question table has no such column",
            at=("for_each",),
            value="{" + column + "}",
            remedy=f"use one of {', '.join('{' + key + '}' for key in row)}",
        )
    return row[column]


def _number_on(scale: Scale, meant: str) -> bool:
    try:
        number = float(meant)
    except ValueError:
        return False
    return math.isfinite(number) and number in scale.answers
