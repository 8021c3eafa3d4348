"""What a token does to a number that a model is writing, for `answer_walk.py`.

Belongs here: the states of numbers, and the outcome of each. Not here: which tokens are digits
(`numbers.py`), which continuations are read (`answer_walk.py`). Imports torch; import this module
inside functions.

A text begins with a number when it begins with blanks and then a digit. The state is the value
written so far. A number ends where the next token does not begin with a digit, where its last token
already holds something else ("5,"), or where the text may not grow any longer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evsim_assets.simulation.answer_walk import NO_ANSWER, OFF_SCALE, Bools, Ints, Level, Shares, Steps, Stops
from evsim_assets.simulation.numbers import NO_DIGIT, NumberTokens, Scales, may_grow_into_answer, on_scale

NO_NUMBER_NEXT, NO_DIGIT_NEXT = 1, 2
"""What may not follow a path: a blank or a number; what extends the number."""


@dataclass(frozen=True)
class NumberAnswers:
    """Numbers on the prompts' scales. With `within` (bool, one a prompt) numbers are followed only for
    the prompts that ask for it."""

    numbers: NumberTokens
    scales: Scales
    within: Bools | None = None

    def begin(self, prompt: Ints) -> Ints:
        """Nothing written."""
        return np.full(len(prompt), NO_DIGIT)

    def excluded(self, following: int) -> Ints:
        """The tokens that a code above excludes."""
        numbers = self.numbers
        return numbers.columns if following == NO_NUMBER_NEXT else numbers.digit[numbers.extends]

    def divide(self, prompt: Ints, level: Level, shares: Shares) -> tuple[Stops, Steps]:
        """As `Answers.divide`: blanks and digits go on, within a number only what extends it."""
        numbers, inside = self.numbers, level.state != NO_DIGIT
        p = shares(np.arange(len(level.nodes)), numbers.columns)
        goes_on = np.concatenate([np.zeros(len(numbers.blank), bool), numbers.extends])
        p *= np.where(inside[:, None], goes_on, True)[:, None, :]  # other tokens end the number
        stops = Stops(
            np.where(inside, self._answer(prompt, level.state), NO_ANSWER),
            np.where(inside, NO_DIGIT_NEXT, NO_NUMBER_NEXT),
            level.mass * np.clip(1 - p.sum(-1), 0, None),
        )
        mass = level.mass[:, :, None] * p
        parent, column = np.nonzero(mass.max(1) > 0)
        prompt, before = prompt[parent], level.state[parent]
        is_digit = column >= len(numbers.blank)
        digit = np.maximum(column - len(numbers.blank), 0)
        value = np.maximum(before, 0) * numbers.shift[digit] + numbers.value[digit]
        value = np.where(is_digit, value, NO_DIGIT)
        outcome = np.where(is_digit, self._answer(prompt, value), NO_ANSWER)
        open_ = is_digit & ~numbers.closes[digit]
        open_ &= (outcome >= 0) | may_grow_into_answer(value, *self.scales.of(prompt))
        followed = ~is_digit | (True if self.within is None else self.within[prompt])
        steps = Steps(
            parent,
            numbers.columns[column],
            value,
            outcome,
            open_ | ~is_digit,
            followed,
            mass[parent, :, column],
        )
        return stops, steps

    def _answer(self, prompt: Ints, value: Ints) -> Ints:
        """The index of `value` on its prompt's scale, or OFF_SCALE."""
        low, high, step = self.scales.of(prompt)
        return np.where(on_scale(value, low, high, step), (value - low) // step, OFF_SCALE)
