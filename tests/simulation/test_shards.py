"""A table made shard by shard: a killed run goes on, and nothing that is not a finished shard is taken."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evsim_assets.simulation.shards import in_shards

KEYS = [f"key {k}" for k in range(23)]
IDENTITY = {"model": "m", "temperatures": [0.0, 1.0], "seed": 3}


def made(rows: list[int]) -> pd.DataFrame:
    """Two rows a key, of every kind that tables of answers have."""
    some = np.repeat(rows, 2)
    return pd.DataFrame(
        {
            "key": [KEYS[k] for k in some],
            "probabilities": [np.arange(k % 4 + 1, dtype=np.float32) / 7 for k in some],
            "answer": pd.array([None if k % 5 == 0 else k for k in some], dtype="Int64"),
            "seed": some.astype(np.int64) * 10**15,
            "success": some % 5 != 0,
        }
    )


class Counted:
    """`made`, with what was asked of it, and what was said."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.said: list[str] = []

    def __call__(self, rows: list[int]) -> pd.DataFrame:
        self.asked.append(rows)
        return made(rows)

    def table(self, folder: Path, keys: list[str] = KEYS, **identity: Any) -> pd.DataFrame:
        return in_shards(folder, {**IDENTITY, **identity}, keys, self, size=5, say=self.said.append)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


KILLED = """
import os, signal, sys
from pathlib import Path
from evsim_assets import durable
from evsim_assets.simulation.shards import in_shards
from tests.simulation.test_shards import IDENTITY, KEYS, made

folder, moment = Path(sys.argv[1]), sys.argv[2]
calls = []

def make(rows):
    calls.append(rows)
    print(rows[0], flush=True)
    if moment == "made" and len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return made(rows)

def replace(source, target, really=os.replace):
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    really(source, target)

if moment == "written":
    durable.os.replace = replace
in_shards(folder, IDENTITY, KEYS, make, size=5, say=print)
"""


@pytest.mark.parametrize("moment", ["made", "written"])
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(tmp_path: Path, moment: str) -> None:
    folder, other = tmp_path / "killed", Counted()
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), moment],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert run.stdout.split() == ["0", "5", "10"]
    assert len(list(folder.glob("*.parquet"))) == 2
    table = other.table(folder)
    assert [rows[0] for rows in other.asked] == [10, 15, 20]
    assert "2 of 5 shards" in other.said[0]
    unhurt = Counted().table(tmp_path / "unhurt")
    pd.testing.assert_frame_equal(table, unhurt)
    assert files(folder) == files(tmp_path / "unhurt")


def test_the_table_is_that_of_all_keys_in_their_order(tmp_path: Path) -> None:
    counted = Counted()
    table = counted.table(tmp_path)
    whole = made(list(range(23)))
    assert [len(rows) for rows in counted.asked] == [5, 5, 5, 5, 3]
    assert all(
        mine.tolist() == his.tolist()
        for mine, his in zip(table.pop("probabilities"), whole.pop("probabilities"), strict=True)
    )
    pd.testing.assert_frame_equal(table, whole)
    assert counted.said == []


def test_a_finished_shard_is_never_made_again(tmp_path: Path) -> None:
    counted = Counted()
    first = counted.table(tmp_path)
    before = files(tmp_path)
    again = counted.table(tmp_path)
    assert len(counted.asked) == 5
    pd.testing.assert_frame_equal(first, again)
    assert files(tmp_path) == before
    counted.table(tmp_path, [*KEYS[:22], "key 22, asked otherwise"])
    assert counted.asked[5:] == [[20, 21, 22]]


def _cut(file: Path, _other: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def _one_bit(file: Path, _other: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(bytes(content))


def _empty(file: Path, _other: Path) -> None:
    file.write_bytes(b"")


def _foreign(file: Path, other: Path) -> None:
    file.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [_cut, _one_bit, _empty, _foreign])
def test_a_shard_that_is_not_as_it_was_written_is_made_again_and_named(
    tmp_path: Path, damage: Callable[[Path, Path], None]
) -> None:
    first, before = Counted().table(tmp_path), files(tmp_path)
    hurt, other = sorted(tmp_path.iterdir())[:2]
    damage(hurt, other)
    counted = Counted()
    pd.testing.assert_frame_equal(counted.table(tmp_path), first)
    assert len(counted.asked) == 1
    assert hurt.name in counted.said[0]
    assert "made again" in counted.said[0]
    assert files(tmp_path) == before


def test_another_identity_makes_all_anew_and_removes_the_old_shards(tmp_path: Path) -> None:
    Counted().table(tmp_path)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    old, counted = set(files(tmp_path)), Counted()
    counted.table(tmp_path, seed=4)
    assert len(counted.asked) == 5
    assert set(files(tmp_path)) & old == {"notes.txt"}
    assert len(files(tmp_path)) == 6
    assert "5 shards of another table removed" in counted.said[0]


def test_no_keys_are_an_empty_table_with_its_columns(tmp_path: Path) -> None:
    assert list(Counted().table(tmp_path, []).columns) == list(made([]).columns)
