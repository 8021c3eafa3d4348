"""What a person sees while a study runs: stage, partition, and the time left.

Belongs here: showing progress. Not here: results (`reports/`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evsim_assets.running.graph import Node
from evsim_assets.running.scheduler import Progress


class Display:
    """Shows a run: a live panel on a terminal, one line a finished run elsewhere."""

    def __init__(
        self, console: Console, title: str, expected_seconds: Callable[[Node], float], workers: int
    ) -> None:
        self.console, self.title = console, title
        self.expected_seconds, self.workers = expected_seconds, workers
        self.started = time.monotonic()
        self._told = 0
        self._live: Live | None = None

    @contextmanager
    def showing(self) -> Iterator[Callable[[Progress], None]]:
        """Give the function that the scheduler calls with its progress."""
        if not self.console.is_terminal:
            yield self._tell
            return
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            self._live = live
            yield self._draw

    def seconds_left(self, progress: Progress) -> float:
        """Expected seconds of what is not done, by the pace so far, over the processes at work."""
        done = sum(self.expected_seconds(outcome.node) for outcome in progress.done)
        took = sum(outcome.seconds for outcome in progress.done)
        pace = (took + 20) / (done + 20)  # 20 s of trust in the first guesses
        left = sum(self.expected_seconds(node) for node in progress.waiting)
        for node, since in progress.running.items():
            left += max(self.expected_seconds(node) - (time.monotonic() - since) / pace, 0.5)
        return pace * left / self.workers

    def _tell(self, progress: Progress) -> None:
        for outcome in progress.done[self._told :]:
            state = "FAILED" if outcome.error else progress.reasons.get(outcome.node, "")
            self.console.print(
                f"{_clock(time.monotonic() - self.started)}  {outcome.node.label:<58}"
                f"{outcome.seconds:6.1f} s  {state}  (about {_clock(self.seconds_left(progress))} left)",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        self._told = len(progress.done)

    def _draw(self, progress: Progress) -> None:
        if self._live is not None:
            self._live.update(self._panel(progress))

    def _panel(self, progress: Progress) -> Group:
        done = sum(self.expected_seconds(o.node) for o in progress.done)
        left = sum(self.expected_seconds(n) for n in (*progress.waiting, *progress.running))
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(self.title, style="bold"),
            ProgressBar(total=max(done + left, 1), completed=done, width=36),
            Text(f"{len(progress.done)} made"),
            Text(f"{_clock(time.monotonic() - self.started)} so far"),
            Text(f"about {_clock(self.seconds_left(progress))} left", style="cyan"),
        )
        rows = Table.grid(padding=(0, 2))
        for node, since in progress.running.items():
            rows.add_row(
                Text("  ●", style="cyan"),
                node.label,
                Text(_clock(time.monotonic() - since), style="dim"),
                Text(progress.reasons.get(node, ""), style="dim"),
            )
        for outcome in progress.failed:
            rows.add_row(Text("  ✗", style="red"), outcome.node.label, "", Text("failed", style="red"))
        said = [
            Text(f"    {report.get('fraction', 0):.0%} {report.get('message', '')}", style="dim")
            for _, report in sorted(progress.reports.items())
            if report.get("fraction", 1) < 1
        ]
        return Group(head, rows, *said)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
