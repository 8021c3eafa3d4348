"""A prompt's tokens are the beginning of the full text's, and lengths are counts of those tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evsim_assets.prompts.chat import render
from evsim_assets.prompts.lengths import token_lengths
from evsim_assets.specs.errors import BadInput

MODEL = Path(__file__).resolve().parents[2] / "data" / "models" / "s"


@pytest.fixture
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(MODEL), local_files_only=True)


def test_prompt_and_answer_make_up_the_chat_template_s_text(tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "You are {}."}, {"role": "user", "content": "Score:"}]
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    full = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": "72"}], tokenize=False)
    prompt, answer = render(tokenizer, "You are {}.", "Score:", "72")
    assert prompt == tokenizer(asked, add_special_tokens=False)["input_ids"]
    assert prompt + answer == tokenizer(full, add_special_tokens=False)["input_ids"]
    assert "72" in tokenizer.decode(answer) and answer


def test_reading_and_training_see_the_same_prompt(tokenizer: Any) -> None:
    read, nothing = render(tokenizer, "s", "u")
    assert nothing == []
    assert all(render(tokenizer, "s", "u", str(answer))[0] == read for answer in (0, 7, 10, 100))


def test_a_tokenizer_without_a_chat_template_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(BadInput, match="no chat template") as caught:
        render(tokenizer, "s", "u")
    assert caught.value.value == tokenizer.name_or_path and "chat_template" in str(caught.value.remedy)


def test_a_template_whose_prompt_does_not_begin_the_text_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}Score{% endif %}"
    )
    with pytest.raises(BadInput, match="beginning of the full text") as caught:
        render(tokenizer, "s", "u", "7")
    assert caught.value.remedy
    render(tokenizer, "s", "u")  # without an answer there is nothing to compare


def test_lengths_are_means_and_the_tree_shares_common_beginnings(tokenizer: Any) -> None:
    system = {"a": "You are {age: young}.", "b": "You are {age: old, gender: Man}."}
    rows = [
        (person, question, system[person], user, answer)
        for person in ("a", "b")
        for question, user, answer in [
            ("first", "From 0 to 100?", 7),
            ("second", "Eat more. From 0 to 100?", 72),
        ]
    ]
    prompts = pd.DataFrame(rows, columns=["participant", "question", "system", "user", "answer"])
    table = token_lengths(prompts, tokenizer, "s").set_index("question")
    texts = {
        (person, question): render(tokenizer, says, user, str(answer))
        for person, question, says, user, answer in rows
    }
    for question in ("first", "second"):
        both = [texts[person, question] for person in "ab"]
        assert table.loc[question, "texts"] == 2
        assert table.loc[question, "prompt_tokens"] == sum(len(p) for p, _ in both) / 2
        assert table.loc[question, "answer_tokens"] == sum(len(a) for _, a in both) / 2
    # What two texts share is what they have in common at the beginning, counted token by token.
    whole = {key: prompt + answer for key, (prompt, answer) in texts.items()}
    shared = 0
    for person in "ab":
        pairs = zip(whole[person, "first"], whole[person, "second"], strict=False)
        shared += next(i for i, (x, y) in enumerate(pairs) if x != y)
    total = sum(map(len, whole.values()))
    assert shared > 10
    assert table.loc["all", "text_tokens"] == total / 2
    assert table.loc["all", "tree_tokens"] == (total - shared) / 2
    assert table.loc["all", "sharing"] == pytest.approx(total / (total - shared))
    assert table.loc["all", "participants"] == 2 and set(table["model"]) == {"s"}
