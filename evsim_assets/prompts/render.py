"""From answers to the chat messages of Appendix B.1, for the participants a study uses.

Belongs here: the table of prompts, and what is held out of training. Not here: how templates are
filled (`templates_sql.py`), who takes part (`sampling.py`), the check that nothing held out is trained on
(`separation.py`), tokens (`chat.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evsim_assets import sql
from evsim_assets.prompts.sampling import check_sample, sampled_participants_sql
from evsim_assets.prompts.templates_sql import Wordings, row_field_sql, system_sql
from evsim_assets.prompts.templates_sql import is_wide as is_wide
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Sample
from evsim_assets.specs.survey import DIGITS, SurveySpec
from evsim_assets.specs.templates import DEFAULT
from evsim_assets.surveys.cell_sql import is_one_of
from evsim_assets.surveys.landing import Intervention, canonical_id

if TYPE_CHECKING:
    import duckdb

HELD_OUT = "held_out"
"""The split of prompts that are held out of training and validation."""


ANSWER_COLUMNS = (
    "participant",
    "wave",
    "question",
    "order",
    "intervention",
    "intervention_text",
    "fields",
    "weight",
    "answer",
)
"""What a prompt takes from an answer besides the person's demographics."""


def build_prompts(
    responses: Path,
    splits: Path,
    survey: SurveySpec,
    templates: Sequence[str],
    sample: Sample | None,
    into: Path,
    interventions: Mapping[str, Intervention],
) -> pd.DataFrame:
    """Write one row an answer and template to `into`, in the order of `responses`.

    Returns a small table of what was written: `split`, `held_out`, `prompts`, `participants`.

    `user` asks on the question's own scale; `user_digit`, `answer_digit` and `target_digit` are the same
    on 0–9 (B.3: ratings rescaled by round-half-up(9·a/100), generalised to the scale's ends) and null
    where the scale has ten answers or fewer, words, or "don't know" as an answer. `target` is what a
    model is to answer: the number, or the label of a question that is answered by label.

    `split` is `held_out` for prompts of train and validation participants that are held out: because
    of the person's demographic cell, else the question, else the intervention; `held_out` says which,
    also of test prompts, which stay `test`.

    Args:
        responses: sorted by participant and order (`merge_waves`).
        templates: names of the survey's wordings, each once.
        interventions: what participants read, by id.

    Raises:
        BadInput: as `check_sample`; answers that the codebook does not know; a participant without a
            split; an intervention that is answered or held out and not in the table.
    """
    with sql.connection(into.parent) as database:
        # Joins keep the order of the answers only if the other table is the one that is looked up.
        database.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        _put_people(database, splits, sample)
        database.execute(f"CREATE TEMP VIEW answers AS SELECT * FROM {sql.parquet([responses])}")
        _check_answers(database, splits, survey)
        _check_interventions(database, survey, interventions)
        waves = database.execute("SELECT DISTINCT wave FROM answers ORDER BY wave").fetchall()
        wordings = Wordings(survey, templates, [wave for (wave,) in waves])
        _put_table(database, "wordings", wordings.rows, wordings.schema())
        further = _put_interventions(database, survey, interventions, wordings.slots)
        sql.write_parquet(database, _query(survey, templates, wordings, further), into)
        return database.execute(
            "SELECT split, held_out, count(*) AS prompts, count(DISTINCT participant) AS participants"
            f" FROM {sql.parquet([into])} GROUP BY ALL ORDER BY split, held_out NULLS FIRST"
        ).df()


def _query(
    survey: SurveySpec, templates: Sequence[str], wordings: Wordings, further: Mapping[str, str]
) -> str:
    """The prompts, from `answers`, `people`, `wordings` and `intervention_fields`."""
    names = [sql.text(name) for name in templates]
    suffixes = [sql.text("" if name == DEFAULT else f"-{name}") for name in templates]
    systems = [system_sql(survey.prompts.named(name), survey) for name in templates]
    values = {"intervention": "intervention_text", **further}
    values |= {name: row_field_sql(name) for name in wordings.slots - values.keys()}
    # Demographics end here, so that none of them can be taken for another table's column.
    answers = (
        f"SELECT {', '.join(map(sql.name, ANSWER_COLUMNS))},"
        f" {', '.join(f'{system} AS system_{place}' for place, system in enumerate(systems))},"
        f" {wordings.variant_sql}::BIGINT AS variant,"
        f" unnest({list(range(len(templates)))})::BIGINT AS place FROM answers"
    )
    joined = (
        f"({answers}) JOIN people USING (participant) JOIN wordings USING (place, question, variant)"
        f"{' LEFT JOIN intervention_fields USING (intervention)' if further else ''}"
    )
    digit = f"(2 * {DIGITS.high} * (answer - low) + (high - low)) // (2 * (high - low))"  # halves up
    rows = (
        f"SELECT *, {_held_out_sql(survey)} AS reason,"
        f" CASE WHEN d0 IS NOT NULL THEN {digit} END AS answer_digit FROM {joined}"
    )
    system = _by_place([f"system_{place}" for place in range(len(templates))])
    return (
        f"""SELECT concat(participant, '-', "order", {_by_place(suffixes)}) AS prompt_id, participant,"""
        " wave,"
        f" CASE WHEN reason IS NOT NULL AND split <> 'test' THEN '{HELD_OUT}' ELSE split END AS split,"
        f""" reason AS held_out, question, "order", intervention, {_by_place(names)} AS template, weight,"""
        f" answer, answer_digit, low, high, step, labels, {system} AS system,"
        f' {wordings.user_sql(values)} AS "user", {wordings.user_sql(values, digits=True)} AS user_digit,'
        " CASE WHEN words IS NULL THEN answer::VARCHAR ELSE words[(answer - low) // step + 1] END AS target,"
        f" answer_digit::VARCHAR AS target_digit FROM ({rows})"
    )


