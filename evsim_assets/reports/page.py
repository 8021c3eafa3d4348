"""The page analysts open: one HTML file with everything in it.

Belongs here: the page's order, its words, escaping. Not here: figures' and tables' content.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Rows = list[list[str]]

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem;color:#1b1b1b}
.simulated{background:#fff3cd;border:1px solid #d9b100;padding:.7rem 1rem;font-weight:600}
table{border-collapse:collapse;font-size:13px;margin:.6rem 0}
th,td{border-bottom:1px solid #ddd;padding:.25rem .6rem;text-align:right;white-space:nowrap}
th.text,td.text{text-align:left}td.text:last-child{white-space:normal}
th{position:sticky;top:0;background:#f4f4f4;white-space:normal;vertical-align:bottom}
.wide{overflow:auto;max-height:40rem}img{max-width:100%}
nav a{margin-right:1.2rem}h2{border-top:2px solid #ddd;padding-top:.8rem;margin-top:2.2rem}
figure{margin:1.2rem 0}figcaption{color:#555;font-size:13px}
"""


@dataclass(frozen=True)
class Picture:
    """A figure of the page: its heading, what it shows, PNG bytes, and its file's name beside the page."""

    heading: str
    caption: str
    png: bytes
    file: str


@dataclass(frozen=True)
class Table:
    """A table of the page: its heading, what it shows, and rows of cells, the header first."""

    heading: str
    caption: str
    rows: Rows


@dataclass(frozen=True)
class Section:
    """What belongs together on the page: a heading, and pictures and tables in their order."""

    heading: str
    parts: Sequence[Picture | Table]

    @property
    def pictures(self) -> list[Picture]:
        """Those of the parts that are pictures."""
        return [part for part in self.parts if isinstance(part, Picture)]


def render_page(
    title: str,
    survey: str,
    source: str,
    *,
    simulated: bool,
    note: str = "",
    sections: Sequence[Section] = (),
    remarks: Sequence[str] = (),
) -> str:
    """The whole page as HTML that needs no other file and no network. Every text is escaped.

    Args:
        title: the study's. survey, source: the survey's title and where its data are from.
        simulated: whether its answers are a stand-in; then the page says so before any number.
        note: the study's own words. sections: those without parts are left out.
        remarks: what is missing and why, one sentence each.
    """
    parts = [f"<h1>{escape(title)}</h1>", f"<p>Survey: {escape(survey)}<br>Source: {escape(source)}</p>"]
    if simulated:
        parts.append(
            '<p class="simulated">SIMULATED: the human answers of this survey are a generated stand-in.'
            " No number on this page says anything about real people.</p>"
        )
    if note:
        parts.append(f"<p>{escape(note)}</p>")
    filled = [section for section in sections if section.parts]
    if len(filled) > 1:
        links = (f'<a href="#{at}">{escape(section.heading)}</a>' for at, section in enumerate(filled))
        parts.append(f"<nav>{' '.join(links)}</nav>")
    for at, section in enumerate(filled):
        parts.append(f'<h2 id="{at}">{escape(section.heading)}</h2>')
        parts += [_picture(part) if isinstance(part, Picture) else _table(part) for part in section.parts]
    if remarks:
        listed = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
        parts.append(f"<h2>What is missing, and why</h2><ul>{listed}</ul>")
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f"<h3>{escape(picture.heading)}</h3><figure>"
        f'<img alt="{escape(picture.heading)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    header, *rows = table.rows
    kinds = ["" if _is_numeric(column) else ' class="text"' for column in zip(*rows, strict=True)]
    kinds = kinds or [""] * len(header)

    def line(tag: str, cells: Sequence[str]) -> str:
        written = (f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
        return f"<tr>{''.join(written)}</tr>"

    head, body = line("th", header), "".join(line("td", row) for row in rows)
    return (
        f"<h3>{escape(table.heading)}</h3><p>{escape(table.caption)}</p>"
        f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    )


def _is_numeric(column: Sequence[str]) -> bool:
    """Whether the cells are numbers, and so stand at the right."""
    return all(cell[:1] in set("-−—0123456789") for cell in column)
