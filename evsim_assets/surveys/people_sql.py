"""Whose a raw row is, whether it can be used, and what is known of the person, as SQL.

Belongs here: participants, weights, demographics. Not here: answers (`answers_sql.py`), which of a
participant's rows counts (`repeats_sql.py`), what a single cell says (`cell_sql.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evsim_assets import sql
from evsim_assets.specs.survey import SEVERAL_SEPARATOR, Demographic, SurveySpec
from evsim_assets.surveys.answers_sql import Answered, asked, told_apart
from evsim_assets.surveys.cell_sql import (
    WHITE_SPACE,
    Cells,
    canonical,
    canonical_cell,
    is_one_of,
    literals,
    number,
)
from evsim_assets.surveys.problem_sql import COLUMNS, Check, Problem, collect
from evsim_assets.surveys.repeats_sql import REPEATED, find_repeats

if TYPE_CHECKING:
    import duckdb


def set_rows_aside(
    database: duckdb.DuckDBPyConnection,
    cells: Cells,
    survey: SurveySpec,
    wave: str,
    given: Sequence[Answered],
) -> None:
    """Make the table `aside` of rows that nothing can be read from, and the view `kept` of the others:
    `cells` with `participant` (a pseudonym) and `weight`. `given` are the row's answer cells."""
    told = "".join(
        f", {canonical_cell(cells.of(column))} AS told_{n}" for n, column in enumerate(told_apart(survey))
    )
    counted = " + ".join(
        f"CASE WHEN {where} THEN {n} ELSE 0 END" for where, n in asked(cells, survey).items()
    )
    identifier = _identifier(cells, survey, wave)
    pseudonym = f"left(sha256({sql.text(survey.name)} || chr(0) || {identifier}), 16)"
    weight = number(cells.of(survey.weight)) if survey.weight else "1.0::DOUBLE"
    database.execute(
        f"CREATE VIEW identified AS SELECT *, {identifier} AS identifier, {pseudonym} AS participant,"
        f" {_nameless(cells, survey)} AS nameless, {counted} AS asked, {weight} AS weight{told} FROM cells"
    )
    weightless = " OR ".join(f"coalesce({p.when}, false)" for p in _weight_problems(cells, survey))
    repeats = find_repeats(database, survey, given, weightless or "false")
    verdict = Check("verdict", _verdicts(cells, survey, repeats=bool(repeats)))
    database.execute(
        f"CREATE VIEW judged AS SELECT i.*, {verdict.number} AS verdict FROM identified i{repeats}"
    )
    database.execute(f"CREATE TABLE aside ({COLUMNS})")
    collect(database, "aside", "judged", [verdict], first=0)
    found = database.execute("SELECT count(*) FROM aside").fetchone()
    without = " ANTI JOIN aside USING (raw_row)" if found and found[0] else ""
    database.execute(f"CREATE VIEW kept AS SELECT * FROM identified{without}")


def _identifier(cells: Cells, survey: SurveySpec, wave: str) -> str:
    if survey.participant is None:
        return f"({sql.text(wave + ':')} || raw_row)"
    return canonical_cell(cells.of(survey.participant))  # an id column with a gap is exported as 12.0


def _nameless(cells: Cells, survey: SurveySpec) -> str:
    if survey.participant is None:
        return "false"
    # A word such as NA is nobody's id; a missing value such as 99 may be somebody's number.
    words = {"", *(value for value in survey.missing if not re.search(r"\d", value))}
    return is_one_of(cells.of(survey.participant), words)


def _verdicts(cells: Cells, survey: SurveySpec, *, repeats: bool) -> tuple[Problem, ...]:
    """Why a row is set aside as a whole. A repeated id shows as the pseudonym: analysts read the table."""
    row, verdicts = "greatest(asked, 1)", []
    if survey.participant is not None:
        reason = "the row has no participant id"
        verdicts.append(Problem("nameless", survey.participant, "''", reason, "fill in the id", row))
    if columns := told_apart(survey):
        reason = "no question of the codebook that was asked in this wave has this value"
        remedy = "add the question to survey.yaml, or correct the value"
        verdicts.append(Problem("asked = 0", columns[0], cells.of(columns[0]), reason, remedy, "1"))
    if repeats and survey.participant is not None:
        reason = REPEATED[survey.duplicates.within_wave]
        remedy = "remove one of the two rows, or give each person an id of their own"
        verdicts.append(
            Problem("i.raw_row <> r.kept", survey.participant, "participant", reason, remedy, row)
        )
    return (*verdicts, *_weight_problems(cells, survey))


