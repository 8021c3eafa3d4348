"""Which participants train, validate and test: by a keyed hash, so that nobody ever moves.

Belongs here: splits of people, who is in a held-out demographic cell, and how splits came out. Not
here: which of them a study uses (`prompts/sampling.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from evsim_assets import sql
from evsim_assets.specs.demographics import SEVERAL_SEPARATOR, Demographic
from evsim_assets.specs.seeds import keyed_rank_sql
from evsim_assets.specs.survey import SurveySpec

SPLITS = ("train", "validation", "test")
POINT = 0.01
"""Shares of a thousand people or more that are further than this from what is asked for are spoken of."""
KEYS_TRIED = 100

UNKNOWN = "not known"
"""The level of a stratum of those of whom it is not known."""


def split_participants(responses: Path, survey: SurveySpec, into: Path) -> int:
    """Write one row a participant, sorted: `participant`, `split`, `rank`, `held_out`; returns how many.

    `rank` is uniform in [0, 1) and depends on the survey's name, the splits' key and the participant
    alone: the first `train` part of it trains, the next validates, the last tests. A new wave moves nobody.
    `held_out` says whether the participant was, in any wave, in a held-out demographic cell.
    """
    fractions = survey.splits
    rank = keyed_rank_sql(_purpose(survey, fractions.key), "participant")
    people = (
        f"SELECT participant, {rank} AS rank, held_out"
        f" FROM (SELECT participant, bool_or({in_held_out_cell(survey)}) AS held_out"
        f" FROM {sql.parquet([responses])} GROUP BY participant)"
    )
    query = (
        f"SELECT participant, CASE WHEN rank < {fractions.train!r}::DOUBLE THEN 'train'"
        f" WHEN rank < {fractions.train + fractions.validation!r}::DOUBLE THEN 'validation'"
        f" ELSE 'test' END AS split, rank, held_out FROM ({people}) ORDER BY participant"
    )
    with sql.connection(into.parent) as database:
        return sql.write_parquet(database, query, into)


def _purpose(survey: SurveySpec, key: int) -> str:
    return f"split:{survey.name}:{key}" if key else f"split:{survey.name}"


def uneven_shares(report: pd.DataFrame, splits: Path, survey: SurveySpec) -> str | None:
    """What to do about shares further than POINT from those asked for, of a thousand people or more.

    A hash deals people out by chance, as `Splits` says; the first key up to KEYS_TRIED whose shares
    are near enough is named. None where nothing is to be done.
    """
    asked = survey.splits
    [(people, *shares)] = report[["participants", "train", "validation", "test"]].head(1).to_numpy().tolist()
    furthest = max(abs(share - getattr(asked, name)) for name, share in zip(SPLITS, shares, strict=True))
    if people < 1_000 or furthest <= POINT:
        return None
    told = ", ".join(f"{name} {share:.1%}" for name, share in zip(SPLITS, shares, strict=True))
    for key in range(KEYS_TRIED):
        if _furthest(splits, survey, key) <= POINT:
            return f"{told}: for shares within a point, set splits.key: {key}, before any result is looked at"
    return told


def _furthest(splits: Path, survey: SurveySpec, key: int) -> float:
    """How far the furthest share would be from what is asked for, with another key."""
    train, validation = survey.splits.train, survey.splits.validation
    rank = keyed_rank_sql(_purpose(survey, key), "participant")
    with sql.connection() as database:
        query = (
            f"SELECT avg((r < {train!r}::DOUBLE)::INT), avg((r < {train + validation!r}::DOUBLE)::INT)"
            f" FROM (SELECT {rank} AS r FROM {sql.parquet([splits])})"
        )
        [(first, second)] = database.execute(query).fetchall()
    return max(abs(first - train), abs(second - first - validation), abs(second - train - validation))


def split_report(splits: Path, responses: Path, survey: SurveySpec) -> pd.DataFrame:
    """How the splits came out, over all and for each level of the codebook's strata.

    Columns: `stratum` ("all" for everybody), `level`, `participants`, and the shares (0 to 1) of them in
    `train`, `validation` and `test`, and in held-out cells (`held_out`). Levels are those of each
    participant's first wave; who has several options of a demographic is in several levels.
    """
    shares = ", ".join(f"avg((split = '{split}')::INT) AS {split}" for split in SPLITS)
    figures = f"count(*) AS participants, {shares}, avg(held_out::INT) AS held_out"
    by_name = {d.name: d for d in survey.demographics}
    strata = [by_name[name] for name in survey.strata]
    levels = ", ".join(f"f.{sql.name(d.slug)}" for d in strata) or "NULL"
    with sql.connection(splits.parent) as database:
        first = f'SELECT * FROM {sql.parquet([responses])} WHERE "order" = 0'
        database.execute(
            f"CREATE TEMP TABLE people AS SELECT s.split, s.held_out, {levels}"
            f" FROM {sql.parquet([splits])} AS s LEFT JOIN ({first}) AS f USING (participant)"
        )
        parts = [f"SELECT -1 AS place, 'all' AS stratum, 'all' AS level, {figures} FROM people"]
        for place, demographic in enumerate(strata):
            level = f"coalesce({sql.name(demographic.slug)}, {sql.text(UNKNOWN)})"
            if demographic.has_several:
                level = f"unnest(string_split({level}, {sql.text(SEVERAL_SEPARATOR)}))"
            parts.append(
                f"SELECT {place}, {sql.text(demographic.name)}, level, {figures}"
                f" FROM (SELECT {level} AS level, split, held_out FROM people) GROUP BY level"
            )
        query = " UNION ALL ".join(parts)
        table = database.execute(f"SELECT * FROM ({query}) ORDER BY place, level").df()
    return table.drop(columns="place")


def in_held_out_cell(survey: SurveySpec) -> str:
    """Whether an answer's demographics are in one of the held-out cells, as an SQL expression."""
    by_name = {d.name: d for d in survey.demographics}
    cells = [_in_cell(cell, by_name) for cell in survey.held_out.cells]
    return f"({' OR '.join(cells)})" if cells else "false"


def _in_cell(cell: Mapping[str, Sequence[str]], by_name: Mapping[str, Demographic]) -> str:
    parts = [_has_any(by_name[name], options) for name, options in cell.items()]
    return f"({' AND '.join(parts)})" if parts else "true"


def _has_any(demographic: Demographic, options: Sequence[str]) -> str:
    column = sql.name(demographic.slug)
    if not options:
        return "false"
    listed = ", ".join(sql.text(option) for option in options)
    if demographic.has_several:
        known = f"string_split({column}, {sql.text(SEVERAL_SEPARATOR)})"
        return f"coalesce(list_has_any({known}, [{listed}]), false)"
    return f"coalesce({column} IN ({listed}), false)"
