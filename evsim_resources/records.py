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
INPUT_EVENT = "dagster/input_event_pointer/"
"""How far an input's history had gone when a step read it: a storage id, of any of its partitions."""


@dataclass(frozen=True)
class Record:
    """The latest materialization of an asset partition, as Dagster recorded it.

    Attributes:
        storage_id: its place in Dagster's history; later events have larger ones.
        inputs: data version of each input, by asset.
        read_until: storage id of the last materialization of each input when it was read, by asset.
    """

    storage_id: int
    data_version: str | None
    code_version: str | None
    inputs: dict[str, str]
    read_until: dict[str, int]


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

    def before(self, key: dg.AssetKey, partition: str | None, storage_id: int) -> Record | None:
        """What `latest` would have said when Dagster's history had gone to `storage_id`."""
        latest = self.latest(key, partition)
        if latest is None or latest.storage_id <= storage_id:
            return latest
        return self._read(key, partition, before_storage_id=storage_id + 1)

    def _read(
        self, key: dg.AssetKey, partition: str | None, before_storage_id: int | None = None
    ) -> Record | None:
        wanted = dg.AssetRecordsFilter(
            asset_key=key,
            asset_partitions=[partition] if partition is not None else None,
            before_storage_id=before_storage_id,
        )
        found = self.instance.fetch_materializations(wanted, limit=1).records
        if not found:
            return None
        event = found[0].asset_materialization
        tags = dict(event.tags or {}) if event else {}
        return Record(
            found[0].storage_id,
            tags.get(DATA_VERSION),
            tags.get(CODE_VERSION),
            _by_input(tags, INPUT_VERSION),
            # an input without any materialization has no number but a word here
            {name: int(at) for name, at in _by_input(tags, INPUT_EVENT).items() if at.isdigit()},
        )


def _by_input(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in tags.items() if name.startswith(prefix)}


def observed(
    key: dg.AssetKey, partition: str, version: str, metadata: Mapping[str, Any]
) -> dg.AssetMaterialization:
    """An external asset's content as it is now, by its hash; everything downstream follows from that."""
    return dg.AssetMaterialization(
        asset_key=key, partition=partition, tags={DATA_VERSION: version}, metadata=metadata
    )
