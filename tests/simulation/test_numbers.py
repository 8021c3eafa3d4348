"""How numbers are found in texts and in tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from evsim_assets.prompts.chat import render
from evsim_assets.simulation.answer_walk import NO_ANSWER, OFF_SCALE, Level
from evsim_assets.simulation.number_walk import NumberAnswers
from evsim_assets.simulation.numbers import (
    NumberTokens,
    Scales,
    classify_tokens,
    first_number,
    may_grow_into_answer,
    number_in,
    on_scale,
    signed_number,
)
from evsim_assets.specs.errors import BadInput
from tests.simulation.vocabularies import FULL, MINUS, TINY, byte_level_like, sentencepiece_like


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("As a 52-year-old white man living in an urban area of Minnesota, employed full-time", 52),
        ("As a 36-45 year old white woman living in urban Indiana with a Master's degree", 36),
        ("I'm just an AI, I don't have personal preferences", None),
        ("BEV preference score: 43.", 43),
        ("My current preference for battery electric vehicles (BEVs) is 75.", 75),
        ("10 👷", 10),
        ("80 🚓", 80),
        ("0", 0),
    ],
)
def test_f_reads_the_examples_of_table_8(text: str, number: int | None) -> None:
    assert first_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"), [("07", 7), ("  00", 0), ("1,000", 1), ("٣ then 4", 4), ("", None)]
)
def test_f_drops_leading_zeros_and_knows_no_other_digits(text: str, number: int | None) -> None:
    assert first_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("-3", -3),
        ("−3", -3),  # U+2212
        ("3-5", 3),
        ("- 3", 3),
        ("I'd say −2.", -2),
        ("between -1 and 3", -1),
        ("--3", -3),
        ("a-3", -3),
        ("–3", 3),  # an en dash is no minus sign
        ("٣-3", -3),  # only 0–9 are digits
        ("\n -012", -12),
        ("-0", 0),
        ("7", 7),
        ("-", None),
    ],
)
def test_on_a_scale_below_zero_f_reads_a_sign_that_stands_at_the_number(
    text: str, number: int | None
) -> None:
    assert number_in(text, -3) == signed_number(text) == number
    assert number_in(text, 0) == first_number(text) == (None if number is None else abs(number))


def _number_by_tokens(numbers: NumberTokens, tokens: list[int]) -> int | None:
    """The number at the beginning of a text, by the classes of its tokens alone."""
    digit = {int(token): k for k, token in enumerate(numbers.digit)}
    value = None
    for token in tokens:
        k = digit.get(token)
        if numbers.silent[token] or (k is None and (value is not None or token not in numbers.blank)):
            break
        if k is None:
            continue
        if value is not None and not numbers.extends[k]:
            break
        value = (value or 0) * int(numbers.shift[k]) + int(numbers.value[k])
        if numbers.closes[k]:
            break
    return value


@pytest.mark.parametrize("name", ["handmade", "byte_level", "llama2", "gpt2_like"])
def test_classes_find_the_number_that_f_finds_in_the_decoded_text(
    name: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(name)
    numbers = classify_tokens(tokenizer, len(tokenizer))
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(2000):
        likely = [numbers.blank, numbers.digit, np.arange(len(tokenizer))]
        tokens = [int(rng.choice(likely[rng.choice(3, p=[0.3, 0.5, 0.2])])) for _ in range(6)]
        ends = [k for k, token in enumerate(tokens) if numbers.silent[token]]
        text = tokenizer.decode(tokens[: ends[0] if ends else None], clean_up_tokenization_spaces=False)
        begins = re.match(r"\s*[0-9]", text)
        assert _number_by_tokens(numbers, tokens) == (first_number(text) if begins else None), (tokens, text)
        found += begins is not None
    assert found > 500


@pytest.fixture(scope="session")
def gpt2_like() -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = ["<|end|>", *alphabet, "Ġ7", "72", "Ġ72", "7.", "ĠĠ", "Ċ7"]
    merges = [("Ġ", "7"), ("7", "2"), ("Ġ7", "2"), ("7", "."), ("Ġ", "Ġ"), ("Ċ", "7")]
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(entries)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def test_llama_2_spells_numbers_digit_by_digit_also_as_bytes(llama2: Any) -> None:
    numbers = classify_tokens(llama2, len(llama2))
    assert sorted(llama2.convert_ids_to_tokens(numbers.digit.tolist())) == sorted(
        [*"0123456789", *(f"<0x3{digit}>" for digit in range(10))]
    )
    assert {"▁", "▁▁", "<0x0A>", "<0x20>"} <= set(llama2.convert_ids_to_tokens(numbers.blank.tolist()))
    assert llama2.convert_ids_to_tokens(np.flatnonzero(numbers.silent).tolist()) == ["<unk>", "<s>", "</s>"]


def test_an_entry_may_hold_several_digits_a_blank_before_and_other_text_behind(handmade: Any) -> None:
    numbers = classify_tokens(handmade, 12, ends=[1])
    rows = zip(numbers.digit, numbers.value, numbers.shift, numbers.extends, numbers.closes, strict=True)
    assert [tuple(int(x) for x in row) for row in rows] == [
        (3, 0, 10, 1, 0),
        (4, 1, 10, 1, 0),
        (5, 2, 10, 1, 0),
        (6, 12, 100, 1, 0),
        (7, 1, 10, 0, 0),
        (8, 2, 10, 1, 1),
    ]
    assert numbers.blank.tolist() == [2, 9]
    assert np.flatnonzero(numbers.silent).tolist() == [0, 1, 10, 11]  # </s>, the given end, unknown ids


def test_a_tokenizer_without_digits_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(BadInput, match="begins with a digit"):
        classify_tokens(tokenizer, 1)


@pytest.mark.parametrize("scale", [(0, 100, 1), (0, 9, 1), (1, 7, 2), (50, 60, 5), (0, 100, 10), (-5, 5, 1)])
def test_a_number_may_grow_exactly_when_some_further_digits_make_it_an_answer(
    scale: tuple[int, int, int],
) -> None:
    low, high, step = scale
    answers = {a for a in range(low, high + 1, step) if a >= 0}
    written = {text for a in answers for text in (str(a), f"0{a}", f"00{a}")}
    values = np.arange(200)
    grows = [any(text != str(v) and text.startswith(str(v)) for text in written) for v in values]
    of_scale = [np.full(len(values), number) for number in scale]
    assert may_grow_into_answer(values, *of_scale).tolist() == grows
    assert on_scale(values, *of_scale).tolist() == [v in answers for v in values]


def _outcome_of(text: str, low: int, high: int, step: int) -> int:
    """What a text answers that begins with a number, by a pattern; else NO_ANSWER."""
    sign = "[-−]?" if low < 0 else ""
    if not re.match(rf"\s*{sign}[0-9]", text):
        return NO_ANSWER
    number = number_in(text, low)
    assert number is not None
    return (number - low) // step if number in range(low, high + 1, step) else OFF_SCALE


class _Paths:
    """The walk over tokens by states alone: every token that goes on is as likely as any other."""

    def __init__(self, tokenizer: Any, scale: tuple[int, int, int]) -> None:
        scales = Scales(*(np.array([number]) for number in scale))
        self.numbers = classify_tokens(tokenizer, len(tokenizer))
        self._answers = NumberAnswers(self.numbers, scales)
        self._behind: dict[int, tuple[int, dict[int, tuple[int, int, bool]], set[int]]] = {}
        self._begin = int(self._answers.begin(np.array([0]))[0])

    def outcome(self, tokens: Sequence[int]) -> int:
        """Where a text of these tokens ends up."""
        state, outcome = self._begin, NO_ANSWER
        for token in tokens:
            stopped, steps, excluded = self._of(state)
            assert set(steps) == excluded, "a stop excludes what goes on"
            assert stopped == outcome, "a text that ends answers as one that goes on otherwise"
            if self.numbers.silent[token] or token not in steps:
                return stopped
            state, outcome, goes_on = steps[token]
            if not goes_on:
                return outcome
        return outcome

    def _of(self, state: int) -> tuple[int, dict[int, tuple[int, int, bool]], set[int]]:
        if state not in self._behind:
            nodes: Any = np.array([0])
            level = Level(nodes, np.array([state]), np.ones((1, 1)))
            stops, steps = self._answers.divide(
                nodes, level, lambda chosen, tokens: np.ones((len(chosen), 1, len(tokens)))
            )
            rows = zip(steps.state.tolist(), steps.outcome.tolist(), steps.open.tolist(), strict=True)
            excluded = set(self._answers.excluded(int(stops.next[0])).tolist())
            following = dict(zip(steps.token.tolist(), rows, strict=True))
            self._behind[state] = int(stops.outcome[0]), following, excluded
        return self._behind[state]


SCALES = [(0, 100, 1), (0, 9, 1), (1, 5, 1), (-3, 3, 1), (-100, 100, 50), (-9, -1, 2), (-12, 13, 5)]


def _check_every_text(tokenizer: Any, scale: tuple[int, int, int], longest: int) -> set[int]:
    """Compare the walk with F on every text of at most `longest` tokens; the outcomes met."""
    paths, found = _Paths(tokenizer, scale), set()
    for size in range(longest + 1):
        of_size = list(product(range(len(tokenizer)), repeat=size))
        ends = [next((k for k, t in enumerate(path) if t == 0), size) for path in of_size]
        kept = [list(path[:end]) for path, end in zip(of_size, ends, strict=True)]
        texts = tokenizer.batch_decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for path, text in zip(of_size, texts, strict=True):
            outcome = paths.outcome(path)
            assert outcome == _outcome_of(text, *scale), (tokenizer.convert_ids_to_tokens(path), text)
            found.add(outcome)
    return found


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("name", TINY)
def test_the_walk_ends_where_f_reads_every_text(
    name: str, scale: tuple[int, int, int], tiny_tokenizer: Callable[[str], Any]
) -> None:
    found = _check_every_text(tiny_tokenizer(name), scale, longest=3)
    assert {NO_ANSWER, OFF_SCALE} <= found


BYTES = [b"3", b"1", b"0", b"-", b" ", b"\n", b",", b"a", *(bytes([b]) for b in MINUS), MINUS, "–".encode()]
LETTERS = ["3", "1", "0", "-", "▁", "−", ",", "a", "–"]
"""Their entries may also be broken letters; but no digit in bytes, which a broken letter behind it undoes."""
BROKEN = ["<0x2D>", "<0x0A>", *(f"<0x{byte:02X}>" for byte in MINUS)]


def _joined(pieces: list[Any], longest: int) -> st.SearchStrategy[Any]:
    return st.lists(st.sampled_from(pieces), min_size=1, max_size=longest).map(lambda p: p[0][:0].join(p))


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(_joined(BYTES, 4), max_size=4, unique=True), scale=st.sampled_from(SCALES))
@example(pieces=[MINUS[:2], MINUS[2:] + b"3", b" " + MINUS[:1], MINUS[1:] + b"1-"], scale=(-3, 3, 1))
@example(pieces=[MINUS[:1], b" " + MINUS[1:], MINUS[:2] + b" ", b" " + MINUS[2:]], scale=(-3, 3, 1))
@example(pieces=[b"-", b" -13", b"-0", b"-a"], scale=(-100, 100, 50))
def test_the_walk_agrees_with_f_over_awkward_byte_vocabularies(
    pieces: list[bytes], scale: tuple[int, int, int]
) -> None:
    _check_every_text(byte_level_like(dict.fromkeys([b"a", b"3", *pieces])), scale, longest=4)


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(_joined(LETTERS, 3) | st.sampled_from(BROKEN), max_size=4, unique=True),
    scale=st.sampled_from(SCALES),
)
@example(pieces=["▁", "<0x2D>", "<0xE2>", "<0x88>"], scale=(-3, 3, 1))
def test_the_walk_agrees_with_f_over_awkward_vocabularies_of_letters(
    pieces: list[str], scale: tuple[int, int, int]
) -> None:
    _check_every_text(sentencepiece_like(list(dict.fromkeys(["a", "3", *pieces]))), scale, longest=4)


@pytest.mark.parametrize(
    ("fixture", "name"),
    [
        *(("tiny_tokenizer", name) for name in ("digits apart", "three digits")),
        *(("full_tokenizer", name) for name in FULL),
        ("byte_level", None),
        ("llama2", None),
    ],
)
def test_what_a_model_learns_to_write_is_what_f_and_the_walk_read(
    fixture: str, name: str | None, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(fixture)
    if name is not None:
        tokenizer = tokenizer(name)
    walked = _Paths(tokenizer, (-100, 100, 1))
    for number in (-13, -3, -1, 1, 31) if fixture == "tiny_tokenizer" else (-100, -37, -3, 0, 8, 100):
        answer = render(tokenizer, "a", "a", str(number))[1]
        assert number_in(tokenizer.decode(answer, skip_special_tokens=True), -100) == number
        assert walked.outcome(answer) == number + 100
