"""What a token does to a number that a model is writing, for `answer_walk.py`.

Belongs here: the states of numbers, and the outcome of each. Not here: which tokens are digits
(`numbers.py`), which continuations are read (`answer_walk.py`). Imports torch; import this module
inside functions.

A text begins with a number when it begins with blanks and then a digit; on a scale with answers below
zero also when `-` or `−` stands directly before that digit. The state is the value written so far, or what
of a sign (`numbers.py`). A number ends where the next token does not begin with a digit, where its last
token already holds something else ("5,"), or where the text may not grow any longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evsim_assets.simulation.answer_walk import NO_ANSWER, OFF_SCALE, Bools, Ints, Level, Shares, Steps, Stops
from evsim_assets.simulation.numbers import (
    MINUS_ZERO,
    NO_DIGIT,
    SIGN,
    SIGN_LACKS_ONE,
    SIGN_LACKS_TWO,
    NumberTokens,
    Scales,
    magnitude,
    may_grow_into_answer,
    on_scale,
)

NO_NUMBER_NEXT, NO_DIGIT_NEXT, NO_SIGNED_NUMBER_NEXT, NO_TWO_BYTES_NEXT, NO_BYTE_NEXT = 1, 2, 3, 4, 5
"""What may not follow a path: a blank or a number; what extends the number; a blank, a number or a sign;
the rest of a sign that lacks two bytes, or one."""


@dataclass(frozen=True)
class NumberAnswers:
    """Numbers on the prompts' scales. With `within` (bool, one a prompt) numbers are followed only for
    the prompts that ask for it; with `brief`, those of these prompts are taken to end where no further digit
    could make an answer."""

    numbers: NumberTokens
    scales: Scales
    within: Bools | None = None
    brief: Bools | None = None

    def begin(self, prompt: Ints) -> Ints:
        """Nothing written."""
        return np.full(len(prompt), NO_DIGIT)

    def excluded(self, following: int) -> Ints:
        """The tokens that a code above excludes."""
        return self._columns[self._goes_on[following]]

    def choices(self, state: Ints) -> int:
        """As `Answers.choices`."""
        return len(self._columns)

    def divide(self, prompt: Ints, level: Level, shares: Shares) -> tuple[Stops, Steps]:
        """As `Answers.divide`: blanks, signs and digits go on, within a number only what extends it."""
        before, following = level.state, self._following(prompt, level.state)
        inside = (before >= 0) | (before <= MINUS_ZERO)
        width = len(self._columns)
        if not (self.scales.low[prompt] < 0).any():
            width -= len(self.numbers.signs.token)
        p = shares(np.arange(len(level.nodes)), self._columns[:width])
        p *= self._goes_on[following, None, :width]  # other tokens end the number
        stops = Stops(
            np.where(inside, self._answer(prompt, before), NO_ANSWER),
            following,
            level.mass * np.clip(1 - p.sum(-1), 0, None),
        )
        mass = level.mass[:, :, None] * p
        parent, column = np.nonzero(mass.max(1) > 0)
        prompt = prompt[parent]
        state = self._behind(before[parent], column)
        is_digit = (state >= 0) | (state <= MINUS_ZERO)
        outcome = np.where(is_digit, self._answer(prompt, state), NO_ANSWER)
        grows = self._may_grow(prompt, state)
        open_ = is_digit & ~self._closes[column] & ((outcome >= 0) | grows)
        brief = np.zeros(len(prompt), bool) if self.brief is None else self.brief[prompt]
        followed = ~is_digit | (True if self.within is None else self.within[prompt])
        steps = Steps(
            parent,
            self._columns[column],
            state,
            is_digit,
            outcome,
            open_ | ~is_digit,
            open_ & ~grows & brief,
            followed,
            mass[parent, :, column],
        )
        return stops, steps

    @cached_property
    def _columns(self) -> Ints:
        """int64 (C,): every token that goes on with a number in some state; those of signs come last."""
        return np.concatenate([self.numbers.columns, self.numbers.signs.token])

    @cached_property
    def _closes(self) -> Bools:
        """Bool (C,): whether the token ends its number."""
        numbers = self.numbers
        return np.concatenate([np.zeros(len(numbers.blank), bool), numbers.closes, numbers.signs.closes])

    @cached_property
    def _goes_on(self) -> Bools:
        """Bool (6, C): for each code of `next`, the tokens that it excludes, or that go on instead."""
        numbers, behind = self.numbers, self.numbers.signs.behind
        blank, digit = np.ones(len(numbers.blank), bool), np.ones(len(numbers.digit), bool)
        goes_on = {
            NO_NUMBER_NEXT: (blank, digit, np.zeros(len(behind), bool)),
            NO_DIGIT_NEXT: (~blank, numbers.extends, np.zeros(len(behind), bool)),
            NO_SIGNED_NUMBER_NEXT: (blank, digit, behind == NO_DIGIT),
            NO_TWO_BYTES_NEXT: (~blank, ~digit, behind == SIGN_LACKS_TWO),
            NO_BYTE_NEXT: (~blank, ~digit, behind == SIGN_LACKS_ONE),
        }
        table = np.zeros((max(goes_on) + 1, len(self._columns)), dtype=bool)
        for code, of_code in goes_on.items():
            table[code] = np.concatenate(of_code)
        return table

    def _following(self, prompt: Ints, state: Ints) -> Ints:
        """Of each state the code of what goes on from it."""
        begins = np.where(self.scales.low[prompt] < 0, NO_SIGNED_NUMBER_NEXT, NO_NUMBER_NEXT)
        codes = (begins, NO_TWO_BYTES_NEXT, NO_BYTE_NEXT)
        states = (NO_DIGIT, SIGN_LACKS_TWO, SIGN_LACKS_ONE)
        return np.select([state == one for one in states], codes, NO_DIGIT_NEXT)

    def _behind(self, before: Ints, column: Ints) -> Ints:
        """The state after `before` and a token that goes on from it."""
        numbers = self.numbers
        digit = np.clip(column - len(numbers.blank), 0, len(numbers.digit) - 1)
        value = magnitude(before) * numbers.shift[digit] + numbers.value[digit]
        value = np.where((before == SIGN) | (before <= MINUS_ZERO), MINUS_ZERO - value, value)
        state = np.where(column < len(numbers.blank), NO_DIGIT, value)
        sign = column - len(numbers.columns)
        if (sign >= 0).any():
            state[sign >= 0] = numbers.signs.leaves[sign[sign >= 0]]
        return state

    def _answer(self, prompt: Ints, state: Ints) -> Ints:
        """The index of a written number on its prompt's scale, or OFF_SCALE."""
        low, high, step = self.scales.of(prompt)
        value = np.where(state <= MINUS_ZERO, state - MINUS_ZERO, state)
        return np.where(on_scale(value, low, high, step), (value - low) // step, OFF_SCALE)

    def _may_grow(self, prompt: Ints, state: Ints) -> Bools:
        """Whether further digits may make an answer of the number; one below zero is mirrored."""
        low, high, step = self.scales.of(prompt)
        below, last = state <= MINUS_ZERO, low + (high - low) // step * step
        low, high = np.where(below, -last, low), np.where(below, -low, last)
        return may_grow_into_answer(magnitude(state), low, high, step)
