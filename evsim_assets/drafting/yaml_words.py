"""Texts as YAML that a person reads: quoted only where needed, folded at the usual width.

Belongs here: single values and lists of them. Not here: what a codebook says (`draft.py`).
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence

WIDTH = 110

PLAIN = re.compile(r"[^\W\d_][\w ./()'’+–$£€%-]*[\w)%.'’]|[^\W\d_]|\d{1,3}(?:[–-]\d+)+|0|-?[1-9]\d{0,8}")
RESERVED = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def scalar(text: str, *, as_text: bool = False) -> str:
    """The text as a YAML value that reads as it; `as_text`: where a number must stay a text."""
    number = re.fullmatch(r"-?\d+", text)
    if PLAIN.fullmatch(text) and text.lower() not in RESERVED and not (as_text and number):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in quoted)


def one_line(text: str, longest: int = 60) -> str:
    """The text for a comment: printable, on one line, shortened."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def listed(field: str, values: Sequence[str], indent: str, comment: str = "") -> list[str]:
    """`field: [a, b]`, on several lines where it is long."""
    shown = [scalar(value, as_text=True) for value in values]
    return _flow(field, shown, "[", "]", indent, comment)


def mapped(field: str, values: Mapping[str, str], indent: str, comment: str = "") -> list[str]:
    """`field: {a: b}`, on a line each where it is long."""
    shown = [f"{scalar(key)}: {scalar(value, as_text=True)}" for key, value in values.items()]
    flow = _flow(field, shown, "{", "}", indent, comment)
    if len(flow) == 1:
        return flow
    return [f"{indent}{field}:{comment}", *(f"{indent}  {part}" for part in shown)]


def _flow(field: str, shown: Sequence[str], left: str, right: str, indent: str, comment: str) -> list[str]:
    line = f"{indent}{field}: {left}{', '.join(shown)}{right}"
    if len(line) <= WIDTH:
        return [line + comment]
    lines, rest = [f"{indent}{field}: {left}{comment}"], ""
    for part in shown:
        if rest and len(indent) + 3 + len(rest) + len(part) > WIDTH:
            lines.append(f"{indent}  {rest.rstrip()}")
            rest = ""
        rest += f"{part}, "
    return [*lines, f"{indent}  {rest.rstrip()}", f"{indent}{right}"]


def folded(field: str, text: str, indent: str, comment: str = "") -> list[str]:
    """`field: >-` and the text below, for texts that people write."""
    lines = textwrap.wrap(
        " ".join(text.split()), WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False
    )
    return [f"{indent}{field}: >-{comment}", *(f"{indent}  {line}" for line in lines)]


def comment(text: str, indent: str = "") -> list[str]:
    """The text as comment lines."""
    lines = textwrap.wrap(text, WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False)
    return [f"{indent}# {line}" for line in lines]
