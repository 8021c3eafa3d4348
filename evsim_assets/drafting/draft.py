"""The drafted codebook: a valid survey.yaml, with comments, for a person to correct.

Belongs here: its text, and putting it in place. Not here: what columns may be (`recognise.py`), one
demographic or question of it (`demographics.py`, `questions.py`).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evsim_assets.drafting.demographics import demographic_lines
from evsim_assets.drafting.guess import Column, profiles
from evsim_assets.drafting.notes import CHECK, Drafted
from evsim_assets.drafting.questions import intervention_lines, question_lines
from evsim_assets.drafting.recognise import Found, recognise
from evsim_assets.drafting.yaml_words import WIDTH, comment, folded, listed, one_line, scalar
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.specs.values import canonical
from evsim_assets.specs.waves import WaveFormat
from evsim_assets.surveys.reading import RawCells, read_cells

NOT_SHOWN = 200
"""Columns that are not used and are still listed one by one."""

SYSTEM = (
    "I want you to act as the following character. Answer all of the following questions from the point of"
    " view of this character, do not break character. {demographics}"
)
ASK_NUMBER = (
    "{question} Please answer on a scale from {low} to {high}, and reply with just a single number rating"
    " and no additional words or explanations. Score:"
)
ASK_OPTION = (
    "{question} {options}. Please reply with just the number of one of these answers and no additional"
    " words or explanations. Answer:"
)
EMPTY_WORDS = {"na", "nan", "null", ".", "#null!"}
"""What programs write into cells without a value."""


@dataclass(frozen=True)
class Draft:
    """A codebook's text, with the rows of the file and the columns that are not used."""

    text: str
    rows: int
    unused: tuple[str, ...]

    @property
    def checks(self) -> list[tuple[int, str, str]]:
        """The lines marked CHECK: their numbers from 1, what stands there, and what to do."""
        lines = enumerate(self.text.splitlines(), start=1)
        parts = [(number, line.partition(CHECK)) for number, line in lines]
        found = [(number, said.strip(), todo.strip()) for number, (said, mark, todo) in parts if mark]
        above = ["", *self.text.splitlines()]
        return [(n, said or above[n - 1].partition("#")[0].strip(), todo) for n, said, todo in found]


def drafted(name: str, source: Path, form: WaveFormat, schema: str) -> Draft:
    """The codebook of a raw file that nobody has described.

    Args:
        name: the survey's name.
        source: the raw file.
        form: how it is to be read.
        schema: the path of the JSON Schema, as seen from the codebook.

    Raises:
        BadInput: the file cannot be read, or holds nothing that could be a question or a demographic.
    """
    with tempfile.TemporaryDirectory(prefix="draft-") as scratch:
        cells = read_cells(source, form, Path(scratch) / "cells.parquet")
        columns = profiles(cells)
    labels = _labels(cells)
    found = recognise(columns, labels)
    _require_something(found, columns, source)
    written = Drafted(labels, _wordings(source, form), _missing(found))
    return Draft(
        "\n".join(_lines(name, source, form, schema, cells, columns, found, written)) + "\n",
        cells.rows,
        tuple(column.name for column in found.unused),
    )


def require_free(folder: Path) -> None:
    """Raise BadInput for a folder whose name is no survey's, or which holds a codebook already."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", folder.name):
        raise BadInput(
            "no name for a survey",
            field="--name",
            value=folder.name,
            remedy="use lower-case letters, digits and underscores",
        )
    if (folder / "survey.yaml").exists():
        raise BadInput(
            "there is a codebook already; nothing was changed",
            file=folder / "survey.yaml",
            remedy="use another --name, or remove that file first",
        )


def put_in_place(draft: Draft, folder: Path) -> SurveySpec:
    """Write the draft as `folder`/survey.yaml, whole or not at all; returns it as it reads.

    Raises:
        BadInput: as `require_free`, or it could not be stored.
    """
    require_free(folder)
    with tempfile.TemporaryDirectory(prefix="draft-") as scratch:
        trial = Path(scratch) / folder.name
        trial.mkdir()
        (trial / "survey.yaml").write_text(draft.text, encoding="utf-8")
        read_survey(trial)
    target, temporary = folder / "survey.yaml", folder / ".survey.yaml.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(draft.text, encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:
        raise BadInput(
            f"the codebook could not be stored ({error.strerror or error})",
            file=target,
            remedy="free space or get write access there",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return read_survey(folder)


def described(column: Column) -> str:
    """A column's values in a few words: `276 different numbers 14–519, 5,163 empty`."""
    empty = f", {column.empty:,} empty" if column.empty else ""
    if column.different == 0:
        return "empty"
    if column.different == 1:
        return f"always {one_line(next(iter(column.values)), 40)!r}{empty}"
    if column.is_numeric and column.different > 6:
        return f"{column.different:,} different numbers {column.low:g}–{column.high:g}{empty}"
    most = [f"{one_line(value, 24)} ({count:,})" for value, count in list(column.values.items())[:4]]
    most += ["…"] if column.different > 4 else []
    return f"{column.different:,} different values: {', '.join(most)}{empty}"


