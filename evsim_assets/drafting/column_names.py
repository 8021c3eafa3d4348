"""What the names of raw columns have in common: one word that differs, numbers, before and after.

Belongs here: names alone. Not here: what is in the columns (`guess.py`, `recognise.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PRE_WORDS = {"pre", "before", "baseline", "pretest", "t1", "w1"}
POST_WORDS = {"post", "after", "endline", "posttest", "t2", "w2"}
MOST_WORDS = 4
"""Words in which the names of one question table may differ: Bosnia and Herzegovina."""


@dataclass(frozen=True)
class Template:
    """Names that are alike but for one part: what stands `before` it, and `after`."""

    before: str
    after: str

    @property
    def length(self) -> int:
        """How much of the names is the same."""
        return len(self.before) + len(self.after)

    def item(self, name: str) -> str | None:
        """What is between, of a name that fits; None of one that does not."""
        if len(name) <= self.length or not name.startswith(self.before) or not name.endswith(self.after):
            return None
        start, end = len(self.before), len(name) - len(self.after)
        between = name[start:end].strip(" _.:?!-()[]")
        fits = _is_border(name, start) and _is_border(name, end)
        return between if fits and between and len(words_of(between)) <= MOST_WORDS else None


def words_of(name: str) -> list[str]:
    """The words of a name, lower-case: `livingArea_2` is living, area, 2."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?\d?(?!\d)|\d+", apart.lower()) or re.findall(
        r"\w+", apart.lower()
    )


def common_template(names: Sequence[str]) -> Template | None:
    """What all the names begin and end with, cut between words; None where they share no word."""
    start = _alike(names)
    while start and not all(_is_border(name, start) for name in names):
        start -= 1
    rest = [name[start:] for name in names]
    end = _alike([name[::-1] for name in rest])
    while end and not all(
        len(r) > end and _is_border(n, len(n) - end) for n, r in zip(names, rest, strict=True)
    ):
        end -= 1
    first = names[0]
    template = Template(first[:start], first[len(first) - end :] if end else "")
    return template if re.search(r"[^\W_]", template.before + template.after) else None


def _alike(names: Sequence[str]) -> int:
    """How many characters all the names begin with."""
    columns = zip(*names, strict=False)
    return next((n for n, letters in enumerate(columns) if len(set(letters)) > 1), min(map(len, names)))


def _is_border(name: str, at: int) -> bool:
    """Whether a word ends or begins there."""
    if at in (0, len(name)):
        return True
    left, right = name[at - 1], name[at]
    if left.islower() and right.isupper():
        return True
    return (left.isalpha(), left.isdigit()) != (right.isalpha(), right.isdigit()) or not left.isalnum()


def numbered(names: Iterable[str]) -> dict[str, dict[int, str]]:
    """Names that end in a number, by what stands before it: {"post": {1: "post_1", 2: "post_2"}}."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        if parts := re.fullmatch(r"(.*?\D)[ _.:-]*(\d{1,3})", name):
            found.setdefault(parts[1].rstrip(" _.:-"), {})[int(parts[2])] = name
    return found


def before_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that are alike but for the words before and after: ("trust_pre", "trust_post")."""
    asked = {_without(words_of(name), PRE_WORDS): name for name in names if set(words_of(name)) & PRE_WORDS}
    pairs = []
    for name in names:
        rest = _without(words_of(name), POST_WORDS)
        if set(words_of(name)) & POST_WORDS and rest in asked and asked[rest] != name:
            pairs.append((asked.pop(rest), name))
    return pairs


def _without(words: list[str], left_out: set[str]) -> tuple[str, ...]:
    return tuple(word for word in words if word not in left_out)


def identifier(name: str, taken: Iterable[str], otherwise: str, longest: int = 40) -> str:
    """A name for tables, lower-case with underscores, that is not taken yet."""
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^a-z0-9]+", "_", ascii_only.lower()).strip("_") or otherwise
    while len(plain) > longest and "_" in plain[:longest]:
        plain = plain[: plain[: longest + 1].rindex("_")]
    plain, known, count = plain[:longest].strip("_"), set(taken), 2
    if plain not in known:
        return plain
    while f"{plain}_{count}" in known:
        count += 1
    return f"{plain}_{count}"
