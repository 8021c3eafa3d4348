"""Whether Dagster's record of a node still holds: the data and code versions it was made with.

Everything is read from the materialization events that Dagster stores (its provenance tags),
through its public API. The answer is the UI's own, with two differences: it is not blind beyond 99
upstream partitions, and a stored file that has gone counts as missing.

Belongs here: comparing versions. Not here: which nodes there are (`graph.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import dagster as dg

from evsim_assets.running.graph import Graph, Node
from evsim_resources.records import Records

RECORDED_PARTITIONS = 100
"""From this many upstream partitions on Dagster records no version of an input that can be compared."""


class Staleness:
    """Why a node has to be run, given the records."""

    def __init__(
        self, graph: Graph, records: Records, stored: Callable[[dg.AssetKey, str | None], bool]
    ) -> None:
        self.graph, self.records, self.stored = graph, records, stored

    def forget(self, node: Node) -> None:
        """Read the node's records anew next time: it was just made."""
        for key in node.keys:
            self.records.forget(key, node.partition)

    def reason(self, node: Node) -> str | None:
        """In words why the node is missing or out of date; None when it is fresh."""
        for key in node.keys:
            record = self.records.latest(key, node.partition)
            if record is None:
                return "missing"
            if not self.stored(key, node.partition):
                return "its stored file is gone"
            if record.code_version != self.graph.specs[key].code_version:
                return "its code or configuration changed"
            for dep, partitions in self.graph.dependencies(node).items():
                if len(partitions) >= RECORDED_PARTITIONS:
                    continue
                if record.inputs.get(dep.to_user_string()) != self._version(dep, partitions):
                    return f"{dep.path[-1]} changed"
        return None

    def blocked(self, node: Node) -> str | None:
        """Why nothing may be made from the node as it is: a blocking check of its failed."""
        records = [self.records.latest(key, node.partition) for key in node.keys]
        return next((record.blocked for record in records if record and record.blocked), None)

    def blocked_by(self, node: Node) -> str | None:
        """An upstream partition that was never made, so that the node cannot be run."""
        for dep, partitions in self.graph.dependencies(node).items():
            for partition in partitions:
                if self.records.latest(dep, partition) is None:
                    return f"{dep.to_user_string()} [{partition}]" if partition else dep.to_user_string()
        return None

    def _version(self, dep: dg.AssetKey, partitions: list[str | None]) -> str | None:
        """The data version of an input in the form in which Dagster records it."""
        if partitions == [None]:
            record = self.records.latest(dep, None)
            return record.data_version if record else None
        found = [(p, self.records.latest(dep, p)) for p in partitions]
        versions = [r.data_version or "" for _, r in sorted(found, key=lambda pair: str(pair[0])) if r]
        return hashlib.sha256("".join(versions).encode()).hexdigest()
