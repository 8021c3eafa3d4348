"""A training that was cancelled, in each of the ways there are, or killed, goes on in the next run."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from evsim_assets.running.session import open_instance
from evsim_assets.specs.project import Project
from tests.chain.command_line import evsim_in as evsim

ROOT = Path(__file__).resolve().parents[2]
STEPS = 102
SECONDS = 15.0
"""How long a cancelled training may go on, on a busy machine."""
TRAIN = ("run", "small", "--only", "adapter_checkpoint", "--partition", "s~qlora")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose adapter was trained once, undisturbed."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "data" / "studies").mkdir(parents=True)
    shutil.copytree(ROOT / "data" / "surveys" / "ev_shift", folder / "data" / "surveys" / "ev_shift")
    (folder / "data" / "models").symlink_to(ROOT / "data" / "models")
    shutil.copyfile(ROOT / "tests" / "chain" / "small_study.yaml", folder / "data" / "studies" / "small.yaml")
    shutil.copyfile(ROOT / "workspace.yaml", folder / "workspace.yaml")
    evsim(folder, "run", "small", "--only", "raw_wave,clean_wave,responses,splits,prompts")
    evsim(folder, *TRAIN)
    return folder


@pytest.fixture
def version(project: Path) -> str:
    """The checkpoint of the undisturbed training: a hash of all its files."""
    return _version(project)


def _version(project: Path) -> str:
    return (_stored(project) / "current").read_text()


def _stored(project: Path) -> Path:
    return project / ".evsim" / "lake" / "small" / "adapter_checkpoint" / "adapter=s~qlora"


def _work(project: Path) -> Path:
    return project / ".evsim" / "lake" / ".work"


def _sealed(project: Path) -> list[Path]:
    return list(_work(project).glob("small/adapter_checkpoint/adapter=s~qlora/checkpoint-*/complete.json"))


def _started(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """`evsim` in a process group of its own, at a step checkpoint of its training."""
    process = subprocess.Popen(
        [sys.executable, "-m", "evsim_assets.cli", *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    _until(lambda: bool(_sealed(project)) or process.poll() is not None, 120)
    assert process.poll() is None, process.communicate()[0]
    return process


def _until(happened: Callable[[], bool], seconds: float) -> float:
    """Wait until it has happened; how long that was."""
    began = time.monotonic()
    while not happened():
        assert time.monotonic() - began < seconds, "it did not happen"
        time.sleep(0.05)
    return time.monotonic() - began


def _instance(project: Path) -> dg.DagsterInstance:
    return open_instance(Project(project))


def _latest(project: Path) -> tuple[dg.DagsterRunStatus, str]:
    """The status of the latest run of the command line, and all that it logged."""
    with _instance(project) as instance:
        (run,) = instance.get_runs(dg.RunsFilter(tags={"evsim/study": "small"}), limit=1)
        logged = [entry.user_message for entry in instance.all_logs(run.run_id)]
    return run.status, "\n".join(logged)


def _goes_on(project: Path, version: str) -> None:
    """The next run resumes, ends with the undisturbed run's bytes, and leaves no work behind."""
    assert _sealed(project)
    (_stored(project) / version.strip()).rename(project / "before")
    try:
        evsim(project, *TRAIN, "--again")
        status, logged = _latest(project)
        assert status == dg.DagsterRunStatus.SUCCESS
        assert f" of {STEPS}" in logged.split("resumed at step")[1]
        assert _version(project) == version
        assert not _work(project).exists()
    finally:
        shutil.rmtree(project / "before")


def test_ctrl_c_keeps_the_checkpoint(project: Path, version: str) -> None:
    process = _started(project, *TRAIN, "--again")
    os.killpg(process.pid, signal.SIGINT)
    assert _until(lambda: process.poll() is not None, 60) < SECONDS
    _goes_on(project, version)


def test_a_run_of_the_command_line_that_is_cancelled_in_the_ui_stops(project: Path, version: str) -> None:
    """All that the UI can do to a process it did not start is to mark its run."""
    process = _started(project, *TRAIN, "--again")
    with _instance(project) as instance:
        (run,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        instance.report_run_canceled(run)
    assert _until(lambda: process.poll() is not None, 60) < SECONDS
    assert "the run was cancelled" in " ".join(process.communicate()[0].split())
    _goes_on(project, version)


def test_two_processes_never_train_one_adapter_and_a_killed_one_lets_go(project: Path, version: str) -> None:
    """`dagster asset materialize` knows nothing of the lock that `evsim run` has of its own."""
    process = _started(project, *TRAIN, "--again")
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "dagster",
                "asset",
                "materialize",
                "-m",
                "evsim_assets.code_location",
                "--select",
                "small/adapter_checkpoint",
                "--partition",
                "s~qlora",
            ],
            cwd=project,
            env={**os.environ, "DAGSTER_HOME": str(Project(project).dagster_home)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert second.returncode
        assert "another process is at work on this partition" in second.stdout + second.stderr
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _goes_on(project, version)


@contextlib.contextmanager
def _server(project: Path) -> Iterator[str]:
    """`evsim ui`: Dagster's webserver and daemon; its address for GraphQL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "evsim_assets.cli", "ui", "--port", str(port)],
        cwd=project,
        stdout=(project / "server.log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}/graphql"

    def up() -> bool:
        with contextlib.suppress(OSError):
            return bool(_asked(address, "{assetNodes{assetKey{path}}}")["assetNodes"])
        return False

    try:
        _until(up, 120)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _asked(address: str, query: str, **variables: Any) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=30))
    assert "errors" not in answer, answer
    return dict(answer["data"])


LAUNCH = (
    "mutation($p: ExecutionParams!) {launchRun(executionParams: $p)"
    " {__typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"
)
RUN = {
    "selector": {
        "repositoryLocationName": "evsim",
        "repositoryName": "__repository__",
        "jobName": "__ASSET_JOB",
        "assetSelection": [{"path": ["small", "adapter_checkpoint"]}],
    },
    "mode": "default",
    "executionMetadata": {"tags": [{"key": "dagster/partition", "value": "s~qlora"}]},
}


def test_a_run_of_the_ui_that_is_terminated_there_keeps_its_checkpoint(project: Path, version: str) -> None:
    with _server(project) as address, _instance(project) as instance:
        launched = _asked(address, LAUNCH, p=RUN)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]
        _until(lambda: bool(_sealed(project)), 180)
        _asked(address, "mutation($r: String!) {terminateRun(runId: $r) {__typename}}", r=run_id)

        def stopped() -> bool:
            run = instance.get_run_by_id(run_id)
            return run is not None and run.status == dg.DagsterRunStatus.CANCELED

        assert _until(stopped, 60) < SECONDS
    _goes_on(project, version)


def test_a_changed_spec_begins_anew_and_says_why(project: Path, version: str) -> None:
    """The last test: it leaves another adapter."""
    process = _started(project, *TRAIN, "--again")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    study = project / "data" / "studies" / "small.yaml"
    study.write_text(study.read_text().replace("learning_rate: 3.0e-3", "learning_rate: 2.0e-3"))
    evsim(project, *TRAIN)
    _, logged = _latest(project)
    assert "training starts anew" in logged and "resumed" not in logged
    assert "spec (training.learning_rate: 0.002, was 0.003)" in logged
    assert _version(project) != version
