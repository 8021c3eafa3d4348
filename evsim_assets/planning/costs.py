"""What nodes took when they ran last, as Dagster recorded it.

Belongs here: reading run times. Not here: estimates (`adapters/estimate.py`), sums (`due.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

    from evsim_assets.running.graph import Node

AT_ONCE = 100
"""Runs asked for in one query."""


def seconds_of_last_runs(instance: dg.DagsterInstance, nodes: Iterable[Node]) -> dict[str, float]:
    """By the node's label; only of runs that made this node and nothing else. Not of nodes that never ran."""
    import dagster as dg

    labels: dict[str, list[Node]] = {}
    for node in nodes:
        run = _run_of(instance, node)
        if run:
            labels.setdefault(run, []).append(node)
    found: dict[str, float] = {}
    runs = [run for run, made in labels.items() if len(made) == 1]
    for start in range(0, len(runs), AT_ONCE):
        some = dg.RunsFilter(run_ids=runs[start : start + AT_ONCE])
        for record in instance.get_run_records(some):
            if record.start_time is not None and record.end_time is not None:
                found[labels[record.dagster_run.run_id][0].label] = record.end_time - record.start_time
    return found


def _run_of(instance: dg.DagsterInstance, node: Node) -> str | None:
    import dagster as dg

    wanted = dg.AssetRecordsFilter(
        asset_key=node.keys[0], asset_partitions=[node.partition] if node.partition is not None else None
    )
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].run_id if records else None