def _by_place(expressions: Sequence[str]) -> str:
    """The expression of the template whose place the row has."""
    if len(set(expressions)) == 1:
        return expressions[0]
    cases = " ".join(f"WHEN {place} THEN {expression}" for place, expression in enumerate(expressions))
    return f"CASE place {cases} END"


def _held_out_sql(survey: SurveySpec) -> str:
    """Why an answer is held out (cell, question, intervention), or NULL."""
    held = survey.held_out
    return (
        f"CASE WHEN held_out THEN 'cell' WHEN {is_one_of('question', held.questions)} THEN 'question'"
        f" WHEN {is_one_of('intervention', map(canonical_id, held.interventions))} THEN 'intervention' END"
    )


def _put_people(database: duckdb.DuckDBPyConnection, splits: Path, sample: Sample | None) -> None:
    """The table `people`: participant, split and held_out of those that the study uses."""
    source = sql.parquet([splits])
    counts = database.execute(f"SELECT split, count(*) FROM {source} GROUP BY split").fetchall()
    check_sample(dict(counts), sample)
    sampled = sampled_participants_sql(source, sample)
    database.execute(f"CREATE TEMP TABLE people AS SELECT participant, split, held_out FROM ({sampled})")


def _put_table(
    database: duckdb.DuckDBPyConnection, name: str, rows: Sequence[Mapping[str, object]], schema: Any
) -> None:
    import pyarrow as pa

    database.register("incoming", pa.Table.from_pylist(list(rows), schema=schema))
    database.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM incoming")
    database.unregister("incoming")


def _put_interventions(
    database: duckdb.DuckDBPyConnection,
    survey: SurveySpec,
    interventions: Mapping[str, Intervention],
    slots: set[str],
) -> dict[str, str]:
    """The table `intervention_fields`, if prompts use any; returns each field's expression."""
    import pyarrow as pa

    fields = sorted(slots & set(survey.interventions.fields if survey.interventions else ()))
    if not fields:
        return {}
    columns = {field: f"field_{place}" for place, field in enumerate(fields)}
    rows = [
        {"intervention": key, **{column: entry.fields[field] for field, column in columns.items()}}
        for key, entry in interventions.items()
    ]
    schema = pa.schema([(name, pa.string()) for name in ("intervention", *columns.values())])
    _put_table(database, "intervention_fields", rows, schema)
    return columns


def _check_answers(database: duckdb.DuckDBPyConnection, splits: Path, survey: SurveySpec) -> None:
    """Raise BadInput for answers off the codebook's scales, and for people without a split."""
    questions = {q.id: q for q in survey.questions}
    asked = database.execute("SELECT question, min(answer), max(answer) FROM answers GROUP BY question")
    for question, low, high in asked.fetchall():
        scale = questions[question].answer_scale if question in questions else None
        if scale is None or low < scale.low or high > scale.high:
            raise BadInput(
                "the codebook has no such question"
                if scale is None
                else f"answers from {low} to {high} on a scale from {scale.low} to {scale.high}",
                file=survey.folder / "survey.yaml",
                field="questions",
                value=question,
                remedy="run the survey's clean waves and responses again: the codebook has changed since",
            )
    split = sql.parquet([splits])
    query = (
        "SELECT count(DISTINCT a.participant), min(a.participant) FROM answers AS a"
        f" ANTI JOIN {split} AS s ON a.participant = s.participant"
    )
    [(lost, example)] = database.execute(query).fetchall()
    if lost:
        raise BadInput(
            f"{lost} participants with answers are in no split",
            field="splits",
            value=example,
            remedy="run the survey's splits again: there are new responses since",
        )


def _check_interventions(
    database: duckdb.DuckDBPyConnection, survey: SurveySpec, interventions: Mapping[str, Intervention]
) -> None:
    """Raise BadInput for an intervention that is answered or held out, and in no table."""
    for unknown in [id for id in survey.held_out.interventions if canonical_id(id) not in interventions]:
        raise BadInput(
            "the held-out intervention is not in the table of interventions",
            file=survey.folder / "survey.yaml",
            field="held_out.interventions",
            value=unknown,
            remedy=f"use one of: {', '.join(interventions) or '(there is none)'}",
        )
    read = database.execute("SELECT DISTINCT intervention FROM answers WHERE intervention IS NOT NULL")
    for unknown in sorted(key for (key,) in read.fetchall() if key not in interventions):
        raise BadInput(
            "participants read an intervention that is not in the table of interventions",
            file=survey.folder / "survey.yaml",
            field="interventions",
            value=unknown,
            remedy="put it back into the table, or run the survey's clean waves again",
        )


def examples(prompts: Path) -> pd.DataFrame:
    """The first prompt of each question and template: a small table with all columns."""
    source = sql.parquet([prompts])
    with sql.connection(prompts.parent) as database:
        firsts = database.execute(
            f"SELECT min(prompt_id) FROM {source} GROUP BY question, template"
        ).fetchall()
        listed = ", ".join(sql.text(prompt_id) for (prompt_id,) in firsts) or "NULL"
        return database.execute(f"SELECT * FROM {source} WHERE prompt_id IN ({listed})").df()
