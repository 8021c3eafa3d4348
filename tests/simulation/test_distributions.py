"""Answer distributions against every continuation, one by one, and against `generate`."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import chisquare

from evsim_assets.simulation.distributions import answer_distributions, number_tokens
from evsim_assets.simulation.numbers import first_number
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Decoding
from tests.simulation.reference import generate_texts, texts_by_brute_force

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
    for text, probability in texts.items():
        if not re.match(r"\s*[0-9]", text):
            mass[-1] += probability
        elif (number := first_number(text)) in answers:
            mass[answers.index(number)] += probability
        else:
            mass[-2] += probability
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


def test_what_is_not_read_is_counted_and_bounds_the_error(
    handmade: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model, prompts = make_model("llama", len(handmade)), make_prompts(3, 3)
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
    assert rough["unexpanded"].max() > 0.02
    assert (rough.loc[rough["temperature"] == 0, "unexpanded"] == 0).all()
    total = _masses(rough).sum(1) + rough["unexpanded"]
    assert np.abs(total - 1).max() < 1e-6
    missing = _masses(exact) - _masses(rough)
    assert missing.min() > -1e-6
    assert np.abs(missing.sum(1) - (rough["unexpanded"] - exact["unexpanded"])).max() < 1e-6


def test_no_prompt_depends_on_its_neighbours_or_on_the_other_temperatures(
    byte_level: Any, likes_numbers: Callable[[Any], Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model = likes_numbers(byte_level).double()
    prompts = make_prompts(5, 3, letters="abcdefgh ", high=100, length=120)
    options = {"digit_answers": False, "decoding": Decoding()}
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
    with pytest.raises(BadInput, match="not numbers"):
        answer_distributions(
            model, handmade, make_prompts(1, 1), digit_answers=False, temperatures=(1.0,), decoding=Decoding()
        )


def _chi_square(
    model: Any, tokenizer: Any, prompts: pd.DataFrame, temperature: float, decoding: Decoding, count: int
) -> float:
    """p-value of `count` texts from `generate` against the distribution; masses too small are pooled."""
    table = answer_distributions(
        model, tokenizer, prompts, digit_answers=False, temperatures=(temperature,), decoding=decoding
    )
    low, high = int(prompts["low"][0]), int(prompts["high"][0])
    system, user = prompts[["system", "user"]].iloc[0]
    ids = tokenizer.apply_chat_template(
        [{"role": "system", "content": system}, {"role": "user", "content": user}], return_dict=True
    )["input_ids"]
    texts = generate_texts(
        model,
        tokenizer,
        ids,
        number_tokens(model, tokenizer),
        temperature=temperature,
        decoding=decoding,
        count=count,
        seed=1,
    )
    expected = _masses(table)[0] * count
    expected[-1] += table["unexpanded"][0] * count
    observed = _expected({}, low, high, 1)
    for text in texts:
        observed += _expected({text: 1.0}, low, high, 1)
    rare = expected < 5
    expected = np.append(expected[~rare], expected[rare].sum() + 1e-9)
    observed = np.append(observed[~rare], observed[rare].sum())
    if expected[-1] < 5:
        expected, observed = expected[:-1], observed[:-1]
    assert len(expected) > 4, "the comparison needs several outcomes"
    return float(chisquare(observed, expected * observed.sum() / expected.sum()).pvalue)


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(top_k=6, top_p=0.95)], ids=["whole", "limited"])
def test_twenty_thousand_generated_texts_fit_the_distribution(
    decoding: Decoding,
    handmade: Any,
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    model = make_model("llama", len(handmade), spread=0.4)
    assert _chi_square(model, handmade, make_prompts(1, 1), 0.8, decoding, 20_000) > 0.001


@pytest.mark.slow
def test_generated_texts_fit_the_distribution_with_llama_2s_tokenizer(
    llama2: Any, likes_numbers: Callable[[Any], Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    prompts = make_prompts(1, 1, letters="rate your car 12 ", high=100, length=40)
    assert _chi_square(likes_numbers(llama2), llama2, prompts, 1.0, Decoding(), 800) > 0.001
