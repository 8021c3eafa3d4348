"""Tables handed from asset to asset as files: moved into place, given as paths, never half there."""

# Dagster reads the annotations of assets, so they are not postponed here.
import errno
import gc
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evsim_assets.specs.errors import BadInput
from evsim_resources.lake import DIMENSION, Lake, TableFiles, is_local, move_atomically
from evsim_resources.outputs import table_file_output
from evsim_resources.records import Records
from evsim_resources.tables import NewTable, TableIOManager
from evsim_resources.warehouse import Warehouse

KEY = ["study", "prompts"]
WAVES = dg.StaticPartitionsDefinition(["2022", "2021", "early"])


def parquet(path: Path, rows: int, first: int = 0) -> Path:
    pq.write_table(pa.table({"x": pa.array(range(first, first + rows), pa.int64())}), path)
    return path


def prompts_of(rows: int, seen: list[Path]) -> dg.AssetsDefinition:
    """An asset that writes a table to scratch and says where it was."""

    @dg.asset(key=KEY)
    def prompts(lake: dg.ResourceParam[Lake]) -> Iterator[dg.Output[NewTable]]:
        with lake.scratch() as folder:
            seen.append(parquet(folder / "made.parquet", rows))
            yield table_file_output(seen[-1], people=3)
            seen.append(folder)

    return prompts


@dg.asset(key=["study", "read"], ins={"files": dg.AssetIn(key=KEY)})
def read(files: TableFiles) -> pd.DataFrame:
    (path,) = files.paths
    return pd.DataFrame({"path": [str(path)], "rows": [len(pd.read_parquet(path))]})


@dg.asset(key=["study", "loaded"], ins={"table": dg.AssetIn(key=KEY)})
def loaded(table: pd.DataFrame) -> pd.DataFrame:
    return table


def run(lake: Lake, *assets: dg.AssetsDefinition, **options: Any) -> dg.ExecuteInProcessResult:
    resources = {"lake": lake, "io_manager": TableIOManager(lake=lake)}
    return dg.materialize([*assets], resources=resources, raise_on_error=False, **options)


def told(result: dg.ExecuteInProcessResult) -> str:
    """What the one failed step tells the user."""
    (event,) = result.get_step_failure_events()
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)


def scratch_folders(lake: Lake) -> set[str]:
    base = Path(lake.root) / ".scratch" if is_local(lake.path) else Path(tempfile.gettempdir())
    return {p.name for p in base.iterdir() if p.is_dir() and (is_local(lake.path) or "scratch-" in p.name)}


def test_a_file_yielded_in_scratch_becomes_the_table_and_is_given_on_as_a_path(any_lake: Lake) -> None:
    seen: list[Path] = []
    assert run(any_lake, prompts_of(7, seen), read, loaded).success
    assert any_lake.read_table(["study", "loaded"])["x"].tolist() == list(range(7))
    found = any_lake.read_table(["study", "read"]).iloc[0]
    assert found["rows"] == 7
    made, folder = seen
    assert not made.exists() and not folder.exists()
    if is_local(any_lake.path):
        assert found["path"] == str(any_lake.table_file(KEY))
    assert Path(found["path"]).exists() == is_local(any_lake.path), "what was fetched goes with the run"


def test_a_table_of_a_file_is_recorded_with_its_bytes_hash_its_rows_its_columns_and_its_head(
    lake: Lake,
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(lake, prompts_of(7, []), instance=instance)
        record = Records(instance).latest(dg.AssetKey(KEY), None)
    stored = Path(str(lake.table_file(KEY)))
    assert record is not None and record.data_version == hashlib.sha256(stored.read_bytes()).hexdigest()
    (event,) = result.asset_materializations_for_node("study__prompts")
    assert event.metadata["dagster/row_count"].value == 7 and event.metadata["people"].value == 3
    schema = event.metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    assert [(column.name, column.type) for column in schema.columns] == [("x", "int64")]
    assert str(event.metadata["preview"].value).splitlines() == [
        "| x |",
        "|---|",
        *(f"| {n} |" for n in range(5)),
    ]
    assert event.metadata["path"].value == str(stored)


@pytest.mark.parametrize("groups", [0, 1], ids=["no-row-group", "an-empty-row-group"])
def test_a_table_of_no_rows_is_a_table(tmp_path: Path, groups: int) -> None:
    empty = pa.table({"x": pa.array([], pa.int64()), "y": pa.array([], pa.string())})
    with pq.ParquetWriter(tmp_path / "t.parquet", empty.schema) as writer:
        for _ in range(groups):
            writer.write_table(empty, row_group_size=1)
    output = table_file_output(tmp_path / "t.parquet")
    assert output.metadata["dagster/row_count"].value == 0
    assert output.metadata["preview"].value == "| x | y |\n|---|---|"


def test_whole_numbers_beside_missing_ones_are_shown_whole(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([123456, None])}), tmp_path / "t.parquet")
    preview = str(table_file_output(tmp_path / "t.parquet").metadata["preview"].value)
    assert preview.splitlines()[2:] == ["| 123456 |", "| None |"]


