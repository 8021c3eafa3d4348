"""The codebook's wordings as SQL: `str.format` for millions of rows without a Python object a row.

Belongs here: filling templates. What is the same for all rows of a question is filled in Python;
what differs from row to row is put between by SQL. Not here: which rows become prompts (`render.py`),
which placeholders are allowed (`specs/templates.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any, NamedTuple

from evsim_assets import sql
from evsim_assets.specs.demographics import SEVERAL_SEPARATOR, Demographic
from evsim_assets.specs.questions import DIGITS, Question, Scale
from evsim_assets.specs.seeds import keyed_rank_sql
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.specs.templates import DemographicList, OptionList, Template
from evsim_assets.surveys.cell_sql import WHITE_SPACE

Pieces = tuple[list[str], list[str]]
"""A template with n open placeholders: n + 1 literal texts, and the n names between them."""


def pieces(template: str, fixed: Mapping[str, str]) -> Pieces:
    """The template with the `fixed` placeholders filled in, cut at the others."""
    literals, names = [""], list[str]()
    for literal, name, _, _ in Formatter().parse(template):
        literals[-1] += literal
        if name is not None and name in fixed:
            literals[-1] += fixed[name]
        elif name is not None:
            names.append(name)
            literals.append("")
    return literals, names


def system_sql(template: Template, survey: SurveySpec) -> str:
    """The system prompt of an answer, as an expression of its demographics."""
    listed = demographics_sql(template.demographics, survey)
    return _joined(pieces(template.system, {}), {"demographics": listed})


def demographics_sql(form: DemographicList, survey: SurveySpec) -> str:
    """What is known of the person, as a list in the form that the codebook asks for.

    With `form.shuffle` the order is that of `keyed_rank("shuffle:<survey>:<demographic>", participant)`.
    """
    by_name = {d.name: d for d in survey.demographics}
    shown = [by_name[name] for name in form.show] if form.show is not None else list(by_name.values())
    items = [_item(form, demographic) for demographic in shown]
    separator = sql.text(form.separator)
    if not shown:
        together = "''"
    elif form.shuffle:
        ranks = [keyed_rank_sql(f"shuffle:{survey.name}:{d.slug}", "participant") for d in shown]
        pairs = ", ".join(
            f"{{'rank': {rank}, 'item': {item}}}" for rank, item in zip(ranks, items, strict=True)
        )
        # a list of texts leaves out what is NULL, and is NULL where nothing is known
        in_order = f"list_transform(list_sort([{pairs}]), lambda pair: pair.item)"
        together = f"coalesce(array_to_string({in_order}, {separator}), '')"
    else:
        together = f"concat_ws({separator}, {', '.join(items)})"
    return _joined(pieces(form.frame, {}), {"items": together})


def _item(form: DemographicList, demographic: Demographic) -> str:
    """One demographic of the list; NULL where it is not known."""
    value = sql.name(demographic.slug)
    if demographic.has_several:
        value = f"replace({value}, {sql.text(SEVERAL_SEPARATOR)}, ', ')"
    return _joined(pieces(form.item, {"name": demographic.name}), {"value": value}, null_if_any=True)


def _joined(template: Pieces, values: Mapping[str, str], null_if_any: bool = False) -> str:
    """The pieces put together, with an expression for every open placeholder."""
    literals, names = template
    parts = [sql.text(literals[0])]
    for name, literal in zip(names, literals[1:], strict=True):
        parts += [values[name], sql.text(literal)]
    parts = [part for part in parts if part != "''"] or ["''"]
    return f"({' || '.join(parts)})" if null_if_any else f"concat({', '.join(parts)})"


def has_digits(question: Question) -> bool:
    """Whether the question can be asked on 0–9 too: its scale is wider, and its answers are numbers."""
    return is_wide(question.scale) and not question.labels and question.answer_scale == question.scale


def is_wide(scale: Scale) -> bool:
    """Whether 0–9 is a coarser scale than this one."""
    return len(scale.answers) > len(DIGITS.answers)


def option_list(form: OptionList, question: Question) -> str:
    """What `{options}` becomes: the numbers and words of the answers, ascending; '' without words.

    Of a question as it holds for a wave, only those that were offered.
    """
    numbered = zip(question.answer_scale.answers, question.labels, strict=False)
    return form.separator.join(
        form.item.format(number=number, label=label)
        for number, label in numbered
        if number not in question.not_offered
    )


class _Shape(NamedTuple):
    """The open placeholders of a wording, and at which ends white space may come to stand."""

    names: tuple[str, ...]
    open_left: bool
    open_right: bool


def _outside_stripped(template: Pieces) -> tuple[list[str], _Shape]:
    """The literal texts without white space at the two ends, where that can be said beforehand."""
    literals, names = template
    if not names:
        return [literals[0].strip()], _Shape((), False, False)
    first, last = literals[0].lstrip(), literals[-1].rstrip()
    return [first, *literals[1:-1], last], _Shape(tuple(names), not first, not last)


def _stripped(text: str, shape: _Shape) -> str:
    """`str.strip` of the expression. The first character is looked at before: most texts need nothing."""
    if shape.open_right:
        text = f"rtrim({text}, {sql.text(WHITE_SPACE)})"
    if shape.open_left:
        blank = ", ".join(str(ord(character)) for character in WHITE_SPACE)
        trimmed = f"ltrim({text}, {sql.text(WHITE_SPACE)})"
        text = f"CASE WHEN unicode({text}) IN ({blank}) THEN {trimmed} ELSE {text} END"
    return text


class _Asked(NamedTuple):
    """A question as it was asked in some waves; in all others, where none is named."""

    question: Question
    waves: list[str]


def _variants(survey: SurveySpec, waves: Sequence[str]) -> dict[str, list[_Asked]]:
    """How each question was asked: at first with every option, then wherever some were not offered."""
    variants = {question.id: [_Asked(question, [])] for question in survey.questions}
    changes = [change for change in survey.waves.changes if change.questions]
    for wave in waves:
        asked = survey.for_wave(wave).questions if any(c.concerns(wave) for c in changes) else ()
        for question in asked:
            if not question.not_offered:
                continue
            known = variants[question.id]
            same = [v for v in known if v.question.not_offered == question.not_offered]
            if same:
                same[0].waves.append(wave)
            else:
                known.append(_Asked(question, [wave]))
    return variants


class Wordings:
    """How every question is asked in every template: rows for a table that prompts are joined with.

    Waves in which not every option was offered are asked otherwise: in their text, `{options}`, `{low}`
    and `{high}` are of the offered ones; everything else is the question's.

    A row: `place` (of the template), `question`, `variant` (0, or a number of such waves), `low`, `high`,
    `step`, `labels` (JSON array, where the question is answered by label, else NULL) and `words` (the same
    as a list), `shape` (which open placeholders, in which order) and the literal texts between them, `t0`,
    `t1`, … and on 0–9 `d0`, `d1`, … (NULL where there is no 0–9 form).
    """

    def __init__(self, survey: SurveySpec, templates: Sequence[str], waves: Sequence[str] = ()) -> None:
        self._survey = survey
        self._shapes: dict[_Shape, int] = {}
        self._variants = _variants(survey, waves)
        made = [
            self._row(place, variant, asked.question, survey.prompts.named(name))
            for place, name in enumerate(templates)
            for variants in self._variants.values()
            for variant, asked in enumerate(variants)
        ]
        self.width = max(len(texts) for _, texts, _ in made)
        self.rows = [
            row | _numbered("t", texts, self.width) | _numbered("d", digits, self.width)
            for row, texts, digits in made
        ]

    @property
    def slots(self) -> set[str]:
        """The placeholders that are filled row by row."""
        return {name for shape in self._shapes for name in shape.names}

    @property
    def variant_sql(self) -> str:
        """Which variant of its question an answer was given to, by its question and wave."""
        cases = [
            f"WHEN question = {sql.text(id)} AND wave IN ({_listed(asked.waves)}) THEN {variant}"
            for id, variants in self._variants.items()
            for variant, asked in enumerate(variants)
            if variant
        ]
        return f"CASE {' '.join(cases)} ELSE 0 END" if cases else "0"

    def schema(self) -> Any:
        """The columns of `rows` and their Arrow types."""
        import pyarrow as pa

        numbers = [(name, pa.int64()) for name in ("place", "variant", "low", "high", "step", "shape")]
        texts = ["question", "labels", *(f"{kind}{i}" for kind in "td" for i in range(self.width))]
        return pa.schema(
            [*numbers, *((name, pa.string()) for name in texts), ("words", pa.list_(pa.string()))]
        )

    def user_sql(self, values: Mapping[str, str], digits: bool = False) -> str:
        """The survey prompt, as an expression of a row of this table and of each slot's expression."""
        letter = "d" if digits else "t"
        cases = []
        for shape, number in self._shapes.items():
            parts = [f"{letter}0"]
            for place, name in enumerate(shape.names, 1):
                parts += [values[name], f"{letter}{place}"]
            text = _stripped(f"concat({', '.join(parts)})", shape)
            cases.append(f"WHEN {number} THEN {text}")
        asked = f"CASE shape {' '.join(cases)} END"
        return f"CASE WHEN d0 IS NOT NULL THEN {asked} END" if digits else asked

    def _row(
        self, place: int, variant: int, question: Question, template: Template
    ) -> tuple[dict[str, Any], list[str], list[str]]:
        asked, scale = question.user or template.user, question.answer_scale
        fixed = {key: text for key, text in question.fields.items() if isinstance(text, str)}
        offered = [answer for answer in scale.answers if answer not in question.not_offered]
        fixed |= {"low": str(offered[0]), "high": str(offered[-1])}
        fixed["options"] = option_list(template.options, question)
        texts, shape = _outside_stripped(pieces(asked, fixed))
        digits: list[str] = []
        if has_digits(question):
            digit_bounds = {"low": str(DIGITS.low), "high": str(DIGITS.high)}
            digits, _ = _outside_stripped(pieces(asked, fixed | digit_bounds))
        words = list(question.labels) if question.answer_by == "label" else None
        row = {
            "place": place,
            "question": question.id,
            "variant": variant,
            "low": scale.low,
            "high": scale.high,
            "step": scale.step,
            "shape": self._shapes.setdefault(shape, len(self._shapes)),
            "labels": json.dumps(words, ensure_ascii=False) if words else None,
            "words": words,
        }
        return row, texts, digits


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(map(sql.text, texts))


def _numbered(letter: str, texts: Sequence[str], width: int) -> dict[str, str | None]:
    return {f"{letter}{i}": texts[i] if i < len(texts) else None for i in range(width)}


def row_field_sql(name: str) -> str:
    """The row's own cell for a placeholder, out of the JSON column `fields`."""
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    return f"json_extract_string(fields, {sql.text(pointer)})"
