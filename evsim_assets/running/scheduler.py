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
from typing import Any

from evsim_assets.running.graph import Graph, Node
from evsim_assets.running.staleness import Staleness
from evsim_assets.running.worker import Outcome, prepare_process, run_node
from evsim_resources.progress import FOLDER

LOOK_SECONDS = 0.3


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
        self._producer = {(key, node.partition): node for node in graph.nodes for key in node.keys}

    def run(self, plan: Plan, look: Callable[[Progress], None]) -> Progress:
        """Run the plan to its end; `look` is called a few times a second."""
        self.progress.waiting = set(plan.nodes)
        futures: dict[Future[Outcome], Node] = {}
        with self._pool() as submit:
            while self.progress.waiting or futures:
                for node in self._ready(plan):
                    if len(futures) >= self.workers:
                        break
                    self.progress.waiting.discard(node)
                    self.progress.running[node] = time.monotonic()
                    futures[submit(node)] = node
                if not futures:
                    break
                finished, _ = wait(futures, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
                for future in finished:
                    self._settle(futures.pop(future), future)
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
        """`wait`, `run`, `fresh` or `skip`."""
        above = self._upstream(node)
        if any(n in self.progress.waiting or n in self.progress.running for n in above):
            return "wait"
        broken = [n for n in above if n in self.progress.skipped or self._failed(n)]
        if broken:
            self.progress.skipped[node] = f"{broken[0].label} failed or was skipped"
            return "skip"
        reason = "asked for" if plan.again and plan.considers(node) else self.staleness.reason(node)
        if reason is None or not plan.considers(node):
            blocked = self.staleness.blocked(node)
            if blocked:
                self.progress.skipped[node] = blocked
                return "skip"
            self.progress.fresh += reason is None
            return "fresh"
        missing = self.staleness.blocked_by(node)
        if missing:
            self.progress.skipped[node] = f"{missing} has not been materialized"
            return "skip"
        self.progress.reasons[node] = reason
        return "run"

    def _upstream(self, node: Node) -> list[Node]:
        return [
            self._producer[dep, partition]
            for dep, partitions in self.graph.dependencies(node).items()
            for partition in partitions
            if (dep, partition) in self._producer
        ]

    def _failed(self, node: Node) -> bool:
        return any(outcome.node == node for outcome in self.progress.failed)

    def _settle(self, node: Node, future: Future[Outcome]) -> None:
        try:
            outcome = future.result()
        except BrokenProcessPool:
            outcome = Outcome(
                node,
                0.0,
                "its process was killed (out of memory?)\n"
                "  Remedy: free memory, or use a smaller model or training.batch_size; then run again",
            )
        self.progress.running.pop(node)
        self.progress.done.append(outcome)
        self.staleness.forget(node)

    def _read_reports(self) -> None:
        folder = os.environ.get(FOLDER)
        for path in Path(folder).glob("*.json") if folder else []:
            try:
                report = json.loads(path.read_text())
                self.progress.reports[report["node"]] = report
            except (OSError, ValueError, KeyError):
                continue

    @contextmanager
    def _pool(self) -> Iterator[Callable[[Node], Future[Outcome]]]:
        """Worker processes, a folder for their progress, and no worker left behind at the end."""
        with tempfile.TemporaryDirectory(prefix="evsim-progress-") as folder:
            os.environ[FOLDER] = folder
            pools = [self._new_pool()]

            def submit(node: Node) -> Future[Outcome]:
                try:
                    return pools[-1].submit(run_node, str(self.root), self.study, node)
                except BrokenProcessPool:  # a killed process breaks its pool; the others go on in a new one
                    pools.append(self._new_pool())
                    return pools[-1].submit(run_node, str(self.root), self.study, node)

            try:
                yield submit
            finally:
                os.environ.pop(FOLDER, None)
                for pool in pools:
                    pool.shutdown(wait=True, cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        threads = max((os.cpu_count() or 1) // self.workers, 1)
        return ProcessPoolExecutor(
            self.workers,
            mp_context=get_context("spawn"),
            initializer=prepare_process,
            initargs=(threads,),
            max_tasks_per_child=1 if self.fresh_process else None,
        )
