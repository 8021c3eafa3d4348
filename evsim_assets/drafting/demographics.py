"""One demographic of a drafted codebook, as lines of YAML.

Belongs here: its fields, and the comments beside them. Not here: questions (`questions.py`), the
codebook around them (`draft.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from evsim_assets.drafting.column_names import common_template, words_of
from evsim_assets.drafting.column_roles import CHECKED, is_age, is_birth_year
from evsim_assets.drafting.guess import REFUSED, Column, is_number, number
from evsim_assets.drafting.label_orders import ordered_as_found
from evsim_assets.drafting.notes import CHECK, Drafted, is_no, with_label
from evsim_assets.drafting.recognise import FoundDemographic
from evsim_assets.drafting.yaml_words import listed, mapped, one_line, scalar
from evsim_assets.specs.demographics import RESERVED
from evsim_assets.specs.values import each_once

COUNTED = re.compile(r"\b(number|children|kids|size|count|members|people|adults)\b", re.IGNORECASE)
"""Names of demographics whose numbers are no codes but say themselves what they mean."""

AGES = (18, 25, 35, 45, 55, 65)


def demographic_lines(found: FoundDemographic, drafted: Drafted) -> list[str]:
    """The entry of one demographic."""
    column = found.columns[0]
    start = common_template([c.name for c in found.columns]) if found.is_boxes else None
    name = _demographic_name(start.before if start else column.name, drafted)
    lines = [f"  - name: {scalar(name, as_text=True)}"]
    if found.is_boxes:
        return lines + _boxes(found)
    lines += [f"    column: {scalar(column.name, as_text=True)}{_empty(column)}"]
    if not found.is_named:
        lines += [f"    {CHECK} is this what a person is? Else remove these lines"]
    labels = _code_labels(column, drafted)
    if found.separator:
        parts = [part.strip() for value in column.answers for part in value.split(found.separator)]
        options = ordered_as_found(each_once(part for part in parts if part))
        lines += [
            f"    several: true   # a cell holds any number of options, with {found.separator!r} between"
        ]
        lines += listed("options", options, "    ")
    elif is_age(column):
        lines += _bands(column)
    elif column.is_numeric:
        lines += _codes(column, labels)
    else:
        lines += _labels(column)
    return lines + _no_answers(column, labels, drafted)


def _demographic_name(raw: str, drafted: Drafted) -> str:
    """As prompts say it: `living_area` becomes `living area`."""
    name = one_line(
        re.sub(r"[\s_:.-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", raw)).strip(" ?!").lower(), 50
    )
    if not _slug(name):
        name = f"demographic {len(drafted.demographics) + 1}"
    elif _slug(name) in RESERVED:
        name = f"{name} of the person"
    while _slug(name) in drafted.demographics:
        name = f"{name} {len(drafted.demographics) + 1}"
    drafted.demographics.append(_slug(name))
    return name


def _slug(name: str) -> str:
    """The demographic's column in tables."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _boxes(found: FoundDemographic) -> list[str]:
    template = common_template([c.name for c in found.columns])
    ticked = {value for c in found.columns for value in c.values if _is_ticked(value, c)}
    options: dict[str, str] = {}
    for column in found.columns:
        own = next(iter(column.values)) if column.different == 1 and len(ticked) > 1 else None
        label = own or (template.item(column.name) if template else None) or column.name
        label = label.replace(";", ",")
        if len(each_once([*options.values(), label])) == len(options):  # another has it already
            label = f"{column.name} ({len(options) + 1})".replace(";", ",")
        options[column.name] = label
    lines = mapped("checkboxes", options, "    ", f"   {CHECK} are these what a person is? column: option")
    if not {value.lower() for value in ticked} <= {"1", "true", "yes"} or not ticked <= {
        v.lower() for v in ticked
    }:
        lines += listed("checked", sorted(ticked), "    ")
    other = {value for c in found.columns for value in c.values} - ticked
    if not other <= {"0", "false", "no"}:
        lines += listed("unchecked", ["", *sorted(other)], "    ")
    empty = min(c.empty for c in found.columns)
    if empty and found.columns[0].different > 1:
        lines += [f"    # {empty:,} rows are empty here: were these people asked?"]
    return lines


def _is_ticked(value: str, column: Column) -> bool:
    return column.different == 1 or value.lower().removesuffix(".0") in CHECKED


