"""The clean answers of all waves as one table, by participant.

Belongs here: merging waves, and which wave counts where a participant is in several. Not here: rows
of one wave (`cleaning.py`), splits (`splits.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evsim_assets import sql
from evsim_assets.specs.survey import SurveySpec

if TYPE_CHECKING:
    import duckdb

FEW = 10_000
"""Texts with at most about so many different values are sorted as numbers, which takes half as long."""


@dataclass(frozen=True)
class Merged:
    """The tables `responses` and `superseded` (the same columns and the `reason`), and `counts` of
    answers: `clean` = `kept` + `superseded`; `panel` are the participants of several waves."""

    responses: Path
    superseded: Path
    counts: dict[str, int]


def merge_waves(waves: Sequence[Path], survey: SurveySpec, into: Path) -> Merged:
    """Write the answers of all waves into the folder `into`, sorted by participant, wave and order.

    A participant of several waves is one participant. With `across_waves: panel` their answers follow
    each other in the order of the waves' names, `order` counted on from wave to wave; with `keep first`
    or `keep last` those of the first or last wave are kept, and the others are superseded.

    Args:
        waves: `clean_wave` tables, one a wave (at least one); `order` counts a participant's answers
            of a wave from 0.
    """
    source = sql.parquet(waves)
    policy = survey.duplicates.across_waves
    responses, superseded = into / "responses.parquet", into / "superseded.parquet"
    reason = f"'the answers of wave ' || kept_wave || ' count (duplicates.across_waves: {policy})'"
    with sql.connection(into) as database:
        _put_panel(database, source, policy)
        counted = database.execute(f"SELECT (SELECT count(*) FROM {source}), (SELECT count(*) FROM panel)")
        [(clean, panel)] = counted.fetchall()
        kept = sql.write_parquet(database, _kept(database, source, policy), responses)
        set_aside = sql.write_parquet(
            database,
            f"SELECT a.*, {reason} AS reason FROM {source} AS a JOIN panel USING (participant)"
            f" WHERE {'false' if policy == 'panel' else 'kept_wave <> a.wave'}"
            ' ORDER BY a.participant, a.wave, a."order"',
            superseded,
        )
    counts = {"clean": int(clean), "kept": kept, "superseded": set_aside, "panel": int(panel)}
    return Merged(responses, superseded, counts)


def _kept(database: duckdb.DuckDBPyConnection, source: str, policy: str) -> str:
    """The query for the answers that count, sorted."""
    described = database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    columns = {column: kind for column, kind, *_ in described}
    inside = {column: f"a.{sql.name(column)}" for column in columns}
    inside |= (packed := _packed(database, source, columns))
    if policy == "panel":
        inside["order"] = '(a."order" + coalesce(w.answers_before, 0))::BIGINT'
        which = "LEFT JOIN waves_before AS w ON w.participant = a.participant AND w.wave = a.wave"
    else:
        which = (
            "LEFT JOIN panel AS p ON p.participant = a.participant"
            " WHERE p.kept_wave IS NULL OR p.kept_wave = a.wave"
        )
    narrow = ", ".join(f"{expression} AS {sql.name(column)}" for column, expression in inside.items())
    texts = ", ".join(f"{sql.name(c)}{'::VARCHAR' if c in packed else ''} AS {sql.name(c)}" for c in columns)
    rows = f"SELECT {narrow} FROM {source} AS a {which}"
    return f'SELECT {texts} FROM (SELECT * FROM ({rows}) ORDER BY participant, wave, "order")'


def _put_panel(database: duckdb.DuckDBPyConnection, source: str, policy: str) -> None:
    """Tables `panel` (participants of several waves, `kept_wave`) and `waves_before` (how many answers
    each of them gave before each wave: `answers_before`)."""
    chosen = "max" if policy == "keep last" else "min"
    database.execute(
        f"CREATE TEMP TABLE panel AS SELECT participant, {chosen}(wave) AS kept_wave FROM {source}"
        " GROUP BY participant HAVING min(wave) <> max(wave)"
    )
    database.execute(
        "CREATE TEMP TABLE waves_before AS SELECT participant, wave, sum(answers) OVER (PARTITION BY"
        " participant ORDER BY wave ROWS UNBOUNDED PRECEDING) - answers AS answers_before FROM"
        f" (SELECT participant, wave, count(*) AS answers FROM {source} SEMI JOIN panel USING (participant)"
        " GROUP BY participant, wave)"
    )


def _packed(database: duckdb.DuckDBPyConnection, source: str, columns: dict[str, str]) -> dict[str, str]:
    """Columns of few different texts → an expression for them as an ENUM (same order as the texts).

    A sort of millions of rows then moves a byte or two in place of a text, and need not spill.
    """
    texts = [column for column, kind in columns.items() if kind == "VARCHAR" and column != "participant"]
    counts = ", ".join(f"approx_count_distinct({sql.name(column)})" for column in texts)
    [found] = database.execute(f"SELECT {counts} FROM {source}").fetchall()
    packed: dict[str, str] = {}
    for column, several in zip(texts, found, strict=True):
        if several > FEW:
            continue
        quoted, kind = sql.name(column), sql.name(f"texts of {column}")
        database.execute(
            f"CREATE TYPE {kind} AS ENUM (SELECT DISTINCT {quoted} AS text FROM {source}"
            f" WHERE {quoted} IS NOT NULL ORDER BY text)"
        )
        packed[column] = f"a.{quoted}::{kind}"
    return packed
