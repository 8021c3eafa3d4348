"""Answer distributions against every continuation, one by one, and against `generate`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import chisquare

from evsim_assets.prompts.chat import render
from evsim_assets.simulation.answer_walk import walk_answers
from evsim_assets.simulation.distributions import answer_distributions, number_tokens
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Decoding
from tests.simulation.reference import generate_texts, texts_by_brute_force
from tests.simulation.vocabularies import TINY

TEMPERATURES = (0.0, 0.25, 1.0)
LIMITS = (
    Decoding(max_new_tokens=4),
    Decoding(max_new_tokens=4, top_k=3),
    Decoding(max_new_tokens=4, top_k=7, top_p=0.8),
    Decoding(max_new_tokens=4, top_p=0.6),
)


def _expected(texts: dict[str, float], low: int, high: int, step: int) -> np.ndarray:
    """Mass of every answer, then off the scale, then no number at the beginning."""
    answers = range(low, high + 1, step)
    mass = np.zeros(len(answers) + 2)
    begins = re.compile(r"\s*([-−]?)([0-9]+)" if low < 0 else r"\s*()([0-9]+)")
    for text, probability in texts.items():
        if not (number := begins.match(text)):
            mass[-1] += probability
        elif (answer := int(number[2]) * (-1 if number[1] else 1)) in answers:
            mass[answers.index(answer)] += probability
        else:
            mass[-2] += probability
    return mass


def _expected_labels(texts: dict[str, float], labels: Sequence[str]) -> np.ndarray:
    """Mass of every label, then off the scale (never), then no label at the beginning."""
    mass = np.zeros(len(labels) + 2)
    longest_first = re.compile("|".join(map(re.escape, sorted(labels, key=len, reverse=True))))
    for text, probability in texts.items():
        found = longest_first.match(text.strip())
        mass[labels.index(found[0]) if found else -1] += probability
    return mass


def _masses(table: pd.DataFrame) -> np.ndarray:
    """(rows, answers + 2) where every prompt has the same scale."""
    return np.column_stack([np.stack(table["probabilities"]), table[["off_scale", "no_number"]]])


@pytest.mark.parametrize("decoding", LIMITS, ids=lambda d: f"k{d.top_k}-p{d.top_p}")
def test_every_mass_equals_the_sum_over_all_texts(
    decoding: Decoding,
    handmade: Any,
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    model, prompts = make_model("llama", len(handmade)).double(), make_prompts(2, 2)
    table = answer_distributions(
        model,
        handmade,
        prompts,
        digit_answers=False,
        temperatures=TEMPERATURES,
        decoding=decoding,
        tolerance=0,
    )
    assert (table["unexpanded"] == 0).all()
    order = list(product(prompts.itertuples(), TEMPERATURES))
    rows = table[["prompt_id", "temperature"]].itertuples(index=False, name=None)
    assert [(p.prompt_id, t) for p, t in order] == list(rows)
    for mass, (prompt, temperature) in zip(_masses(table), order, strict=True):
        ids = handmade(prompt.system + prompt.user)["input_ids"]
        expected = _expected(texts_by_brute_force(model, handmade, ids, temperature, decoding), 0, 12, 1)
        assert np.abs(mass - expected).max() < 1e-6


@pytest.mark.parametrize("name", ["eager", "gemma", "lora"])
@pytest.mark.parametrize("scale", [(0, 20, 10), (-5, 2, 1), (2, 122, 1)])
def test_it_holds_for_other_attention_soft_capped_logits_adapters_and_scales(
    name: str,
    scale: tuple[int, int, int],
    handmade: Any,
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    low, high, step = scale
    model, prompts = make_model(name, len(handmade)), make_prompts(1, 2, low=low, high=high, step=step)
    table = answer_distributions(
        model, handmade, prompts, digit_answers=False, temperatures=(0.7,), decoding=LIMITS[0], tolerance=0
    )
    for mass, prompt in zip(_masses(table), prompts.itertuples(), strict=True):
        ids = handmade(prompt.system + prompt.user)["input_ids"]
        expected = _expected(texts_by_brute_force(model, handmade, ids, 0.7, LIMITS[0]), low, high, step)
        assert np.abs(mass - expected).max() < 1e-6


@pytest.mark.parametrize("name", TINY)
def test_it_holds_for_every_way_to_write_numbers_and_for_labels(
    name: str,
    tiny_tokenizer: Callable[[str], Any],
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    tokenizer = tiny_tokenizer(name)
    model = make_model("llama", len(tokenizer)).double()
    decoding = Decoding(max_new_tokens=4)
    prompts = pd.concat([make_prompts(1, 1, letters="a13")] * 4, ignore_index=True)
    prompts["prompt_id"] = prompts.index.astype(str)
    prompts["low"], prompts["high"] = (0, 0, 1, -3), (100, 9, 5, 3)
    ids = render(tokenizer, prompts["system"][0], prompts["user"][0])[0]
    texts = {t: texts_by_brute_force(model, tokenizer, ids, t, decoding) for t in (0.0, 0.5, 1.0, 3.0)}
    options: dict[str, Any] = {
        "digit_answers": False,
        "temperatures": list(texts),
        "decoding": decoding,
        "tolerance": 0,
    }
    read = answer_distributions(model, tokenizer, prompts, **options)
    for prompt in prompts.itertuples():
        expected = np.array([_expected(some, prompt.low, prompt.high, 1) for some in texts.values()])
        assert np.count_nonzero(expected[-1, :-2]) >= (3 if prompt.low < 0 else 1)
        table = read[read["prompt_id"] == prompt.prompt_id]
        assert np.abs(_masses(table) - expected).max() < 1e-6
    labels = ("1", "31", "−3", "3")
    asked = make_prompts(1, 1, letters="a13", labels=labels)
    table = answer_distributions(model, tokenizer, asked, **options)
    expected = np.array([_expected_labels(some, labels) for some in texts.values()])
    assert np.abs(_masses(table) - expected).max() < 1e-6


def test_what_is_not_read_is_counted_and_bounds_the_error(
    handmade: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model, prompts = make_model("llama", len(handmade)).double(), make_prompts(3, 3)
    exact, rough = (
        answer_distributions(
            model,
            handmade,
            prompts,
            digit_answers=False,
            temperatures=TEMPERATURES,
            decoding=Decoding(),
            tolerance=tolerance,
        )
        for tolerance in (1e-7, 0.02)
    )
    assert 0.002 < rough["unexpanded"].max() <= 0.02
    assert exact["unexpanded"].max() <= 1e-7
    assert (rough.loc[rough["temperature"] == 0, "unexpanded"] == 0).all()
    total = _masses(rough).sum(1) + rough["unexpanded"]
    assert np.abs(total - 1).max() < 1e-6
    missing = _masses(exact) - _masses(rough)
    assert missing.min() > -1e-6
    assert np.abs(missing.sum(1) - (rough["unexpanded"] - exact["unexpanded"])).max() < 1e-6


def test_what_is_cut_for_its_number_leaves_the_tolerance_to_later_levels(
    byte_level: Any,
    likes_numbers: Callable[[Any], Any],
    make_prompts: Callable[..., pd.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evsim_assets.simulation.answer_walk.WIDEST", 2)
    model, prompts = likes_numbers(byte_level), make_prompts(3, 2, high=100)
    counts: list[int] = []

    def counted(*given: Any) -> int:
        counts.append(walk_answers(*given))
        return counts[-1]

    monkeypatch.setattr("evsim_assets.simulation.answer_walk.walk_answers", counted)
    for tolerance in (1e-9, 0.1):
        found = answer_distributions(
            model,
            byte_level,
            prompts,
            digit_answers=False,
            temperatures=(1.0,),
            decoding=Decoding(),
            tolerance=tolerance,
        )
        assert found["unexpanded"].min() > 0.1, "two continuations a level are too few for this model"
    assert counts[1] < counts[0]


def test_no_prompt_depends_on_its_neighbours_or_on_the_other_temperatures(
    byte_level: Any, likes_numbers: Callable[[Any], Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model = likes_numbers(byte_level).double()
    prompts = make_prompts(3, 2, letters="abcdefgh ", high=100, length=120)
    options = {"digit_answers": False, "decoding": Decoding(), "tolerance": 1e-3}
    together = answer_distributions(model, byte_level, prompts, temperatures=TEMPERATURES, **options)
    assert 0.02 < together["no_number"].mean() < 0.98
    small = answer_distributions(
        model,
        byte_level,
        prompts.sample(frac=1, random_state=1),
        temperatures=TEMPERATURES,
        batch_tokens=16,
        **options,
    )
    alone = pd.concat(
        answer_distributions(model, byte_level, prompts.iloc[[k]], temperatures=(t,), **options)
        for k in range(len(prompts))
        for t in TEMPERATURES
    )
    masses = ["off_scale", "no_number", "unexpanded"]
    for other in (small, alone):
        pair = together.merge(other, on=["prompt_id", "temperature"], suffixes=("", "_other"))
        assert len(pair) == len(together)
        assert np.abs(np.stack(pair["probabilities"]) - np.stack(pair["probabilities_other"])).max() < 1e-6
        assert np.abs(pair[masses].to_numpy() - pair[[f"{m}_other" for m in masses]].to_numpy()).max() < 1e-6


@pytest.mark.parametrize("name", ["digits apart", "three digits"])
@pytest.mark.parametrize("low", [0, -3])
def test_in_single_precision_no_batch_and_no_packing_changes_a_probability(
    name: str,
    low: int,
    tiny_tokenizer: Callable[[str], Any],
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    # Batches round otherwise, and an error of a logit counts 1/T times: colder ones are tested below.
    apart = _apart_by_batch(
        tiny_tokenizer(name), lambda model: model, make_model, make_prompts, low, (0.0, 0.5, 1.0)
    )
    assert apart < 1e-6


@pytest.mark.parametrize("name", ["digits apart", "three digits"])
def test_in_double_precision_that_holds_at_every_temperature(
    name: str,
    tiny_tokenizer: Callable[[str], Any],
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    temperatures = (0.0, 0.1, 0.25, 0.5, 1.0)
    apart = _apart_by_batch(
        tiny_tokenizer(name), lambda model: model.double(), make_model, make_prompts, 0, temperatures
    )
    assert apart < 1e-6


def _apart_by_batch(
    tokenizer: Any,
    held: Callable[[Any], Any],
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
    low: int,
    temperatures: Sequence[float],
) -> float:
    """The largest difference of a mass between several batch sizes and orders."""
    model = held(make_model("llama", len(tokenizer), spread=0.3))
    prompts = make_prompts(6, 3, letters="a13 ", low=low, high=13, length=60)
    shuffled = prompts.sample(frac=1, random_state=1)
    tables = [
        answer_distributions(
            model,
            tokenizer,
            asked,
            digit_answers=False,
            temperatures=temperatures,
            decoding=Decoding(max_new_tokens=4),
            tolerance=1e-6,
            batch_tokens=batch_tokens,
        )
        for asked, batch_tokens in [(prompts, 4096), (shuffled, 16), (shuffled, 200), (shuffled, 4096)]
    ]
    alone, *others = (_masses(table.sort_values(["prompt_id", "temperature"])) for table in tables)
    return max(float(np.abs(alone - other).max()) for other in others)


def test_the_same_prompt_is_read_once(
    handmade: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    prompts = make_prompts(4, 2)
    prompts["system"], prompts["user"] = "a", ["a", "1"] * 4
    told: list[tuple[int, int]] = []
    table = answer_distributions(
        make_model("llama", len(handmade)),
        handmade,
        prompts,
        digit_answers=False,
        temperatures=(1.0,),
        decoding=Decoding(),
        on_progress=lambda done, of: told.append((done, of)),
    )
    assert told == [(2, 2)]
    assert len(table) == 8
    assert np.array_equal(table["probabilities"][0], table["probabilities"][6])
    assert not np.array_equal(table["probabilities"][0], table["probabilities"][1])


def test_digit_answers_read_the_other_prompt_on_the_scale_0_to_9(
    handmade: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model, prompts = make_model("llama", len(handmade)), make_prompts(1, 1)
    with pytest.raises(BadInput, match="no 0–9 form"):
        answer_distributions(
            model, handmade, prompts, digit_answers=True, temperatures=(1.0,), decoding=LIMITS[0]
        )
    prompts["user_digit"] = "212"
    table = answer_distributions(
        model, handmade, prompts, digit_answers=True, temperatures=(1.0,), decoding=LIMITS[0], tolerance=0
    )
    ids = handmade(prompts["system"][0] + "212")["input_ids"]
    expected = _expected(texts_by_brute_force(model, handmade, ids, 1.0, LIMITS[0]), 0, 9, 1)
    assert np.abs(_masses(table)[0] - expected).max() < 1e-6


def test_a_model_that_computes_no_numbers_is_refused(
    handmade: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model = make_model("llama", len(handmade))
    model.lm_head.weight.data[3, 2] = torch.nan
    with pytest.raises(BadInput, match="not finite numbers"):
        answer_distributions(
            model, handmade, make_prompts(1, 1), digit_answers=False, temperatures=(1.0,), decoding=Decoding()
        )


def _compared(
    model: Any,
    tokenizer: Any,
    prompts: pd.DataFrame,
    temperature: float,
    decoding: Decoding,
    count: int,
) -> tuple[float, float, float]:
    """`count` texts from `generate` against the distribution: the p-value of chi-square, where masses too
    small are pooled; the total variation; and what that stays below but once in a million times.

    If the texts follow p, then by Jensen's inequality the total variation of their frequencies f from it
    is E ½ Σ |f − p| ≤ ½ Σ √(p(1 − p)/n), and since one text moves it by at most 1/n, by McDiarmid's it
    exceeds that by ε with a probability of at most exp(−2nε²): for one in a million ε = √(ln 10⁶ / 2n).
    """
    table = answer_distributions(
        model, tokenizer, prompts, digit_answers=False, temperatures=(temperature,), decoding=decoding
    )
    low, high, system, user = prompts.loc[0, ["low", "high", "system", "user"]]
    texts = generate_texts(
        model,
        tokenizer,
        render(tokenizer, system, user)[0],
        number_tokens(model, tokenizer),
        temperature=temperature,
        decoding=decoding,
        count=count,
        seed=1,
    )
    observed = _expected(Counter(texts), low, high, 1)
    expected = _masses(table)[0]
    unread = table["unexpanded"][0] + abs(expected.sum() + table["unexpanded"][0] - 1)
    variation = np.abs(observed / count - expected).sum() / 2
    bound = np.sqrt(np.clip(expected * (1 - expected), 0, None) / count).sum() / 2
    bound += np.sqrt(np.log(1e6) / (2 * count)) + unread
    expected *= count / expected.sum()
    rare = expected < 5
    expected = np.append(expected[~rare], expected[rare].sum() + 1e-9)
    observed = np.append(observed[~rare], observed[rare].sum())
    if expected[-1] < 5:
        expected, observed = expected[:-1], observed[:-1]
    assert len(expected) > 4, "the comparison needs several outcomes"
    p_value = chisquare(observed, expected * observed.sum() / expected.sum()).pvalue
    return float(p_value), float(variation), float(bound)


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(top_k=6, top_p=0.95)], ids=["whole", "limited"])
def test_twenty_thousand_generated_texts_fit_the_distribution(
    decoding: Decoding,
    handmade: Any,
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    model = make_model("llama", len(handmade), spread=0.4)
    assert _compared(model, handmade, make_prompts(1, 1), 0.8, decoding, 20_000)[0] > 0.001


@pytest.mark.slow
@pytest.mark.parametrize("low", [0, -20])
@pytest.mark.parametrize("name", ["every number", "byte_level"])
def test_five_thousand_texts_fit_it_where_numbers_and_letters_have_many_spellings(
    name: str,
    low: int,
    full_tokenizer: Callable[[str], Any],
    likes_numbers: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
    request: pytest.FixtureRequest,
) -> None:
    tokenizer = request.getfixturevalue(name) if name == "byte_level" else full_tokenizer(name)
    model = likes_numbers(tokenizer, ("-7", "7", "12", "−3", "100", "- 5", "I think -10"))
    prompts = make_prompts(1, 1, letters="abcdefgh", low=low, high=100)
    p_value, variation, bound = _compared(model, tokenizer, prompts, 1.2, Decoding(max_new_tokens=4), 5000)
    assert p_value > 0.001
    assert variation < bound < 0.1


@pytest.mark.slow
def test_generated_texts_fit_the_distribution_with_llama_2s_tokenizer(
    llama2: Any, likes_numbers: Callable[[Any], Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    prompts = make_prompts(1, 1, letters="rate your car 12 ", high=100, length=40)
    assert _compared(likes_numbers(llama2), llama2, prompts, 1.0, Decoding(), 800)[0] > 0.001


NEGATIVE = ("-3", "-2", "-1", "0", "1", "3", "-12", "−2", "- 1", "-", "I think 2")


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.7, 1.4])
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "untrained"])
@pytest.mark.parametrize(
    ("name", "low", "high"), [("digits apart", -3, 3), ("three digits", 0, 100)], ids=lambda value: str(value)
)
def test_a_hundred_thousand_generated_texts_fit_the_distribution(
    name: str,
    low: int,
    high: int,
    trained: bool,
    temperature: float,
    full_tokenizer: Callable[[str], Any],
    likes_numbers: Callable[..., Any],
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    tokenizer = full_tokenizer(name)
    prompts = make_prompts(1, 1, letters="abcdefgh", low=low, high=high, length=1)
    if trained:
        model = likes_numbers(tokenizer, *([NEGATIVE] if low < 0 else []))
    else:
        model = make_model("llama", len(tokenizer), spread=0.4)
    decoding = Decoding(max_new_tokens=4)
    p_value, variation, bound = _compared(model, tokenizer, prompts, temperature, decoding, 100_000)
    assert p_value > 1e-4
    assert variation < bound < 0.03
