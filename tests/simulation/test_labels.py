"""Questions answered by label: found in texts and tokens, exact against every continuation, and drawn."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import chisquare

from evsim_assets.prompts.chat import render
from evsim_assets.simulation.distributions import answer_distributions, number_tokens
from evsim_assets.simulation.generations import generations
from evsim_assets.simulation.labels import NO_LABEL, LabelTree, first_label
from evsim_assets.simulation.numbers import classify_tokens, first_number
from evsim_assets.simulation.vocabulary import token_bytes
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Decoding
from tests.simulation.reference import generate_texts, texts_by_brute_force

HANDMADE_LABELS = ("a", "1", "12 2", "12")
WORDS = ("No", "Não – jamais", "Yes", "Yes, 10 times", "否", "Neither likely nor unlikely, it all depends")
FEW = ("No", "Não", "Yes", "Yes, 10", "否")
FOUR = Decoding(max_new_tokens=4)


@pytest.fixture(scope="module")
def says_words(byte_level: Any, make_model: Callable[..., Any]) -> Any:
    """A Llama trained for a moment: it often answers with one of FEW, with a favourite a letter."""
    model, rng = make_model("llama", len(byte_level), spread=0.1), np.random.default_rng(0)
    others = [*FEW, "Yes, 1", "Nein", "否否", "72", "Yes, 80"]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    end = byte_level.eos_token_id
    for _ in range(200):
        texts = []
        for letter in rng.choice(list("abcdefgh"), size=16):
            answer = FEW[ord(letter) % len(FEW)] if rng.random() < 0.4 else str(rng.choice(others))
            prompt, written = render(byte_level, "aa", f"{letter}a", answer)
            texts.append((prompt, written))
        longest = max(len(prompt) + len(written) for prompt, written in texts)
        ids = torch.full((len(texts), longest), end)
        labels = torch.full((len(texts), longest), -100)
        for row, (prompt, written) in enumerate(texts):
            ids[row, : len(prompt) + len(written)] = torch.tensor([*prompt, *written])
            labels[row, len(prompt) : len(prompt) + len(written)] = torch.tensor(written)
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def _label_by_pattern(text: str, labels: Sequence[str]) -> int | None:
    """The longest label at the beginning, by a regular expression."""
    longest_first = sorted(labels, key=len, reverse=True)
    found = re.match("|".join(map(re.escape, longest_first)), text.strip())
    return labels.index(found[0]) if found else None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Yes", 2),
        (" \n Yes, of course", 2),
        ("Yes, 10 times a day", 3),
        ("Yesterday", 2),
        ("yes", None),
        ("I say Yes", None),
        ("\u00a0否。", 4),
        ("", None),
    ],
)
def test_a_text_answers_with_the_longest_label_it_begins_with(text: str, found: int | None) -> None:
    assert first_label(text, WORDS) == found == _label_by_pattern(text, WORDS)


def _label_by_tokens(tree: LabelTree, labels: tuple[str, ...], tokens: Sequence[int], silent: Any) -> int:
    state = tree.root(labels)
    for token in tokens:
        onward = tree.onward(state)
        at = np.flatnonzero(onward.token == token)
        if silent[token] or not len(at):
            break
        state = int(onward.state[at[0]])
        if not onward.open[at[0]]:
            return int(onward.outcome[at[0]])
    return tree.found(state)


@pytest.mark.parametrize("name", ["handmade", "byte_level", "llama2"])
def test_tokens_find_the_label_that_stands_in_the_decoded_text(
    name: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(name)
    silent = classify_tokens(tokenizer, len(tokenizer)).silent
    tree = LabelTree(token_bytes(tokenizer, silent))
    rng = np.random.default_rng(1)
    labels = HANDMADE_LABELS if name == "handmade" else WORDS
    found = 0
    for _ in range(1500):
        label = str(rng.choice(labels))
        text = str(rng.choice(["", " ", "\n ", "\u2003"])) + label[: rng.integers(len(label) + 1)]
        text += str(rng.choice(["", " ", ".", label, ", 10 times"]))
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens += [int(t) for t in rng.integers(len(tokenizer), size=rng.integers(3))]
        ends = [k for k, token in enumerate(tokens) if silent[token]]
        written = tokenizer.decode(tokens[: ends[0] if ends else None], clean_up_tokenization_spaces=False)
        expected = _label_by_pattern(written, labels)
        by_tokens = _label_by_tokens(tree, labels, tokens, silent)
        assert by_tokens == (NO_LABEL if expected is None else expected), (tokens, written)
        found += expected is not None
    assert 300 < found < 1400


def test_letters_that_a_tokenizer_cuts_into_bytes_are_bytes(byte_level: Any) -> None:
    silent = np.zeros(len(byte_level), dtype=bool)
    pieces = token_bytes(byte_level, silent)
    tokens = byte_level("Não – 否", add_special_tokens=False)["input_ids"]
    assert b"".join(pieces[token] for token in tokens) == "Não – 否".encode()
    assert any("�" in byte_level.decode([token]) for token in tokens)


def test_labels_that_are_the_same_are_refused() -> None:
    with pytest.raises(BadInput, match="the same"):
        LabelTree([b"a"]).root(("a", " a"))


def _expected(texts: dict[str, float], labels: Sequence[str]) -> np.ndarray:
    """Mass of every label, then off the scale (never), then no label at the beginning."""
    mass = np.zeros(len(labels) + 2)
    for text, probability in texts.items():
        found = _label_by_pattern(text, labels)
        mass[-1 if found is None else found] += probability
    return mass


def _masses(table: pd.DataFrame) -> np.ndarray:
    return np.column_stack([np.stack(table["probabilities"]), table[["off_scale", "no_number"]]])


def _read(model: Any, tokenizer: Any, prompts: pd.DataFrame, *temperatures: float, **given: Any) -> Any:
    options: dict[str, Any] = {"decoding": FOUR, "tolerance": 0, "digit_answers": False, **given}
    return answer_distributions(model, tokenizer, prompts, temperatures=temperatures, **options)


@pytest.mark.parametrize(
    "limits", [{}, {"top_k": 7, "top_p": 0.8}], ids=["whole vocabulary", "top k and top p"]
)
@pytest.mark.parametrize("labels", [HANDMADE_LABELS, ("0 2", "0", "1a", "1 a")], ids=str)
def test_every_mass_equals_the_sum_over_all_texts(
    labels: tuple[str, ...],
    limits: dict[str, Any],
    handmade: Any,
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    decoding = Decoding(max_new_tokens=4, **limits)
    model, prompts = make_model("llama", len(handmade)).double(), make_prompts(2, 2, labels=labels)
    table = _read(model, handmade, prompts, 0.0, 0.25, 1.0, decoding=decoding)
    assert (table["unexpanded"] == 0).all() and (table["off_scale"] == 0).all()
    expected = [
        _expected(texts_by_brute_force(model, handmade, ids, temperature, decoding), labels)
        for ids in (handmade(p.system + p.user)["input_ids"] for p in prompts.itertuples())
        for temperature in (0.0, 0.25, 1.0)
    ]
    assert np.abs(_masses(table) - expected).max() < 1e-6


def test_a_label_may_take_more_tokens_than_a_number_would(
    handmade: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model = make_model("llama", len(handmade)).double()
    labels = ("2a101", "2a10", "1")  # written one character a token
    prompts = make_prompts(1, 1, labels=labels)
    table = _read(model, handmade, prompts, 2.0)
    ids = handmade(prompts["system"][0] + prompts["user"][0])["input_ids"]
    texts = texts_by_brute_force(model, handmade, ids, 2.0, Decoding(max_new_tokens=5))
    expected = _expected(texts, labels)
    assert expected[0] > 0 and np.abs(_masses(table)[0] - expected).max() < 1e-6
    assert table["probabilities"][0][0] == pytest.approx(expected[0], rel=1e-4)


def test_what_is_not_read_is_reported_and_bounds_the_error(
    byte_level: Any, says_words: Any, make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model = copy.deepcopy(says_words).double()
    prompts = make_prompts(3, 2, letters="abcdefgh", labels=FEW, length=1)
    exact = _read(model, byte_level, prompts, 1.0, tolerance=1e-7)
    rough = _read(model, byte_level, prompts, 1.0, tolerance=0.15)
    assert 0.001 < rough["unexpanded"].max() <= 0.15
    assert np.abs(_masses(rough).sum(1) + rough["unexpanded"] - 1).max() < 1e-6
    missing = _masses(exact) - _masses(rough)
    assert missing.min() > -1e-6
    assert np.abs(missing.sum(1) - (rough["unexpanded"] - exact["unexpanded"])).max() < 1e-6


def _both_kinds(make_prompts: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Three people who answer two questions by number and two by label."""
    numbers = make_prompts(3, 2, letters="abcdefgh", high=100, length=1)
    words = make_prompts(3, 2, letters="abcdefgh", labels=FEW, length=1, seed=1)
    words["question"] += "-words"
    words["prompt_id"] += "-words"
    words["system"] = numbers["system"]
    return pd.concat([numbers, words]).sort_values("participant", kind="stable", ignore_index=True)


