"""What is out of date, judged on real Dagster instances with small graphs of tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from evsim_assets.running.graph import Graph
from evsim_assets.running.staleness import Staleness
from evsim_resources.records import Records, observed

LETTERS = dg.StaticPartitionsDefinition(["a", "b"])
NUMBERS = dg.StaticPartitionsDefinition(["0.0", "1.0"])
GRID = dg.MultiPartitionsDefinition({"letter": LETTERS, "number": NUMBERS})


def made(version: str) -> dg.MaterializeResult:
    return dg.MaterializeResult(data_version=dg.DataVersion(version))


class World:
    """spec (external, a|b) → part[a|b] → cell[a|b × 0|1] → whole; `versions` says what each makes."""

    def __init__(self) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.versions: dict[str, str] = {}
        self.gone: set[tuple[str, str | None]] = set()
        self.code = {"part": "1", "cell": "1", "whole": "1"}

    def assets(self) -> list[Any]:
        spec = dg.AssetSpec("spec", partitions_def=LETTERS)
        version = self.versions.get

        @dg.asset(partitions_def=LETTERS, deps=[spec], code_version=self.code["part"])
        def part(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            return made(version(f"part {context.partition_key}", "1"))

        @dg.asset(partitions_def=GRID, deps=[part], code_version=self.code["cell"])
        def cell() -> dg.MaterializeResult:
            return made("1")

        @dg.asset(deps=[cell, part], code_version=self.code["whole"])
        def whole() -> dg.MaterializeResult:
            return made("1")

        return [spec, part, cell, whole]

    def observe(self, letter: str, version: str) -> None:
        self.instance.report_runless_asset_event(observed(dg.AssetKey("spec"), letter, version, {}))

    def reasons(self) -> dict[str, str]:
        graph = Graph(self.assets(), self.instance)
        judge = Staleness(
            graph, Records(self.instance), lambda key, partition: (key.path[-1], partition) not in self.gone
        )
        return {node.label: reason for node in graph.nodes if (reason := judge.reason(node))}

    def run(self, asset: str, partition: str | None = None) -> None:
        result = dg.materialize(
            self.assets(), selection=[asset], partition_key=partition, instance=self.instance
        )
        assert result.success

    def run_all(self) -> None:
        graph = Graph(self.assets(), self.instance)
        for node in graph.nodes:
            self.run(node.name, node.partition)


@pytest.fixture
def world() -> World:
    fresh = World()
    fresh.observe("a", "1")
    fresh.observe("b", "1")
    fresh.run_all()
    assert fresh.reasons() == {}
    return fresh


def test_a_graph_that_never_ran_is_missing_everywhere_in_topological_order() -> None:
    reasons = World().reasons()
    assert list(reasons) == [
        "part [a]",
        "part [b]",
        "cell [a|0.0]",
        "cell [a|1.0]",
        "cell [b|0.0]",
        "cell [b|1.0]",
        "whole",
    ]
    assert set(reasons.values()) == {"missing"}


def test_an_edited_spec_makes_its_partition_stale_and_no_other(world: World) -> None:
    world.observe("a", "2")
    assert world.reasons() == {"part [a]": "spec changed"}


def test_the_same_content_made_again_stops_the_change_there(world: World) -> None:
    world.observe("a", "2")
    world.run("part", "a")  # its data version is what it was
    assert world.reasons() == {}


def test_other_content_goes_on_to_what_is_made_from_it(world: World) -> None:
    world.versions["part a"] = "2"
    world.run("part", "a")
    assert world.reasons() == {
        "cell [a|0.0]": "part changed",
        "cell [a|1.0]": "part changed",
        "whole": "part changed",
    }


def test_new_code_makes_every_partition_of_that_asset_stale(world: World) -> None:
    world.code["cell"] = "2"
    expected = "its code or configuration changed"
    assert world.reasons() == {
        f"cell [{partition}]": expected for partition in ("a|0.0", "a|1.0", "b|0.0", "b|1.0")
    }


def test_a_stored_file_that_has_gone_is_made_again(world: World) -> None:
    world.gone.add(("part", "b"))
    assert world.reasons() == {"part [b]": "its stored file is gone"}


def test_a_failed_run_leaves_the_record_of_the_last_good_one(world: World) -> None:
    spec = dg.AssetSpec("spec", partitions_def=LETTERS)

    @dg.asset(partitions_def=LETTERS, deps=[spec], code_version="1")
    def part() -> None:
        raise RuntimeError("disk full")

    world.observe("a", "2")
    dg.materialize(
        [spec, part], selection=["part"], partition_key="a", instance=world.instance, raise_on_error=False
    )
    assert world.reasons() == {"part [a]": "spec changed"}


@pytest.mark.parametrize(
    ("asset", "partition", "expected"),
    [
        ("cell", "a|0.0", {"part": ["a"]}),
        ("whole", None, {"cell": ["a|0.0", "a|1.0", "b|0.0", "b|1.0"], "part": ["a", "b"]}),
        ("part", "b", {"spec": ["b"]}),
    ],
)
def test_a_node_reads_the_upstream_partitions_that_dagster_loads(
    asset: str, partition: str | None, expected: dict[str, list[str]]
) -> None:
    world = World()
    graph = Graph(world.assets(), world.instance)
    node = next(n for n in graph.nodes if n.name == asset and n.partition == partition)
    found = {key.path[-1]: partitions for key, partitions in graph.dependencies(node).items()}
    assert found == expected


class Hundred:
    """wave (external, dynamic, 100 of them and more) → whole."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.waves = dg.DynamicPartitionsDefinition(name="wave")
        wave = dg.AssetSpec("wave", partitions_def=self.waves)

        @dg.asset(deps=[wave], code_version="1")
        def whole() -> dg.MaterializeResult:
            return made("1")

        self.assets = [wave, whole]

    def observe(self, wave: int, version: str) -> None:
        self.instance.add_dynamic_partitions("wave", [f"w{wave:03}"])
        self.instance.report_runless_asset_event(observed(dg.AssetKey("wave"), f"w{wave:03}", version, {}))

    def run(self) -> None:
        assert dg.materialize(self.assets, selection=["whole"], instance=self.instance).success

    def reason(self) -> str | None:
        graph = Graph(self.assets, self.instance)
        (whole,) = graph.nodes
        return Staleness(graph, Records(self.instance), lambda *_: True).reason(whole)


