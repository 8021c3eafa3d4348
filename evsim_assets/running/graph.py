"""The asset graph as plain nodes: one step's assets in one partition.

Belongs here: which nodes there are, and which partitions a node is made from. Not here: whether a
node is out of date (`staleness.py`), running it (`scheduler.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg


@dataclass(frozen=True)
class Node:
    """What one run makes: the assets of one definition, in one partition (None: unpartitioned)."""

    keys: tuple[dg.AssetKey, ...]
    partition: str | None

    @property
    def name(self) -> str:
        """The asset's short name, such as `metrics`; of several assets, the one declared first."""
        return self.keys[0].path[-1]

    @property
    def label(self) -> str:
        """For people: `ev_shift/metrics [s~qlora]`."""
        shown = "/".join(self.keys[0].path)
        return f"{shown} [{self.partition}]" if self.partition else shown


class Graph:
    """Assets and their dependencies, read off the definitions."""

    def __init__(self, assets: Sequence[Any], instance: dg.DagsterInstance) -> None:
        self.assets = assets
        self.instance = instance
        self._dependencies: dict[Node, dict[dg.AssetKey, list[str | None]]] = {}
        self.specs: dict[dg.AssetKey, dg.AssetSpec] = {}
        self.definition: dict[dg.AssetKey, dg.AssetsDefinition] = {}
        for asset in assets:
            if isinstance(asset, dg.AssetSpec):
                self.specs[asset.key] = asset
                continue
            for spec in asset.specs:
                self.specs[spec.key] = spec
                self.definition[spec.key] = asset

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node that can be run, upstream before downstream."""
        ordered: list[Node] = []
        for definition in self._topological():
            keys = tuple(spec.key for spec in definition.specs)
            ordered += [Node(keys, partition) for partition in self.partitions(keys[0])]
        return tuple(ordered)

    def partitions(self, key: dg.AssetKey) -> Sequence[str | None]:
        """The partition keys of an asset as they are now; [None] when it is unpartitioned."""
        definition = self.specs[key].partitions_def
        if definition is None:
            return [None]
        return list(definition.get_partition_keys(dynamic_partitions_store=self.instance))

    def dependencies(self, node: Node) -> dict[dg.AssetKey, list[str | None]]:
        """The upstream assets of a node with the partitions it reads of each."""
        if node not in self._dependencies:
            self._dependencies[node] = self._read_dependencies(node)
        return self._dependencies[node]

    def _read_dependencies(self, node: Node) -> dict[dg.AssetKey, list[str | None]]:
        deps = {dep.asset_key for key in node.keys for dep in self.specs[key].deps}
        return {
            dep: self._upstream_partitions(node, dep)
            for dep in sorted(deps - set(node.keys), key=str)
            if dep in self.specs
        }

    def _upstream_partitions(self, node: Node, dep: dg.AssetKey) -> list[str | None]:
        """The same key where both have the same partitions, that dimension's where one of the two
        has two dimensions, and all of them otherwise: Dagster's own defaults."""
        mine, theirs = self.specs[node.keys[0]].partitions_def, self.specs[dep].partitions_def
        if theirs is None:
            return [None]
        everything = list(self.partitions(dep))
        if mine is None or node.partition is None:
            return everything
        if mine == theirs:
            return [node.partition]
        if isinstance(mine, dg.MultiPartitionsDefinition):
            dimension = self._dimension(mine, theirs)
            key = mine.get_partition_key_from_str(node.partition)
            return [key.keys_by_dimension[dimension]] if dimension else everything
        if isinstance(theirs, dg.MultiPartitionsDefinition):
            dimension = self._dimension(theirs, mine)
            return [
                p
                for p in everything
                if dimension is None
                or theirs.get_partition_key_from_str(str(p)).keys_by_dimension[dimension] == node.partition
            ]
        return everything

    @staticmethod
    def _dimension(multi: dg.MultiPartitionsDefinition, single: Any) -> str | None:
        matches = [d.name for d in multi.partitions_defs if d.partitions_def == single]
        return matches[0] if matches else None

    def _topological(self) -> Iterable[dg.AssetsDefinition]:
        done: dict[int, dg.AssetsDefinition] = {}

        def visit(definition: dg.AssetsDefinition) -> None:
            if id(definition) in done:
                return
            for spec in definition.specs:
                for dep in spec.deps:
                    upstream = self.definition.get(dep.asset_key)
                    if upstream is not None and upstream is not definition:
                        visit(upstream)
            done[id(definition)] = definition

        for asset in self.assets:
            if not isinstance(asset, dg.AssetSpec):
                visit(asset)
        return done.values()
