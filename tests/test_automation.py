"""What runs by itself, tick by tick, on real instances."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from evsim_assets.adapters.assets import changed_adapters
from evsim_assets.automation import cheap, cheap_on_cpu, following, refreshed, study_sensor, wave_sensor
from evsim_assets.specs.project import Project
from evsim_assets.surveys.assets import look_for_waves
from evsim_resources.models import ModelHub
from evsim_resources.records import observed

LETTERS = dg.StaticPartitionsDefinition(["a", "b"])
NUMBERS = dg.StaticPartitionsDefinition(["0", "1"])
GRID = dg.MultiPartitionsDefinition({"letter": LETTERS, "number": NUMBERS})
Asked = set[tuple[str, str | None]]


class Daemon:
    """Evaluates the conditions of a toy graph on an instance of its own, tick by tick."""

    def __init__(self) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: Any = None

    def assets(self) -> list[Any]:
        raise NotImplementedError

    def observe(self, letter: str | None, version: str) -> None:
        seen = observed(dg.AssetKey("spec"), letter or "", version, {})
        self.instance.report_runless_asset_event(seen if letter else seen._replace(partition=None))

    def tick(self) -> Asked:
        """One evaluation, as the daemon does it; returns what is requested."""
        definitions = dg.Definitions(assets=self.assets())
        result = dg.evaluate_automation_conditions(definitions, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        asked: Asked = set()
        for evaluation in result.results:
            subset, name = evaluation.true_subset, evaluation.key.path[-1]
            if not subset.is_empty and subset.is_partitioned:
                asked |= {(name, str(key)) for key in subset.expensively_compute_partition_keys()}
            elif not subset.is_empty:
                asked.add((name, None))
        return asked

    def run(self, asset: str, partition: str | None = None) -> bool:
        result = dg.materialize(
            self.assets(),
            selection=[asset],
            partition_key=partition,
            instance=self.instance,
            raise_on_error=False,
        )
        return result.success

    def live(self, ticks: int = 8) -> list[Asked]:
        """Some ticks, all that is requested run after each; the requests of those that had any."""
        history = []
        for _ in range(ticks):
            asked = self.tick()
            for asset, partition in sorted(asked, key=str):
                self.run(asset, partition)
            history += [asked] if asked else []
        return history


class World(Daemon):
    """spec (external) → trained (refreshed) → table (cheap), all partitioned by letter."""

    def __init__(self) -> None:
        super().__init__()
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

        @dg.asset(
            partitions_def=LETTERS, deps=[trained], code_version=self.code, automation_condition=cheap()
        )
        def table(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            return dg.MaterializeResult(data_version=dg.DataVersion(context.run.run_id))

        return [spec, trained, table]


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


def test_a_change_that_lands_between_a_request_and_the_next_tick_is_not_lost(world: World) -> None:
    world.observe("a", "2")
    assert world.tick() == {("trained", "a")}
    world.run("trained", "a")
    world.observe("a", "3")
    assert world.tick() == {("trained", "a")}
    world.run("trained", "a")
    assert world.live() == [{("table", "a")}]


def test_new_code_runs_what_is_upstream_first(world: World) -> None:
    world.code = "2"
    assert world.live() == [{("trained", "a"), ("trained", "b")}, {("table", "a"), ("table", "b")}]


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


class Study(Daemon):
    """spec → checkpoint (refreshed) → read (following) → drawn (following, a grid) → table (cheap)."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[str] = set()

    def assets(self) -> list[Any]:
        spec = dg.AssetSpec("spec", partitions_def=LETTERS)

        def asset(
            name: str, condition: dg.AutomationCondition, deps: list[str], partitions: Any = LETTERS
        ) -> Any:
            @dg.asset(
                name=name,
                partitions_def=partitions,
                deps=deps,
                code_version="1",
                automation_condition=condition,
            )
            def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
                if name in self.broken:
                    raise RuntimeError("out of memory")
                return dg.MaterializeResult(data_version=dg.DataVersion(context.run.run_id))

            return made

        return [
            spec,
            asset("checkpoint", refreshed(), ["spec"]),
            asset("read", following(), ["checkpoint"]),
            asset("drawn", following(), ["checkpoint", "read"], GRID),
            asset("table", cheap(), ["read", "drawn"]),
        ]


@pytest.fixture
def study() -> Study:
    fresh = Study()
    for letter in ("a", "b"):
        fresh.observe(letter, "1")
    return fresh


def test_nothing_follows_a_grid_that_was_never_trained(study: Study) -> None:
    assert study.live() == []


