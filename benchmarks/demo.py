"""Time and memory of the demo study in a fresh folder, and of running it again with nothing changed.

    python benchmarks/demo.py [--quick]

Memory is the proportional set size (PSS) summed over the command and its worker processes, sampled
twice a second, so that shared pages count once. The last line is one JSON object.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]


def tree_bytes(pid: int) -> int:
    """PSS of a process and its descendants."""
    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def measured(folder: Path, study: str) -> tuple[float, int]:
    """Seconds and peak bytes of `evsim run`."""
    started, peak = time.perf_counter(), 0
    command = [sys.executable, "-m", "evsim_assets.cli", "run", study]
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "EVSIM_PROJECT": str(folder)})
    while process.poll() is None:
        peak = max(peak, tree_bytes(process.pid))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"evsim run {study} failed")
    return time.perf_counter() - started, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the small study of the tests instead")
    study = "small_study" if parser.parse_args().quick else "ev_shift"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(
            ROOT / "data", folder / "data", ignore=shutil.ignore_patterns("us_policy*", "*llama2*")
        )
        shutil.copy(ROOT / "tests" / "chain" / "small_study.yaml", folder / "data" / "studies")
        seconds, peak = measured(folder, study)
        again, _ = measured(folder, study)
    figures = {
        "study": study,
        "seconds": round(seconds, 1),
        "peak_gib": round(peak / 2**30, 2),
        "nothing_changed_seconds": round(again, 1),
        "cores": os.cpu_count(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
