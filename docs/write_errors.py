"""Writes docs/errors.md: every error of a survey, as evsim really says it. Run: python docs/write_errors.py

Belongs here: the page around the messages. Not here: what is tried (`tests/errors/`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.errors import codebook, prompts, quarantine, raw_files, tables, waves  # noqa: E402
from tests.errors.calls import kind_of  # noqa: E402
from tests.errors.situation import CODEBOOK, TEXTS, WAVE, Situation, message  # noqa: E402

PAGE = ROOT / "docs" / "errors.md"

BEGINNING = """\
<!-- Written by docs/write_errors.py: do not edit. -->
# Errors of a survey, and what to do about them

Every error that a codebook, a table beside it, a raw file, a wave, a split or a prompt can give, and every
reason for which an answer is set aside. A message says where (file, line, field; lists are counted from 0),
what is wrong, the value, and a remedy. Each message on this page is what evsim said when it was given the
input above it (`python docs/write_errors.py`); a test fails when a message changes, or an error is missing.
Search for the words of yours. [codebook.md](codebook.md) says what every field means.

{contents}

Most situations change this small survey, `data/surveys/snacks/survey.yaml`. Only the lines that change are
shown, and line numbers are those of the changed file:

```yaml
{codebook}```

Beside it are `texts.csv` and a wave, `waves/2024-01.csv`:

```text
{texts}
{wave}```
"""

SET_ASIDE = """\
A cell or row that cannot be used stops nothing: it is set aside in `<survey>.quarantine` with its row,
column, value, reason and remedy, and `evsim survey check` shows the same before anything is stored. If more
than 5 % of a wave's answer cells are set aside, the wave [waits](#too-many-answers-of-a-wave-are-unusable).
Numbers and names are those of the examples; people are named by their pseudonym.

| reason | remedy | example: column and value |
|---|---|---|
{rows}

Answers of a person who is in several waves, of which one counts, are no errors: they are in
`<survey>.superseded`, with the reason "{superseded}".
"""


def page() -> str:
    """The whole page, everything tried anew."""
    contents = " · ".join(f"[{title}](#{title.lower().replace(' ', '-')})" for title in SECTIONS)
    beginning = BEGINNING.format(contents=contents, codebook=CODEBOOK, texts=TEXTS, wave=WAVE)
    return "\n".join([beginning, *(f"## {title}\n\n{write()}" for title, write in SECTIONS.items())])


def _tried(situations: Sequence[Situation]) -> str:
    return "\n".join(_entry(situation) for situation in situations)


def _entry(situation: Situation) -> str:
    blocks = [*situation.shown, ("console", message(situation))]
    return f"### {situation.title}\n\n" + "\n".join(
        f"```{language}\n{text}\n```\n" for language, text in blocks
    )


def _set_aside() -> str:
    """The reasons for quarantine, each with its first example."""
    first = {kind_of(row.reason): row for row in reversed(quarantine.quarantined())}
    rows = [
        f"| {row.reason} | {row.remedy} | `{row.column}`: `{row.value}` |" for row in reversed(first.values())
    ]
    return SET_ASIDE.format(rows="\n".join(rows), superseded=quarantine.superseded())


SECTIONS: dict[str, Callable[[], str]] = {
    "Codebook": partial(_tried, codebook.SITUATIONS),
    "Question tables and interventions": partial(_tried, tables.SITUATIONS),
    "Raw files": partial(_tried, raw_files.SITUATIONS),
    "Waves and columns": partial(_tried, waves.SITUATIONS),
    "Reasons for quarantine": _set_aside,
    "Splits and held-out": partial(_tried, prompts.SPLITTING),
    "Prompts and lengths": partial(_tried, prompts.PROMPTS),
}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
