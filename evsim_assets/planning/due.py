"""What would run now, in what order, because of which change, and what it would cost.

Belongs here: carrying changes down the graph and adding up. Not here: the change itself (`why.py`), what is
printed (`display_due.py`), what a training would take (`adapters/estimate.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evsim_assets.planning.why import NEVER_MADE, why

if TYPE_CHECKING:
    import dagster as dg

    from evsim_assets.running.graph import Graph, Node
    from evsim_assets.running.staleness import Staleness

BY_MODEL = ("adapter_checkpoint", "answer_distributions", "validation_scores", "generations")
"""Assets that hold a model; what they take is added up apart."""


@dataclass(frozen=True)
class Due:
    """A node that would run.

    Attributes:
        why: its own change; None where it only follows from others.
        because: the changes that it goes back to, its own first.
        order: 1 for what can run at once, else one more than the last of what it waits for.
        seconds: what it takes, as far as that is known.
        known_from: `last run`, `estimate`, or None.
    """

    node: Node
    why: str | None
    because: tuple[str, ...]
    order: int
    seconds: float | None = None
    known_from: str | None = None

    @property
    def by_model(self) -> bool:
        """Whether its time is a model's."""
        return any(key.path[-1] in BY_MODEL for key in self.node.keys)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "asset": "/".join(self.node.keys[0].path),
            "partition": self.node.partition,
            "order": self.order,
            "why": self.why,
            "because": list(self.because),
            "seconds": self.seconds,
            "seconds_from": self.known_from,
            "needs_model": self.by_model,
        }


@dataclass(frozen=True)
class Costs:
    """Seconds of the last run of a node, by its label, and of trainings as estimated, by adapter."""

    last: Mapping[str, float] = field(default_factory=dict)
    trainings: Mapping[str, float] = field(default_factory=dict)

    def of(self, node: Node) -> tuple[float | None, str | None]:
        """Seconds and where they are from. A training is estimated: its last run may have had other texts,
        or have gone on from a checkpoint; that of a pretrained model takes what it took."""
        if node.name == "adapter_checkpoint" and node.partition in self.trainings:
            return self.trainings[str(node.partition)], "estimate"
        seconds = self.last.get(node.label)
        return seconds, "last run" if seconds is not None else None


def due(graph: Graph, judge: Staleness, costs: Costs) -> list[Due]:
    """Everything that would run, upstream before downstream.

    What follows from a change is counted whole: where something comes out as it was, less would run.
    """
    found: dict[tuple[dg.AssetKey, str | None], Due] = {}
    for node in graph.nodes:
        above = _above(graph, node, found)
        own = why(judge, node)
        if own is None and not above:
            continue
        says_more = bool(above) and own is not None and own.endswith(NEVER_MADE)  # the change above does
        because = dict.fromkeys([own] if own is not None and not says_more else [])
        for each in above:
            because |= dict.fromkeys(each.because)
        seconds, source = costs.of(node)
        order = 1 + max((each.order for each in above), default=0)
        entry = Due(node, own, tuple(because), order, seconds, source)
        for key in node.keys:
            found[key, node.partition] = entry
    return sorted(dict.fromkeys(found.values()), key=lambda entry: entry.order)


def _above(graph: Graph, node: Node, found: Mapping[tuple[dg.AssetKey, str | None], Due]) -> list[Due]:
    return list(
        dict.fromkeys(
            found[dep, partition]
            for dep, partitions in graph.dependencies(node).items()
            for partition in partitions
            if (dep, partition) in found
        )
    )


@dataclass(frozen=True)
class Totals:
    """Sums over what would run; seconds are those that are known, one after another."""

    partitions: int
    seconds: float
    model_seconds: float
    unknown: int
    model_unknown: int


def totals(entries: Sequence[Due]) -> Totals:
    """The sums of what would run."""
    known = [entry for entry in entries if entry.seconds is not None]
    unknown = [entry for entry in entries if entry.seconds is None]
    return Totals(
        len(entries),
        sum(entry.seconds or 0.0 for entry in known),
        sum(entry.seconds or 0.0 for entry in known if entry.by_model),
        len(unknown),
        sum(entry.by_model for entry in unknown),
    )
