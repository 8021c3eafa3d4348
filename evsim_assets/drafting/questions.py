"""One question, and the interventions, of a drafted codebook, as lines of YAML.

Belongs here: their fields, and the comments beside them. Not here: demographics
(`demographics.py`), the codebook around them (`draft.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from evsim_assets.drafting.column_names import common_template, identifier, words_of
from evsim_assets.drafting.column_roles import CONTROL
from evsim_assets.drafting.guess import NO_ANSWER, Column, is_number, number
from evsim_assets.drafting.notes import CHECK, Drafted, is_no, with_label
from evsim_assets.drafting.recognise import Found
from evsim_assets.drafting.recognise_questions import FoundQuestion
from evsim_assets.drafting.yaml_words import comment, folded, listed, one_line, scalar
from evsim_assets.surveys.landing import canonical_id


def question_lines(found: FoundQuestion, drafted: Drafted, user: str | None) -> list[str]:
    """The entry of one question or question table; `user`: its prompt, where not the survey's."""
    rows = _table_rows(found, drafted)
    several = "{" + ("id" if rows else "") + "}"
    taken = identifier(found.columns[0].name, drafted.questions, f"question_{len(drafted.questions) + 1}")
    if not rows:
        taken = taken if len(found.columns) == 1 else _of_block(found, drafted, taken)
        drafted.questions.append(taken)
        drafted.named[found.columns[0].name] = taken
    lines = [
        f'  - id: "{several}"   # {len(rows)} questions, a row each'
        if rows
        else f"  - id: {scalar(taken, as_text=True)}"
    ]
    lines += _columns(found, rows)
    lines += _scale(found, drafted) + _dont_know(found, drafted)
    lines += _wording(found, drafted, bool(rows))
    if user:
        lines += folded("user", user, "    ")
    if found.before:
        lines += [f"    before: {scalar(drafted.named[found.before], as_text=True)}"]
    if rows:
        lines += ["    for_each:", *(f"      - {{{_row(row)}}}" for row in rows)]
    return lines


def _of_block(found: FoundQuestion, drafted: Drafted, otherwise: str) -> str:
    template = common_template([c.name for c in found.columns])
    return (
        identifier(template.before, drafted.questions, otherwise)
        if template and template.before
        else otherwise
    )


