"""A process killed, or a disk full, in the middle of any write: what was there is there, whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evsim_resources.lake import Lake
from evsim_resources.versions import VersionedStore

ROOT = Path(__file__).resolve().parents[2]

# For each number it is sent, a process that writes this one, the next, … until it is killed: tables whose
# rows, and versions whose two files, all hold the same number.
WRITER = """
import os, sys
from itertools import count
import pandas as pd
from evsim_resources.lake import Lake
from evsim_resources.versions import VersionedStore
lake = Lake(root=sys.argv[1])
store = VersionedStore(lake, ["study", "versions"])

def fill(folder):
    (folder / "a").write_text(f"{number} " * 20000)
    (folder / "b").write_text(f"{number} " * 20000)
    return {"number": number}

for line in sys.stdin:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        print("ended", flush=True)
        continue
    print(os.getpid(), flush=True)
    for number in count(int(line)):
        if sys.argv[2] == "tables":
            table = pd.DataFrame({"x": [number] * 20000, "y": [str(number)] * 20000})
            lake.write_table(table, ["study", "table"])
        elif sys.argv[2] == "files":
            table = pd.DataFrame({"x": [number] * 20000, "y": [str(number)] * 20000})
            with lake.scratch() as folder:
                table.to_parquet(folder / "made.parquet")
                lake.take_table(folder / "made.parquet", ["study", "table"])
        else:
            store.write(fill)
        print(number, flush=True)
"""

# Stands still in the middle of a write, until it is killed.
HANGING = """
import os, sys, time
import pandas as pd
from evsim_resources.lake import Lake
from evsim_resources.versions import VersionedStore
lake = Lake(root=sys.argv[1])

def hang(place):
    if isinstance(place, os.PathLike):
        (place / "data.parquet").write_bytes(bytes(100))
    print("writing", flush=True)
    time.sleep(600)

if sys.argv[2] == "tables":
    os.fsync = hang
    lake.write_table(pd.DataFrame({"x": [2]}), ["study", "table"])
elif sys.argv[2] == "files":
    with lake.scratch() as folder:
        hang(folder)
else:
    VersionedStore(lake, ["study", "versions"]).write(hang)
"""

# Fills the disk for itself alone: no file may grow past 20,000 bytes, as if no more were free.
FILLER = """
import resource, signal, sys
from pathlib import Path
import numpy as np, pandas as pd
from evsim_assets.specs.errors import BadInput
from evsim_resources.lake import Lake
from evsim_resources.versions import VersionedStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
lake = Lake(root=sys.argv[1])

def fill(folder):
    (folder / "weights").write_bytes(bytes(100000))
    return {}

try:
    if sys.argv[2] == "tables":
        lake.write_table(pd.DataFrame({"x": np.random.default_rng(0).random(20000)}), ["study", "table"])
    elif sys.argv[2] == "files":
        lake.take_table(Path(sys.argv[3]), ["study", "table"])
    else:
        VersionedStore(lake, ["study", "versions"]).write(fill)
except BadInput as error:
    print(error)
    sys.exit(7)
