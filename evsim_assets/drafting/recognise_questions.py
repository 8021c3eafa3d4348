"""Which columns of a raw file hold answers, and which of them make one question or one question table.

Belongs here: rules of thumb for questions. Not here: everything else that columns may be
(`recognise.py`), how a question is written down (`questions.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evsim_assets.drafting.column_names import PRE_WORDS, Template, before_of, common_template, numbered
from evsim_assets.drafting.column_roles import FEW_LABELS, MANY_LABELS, NAMES_QUESTION
from evsim_assets.drafting.guess import NO_ANSWER, WIDE, Column, is_number, likely_scale, number
from evsim_assets.drafting.label_orders import usual_order
from evsim_assets.specs.values import each_once


@dataclass
class FoundQuestion:
    """A question to be, or a table of them.

    Attributes:
        columns: raw columns; several are either one question asked again after other `interventions`
            or, with a `template`, one question each.
        scale: of the numbers; None where `options` (lowest first) are.
        ordered: whether the options' own words say their order.
        before: the answer column of the question that asked the same before.
        where: the column of a long file that names the question, with its values.
    """

    columns: list[Column]
    scale: tuple[int, int] | None
    options: tuple[str, ...] = ()
    ordered: bool = True
    interventions: list[Column] = field(default_factory=list)
    template: Template | None = None
    before: str | None = None
    where: Column | None = None


def find_questions(
    columns: Sequence[Column],
    interventions: Sequence[Column],
    labels: Mapping[str, Mapping[str, str]],
) -> list[FoundQuestion]:
    """The questions among the columns; each column is in one at most."""
    left = list(columns)
    if long := _long(left):
        long.interventions = list(interventions[:1])
        return [long]
    found = _repeated(left, interventions)
    take(left, [column for question in found for column in question.columns])
    for first, second in before_of([c.name for c in left]):
        pair = [next(c for c in left if c.name == name) for name in (first, second)]
        before, after, both = (
            _question(pair[:1], labels),
            _question(pair[1:], labels),
            _question(pair, labels),
        )
        if before and after and both:
            before.scale, before.options = after.scale, after.options = both.scale, both.options
            after.before = first
            found += [before, after]
            take(left, pair)
    for template, members in _tables(left, labels):
        if question := _question(members, labels):
            question.template = template
            found.append(question)
            take(left, members)
    for column in left:
        question = _question([column], labels)
        if question and question.ordered:
            found.append(question)
    give_interventions(found, interventions)
    return found


def _long(columns: Sequence[Column]) -> FoundQuestion | None:
    """One answer a row, and a column that names its question."""
    names = [
        c
        for c in columns
        if NAMES_QUESTION.fullmatch(c.name)
        and 2 <= c.different <= MANY_LABELS
        and not c.empty
        and not likely_scale([c])
    ]
    scales = [(c, scale) for c in columns if (scale := likely_scale([c])) and c not in names]
    wide = [pair for pair in scales if pair[1] == WIDE]
    for one in (wide, scales):
        if len(one) == 1 and names:
            return FoundQuestion([one[0][0]], one[0][1], where=names[0])
    return None


def _repeated(columns: Sequence[Column], interventions: Sequence[Column]) -> list[FoundQuestion]:
    """Blocks such as intervention_1, rating_1, intervention_2, rating_2: one question asked again."""
    read = numbered([c.name for c in interventions])
    by_name = {c.name: c for c in [*columns, *interventions]}
    questions = []
    for numbers_of in numbered([c.name for c in columns]).values():
        for read_of in read.values():
            members = [by_name[name] for name in numbers_of.values()]
            if len(members) > 1 and numbers_of.keys() == read_of.keys() and (scale := likely_scale(members)):
                asked = [by_name[read_of[key]] for key in numbers_of]
                questions.append(FoundQuestion(members, scale, interventions=asked))
                break
    for question in questions:
        alone = [c for c in columns if c.name.lower().strip("_") in PRE_WORDS | {"initial", "first"}]
        if len(questions) == 1 and len(alone) == 1 and likely_scale(alone) == question.scale:
            question.before = alone[0].name
    return questions


def _tables(
    columns: Sequence[Column], labels: Mapping[str, Mapping[str, str]]
) -> list[tuple[Template, list[Column]]]:
    """Groups of three or more columns on one scale, or with one set of labels, and of like names."""
    groups: list[tuple[Template, list[Column]]] = []
    shapes = _shapes(columns)
    for shape in dict.fromkeys(shapes.values()):
        left = [c for c in columns if shapes[c.name] == shape] if shape else []
        while len(left) > 2:
            near = [
                common_template([a.name, b.name]) for i, a in enumerate(left) for b in left[i + 1 : i + 31]
            ]
            counted = {t: [c for c in left if t.item(c.name)] for t in dict.fromkeys(near) if t}
            best = max(counted, key=lambda t: (len(counted[t]), t.length), default=None)
            if best is None or len(counted[best]) < 3:
                break
            if _question(counted[best], labels):
                groups.append((best, counted[best]))
            take(left, counted[best])
    return groups


def _shapes(columns: Sequence[Column]) -> dict[str, str | frozenset[str] | None]:
    """What the columns of one question table have in common, by name: a kind of scale, or the labels of
    the column with the most of those around it; None where there is no question."""
    shapes = {column.name: _shape(column) for column in columns}
    sets = sorted({s for s in shapes.values() if isinstance(s, frozenset)}, key=len, reverse=True)
    widest = {s: next(other for other in sets if s <= other) for s in sets}
    return {name: widest[s] if isinstance(s, frozenset) else s for name, s in shapes.items()}


def _shape(column: Column) -> str | frozenset[str] | None:
    scale = likely_scale([column])
    if scale:
        return "wide" if scale == WIDE else "two-sided" if scale[0] < 0 else "narrow"
    if column.numbers or not 3 <= len(column.answers) <= FEW_LABELS:
        return None
    return frozenset(column.answers)


def _question(columns: Sequence[Column], labels: Mapping[str, Mapping[str, str]]) -> FoundQuestion | None:
    """A question on a scale or with options, if the columns look like one."""
    told = _labels_of(columns, labels)
    scale = likely_scale(columns)
    if told and columns[0].is_numeric:
        return FoundQuestion(list(columns), None, tuple(told)) if len(told) > 2 and scale else None
    if scale:
        return FoundQuestion(list(columns), scale)
    if any(c.numbers for c in columns):
        return None
    found = list(dict.fromkeys(label for c in columns for label in c.answers))
    order = usual_order(found)
    if order is None and len(columns) == 1:
        return FoundQuestion(list(columns), None, tuple(found), ordered=False) if len(found) > 2 else None
    if not 3 <= len(found) <= FEW_LABELS:
        return None
    return FoundQuestion(list(columns), None, order or tuple(found), ordered=order is not None)


def _labels_of(columns: Sequence[Column], labels: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The SPSS labels of a scale whose every answer has one, in the order of their codes."""
    told: dict[float, str] = {}
    for column in columns:
        known = labels.get(column.name, {})
        if not all(value in known for value in column.answers):
            return []
        told |= {
            number(v): label for v, label in known.items() if is_number(v) and not NO_ANSWER.fullmatch(label)
        }
    in_order = [told[code] for code in sorted(told)]
    steps = {b - a for a, b in zip(sorted(told), sorted(told)[1:], strict=False)}
    return in_order if steps <= {1.0} and len(each_once(in_order)) == len(in_order) else []


def give_interventions(questions: Sequence[FoundQuestion], interventions: Sequence[Column]) -> None:
    """Take a single intervention column to stand before the answers: those that were asked before as
    well, if there are any, else all."""
    if not interventions or any(question.interventions for question in questions):
        return
    befores = {question.before for question in questions if question.before}
    for question in [q for q in questions if q.before] or questions:
        if len(question.columns) == 1 and question.columns[0].name not in befores:
            question.interventions = list(interventions[:1])


def take(left: list[Column], taken: Sequence[Column]) -> None:
    """Remove the columns that are taken from those that are left."""
    left[:] = [column for column in left if all(column is not other for other in taken)]
