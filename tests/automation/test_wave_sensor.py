"""What the sensor takes from a landing place, look by look: folders, URLs and object stores."""

from __future__ import annotations

import os
import sys
from itertools import chain
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest

from evsim_assets.surveys import observed
from tests.automation.watched import Watched, answers

PLACES = ("folder", "elsewhere", "file URL", "memory")


def watched_at(place: str, root: Path) -> Watched:
    said = {
        "folder": "",
        "elsewhere": "waves: ../uploads",
        "file URL": f"waves: file://{root}/uploads",
        "memory": f"waves: {{location: memory://{uuid4().hex}/incoming, format: csv}}",
    }
    return Watched(root, said[place])


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Watched:
    return watched_at(request.param, tmp_path)


@pytest.fixture
def here(tmp_path: Path) -> Watched:
    return watched_at("folder", tmp_path)


def test_new_changed_and_replaced_files_are_taken_once_each_wherever_they_land(place: Watched) -> None:
    place.put("2024-01.csv")
    assert sorted(chain(*place.looks(3))) == place.waves == ["2024-01"]
    place.put("2024-01.csv", answers(7))
    place.put("2023-12.csv")  # late, and out of order
    assert sorted(chain(*place.looks(3))) == place.waves == ["2023-12", "2024-01"]
    (place.place / "2024-01.csv").unlink()
    assert place.looks(2) == [[], []] and "wave 2024-01 is gone; its answers stay" in place.said
    place.put("2024-01.csv", answers(8))
    assert list(chain(*place.looks(3))) == ["2024-01"] and place.waves == ["2023-12", "2024-01"]


def test_an_object_store_lists_what_is_whole_and_a_folder_what_may_be_half(tmp_path: Path) -> None:
    store, folder = watched_at("memory", tmp_path / "a"), watched_at("folder", tmp_path / "b")
    for place in (store, folder):
        place.put("w1.csv")
    assert store.look() == ["w1"]
    assert folder.look() == [] and folder.look() == ["w1"]


def test_a_file_that_grows_is_not_taken_before_it_lies_still(here: Watched) -> None:
    whole = answers(5, people=30)
    for length in (20, 40, 60):
        here.put("w1.csv", whole[:length])
        assert here.look() == []
    assert here.look() == ["w1"]


@pytest.mark.parametrize(
    "name", [".w1.csv.tmp", "w1.csv.part", "w1.csv.filepart", "~$w1.csv", ".w1.csv.A7xQ"]
)
def test_a_file_under_a_temporary_name_is_spoken_of_and_taken_once_it_has_its_own(
    here: Watched, name: str
) -> None:
    here.put(name)
    assert here.looks(2) == [[], []] and f"under a temporary name: {name}" in here.said
    (here.folder / name).rename(here.folder / "w1.csv")
    assert here.looks(2) == [[], ["w1"]]
    here.look()
    assert "temporary" not in here.said


def test_after_a_restart_nothing_is_taken_twice_and_nothing_that_came_meanwhile_is_missed(
    here: Watched,
) -> None:
    here.put("w3.csv")
    here.looks(2)
    here.cursor = None  # all that a sensor keeps besides Dagster's history
    for name in ("w9.csv", "w1.csv", "w2.csv"):
        here.put(name)
        os.utime(here.folder / name, (1e9, 1e9))  # `cp -p` of an old file
    assert here.looks(3) == [[], ["w1", "w2", "w9"], []]


def test_a_wave_whose_partition_was_deleted_and_whose_file_stayed_is_taken_again(here: Watched) -> None:
    here.put("w1.csv")
    here.looks(3)
    here.instance.delete_dynamic_partition("snacks_wave", "w1")
    assert here.looks(2) == [["w1"], []] and here.waves == ["w1"]