def _weight_problems(cells: Cells, survey: SurveySpec) -> tuple[Problem, ...]:
    """Why no answer of a row can be weighed. Of rows in the view `identified`."""
    if not survey.weight:
        return ()
    cell, remedy = cells.of(survey.weight), "correct the weight; 0 is allowed"
    return tuple(
        Problem(when, survey.weight, cell, f"the row's weight {reason}", remedy, "greatest(asked, 1)")
        for when, reason in (
            (is_one_of(cell, {"", *survey.missing}), "is missing"),
            ("weight IS NULL", "is not a number"),
            ("weight < 0", "is negative"),
        )
    )


@dataclass(frozen=True)
class Known:
    """A demographic as SQL on the view `kept`, with `join` after it: its `label` (NULL where it is not
    known), its `state` (known, missing, refused or quarantined), and for each raw column when its cell
    cannot be read."""

    demographic: Demographic
    label: str
    state: str
    unreadable: tuple[tuple[str, str], ...]
    join: str = ""

    def checks(self, cells: Cells, prefix: str) -> list[Check]:
        """The check of each raw column, named `<prefix>_<n>`."""
        reason = f"not an option of {self.demographic.name!r}; the person is kept without it"
        remedy = "add the option (or its code) to survey.yaml, or correct the value"
        return [
            Check(f"{prefix}_{n}", (Problem(when, column, cells.of(column), reason, remedy),))
            for n, (column, when) in enumerate(self.unreadable)
        ]


def known(
    database: duckdb.DuckDBPyConnection,
    cells: Cells,
    demographic: Demographic,
    missing: Sequence[str],
    order: Sequence[str],
) -> Known:
    """How the demographic is read.

    Args:
        database: with the view `kept`.
        cells: the raw cells.
        demographic: as it holds for the wave.
        missing: the survey's values for "no answer".
        order: the demographic's options in all waves, in the order in which several are listed.
    """
    for option in demographic.constant.values():
        return Known(demographic, sql.text(option), "'known'", ())
    if not demographic.columns:
        return Known(demographic, "NULL::VARCHAR", "'missing'", ())
    if demographic.checkboxes:
        return _checkboxes(cells, demographic, missing, order)
    (column,) = demographic.columns
    cell, join = cells.of(column), ""
    silent, words = _silent(demographic, missing), _words(demographic)
    if demographic.several:
        label, state, join = _several(database, cells, cell, demographic, silent, words, order)
    else:
        label, state = _one(cells, cell, demographic, silent, words)
    return Known(demographic, label, state, ((column, f"{state} = 'quarantined'"),), join)


def _silent(demographic: Demographic, missing: Sequence[str]) -> dict[str, str]:
    """Canonical value → missing or refused. What the demographic says goes before what the survey says."""
    told = {canonical(value): "missing" for value in (*missing, *demographic.missing)}
    return told | {canonical(value): "refused" for value in demographic.refused}


def _words(demographic: Demographic) -> dict[str, str]:
    """Canonical value → option, from the options themselves and their codes, which go first."""
    words = {canonical(option): option for option in demographic.options}
    codes = {canonical(code): label for code, label in demographic.codes.items()}
    return {key: label for key, label in (words | codes).items() if label in demographic.options}


def _one(
    cells: Cells, cell: str, demographic: Demographic, silent: dict[str, str], words: dict[str, str]
) -> tuple[str, str]:
    keys = [*silent, *(key for key in words if key not in silent)]
    position = cells.position(cell, keys)
    label = f"{literals([None if key in silent else words[key] for key in keys])}[{position}]"
    if demographic.bands:
        quiet = cells.position(cell, list(silent))
        label = f"CASE WHEN {quiet} IS NULL THEN coalesce({_band(cell, demographic)}, {label}) END"
        states = literals(list(silent.values()))
        state = (
            f"CASE WHEN {label} IS NOT NULL THEN 'known' ELSE coalesce({states}[{quiet}], 'quarantined') END"
        )
        return label, state
    states = literals([silent.get(key, "known") for key in keys])
    return label, f"coalesce({states}[{position}], 'quarantined')"


