"""What should not matter to an adapter's probabilities does not, and what does is seen."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from evsim_assets.simulation.distributions import answer_distributions
from evsim_assets.simulation.parity import (
    ALONE,
    IN_FOUR_BITS,
    IN_FULL,
    MERGED,
    TOO_LARGE,
    Variant,
    beyond,
    compare,
    compared_prompts,
    merged,
    tolerance_of,
    variants,
)
from evsim_assets.specs.study import ComputeSpec, Decoding, ParitySpec

Load = Callable[..., tuple[Any, Any]]
TEMPERATURES = [0.0, 0.5, 1.0]


@pytest.fixture
def load(make_model: Callable[..., Any], handmade: Any) -> Load:
    """A fresh LoRA model; `stronger` multiplies what the adapter adds."""

    def fresh(stronger: float = 1.0, **_: Any) -> tuple[Any, Any]:
        model = make_model("lora", len(handmade))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data *= stronger
        return model, handmade

    return fresh


@pytest.fixture
def prompts(make_prompts: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_prompts(4, 3)


def compared(load: Load, others: list[Variant], prompts: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    named: dict[str, Any] = {
        "digit_answers": False,
        "temperatures": TEMPERATURES,
        "decoding": Decoding(max_new_tokens=4),
    }
    return compare(load, others, prompts, **named | changes).set_index("variant")


def read(loaded: tuple[Any, Any], prompts: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    decoding = Decoding(max_new_tokens=4)
    return answer_distributions(
        *loaded, prompts, digit_answers=False, temperatures=TEMPERATURES, decoding=decoding, **changes
    )


def test_batches_and_merging_change_rounding_alone(load: Load, prompts: pd.DataFrame) -> None:
    table = compared(load, variants("lora", load, kept_in_4_bits=False), prompts)
    assert table.index.tolist() == [ALONE, MERGED]
    assert (table["largest_difference"] < 1e-5).all() and (table["flips"] == 0).all()
    assert table["largest_difference"][MERGED] > 0
    assert beyond(table, 1e-5).empty


def test_another_adapter_merged_is_seen_with_the_prompt_where_it_differs_most(
    load: Load, prompts: pd.DataFrame
) -> None:
    other = Variant(MERGED, lambda: merged(*load(stronger=1.5)))
    row = compared(load, [other], prompts).loc[MERGED]
    ours, theirs = read(load(), prompts), read(load(stronger=1.5), prompts)
    apart = {}
    for (_, one), (_, two) in zip(ours.iterrows(), theirs.iterrows(), strict=True):
        lost = [abs(one[name] - two[name]) for name in ("off_scale", "no_number")]
        answers = np.abs(one["probabilities"].astype(float) - two["probabilities"])
        apart[one["prompt_id"], one["temperature"]] = max(answers.max(), *lost)
    tempered = {where: value for where, value in apart.items() if where[1] > 0}
    where = max(tempered, key=lambda where: tempered[where] * min(where[1], 1))  # rounding grows as 1/T
    assert (row["prompt_id"], row["temperature"]) == where
    assert row["largest_difference"] == pytest.approx(tempered[where], abs=1e-5) and tempered[where] > 0.01
    greedy = [value for where, value in apart.items() if where[1] == 0]
    assert row["flips"] == sum(value > 0.5 for value in greedy) > 0
    assert beyond(compared(load, [other], prompts), 1e-4).index.tolist() == [MERGED]


def test_greedy_flips_alone_block_nothing(load: Load, prompts: pd.DataFrame) -> None:
    def tipped() -> tuple[Any, Any]:
        """Two tokens all but tied, the other way round."""
        return tied(-1e-6)

    def tied(tip: float = 1e-6) -> tuple[Any, Any]:
        model, tokenizer = load()
        head = model.get_output_embeddings().weight
        with torch.no_grad():
            head[:] = 0.0
        bias = torch.zeros(len(tokenizer))
        bias[3], bias[4] = 5 + tip, 5
        model.get_output_embeddings().register_forward_hook(lambda module, given, out: out + bias)
        return model, tokenizer

    row = compared(tied, [Variant("tipped", tipped)], prompts).loc["tipped"]
    assert row["flips"] == len(prompts)
    assert row["largest_difference"] < 1e-5 and row["temperature"] > 0


def test_where_only_greedy_answers_are_wanted_probabilities_are_compared_all_the_same(
    load: Load, prompts: pd.DataFrame
) -> None:
    other = Variant(MERGED, lambda: merged(*load(stronger=1.5)))
    row = compared(load, [other], prompts, temperatures=[0.0]).loc[MERGED]
    assert row["temperature"] == 1.0 and row["largest_difference"] > 0.01


def test_a_difference_that_is_no_number_blocks() -> None:
    told = pd.DataFrame({"blocks": True, "reason": None, "largest_difference": [1e-5, np.nan, 2e-4]})
    assert beyond(told.assign(temperature=1.0), 1e-4).index.tolist() == [1, 2]
    # rounding of logits is divided by the temperature
    assert beyond(told.assign(temperature=0.25), 1e-4).index.tolist() == [1]


def test_what_quantization_changes_is_told_and_blocks_nothing(load: Load) -> None:
    held: list[dict[str, Any]] = []

    def recorded(**how: Any) -> tuple[Any, Any]:
        held.append(how)
        return load()

    chosen = variants("qlora", recorded, kept_in_4_bits=False)
    assert [(one.name, one.blocks) for one in chosen] == [
        (MERGED, True),
        (IN_FOUR_BITS, True),
        (IN_FULL, False),
    ]
    for one in chosen:
        assert one.load is not None
        one.load()
    assert held == [{"resident": False}, {"resident": True}, {"method": "lora"}]
    differs = pd.DataFrame(
        {"blocks": [False], "reason": [None], "largest_difference": [0.4], "temperature": [1.0]}
    )
    assert beyond(differs, 1e-4).empty


def test_a_base_too_large_to_dequantize_is_not_and_the_table_says_why(
    load: Load, prompts: pd.DataFrame
) -> None:
    table = compared(load, variants("qlora", load, kept_in_4_bits=True), prompts.head(2))
    assert table["reason"].isna().tolist() == [True, False, False, False]
    assert set(table["reason"].dropna()) == {TOO_LARGE}
    assert beyond(table, 1e-4).empty


@pytest.mark.parametrize("method", ["pretrained", "full"])
def test_without_lora_there_are_only_batches_to_compare(method: Any, load: Load) -> None:
    assert variants(method, load, kept_in_4_bits=False) == []


def test_one_model_is_held_at_a_time(load: Load, prompts: pd.DataFrame) -> None:
    made: list[Any] = []

    def counted() -> tuple[Any, Any]:
        assert not [one for one in made if one() is not None]
        model, tokenizer = load()
        made.append(weakref.ref(model))
        return model, tokenizer

    others = [Variant(name, counted) for name in ("one", "another")]
    compared(counted, others, prompts.head(2))
    assert len(made) == 3


def test_the_same_prompts_are_compared_in_whatever_order_they_come_two_of_a_participant(
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    prompts = make_prompts(10, 3)
    chosen = compared_prompts(prompts, 6)
    assert chosen["participant"].value_counts().tolist() == [2, 2, 2]
    other_way = prompts.sort_values("participant", ascending=False, kind="stable")
    assert compared_prompts(other_way, 6)["prompt_id"].tolist() == chosen["prompt_id"].tolist()
    assert len(compared_prompts(prompts, 25)) == 25 and len(compared_prompts(prompts, 99)) == 30
    assert set(compared_prompts(prompts, 20)["participant"]) == set(prompts["participant"])


@pytest.mark.parametrize(
    ("said", "precision", "tolerance"),
    [(None, "fp32", 1e-4), (None, "bf16", 0.02), (0.3, "fp32", 0.3)],
)
def test_the_tolerance_is_the_studys_or_that_of_the_precision(
    said: float | None, precision: Any, tolerance: float
) -> None:
    assert tolerance_of(ParitySpec(tolerance=said), ComputeSpec(precision=precision)) == tolerance
