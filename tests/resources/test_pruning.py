"""Pruning: what is current, or what a stored table was made from, is never removed; nor half of anything."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from evsim_assets.prune_command import prune, readable
from evsim_assets.running.graph import Graph
from evsim_assets.running.pruning import Found, Limits, found_in, needed_versions
from evsim_assets.running.session import only_one_run, open_instance
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project
from evsim_resources.lake import Lake
from evsim_resources.pruning import leftovers, remove_leftover, remove_version, stored_versions
from evsim_resources.records import DATA_VERSION, INPUT_EVENT, INPUT_VERSION, Records
from evsim_resources.versions import VersionedStore
from evsim_resources.work import work_folder
from tests.chain.command_line import evsim_in

ROOT = Path(__file__).resolve().parents[2]
ADAPTER = {"adapter": "s~qlora"}


def checkpoint(lake: Lake, number: int, key: tuple[str, ...] = ("small", "adapter_checkpoint")) -> str:
    """A version whose weights are 1,000 bytes; its id."""

    def fill(folder: Path) -> dict[str, int]:
        (folder / "weights").write_bytes(bytes([number]) * 1000)
        return {"number": number}

    return VersionedStore(lake, key, ADAPTER).write(fill).id


# --- files ---------------------------------------------------------------------------------------


def test_versions_are_listed_with_their_sizes_and_all_but_the_current_one_can_go(any_lake: Lake) -> None:
    first, second, third = (checkpoint(any_lake, number) for number in (1, 2, 3))
    listed = {version.id: version for version in stored_versions(any_lake)}
    assert set(listed) == {first, second, third} and [v.id for v in listed.values() if v.current] == [third]
    of_first = listed[first]
    assert (of_first.asset, of_first.partition) == (("small", "adapter_checkpoint"), "s~qlora")
    manifest = any_lake.folder(["small", "adapter_checkpoint"], ADAPTER) / first / "manifest.json"
    assert of_first.bytes == 1000 + manifest.stat().st_size
    assert remove_version(any_lake, of_first) and not remove_version(any_lake, of_first)
    assert not remove_version(any_lake, listed[third])
    assert {version.id for version in stored_versions(any_lake)} == {second, third}
    assert VersionedStore(any_lake, ["small", "adapter_checkpoint"], ADAPTER).resolve().id == third


def test_a_version_that_has_become_current_again_is_spared(any_lake: Lake) -> None:
    first = checkpoint(any_lake, 1)
    checkpoint(any_lake, 2)
    (old,) = [version for version in stored_versions(any_lake) if not version.current]
    assert checkpoint(any_lake, 1) == first == old.id
    assert not remove_version(any_lake, old)
    assert VersionedStore(any_lake, ["small", "adapter_checkpoint"], ADAPTER).resolve().id == first


# Stands still in the middle of removing a version, with one of its files gone, until it is killed.
HANGING = """
import shutil, sys, time
from evsim_resources import pruning
from evsim_resources.lake import Lake

def hang(folder):
    (folder / "weights").unlink()
    print("removing", flush=True)
    time.sleep(600)

