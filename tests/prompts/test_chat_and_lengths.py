"""A prompt's tokens are the beginning of the full text's, and lengths are counts of those tokens."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsim_assets.prompts.chat import render
from evsim_assets.prompts.lengths import (
    COUNTED_PARTICIPANTS,
    require_within_context,
    token_bound,
    token_lengths,
)
from evsim_assets.specs.errors import BadInput

from ..simulation.conftest import llama2 as llama2

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "data" / "models" / "s"


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


def prompts(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
    columns = ["participant", "question", "system", "user", "target"]
    return pd.DataFrame(rows, columns=columns).assign(template="default")


def tokens_of(tokenizer: Any, row: Any) -> int:
    return sum(len(ids) for ids in render(tokenizer, row.system, row.user, row.target))


def test_lengths_are_counted_and_the_tree_shares_common_beginnings(tokenizer: Any) -> None:
    system = {"a": "You are {age: young}.", "b": "You are {age: old, gender: Man}."}
    rows = [
        (person, question, system[person], user, answer)
        for person in ("a", "b")
        for question, user, answer in [
            ("first", "From 0 to 100?", "7"),
            ("second", "Eat more. From 0 to 100?", "Very likely"),
        ]
    ]
    table = token_lengths(prompts(*rows), tokenizer, "s", None).set_index("question")
    texts = {
        (person, question): render(tokenizer, says, user, answer)
        for person, question, says, user, answer in rows
    }
    for question in ("first", "second"):
        both = [texts[person, question] for person in "ab"]
        assert table.loc[question, "texts"] == table.loc[question, "texts_in_all"] == 2
        assert table.loc[question, "prompt_tokens"] == sum(len(p) for p, _ in both) / 2
        assert table.loc[question, "answer_tokens"] == sum(len(a) for _, a in both) / 2
        assert table.loc[question, "prompt_tokens_max"] == max(len(p) for p, _ in both)
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
    assert table[["context", "over_context", "share_over_context", "longest"]].isna().all(axis=None)


def test_percentiles_are_those_of_every_text_counted(tokenizer: Any) -> None:
    rows = [(f"{i:03d}", "q", "Be.", "word " * i, str(i)) for i in range(100)]
    lengths = sorted(len(render(tokenizer, *row[2:4])[0]) for row in rows)
    found = token_lengths(prompts(*rows), tokenizer, "s", None).iloc[0]
    for p in (5, 50, 95, 99):  # by hand: between the two texts around p / 100 · 99
        place = p * 99 / 100
        below, above = lengths[int(place)], lengths[min(99, int(place) + 1)]
        assert found[f"prompt_tokens_p{p}"] == pytest.approx(below + (above - below) * (place - int(place)))
    assert found["prompt_tokens_max"] == lengths[-1]


def test_who_is_counted_are_the_first_by_id_but_the_context_is_checked_for_all(
    tokenizer: Any, tmp_path: Path
) -> None:
    long = "a very long text indeed " * 100
    rows = [
        (f"{i:04d}", ("x", "y")[i % 2], "Be.", long if i in (700, 900, 901) else "Rate it:", "7")
        for i in reversed(range(1000))
    ]
    table = prompts(*rows).sort_values("participant")
    table.to_parquet(tmp_path / "prompts")
    found = token_lengths(tmp_path / "prompts", tokenizer, "s", 150).set_index("question")
    assert found.loc["all", "participants"] == COUNTED_PARTICIPANTS == 200
    assert found["prompt_tokens_max"].max() < 100  # none of the three is among the first 200
    assert found["texts_in_all"].to_dict() == {"x": 500, "y": 500, "all": 1000}
    assert found["over_context"].to_dict() == {"x": 2, "y": 1, "all": 3}
    assert found["share_over_context"].to_dict() == {"x": 0.004, "y": 0.002, "all": 0.003}
    longest = max(tokens_of(tokenizer, row) for row in table.itertuples())
    assert found.loc["all", "longest"] == longest > 150
    fitting = token_lengths(tmp_path / "prompts", tokenizer, "s", longest).set_index("question")
    assert fitting.loc["all", "over_context"] == 0 and pd.isna(fitting.loc["all", "longest"])
    again = token_lengths(table, tokenizer, "s", 150).set_index("question")
    pd.testing.assert_frame_equal(found, again)
    require_within_context(table, tokenizer, "s", longest)
    with pytest.raises(BadInput) as caught:
        require_within_context(table, tokenizer, "s", 150)
    assert (
        f"3 of 1000 prompts have more than the 150 tokens that the model can read, the longest {longest}"
        in str(caught.value)
    )


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text("ab 1🙂日\n", max_size=60), min_size=1, max_size=12), st.integers(20, 120))
def test_over_context_is_what_tokenizing_everything_finds(texts: list[str], context: int) -> None:
    tokenizer = loaded("s")
    table = prompts(*((f"{i:02d}", "q", text, text, "7") for i, text in enumerate(texts)))
    by_hand = sum(tokens_of(tokenizer, row) > context for row in table.itertuples())
    assert token_lengths(table, tokenizer, "s", context)["over_context"].tolist() == [by_hand, by_hand]


ANY_TEXT = st.text(max_size=40) | st.text("\u0390\ufdfa\u2581\x00 \u1e9e\u0958", max_size=20)
MESSAGES = st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT)
KINDS = ["s", "m", "l", "marked", "nfkc", "nfd", "repeating"]


def check_bound(tokenizer: Any) -> None:
    factor, constant = token_bound(tokenizer)
    roles = ("system", "user", "assistant")

    @settings(deadline=None, max_examples=100)
    @given(MESSAGES)
    def bounded(messages: tuple[str, str, str]) -> None:
        chat = [{"role": role, "content": text} for role, text in zip(roles, messages, strict=True)]
        tokens = len(tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"])
        assert tokens <= factor * sum(len(text.encode()) for text in messages) + constant

    bounded()


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_has_more_tokens_than_its_bytes_allow(kind: str) -> None:
    check_bound(loaded(kind))


def test_nor_has_one_with_the_tokenizer_of_llama_2(llama2: Any) -> None:
    assert token_bound(llama2)[0] == 1
    check_bound(llama2)


def test_a_normalizer_that_makes_texts_longer_makes_the_bound_wider() -> None:
    assert [token_bound(loaded(kind))[0] for kind in ("s", "marked", "repeating")] == [1, 3, 2]
    assert token_bound(loaded("nfkc"))[0] == 11  # one letter of three bytes is a blessing of 33
    assert token_bound(loaded("nfd"))[0] == 3


@cache
def loaded(kind: str) -> Any:
    """A committed model's tokenizer, or that of `s` with another normalizer or template."""
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    models = ROOT / "data" / "models"
    name = kind if (models / kind).exists() else "s"
    tokenizer = AutoTokenizer.from_pretrained(str(models / name), local_files_only=True)
    changed = {
        "marked": normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]),
        "nfkc": normalizers.NFKC(),
        "nfd": normalizers.NFD(),
    }
    if kind in changed:
        tokenizer.backend_tokenizer.normalizer = changed[kind]
    if kind == "repeating":
        tokenizer.chat_template = (
            "{% for m in messages %}{{ m['content'] }}\n{{ m['content'] }}\n{% endfor %}"
        )
    return tokenizer
