"""Other engines: `generate`, text by text, says what the exact way says; vLLM is refused where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pandas as pd
import pytest
import torch
from scipy.stats import chi2_contingency

from evsim_assets.prompts.chat import render
from evsim_assets.simulation.distributions import answer_distributions
from evsim_assets.simulation.engines import Weights
from evsim_assets.simulation.generations import generations
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Decoding

SHORT = Decoding(max_new_tokens=4, tolerance=1e-3)
NO_DISTRIBUTIONS = pd.DataFrame()


def _generated(
    model: Any,
    tokenizer: Any,
    prompts: pd.DataFrame,
    engine: str,
    temperature: float = 1.0,
    *,
    decoding: Decoding = SHORT,
    replicates: int = 1,
    batch_tokens: int = 8192,
) -> pd.DataFrame:
    options: dict[str, Any] = {"digit_answers": False, "batch_tokens": batch_tokens}
    decoding = decoding.model_copy(update={"engine": engine})
    table = NO_DISTRIBUTIONS
    if engine == "exact":
        temperatures = (temperature,)
        table = answer_distributions(
            model, tokenizer, prompts, temperatures=temperatures, decoding=decoding, **options
        )
    return generations(
        lambda: (model, tokenizer),
        prompts,
        table,
        temperature=temperature,
        decoding=decoding,
        seed=3,
        replicates=replicates,
        **options,
    )


@pytest.mark.parametrize(
    ("limits", "labels", "temperature"),
    [({}, (), 1.0), ({"top_k": 4}, (), 1.5), ({"top_p": 0.7}, (), 1.5), ({}, ("1", "a", "2 1", "aaa"), 0.7)],
    ids=["whole", "top-k", "top-p", "labels"],
)
def test_generate_answers_as_the_exact_way_does(
    limits: dict[str, Any],
    labels: tuple[str, ...],
    temperature: float,
    handmade: Any,
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    model, decoding = make_model("llama", len(handmade), spread=0.4), SHORT.model_copy(update=limits)
    prompts = make_prompts(1, 2, high=20, labels=labels)
    exact, plain = (
        _generated(model, handmade, prompts, engine, temperature, decoding=decoding, replicates=2000)
        for engine in ("exact", "decode")
    )
    assert set(plain["made_by"]) == {"generate"}
    for question in prompts["question"]:
        of_both = [table[table["question"] == question] for table in (exact, plain)]
        counts = [one["answer"].astype("string").fillna("none").value_counts() for one in of_both]
        both = pd.concat(counts, axis=1).fillna(0).astype(int)
        common = both.sum(axis=1) >= 20
        both = pd.concat([both[common], both[~common].sum().to_frame().T])
        assert len(both) > 3
        assert chi2_contingency(both[both.sum(axis=1) > 0]).pvalue > 0.001
    prose = [t[t["made_by"] != "distribution"]["text"] for t in (exact, plain)]
    assert len(set(prose[0]) & set(prose[1])) > 10


@pytest.mark.parametrize("kind", ["llama", "lora"])
def test_at_temperature_0_both_write_the_same(
    kind: str, handmade: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model, prompts = make_model(kind, len(handmade)), make_prompts(12, 3)
    exact, plain = (
        _generated(model, handmade, prompts, e, 0.0, replicates=2, batch_tokens=300)
        for e in ("exact", "decode")
    )
    assert exact["answer"].equals(plain["answer"])
    decoded = exact["made_by"] == "decode"
    assert 0 < decoded.sum() < len(exact)
    assert (exact["text"] == plain["text"])[decoded].all()
    assert (plain["text"].to_numpy()[::2] == plain["text"].to_numpy()[1::2]).all()


def test_a_text_depends_neither_on_the_order_nor_on_what_stands_beside_it(
    byte_level: Any, likes_numbers: Callable[[Any], Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model, decoding = likes_numbers(byte_level), Decoding()
    prompts = make_prompts(8, 3, letters="abcdefgh ", high=100, length=30)
    together = _generated(model, byte_level, prompts, "decode", decoding=decoding, replicates=3)
    shuffled = prompts.sample(frac=1, random_state=0)
    parts = [
        _generated(model, byte_level, part, "decode", decoding=decoding, replicates=2, batch_tokens=size)
        for part, size in ((shuffled.iloc[:5], 60), (shuffled.iloc[5:], 400))
    ]
    keys = ["prompt_id", "replicate"]
    one = together[together["replicate"] < 2].sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(one, pd.concat(parts).sort_values(keys, ignore_index=True))
    assert one["text"].nunique() > 20


def test_the_models_own_generation_settings_neither_count_nor_change(
    handmade: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    model, prompts = make_model("llama", len(handmade)), make_prompts(10, 2)
    before = _generated(model, handmade, prompts, "decode")
    settings = {"repetition_penalty": 3.0, "top_k": 1, "min_new_tokens": 4, "temperature": 0.1}
    model.generation_config.update(**settings)
    pd.testing.assert_frame_equal(_generated(model, handmade, prompts, "decode"), before)
    assert {name: getattr(model.generation_config, name) for name in settings} == settings


@pytest.mark.parametrize("engine", ["exact", "decode"])
def test_a_52_year_old_answers_52_as_in_the_paper(
    engine: str, byte_level: Any, make_model: Callable[..., Any], make_prompts: Callable[..., pd.DataFrame]
) -> None:
    prompts = make_prompts(3, 2, letters="abcd", high=100, length=2)
    model = _says(make_model("llama", len(byte_level), spread=0.1), byte_level, prompts, "As a 52-year-old")
    table = _generated(model, byte_level, prompts, engine, decoding=Decoding(tolerance=1e-3), replicates=20)
    begun = table["text"].str.startswith("As a 52-y")
    assert begun.mean() > 0.7
    assert (table.loc[begun, "answer"] == 52).all()
    assert table.loc[begun, "success"].all()
    assert (table.loc[begun, "made_by"] == {"exact": "decode", "decode": "generate"}[engine]).all()


def _says(model: Any, tokenizer: Any, prompts: pd.DataFrame, answer: str) -> Any:
    """The model, trained for a moment to answer so."""
    spelled = tokenizer(answer, add_special_tokens=False).input_ids
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(15):
        for prompt in prompts.itertuples():
            ids = torch.tensor([[*render(tokenizer, prompt.system, prompt.user)[0], *spelled]])
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


def _never() -> tuple[Any, Any]:
    raise AssertionError("the model was loaded")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_vllm_is_refused_where_it_cannot_run_before_anything_is_loaded(
    device: Any, make_prompts: Callable[..., pd.DataFrame]
) -> None:
    if device == "cuda" and find_spec("vllm") is not None:
        pytest.skip("vLLM is installed here")
    weights = Weights("nowhere", None, "pretrained", device, "fp32")
    with pytest.raises(BadInput, match="CUDA only" if device == "cpu" else "not installed") as refused:
        generations(
            _never,
            make_prompts(1, 1),
            NO_DISTRIBUTIONS,
            temperature=1.0,
            decoding=Decoding(engine="vllm"),
            seed=1,
            digit_answers=False,
            weights=weights,
        )
    assert "exact" in str(refused.value)
