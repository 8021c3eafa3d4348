"""The answers of raw rows, as SQL: which cells hold one, what they mean, what is wrong with them.

Belongs here: answer cells, the interventions before them, the row's own fields. Not here: whose the row
is (`people_sql.py`), what a single cell says (`cell_sql.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evsim_assets import sql
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import AnswerColumns, Question, Scale, SurveySpec
from evsim_assets.surveys.cell_sql import Cells, canonical, canonical_cell, is_one_of, literals, number
from evsim_assets.surveys.problem_sql import Check, Problem


def told_apart(survey: SurveySpec) -> tuple[str, ...]:
    """The raw columns that tell the rows of one participant apart: those of `where`."""
    return tuple(dict.fromkeys(column for question in survey.questions for column in question.where))


def is_asked(cells: Cells, question: Question) -> str:
    """Whether a row belongs to the question."""
    picked = [is_one_of(cells.of(column), [value]) for column, value in question.where.items()]
    return " AND ".join(picked) or "true"


def asked(cells: Cells, survey: SurveySpec) -> dict[str, int]:
    """The conditions under which a row has answer cells → how many it then has."""
    counts: dict[str, int] = {}
    for question in survey.questions:
        condition = is_asked(cells, question)
        counts[condition] = counts.get(condition, 0) + len(question.columns)
    return counts


def is_missing(cell: str, question: Question, missing: Sequence[str]) -> str:
    """Whether an answer cell says "no answer". What the question says of "don't know" goes before
    the survey's missing values."""
    said = question.dont_know
    if said is None:
        return is_one_of(cell, missing)
    if said.meaning == "missing":
        return is_one_of(cell, [*missing, *said.values])
    return f"({is_one_of(cell, missing)} AND NOT {is_one_of(cell, said.values)})"


@dataclass(frozen=True)
class Answered:
    """One answer cell of a row as SQL.

    `layers` lead from column names to expressions, each of which may use the columns of the layers
    before it: `answer_<k>`, the cell, NULL where the row is not asked; `listed_<k>`, which of the
    codebook's words it is, and `missing_<k>`; `raw_<k>`, its number if it is none of them; `number_<k>`,
    the answer on the scale. k is the `position` among the row's answer cells. `check` finds what is
    wrong, and its column `problem_<k>` comes last.
    """

    question: Question
    columns: AnswerColumns
    position: int
    layers: tuple[dict[str, str], ...]
    check: Check

    @property
    def given(self) -> str:
        """The usable answer as a struct, NULL for none."""
        k, intervention, fields = self.position, "NULL::VARCHAR", "NULL::VARCHAR"
        if self.columns.intervention is not None:
            intervention = f"intervention_{k}"
        if self.question.row_fields:
            fields = f"fields_{k}"
        return (
            f"CASE WHEN number_{k} IS NOT NULL AND problem_{k} IS NULL THEN {{'question':"
            f" {sql.text(self.question.id)}, 'intervention': {intervention}, 'fields': {fields},"
            f" 'answer': number_{k}}} END"
        )


def answered(cells: Cells, survey: SurveySpec, interventions: Sequence[str]) -> list[Answered]:
    """Every answer cell of a row, in the codebook's order. `interventions` are the canonical ids.

    Raises:
        BadInput: a code of a question leads nowhere in this wave.
    """
    pairs = [(question, columns) for question in survey.questions for columns in question.columns]
    return [
        _answered(cells, survey, interventions, question, columns, position)
        for position, (question, columns) in enumerate(pairs)
    ]


def _answered(
    cells: Cells,
    survey: SurveySpec,
    interventions: Sequence[str],
    question: Question,
    columns: AnswerColumns,
    k: int,
) -> Answered:
    words = _words(question, survey)
    cell, scale = f"answer_{k}", question.scale
    turned = f"{scale.low + scale.high} - ({number(cell)})" if question.reversed else number(cell)
    meaning = f"({literals(list(words.values()))}::BIGINT[])"
    first = {cell: f"CASE WHEN {is_asked(cells, question)} THEN {cells.of(columns.answer)} END"}
    second = {
        f"listed_{k}": cells.position(cell, list(words)),
        f"missing_{k}": f"{cells.position(cell, [key for key, n in words.items() if n is None])} IS NOT NULL",
    }
    third = {f"raw_{k}": f"CASE WHEN listed_{k} IS NULL THEN {turned} END"}
    fourth = {
        f"number_{k}": f"CASE WHEN listed_{k} IS NOT NULL THEN {meaning}[listed_{k}]"
        f" WHEN raw_{k} BETWEEN {scale.low} AND {scale.high} THEN {_on_scale(f'raw_{k}', scale)} END"
    }
    problems = _answer_problems(question, columns, k)
    if columns.intervention is not None:
        more, wrong = _intervention(cells, survey, interventions, columns.intervention, k)
        third |= more
        problems += wrong
    if question.row_fields:
        names = {name: cells.of(column) for name, column in question.row_fields.items()}
        pairs = ", ".join(f"{sql.text(name)}, {of}" for name, of in names.items())
        third[f"fields_{k}"] = f"json_object({pairs})::VARCHAR"
        problems += _empty_fields(cells, survey, question)
    check = Check(f"problem_{k}", tuple(_only_where(f"{cell} IS NOT NULL AND NOT missing_{k}", problems)))
    return Answered(question, columns, k, (first, second, third, fourth), check)