@pytest.fixture(params=["in memory", "on disk"])
def hundred(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hundred]:
    on_disk = request.param == "on disk"
    with dg.DagsterInstance.local_temp(str(tmp_path)) if on_disk else dg.DagsterInstance.ephemeral() as home:
        graph = Hundred(home)
        for wave in range(100):
            graph.observe(wave, f"{wave}")
        graph.run()
        assert graph.reason() is None
        yield graph


def test_a_change_of_any_of_a_hundred_waves_is_seen(hundred: Hundred) -> None:
    hundred.observe(17, "corrected")
    hundred.observe(99, "99")  # later than the change, and none itself
    assert hundred.reason() == "wave changed"
    hundred.run()
    assert hundred.reason() is None


def test_a_wave_after_the_hundredth_is_seen(hundred: Hundred) -> None:
    hundred.observe(100, "new")
    assert hundred.reason() == "wave changed"
    hundred.run()
    assert hundred.reason() is None


def test_one_of_a_hundred_waves_made_again_with_the_same_content_is_no_change(hundred: Hundred) -> None:
    hundred.observe(17, "17")
    assert hundred.reason() is None


def test_a_wave_changed_and_changed_back_is_no_change(hundred: Hundred) -> None:
    hundred.observe(17, "corrected")
    hundred.observe(17, "17")
    assert hundred.reason() is None


def test_the_hundredth_wave_is_seen_and_so_is_its_leaving() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Hundred(instance)
        for wave in range(99):
            graph.observe(wave, f"{wave}")
        graph.run()
        graph.observe(99, "99")
        assert graph.reason() == "wave changed"
        graph.run()
        assert graph.reason() is None
        instance.delete_dynamic_partition("wave", "w050")
        assert graph.reason() == "wave changed"
