"""Whether Dagster's record of a node still holds: the data and code versions it was made with.

Everything is read from the materialization events that Dagster stores (its provenance tags),
through its public API. The answer is the UI's own, with two differences: a node with 100 or more
upstream partitions is judged too (the UI calls it fresh for ever), and a stored file that has gone
counts as missing.

Belongs here: comparing versions. Not here: which nodes there are (`graph.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import dagster as dg

from evsim_assets.running.graph import Graph, Node
from evsim_resources.records import Record, Records

RECORDED_PARTITIONS = 100
"""From this many upstream partitions on, Dagster records no data version of all of an input, but still
where its history stood."""


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
                if self._changed(dep, partitions, record):
                    return f"{dep.path[-1]} changed"
        return None

    def blocked_by(self, node: Node) -> str | None:
        """An upstream partition that was never made, so that the node cannot be run."""
        for dep, partitions in self.graph.dependencies(node).items():
            for partition in partitions:
                if self.records.latest(dep, partition) is None:
                    return f"{dep.to_user_string()} [{partition}]" if partition else dep.to_user_string()
        return None

    def _changed(self, dep: dg.AssetKey, partitions: list[str | None], made: Record) -> bool:
        """Whether the input's partitions hold other content, or are others, than when `made` read them.

        A partition that was taken away from among 100 and more is the one change not seen.
        """
        name = dep.to_user_string()
        if len(partitions) < RECORDED_PARTITIONS:
            return made.inputs.get(name) != self._version(dep, partitions)
        read_until = made.read_until.get(name, 0)
        for partition in partitions:
            now, then = (
                self.records.latest(dep, partition),
                self.records.before(dep, partition, read_until),
            )
            if now is not None and (then is None or now.data_version != then.data_version):
                return True
        return False

    def _version(self, dep: dg.AssetKey, partitions: list[str | None]) -> str | None:
        """The data version of an input in the form in which Dagster records it."""
        if partitions == [None]:
            record = self.records.latest(dep, None)
            return record.data_version if record else None
        found = [(p, self.records.latest(dep, p)) for p in partitions]
        versions = [r.data_version or "" for _, r in sorted(found, key=lambda pair: str(pair[0])) if r]
        return hashlib.sha256("".join(versions).encode()).hexdigest()
