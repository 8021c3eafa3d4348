"""Runs what is out of date, in parallel processes, each node as soon as all it needs is settled.

A node is judged only when everything above it is fresh or has just been made. So an upstream table
that comes out the same again stops the wave of changes there: content decides, not time.

Belongs here: order and parallelism. Not here: judging (`staleness.py`), showing (`display.py`).
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from socket import gethostname
from typing import Any

import dagster as dg

from evsim_assets.running.graph import Graph, Node
from evsim_assets.running.staleness import Staleness
from evsim_assets.running.worker import HOST_TAG, NODE_TAG, Outcome, prepare_process, run_node
from evsim_resources.progress import FOLDER

Slot = ProcessPoolExecutor
LOOK_SECONDS = 0.3
KILLED = """its process was killed (out of memory?)
  Remedy: free memory, or use a smaller model or training.batch_size; then run again"""


@dataclass
class Progress:
    """What is known while running; the display reads it."""

    waiting: set[Node] = field(default_factory=set)
    running: dict[Node, float] = field(default_factory=dict)
    reasons: dict[Node, str] = field(default_factory=dict)
    done: list[Outcome] = field(default_factory=list)
    fresh: int = 0
    skipped: dict[Node, str] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)

    def fraction(self, node: Node) -> float | None:
        """How far a running node says it is."""
        report = self.reports.get(node.label)
        return float(report["fraction"]) if report else None

    @property
    def failed(self) -> list[Outcome]:
        """The runs that went wrong."""
        return [outcome for outcome in self.done if outcome.error]


@dataclass(frozen=True)
class Plan:
    """Which nodes to look at, and which to run whatever their state."""

    nodes: tuple[Node, ...]
    again: bool = False
    only: Collection[Node] | None = None

    def considers(self, node: Node) -> bool:
        """Whether the node may be run."""
        return self.only is None or node in self.only


class Scheduler:
    """Works through a plan.

    Args:
        graph: the asset graph.
        staleness: the judge.
        root: the project's folder, for the worker processes.
        study: the study whose definitions the workers load.
        workers: processes at once; each takes cores / workers threads.
        fresh_process: a new process per node, so that a GPU's memory returns when it ends.
        expected_seconds: the likely duration of a node; the longest start first.
    """

    def __init__(
        self,
        graph: Graph,
        staleness: Staleness,
        *,
        root: Path,
        study: str,
        workers: int,
        fresh_process: bool,
        expected_seconds: Callable[[Node], float],
    ) -> None:
        self.graph, self.staleness = graph, staleness
        self.root, self.study = root, study
        self.workers, self.fresh_process = workers, fresh_process
        self.expected_seconds = expected_seconds
        self.progress = Progress()
        self._stopped: set[Node] = set()
        self._producer = {(key, node.partition): node for node in graph.nodes for key in node.keys}

    def run(self, plan: Plan, look: Callable[[Progress], None]) -> Progress:
        """Run the plan to its end; `look` is called a few times a second."""
        self.progress.waiting = set(plan.nodes)
        work: dict[Future[Outcome], tuple[Node, Slot]] = {}
        with self._slots() as idle:
            while self.progress.waiting or work:
                for node in self._ready(plan)[: len(idle)]:
                    self.progress.waiting.discard(node)
                    self.progress.running[node] = time.monotonic()
                    future, slot = self._submit(node, idle.pop())
                    work[future] = node, slot
                if not work:
                    break
                finished, _ = wait(work, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
                for future in finished:
                    node, slot = work.pop(future)
                    idle.append(self._settle(node, slot, future))
                self._read_reports()
                look(self.progress)
        return self.progress

    def _ready(self, plan: Plan) -> list[Node]:
        """Nodes that must run and can, the longest first; settles those that are fresh on the way."""
        ready: list[Node] = []
        settled_something = True
        while settled_something:
            settled_something, ready = False, []
            for node in [n for n in plan.nodes if n in self.progress.waiting]:
                verdict = self._judge(node, plan)
                if verdict == "run":
                    ready.append(node)
                elif verdict != "wait":
                    self.progress.waiting.discard(node)
                    settled_something = True
        return sorted(ready, key=self.expected_seconds, reverse=True)

    def _judge(self, node: Node, plan: Plan) -> str:
        """`wait`, `run`, `fresh` or `stop`."""
        above = self._upstream(node)
        if any(n in self.progress.waiting or n in self.progress.running for n in above):
            return "wait"
        broken = [n for n in above if n in self._stopped]
        if broken:
            return self._stop(node, plan, f"{broken[0].label} failed or was not run")
        reason = "asked for" if plan.again and plan.considers(node) else self.staleness.reason(node)
        if reason is None or not plan.considers(node):
            self.progress.fresh += reason is None
            return "fresh"
        missing = self.staleness.blocked_by(node)
        if missing:
            return self._stop(node, plan, f"{missing} has not been materialized")
        self.progress.reasons[node] = reason
        return "run"

    def _stop(self, node: Node, plan: Plan, reason: str) -> str:
        """Run neither the node nor what is made from it; said of nodes that were to be run."""
        self._stopped.add(node)
        if plan.considers(node):
            self.progress.skipped[node] = reason
        return "stop"

    def _upstream(self, node: Node) -> list[Node]:
        return [
            self._producer[dep, partition]
            for dep, partitions in self.graph.dependencies(node).items()
            for partition in partitions
            if (dep, partition) in self._producer
        ]

    def _submit(self, node: Node, slot: Slot) -> tuple[Future[Outcome], Slot]:
        """Hand the node to the slot, or to a new one where its process was killed while it was idle."""
        try:
            return slot.submit(run_node, str(self.root), self.study, node), slot
        except BrokenProcessPool:
            return self._submit(node, self._new_slot())

    def _settle(self, node: Node, slot: Slot, future: Future[Outcome]) -> Slot:
        """Note how the node ended; returns the slot, or a new one where its process was killed."""
        seconds = time.monotonic() - self.progress.running.pop(node)
        try:
            outcome = future.result()
        except BrokenProcessPool:
            outcome = Outcome(node, seconds, KILLED)
            close_dead_runs(self.graph.instance, node)
            slot.shutdown(wait=True)
            slot = self._new_slot()
        self.progress.done.append(outcome)
        if outcome.error:
            self._stopped.add(node)
        self.staleness.forget(node)
        return slot

    def _read_reports(self) -> None:
        folder = os.environ.get(FOLDER)
        for path in Path(folder).glob("*.json") if folder else []:
            try:
                report = json.loads(path.read_text())
                self.progress.reports[report["node"]] = report
            except (OSError, ValueError, KeyError):
                continue

    @contextmanager
    def _slots(self) -> Iterator[list[Slot]]:
        """The idle slots, a folder for their progress, and no process left behind at the end."""
        self._made: list[Slot] = []
        with tempfile.TemporaryDirectory(prefix="evsim-progress-") as folder:
            os.environ[FOLDER] = folder
            try:
                yield [self._new_slot() for _ in range(self.workers)]
            finally:
                os.environ.pop(FOLDER, None)
                for slot in self._made:
                    slot.shutdown(wait=True, cancel_futures=True)

    def _new_slot(self) -> Slot:
        """A pool of one process: a killed process breaks its pool, and must break no neighbour's work."""
        threads = max((os.cpu_count() or 1) // self.workers, 1)
        slot = ProcessPoolExecutor(
            1,
            mp_context=get_context("spawn"),
            initializer=prepare_process,
            initargs=(threads,),
            max_tasks_per_child=1 if self.fresh_process else None,
        )
        self._made.append(slot)
        return slot


def close_dead_runs(instance: dg.DagsterInstance, node: Node | None = None) -> None:
    """Mark runs of `evsim run` as failed whose process is gone; a run that stays "started" for ever
    holds its partition back in the daemon's eyes, and a place in its queue.

    Args:
        node: only runs of this node, whose process was just seen to die. Without it, all that this
            machine started: the caller holds the project's lock, so none of them is alive.
    """
    tags = {HOST_TAG: gethostname()} | ({NODE_TAG: node.label} if node else {})
    unfinished = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED]
    for run in instance.get_runs(dg.RunsFilter(tags=tags, statuses=unfinished)):
        instance.report_run_failed(run, "its process was killed")
