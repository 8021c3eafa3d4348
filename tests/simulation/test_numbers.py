"""How numbers are found in texts and in tokens."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from evsim_assets.simulation.numbers import (
    NumberTokens,
    classify_tokens,
    first_number,
    may_grow_into_answer,
    on_scale,
)
from evsim_assets.specs.errors import BadInput


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
