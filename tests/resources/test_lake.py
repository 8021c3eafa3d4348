"""Tables in the lake: whole or not at all, and named by what they hold."""

import errno
import os
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from upath import UPath

from evsim_assets.specs.errors import BadInput
from evsim_resources.lake import (
    DIMENSION,
    Lake,
    content_hash,
    partition_folders,
    run_again,
    write_atomically,
)
from evsim_resources.tables import TableIOManager

TABLE = pd.DataFrame(
    {
        "name": ["a", "b", None],
        "count": [1, 2, 3],
        "share": [0.5, np.nan, 1.5],
        "masses": [[0.5, 0.5], [], [1.0]],
        "answer": pd.array([1, None, 3], dtype="Int64"),
    }
)


def test_a_table_comes_back_as_it_was(any_lake: Lake) -> None:
    partition = {"temperature": "0.0", "adapter": "s~qlora"}
    path = any_lake.write_table(TABLE, ["study", "metrics"], partition)
    assert str(path).endswith("study/metrics/adapter=s~qlora/temperature=0.0/data.parquet")
    back = any_lake.read_table(["study", "metrics"], partition)
    assert back["name"].tolist()[:2] == ["a", "b"] and pd.isna(back["name"][2])
    assert back["count"].tolist() == [1, 2, 3]
    assert [list(masses) for masses in back["masses"]] == [[0.5, 0.5], [], [1.0]]
    assert back["answer"].isna().tolist() == [False, True, False]
    any_lake.write_table(TABLE.head(1), ["study", "metrics"], partition)
    assert len(any_lake.read_table(["study", "metrics"], partition)) == 1


def test_a_table_that_is_not_there_is_refused_with_the_way_to_make_it(any_lake: Lake) -> None:
    with pytest.raises(BadInput, match="not been materialized") as caught:
        any_lake.read_table(["study", "metrics"], {"adapter": "s~qlora"})
    assert "study/metrics" in str(caught.value.file)
    assert "evsim run study --only metrics --partition s~qlora" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("key", "partition", "command"),
    [
        (["study", "report"], None, "evsim run study --only report --again"),
        (
            ["study", "generations"],
            {"temperature": "0.0", "adapter": "s~lora"},
            "evsim run study --only generations --partition 's~lora|0.0' --again",
        ),
        (
            ["survey", "clean_wave"],
            {"wave": "2021"},
            "evsim run STUDY --only clean_wave --partition 2021 --again",
        ),
    ],
    ids=["unpartitioned", "two-dimensions", "of-a-survey"],
)
def test_the_command_that_makes_a_table_anew_can_be_pasted(
    key: list[str], partition: dict[str, str] | None, command: str
) -> None:
    assert run_again(key, partition) == command


@pytest.mark.parametrize("full", [False, True], ids=["nothing-to-read", "nowhere-to-write"])
def test_a_run_that_cannot_read_or_store_a_table_ends_with_evsim_s_own_sentence(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    @dg.asset(key=["study", "prompts"])
    def prompts() -> pd.DataFrame:
        return TABLE

    @dg.asset(key=["study", "lengths"], ins={"prompts": dg.AssetIn(key=["study", "prompts"])})
    def lengths(prompts: pd.DataFrame) -> pd.DataFrame:
        return prompts

    if full:
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "disk full")))
    result = dg.materialize(
        [prompts, lengths],
        selection=[prompts if full else lengths],
        resources={"io_manager": TableIOManager(lake=lake)},
        raise_on_error=False,
    )
    (event,) = result.get_step_failure_events()
    told = event.step_failure_data.user_failure_data
    assert told is not None and "Remedy:" in str(told.description)
    assert ("disk full" if full else "evsim run study --only prompts") in str(told.description)


def test_a_flipped_byte_in_a_table_s_values_is_found(lake: Lake) -> None:
    numbers = pd.DataFrame({"x": np.random.default_rng(0).random(500)})
    path = Path(str(lake.write_table(numbers, ["study", "metrics"])))
    whole = path.read_bytes()
    for position in range(40, len(whole) // 2, 97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(BadInput, match="cannot be read") as caught:
            lake.read_table(["study", "metrics"])
        assert caught.value.file == str(path) and "--again" in str(caught.value.remedy)


def test_a_file_cut_short_is_found(lake: Lake) -> None:
    path = Path(str(lake.write_table(TABLE, ["study", "metrics"])))
    for kept in (0, 10, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(BadInput, match="cannot be read"):
            lake.read_table(["study", "metrics"])


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder" / "file"
    write_atomically(UPath(target), b"old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evsim_resources.lake.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(UPath(target), b"new")
    assert target.read_bytes() == b"old" and list(target.parent.iterdir()) == [target]


def test_equal_tables_have_equal_hashes_whatever_their_index() -> None:
    other = TABLE.copy()
    other.index = pd.Index([7, 8, 9])
    assert content_hash(other) == content_hash(TABLE)
    assert content_hash(pd.concat([TABLE, TABLE]).iloc[3:]) == content_hash(TABLE)


def test_what_stands_in_a_missing_cell_does_not_count() -> None:
    hidden = [pd.arrays.IntegerArray(np.array([1, v]), np.array([False, True])) for v in (5, 7)]
    assert content_hash(pd.DataFrame({"x": hidden[0]})) == content_hash(pd.DataFrame({"x": hidden[1]}))


@pytest.mark.parametrize(
    "other",
    [
        TABLE.assign(count=[1, 2, 4]),
        TABLE.assign(count=[1.0, 2.0, 3.0]),
        TABLE.rename(columns={"count": "n"}),
        TABLE.assign(name=["a", None, "b"]),
        TABLE.assign(name=["a", "b", ""]),
        TABLE.head(2),
        TABLE.assign(masses=[[0.5], [0.5], [1.0]]),
        TABLE[TABLE.columns[::-1]],
        TABLE.iloc[::-1],
    ],
    ids=["value", "type", "name", "missing cell", "empty text", "rows", "lists", "columns", "order"],
)
def test_another_table_has_another_hash(other: pd.DataFrame) -> None:
    assert content_hash(other) != content_hash(TABLE)


def test_partitions_become_folders_by_dimension() -> None:
    assert partition_folders("s~qlora", {DIMENSION: "adapter"}) == {"adapter": "s~qlora"}
    both = dg.MultiPartitionKey({"temperature": "0.5", "adapter": "s~qlora"})
    assert partition_folders(both, None) == {"adapter": "s~qlora", "temperature": "0.5"}


def test_an_asset_of_all_partitions_gets_them_as_one_table_in_sorted_order(lake: Lake) -> None:
    parts = dg.StaticPartitionsDefinition(["b", "a"])

    @dg.asset(key=["study", "part"], partitions_def=parts, metadata={DIMENSION: "adapter"})
    def part(context: dg.AssetExecutionContext) -> pd.DataFrame:
        return pd.DataFrame({"adapter": [context.partition_key]})

    @dg.asset(key=["study", "whole"], ins={"part": dg.AssetIn(key=["study", "part"])})
    def whole(part: pd.DataFrame) -> pd.DataFrame:
        return part

    resources = {"io_manager": TableIOManager(lake=lake)}
    with dg.DagsterInstance.ephemeral() as instance:
        for key in ("b", "a"):
            dg.materialize([part], partition_key=key, resources=resources, instance=instance)
        assert dg.materialize(
            [part, whole], selection=[whole], resources=resources, instance=instance
        ).success
    assert lake.table_file(["study", "part"], {"adapter": "a"}).exists()
    assert lake.read_table(["study", "whole"])["adapter"].tolist() == ["a", "b"]