def test_what_is_delivered_again_unchanged_is_noted_once_and_is_no_new_content(place: Watched) -> None:
    place.put("w1.csv", answers(1))
    place.looks(2)
    place.put("w1.csv", answers(1))
    assert place.looks(3) == [[], [], []]
    key = dg.AssetKey(["snacks", "wave_file"])
    assert len(place.instance.fetch_materializations(key, limit=9).records) == 1
    assert len(place.instance.fetch_observations(key, limit=9).records) <= 1
    place.put("w1.csv", answers(2))
    place.put("w1.csv", answers(1))  # and back, before anybody looked
    assert place.looks(3) == [[], [], []]


def test_a_wave_delivered_again_unchanged_asks_for_no_run(here: Watched) -> None:
    here.all_waves_together = False
    here.put("w1.csv", answers(1))
    here.looks(2)
    runs = here.live(3)
    assert all(run.success for done in runs.values() for run in done)
    here.put("w1.csv", answers(1))
    here.looks(3)
    assert here.live(2) == {}
    here.put("w1.csv", answers(2))
    here.looks(2)
    assert list(here.live(1)) == ["raw_wave w1"]


def test_files_that_were_taken_are_not_opened_again(here: Watched) -> None:
    opened: list[str] = []
    watching = True

    def hook(event: str, about: tuple[object, ...]) -> None:
        if watching and event == "open" and str(about[0]).startswith(str(here.folder)):
            opened.append(Path(str(about[0])).name)

    sys.addaudithook(hook)
    for n in range(5):
        here.put(f"w{n}.csv")
    opened.clear()
    here.looks(2)
    assert sorted(opened) == [f"w{n}.csv" for n in range(5)]
    here.put("w3.csv")  # the same again: opened once, and never after that
    opened.clear()
    here.looks(3)
    here.cursor = None
    here.looks(3)
    assert opened == ["w3.csv"]
    here.put("w2.csv", answers(50))
    here.put("new.csv")
    opened.clear()
    here.looks(3)
    watching = False
    assert sorted(opened) == ["new.csv", "w2.csv"]


def test_more_files_than_a_look_has_time_for_are_taken_by_the_next_looks(
    here: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(12):
        here.put(f"w{n:02}.csv")
    monkeypatch.setattr(observed, "AT_ONCE", 5)
    looks = here.looks(5)
    assert [len(look) for look in looks] == [0, 5, 5, 2, 0]
    assert list(chain(*looks)) == here.waves == [f"w{n:02}" for n in range(12)]
    for n in range(3):
        here.put(f"x{n}.csv")
    monkeypatch.setattr(observed, "LOOK_SECONDS", -1)  # no time at all: still one at each look
    assert here.looks(5) == [[], ["x0"], ["x1"], ["x2"], []]


def test_of_ten_thousand_files_each_look_takes_some_and_forgets_none(here: Watched) -> None:
    for n in range(10_000):
        (here.folder / f"w{n:05}.csv").write_bytes(b"person\n")
    assert here.look() == []
    result = observed.look_for_waves(here.survey, here.instance, here.cursor)
    assert [event.partition for event in result.events] == [f"w{n:05}" for n in range(observed.AT_ONCE)]
    (waits,) = [said for said in result.warnings if "taken in the next looks" in said]
    assert waits.startswith(f"{10_000 - observed.AT_ONCE} more")


def test_a_large_file_is_known_by_how_it_looks(here: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "HASHED_BYTES", 10)
    here.put("w1.csv", answers(1))
    assert here.looks(3) == [[], ["w1"], []]
    assert here.run(["raw_wave"], "w1").success
    here.put("w1.csv", answers(2))
    assert here.looks(3) == [[], ["w1"], []]


def test_a_place_that_is_not_there_is_spoken_of_and_loses_nothing(place: Watched) -> None:
    place.put("w1.csv")
    place.looks(2)
    place.place.fs.mv(place.place.path, place.place.path + "-away", recursive=True)
    assert place.look() == [] and place.waves == ["w1"]
    assert "w1" in place.said and "answers stay in the data" in place.said
    place.place.fs.mv(place.place.path + "-away", place.place.path, recursive=True)
    assert place.looks(3) == [[], [], []] and place.said == "no new or changed wave"
