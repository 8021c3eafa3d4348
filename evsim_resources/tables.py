"""How assets hand tables to each other: as data frames, or as Parquet files that are never loaded whole.

Belongs here: the IO manager and the files it takes. Not here: where and how tables are stored
(`lake.py`), what is said of a table (`outputs.py`).
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import PrivateAttr

from evsim_assets.specs.errors import BadInput
from evsim_resources.compute import failure
from evsim_resources.lake import Lake, TableFiles, is_local, partition_folders


@dataclass(frozen=True)
class NewTable:
    """A finished Parquet file in a scratch folder, to become the asset's table."""

    path: Path


ALLOW_MISSING = "allow_missing_partitions"
"""Metadata of an input: its partitions that are not stored are left out (Dagster's own word for it)."""


class TableIOManager(dg.ConfigurableIOManager):
    """Stores every table as Parquet in the lake, one file a partition.

    An output is a data frame or a `NewTable`, whose file is moved into place. An input annotated
    `TableFiles` is given the paths of its partitions' files; any other arrives as one data frame. Both
    have the partitions in sorted order. Files of a remote lake are fetched when an input is loaded, and
    kept until the run ends (of a killed run: until the next scratch folder on that machine is made).
    """

    lake: dg.ResourceDependency[Lake]
    _fetched: ExitStack = PrivateAttr(default_factory=ExitStack)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Remove what was fetched."""
        self._fetched.close()

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame | NewTable) -> None:
        """Store the output under its asset key and partition."""
        where = _partition_of(context, context.definition_metadata)
        store = self.lake.take_table if isinstance(obj, NewTable) else self.lake.write_table
        content: Any = obj.path if isinstance(obj, NewTable) else obj
        try:
            path = store(content, context.asset_key.path, where)
        except BadInput as error:
            raise failure(error) from error
        context.add_output_metadata({"path": dg.MetadataValue.path(str(path))})

    def load_input(self, context: dg.InputContext) -> pd.DataFrame | TableFiles:
        """The upstream table: the paths of its files, or read whole."""
        key = context.asset_key.path
        upstream = context.upstream_output
        metadata = upstream.definition_metadata if upstream is not None else None
        places: list[dict[str, str] | None] = [None]
        if context.has_asset_partitions:
            places = [partition_folders(p, metadata) for p in sorted(context.asset_partition_keys)]
            if (context.definition_metadata or {}).get(ALLOW_MISSING):
                stored = [place for place in places if self.lake.table_file(key, place).exists()]
                places = stored or places[:1]  # where nothing is stored, that is the error
        try:
            if context.dagster_type.typing_type is TableFiles:
                return self._files(key, places)
            tables = [self.lake.read_table(key, place) for place in places]
        except BadInput as error:
            raise failure(error) from error
        return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)

    def _files(self, key: Sequence[str], places: Sequence[dict[str, str] | None]) -> TableFiles:
        folder = None if is_local(self.lake.path) else self._fetched.enter_context(self.lake.scratch())
        return TableFiles(tuple(self.lake.table_path(key, place, fetched=folder) for place in places))


def _partition_of(context: dg.OutputContext, metadata: Mapping[str, Any] | None) -> dict[str, str] | None:
    """The partition of an output as {dimension: key}."""
    return partition_folders(context.asset_partition_key, metadata) if context.has_asset_partitions else None
