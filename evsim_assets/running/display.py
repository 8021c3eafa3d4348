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

TRUST_SECONDS = 20.0
"""Weight of the first guesses against what has been measured."""
SAID_ENOUGH = 0.05
"""Fraction from which a node's own report is believed."""
SILENCE_SECONDS = 20.0
"""Without a terminal, a line is printed at least this often."""


class Display:
    """Shows a run: a live panel on a terminal, one line a finished run elsewhere."""

    def __init__(
        self, console: Console, title: str, expected_seconds: Callable[[Node], float], workers: int
    ) -> None:
        self.console, self.title = console, title
        self.expected_seconds, self.workers = expected_seconds, workers
        self.started = time.monotonic()
        self._told = 0
        self._spoke = self.started
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
        """Expected seconds of what is not done, over the processes at work: by what running nodes say of
        themselves where they do, else by first guesses at the pace so far."""
        done = sum(self.expected_seconds(outcome.node) for outcome in progress.done)
        took = sum(outcome.seconds for outcome in progress.done)
        pace = (took + TRUST_SECONDS) / (done + TRUST_SECONDS)
        left = pace * sum(self.expected_seconds(node) for node in progress.waiting)
        longest = 0.0
        for node, since in progress.running.items():
            elapsed, fraction = time.monotonic() - since, progress.fraction(node)
            rest = max(pace * self.expected_seconds(node) - elapsed, 0.5)
            if fraction is not None and fraction > SAID_ENOUGH:
                rest = elapsed * (1 - fraction) / fraction
            left, longest = left + rest, max(longest, rest)
        return max(left / self.workers, longest)

    def _tell(self, progress: Progress) -> None:
        for outcome in progress.done[self._told :]:
            state = "FAILED" if outcome.error else progress.reasons.get(outcome.node, "")
            self._line(f"{outcome.node.label:<58}{outcome.seconds:6.1f} s  {state}", progress)
        self._told = len(progress.done)
        if time.monotonic() - self._spoke > SILENCE_SECONDS:
            self._line("… " + "; ".join(_working(node, progress) for node in progress.running), progress)

    def _line(self, text: str, progress: Progress) -> None:
        self._spoke = time.monotonic()
        at, left = _clock(self._spoke - self.started), _clock(self.seconds_left(progress))
        self.console.print(
            f"{at}  {text}  (about {left} left)", highlight=False, markup=False, soft_wrap=True
        )

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
                _working(node, progress),
                Text(_clock(time.monotonic() - since), style="dim"),
                Text(progress.reasons.get(node, ""), style="dim"),
            )
        for outcome in progress.failed:
            rows.add_row(Text("  ✗", style="red"), outcome.node.label, "", Text("failed", style="red"))
        return Group(head, rows)


def _working(node: Node, progress: Progress) -> str:
    """The node with how far it says it is: `ev_shift/adapter_checkpoint [s~qlora] 40 % step 120 …`."""
    report = progress.reports.get(node.label)
    return f"{node.label} {report['fraction']:.0%} {report['message']}" if report else node.label


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