shutil.rmtree = hang
lake = Lake(root=sys.argv[1])
pruning.remove_version(lake, pruning.stored_versions(lake)[0])
"""


def test_a_prune_that_is_killed_leaves_no_half_version_and_the_next_one_ends_it(lake: Lake) -> None:
    first, second = checkpoint(lake, 1), checkpoint(lake, 2)
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, lake.root], cwd=ROOT, text=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "removing\n"
        assert leftovers(lake, 30) == []  # it is at work
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [version.id for version in stored_versions(lake)] == [second]
    assert VersionedStore(lake, ["small", "adapter_checkpoint"], ADAPTER).resolve().id == second
    (rest,) = leftovers(lake, 30)
    assert rest.path.name.startswith(".writing-") and rest.path.name.endswith(first)
    assert remove_leftover(rest) and leftovers(lake, 30) == []
    store = rest.path.parent
    assert sorted(path.name for path in store.iterdir()) == sorted([second, "current"])


def test_work_goes_when_it_lies_idle_and_nobody_holds_it(lake: Lake) -> None:
    with work_folder(lake, ["small", "adapter_checkpoint"], ADAPTER) as held:
        (held / "step").write_bytes(bytes(500))
    with work_folder(lake, ["small", "adapter_checkpoint"], {"adapter": "s~lora"}) as other:
        (other / "step").write_bytes(bytes(70))
    long_ago = time.time() - 10 * 24 * 3600
    for path in (held, held / "step", held.with_name("adapter=s~qlora.lock")):
        os.utime(path, (long_ago, long_ago))
    assert [left.path for left in leftovers(lake, 9)] == [held] and leftovers(lake, 11) == []
    (idle,) = leftovers(lake, 9)
    assert idle.bytes == 500
    with work_folder(lake, ["small", "adapter_checkpoint"], ADAPTER):
        assert not remove_leftover(idle)
    assert (held / "step").exists()
    assert remove_leftover(idle)
    assert sorted(path.name for path in held.parent.iterdir()) == ["adapter=s~lora", "adapter=s~lora.lock"]


# --- lineage -------------------------------------------------------------------------------------


def test_a_version_is_needed_until_the_last_table_above_was_made_from_another() -> None:
    both = dg.StaticPartitionsDefinition(["a", "b"])
    now = {"a": "a1", "b": "b1"}

    def version(key: str) -> dg.DataVersion:
        return dg.DataVersion(key)

    @dg.asset(partitions_def=both)
    def checkpoints(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=version(now[context.partition_key]))

    @dg.asset(partitions_def=both, deps=[checkpoints])
    def answers(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=version(f"from-{now[context.partition_key]}"))

    @dg.asset(deps=[answers])
    def metrics() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=version("-".join(now.values())))

    assets = [checkpoints, answers, metrics]
    with dg.DagsterInstance.ephemeral() as instance:

        def make(asset: dg.AssetsDefinition, partition: str | None = None) -> None:
            assert dg.materialize(
                assets, instance=instance, selection=[asset], partition_key=partition
            ).success

        def needed() -> list[str]:
            found = needed_versions(Graph(assets, instance), Records(instance))
            return sorted(v for asset, _, v in found if asset == ("checkpoints",))

        assert needed() == []
        for partition in "ab":
            make(checkpoints, partition)
            make(answers, partition)
        make(metrics)
        assert needed() == ["a1", "b1"]
        now["a"] = "a2"
        make(checkpoints, "a")
        assert needed() == ["a1", "b1"]  # nothing is made from a2
        make(answers, "a")
        assert needed() == ["a1", "a2", "b1"]  # metrics still come from a1
        make(metrics)
        assert needed() == ["a2", "b1"]


# --- a project -----------------------------------------------------------------------------------


@pytest.fixture
def project(project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("DAGSTER_HOME", "")  # restored at the end
    return Project(project_folder)


@pytest.fixture
def instance(project: Project) -> Iterator[dg.DagsterInstance]:
    with open_instance(project) as opened:
        yield opened


def report(
    instance: dg.DagsterInstance, asset: str, version: str, above: tuple[str, str, int] | None = None
) -> int:
    """Record a partition of the small study as made, `above`: from that asset's version, at that place in
    history; where history has gone to."""
    tags = {DATA_VERSION: version}
    if above:
        name, made_from, read_until = above
        tags |= {f"{INPUT_VERSION}small/{name}": made_from, f"{INPUT_EVENT}small/{name}": str(read_until)}
    key = dg.AssetKey(["small", asset])
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="s~qlora", tags=tags))
    latest = Records(instance).latest(key, "s~qlora")
    assert latest is not None
    return latest.storage_id


def decided(found: list[Found]) -> dict[str, str | None]:
    """Of each superseded version the beginning of why it stays; None where it goes."""
    return {one.where.split()[-1]: one.kept and one.kept[:20] for one in found}


def test_of_a_project_goes_what_is_superseded_and_neither_kept_nor_needed(
    project: Project, instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = Lake(root=project.lake)
    versions = []
    for number in range(1, 6):  # answers were read from the third of five
        versions.append(checkpoint(lake, number))
        at = report(instance, "adapter_checkpoint", versions[-1])
        if number == 3:
            report(instance, "answer_distributions", "x", ("adapter_checkpoint", versions[-1], at))
    raw = [checkpoint(lake, number, ("ev_shift", "raw_wave")) for number in (1, 2)]
    other = [checkpoint(lake, number, ("gone", "adapter_checkpoint")) for number in (1, 2)]
    for n, version in enumerate(versions):
        folder = lake.folder(["small", "adapter_checkpoint"], ADAPTER) / version
        for path in Path(str(folder)).iterdir():
            os.utime(path, (1e9 + n, 1e9 + n))  # written one after the other
    one, two, three, four, _ = versions
    assert decided(found_in(project, instance, Limits(keep=0))) == {
        one: None, two: None, three: "a stored table was m", four: None, other[0]: "no study that can be"
    }  # fmt: skip
    assert decided(found_in(project, instance, Limits(keep=1)))[four] == "the newest one (--ke"
    assert decided(found_in(project, instance, Limits(keep=3)))[two] == "one of the newest 3 "
    young = found_in(project, instance, Limits(keep=0, older_than=1e5))
    assert {one.kept and one.kept.endswith("days old (--older-than)") for one in young} == {True}
    all_of_them = decided(found_in(project, instance, Limits(keep=0, even_needed=True)))
    assert set(all_of_them.values()) == {None}

    prune(project, Limits(keep=0), dry_run=True)
    assert len(stored_versions(lake)) == 9
    assert (
        f"would remove superseded version small/adapter_checkpoint [s~qlora] {one}" in capsys.readouterr().out
    )
    prune(project, Limits(keep=0), dry_run=False)
    left = {version.id for version in stored_versions(lake) if version.asset[0] == "small"}
    assert left == {three, versions[4]}
    assert {v.id for v in stored_versions(lake)} - left == {*raw, *other}
    manifest = lake.folder(["gone", "adapter_checkpoint"], ADAPTER) / other[0] / "manifest.json"
    size = 3 * (1000 + manifest.stat().st_size)
    assert f"3 removed, {readable(size)}; 2 kept" in capsys.readouterr().out


def test_versions_of_a_study_that_cannot_be_read_stay(project: Project, instance: dg.DagsterInstance) -> None:
    lake = Lake(root=project.lake)
    first, _ = checkpoint(lake, 1), checkpoint(lake, 2)
    assert decided(found_in(project, instance, Limits(keep=0))) == {first: None}
    study = project.root / "data" / "studies" / "small.yaml"
    study.write_text(study.read_text() + "\nnonsense: 1\n")
    assert decided(found_in(project, instance, Limits(keep=0))) == {first: "no study that can be"}


def test_nothing_is_removed_while_a_run_is_going(project: Project, instance: dg.DagsterInstance) -> None:
    lake = Lake(root=project.lake)
    checkpoint(lake, 1), checkpoint(lake, 2)
    with only_one_run(project), pytest.raises(BadInput, match="another `evsim run` is at work"):
        prune(project, Limits(keep=0), dry_run=False)

    @dg.job
    def work() -> None: ...

    run = instance.create_run_for_job(work, status=dg.DagsterRunStatus.STARTED)
    with pytest.raises(BadInput, match="1 run is going") as caught:
        prune(project, Limits(keep=0), dry_run=False)
    assert run.run_id in str(caught.value) and len(stored_versions(lake)) == 2
    instance.report_run_failed(run)
    prune(project, Limits(keep=0), dry_run=False)
    assert len(stored_versions(lake)) == 1


def test_old_logs_and_failed_runs_go_and_what_dagster_knows_of_assets_stays(
    project: Project, instance: dg.DagsterInstance
) -> None:
    @dg.asset
    def made() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("1"))

    @dg.asset(check_specs=[dg.AssetCheckSpec("right", asset="checked")])
    def checked() -> Iterator[dg.AssetCheckResult]:
        yield dg.AssetCheckResult(passed=False)
        raise dg.Failure("off")

    @dg.asset
    def broken() -> None:
        raise dg.Failure("off")

    runs = {
        name: dg.materialize([asset], instance=instance, raise_on_error=False).run_id
        for name, asset in (("made", made), ("checked", checked), ("broken", broken))
    }
    for run in runs.values():
        logs = project.dagster_home / "storage" / run / "compute_logs"
        logs.mkdir(parents=True, exist_ok=True)
        (logs / "x.err").write_bytes(bytes(300))
    assert found_in(project, instance, Limits()) == found_in(project, instance, Limits(history=1)) == []
    found = found_in(project, instance, Limits(history=0))
    assert sorted((one.what, one.where.strip()) for one in found) == sorted(
        [*(("compute logs", run) for run in runs.values()), ("failed run", runs["broken"])]
    )
    assert {one.bytes >= 300 for one in found if one.what == "compute logs"} == {True}
    assert all(one.remove() for one in found)
    assert {run.run_id for run in instance.get_runs()} == {runs["made"], runs["checked"]}
    latest = Records(instance).latest(dg.AssetKey("made"), None)
    assert latest is not None and latest.data_version == "1"
    assert not list(project.dagster_home.glob("storage/*/compute_logs"))


def test_the_command_line_lists_and_removes(project: Project) -> None:
    lake = Lake(root=project.lake)
    first, second, third = (checkpoint(lake, number) for number in (1, 2, 3))
    said = evsim_in(project.root, "prune")
    assert f"removed superseded version small/adapter_checkpoint [s~qlora] {first}" in said
    assert f"{second}, 1" in said and "the newest one (--keep)" in said
    assert {version.id for version in stored_versions(lake)} == {second, third}
