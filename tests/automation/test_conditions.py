"""What the conditions ask for, tick by tick, on real instances."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from evsim_assets.automation import cheap, cheap_on_cpu, following, refreshed
from evsim_assets.specs.project import Project
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