def test_numbers_and_labels_stand_in_one_table_and_do_not_depend_on_each_other(
    byte_level: Any, says_words: Any, make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model = copy.deepcopy(says_words).double()
    prompts = _both_kinds(make_prompts)
    options = {"decoding": FOUR, "tolerance": 1e-5}
    together = _read(model, byte_level, prompts, 0.0, 1.0, **options).set_index(["prompt_id", "temperature"])
    by_label = prompts["labels"].notna()
    for part in (prompts[by_label], prompts[~by_label]):
        for row in _read(model, byte_level, part, 0.0, 1.0, **options).itertuples():
            other = together.loc[(row.prompt_id, row.temperature)]
            assert row.probabilities == pytest.approx(other["probabilities"], abs=1e-6)
            assert row.no_number == pytest.approx(other["no_number"], abs=1e-6)
    sizes = together["probabilities"].map(len)
    assert set(sizes) == {101, len(FEW)}

    def drawn(asked: pd.DataFrame) -> pd.DataFrame:
        table = generations(
            lambda: (model, byte_level),
            asked,
            together.reset_index(),
            temperature=1.0,
            seed=3,
            replicates=30,
            digit_answers=False,
            **options,
        )
        return table.set_index(["prompt_id", "replicate"])

    everything = drawn(prompts)
    for part in (prompts[by_label], prompts[~by_label]):  # alone, each kind has its own limit of tokens
        alone = drawn(part)
        pd.testing.assert_frame_equal(everything.loc[alone.index], alone)
        assert set(alone["made_by"]) == {"decode", "distribution"}
    numbers = everything.loc[prompts["prompt_id"][~by_label]]
    said = numbers["text"].map(first_number)
    assert (numbers["answer"].isna() == (said.isna() | (said > 100))).all()


@pytest.mark.parametrize("tolerance", [1e-5, 0.03], ids=["all-read", "much-unread"])
def test_answers_and_decoded_texts_follow_the_models_own_sampling(
    tolerance: float,
    byte_level: Any,
    says_words: Any,
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    model = says_words
    prompts = make_prompts(1, 1, letters="abcdefgh", labels=FEW, length=1)
    n, options = 3000, {"decoding": FOUR, "tolerance": tolerance}
    table = generations(
        lambda: (model, byte_level),
        prompts,
        _read(model, byte_level, prompts, 1.0, **options),
        temperature=1.0,
        seed=3,
        replicates=n,
        digit_answers=False,
        **options,
    )
    ids, _ = render(byte_level, prompts["system"][0], prompts["user"][0])
    longest = max(len(render(byte_level, "a", "b", label)[1]) for label in FEW)
    assert longest > FOUR.max_new_tokens  # so the labels' own length is the limit
    reference = generate_texts(
        model,
        byte_level,
        ids,
        number_tokens(model, byte_level),
        temperature=1.0,
        decoding=Decoding(max_new_tokens=longest),
        count=2 * n,
        seed=1,
    )
    answers = table["answer"].astype(object)
    ours = Counter("none" if pd.isna(a) else FEW[int(a)] for a in answers)
    theirs = Counter(
        "none" if (at := _label_by_pattern(text, FEW)) is None else FEW[at] for text in reference
    )
    assert len(theirs) == 6 and _p_value(ours, theirs) > 0.001
    assert (table["success"] == table["text"].map(lambda t: _label_by_pattern(t, FEW) is not None)).all()
    assert set(table.loc[table["made_by"] == "distribution", "text"]) <= set(FEW)
    if tolerance < 0.01:  # then a decoded text is one that begins with no label
        decoded = Counter(text[:3] for text in table.loc[table["made_by"] == "decode", "text"])
        others = Counter(text[:3] for text in reference if _label_by_pattern(text, FEW) is None)
        assert decoded.total() > 50 and _p_value(decoded, others) > 0.001


def _p_value(ours: Counter[str], theirs: Counter[str]) -> float:
    """Two-sample chi-square; rare outcomes are pooled."""
    common = [key for key, count in theirs.items() if count >= 20]
    table = np.array(
        [
            [*(sample[key] for key in common), sample.total() - sum(sample[key] for key in common)]
            for sample in (ours, theirs)
        ],
        dtype=float,
    )
    table = table[:, table.sum(0) > 0]
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    return float(chisquare(table.ravel(), expected.ravel(), ddof=table.shape[1]).pvalue)


def test_greedy_answers_are_the_labels_of_greedy_generate(
    byte_level: Any, says_words: Any, make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model = says_words
    prompts = make_prompts(12, 2, letters="abcdefgh", labels=FEW, length=1)
    table = _read(model, byte_level, prompts, 0.0, decoding=Decoding())
    longest = max(len(render(byte_level, "a", "b", label)[1]) for label in FEW)
    found = set()
    for row, prompt in zip(table.itertuples(), prompts.itertuples(), strict=True):
        (text,) = generate_texts(
            model,
            byte_level,
            render(byte_level, prompt.system, prompt.user)[0],
            number_tokens(model, byte_level),
            temperature=0,
            decoding=Decoding(max_new_tokens=longest),
            count=1,
            seed=0,
        )
        expected = _expected({text: 1.0}, FEW)
        assert [*row.probabilities, row.off_scale, row.no_number] == expected.tolist()
        found.add(int(expected.argmax()))
    assert len(found) > 1


def test_labels_that_do_not_fit_the_scale_are_refused(
    handmade: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    prompts = make_prompts(1, 1, labels=HANDMADE_LABELS).assign(high=9)
    with pytest.raises(BadInput, match="4 labels for 10 answers"):
        _read(make_model("llama", len(handmade)), handmade, prompts, 1.0)
