"""The terminal as every command writes to it.

Belongs here: its width, warnings, how paths and this command are named. Not here: what any command
prints (`cli.py`, `survey_cli.py`).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from rich.console import Console
from rich.markup import escape

console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 110)


def warn(sentences: Sequence[str]) -> None:
    """Each sentence as a warning of its own."""
    for sentence in sentences:
        console.print(f"[yellow]warning:[/] {escape(sentence)}", highlight=False, soft_wrap=True)


def own_name() -> str:
    """How this command can be typed from here: `evsim`, or `.venv/bin/evsim`."""
    called = Path(sys.argv[0])
    if called.name != "evsim":
        return f"{Path(sys.executable).name} -m evsim_assets.cli"
    return "evsim" if shutil.which("evsim") else str(short(called.absolute()))


@overload
def short(path: Path) -> Path: ...
@overload
def short(path: str) -> str: ...
def short(path: Path | str) -> Path | str:
    """The path from here, where it is below here; the URL of what is in a store."""
    if isinstance(path, str):
        return path
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
