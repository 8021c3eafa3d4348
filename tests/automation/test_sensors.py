"""What the sensors and schedules see and report, on real instances and real folders."""

import os
import shutil
import time
from pathlib import Path

import dagster as dg
import pytest

from evsim_assets.adapters.assets import changed_adapters
from evsim_assets.automation import study_sensor
from evsim_assets.specs.project import Project
from evsim_assets.surveys.observed import look_for_waves
from evsim_assets.wave_sensor import wave_sensor
from evsim_resources.models import ModelHub


class Landing:
    """A survey's landing folder and its sensor, on an instance of its own."""

    def __init__(self, folder: Path) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.survey = Project(folder).survey("ev_shift")
        self.sensor = wave_sensor(self.survey, look_for_waves)
        self.folder = folder / "data" / "surveys" / "ev_shift" / "waves"
        self.cursor: str | None = None
        self.said: str | None = None

    def look(self) -> list[str | None]:
        """One tick, as the daemon does it; the waves that are reported."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = self.sensor(context)
        assert isinstance(result, dg.SensorResult)
        for request in result.dynamic_partitions_requests or []:
            keys = list(request.partition_keys)
            self.instance.add_dynamic_partitions(request.partitions_def_name, keys)
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = result.cursor
        self.said = result.skip_reason.skip_message if result.skip_reason else None
        return [event.partition for event in result.asset_events]

    @property
    def waves(self) -> list[str]:
        return sorted(self.instance.get_dynamic_partitions("ev_shift_wave"))


@pytest.fixture
def landing(project_folder: Path) -> Landing:
    return Landing(project_folder)


def test_the_wave_sensor_registers_a_new_file_and_reports_a_changed_one(landing: Landing) -> None:
    assert landing.look() == [] and landing.waves == []
    assert landing.look() == landing.waves == ["2021-11", "2022-02"]
    assert landing.look() == [] and landing.said == "no new or changed wave"
    shutil.copyfile(landing.folder / "2021-11.csv", landing.folder / "2022-05.csv")
    assert [landing.look(), landing.look()] == [[], ["2022-05"]]
    with (landing.folder / "2022-05.csv").open("a") as file:
        file.write((landing.folder / "2022-02.csv").read_text().splitlines()[1] + "\n")
    assert [landing.look(), landing.look(), landing.look()] == [[], ["2022-05"], []]
    assert landing.waves == ["2021-11", "2022-02", "2022-05"]


@pytest.mark.parametrize("clock", [-1e6, 1e6])
def test_a_file_is_taken_once_it_lies_still_whatever_its_clock_says(landing: Landing, clock: float) -> None:
    landing.look(), landing.look()
    lines = (landing.folder / "2021-11.csv").read_text().splitlines(keepends=True)
    target = landing.folder / "2022-05.csv"
    for length in (10, 20, 30):  # a copy that takes three looks, its time set as `cp -p` and clocks may
        target.write_text("".join(lines[:length]))
        os.utime(target, (time.time() + clock, time.time() + clock))
        assert landing.look() == []
    assert landing.look() == ["2022-05"]


@pytest.mark.parametrize("name", ["Wave 3.csv", "2022-05.CSV"])
def test_a_file_that_cannot_be_a_wave_is_spoken_of_and_holds_no_other_up(landing: Landing, name: str) -> None:
    shutil.copyfile(landing.folder / "2021-11.csv", landing.folder / name)
    landing.look()
    assert landing.look() == ["2021-11", "2022-02"]
    landing.look()
    assert landing.said is not None and name in landing.said and "rename the file" in landing.said


def test_a_wave_whose_file_is_gone_stays_and_the_sensor_says_so(landing: Landing) -> None:
    landing.look(), landing.look()
    (landing.folder / "2021-11.csv").rename(landing.folder / "aside")
    assert landing.look() == [] and landing.waves == ["2021-11", "2022-02"]
    assert landing.said is not None and "wave 2021-11 is gone; its answers stay" in landing.said
    landing.folder.rename(landing.folder.with_name("unmounted"))
    assert landing.look() == [] and landing.waves == ["2021-11", "2022-02"]


def test_a_wave_that_was_taken_out_for_good_comes_back_when_its_file_does(landing: Landing) -> None:
    landing.look(), landing.look()
    (landing.folder / "2021-11.csv").rename(landing.folder / "aside")
    landing.instance.delete_dynamic_partition("ev_shift_wave", "2021-11")
    assert landing.look() == [] and landing.said == "no new or changed wave"
    (landing.folder / "aside").rename(landing.folder / "2021-11.csv")
    assert [landing.look(), landing.look()] == [[], ["2021-11"]]
    assert landing.waves == ["2021-11", "2022-02"]


def test_the_adapter_sensor_reports_the_edited_adapter_alone(project_folder: Path) -> None:
    instance = dg.DagsterInstance.ephemeral()
    path = project_folder / "data" / "studies" / "small.yaml"
    hub = ModelHub(root=str(project_folder))

    def look() -> list[str | None]:
        study = Project(project_folder).study("small")
        result = study_sensor(study, changed_adapters)(dg.build_sensor_context(instance=instance), hub=hub)
        events = list(result.asset_events or []) if isinstance(result, dg.SensorResult) else []
        for event in events:
            instance.report_runless_asset_event(event)
        return [event.partition for event in events]

    assert look() == ["s~pretrained", "s~qlora"]
    assert look() == []
    path.write_text(path.read_text().replace("method: qlora}", "method: qlora, training: {rank: 4}}"))
    assert look() == ["s~qlora"]


def test_everything_automatic_is_on_by_default() -> None:
    from evsim_assets.code_location import defs

    repository = defs.get_repository_def()
    assert {s.name for s in repository.sensor_defs} >= {"automation", "ev_shift_waves", "ev_shift_adapters"}
    assert all(s.default_status == dg.DefaultSensorStatus.RUNNING for s in repository.sensor_defs)
    schedules = {s.name: s for s in repository.schedule_defs}
    assert schedules["ev_shift_monthly"].default_status == dg.DefaultScheduleStatus.RUNNING