def _bands(column: Column) -> list[str]:
    """Bands of age, or of the year of birth by decades."""
    if is_birth_year(column):
        edges = list(range(int(column.low) // 10 * 10 + 10, int(column.high) + 1, 10))
        labels = [f"before {edges[0]}"] if edges else []
        labels += [f"{a}–{b - 1}" for a, b in pairwise(edges)]
    else:
        edges = [edge for edge in AGES if column.low < edge <= column.high] or [int(column.low) + 1]
        labels = [
            f"under {edges[0]}" if edges[0] <= 18 or column.low < 18 else f"{column.low:g}–{edges[0] - 1}"
        ]
        labels += [f"{a}–{b - 1}" for a, b in pairwise(edges)]
    if not edges:
        edges, labels = [int(column.high)], [f"before {column.high:g}"]
    labels.append(f"{edges[-1]} or later" if is_birth_year(column) else f"{edges[-1]} or older")
    lines = [
        f"    bands:   {CHECK} {column.low:g} to {column.high:g} in the file; `below` is not part of a band"
    ]
    for label, at_least, below in zip(labels, [None, *edges], [*edges, None], strict=True):
        ends = {"at_least": at_least, "below": below}
        shown = "".join(f", {end}: {edge}" for end, edge in ends.items() if edge is not None)
        lines.append(f"      - {{label: {scalar(label, as_text=True)}{shown}}}")
    return lines


def _code_labels(column: Column, drafted: Drafted) -> dict[str, str]:
    """The SPSS labels of the column's values; none where they would not tell two values apart."""
    labels = dict(drafted.labels.get(column.name, {}))
    return labels if len(each_once(labels.values())) == len(labels) else {}


def _codes(column: Column, labels: Mapping[str, str]) -> list[str]:
    raw = (
        sorted(column.answers, key=number) if all(map(is_number, column.answers)) else sorted(column.answers)
    )
    raw = [value for value in raw if is_number(value) and not is_no(labels.get(value, ""))]
    raw += [
        value
        for value in labels
        if value not in raw and value not in column.values and not is_no(labels[value])
    ]
    if labels and all(value in labels for value in raw):
        meant = {value: labels[value] for value in raw}
        said = "    # the labels of the SPSS file"
    elif COUNTED.search(" ".join(words_of(column.name))):
        meant = {value: f"{number(value):g}" for value in raw}
        return [*listed("options", list(dict.fromkeys(meant.values())), "    "), *_if_other(meant)]
    else:
        meant = {value: f"{number(value):g} (label?)" for value in raw}
        counts = ", ".join(f"{value} in {column.values[value]:,}" for value in raw[:6])
        said = f"    {CHECK} what the codes stand for: {counts}{', …' if len(raw) > 6 else ' cells'}"
    options = listed("options", list(dict.fromkeys(meant.values())), "    ")
    return [said, *options, *mapped("codes", meant, "    ")]


def _if_other(meant: Mapping[str, str]) -> list[str]:
    other = {value: label for value, label in meant.items() if value != label}
    return mapped("codes", other, "    ") if other else []


def _labels(column: Column) -> list[str]:
    """Labels as options; spellings that differ by capital letters alone are one, by `codes`."""
    spelled: dict[str, str] = {}
    for value in column.answers:  # the most frequent spelling first
        spelled.setdefault(value.casefold(), value)
    if len(spelled) < 2:
        spelled = {value: value for value in column.answers}
    codes = {v: spelled[v.casefold()] for v in column.answers if spelled.get(v.casefold(), v) != v}
    options = ordered_as_found(spelled.values())
    lines = listed("options", options, "    ")
    return lines + (mapped("codes", codes, "    ", "   # the same in another spelling") if codes else [])


def _no_answers(column: Column, labels: Mapping[str, str], drafted: Drafted) -> list[str]:
    """Values by which people refused, and others that tell nothing."""
    told = {value: labels.get(value, value) for value in [*column.no_answers, *labels]}
    silent = {v: label for v, label in told.items() if v in column.no_answers or is_no(label)}
    silent = {v: label for v, label in silent.items() if v not in drafted.missing}
    refused = [value for value, label in silent.items() if REFUSED.fullmatch(label)]
    missing = [value for value in silent if value not in refused]
    lines = []
    for name, values in (("refused", refused), ("missing", missing)):
        if values:
            counts = ", ".join(f"{with_label(v, labels)} in {column.values.get(v, 0):,}" for v in values)
            marked = CHECK if any(is_number(v) and v not in labels for v in values) else "#"
            lines += listed(name, values, "    ", f"   {marked} {counts} cells; not shown in prompts")
    return lines


def _empty(column: Column) -> str:
    return f"   # {column.empty:,} empty" if column.empty else ""
