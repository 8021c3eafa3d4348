"""SQL over the lake, for analysts: read-only, and nothing but the lake's tables can be seen.

Belongs here: which tables there are, and running one query. Not here: what is in them.
"""

import re
from collections.abc import Collection, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import dagster as dg
from upath import UPath

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import StudySpec, temperature_key
from evsim_resources.lake import OF_A_SURVEY, Lake, is_local, run_again

if TYPE_CHECKING:
    import pandas as pd

READING = {"SELECT", "EXPLAIN", "RELATION"}


class Warehouse(dg.ConfigurableResource):
    """Answers SQL about tables named `<study>.metrics`, `<survey>.responses` and so on (DuckDB)."""

    lake: dg.ResourceDependency[Lake]

    def tables(self) -> dict[str, list[UPath]]:
        """Every stored table by name, with its Parquet files, one a partition."""
        found: dict[str, list[UPath]] = {}
        root = self.lake.path
        if not root.exists():
            return {}
        for owner in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
            for asset in sorted(p for p in owner.iterdir() if p.is_dir()):
                files = sorted(asset.rglob("data.parquet"), key=str)
                if files:
                    found[f"{owner.name}.{asset.name}"] = files
        return found

    def query(self, sql: str, keep: Mapping[str, list[UPath]] | None = None) -> "pd.DataFrame":
        """The result of one SELECT.

        Only the tables that the query names are opened; then the connection is shut off from files
        and network and its settings are locked, so no query can read or write anything else.

        Args:
            keep: the tables and files to offer, in place of all that are stored.

        Raises:
            BadInput: not one reading statement, an unknown table, or an error in the SQL.
        """
        import duckdb

        with duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"}) as connection:
            try:
                statements = connection.extract_statements(sql)
            except duckdb.Error as error:
                raise _wrong(error) from None
            kinds = [statement.type.name for statement in statements]
            if len(kinds) != 1 or kinds[0] not in READING:
                raise BadInput(
                    "only one reading statement is allowed",
                    value="; ".join(kinds) or sql,
                    remedy="write one SELECT; the lake is read-only here",
                )
            offered = dict(keep) if keep is not None else self.tables()
            for name in sorted(_named(sql, offered)):
                self._open(connection, name, offered[name])
            connection.execute("SET enable_external_access = false; SET lock_configuration = true")
            try:
                return connection.execute(sql).fetchdf()
            except duckdb.Error as error:
                raise _wrong(error, offered) from None

    @staticmethod
    def _open(connection: Any, name: str, files: list[UPath]) -> None:
        """Register a table lazily, through Arrow: columns and rows that are not asked for stay unread.

        A partition may hold whole numbers, or nothing at all, where another holds fractions or text;
        and what tells partitions apart may stand in their folders' names alone. The table has the
        columns of all, in types that hold all.
        """
        import pyarrow as pa
        import pyarrow.dataset as ds

        owner, table = name.split(".")
        folders_of_one = takewhile(lambda folder: "=" in folder.name, files[0].parents)
        dimensions = [folder.name.split("=")[0] for folder in folders_of_one]
        try:
            schemas = [dataset.schema for dataset in (_dataset([file]) for file in files)]
            stored = pa.unify_schemas(schemas, promote_options="permissive")
            folders = pa.schema([(d, pa.string()) for d in dimensions if d not in stored.names])
            hive = ds.partitioning(folders, flavor="hive")
            dataset = _dataset(files, schema=pa.schema([*stored, *folders]), partitioning=hive)
        except (pa.ArrowException, OSError) as error:
            raise BadInput(
                f"the stored table {name} cannot be read: {error}",
                file=str(files[0].parent),
                remedy=f"materialize it again: {run_again([owner, table])}",
            ) from error
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{owner}"')
        connection.register(f"__{owner}__{table}", dataset)
        connection.execute(f'CREATE VIEW "{owner}"."{table}" AS FROM "__{owner}__{table}"')


def current(
    stored: Mapping[str, list[UPath]], surveys: Collection[str], studies: Collection[StudySpec]
) -> dict[str, list[UPath]]:
    """Of the stored tables, those that these surveys and studies have as they are now.

    What a removed study, adapter, temperature or algorithm left in the lake is not offered: nothing
    keeps it up to date. Of waves, all that are stored are offered.
    """
    by_name = {study.name: study for study in studies}
    kept: dict[str, list[UPath]] = {}
    for name, files in stored.items():
        owner, table = name.split(".")
        if table in OF_A_SURVEY:
            kept |= {name: files} if owner in surveys else {}
        elif owner in by_name:
            now = [file for file in files if _has(by_name[owner], file)]
            kept |= {name: now} if now else {}
    return kept


def _has(study: StudySpec, file: UPath) -> bool:
    """Whether the study still has the partition in whose folders the file lies."""
    keys = {
        "adapter": {spec.key for spec in study.adapter_specs},
        "temperature": {temperature_key(t) for t in study.temperature_values},
        "algorithm": set(study.baselines.parts),
    }
    folders = [folder.name.split("=", 1) for folder in takewhile(lambda f: "=" in f.name, file.parents)]
    return all(value in keys.get(dimension, {value}) for dimension, value in folders)


def _named(sql: str, offered: Mapping[str, Any]) -> set[str]:
    """The offered tables that the query mentions; a name that is not offered fails later."""
    plain = re.sub(r"\s*\.\s*", ".", sql.lower().replace('"', ""))
    return set(re.findall(r"[a-z0-9_]+\.[a-z0-9_]+", plain)) & set(offered)


def _dataset(files: list[UPath], **options: Any) -> Any:
    import pyarrow.dataset as ds

    local = is_local(files[0])
    return ds.dataset(
        [file.path for file in files], format="parquet", filesystem=None if local else files[0].fs, **options
    )


def _wrong(error: Exception, offered: Mapping[str, Any] | None = None) -> BadInput:
    names = f"; tables: {', '.join(sorted(offered))}" if offered else ""
    return BadInput(f"the query failed: {error}", remedy=f"correct the SQL{names}")