def _row(row: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {scalar(value, as_text=True)}" for key, value in row.items())


def _table_rows(found: FoundQuestion, drafted: Drafted) -> list[dict[str, str]]:
    """The rows of the question table: an id, what differs, and the column where its name does not follow."""
    if found.where is not None:
        items = sorted(found.where.values, key=lambda v: (number(v), v) if is_number(v) else (0.0, v))
        rows = [{"item": item} for item in items]
    elif found.template is not None:
        rows = [{"item": found.template.item(c.name) or c.name} for c in found.columns]
        if not _names_follow(found):
            rows = [{**row, "column": c.name} for row, c in zip(rows, found.columns, strict=True)]
        if all(c.name in drafted.wordings for c in found.columns):
            asked = [drafted.wordings[c.name] for c in found.columns]
            rows = [{**row, "words": words} for row, words in zip(rows, asked, strict=True)]
    else:
        return []
    named = []
    for row in rows:
        item = row["item"]
        short = re.match(r"[\d\W_]", item) and found.template
        base = f"{found.template.before} {item}" if short and found.template else item
        id = identifier(base, drafted.questions, f"question_{len(drafted.questions) + 1}")
        drafted.questions.append(id)
        named.append({"id": id, **row})
    return named


def _names_follow(found: FoundQuestion) -> bool:
    """Whether every column's name is the template with its item, so that it need not be written out."""
    template = found.template
    if template is None or re.search(r"[{}]", template.before + template.after):
        return False
    names = [c.name for c in found.columns]
    items = [template.item(name) or "" for name in names]
    return [template.before + item + template.after for item in items] == names


def _columns(found: FoundQuestion, rows: Sequence[Mapping[str, str]]) -> list[str]:
    if found.where is not None:
        lines = [f'    where: {{{scalar(found.where.name, as_text=True)}: "{{item}}"}}']
        return lines + _pairs([found.columns[0].name], found)
    if found.template is None:
        return _pairs([c.name for c in found.columns], found)
    if "column" in rows[0]:
        return ['    columns: [{answer: "{column}"}]']
    return _pairs([f"{found.template.before}{{item}}{found.template.after}"], found)


def _pairs(names: Sequence[str], found: FoundQuestion) -> list[str]:
    read: list[Column | None] = [*found.interventions, *[None] * (len(names) - len(found.interventions))]
    pairs = [
        f"{{answer: {scalar(name, as_text=True)}"
        + (f", intervention: {scalar(column.name, as_text=True)}" if column else "")
        + "}"
        for name, column in zip(names, read, strict=True)
    ]
    empty = sum(c.empty for c in found.columns)
    said = f"   # {empty:,} cells empty" if empty else ""
    if found.interventions and len(names) == 1:
        said = f"   {CHECK} was this asked after what {one_line(found.interventions[0].name)} names?"
    if len(pairs) == 1:
        return [f"    columns: [{pairs[0]}]{said}"]
    return [f"    columns:{said}", *(f"      - {pair}" for pair in pairs)]


def _scale(found: FoundQuestion, drafted: Drafted) -> list[str]:
    if found.options:
        said = "" if found.ordered else f"   {CHECK} the order: lowest first"
        lines = [] if found.ordered else [f"    {said.strip()}"]
        lines += ["    options:", *(f"      - {scalar(option, as_text=True)}" for option in found.options)]
        known = drafted.labels.get(found.columns[0].name, {})
        codes = [number(raw) for raw, label in known.items() if label in found.options and is_number(raw)]
        if codes and found.columns[0].is_numeric and min(codes) != 1:
            lines += [f"    first: {int(min(codes))}   # the number of the first option"]
        return lines
    assert found.scale is not None  # either a scale or options
    low, high = found.scale
    seen = (min(c.low for c in found.columns), max(c.high for c in found.columns))
    said = f"answers from {seen[0]:g} to {seen[1]:g}" if seen != (low, high) else ""
    if not all(c.whole for c in found.columns):
        return [
            f"    scale: {{low: {low}, high: {high}, rounding: half_up}}"
            f"   {CHECK} some answers lie between two numbers{'; ' + said if said else ''}"
        ]
    marked = f"   {CHECK} {said}: is this the scale?" if said or not found.ordered else ""
    return [f"    scale: {{low: {low}, high: {high}}}{marked}"]


def _dont_know(found: FoundQuestion, drafted: Drafted) -> list[str]:
    counts: dict[str, int] = {}
    told = drafted.labels.get(found.columns[0].name, {})
    for column in found.columns:
        known = drafted.labels.get(column.name, {})
        silent = {v: n for v, n in column.values.items() if v in column.no_answers or is_no(known.get(v, ""))}
        for value, count in silent.items():
            counts[value] = counts.get(value, 0) + count
    counts = {v: n for v, n in counts.items() if v not in drafted.missing and v not in found.options}
    if not counts:
        return []
    cells = sum(c.rows for c in found.columns)
    said = ", ".join(f"{with_label(value, told)} in {count:,}" for value, count in counts.items())
    label = next(iter(counts))
    low = 1 if found.scale is None else found.scale[0]
    return [
        *comment(f"{said} of {cells:,} cells ({sum(counts.values()) / cells:.0%}).", "    "),
        "    # If that tells something of a person, make it an answer:",
        f"    #   as: answer, number: {low - 1}, label: {one_line(told.get(label, label), 30)}",
        f"    dont_know:   {CHECK} left out, or an answer?",
        *listed("values", list(counts), "      "),
        "      as: missing",
    ]


def _wording(found: FoundQuestion, drafted: Drafted, is_table: bool) -> list[str]:
    """The field `question`: the column's own name where it is a sentence, else a stub."""
    column = found.columns[0]
    words = drafted.wordings.get(column.name, "") if not is_table else ""
    if is_table and found.where is None and found.template is not None:
        before, after = (re.sub(r"[{}]", "", part) for part in (found.template.before, found.template.after))
        words = f"{before}{{item}}{after}" if len(words_of(before + after)) > 3 else ""
        if all(c.name in drafted.wordings for c in found.columns):
            words = "{words}"
        stub = f"{before}{{item}}{after}"
    elif is_table:
        stub = "{item}"
    else:
        template = common_template([c.name for c in found.columns])
        stub = template.before.strip(" _.-") if template and template.before else column.name
        words = words or (column.name if len(words_of(column.name)) > 6 else "")
    ends = "" if found.options else ", and what the ends mean"
    said = f"   {CHECK} write it as it was asked{ends}"
    return ["    fields:", f"      question: {scalar(words or stub, as_text=True)}{said}"]


def intervention_lines(found: Found) -> list[str]:
    """The texts that people read, to be filled in; nothing where no question names an intervention."""
    columns = [c for q in found.questions for c in q.interventions]
    if not columns:
        return []
    ids = dict.fromkeys(value for c in columns for value in c.values)
    control = [v for v in ids if CONTROL.fullmatch(canonical_id(v)) or NO_ANSWER.fullmatch(v)]
    control = control if len(control) < len(ids) else []
    asked = sum(c.empty for q in found.questions if q.interventions for c in q.columns)
    none = list(dict.fromkeys(canonical_id(v) for v in control))
    none += [""] if sum(c.empty for c in columns) > asked else []
    texts = list(dict.fromkeys(canonical_id(v) for v in ids if v not in control))
    texts.sort(key=lambda v: (0, number(v), v) if is_number(v) else (1, 0.0, v))
    return [
        *comment(
            "What participants read before an answer, by the raw value that stands for it. none: raw values"
            " of those who read nothing. A table beside this file does as well:"
        ),
        "# interventions: {file: texts.csv, id: COLUMN, text: COLUMN, none: []}",
        "interventions:",
        *listed("none", none, "  ", f"   {CHECK} who read nothing?"),
        f"  texts:   {CHECK} write each text as people read it",
        *(f"    {scalar(id)}: {scalar(f'(the text of {id})')}" for id in texts),
        "",
    ]
