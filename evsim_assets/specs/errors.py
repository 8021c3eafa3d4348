"""The one kind of error a person who feeds evsim is meant to read.

Belongs here: the exception and how its sentence is put together. Not here: any rule about what
is bad; each room checks its own input and raises this.
"""

from __future__ import annotations

from pathlib import Path


class BadInput(ValueError):
    """Input that evsim refuses: says where (file, line, field or row), what value, and what to do.

    The message is one sentence a line, so that it reads the same in a terminal, in the Dagster UI
    and in a quarantine table.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
        value: object = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.file, self.line = problem, file, line
        self.field, self.value, self.remedy = field, value, remedy
        where = ""
        if file is not None:
            where = f"{file}:{line}: " if line is not None else f"{file}: "
        if field:
            where += f"{field}: "
        got = f" (got {_shortened(value)})" if value is not None else ""
        advice = f"\n  Remedy: {remedy}" if remedy else ""
        super().__init__(f"{where}{problem}{got}{advice}")


def _shortened(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
