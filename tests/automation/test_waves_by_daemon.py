"""A file that is dropped becomes a table by itself: a real daemon, its processes and its storage."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from evsim_resources.records import Records
from tests.automation.watched import Watched, answers

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LOCATION = """\
import pathlib
import dagster as dg
from evsim_assets import automation
automation.OBSERVE_SECONDS = 2  # a person's patience in place of a year's
from tests.automation.watched import Watched
from evsim_assets.surveys.observed import look_for_waves
from evsim_assets.wave_sensor import wave_sensor

watched = Watched(pathlib.Path({root!r}))
automatic = dg.AutomationConditionSensorDefinition(
    "automation", target=dg.AssetSelection.all(), minimum_interval_seconds=2,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
defs = dg.Definitions(
    assets=watched.assets(),
    sensors=[wave_sensor(watched.survey, look_for_waves), automatic],
    resources=watched.resources,
    executor=dg.in_process_executor,
)
"""
PATIENCE_SECONDS = 300


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The instance of a daemon that is at work."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(ROOT / "evsim_assets" / "instance.yaml", home / "dagster.yaml")
    dg.DagsterInstance.from_config(str(home)).dispose()  # its storage is there before two use it at once
    location = tmp_path / "location.py"
    location.write_text(LOCATION.format(root=str(tmp_path)))
    daemon = subprocess.Popen(
        [sys.executable, "-m", "dagster._daemon", "run", "-f", str(location), "-d", str(ROOT)],
        env=os.environ | {"DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdout=(tmp_path / "log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield home
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        try:
            daemon.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()


def wait_for(there: Callable[[], bool]) -> bool:
    """Whether it comes to be."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not there() and time.monotonic() < until:
        time.sleep(0.5)
    return there()


def test_a_dropped_file_becomes_responses_and_a_broken_one_a_failed_wave(home: Path, tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        watched = Watched(tmp_path, instance=instance)

        def made(asset: str, wave: str | None) -> bool:
            return Records(instance).latest(dg.AssetKey(["snacks", asset]), wave) is not None

        watched.put("w1.csv", answers(1))
        watched.put("w2.csv", b"\n")  # nothing in it
        assert wait_for(lambda: made("responses", None)), (tmp_path / "log").read_text()[-3000:]
        assert watched.waves == ["w1", "w2"] and made("raw_wave", "w1") and not made("raw_wave", "w2")
        assert set(watched.lake.read_table(["snacks", "responses"])["wave"]) == {"w1"}
        failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        assert failed and {run.tags["dagster/partition"] for run in failed} == {"w2"}