def _band(cell: str, demographic: Demographic) -> str:
    value, cases = number(cell), []
    for band in demographic.bands:
        ends = [f"{value} >= {band.at_least!r}::DOUBLE"] if band.at_least is not None else []
        ends += [f"{value} < {band.below!r}::DOUBLE"] if band.below is not None else []
        cases.append(f"WHEN {' AND '.join(ends)} THEN {sql.text(band.label)}")
    return f"CASE {' '.join(cases)} END"


def _several(
    database: duckdb.DuckDBPyConnection,
    cells: Cells,
    cell: str,
    demographic: Demographic,
    silent: dict[str, str],
    words: dict[str, str],
    order: Sequence[str],
) -> tuple[str, str, str]:
    """Options by their place in the order, each once; a part that is none spoils the cell.

    Lists are slow to take apart and the same choices come again and again, so each is read once, into a
    table that the rows are joined to.
    """
    places = literals([order.index(label) + 1 for label in words.values()])
    trimmed = f"trim(part, {sql.text(WHITE_SPACE)})"
    parts = (
        f"list_transform(string_split(cell, {sql.text(demographic.separator)}),"
        f" lambda part: {places}[{cells.position(trimmed, list(words))}])"
    )
    named = (
        f"array_to_string(list_transform(list_sort(list_distinct(chosen)),"
        f" lambda place: {literals(list(order))}[place]), {sql.text(SEVERAL_SEPARATOR)})"
    )
    readable = "len(chosen) = len(list_filter(chosen, lambda place: place IS NOT NULL))"
    table = f"several_{demographic.slug}"
    database.execute(
        f"CREATE TABLE {table} AS SELECT cell, {literals(list(silent.values()))}[quiet_at] AS quiet,"
        f" CASE WHEN quiet_at IS NULL AND {readable} THEN {named} END AS label"
        f" FROM (SELECT cell, {parts} AS chosen, {cells.position('cell', list(silent))} AS quiet_at"
        f" FROM (SELECT DISTINCT {cell} AS cell FROM kept))"
    )
    state = (
        f"CASE WHEN {table}.label IS NOT NULL THEN 'known' ELSE coalesce({table}.quiet, 'quarantined') END"
    )
    return f"{table}.label", state, f" LEFT JOIN {table} ON kept.{cell} = {table}.cell"


def _checkboxes(
    cells: Cells, demographic: Demographic, missing: Sequence[str], order: Sequence[str]
) -> Known:
    """The options whose boxes are checked. Who checks none tells nothing; one box that is missing, refused
    or cannot be read leaves the whole unknown, as the person may have checked it."""
    silent = _silent(demographic, missing)
    told = silent | {canonical(v): "unchecked" for v in demographic.unchecked}
    told |= {canonical(v): "checked" for v in demographic.checked}
    keys, states = list(told), literals(list(told.values()))
    boxes = {
        column: f"coalesce({states}[{cells.position(cells.of(column), keys)}], 'quarantined')"
        for column in demographic.checkboxes
    }
    any_is = {
        state: " OR ".join(f"{box} = '{state}'" for box in boxes.values())
        for state in ("quarantined", "refused", "missing", "checked")
    }
    state = (
        f"CASE WHEN {any_is['quarantined']} THEN 'quarantined' WHEN {any_is['refused']} THEN 'refused'"
        f" WHEN {any_is['missing']} THEN 'missing' WHEN {any_is['checked']} THEN 'known' ELSE 'missing' END"
    )
    options = []
    for option in order:
        own = [boxes[column] for column, label in demographic.checkboxes.items() if label == option]
        if own:
            ticked = " OR ".join(f"{box} = 'checked'" for box in own)
            options.append(f"CASE WHEN {ticked} THEN {sql.text(option)} END")
    chosen = f"list_filter([{', '.join(options)}], lambda option: option IS NOT NULL)"
    label = f"array_to_string({chosen}, {sql.text(SEVERAL_SEPARATOR)})"
    unreadable = tuple((column, f"{box} = 'quarantined'") for column, box in boxes.items())
    return Known(demographic, f"CASE WHEN {state} = 'known' THEN {label} END", state, unreadable)
