"""Numbers as a tokenizer spells them, and as the paper's F finds them in a text.

Belongs here: what each vocabulary entry does to a number that is being written, F itself, and which
numbers can still become an answer. Not here: probabilities (`sampling.py`), models (`reading.py`).

Nothing is assumed of how a tokenizer cuts numbers: `7`, `72`, `▁72`, `Ġ7`, `5,` and the byte `<0x37>` are
all taken by their text, as the tokenizer itself decodes it behind another token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evsim_assets.simulation.vocabulary import REPLACEMENT, bytes_of, token_texts
from evsim_assets.specs.errors import BadInput

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NO_DIGIT, SIGN, SIGN_LACKS_TWO, SIGN_LACKS_ONE = -1, -2, -3, -4
"""What a text that holds no digit yet ends with: nothing but blanks; a minus sign; the first one or the
first two bytes of `−`, which lack two or one more."""
MINUS_ZERO = -10
"""A number behind a minus sign is MINUS_ZERO less its magnitude; any other is its own value."""
LARGEST_ANSWER = 10**8
"""Answers stay below; any larger number is off every scale, so token values are capped above it."""

_CAP = 10**9
_SHAPE = re.compile(r"(\s*)([0-9]*)(.*)", re.DOTALL)
_DIGITS = re.compile(rb"([0-9]*)(.*)", re.DOTALL)
_LONG_MINUS = "\u2212".encode()  # U+2212, three bytes: `-` and `−` are minus signs, dashes are not


def number_in(text: str, low: int) -> int | None:
    """F as a scale that begins at `low` needs it: with a sign where there are answers below zero."""
    return signed_number(text) if low < 0 else first_number(text)


def first_number(text: str) -> int | None:
    """F of the paper (section 3): the first run of the digits 0–9, as an integer; None without one.

    Read as Python's int reads it, so leading zeros are dropped: `07` is 7.
    """
    found = re.search("[0-9]+", text)
    return int(found.group()) if found else None


def signed_number(text: str) -> int | None:
    """F with a sign: the first run of digits, negative where `-` or `−` stands directly before it.

    A dash behind the first run makes a range, and a blank parts a sign from its number: `3-5` and `- 3`
    are 3.
    """
    found = re.search("([-\u2212]?)([0-9]+)", text)
    if not found:
        return None
    return -int(found[2]) if found[1] else int(found[2])


@dataclass(frozen=True)
class SignTokens:
    """The entries (s,) that write a minus sign or a part of one, which count on scales below zero.

    Such an entry means something `behind` one state only (NO_DIGIT, SIGN_LACKS_TWO or SIGN_LACKS_ONE) and
    leads to the state `leaves`. Where it holds digits too ("-3"), that is the negative number, and
    `closes` says that something follows them.
    """

    token: Ints
    behind: Ints
    leaves: Ints
    closes: Bools


@dataclass(frozen=True)
class NumberTokens:
    """Every vocabulary entry by what it does to a number at the beginning of a text.

    `blank`: int64 (b,), entries of blanks only. `digit`: int64 (c,), entries whose first non-blank
    character is a digit; for each of them `value` (its first run of digits), `shift` (10 to the length
    of that run), `extends` (no blank before it, so it continues a number) and `closes` (something
    follows the run, so no later token can continue it). `silent`: bool (V,), entries without text,
    which end the text (special tokens such as the end of turn, and ids the tokenizer does not know).
    `signs`: the entries that begin a negative number. All other entries end a number, and a text that
    begins with one does not begin with a number.
    """

    blank: Ints
    digit: Ints
    value: Ints
    shift: Ints
    extends: Bools
    closes: Bools
    silent: Bools
    signs: SignTokens

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
        signs=_sign_tokens(tokenizer, texts),
    )


def _sign_tokens(tokenizer: Any, texts: Sequence[str]) -> SignTokens:
    """The entries that write a minus sign, wholly or in part, by their bytes."""
    found: list[tuple[int, int, int, bool]] = []
    for token, text in enumerate(texts):
        begun = text.lstrip()
        if begun and begun[0] in "-\u2212" + REPLACEMENT:
            blanks = len(text[: len(text) - len(begun)].encode())
            piece = bytes_of(tokenizer, token, text)
            if (step := _sign_step(piece[blanks:], blanks > 0)) is not None:
                found.append((token, *step))
    token_, behind, leaves, closes = np.array(found, dtype=np.int64).reshape(-1, 4).T
    return SignTokens(token_, behind, leaves, closes.astype(bool))


def _sign_step(piece: bytes, after_blank: bool) -> tuple[int, int, bool] | None:
    """`behind`, `leaves` and `closes` of an entry that holds `piece`; None where it writes no sign."""
    lacking = {NO_DIGIT: _LONG_MINUS, SIGN_LACKS_TWO: _LONG_MINUS[1:], SIGN_LACKS_ONE: _LONG_MINUS[2:]}
    for behind, lacks in [(NO_DIGIT, b"-"), *lacking.items()]:
        if after_blank and behind != NO_DIGIT:
            continue  # the blank cuts the sign
        if piece.startswith(lacks):
            run, after = _DIGITS.fullmatch(piece[len(lacks) :]).groups()  # type: ignore[union-attr]
            if run:
                return behind, MINUS_ZERO - min(int(run), _CAP), bool(after)
            return None if after else (behind, SIGN, False)
        if lacks.startswith(piece):
            return behind, next(s for s, lack in lacking.items() if lack == lacks[len(piece) :]), False
    return None


def magnitude(state: Ints) -> Ints:
    """The digits of a state as a number, without the sign; 0 where there are none yet."""
    return np.where(state >= 0, state, np.maximum(MINUS_ZERO - state, 0))


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