@pytest.mark.parametrize("ticks_before", [0, 1, 3])
def test_the_first_training_of_one_adapter_is_followed_and_no_other_is_touched(
    study: Study, ticks_before: int
) -> None:
    assert study.live(ticks_before) == []
    study.run("checkpoint", "a")
    assert study.live() == [{("read", "a")}, {("drawn", "a|0"), ("drawn", "a|1")}, {("table", "a")}]
    study.run("checkpoint", "b")
    assert study.live() == [{("read", "b")}, {("drawn", "b|0"), ("drawn", "b|1")}, {("table", "b")}]


def test_a_refreshed_adapter_is_followed_again(study: Study) -> None:
    study.run("checkpoint", "a")
    study.live()
    study.observe("a", "2")
    assert study.live()[0] == {("checkpoint", "a")}
    study.run("checkpoint", "a")  # by the schedule
    assert study.live() == [{("read", "a")}, {("drawn", "a|0"), ("drawn", "a|1")}, {("table", "a")}]


def test_what_costs_gpu_time_is_not_tried_again_by_itself(study: Study) -> None:
    study.broken = {"read"}
    study.run("checkpoint", "a")
    assert study.live() == [{("read", "a")}]
    study.run("checkpoint", "a")  # a change: asked once more, though it was never made
    assert study.live() == [{("read", "a")}]


def test_nothing_is_made_from_what_could_not_be_made_anew(study: Study) -> None:
    study.run("checkpoint", "a")
    study.live()
    study.broken = {"drawn"}
    study.run("read", "a")  # other distributions: `drawn` fails, `table` waits for it
    assert [name for asked in study.live() for name, _ in asked] == ["drawn", "drawn"]
    study.broken = set()
    study.run("drawn", "a|0")
    assert study.live() == []
    study.run("drawn", "a|1")
    assert study.live() == [{("table", "a")}]


class Flaky(Daemon):
    """spec (external) → table (cheap), which fails; each run may be watched by a tick in its middle."""

    def __init__(self, partitions: dg.PartitionsDefinition[str] | None, *, watched: bool) -> None:
        super().__init__()
        self.partitions, self.watched, self.broken = partitions, watched, True

    def assets(self) -> list[Any]:
        spec = dg.AssetSpec("spec", partitions_def=self.partitions)

        @dg.asset(partitions_def=self.partitions, deps=[spec], code_version="1", automation_condition=cheap())
        def table() -> dg.MaterializeResult:
            if self.watched:
                assert self.tick() == set()
            if self.broken:
                raise RuntimeError("disk full")
            return dg.MaterializeResult(data_version=dg.DataVersion("1"))

        return [spec, table]


@pytest.fixture(params=["whole", "partitioned"])
def partition(request: pytest.FixtureRequest) -> str | None:
    return "a" if request.param == "partitioned" else None


@pytest.fixture(params=["quick runs", "slow runs"])
def flaky(request: pytest.FixtureRequest, partition: str | None) -> Flaky:
    fresh = Flaky(LETTERS if partition else None, watched=request.param == "slow runs")
    fresh.observe(partition, "1")
    return fresh


def test_a_cheap_table_that_fails_is_tried_once_more_and_then_no_more(
    flaky: Flaky, partition: str | None
) -> None:
    assert flaky.live(12) == [{("table", partition)}, {("table", partition)}]


def test_a_change_gives_what_failed_twice_another_run_and_another_retry(
    flaky: Flaky, partition: str | None
) -> None:
    flaky.live()
    flaky.observe(partition, "2")
    assert flaky.live(12) == [{("table", partition)}, {("table", partition)}]


def test_a_failure_that_passes_is_over_after_the_retry(flaky: Flaky, partition: str | None) -> None:
    assert flaky.live(1) == [{("table", partition)}]
    flaky.broken = False
    assert flaky.live() == [{("table", partition)}]
    flaky.broken = True
    flaky.observe(partition, "2")
    assert flaky.live(12) == [{("table", partition)}, {("table", partition)}]


def test_what_somebody_made_meanwhile_is_not_tried_again(flaky: Flaky, partition: str | None) -> None:
    assert flaky.live(1) == [{("table", partition)}]
    flaky.broken = flaky.watched = False
    flaky.run("table", partition)
    assert flaky.live() == []


def test_what_needs_base_models_is_automatic_where_they_run_on_a_cpu(project_folder: Path) -> None:
    study = Project(project_folder).study("small")
    on_gpu = study.model_copy(update={"compute": study.compute.model_copy(update={"device": "cuda"})})
    assert cheap_on_cpu(study) == cheap() != refreshed()
    assert cheap_on_cpu(on_gpu) == refreshed()


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
