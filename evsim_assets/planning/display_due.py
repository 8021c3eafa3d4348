"""What `evsim plan` prints of what would run.

Belongs here: the table and its totals. Not here: the training table (`display.py`), any figure (`due.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evsim_assets.planning.display import UNKNOWN, duration
from evsim_assets.planning.due import Due, totals

EXAMPLES = 2
"""Partitions named in a row; more are counted."""


def show_due(console: Console, entries: Sequence[Due], *, device: str) -> None:
    """The changes, a row for each asset and what it follows from, in the order in which they would run, and
    the totals."""
    if not entries:
        console.print("everything is up to date: nothing would run", highlight=False)
        return
    changes = {change: number for number, change in enumerate(_changes(entries), start=1)}
    for change, number in changes.items():
        console.print(f"{number:>3}  {escape(change)}", highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("order", justify="right", no_wrap=True)
    table.add_column("would run", overflow="fold", min_width=20)
    table.add_column("partitions", justify="right", no_wrap=True)
    table.add_column("change", overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    for rows in _alike(entries):
        of = ", ".join(str(number) for number in sorted(changes[change] for change in rows[0].because))
        table.add_row(str(rows[0].order), escape(_named(rows)), str(len(rows)), of, _time(rows))
    console.print(table)
    _show_totals(console, entries, device)


def _changes(entries: Sequence[Due]) -> list[str]:
    """All that anything goes back to, each once, what runs first first."""
    return list(dict.fromkeys(change for entry in entries for change in entry.because))


def _alike(entries: Sequence[Due]) -> list[list[Due]]:
    """Entries of one asset, order and change together."""
    found: dict[tuple[int, str, tuple[str, ...]], list[Due]] = {}
    for entry in entries:
        found.setdefault((entry.order, entry.node.name, entry.because), []).append(entry)
    return list(found.values())


def _named(rows: Sequence[Due]) -> str:
    partitions = [str(row.node.partition) for row in rows if row.node.partition is not None]
    if not partitions:
        return rows[0].node.name
    more = f" and {len(partitions) - EXAMPLES} more" if len(partitions) > EXAMPLES else ""
    return f"{rows[0].node.name} [{', '.join(partitions[:EXAMPLES])}{more}]"


def _time(rows: Sequence[Due]) -> str:
    """Their sum; `~` where any of it is an estimate, `+ ?` where some of it is not known."""
    known = [row.seconds for row in rows if row.seconds is not None]
    if not known:
        return UNKNOWN
    about = "~" if any(row.known_from == "estimate" for row in rows) else ""
    return about + duration(sum(known)) + (" + ?" if len(known) < len(rows) else "")


def _show_totals(console: Console, entries: Sequence[Due], device: str) -> None:
    summed = totals(entries)
    where = "of the GPU" if device == "cuda" else "in models"
    model = _known(summed.model_seconds, summed.model_unknown)
    rest = _known(summed.seconds - summed.model_seconds, summed.unknown - summed.model_unknown)
    console.print(
        f"{summed.partitions} partitions would run; time one after another: {model} {where}, {rest} besides",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        "times are those of the last run (~ estimated); what comes out as it was stops there, and less runs",
        highlight=False,
        soft_wrap=True,
    )


def _known(seconds: float, unknown: int) -> str:
    if not seconds:
        return f"{unknown} of unknown time" if unknown else "none"
    return f"{duration(seconds)}" + (f" and {unknown} of unknown time" if unknown else "")
