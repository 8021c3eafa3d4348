"""Where evsim makes errors: every such call in its source, and which of them were reached.

Belongs here: reading the source, watching what is made. Not here: the situations that reach them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import evsim_assets
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.yaml_file import SpecError
from evsim_assets.surveys.problem_sql import Problem

SOURCE = Path(evsim_assets.__file__).resolve().parent

MAKERS = {"BadInput", "SpecError", "Problem"}
"""What is called where something is wrong: errors, and reasons for quarantine."""

FOR_CALLERS = {
    "_check_known",
    "check_placeholders",
    "_check_bands_apart",
    "uneven",
    "damaged",
    "_half_character",
}
"""Functions that make an error for whoever calls them: each of their calls is an error of its own."""

LEFT_OUT = {
    "specs/baselines.py": "studies are not on this page",
    "specs/study.py": "studies are not on this page",
    "specs/simulation.py": "the facts of simulated answers are not on this page",
    "specs/project.py": "the project's folder is not on this page",
    "surveys/simulated.py": "simulated answers are not on this page",
    "surveys/drift_people.py": "drift reads evsim's own tables",
}
"""Modules of the three rooms whose errors are not shown, and why."""

UNREACHABLE = {
    (
        "surveys/wave_assets.py",
        "answer cells {accounted} are",
    ): "says that evsim itself is wrong: no input leads there",
    (
        "surveys/population_assets.py",
        "clean answers became",
    ): "says that evsim itself is wrong: no input leads there",
}
"""Errors that no situation can reach, by module and words, and why."""


@dataclass(frozen=True)
class Call:
    """A call in the source that makes an error; lines from 1."""

    file: Path
    first: int
    last: int
    source: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(SOURCE.parent)}:{self.first}: {' '.join(self.source.split())[:90]}"


@dataclass
class Made:
    """What was made while it was watched: the lines of the stacks, and the reasons for quarantine."""

    lines: set[tuple[str, int]] = field(default_factory=set)
    reasons: set[str] = field(default_factory=set)

    def reaches(self, call: Call) -> bool:
        """Whether an error came by way of the call."""
        return any((str(call.file), line) in self.lines for line in range(call.first, call.last + 1))


def error_calls() -> list[Call]:
    """Every call that makes an error in specs, surveys and prompts, but for the modules left out."""
    found = []
    for room in ("specs", "surveys", "prompts"):
        for file in sorted((SOURCE / room).glob("*.py")):
            if str(file.relative_to(SOURCE)) not in LEFT_OUT:
                found += list(_calls_in(file))
    return found


def _calls_in(file: Path) -> Iterator[Call]:
    text = file.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id in MAKERS | FOR_CALLERS:
            assert node.end_lineno is not None
            source = ast.get_source_segment(text, node) or ""
            yield Call(file, node.lineno, node.end_lineno, source)


@contextmanager
def watched() -> Iterator[Made]:
    """Note every error and every reason for quarantine that is made meanwhile, in this process."""
    made, originals = Made(), {kind: kind.__init__ for kind in (BadInput, SpecError, Problem)}

    def noting(kind: type) -> Any:
        def init(self: Any, *given: Any, **named: Any) -> None:
            frame = sys._getframe(1)
            while frame is not None:
                if frame.f_code.co_filename.startswith(str(SOURCE)):
                    made.lines.add((frame.f_code.co_filename, frame.f_lineno))
                frame = frame.f_back  # type: ignore[assignment]
            originals[kind](self, *given, **named)
            if kind is Problem:
                made.reasons.add(kind_of(self.reason))

        return init

    for kind in originals:
        kind.__init__ = noting(kind)  # type: ignore[method-assign]
    try:
        yield made
    finally:
        for kind, original in originals.items():
            kind.__init__ = original  # type: ignore[method-assign]


def kind_of(reason: str) -> str:
    """A reason without the names and numbers in it."""
    return re.sub(r"'[^']*'|\{[^}]*\}|-?\d+", "…", reason)
