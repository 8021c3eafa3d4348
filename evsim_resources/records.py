"""What Dagster recorded of each partition's latest materialization: the versions it was made with.

Belongs here: reading and writing that record through Dagster's public API. Not here: what follows
from it (`evsim_assets/running/staleness.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

DATA_VERSION, CODE_VERSION = "dagster/data_version", "dagster/code_version"
INPUT_VERSION = "dagster/input_data_version/"
BLOCKED = "evsim/blocked"
"""Metadata of a materialization whose blocking check failed: which, and why. Dagster itself forgets a
failed check of one partition as soon as another partition passes it."""


@dataclass(frozen=True)
class Record:
    """The latest materialization of an asset partition, as Dagster recorded it."""

    data_version: str | None
    code_version: str | None
    inputs: dict[str, str]
    blocked: str | None = None


class Records:
    """Latest materializations, each read once; `forget` one after it was made anew."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self._known: dict[tuple[dg.AssetKey, str | None], Record | None] = {}

    def latest(self, key: dg.AssetKey, partition: str | None) -> Record | None:
        """The latest record, or None when the partition was never materialized."""
        if (key, partition) not in self._known:
            self._known[key, partition] = self._read(key, partition)
        return self._known[key, partition]

    def forget(self, key: dg.AssetKey, partition: str | None) -> None:
        """Read this record anew next time."""
        self._known.pop((key, partition), None)

    def _read(self, key: dg.AssetKey, partition: str | None) -> Record | None:
        wanted = dg.AssetRecordsFilter(
            asset_key=key, asset_partitions=[partition] if partition is not None else None
        )
        found = self.instance.fetch_materializations(wanted, limit=1).records
        if not found:
            return None
        event = found[0].asset_materialization
        tags = dict(event.tags or {}) if event else {}
        inputs = {
            name.removeprefix(INPUT_VERSION): value
            for name, value in tags.items()
            if name.startswith(INPUT_VERSION)
        }
        blocked = event.metadata.get(BLOCKED) if event else None
        return Record(
            tags.get(DATA_VERSION), tags.get(CODE_VERSION), inputs, str(blocked.value) if blocked else None
        )


def observed(
    key: dg.AssetKey, partition: str, version: str, metadata: Mapping[str, Any]
) -> dg.AssetMaterialization:
    """An external asset's content as it is now, by its hash; everything downstream follows from that."""
    return dg.AssetMaterialization(
        asset_key=key, partition=partition, tags={DATA_VERSION: version}, metadata=metadata
    )
