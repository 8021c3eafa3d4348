"""What `evsim prune` removes: which versions are still needed, and what of Dagster's history nobody reads.

Belongs here: deciding, with Dagster's record of what was made from what, while no run is going. Not here:
finding and removing files (`evsim_resources/pruning.py`), what is printed (`evsim_assets/prune_command.py`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg

from evsim_assets.definitions import build_definitions
from evsim_assets.running.graph import Graph
from evsim_assets.running.scheduler import close_dead_runs
from evsim_assets.running.session import only_one_run
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project
from evsim_resources.lake import Lake
from evsim_resources.pruning import (
    StoredVersion,
    is_given_up,
    leftovers,
    remove_leftover,
    remove_version,
    size_of,
    stored_versions,
)
from evsim_resources.records import Record, Records
from evsim_resources.work import FORGOTTEN_DAYS

NEVER = {"raw_wave"}
"""Assets whose versions are all kept: what was delivered, which nothing can make again."""
UNFINISHED_RUNS = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
FAILED_RUNS = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
TELLING = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}
"""Events of a run that staleness, checks and lineage are read from; a run with one of them stays."""

Key = tuple[str, ...]
Version = tuple[Key, str | None, str]
"""An asset, a partition, the data version of what was made."""


@dataclass(frozen=True)
class Lineage:
    """What stored tables were made from.

    Attributes:
        needed: versions that tables of the studies were made from, however far above.
        outside: data versions that tables of no study any more (a temperature taken away) were made from.
        known: the partitions of studies that can be read.
    """

    needed: set[Version]
    outside: set[str]
    known: set[tuple[Key, str | None]]


@dataclass(frozen=True)
class Found:
    """Something that could go: what, where, how large; why it is `kept`, or how it is removed."""

    what: str
    where: str
    bytes: int
    kept: str | None
    remove: Callable[[], bool]


@dataclass(frozen=True)
class Limits:
    """What stays: the newest `keep` superseded versions of each partition, and all that are younger than
    `older_than` days; `even_needed`: of what a stored table was made from, nothing. `history`: days of
    compute logs and failed runs that stay; None: all of them."""

    keep: int = 1
    older_than: float | None = None
    even_needed: bool = False
    history: float | None = None


@contextmanager
def nothing_running(project: Project, instance: dg.DagsterInstance) -> Iterator[None]:
    """To the end of the block no `evsim run` of the project begins, and at its beginning no run is going.

    A run that Dagster begins meanwhile reads current versions, and these are never removed.

    Raises:
        BadInput: an `evsim run`, or a run in Dagster, is going.
    """
    with only_one_run(project):
        close_dead_runs(instance)
        going = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED_RUNS))
        if going:
            raise BadInput(
                f"{len(going)} run{'s are' if len(going) > 1 else ' is'} going in this project's Dagster",
                value=going[0].run_id,
                remedy="wait for them, or end them in the UI; `evsim prune --dry-run` only looks",
            )
        yield


def found_in(project: Project, instance: dg.DagsterInstance, limits: Limits) -> list[Found]:
    """Everything superseded, left over or old, with the reason where it stays. Removes nothing."""
    lake = Lake(root=project.lake)
    days = FORGOTTEN_DAYS if limits.older_than is None else limits.older_than
    found = _versions(project, instance, lake, limits)
    for leftover in leftovers(lake, days):
        what = "unfinished file" if leftover.lock is None else "work given up"
        found.append(
            Found(what, str(leftover.path), leftover.bytes, None, partial(remove_leftover, leftover))
        )
    return found + (_history(project, instance, limits.history) if limits.history is not None else [])


def needed_versions(graph: Graph, records: Records) -> set[Version]:
    """Everything that stored tables were made from, however far above.

    What was made from what, Dagster recorded: of each input, how far its history had gone when it was read.
    """
    nodes = {(key, node.partition): node for node in graph.nodes for key in node.keys}
    needed: set[Version] = set()
    waiting: list[tuple[dg.AssetKey, str | None, Record]] = [
        (key, partition, latest)
        for key, partition in nodes
        if (latest := records.latest(key, partition)) is not None
    ]
    seen = {record.storage_id for *_, record in waiting}
    while waiting:
        key, partition, record = waiting.pop()
        if (key, partition) not in nodes:
            continue
        for dep, partitions in graph.dependencies(nodes[key, partition]).items():
            until = record.read_until.get(dep.to_user_string(), 0)  # 0: before anything was made
            for above in partitions:
                made = records.before(dep, above, until)
                if made is not None:
                    needed.add((tuple(dep.path), above, str(made.data_version)))
                    if made.storage_id not in seen:
                        seen.add(made.storage_id)
                        waiting.append((dep, above, made))
    return needed


def _versions(project: Project, instance: dg.DagsterInstance, lake: Lake, limits: Limits) -> list[Found]:
    stored = stored_versions(lake)
    lineage = _lineage(project, instance)
    found: list[Found] = []
    newer: dict[str, int] = {}
    for version in reversed(stored):
        if version.current or version.asset[-1] in NEVER:
            continue
        place = newer[version.store] = newer.get(version.store, 0) + version.whole
        kept = _why_kept(version, place, limits, lineage)
        where = (
            f"{'/'.join(version.asset)}{f' [{version.partition}]' if version.partition else ''} {version.id}"
        )
        remove = partial(remove_version, lake, version)
        found.append(Found("superseded version", where, version.bytes, kept, remove))
    return found[::-1]


def _why_kept(version: StoredVersion, place: int, limits: Limits, lineage: Lineage) -> str | None:
    """The reason why a version stays, in words; None where it goes."""
    if not version.whole:
        return None if is_given_up(version) else "it may be being written"
    if place <= limits.keep:
        return f"one of the newest {limits.keep} (--keep)" if limits.keep > 1 else "the newest one (--keep)"
    days = (time.time() - version.written) / (24 * 3600)
    if limits.older_than is not None and days < limits.older_than:
        return f"{days:.1f} days old (--older-than)"
    if limits.even_needed:
        return None
    made_from = (version.asset, version.partition, version.id) in lineage.needed
    if made_from or version.id in lineage.outside:
        return "a stored table was made from it (--even-needed removes it)"
    if (version.asset, version.partition) not in lineage.known:
        return "no study that can be read names it (--even-needed removes it)"
    return None


def _lineage(project: Project, instance: dg.DagsterInstance) -> Lineage:
    needed: set[Version] = set()
    known: set[tuple[Key, str | None]] = set()
    for study in project.study_names:
        try:
            graph = Graph(list(build_definitions(project, studies=[study]).assets or []), instance)
        except BadInput:
            continue  # its versions are kept
        needed |= needed_versions(graph, Records(instance))
        known |= {(tuple(key.path), node.partition) for node in graph.nodes for key in node.keys}
    records, outside = Records(instance), set()
    for key in instance.get_asset_keys():
        for partition in [*instance.get_materialized_partitions(key), None]:
            if (tuple(key.path), partition) not in known:
                record = records.latest(key, partition)
                outside |= set(record.inputs.values()) if record else set()
    return Lineage(needed, outside, known)


def _history(project: Project, instance: dg.DagsterInstance, days: float) -> list[Found]:
    """Compute logs of runs that ended before, and records of failed ones that tell of no asset."""
    before = datetime.now(UTC) - timedelta(days=days)
    found = []
    ended = [dg.DagsterRunStatus.SUCCESS, *FAILED_RUNS]
    for record in instance.get_run_records(dg.RunsFilter(statuses=ended, updated_before=before)):
        run = record.dagster_run
        logs = project.dagster_home / "storage" / run.run_id / "compute_logs"
        if logs.is_dir():
            remove = partial(_remove_folder, logs)
            found.append(Found("compute logs", run.run_id, size_of(logs.parent), None, remove))
        if (
            run.status in FAILED_RUNS
            and not instance.get_records_for_run(run.run_id, of_type=TELLING, limit=1).records
        ):
            remove = partial(_delete_run, instance, run.run_id)
            found.append(
                Found("failed run", f"{run.run_id} {run.tags.get('evsim/node', '')}", 0, None, remove)
            )
    return found


def _remove_folder(logs: Path) -> bool:
    shutil.rmtree(logs.parent)
    return True


def _delete_run(instance: dg.DagsterInstance, run_id: str) -> bool:
    instance.delete_run(run_id)
    return True
