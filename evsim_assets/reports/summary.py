"""What the terminal says when a study is fresh: the table of results, the plot, what to try next.

Belongs here: choosing what fits a terminal. Not here: the numbers (`metrics/`), the page (`page.py`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

WIDTH = 108
"""Columns that the table needs; a narrower terminal wraps its lines rather than cutting its numbers."""
HEAD = ("adapter", "question", "T", "KL", "floor", "W1", "floor", "RMSE", "success", "base KL", "base RMSE")


def summary_table(board: pd.DataFrame, title: str) -> Table:
    """One row an adapter and question: its temperature of the lowest KL, beside floors and the best
    baseline; every temperature is on the page and in SQL."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for at, name in enumerate(HEAD):
        table.add_column(name, justify="left" if at < 2 else "right", no_wrap=True)
    for _, rows in board.groupby(["adapter", "question"], sort=False):
        known = rows.dropna(subset=["kl"])
        best = (known.iloc[int(known["kl"].argmin())] if len(known) else rows.iloc[0]).to_dict()
        table.add_row(
            str(best["adapter"]),
            str(best["question"]),
            f"{best['temperature']:g}",
            _number(best["kl"], 3),
            _number(best["floor_kl"], 3),
            _number(best["w1"], 2),
            _number(best["floor_w1"], 2),
            _number(best["rmse"], 1),
            _number(best["success_rate"], 3),
            _number(best["best_baseline_kl"], 3),
            _number(best["best_baseline_rmse"], 1),
        )
    return table


def keep_copy(version: Path, target: Path) -> Path:
    """The report's files under a name that stays the same; returns the folder."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(version.iterdir()):
        if path.name != "manifest.json":
            shutil.copyfile(path, target / path.name)
    return target


def print_summary(
    console: Console, board: pd.DataFrame, *, study: str, survey: str, simulated: bool, report: Path
) -> None:
    """Print the table, where plot and page are, and the next commands to try."""
    said = "SIMULATED answers" if simulated else "real answers"
    wide = Console(file=console.file, width=max(console.width, WIDTH))
    wide.print()
    wide.print(summary_table(board, f"{study}: each adapter at its temperature of lowest KL ({said})"))
    console.print(
        "[dim]KL and W1 compare populations (smaller is better; the floor is human against human). RMSE\n"
        "compares people, one drawn answer each. base: the best baseline chosen on validation.[/]\n"
    )
    console.print(f"plot   {report / 'rmse_kl.png'}", highlight=False, soft_wrap=True)
    console.print(f"page   {report / 'index.html'}", highlight=False, soft_wrap=True)
    console.print(
        "next   make ui" + " " * 53 + "[dim]assets, partitions, plots, checks, automation[/]", highlight=False
    )
    query = f'evsim sql "SELECT adapter, temperature, question, kl, floor_kl FROM {study}.scoreboard"'
    console.print(f"       {query}", highlight=False, soft_wrap=True)
    console.print(f"       evsim status {study}", highlight=False)
    console.print(f"       evsim survey check data/surveys/{survey}", highlight=False)


def _number(value: object, digits: int) -> str:
    number = float(value)  # type: ignore[arg-type]
    return "—" if pd.isna(number) else f"{number:.{digits}f}"