def test_two_tables_of_one_scratch_folder_are_both_stored(lake: Lake) -> None:
    @dg.multi_asset(outs={"good": dg.AssetOut(key=["s", "good"]), "bad": dg.AssetOut(key=["s", "bad"])})
    def both(lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        with lake.scratch() as folder:
            yield table_file_output(parquet(folder / "a", 2), output_name="good")
            yield table_file_output(parquet(folder / "b", 3), output_name="bad")

    assert run(lake, both).success
    assert [len(lake.read_table(["s", name])) for name in ("good", "bad")] == [2, 3]


def test_a_file_returned_from_scratch_is_refused_and_the_old_table_stays(lake: Lake) -> None:
    @dg.asset(key=KEY)
    def prompts(lake: dg.ResourceParam[Lake]) -> dg.Output[NewTable]:
        with lake.scratch() as folder:
            return table_file_output(parquet(folder / "made.parquet", 2))

    assert run(lake, prompts_of(7, [])).success
    sentence = told(run(lake, prompts))
    assert "gone before it could be stored" in sentence and "yield the output within" in sentence
    assert len(lake.read_table(KEY)) == 7 and scratch_folders(lake) == set()


def test_a_disk_that_takes_no_file_fails_the_run_with_evsim_s_own_sentence_and_the_old_table_stays(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(lake, prompts_of(7, [])).success

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("evsim_resources.lake.os.replace", refuse)
    seen: list[Path] = []
    sentence = told(run(lake, prompts_of(2, seen)))
    assert "nothing could be stored (Read-only file system)" in sentence and "Remedy: free space" in sentence
    assert str(lake.table_file(KEY)) in sentence and len(lake.read_table(KEY)) == 7
    gc.collect()  # a step that failed lets go of its asset's generator only then
    assert not seen[0].parent.exists()


def test_partitions_are_given_as_files_in_sorted_order(any_lake: Lake) -> None:
    @dg.asset(key=["s", "wave"], partitions_def=WAVES, metadata={DIMENSION: "wave"})
    def wave(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        with lake.scratch() as folder:
            first = {"2021": 0, "2022": 10, "early": 20}[context.partition_key]
            yield table_file_output(parquet(folder / "data.parquet", 2, first))

    @dg.asset(key=["s", "whole"], ins={"wave": dg.AssetIn(key=["s", "wave"])})
    def whole(wave: TableFiles) -> pd.DataFrame:
        return pd.DataFrame(
            {"first": [pd.read_parquet(path, partitioning=None)["x"][0] for path in wave.paths]}
        )

    with dg.DagsterInstance.ephemeral() as instance:
        for key in ("early", "2022", "2021"):
            assert run(any_lake, wave, partition_key=key, instance=instance).success
        assert run(any_lake, wave, whole, selection=[whole], instance=instance).success
    assert any_lake.read_table(["s", "whole"])["first"].tolist() == [0, 10, 20]


def test_a_table_that_is_not_there_is_refused_with_the_way_to_make_it(any_lake: Lake) -> None:
    result = run(any_lake, prompts_of(1, []), read, selection=[read])
    assert "not been materialized" in told(result) and "evsim run study --only prompts" in told(result)


def test_a_file_that_is_no_parquet_is_refused_as_a_path_too(any_lake: Lake) -> None:
    assert run(any_lake, prompts_of(7, [])).success
    stored = any_lake.table_file(KEY)
    stored.write_bytes(stored.read_bytes()[:-1])
    fetched = None if is_local(any_lake.path) else Path(tempfile.mkdtemp())
    with pytest.raises(BadInput, match="cannot be read") as caught:
        any_lake.table_path(KEY, fetched=fetched)
    assert caught.value.file == str(stored) and "--only prompts --again" in str(caught.value.remedy)
    shutil.rmtree(fetched or any_lake.root)


def test_a_table_from_another_file_system_is_copied_whole_and_its_source_removed(lake: Lake) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("this machine has no second file system to write to")
    lake.write_table(pd.DataFrame({"x": [1]}), KEY)
    with tempfile.TemporaryDirectory(dir=other) as folder:
        made = parquet(Path(folder) / "t", 5)
        move_atomically(made, lake.table_file(KEY))
        assert not made.exists()
    assert len(lake.read_table(KEY)) == 5
    assert [p.name for p in lake.folder(KEY).iterdir()] == ["data.parquet"]


def test_scratch_is_on_the_lake_s_file_system_and_gone_after_it_even_after_an_error(any_lake: Lake) -> None:
    with pytest.raises(KeyboardInterrupt), any_lake.scratch() as folder:
        assert folder.is_dir() and folder.name in scratch_folders(any_lake)
        if is_local(any_lake.path):
            assert folder.parent == Path(any_lake.root) / ".scratch"
        (folder / "deep").mkdir()
        raise KeyboardInterrupt
    assert not folder.exists()


def test_what_is_in_scratch_is_no_table_of_the_warehouse(lake: Lake) -> None:
    lake.write_table(pd.DataFrame({"x": [1]}), ["study", "metrics"])
    with lake.scratch() as folder:
        parquet(folder / "data.parquet", 2)
        assert list(Warehouse(lake=lake).tables()) == ["study.metrics"]
