"""What `evsim run` leaves behind when processes are killed: nothing that lives, nothing half-done."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil
import pytest

from evsim_assets.running.graph import Graph, Node
from evsim_assets.running.scheduler import Scheduler, close_dead_runs
from evsim_assets.running.session import open_instance
from evsim_assets.running.staleness import Staleness
from evsim_assets.specs.project import Project
from evsim_resources.records import Records
from tests.chain.command_line import evsim_in

pytestmark = pytest.mark.slow


def started(project: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "evsim_assets.cli", "run", "small", *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.1)


def memory_of_workers(process: subprocess.Popen[str]) -> dict[psutil.Process, int]:
    """The living worker processes of a run with their resident bytes; one may end while one looks."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                found[child] = child.memory_info().rss
    return found


def is_alive(process: psutil.Process) -> bool:
    """Whether the process still works; one that has ended may wait to be collected."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def unfinished(project: Path) -> list[dg.DagsterRun]:
    with open_instance(Project(project)) as instance:
        return list(instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])))


def checkpoint(project: Path) -> Path:
    return project / ".evsim" / "lake" / "small" / "adapter_checkpoint" / "adapter=s~qlora"


def test_a_killed_worker_fails_its_own_node_and_no_other(project_folder: Path) -> None:
    run = started(project_folder)
    wait_for(lambda: bool(list(checkpoint(project_folder).glob(".writing-*"))))  # the adapter is in training
    memory = memory_of_workers(run)
    max(memory, key=lambda process: memory[process]).send_signal(signal.SIGKILL)
    printed, _ = run.communicate(timeout=300)
    flat = " ".join(printed.split())
    assert run.returncode == 1
    assert flat.count("failed: small/") == 1
    assert "its process was killed" in flat
    assert not unfinished(project_folder)
    assert "Made" in evsim_in(project_folder, "run", "small")  # and the next run mends it
    assert (checkpoint(project_folder) / "current").exists()


def test_a_killed_run_leaves_no_worker_and_the_next_one_goes_on(project_folder: Path) -> None:
    run = started(project_folder)
    wait_for(lambda: bool(list(checkpoint(project_folder).glob(".writing-*"))))
    workers = list(memory_of_workers(run))
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    wait_for(lambda: not any(is_alive(worker) for worker in workers), 20)
    assert unfinished(project_folder)  # nobody was left to say that it ended
    with open_instance(Project(project_folder)) as instance:
        close_dead_runs(instance)
    assert not unfinished(project_folder)


def test_a_process_that_is_killed_while_idle_is_replaced(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph([], instance)
        judge = Staleness(graph, Records(instance), lambda *_: True)
        scheduler = Scheduler(
            graph,
            judge,
            root=tmp_path,
            study="none",
            workers=1,
            fresh_process=False,
            expected_seconds=lambda _: 1.0,
        )
        with scheduler._slots() as [slot]:
            os.kill(slot.submit(os.getpid).result(), signal.SIGKILL)
            time.sleep(1)
            future, replaced = scheduler._submit(Node((dg.AssetKey("metrics"),), None), slot)
            assert replaced is not slot
            assert "none.yaml" in (future.result(timeout=60).error or "")
