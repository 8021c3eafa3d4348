"""What runs by itself, tick by tick, on real instances."""

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from evsim_assets.adapters.assets import changed_adapters
from evsim_assets.automation import cheap, refreshed, study_sensor, wave_sensor
from evsim_assets.specs.project import Project
from evsim_assets.surveys.assets import changed_waves
from evsim_resources.models import ModelHub
from evsim_resources.records import observed

LETTERS = dg.StaticPartitionsDefinition(["a", "b"])


class World:
    """spec (external) → trained (refreshed) → table (cheap), all partitioned by letter."""

    def __init__(self) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: Any = None
        self.code = "1"
        self.broken = False

    def assets(self) -> list[Any]:
        spec = dg.AssetSpec("spec", partitions_def=LETTERS)
        broken = self.broken

        @dg.asset(
            partitions_def=LETTERS, deps=[spec], code_version=self.code, automation_condition=refreshed()
        )
        def trained(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            if broken:
                raise RuntimeError("out of memory")
            return dg.MaterializeResult(data_version=dg.DataVersion(context.run.run_id))

        @dg.asset(partitions_def=LETTERS, deps=[trained], code_version="1", automation_condition=cheap())
        def table() -> dg.MaterializeResult:
            return dg.MaterializeResult(data_version=dg.DataVersion("1"))

        return [spec, trained, table]

    def observe(self, letter: str, version: str) -> None:
        self.instance.report_runless_asset_event(observed(dg.AssetKey("spec"), letter, version, {}))

    def tick(self) -> set[tuple[str, str | None]]:
        """One evaluation, as the daemon does it; returns what is requested."""
        definitions = dg.Definitions(assets=self.assets())
        result = dg.evaluate_automation_conditions(definitions, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return {
            (subset.key.path[-1], partition)
            for evaluation in result.results
            if (subset := evaluation.true_subset) is not None
            for partition in sorted(subset.expensively_compute_partition_keys())
        }

    def run(self, asset: str, partition: str) -> None:
        dg.materialize(
            self.assets(),
            selection=[asset],
            partition_key=partition,
            instance=self.instance,
            raise_on_error=False,
        )


@pytest.fixture
def world() -> World:
    """Everything made once, and one quiet tick seen."""
    fresh = World()
    for letter in ("a", "b"):
        fresh.observe(letter, "1")
        fresh.run("trained", letter)
        fresh.run("table", letter)
    fresh.tick()
    assert fresh.tick() == set()
    return fresh


def test_an_expensive_grid_that_never_ran_is_not_started_by_itself() -> None:
    fresh = World()
    fresh.observe("a", "1")
    fresh.observe("b", "1")
    assert fresh.tick() == set()
    assert fresh.tick() == set()


def test_a_cheap_table_follows_what_was_trained_for_the_first_time() -> None:
    fresh = World()
    fresh.observe("a", "1")
    fresh.tick()
    fresh.run("trained", "a")
    assert ("table", "a") in fresh.tick() | fresh.tick()


def test_an_edited_spec_asks_for_its_partition_and_then_for_what_follows(world: World) -> None:
    world.observe("a", "2")
    assert world.tick() == {("trained", "a")}
    world.run("trained", "a")
    assert world.tick() == {("table", "a")}
    world.run("table", "a")
    assert world.tick() == set()


def test_a_failed_run_is_not_asked_for_again_and_again(world: World) -> None:
    world.observe("a", "2")
    assert world.tick() == {("trained", "a")}
    world.broken = True
    world.run("trained", "a")
    assert world.tick() == set()
    assert world.tick() == set()


def test_a_change_that_lands_after_a_failure_asks_anew(world: World) -> None:
    world.observe("a", "2")
    world.tick()
    world.broken = True
    world.run("trained", "a")
    world.tick()
    world.broken = False
    world.observe("a", "3")
    assert world.tick() == {("trained", "a")}


def test_the_wave_sensor_registers_a_new_file_and_reports_a_changed_one(project_folder: Path) -> None:
    instance = dg.DagsterInstance.ephemeral()
    survey = Project(project_folder).survey("ev_shift")
    sensor = wave_sensor(survey, changed_waves)
    landing = project_folder / "data" / "surveys" / "ev_shift" / "waves"

    def look() -> Any:
        result = sensor(dg.build_sensor_context(instance=instance))
        if isinstance(result, dg.SensorResult):
            for request in result.dynamic_partitions_requests or []:
                instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
            for event in result.asset_events or []:
                instance.report_runless_asset_event(event)
        return result

    first = look()
    assert sorted(event.partition for event in first.asset_events) == ["2021-11", "2022-02"]
    assert sorted(instance.get_dynamic_partitions("ev_shift_wave")) == ["2021-11", "2022-02"]
    assert isinstance(look(), dg.SkipReason)
    shutil.copyfile(landing / "2021-11.csv", landing / "2022-05.csv")
    assert [event.partition for event in look().asset_events] == ["2022-05"]
    with (landing / "2022-05.csv").open("a") as file:
        file.write((landing / "2022-02.csv").read_text().splitlines()[1] + "\n")
    corrected = look()
    assert [event.partition for event in corrected.asset_events] == ["2022-05"]
    assert not corrected.dynamic_partitions_requests


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
