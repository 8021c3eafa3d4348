"""Writes docs/columns.md: what every column of every stored table means. Run: python docs/write_columns.py

Belongs here: the page around the words. Not here: the words (`evsim_assets/columns.yaml`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from evsim_resources.columns import DEMOGRAPHIC, TableWords, all_tables  # noqa: E402
from evsim_resources.lake import OF_A_SURVEY  # noqa: E402

PAGE = ROOT / "docs" / "columns.md"
BEGINNING = """\
<!-- Written by docs/write_columns.py from evsim_assets/columns.yaml: do not edit. -->
# Columns of all tables

What every column of every stored table means, in the words that Dagster shows beside its type (asset, then
*Columns*). Tables are read with `evsim sql`, as `<study>.<table>` or `<survey>.<table>`.
[measures.md](measures.md) has the formulas of measures and how to read them, [answers.md](answers.md) what a
model's masses are. *From* names the columns of the same study's tables that a column is computed from; one
without comes from the codebook or the study file.

{contents}
"""


def page() -> str:
    """The whole page."""
    tables = all_tables()
    surveys = {name: words for name, words in tables.items() if name in OF_A_SURVEY}
    studies = {name: words for name, words in tables.items() if name not in OF_A_SURVEY}
    listed = [
        f"{whose}: " + ", ".join(f"[`{name}`](#{name})" for name in of)
        for whose, of in (("Of a survey", surveys), ("Of a study", studies))
    ]
    parts = [BEGINNING.format(contents="\n\n".join(listed))]
    parts += ["\n".join(_section(name, words)) for name, words in (surveys | studies).items()]
    return "\n".join(parts) + "\n"


def _section(name: str, words: TableWords) -> Iterator[str]:
    yield f"## {name}\n\n{words.about}\n"
    told = bool(words.sources)
    yield "| column | what it is |" + (" from |" if told else "")
    yield "|---|---|" + ("---|" if told else "")
    for column in words.columns:
        shown = "*a demographic*" if column == DEMOGRAPHIC else f"`{column}`"
        said = words.columns[column].replace("{demographic}", "demographic").replace("|", "\\|")
        sources = ", ".join(f"`{table}.{source}`" for table, source in words.sources.get(column, ()))
        yield f"| {shown} | {said} |" + (f" {sources} |" if told else "")
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
