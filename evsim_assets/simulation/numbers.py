"""Numbers as a tokenizer spells them, and as the paper's F finds them in a text.

Belongs here: what each vocabulary entry does to a number that is being written, F itself, and which
numbers can still become an answer. Not here: probabilities (`sampling.py`), models (`reading.py`).

Nothing is assumed of how a tokenizer cuts numbers: `7`, `72`, `▁72`, `Ġ7`, `5,` and the byte `<0x37>` are
all taken by their text, as the tokenizer itself decodes it behind another token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evsim_assets.specs.errors import BadInput

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NO_DIGIT = -1
"""The value of a text that holds no digit yet."""
LARGEST_ANSWER = 10**8
"""Answers stay below; any larger number is off every scale, so token values are capped above it."""

_CAP = 10**9
_SHAPE = re.compile(r"(\s*)([0-9]*)(.*)", re.DOTALL)


def first_number(text: str) -> int | None:
    """F of the paper (section 3): the first run of the digits 0–9, as an integer; None without one.

    Read as Python's int reads it, so leading zeros are dropped: `07` is 7.
    """
    found = re.search("[0-9]+", text)
    return int(found.group()) if found else None


@dataclass(frozen=True)
class NumberTokens:
    """Every vocabulary entry by what it does to a number at the beginning of a text.

    `blank`: int64 (b,), entries of blanks only. `digit`: int64 (c,), entries whose first non-blank
    character is a digit; for each of them `value` (its first run of digits), `shift` (10 to the length
    of that run), `extends` (no blank before it, so it continues a number) and `closes` (something
    follows the run, so no later token can continue it). `silent`: bool (V,), entries without text,
    which end the text (special tokens such as the end of turn, and ids the tokenizer does not know).
    All other entries end a number, and a text that begins with one does not begin with a number.
    """

    blank: Ints
    digit: Ints
    value: Ints
    shift: Ints
    extends: Bools
    closes: Bools
    silent: Bools

    @property
    def columns(self) -> Ints:
        """int64 (b + c,): the entries after which a text may still begin with a number."""
        return np.concatenate([self.blank, self.digit])


@dataclass(frozen=True)
class Scales:
    """The scale of every prompt, int64 (P,) each."""

    low: Ints
    high: Ints
    step: Ints

    def of(self, prompt: Ints) -> tuple[Ints, Ints, Ints]:
        """Low, high and step of each of the numbered prompts."""
        return self.low[prompt], self.high[prompt], self.step[prompt]

    @property
    def sizes(self) -> Ints:
        """How many answers every scale has."""
        return (self.high - self.low) // self.step + 1


def classify_tokens(tokenizer: Any, vocabulary: int, ends: Iterable[int] = ()) -> NumberTokens:
    """Classify the entries 0 … `vocabulary` − 1 (the width of the model's logits).

    Args:
        ends: further entries that end the text, such as the model's own end-of-turn ids.
    """
    texts = token_texts(tokenizer)[:vocabulary]
    texts += [""] * (vocabulary - len(texts))
    for end in ends:
        texts[end] = ""
    silent = np.array([not text for text in texts], dtype=bool)
    blank: list[int] = []
    digit: list[tuple[int, int, int, bool, bool]] = []
    for token, text in enumerate(texts):
        before, run, after = _SHAPE.fullmatch(text).groups()  # type: ignore[union-attr]
        if run:
            digit.append((token, min(int(run), _CAP), min(10 ** len(run), _CAP), not before, bool(after)))
        elif before and not after:
            blank.append(token)
    if not digit:
        raise BadInput(
            "no entry of the tokenizer begins with a digit",
            value=tokenizer.name_or_path,
            remedy="use a tokenizer that can write numbers",
        )
    entry, value, shift, extends, closes = zip(*digit, strict=True)
    return NumberTokens(
        blank=np.array(blank, dtype=np.int64),
        digit=np.array(entry, dtype=np.int64),
        value=np.array(value, dtype=np.int64),
        shift=np.array(shift, dtype=np.int64),
        extends=np.array(extends, dtype=bool),
        closes=np.array(closes, dtype=bool),
        silent=silent,
    )


def token_texts(tokenizer: Any) -> list[str]:
    """The text each entry adds behind another token; empty for special tokens.

    Decoded by the tokenizer itself, behind an anchor, because decoders drop a blank at the beginning
    of a text and write partial characters as the replacement character.
    """
    anchor = tokenizer.encode("a", add_special_tokens=False)[-1:]
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    alone = tokenizer.decode(anchor, **options)
    together = tokenizer.batch_decode([[*anchor, token] for token in range(len(tokenizer))], **options)
    return [text.removeprefix(alone) for text in together]


def on_scale(value: Ints, low: Ints, high: Ints, step: Ints) -> Bools:
    """Whether each value is an answer of its scale low, low + step, … high."""
    result: Bools = (value >= low) & (value <= high) & ((value - low) % step == 0)
    return result


def may_grow_into_answer(value: Ints, low: Ints, high: Ints, step: Ints) -> Bools:
    """Whether one or more further digits can turn each value into an answer of its scale.

    v with k more digits is one of v·10^k … v·10^k + 10^k − 1. Zero may take any number of zeros first.
    """
    result = np.zeros(value.shape, dtype=bool)
    width = 1
    while width <= LARGEST_ANSWER:
        width *= 10
        smallest = np.maximum(value * width, low)
        candidate = smallest + (low - smallest) % step
        result |= candidate <= np.minimum(value * width + width - 1, high)
    return result