def _only_where(condition: str, problems: Sequence[Problem]) -> list[Problem]:
    """The problems, counted as one answer cell each, where the condition holds."""
    return [
        Problem(f"{condition} AND ({p.when})", p.column, p.value, p.reason, p.remedy, "1") for p in problems
    ]


def _words(question: Question, survey: SurveySpec) -> dict[str, int | None]:
    """Canonical value → the number it stands for, None for "no answer".

    Where a value is said twice, "don't know" goes before missing values, these before codes, and codes
    before the options' own words.
    """
    scale = question.scale
    numbers = dict(zip(question.options, scale.answers, strict=False))
    words: dict[str, int | None] = {canonical(option): number for option, number in numbers.items()}
    for code, meant in question.codes.items():
        words[canonical(code)] = numbers[meant] if meant in numbers else _number(meant, question, survey)
    words |= {canonical(value): None for value in survey.missing}
    if question.dont_know:
        words |= {canonical(value): question.dont_know.number for value in question.dont_know.values}
    return words


def _number(meant: str, question: Question, survey: SurveySpec) -> int:
    """The number on the scale that a code stands for; codes of single waves are checked only here."""
    try:
        value = float(meant)
    except ValueError:
        value = float("nan")
    if value not in question.scale.answers:
        raise BadInput(
            "a code of the question stands for no answer in this wave",
            file=survey.folder / "survey.yaml",
            field=f"questions.{question.id}.codes",
            value=meant,
            remedy="write one of the options, or a number on the scale",
        )
    return int(value)


def _on_scale(value: str, scale: Scale) -> str:
    """The answer nearest to the value by the scale's rounding rule, NULL where it allows none.

    With s the number of steps from low to the value, and s - floor(s) exact in binary, halves are told
    from what is just below them; floor(s + 1/2) would take 0.49999999999999994 for a half.
    """
    steps = f"(({value} - {scale.low}) / {scale.step})"
    rest = f"({steps} - floor({steps}))"
    up = {
        "half_up": f"{rest} >= 0.5",
        "half_even": f"({rest} > 0.5 OR ({rest} = 0.5 AND floor({steps}) % 2 = 1))",
        "up": f"{rest} > 0",
        "down": "false",
        "none": f"CASE WHEN {rest} > 0 THEN NULL ELSE false END",
    }[scale.rounding]
    return f"{scale.low} + {scale.step} * (floor({steps})::BIGINT + ({up})::BIGINT)"


def _answer_problems(question: Question, columns: AnswerColumns, k: int) -> list[Problem]:
    scale = question.scale
    nothing = "neither an option of the question nor a number" if question.options else "not a number"
    between = f"between two answers of the scale {scale.low}–{scale.high} (step {scale.step})"
    remedy = "correct the answer, or the scale (or its rounding) in survey.yaml"
    if question.options:
        remedy = "correct the answer, or the options (or codes) in survey.yaml"
    return [
        Problem(when, columns.answer, f"answer_{k}", reason, remedy)
        for when, reason in (
            (f"listed_{k} IS NULL AND raw_{k} IS NULL", nothing),
            (
                f"raw_{k} < {scale.low} OR raw_{k} > {scale.high}",
                f"off the scale {scale.low}–{scale.high}",
            ),
            (f"number_{k} IS NULL", between),
        )
    ] + [
        Problem(
            f"number_{k} = {number}",
            columns.answer,
            f"answer_{k}",
            f"{label!r} was not offered in this wave",
            "correct the answer, or the options that survey.yaml gives under waves.changes",
        )
        for number, label in zip(question.answer_scale.answers, question.labels, strict=False)
        if number in question.not_offered
    ]


def _intervention(
    cells: Cells, survey: SurveySpec, interventions: Sequence[str], column: str, k: int
) -> tuple[dict[str, str], list[Problem]]:
    """The canonical id of what was read before the answer, NULL for none; and when it is not known."""
    cell = cells.of(column)
    none = {canonical(value) for value in (survey.interventions.none if survey.interventions else ())}
    ids = [id for id in interventions if id not in none]
    position = cells.position(cell, [*sorted(none), *ids])
    more = {
        f"read_{k}": position,
        f"intervention_{k}": f"CASE WHEN {position} > {len(none)} THEN {canonical_cell(cell)} END",
    }
    remedy = "correct the id, or add the text to the table of interventions"
    absent = is_one_of(cell, {"", *survey.missing})
    nothing = "fill in the id; if nothing was read, list the value under interventions.none in survey.yaml"
    return more, [
        Problem(f"read_{k} IS NULL AND {absent}", column, cell, "the answer has no intervention", nothing),
        Problem(f"read_{k} IS NULL", column, cell, "there is no text for this intervention", remedy),
    ]


def _empty_fields(cells: Cells, survey: SurveySpec, question: Question) -> list[Problem]:
    remedy = "fill in the cell, or leave {{{name}}} out of the prompt"
    return [
        Problem(
            is_one_of(cells.of(column), {"", *survey.missing}),
            column,
            cells.of(column),
            f"the prompt's {{{name}}} is empty",
            remedy.format(name=name),
        )
        for name, column in question.row_fields.items()
    ]
