"""Running the command line as a person does."""

import subprocess
import sys
from pathlib import Path

import pandas as pd


def evsim_ended(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`evsim` run in a project, however it ended."""
    return subprocess.run(
        [sys.executable, "-m", "evsim_assets.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def evsim_in(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run `evsim` in a project, expecting that exit status, and return what it printed."""
    result = evsim_ended(folder, *arguments)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def partitions_made(output: str) -> dict[str, int]:
    """How many partitions of each asset a run made, from its last lines."""
    flat = " ".join(output.split())
    if "nothing to run" in flat:
        return {}
    listed = flat.split(" partitions (", 1)[1].split(");", 1)[0]
    return {part.rsplit(" ", 1)[0]: int(part.rsplit(" ", 1)[1]) for part in listed.split(", ")}


def stored_table(project: Path, name: str) -> pd.DataFrame:
    """All partitions of a table of the project's lake."""
    files = sorted((project / ".evsim" / "lake" / name).rglob("data.parquet"))
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