def _require_something(found: Found, columns: Sequence[Column], source: Path) -> None:
    for what, seen in (("question", found.questions), ("demographic", found.demographics)):
        if not seen:
            shown = [f"{one_line(c.name, 40)!r}: {described(c)}" for c in columns[:8]]
            raise BadInput(
                f"no column looks like a {what}; there are {len(columns)}: {'; '.join(shown)}"
                + ("; …" if len(columns) > 8 else ""),
                file=source,
                remedy="if the columns are not those of the survey, say --delimiter, --encoding or --sheet;"
                " else write survey.yaml by hand, from data/surveys/ev_shift/survey.yaml",
            )


def _wordings(source: Path, form: WaveFormat) -> Mapping[str, str]:
    """What an SPSS file says of its columns in words."""
    if form.format != "sav":
        return {}
    import pyreadstat

    _, about = pyreadstat.read_sav(str(source), metadataonly=True)
    return {column: label for column, label in about.column_names_to_labels.items() if label}


def _labels(cells: RawCells) -> dict[str, dict[str, str]]:
    """Value labels of an SPSS file, by column and by the text that stands for the raw value."""
    return {
        column: {canonical(raw): label for raw, label in known.items()}
        for column, known in cells.labels.items()
    }


def _lines(
    name: str,
    source: Path,
    form: WaveFormat,
    schema: str,
    cells: RawCells,
    columns: Sequence[Column],
    found: Found,
    written: Drafted,
) -> list[str]:
    demographics = [line for d in found.demographics for line in demographic_lines(d, written)]
    kinds = [bool(q.options) for q in found.questions for _ in (q.columns if q.template else [0])]
    by_option = 2 * sum(kinds) > len(kinds)
    interventions = intervention_lines(found)
    ask = "{intervention} " if any(q.interventions for q in found.questions) else ""
    asked = [
        line
        for q in found.questions
        for line in question_lines(
            q,
            written,
            None if bool(q.options) == by_option else ask + (ASK_OPTION if q.options else ASK_NUMBER),
        )
    ]
    return [
        *_head(name, source, schema, cells, columns),
        *_people(found, form, written.missing),
        "",
        *comment(
            "What is known of a participant before any question, in the order in which prompts list it."
            " name: as prompts say it; column: where it stands; options: the labels allowed, any other value"
            " is set aside; codes: raw value: label; bands: ranges of a number; missing and refused: raw"
            " values that tell nothing of the person (to show one in prompts, make it an option)."
        ),
        "demographics:",
        *demographics,
        *comment("Demographics by which the report of the splits is broken down, for instance [age]."),
        "strata: []",
        "",
        *interventions,
        *comment(
            "What participants were asked, in the order in which they answered. columns: the raw column of"
            " the answer; scale: its lowest and highest number; options: labels instead, lowest first;"
            " dont_know: raw values of those who had no answer; fields: words for placeholders of the prompt;"
            " for_each: a question for each row, whose cells take the place of {…}; before: the question that"
            " asked the same before the intervention."
        ),
        *(_how_long_files_are_written(found)),
        "questions:",
        *asked,
        "",
        "# What no model is trained on, to see how it answers what it has not seen. For instance:",
        f"# held_out: {{questions: [{written.questions[-1]}]}}",
        "",
        *comment(
            "What the model is told it is, and what it is asked. {demographics} becomes a list such as"
            " {age: 18–24, gender: Woman}; {question} is the field above; {low}, {high} and {options} follow"
            " from the scale; {intervention} is blank where there is none."
        ),
        "prompts:",
        *folded("system", SYSTEM, "  "),
        *folded("user", ask + (ASK_OPTION if by_option else ASK_NUMBER), "  "),
        "",
        "# Fractions of the participants; a person's split never changes when waves are added.",
        "splits: {train: 0.8, validation: 0.1, test: 0.1}",
        *_not_used(found),
    ]


