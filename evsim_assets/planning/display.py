"""What `evsim plan` prints.

Belongs here: the table, totals and notes. Not here: any figure (`adapters/estimate.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evsim_assets.adapters.estimate import Estimate, Pretrained
from evsim_assets.adapters.fits import Fit, advice_in_words
from evsim_assets.adapters.workload import Workload

UNKNOWN = "unknown"


def show_plan(
    console: Console,
    estimates: Sequence[Estimate | Pretrained],
    states: Mapping[str, str],
    *,
    device: str,
    free: int | None,
    processes: int,
) -> None:
    """A row an adapter, totals of those that would be trained, and everything the figures rest on.

    Args:
        states: of each adapter why it would be trained, or "up to date".
        free: bytes that the adapters are judged by.
        processes: adapters that are trained at once.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("adapter", overflow="fold", min_width=12)
    table.add_column("state", overflow="fold", min_width=8)
    for name in ("texts", "tree tokens", "fewer", "steps", "memory", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("fits", no_wrap=True)
    for estimate in estimates:
        key = estimate.spec.key
        table.add_row(escape(key), escape(states.get(key, "")), *_cells(estimate))
    console.print(table)
    trained = [e for e in estimates if isinstance(e, Estimate)]
    due = [e for e in trained if states.get(e.spec.key) != "up to date"]
    _show_totals(console, due, processes)
    kind = "of the GPU's memory" if device == "cuda" else "of memory"
    known = (
        f"{gigabytes(free)} {kind} to judge by"
        if free is not None
        else f"how much {kind} there is, is unknown"
    )
    _say(console, f"{known}; memory is that of one training's peak")
    if (sentence := _together(due, free, processes)) is not None:
        console.print(f"[yellow]warning:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
    for sentence in _explained(trained):
        _say(console, sentence)
    for estimate in trained:
        if isinstance(estimate.fit, Fit) and estimate.fit.fits is False:
            parts = ", ".join(f"{name} {gigabytes(size)}" for name, size in estimate.fit.memory.parts.items())
            problem = f"{estimate.spec.key} takes {gigabytes(estimate.fit.memory.total)} ({parts})"
            console.print(f"[red]does not fit:[/] {escape(problem)}", highlight=False, soft_wrap=True)
            console.print(
                f"  Remedy: {escape(advice_in_words(estimate.fit))}", highlight=False, soft_wrap=True
            )


def _cells(estimate: Estimate | Pretrained) -> list[str]:
    """texts, tree tokens, fewer, steps, memory, time, fits"""
    if isinstance(estimate, Pretrained):
        return [""] * 7  # nothing to train
    work, fit, seconds = estimate.work, estimate.fit, estimate.seconds
    read = [UNKNOWN] * 4
    if isinstance(work, Workload):
        about = "~" if work.sampled or estimate.notes else ""
        read = [
            f"{work.texts:,}",
            about + _count(work.tree_tokens),
            f"{work.text_tokens / work.tree_tokens:.2f}x",
            f"{work.steps:,}",
        ]
    memory = gigabytes(fit.memory.total) if isinstance(fit, Fit) else UNKNOWN
    fits = {True: "yes", False: "[red]no[/]", None: UNKNOWN}[fit.fits if isinstance(fit, Fit) else None]
    if isinstance(fit, Fit) and fit.memory.resident and fit.fits is not False:
        fits += ", 4-bit"
    return [*read, memory, duration(seconds) if seconds is not None else UNKNOWN, fits]


def _show_totals(console: Console, trained: Sequence[Estimate], processes: int) -> None:
    if not trained:
        _say(console, "every adapter is up to date: nothing would be trained")
        return
    works = [e.work for e in trained if isinstance(e.work, Workload)]
    known = [e.seconds for e in trained if e.seconds is not None]
    told = [f"{len(trained)} to train"]
    if works:
        read, written = sum(w.tree_tokens for w in works), sum(w.text_tokens for w in works)
        told.append(f"{_count(read)} tree tokens ({_count(written)} text by text)")
    if known:
        rest = f" and {len(trained) - len(known)} of unknown time" if len(known) < len(trained) else ""
        at_once = min(processes, len(known))
        order = f"{at_once} at once" if at_once > 1 else "one after another"
        told.append(f"about {duration(max(sum(known) / at_once, max(known)))}, {order}{rest}")
    else:
        told.append("time unknown")
    _say(console, "; ".join(told))


def _together(trained: Sequence[Estimate], free: int | None, processes: int) -> str | None:
    """That adapters which fit one by one do not fit at once, if so."""
    sizes = sorted(
        (e.fit.memory.total for e in trained if isinstance(e.fit, Fit) and e.fit.fits), reverse=True
    )
    taken = sum(sizes[:processes])
    if free is None or len(sizes) < 2 or taken <= free:
        return None
    return (
        f"{min(processes, len(sizes))} adapters are trained at once, and the largest take"
        f" {gigabytes(taken)} together: evsim run STUDY --workers 1"
    )


def _explained(trained: Sequence[Estimate]) -> list[str]:
    """What figures rest on, and why some are unknown; each once."""
    told: list[str] = []
    for estimate in trained:
        model = estimate.spec.model
        told += estimate.notes
        for what, part in (("tokens", estimate.work), ("memory", estimate.fit), ("time", estimate.pace)):
            if isinstance(part, str):
                told.append(f"{what} of {model} unknown: {part}")
        if not isinstance(estimate.pace, str):
            pace = estimate.pace
            told.append(f"time of {model}: measured in {pace.seconds:.0f} s on {pace.how}")
    if any(isinstance(e.work, Workload) and e.work.sampled for e in trained):
        told.append("~ counted on a sample of the steps, or with a stand-in for the tokenizer")
    return list(dict.fromkeys(told))


def _say(console: Console, sentence: str) -> None:
    console.print(escape(sentence), highlight=False, soft_wrap=True)


def gigabytes(size: int) -> str:
    """In GB (1e9 bytes), three digits."""
    return f"{size / 1e9:.3g} GB"


def duration(seconds: float) -> str:
    """`12 s`, `3:05 min`, `2:10 h`."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def _count(tokens: int) -> str:
    """`850`, `12.3k`, `4.56M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if tokens >= size:
            return f"{tokens / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{tokens:,}"
