import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evsim_assets.specs.errors import BadInput
from evsim_resources.lake import Lake
from evsim_resources.warehouse import Warehouse
from evsim_resources.work import FORGOTTEN_DAYS, work_folder

KEY, ADAPTER = ["small", "adapter_checkpoint"], {"adapter": "s~qlora"}


def test_work_outlives_its_block_and_what_is_removed_leaves_nothing(tmp_path: Path) -> None:
    lake = Lake(root=str(tmp_path))
    with work_folder(lake, KEY, ADAPTER) as folder:
        (folder / "half").write_text("done")
    with work_folder(lake, KEY, ADAPTER) as folder:
        assert (folder / "half").read_text() == "done"
        (folder / "half").unlink()
        folder.rmdir()
    assert list(tmp_path.iterdir()) == []


def test_work_is_no_table_and_no_scratch(tmp_path: Path) -> None:
    lake = Lake(root=str(tmp_path))
    with work_folder(lake, KEY, ADAPTER) as folder:
        (folder / "data.parquet").write_bytes(b"")
        with lake.scratch():
            pass
        assert (folder / "data.parquet").exists()
        assert Warehouse(lake=lake).tables() == {}


def test_a_process_at_work_keeps_others_out_until_it_ends_or_is_killed(tmp_path: Path) -> None:
    lake = Lake(root=str(tmp_path))
    code = f"""
import time
from evsim_resources.lake import Lake
from evsim_resources.work import work_folder
with work_folder(Lake(root={str(tmp_path)!r}), {KEY!r}, {ADAPTER!r}):
    print("held", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        said = f"at work on this partition.*process {process.pid} on"
        with pytest.raises(BadInput, match=said) as refused, work_folder(lake, KEY, ADAPTER):
            pass
        assert "wait for it" in str(refused.value)
        with work_folder(lake, KEY, {"adapter": "m~qlora"}):
            pass
    finally:
        process.kill()
        process.wait()
    with work_folder(lake, KEY, ADAPTER) as folder:
        assert folder.is_dir()


def test_work_that_nobody_took_up_for_a_month_goes(tmp_path: Path) -> None:
    lake = Lake(root=str(tmp_path))
    for name, days in (("old", FORGOTTEN_DAYS + 1), ("young", FORGOTTEN_DAYS - 1)):
        with work_folder(lake, KEY, {"adapter": name}) as folder:
            pass
        then = time.time() - days * 24 * 3600
        os.utime(folder.with_name(f"{folder.name}.lock"), (then, then))
    with work_folder(lake, KEY, ADAPTER) as folder:
        left = {path.name for path in folder.parent.iterdir() if path.is_dir()}
    assert left == {"adapter=young", "adapter=s~qlora"}


def test_the_work_of_a_remote_lake_is_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with work_folder(Lake(root="memory://bucket/evsim"), KEY, ADAPTER) as folder:
        assert folder.is_relative_to(tmp_path / "evsim")
    with work_folder(Lake(root="memory://other/evsim"), KEY, ADAPTER) as other:
        assert other != folder
