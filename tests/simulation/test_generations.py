"""Generated answers: really what the model would have written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare

from evsim_assets.prompts.chat import render
from evsim_assets.simulation.answer_walk import NO_ANSWER, Outcomes, walk_answers
from evsim_assets.simulation.asked import asked_prompts
from evsim_assets.simulation.distributions import answer_distributions, number_tokens, walk_of
from evsim_assets.simulation.generations import generations
from evsim_assets.simulation.numbers import first_number
from evsim_assets.simulation.reading import read_prompts
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Audit, Decoding
from tests.simulation.reference import generate_texts, texts_by_brute_force

DECODING = Decoding(max_new_tokens=4)


def _generated(
    model: Any,
    tokenizer: Any,
    prompts: pd.DataFrame,
    temperature: float,
    *,
    decoding: Decoding = DECODING,
    tolerance: float = 1e-3,
    batch_tokens: int = 8192,
    seed: int = 3,
    replicates: int = 1,
) -> pd.DataFrame:
    options: dict[str, Any] = {
        "digit_answers": False,
        "decoding": decoding,
        "tolerance": tolerance,
        "batch_tokens": batch_tokens,
    }
    table = answer_distributions(model, tokenizer, prompts, temperatures=(0.0, 0.5, 1.0), **options)
    return generations(
        lambda: (model, tokenizer),
        prompts,
        table,
        temperature=temperature,
        seed=seed,
        replicates=replicates,
        **options,
    )


@pytest.mark.parametrize("tolerance", [1e-5, 0.03], ids=["all-read", "much-unread"])
@pytest.mark.parametrize("limits", [{}, {"top_k": 7, "top_p": 0.9}], ids=["whole", "limited"])
def test_answers_and_decoded_texts_follow_the_models_own_sampling(
    tolerance: float,
    limits: dict[str, Any],
    handmade: Any,
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    model, decoding = make_model("llama", len(handmade), spread=0.4), Decoding(max_new_tokens=4, **limits)
    prompts = make_prompts(1, 1, high=20)
    n = 6000
    table = _generated(model, handmade, prompts, 1.0, decoding=decoding, tolerance=tolerance, replicates=n)
    ids, _ = render(handmade, prompts["system"][0], prompts["user"][0])
    reference = generate_texts(
        model,
        handmade,
        ids,
        number_tokens(model, handmade),
        temperature=1.0,
        decoding=decoding,
        count=4 * n,
        seed=1,
    )
    assert (table["made_by"] == "decode").sum() > n / 10
    ours = Counter(str(a) for a in table["answer"].astype(object))
    theirs = Counter(
        str(a) if (a := first_number(text)) is not None and a <= 20 else "<NA>" for text in reference
    )
    assert _p_value(ours, theirs, n) > 0.001
    numbers = table.loc[table["made_by"] == "distribution", "text"]
    assert (numbers == table["answer"].astype(str)[numbers.index]).all()
    if tolerance < 0.01:  # then every decoded text is one that does not begin with an answer
        decoded = Counter(table.loc[table["made_by"] == "decode", "text"])
        begins = {text: first_number(text) for text in set(reference) if text.strip()[:1].isdigit()}
        others = Counter(t for t in reference if t not in begins or begins[t] not in range(21))
        assert _p_value(decoded, others, sum(decoded.values())) > 0.001


def _p_value(observed: Counter[str], sample: Counter[str], n: int) -> float:
    """Two-sample chi-square of `observed` (n) against a larger sample; rare outcomes are pooled."""
    size = sum(sample.values())
    common = [key for key, count in sample.items() if count * n / size >= 20]
    assert len(common) > 4
    ours = np.array([observed[key] for key in common] + [n - sum(observed[key] for key in common)])
    theirs = np.array([sample[key] for key in common] + [size - sum(sample[key] for key in common)])
    pooled = (ours + theirs) / (n + size)
    kept = pooled > 0
    return float(
        chisquare(
            np.concatenate([ours[kept], theirs[kept]]),
            np.concatenate([pooled[kept] * n, pooled[kept] * size]),
            ddof=int(kept.sum()),
        ).pvalue
    )


def test_greedy_texts_are_those_of_greedy_generate(
    handmade: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model = make_model("llama", len(handmade), seed=2)
    prompts = make_prompts(20, 3)
    table = _generated(model, handmade, prompts, 0.0)
    assert set(table["made_by"]) == {"decode", "distribution"}
    for row, prompt in zip(table.itertuples(), prompts.itertuples(), strict=True):
        ids, _ = render(handmade, prompt.system, prompt.user)
        (text,) = generate_texts(
            model,
            handmade,
            ids,
            number_tokens(model, handmade),
            temperature=0,
            decoding=DECODING,
            count=1,
            seed=0,
        )
        if row.made_by == "decode":
            assert row.text == text
        else:
            assert row.answer == first_number(text)


def test_no_row_depends_on_the_order_or_the_batch(
    byte_level: Any, likes_numbers: Callable[[Any], Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model = likes_numbers(byte_level)
    prompts = make_prompts(8, 3, letters="abcdefgh ", high=100, length=60)
    together = _generated(model, byte_level, prompts, 1.0, replicates=3, decoding=Decoding())
    assert 5 < (together["made_by"] == "decode").sum() < 67
    shuffled = prompts.sample(frac=1, random_state=0)
    parts = [
        _generated(model, byte_level, part, 1.0, replicates=2, decoding=Decoding(), batch_tokens=200)
        for part in (shuffled.iloc[:5], shuffled.iloc[5:])
    ]
    keys = ["prompt_id", "replicate"]
    one = together[together["replicate"] < 2].sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(one, pd.concat(parts).sort_values(keys, ignore_index=True))
    other_seed = _generated(model, byte_level, prompts, 1.0, replicates=3, decoding=Decoding(), seed=4)
    assert (other_seed["text"] != together["text"]).mean() > 0.2


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_no_text_depends_on_how_many_are_asked_for_or_on_who_else_is_asked(
    temperature: float,
    handmade: Any,
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    model = make_model("llama", len(handmade), spread=0.4).double()
    prompts = make_prompts(5, 2)
    options: dict[str, Any] = {"tolerance": 0.05}  # much is unread, so what is found could depend on much
    many = _generated(model, handmade, prompts, temperature, replicates=50, **options)
    decoded = many[many["made_by"] == "decode"]
    assert decoded["text"].nunique() > (2 if temperature == 0 else 50)
    keys = ["prompt_id", "replicate"]
    turned = _generated(
        model, handmade, prompts.iloc[::-1], temperature, replicates=50, batch_tokens=16, **options
    )
    pd.testing.assert_frame_equal(
        many.sort_values(keys, ignore_index=True), turned.sort_values(keys, ignore_index=True)
    )
    for replicates in (1, 7):
        few = _generated(model, handmade, prompts, temperature, replicates=replicates, **options)
        expected = many[many["replicate"] < replicates].reset_index(drop=True)
        pd.testing.assert_frame_equal(few, expected)
    for k in range(len(prompts)):
        alone = _generated(model, handmade, prompts.iloc[[k]], temperature, replicates=3, **options)
        expected = many[many["prompt_id"] == prompts["prompt_id"][k]].head(3).reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, expected)


def test_the_ways_to_write_no_answer_are_the_same_whether_or_not_numbers_are_followed(
    handmade: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model = make_model("llama", len(handmade), spread=0.2).double()
    asked = asked_prompts(handmade, make_prompts(5, 4), digit_answers=False)
    every = range(len(asked.tokens))

    def ways(followed: bool) -> dict[tuple[Any, ...], float]:
        within = np.full(len(every), followed)
        walk = walk_of(model, handmade, asked, [1.0], DECODING, 0.01, 4096, within)
        read, logits = read_prompts(model, [[(p, asked.tokens[p]) for p in every]])
        found: dict[tuple[Any, ...], float] = {}

        def keep(ends: Outcomes) -> None:
            for k in np.flatnonzero((ends.outcome == NO_ANSWER) & (ends.mass[:, 0] > 0)):
                found[int(ends.prompt[k]), *ends.path[k].tolist(), int(ends.next[k])] = float(ends.mass[k, 0])

        walk_answers(read, logits, walk, keep)
        return found

    alone, beside = ways(False), ways(True)
    assert len(alone) > 2 * len(every) and max(map(len, alone)) > 3, "some begin with two blanks"
    assert alone == pytest.approx(beside, abs=1e-12)


AUDITED = Decoding(max_new_tokens=4, reading="audited", audit=Audit(at_least=1, share=0.01, limit=0.9))


def _audited(model: Any, tokenizer: Any, prompts: pd.DataFrame) -> pd.DataFrame:
    return answer_distributions(
        model, tokenizer, prompts, digit_answers=False, temperatures=(1.0,), decoding=AUDITED
    )


@pytest.mark.parametrize("seed", [0, 2])
def test_texts_of_prompts_taken_to_end_follow_what_was_stored_of_them(
    seed: int,
    tiny_tokenizer: Callable[[str], Any],
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    tokenizer = tiny_tokenizer("digits apart")
    model = make_model("llama", len(tokenizer), seed=seed, spread=0.4).double()
    prompts = make_prompts(2, 2, letters="a13", high=12, seed=seed)
    table = _audited(model, tokenizer, prompts)
    trusted = int(np.flatnonzero(table["taken"] > 0)[0])
    asked, stored = prompts.iloc[[trusted]], table.iloc[trusted]
    assert stored["taken"] > 0.05 and stored["unexpanded"] > 0.01 and stored["off_scale"] > 0.01
    n = 20_000
    drawn = generations(
        lambda: (model, tokenizer),
        asked,
        table,
        temperature=1.0,
        decoding=AUDITED,
        seed=5,
        digit_answers=False,
        replicates=n,
    )
    ids, _ = render(tokenizer, asked["system"].iloc[0], asked["user"].iloc[0])
    expected: Counter[str] = Counter()
    for text, p in texts_by_brute_force(model, tokenizer, ids, 1.0, AUDITED).items():
        expected[_taken_to_end(text)] += p * n
    observed = Counter(map(_taken_to_end, drawn["text"]))
    assert set(observed) <= set(expected)
    common = [one for one, count in expected.items() if count >= 20]
    assert len(common) > 20
    ours, theirs = (np.array([counts[one] for one in common]) for counts in (observed, expected))
    rest = n - ours.sum(), n - theirs.sum()
    assert chisquare([*ours, rest[0]], [*theirs, rest[1]]).pvalue > 0.001


def _taken_to_end(text: str) -> str:
    """The text, or its number, ended where on 0–12 no further digit could make an answer of it."""
    number = re.match(r"\s*([0-9]*)", text)
    assert number is not None
    ends = (k for k in range(1, len(number[1]) + 1) if int(number[1][:k]) in range(2, 13))
    return str(int(number[1][: next(ends, len(number[1]))] or 0)) if number[1] else text


def test_one_prompt_that_was_read_in_two_ways_is_decoded_in_two_ways(
    tiny_tokenizer: Callable[[str], Any],
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    tokenizer = tiny_tokenizer("digits apart")
    model = make_model("llama", len(tokenizer), seed=2, spread=0.4).double()
    prompts = make_prompts(2, 2, letters="a13", high=12, seed=2)
    table = _audited(model, tokenizer, prompts)
    trusted = int(np.flatnonzero(table["taken"] > 0)[0])
    one = prompts.iloc[[trusted]]
    again = one.assign(prompt_id="again")
    whole = _audited(model, tokenizer, again)  # alone, and so in the audit
    assert table["taken"][trusted] > 0 and whole["taken"][0] == 0
    options: dict[str, Any] = {"temperature": 1.0, "decoding": AUDITED, "seed": 1, "digit_answers": False}
    stored = pd.concat([table, whole])
    together, first, second = (
        generations(lambda: (model, tokenizer), some, stored, replicates=200, **options)
        for some in (pd.concat([again, one]), one, again)
    )
    assert (together["made_by"] == "decode").mean() > 0.2
    pd.testing.assert_frame_equal(together, pd.concat([second, first], ignore_index=True))


def _never() -> tuple[Any, Any]:
    raise AssertionError("the model was loaded")


def test_a_model_that_always_answers_is_never_loaded(make_prompts: Callable[..., pd.DataFrame]) -> None:
    prompts = make_prompts(50, 2, low=10, high=30, step=10)
    certain = pd.DataFrame(
        {
            "prompt_id": prompts["prompt_id"],
            "temperature": 1.0,
            "probabilities": [[0.25, 0.75, 0.0]] * 100,
            "off_scale": 0.0,
            "no_number": 0.0,
            "unexpanded": 0.0,
        }
    )
    table = generations(
        _never,
        prompts,
        certain,
        temperature=1.0,
        decoding=DECODING,
        seed=1,
        digit_answers=False,
        replicates=20,
    )
    assert list(table.columns) == [
        "prompt_id",
        "participant",
        "question",
        "temperature",
        "replicate",
        "text",
        "answer",
        "success",
        "made_by",
        "seed",
    ]
    assert table["answer"].dtype == "Int64"
    assert table["seed"].dtype == "int64"
    assert table["seed"].is_unique
    assert (table["seed"] >= 0).all()
    assert list(table["replicate"][:21]) == [*range(20), 0]
    assert set(table["answer"]) == {10, 20}
    assert (table["text"] == table["answer"].astype(str)).all()
    assert abs((table["answer"] == 10).mean() - 0.25) < 0.04  # four standard errors of 2,000 draws
    tens = (table["answer"] == 10).to_numpy().reshape(100, 20)
    by_prompt = tens.sum(1)  # binomial: neither copies of one draw, nor balanced
    assert 1.5**2 < by_prompt.var() < 2.4**2  # 20 · 0.25 · 0.75 = 1.94²
    assert table["success"].all()
    assert (table["made_by"] == "distribution").all()


def test_scales_and_labels_beside_each_other_draw_their_own_answers(
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    numbers = make_prompts(1, 2, low=10, high=30, step=10)
    below_zero = make_prompts(1, 1, low=-3, high=3).assign(prompt_id="minus")
    words = make_prompts(1, 1, low=1, labels=("no", "rather not", "rather", "yes")).assign(prompt_id="words")
    prompts = pd.concat([words, numbers, below_zero], ignore_index=True)
    certain = pd.DataFrame(
        {
            "prompt_id": ["p0q1", "minus", "p0q0", "words"],  # in another order than the prompts
            "temperature": 0.5,
            "probabilities": [[0, 0, 1.0], [0, 1.0, 0, 0, 0, 0, 0], [0, 1.0, 0], [0, 1.0, 0, 0]],
            "off_scale": 0.0,
            "no_number": 0.0,
            "unexpanded": 0.0,
        }
    )
    table = generations(
        _never,
        prompts,
        certain,
        temperature=0.5,
        decoding=DECODING,
        seed=1,
        digit_answers=False,
        replicates=2,
    )
    assert list(table["text"]) == ["rather not"] * 2 + ["20"] * 2 + ["30"] * 2 + ["-2"] * 2
    assert list(table["answer"]) == [2, 2, 20, 20, 30, 30, -2, -2]


def test_a_text_that_begins_with_words_answers_with_its_first_number_or_fails(
    byte_level: Any, likes_numbers: Callable[[Any], Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model = likes_numbers(byte_level)
    prompts = make_prompts(4, 2, letters="abcdefgh", high=100, length=1)
    table = _generated(model, byte_level, prompts, 1.0, replicates=40, decoding=Decoding())
    decoded = table[table["made_by"] == "decode"]
    words = decoded[~decoded["text"].str.match(r"\s*[0-9]")]
    assert words["success"].any()
    assert not words["success"].all()
    numbers = decoded["text"].map(first_number)
    on_scale = numbers.map(lambda number: number is not None and not pd.isna(number) and number <= 100)
    assert (decoded["success"] == on_scale).all()
    assert (decoded["answer"].notna() == decoded["success"]).all()
    assert (decoded.loc[~decoded.index.isin(words.index), "text"].map(first_number) > 100).all()


def test_a_prompt_without_a_distribution_at_the_temperature_is_named(
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    prompts = make_prompts(1, 1)
    table = pd.DataFrame(
        {
            "prompt_id": ["p0q0"],
            "temperature": [0.5],
            "probabilities": [[1.0]],
            "off_scale": [0.0],
            "no_number": [0.0],
            "unexpanded": [0.0],
        }
    )
    with pytest.raises(BadInput, match="p0q0"):
        generations(_never, prompts, table, temperature=1.0, decoding=DECODING, seed=1, digit_answers=False)
