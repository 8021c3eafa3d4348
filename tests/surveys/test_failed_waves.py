"""A wave that cannot be read: it fails where everybody sees it, and holds nothing else up."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from evsim_assets.running.worker import _failure
from tests.automation.watched import Watched, answers, without_root_rights


def _denied(path: Path) -> None:
    path.write_bytes(answers(1))
    path.chmod(0)


def _mended(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    elif path.is_symlink():
        path.unlink()
    else:
        path.chmod(0o644)
        return
    path.write_bytes(answers(1))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "denied": (_denied, "Permission denied"),
    "a folder": (Path.mkdir, "not a file but a folder"),
    "a dangling link": (lambda path: path.symlink_to("nowhere.csv"), "a link that leads nowhere"),
    "a broken disk": (lambda path: path.symlink_to("/proc/self/mem"), "Input/output error"),
    "a pipe": (os.mkfifo, "no regular file"),
}


@pytest.fixture
def rights(request: pytest.FixtureRequest) -> Iterator[None]:
    as_others: AbstractContextManager[None] = without_root_rights() if os.geteuid() == 0 else nullcontext()
    with as_others:
        yield


@pytest.mark.parametrize("kind", list(BROKEN))
def test_a_file_that_cannot_be_opened_is_a_failed_wave_and_the_others_are_taken(
    tmp_path: Path, kind: str, rights: None
) -> None:
    break_it, reason = BROKEN[kind]
    watched = Watched(tmp_path)
    bad = watched.folder / "a-bad.csv"
    break_it(bad)
    watched.put("w1.csv", answers(1))
    assert watched.looks(3) == [[], ["a-bad", "w1"], []]
    assert watched.waves == ["a-bad", "w1"] and reason in watched.said
    failed = watched.run(["raw_wave"], "a-bad")
    told, trace = _failure(failed)
    assert trace is None and str(bad) in told and reason in told and "Remedy: " in told
    assert watched.run(["raw_wave"], "w1").success
    if kind != "a pipe":
        _mended(bad)
        assert watched.looks(2)[-1] == ["a-bad"]
        assert watched.run(["raw_wave"], "a-bad").success


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give its rights up and have them back")
def test_a_file_that_can_be_read_again_is_taken_though_nothing_about_it_changed(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    _denied(watched.folder / "w1.csv")
    with without_root_rights():
        assert watched.looks(3) == [[], ["w1"], []] and "Permission denied" in watched.said
    assert watched.looks(2) == [["w1"], []]
    assert watched.run(["raw_wave"], "w1").success


def _workbook() -> bytes:
    into = io.BytesIO()
    pd.DataFrame({"person": ["p1"], "area": ["Urban"], "q1": [3]}).to_excel(into, index=False)
    return into.getvalue()


def _zip_of_something_else() -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        archive.writestr("notes.txt", "no workbook")
    return into.getvalue()


@pytest.mark.parametrize(
    "content", [_workbook()[:-200], _zip_of_something_else(), b"PK\x03\x04 broken", b"text\n"]
)
def test_a_workbook_that_is_none_is_a_failed_wave_kept_as_it_came(tmp_path: Path, content: bytes) -> None:
    watched = Watched(tmp_path, "waves: {format: excel}")
    watched.put("good.xlsx", _workbook())
    watched.put("w1.xlsx", content)
    assert watched.looks(2)[1] == ["good", "w1"]
    told, trace = _failure(watched.run(["raw_wave"], "w1"))
    assert trace is None and "w1.xlsx" in told and "Remedy: " in told
    assert watched.run(["raw_wave"], "good").success
    (kept,) = Path(watched.lake.root).rglob("w1.xlsx")
    assert kept.read_bytes() == content


def test_all_else_goes_on_without_a_wave_that_cannot_be_read_and_says_so_until_it_can(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.put("w1.csv", answers(1))
    watched.put("w2.csv", answers(2) + b"one,cell,too,many\n")
    watched.looks(2)
    runs = watched.live(5)
    assert [run.success for run in runs["raw_wave w2"]] == [False, False]  # tried once more
    assert not any("clean_wave" in name and "w2" in name for name in runs)
    made = watched.lake.read_table(["snacks", "responses"])
    assert set(made["wave"]) == {"w1"} and len(made) == 4
    check = _every_wave(runs["responses+superseded"][-1])
    assert not check.passed and check.severity == dg.AssetCheckSeverity.WARN and not check.blocking
    assert str(check.description).startswith("without w2: ")

    watched.put("w2.csv", answers(2))
    watched.looks(2)
    runs = watched.live(3)
    assert set(watched.lake.read_table(["snacks", "responses"])["wave"]) == {"w1", "w2"}
    assert _every_wave(runs["responses+superseded"][-1]).passed


def test_where_the_only_wave_cannot_be_read_nothing_is_made_of_no_wave(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.put("w1.csv", b"\n")
    watched.looks(2)
    assert set(watched.live(4)) == {"raw_wave w1"}


def test_a_wave_delivered_again_broken_leaves_its_answers_and_the_others_as_they_were(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.put("w1.csv", answers(1))
    watched.looks(2)
    watched.live(3)
    watched.put("w1.csv", b"\xff\xfe not text")
    watched.put("w2.csv", answers(2))
    watched.looks(2)
    runs = watched.live(4)
    assert not any(run.success for run in runs["raw_wave w1"])
    made = watched.lake.read_table(["snacks", "responses"])
    assert sorted(made["answer"]) == [1] * 4 + [2] * 4


def test_the_table_of_a_wave_that_is_lost_is_no_wave_that_could_not_be_read(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for name, number in (("w1.csv", 1), ("w2.csv", 2)):
        watched.put(name, answers(number))
    watched.looks(2)
    for wave in ("w1", "w2"):
        assert watched.run(["raw_wave"], wave).success and watched.run(["clean_wave", "quarantine"], wave)
    (Path(watched.lake.root) / "snacks" / "clean_wave" / "wave=w2" / "data.parquet").unlink()
    told, trace = _failure(watched.run(["responses", "superseded"], None))
    assert trace is None and "wave=w2" in told and "materialize" in told


def test_a_file_that_changed_since_it_was_seen_is_not_taken_in_half(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.put("w1.csv", answers(1, people=20))
    watched.looks(2)
    watched.put("w1.csv", answers(2, people=20)[:40])  # being written anew as the run starts
    told, _ = _failure(watched.run(["raw_wave"], "w1"))
    assert "has changed since it was seen" in told
    watched.put("w1.csv", answers(2, people=20))
    assert watched.looks(2) == [[], ["w1"]]
    assert watched.run(["raw_wave"], "w1").success


def _every_wave(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (check,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "every_wave_is_in"]
    return check
