"""What assets say of what they made, what is recorded of it, and how far a long step is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from evsim_assets.specs.survey import Scale
from evsim_resources.lake import content_hash
from evsim_resources.outputs import counts_metadata, markdown, picture, spec_hash, table_output
from evsim_resources.progress import FOLDER, NODE, reporter
from evsim_resources.records import Records, observed

TABLE = pd.DataFrame({"name": ["a|b", "x" * 100], "share": [1 / 3, 2.0]})


def test_a_table_is_put_out_with_its_content_as_its_version_and_a_preview() -> None:
    output = table_output(TABLE, extra=1)
    assert output.data_version is not None and output.data_version.value == content_hash(TABLE)
    assert output.metadata["dagster/row_count"].value == 2 and output.metadata["extra"].value == 1
    columns = output.metadata["dagster/column_schema"].value.columns
    assert [c.name for c in columns] == ["name", "share"]


def test_markdown_is_one_line_a_row_whatever_the_cells_hold() -> None:
    lines = markdown(TABLE).value.splitlines()
    assert lines[:3] == ["| name | share |", "|---|---|", r"| a\|b | 0.3333 |"]
    assert lines[3] == "| " + "x" * 79 + "… | 2 |"
    lists = pd.DataFrame({"p": [[0.01] * 101, [0, 1]]})
    assert markdown(lists).value.splitlines()[2:] == ["| 101 values |", "| [0, 1] |"]


def test_a_picture_is_inline() -> None:
    assert picture(b"png", "a plot").value == "![a plot](data:image/png;base64,cG5n)"


def test_counts_are_whole_numbers_by_name() -> None:
    counts = counts_metadata(pd.Series(["b", "a", "b"]).value_counts().to_dict())
    assert counts == {"b": 2, "a": 1} and all(type(count) is int for count in counts.values())


def test_a_spec_s_hash_changes_with_any_of_its_fields_and_with_nothing_else() -> None:
    scale, wider, more = Scale(low=0, high=100), Scale(low=0, high=101), {"a": 2, "b": 1}
    hashed = spec_hash(scale, more)
    assert hashed == spec_hash(Scale(low=0, high=100), {"b": 1, "a": 2})
    assert len({hashed, spec_hash(wider, more), spec_hash(scale)}) == 3


def test_the_latest_record_of_a_partition_is_read_once_until_forgotten() -> None:
    key = dg.AssetKey(["survey", "wave_file"])
    with dg.DagsterInstance.ephemeral() as instance:
        records = Records(instance)
        assert records.latest(key, "w1") is None
        instance.report_runless_asset_event(observed(key, "w1", "v1", {"bytes": 1}))
        assert records.latest(key, "w1") is None
        records.forget(key, "w1")
        latest = records.latest(key, "w1")
        assert latest is not None and latest.data_version == "v1" and latest.inputs == {}
        instance.report_runless_asset_event(observed(key, "w2", "v2", {}))
        instance.report_runless_asset_event(observed(key, "w1", "v3", {}))
        anew = Records(instance)
        found = [anew.latest(key, wave) for wave in ("w1", "w2", "w3")]
        assert [r.data_version if r else None for r in found] == ["v3", "v2", None]


def test_a_record_holds_the_versions_of_code_and_inputs() -> None:
    @dg.asset(code_version="1")
    def first() -> dg.Output[int]:
        return dg.Output(1, data_version=dg.DataVersion("d1"))

    @dg.asset(code_version="2.x")
    def second(first: int) -> dg.Output[int]:
        return dg.Output(first, data_version=dg.DataVersion("d2"))

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([first, second], instance=instance)
        record = Records(instance).latest(dg.AssetKey("second"), None)
    assert record is not None
    assert (record.data_version, record.code_version) == ("d2", "2.x")
    assert record.inputs == {"first": "d1"}


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, line: str) -> None:
        self.lines.append(line)


def test_progress_is_in_the_process_s_file_and_rarely_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv(NODE, "small/adapter_checkpoint [s~qlora]")
    log = Log()
    report = reporter(log)
    report(0.25, "step 1 of 4")
    assert json.loads((tmp_path / f"{os.getpid()}.json").read_text()) == {
        "node": "small/adapter_checkpoint [s~qlora]",
        "fraction": 0.25,
        "message": "step 1 of 4",
    }
    assert log.lines == []
    monkeypatch.setattr("evsim_resources.progress.LOG_SECONDS", 0)
    report(0.5, "step 2 of 4")
    assert log.lines == ["50% step 2 of 4"]


def test_work_goes_on_when_nobody_can_watch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    report = reporter(Log())
    shutil.rmtree(tmp_path / "run")
    report(0.5, "half")
    assert not (tmp_path / "run").exists()