"""


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system than that of temporary files, where the machine has one."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


def number_read(lake: Lake, what: str) -> int:
    """The one number that everything stored holds; anything mixed, cut or unreadable fails here."""
    if what != "versions":
        table = lake.read_table(["study", "table"])
        numbers = {*table["x"], *map(int, table["y"])}
        assert len(table) == 20000
    else:
        version = VersionedStore(lake, ["study", "versions"]).resolve()
        words = [(version.folder / name).read_text().split() for name in "ab"]
        assert [len(part) for part in words] == [20000, 20000]
        numbers = {version.manifest["number"], *map(int, words[0] + words[1])}
    assert len(numbers) == 1
    return int(numbers.pop())


@pytest.mark.parametrize("what", ["tables", "files", "versions"])
def test_a_process_killed_at_any_moment_leaves_the_old_or_the_new_content(tmp_path: Path, what: str) -> None:
    lake, moments = Lake(root=str(tmp_path)), np.random.default_rng(7).uniform(0, 0.05, size=12)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), what],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for turn, moment in enumerate(moments):
            process.stdin.write(f"{1000 * turn}\n")
            process.stdin.flush()
            writer, first = int(process.stdout.readline()), int(process.stdout.readline())
            deadline, seen = time.monotonic() + moment, set()
            while time.monotonic() < deadline:  # a reader beside the writer
                seen.add(number_read(lake, what))
            os.kill(writer, signal.SIGKILL)
            said = [first, *map(int, iter(lambda: process.stdout.readline().strip(), "ended"))]
            # The last number that was reported is there, or the one after it: written, not yet reported.
            assert number_read(lake, what) in (said[-1], said[-1] + 1)
            assert seen <= set(range(first, said[-1] + 2))
        process.stdin.close()
    unfinished = {p.name for p in tmp_path.rglob("*") if p.name.startswith(".")} - {".scratch"}
    assert all(name.endswith(".tmp") or name.startswith(".writing-") for name in unfinished)


def unfinished(lake: Lake) -> list[Path]:
    """What no reader looks at: temporary files, versions in the making, folders in scratch."""
    root = Path(lake.root)
    scratch = root / ".scratch"
    return [p for p in root.rglob(".*") if p != scratch] + (
        list(scratch.iterdir()) if scratch.exists() else []
    )


def write(lake: Lake, what: str) -> None:
    """One more write of the kind."""
    if what == "tables":
        lake.write_table(pd.DataFrame({"x": [1.0]}), ["study", "table"])
    elif what == "files":
        with lake.scratch():
            pass
    else:
        VersionedStore(lake, ["study", "versions"]).write(lambda folder: {"number": 1})


@pytest.mark.parametrize(
    "what",
    [
        "tables",
        "files",
        "versions",
    ],
)
def test_the_next_write_removes_what_a_killed_process_left_and_spares_one_that_lives(
    tmp_path: Path, what: str
) -> None:
    lake = Lake(root=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, str(tmp_path), what], cwd=ROOT, text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "writing\n"
            (half,) = unfinished(lake)
            write(lake, what)
            assert unfinished(lake) == [half]
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert unfinished(lake) == [half]
        write(lake, what)
        assert unfinished(lake) == []


def test_what_names_no_writer_or_one_elsewhere_is_removed_after_a_day_and_nothing_else_is(
    tmp_path: Path,
) -> None:
    lake, digits = Lake(root=str(tmp_path)), "0123456789abcdef" * 2
    folder = tmp_path / "study" / "table"
    folder.mkdir(parents=True)
    new = [folder / f".data.parquet.1-00000000-{digits}.tmp", folder / f".new.{digits}.tmp"]
    old = [folder / f".data.parquet.2-00000000-{digits}.tmp", folder / f".data.parquet.{digits}.tmp"]
    others = [folder / ".hidden", folder / "notes.tmp", folder / ".editor.tmp"]
    for path in [*new, *old, *others]:
        path.touch()
    versions = [folder / ".writing-abcd_123", folder / ".writing-busy0000"]
    for version in versions:
        version.mkdir()
        (version / "weights").touch()
    yesterday = time.time() - 25 * 3600
    for path in [*old, *others, *versions, versions[0] / "weights"]:
        os.utime(path, (yesterday, yesterday))
    write(lake, "tables")
    assert set(folder.iterdir()) == {folder / "data.parquet", versions[1], *new, *others}


@pytest.mark.parametrize("what", ["tables", "files", "versions"])
def test_a_full_disk_is_one_clear_error_and_leaves_the_old_content_alone(
    tmp_path: Path, elsewhere: Path, what: str
) -> None:
    lake = Lake(root=str(tmp_path))
    made = elsewhere / "made.parquet"
    pd.DataFrame({"x": np.random.default_rng(0).random(20000)}).to_parquet(made)
    if what == "files" and made.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system; on the lake's own a file is moved, not copied")
    old = pd.DataFrame({"x": [1.0]})
    checkpoints = VersionedStore(lake, ["study", "versions"])
    lake.write_table(old, ["study", "table"])
    version = checkpoints.write(lambda folder: {"number": 1})
    before = sorted(tmp_path.rglob("*"))
    result = subprocess.run(
        [sys.executable, "-c", FILLER, str(tmp_path), what, str(made)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 7, result.stderr
    assert made.exists()
    place = tmp_path / "study" / ("versions" if what == "versions" else "table/data.parquet")
    assert result.stdout.startswith(f"{place}: nothing could be stored (File too large)")
    assert "free space" in result.stdout and "as it was" in result.stdout
    assert sorted(tmp_path.rglob("*")) == before
    assert lake.read_table(["study", "table"]).equals(old) and checkpoints.resolve() == version
