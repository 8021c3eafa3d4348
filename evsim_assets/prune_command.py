"""The command `evsim prune`: what could go, what stays and why, and removing it.

Belongs here: what is printed. Not here: deciding (`running/pruning.py`). Imports stay inside.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from rich.markup import escape

from evsim_assets.console import console
from evsim_assets.specs.project import Project

if TYPE_CHECKING:
    from evsim_assets.running.pruning import Found, Limits


def prune(project: Project, limits: Limits, *, dry_run: bool) -> None:
    """List everything superseded, left over or old, with its size, and remove what need not stay.

    Raises:
        BadInput: a run is going; or a file system refuses.
    """
    from evsim_assets.running.pruning import found_in, nothing_running
    from evsim_assets.running.session import open_instance

    instance = open_instance(project)
    with nullcontext() if dry_run else nothing_running(project, instance):
        found = found_in(project, instance, limits)
        freed = count = 0
        for one in found:
            removed = one.kept is None and (dry_run or one.remove())
            _say(one, removed, dry_run)
            freed, count = freed + one.bytes * removed, count + removed
    verb = "would be removed" if dry_run else "removed"
    console.print(f"{count} {verb}, {readable(freed)}; {len(found) - count} kept", highlight=False)


def readable(size: int) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size = size / 1000  # type: ignore[assignment]
    return f"{size:.3g} TB"


def _say(one: Found, removed: bool, dry_run: bool) -> None:
    if removed:
        verb, why = ("would remove" if dry_run else "removed"), ""
    else:
        verb, why = "kept", f": {one.kept or 'it has been taken up, or has gone, meanwhile'}"
    told = f"{verb} {one.what} {one.where}, {readable(one.bytes)}{why}"
    console.print(escape(told), soft_wrap=True, highlight=False)
