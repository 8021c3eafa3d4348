"""Versions of folders: a reader sees a whole one or none, and a changed byte is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evsim_assets.specs.errors import BadInput
from evsim_resources.lake import Lake
from evsim_resources.versions import MANIFEST, POINTER, Version, VersionedStore

KEY, PARTITION = ["study", "adapter_checkpoint"], {"adapter": "s~qlora"}


def filler(text: str) -> Callable[[Path], dict[str, str]]:
    def fill(folder: Path) -> dict[str, str]:
        (folder / "deep").mkdir()
        (folder / "deep" / "weights").write_text(text * 100)
        (folder / "config").write_text("c")
        return {"made_of": text}

    return fill


def store(lake: Lake) -> VersionedStore:
    return VersionedStore(lake, KEY, PARTITION)


def content(version: Version) -> str:
    return (version.folder / "deep" / "weights").read_text()


def test_a_version_says_what_it_holds(any_lake: Lake) -> None:
    version = store(any_lake).write(filler("x"))
    assert content(version) == "x" * 100
    assert version.manifest["made_of"] == "x"
    assert {name: entry["bytes"] for name, entry in version.manifest["files"].items()} == {
        "config": 1,
        "deep/weights": 100,
    }
    assert store(any_lake).resolve() == version


def test_the_latest_version_is_current_and_equal_files_are_one_version(any_lake: Lake) -> None:
    checkpoints = store(any_lake)
    first, second = checkpoints.write(filler("x")), checkpoints.write(filler("y"))
    assert content(checkpoints.resolve()) == "y" * 100
    again = checkpoints.write(filler("x"))
    assert again == first and again.id != second.id
    assert content(checkpoints.resolve()) == "x" * 100
    folders = [p.name for p in checkpoints.folder.iterdir() if p.name != POINTER]
    assert sorted(folders) == sorted([first.id, second.id])


def test_nothing_stored_is_refused_with_the_way_to_make_it(any_lake: Lake) -> None:
    with pytest.raises(BadInput, match="nothing is stored") as caught:
        store(any_lake).resolve()
    assert caught.value.value == "study/adapter_checkpoint/s~qlora"
    assert "evsim run study --only adapter_checkpoint --partition s~qlora" in str(caught.value.remedy)


def test_every_flipped_byte_is_found_and_names_its_file_and_writing_again_mends_it(lake: Lake) -> None:
    checkpoints = store(lake)
    version = checkpoints.write(filler("x"))
    pointer = Path(str(checkpoints.folder)) / POINTER
    stored = [version.folder / name for name in ("deep/weights", "config", MANIFEST)]
    for path in [*stored, pointer]:
        whole = path.read_bytes()
        for position in {0, len(whole) // 2, len(whole) - 2} - {-1}:
            for bit in (1, 128):
                path.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
                with pytest.raises(BadInput) as caught:
                    checkpoints.resolve()
                # A pointer with a flipped digit names another version, whose manifest is not there.
                elsewhere = pointer.parent / pointer.read_text(errors="replace").strip() / MANIFEST
                named = str(path), str(elsewhere if path == pointer else path)
                assert str(caught.value.file) in named
                assert "evsim run study" in str(caught.value.remedy) and "--again" in str(caught.value.remedy)
                assert checkpoints.write(filler("x")) == version
                assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["deep/weights", MANIFEST])
def test_a_file_that_is_gone_is_found(any_lake: Lake, name: str) -> None:
    checkpoints = store(any_lake)
    version = checkpoints.write(filler("gone"))
    (checkpoints.folder / version.id / name).unlink()
    if any_lake.root.startswith("memory") and name != MANIFEST:
        (version.folder / name).unlink()  # the copy on this machine
    with pytest.raises(BadInput) as caught:
        checkpoints.resolve()
    assert caught.value.file == str(checkpoints.folder / version.id / name)
    assert checkpoints.write(filler("gone")) == version


def test_a_version_is_whole_while_all_its_files_have_their_sizes(lake: Lake) -> None:
    checkpoints = store(lake)
    assert not checkpoints.is_whole()
    for harm in (lambda path: path.unlink(), lambda path: path.write_text("short")):
        version = checkpoints.write(filler("x"))
        assert checkpoints.is_whole()
        harm(version.folder / "deep" / "weights")
        assert not checkpoints.is_whole()
    checkpoints.write(filler("x"))
    (version.folder / MANIFEST).unlink()
    assert not checkpoints.is_whole()


def test_a_rotten_copy_of_a_remote_version_is_fetched_again() -> None:
    checkpoints = store(Lake(root="memory://rotten-copy"))
    version = checkpoints.write(filler("x"))
    (version.folder / "config").write_text("d")
    assert (checkpoints.resolve().folder / "config").read_text() == "c"


def test_a_rotten_remote_version_names_the_remote_file() -> None:
    checkpoints = store(Lake(root="memory://rotten-remote"))
    version = checkpoints.write(filler("z"))
    remote = checkpoints.folder / version.id / "config"
    remote.write_bytes(b"d")
    (version.folder / "config").unlink()
    with pytest.raises(BadInput, match="not what was stored") as caught:
        checkpoints.resolve()
    assert caught.value.file == str(remote)


def test_a_failure_while_filling_leaves_the_current_version_and_nothing_else(lake: Lake) -> None:
    checkpoints = store(lake)
    version = checkpoints.write(filler("x"))

    def fill(folder: Path) -> dict[str, str]:
        (folder / "part").write_text("half")
        raise RuntimeError("training failed")

    with pytest.raises(RuntimeError, match="training failed"):
        checkpoints.write(fill)
    assert checkpoints.resolve() == version
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == sorted([version.id, POINTER])


def test_a_manifest_holds_any_language_and_its_id_is_its_hash(lake: Lake) -> None:
    version = store(lake).write(lambda folder: {"note": "18–25 年齢"})
    stored = json.loads((version.folder / MANIFEST).read_text(encoding="utf-8"))
    assert stored == {"note": "18–25 年齢", "files": {}}