def _head(name: str, source: Path, schema: str, cells: RawCells, columns: Sequence[Column]) -> list[str]:
    file = one_line(source.name, 80)
    title = scalar(name.replace("_", " ").capitalize(), as_text=True)
    return [
        f"# yaml-language-server: $schema={schema}",
        f"# Codebook of {name}, drafted by `evsim survey new` from {file}",
        f"# ({cells.rows:,} rows, {len(columns):,} columns). It is a guess from names and values: correct",
        "# it, above all the lines marked CHECK (take the mark away when done). Then",
        f"#   evsim survey check data/surveys/{name} FILE",
        "#       shows what would be used and what not, and prompts as a model reads them;",
        f"#   evsim survey add {name} FILE",
        "#       takes the file in. Files that come later are further waves.",
        "",
        f"title: {title}   {CHECK} as plots and tables say it",
        f"source: {scalar(f'from {file}')}   {CHECK} who asked whom and when, and the licence of the data",
        "",
    ]


def _people(found: Found, form: WaveFormat, missing: Sequence[str]) -> list[str]:
    """Who a row is, the file's form, what is no answer, and the weights."""
    lines = comment("The raw column that identifies a person, in all waves; null: each row is a person.")
    person = found.participant
    if person is None:
        said = f"   {CHECK} no column looks like an id"
        if found.counter:
            said = f"   {CHECK} {found.counter.name!r} only counts rows"
        lines += [f"participant: null{said}"]
    else:
        again = person.rows - person.empty - person.different
        if again and not any(q.where for q in found.questions):
            said = f"   {CHECK} {person.different:,} different in {person.rows:,} rows, see duplicates"
        else:
            said = f"   # {person.different:,} different in {person.rows:,} rows"
        lines += [f"participant: {scalar(person.name, as_text=True)}{said}"]
        lines += comment(
            "Of a person's rows in one wave the first is kept and the others set aside; keep last, or panel"
            " (all are answers of one person, in order), are the other choices."
        )
        lines += ["duplicates: {within_wave: keep first, across_waves: panel}"]
    lines += ["", *comment("The form of the files. header: clean takes odd spaces out of column names.")]
    shown = {key: value for key, value in form.model_dump(exclude_defaults=True).items() if value is not None}
    shown = {"format": form.format, **shown}
    parts = [
        f"{key}: {scalar(value, as_text=True) if isinstance(value, str) else value}"
        for key, value in shown.items()
    ]
    lines += [f"waves: {{{', '.join(parts)}}}"]
    if form.encoding not in ("utf-8", "utf-16"):
        lines += [f"{CHECK} the encoding is a guess: are the letters beyond a–z right below?"]
    lines += ["", *comment('Raw values that mean "no answer" in every column, besides those named below.')]
    lines += listed("missing", missing, "")
    if found.weight:
        weight = found.weight
        lines += ["", "# The raw column of survey weights."]
        said = f"{CHECK} is it the weight? {one_line(described(weight))}"
        lines += [f"weight: {scalar(weight.name, as_text=True)}   {said}"]
    return lines


def _missing(found: Found) -> list[str]:
    """What programs write for an empty cell, as far as it occurs in columns that are used."""
    columns = [c for d in found.demographics for c in d.columns]
    columns += [c for q in found.questions for c in q.columns]
    words = {value for c in columns for value in c.no_answers if value.lower() in EMPTY_WORDS}
    return ["", *sorted(words)]


def _how_long_files_are_written(found: Found) -> list[str]:
    if any(q.where for q in found.questions):
        return comment("A long file, one answer a row: `where` picks the rows of a question.")
    person = found.participant
    if person is None or person.different > 0.8 * person.rows:
        return []
    return comment(
        "If this is a long file, with one answer a row and a column that names the question, pick each"
        " question's rows with `where: {that column: its value}`."
    )


def _not_used(found: Found) -> list[str]:
    if not found.unused:
        return []
    lines = ["", "# Not used, since nothing above names them:"]
    for column in found.unused[:NOT_SHOWN]:
        hint = ""
        if any(column is other for other in found.table_ids):
            hint = (
                "; ids of texts that people read? Put the table of texts beside this file, and write above"
                " interventions: {file: TABLE.csv, id: ID COLUMN, text: TEXT COLUMN, none: []} and"
                f" intervention: {one_line(column.name)} into the question's columns"
            )
        said = comment(f"{one_line(column.name, WIDTH)}: {described(column)}{hint}")
        lines += [said[0], *(part.replace("#", "#  ", 1) for part in said[1:])]
    if len(found.unused) > NOT_SHOWN:
        lines += [f"# and {len(found.unused) - NOT_SHOWN:,} more"]
    return lines
