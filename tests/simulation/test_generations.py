"""Generated answers: really what the model would have written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare

from evsim_assets.prompts.chat import render
from evsim_assets.simulation.distributions import answer_distributions, number_tokens
from evsim_assets.simulation.generations import generations
from evsim_assets.simulation.numbers import first_number
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Decoding
from tests.simulation.reference import generate_texts

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
