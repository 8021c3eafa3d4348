"""Whether an adapter's probabilities depend on what should not matter: batches, merging, how 4 bits are held.

Belongs here: the variants of one adapter, and the largest difference of a probability between each and the
adapter as it is read. Not here: how an adapter is loaded (`adapters/base_model.py`), what becomes of a
difference (`assets.py`).

Compared are distributions over the whole vocabulary, read in full: where top-k or top-p cuts, and where
greedy decoding decides (T = 0), two that are equal but for rounding may fall on either side. At T = 0 such
flips are counted, and nothing follows from them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.simulation.distributions import answer_distributions
from evsim_assets.specs.seeds import keyed_rank
from evsim_assets.specs.study import ComputeSpec, Decoding, Method, ParitySpec

Loaded = tuple[Any, Any]
"""(model, tokenizer)"""

TOLERANCE = {"fp32": 1e-4, "bf16": 0.02}
"""Largest difference of a probability by the precision of the arithmetic, where the study names none."""
BESIDE = 2
"""Prompts of one participant that are compared, so that what they share is shared where they are read."""
ALONE = "every prompt alone"
MERGED = "LoRA merged into its base"
IN_FOUR_BITS = "weights kept in 4 bits"
IN_FULL = "base in full precision"
TOO_LARGE = "the base is kept in 4 bits, since dequantized it would be too large"
COLUMNS = ["variant", "largest_difference", "temperature", "prompt_id", "flips", "blocks", "reason"]


@dataclass(frozen=True)
class Variant:
    """Another way to hold the same adapter. `load` is None where there is a reason not to try it."""

    name: str
    load: Callable[[], Loaded] | None
    blocks: bool = True
    reason: str | None = None


def variants(method: Method, load: Callable[..., Loaded], *, kept_in_4_bits: bool) -> list[Variant]:
    """The ways in which an adapter trained by `method` can be held, other than the one it is read in.

    Args:
        load: a fresh load of the adapter; `method` and `resident` as arguments take the place of its own.
        kept_in_4_bits: whether it is read with 4-bit weights. They cannot be merged into without being
            quantized again, and any other variant would not fit where they are kept.
    """
    if method not in ("lora", "qlora"):
        return []
    if method == "lora":
        return [Variant(MERGED, lambda: merged(*load()))]
    if kept_in_4_bits:
        return [Variant(name, None, reason=TOO_LARGE) for name in (MERGED, "dequantized once", IN_FULL)]
    return [
        Variant(MERGED, lambda: merged(*load(resident=False))),
        Variant(IN_FOUR_BITS, lambda: load(resident=True)),
        Variant(IN_FULL, lambda: load(method="lora"), blocks=False),
    ]


def merged(model: Any, tokenizer: Any) -> Loaded:
    """The base model with its LoRA weights added to its own; `model` is used up."""
    return model.merge_and_unload().eval(), tokenizer


def compared_prompts(prompts: pd.DataFrame, count: int) -> pd.DataFrame:
    """The first `count` prompts by keyed order of their participants, `BESIDE` of one beside each other."""
    nth = prompts.groupby("participant", sort=False).cumcount().to_numpy()
    rank = prompts["participant"].map(lambda participant: keyed_rank("parity", str(participant)))
    return prompts.iloc[np.lexsort((nth, rank.to_numpy(), nth // BESIDE))[:count]]


def compare(
    load: Callable[[], Loaded],
    others: Sequence[Variant],
    prompts: pd.DataFrame,
    *,
    digit_answers: bool,
    temperatures: Sequence[float],
    decoding: Decoding,
) -> pd.DataFrame:
    """The adapter of `load`, its prompts read together, beside each prompt read alone and all `others`.

    Of the models one is held at a time, that of `load` last.

    Returns:
        One row a variant: COLUMNS. `largest_difference` of the probability of any answer, of `off_scale` and
        of `no_number`, over prompts and temperatures above 0, and where it is (`temperature`, `prompt_id`);
        NaN where one is not finite. `flips`: prompts whose greedy answer is another one. `blocks`: whether
        the difference must stay within the tolerance. `reason`: why it was not compared.
    """
    tempered = [*temperatures] if any(temperatures) else [*temperatures, 1.0]
    whole = decoding.model_copy(update={"top_k": None, "top_p": None, "reading": "full"})

    def read(loaded: Loaded, chosen: pd.DataFrame) -> pd.DataFrame:
        return answer_distributions(
            *loaded, chosen, digit_answers=digit_answers, temperatures=tempered, decoding=whole
        )

    tables = []
    for other in others:
        if other.load is not None:
            tables.append(read(other.load(), prompts))
            _free()
    own = load()
    together = read(own, prompts)
    alone = pd.concat([read(own, prompts.iloc[[row]]) for row in range(len(prompts))], ignore_index=True)
    rows = [_row(Variant(ALONE, load), together, alone)]
    left = iter(tables)
    rows += [_row(other, together, None if other.load is None else next(left)) for other in others]
    return pd.DataFrame(rows, columns=COLUMNS)


def tolerance_of(spec: ParitySpec, compute: ComputeSpec) -> float:
    """The largest difference that passes."""
    return TOLERANCE[compute.precision] if spec.tolerance is None else spec.tolerance


def beyond(comparisons: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """The rows that block: a difference above the tolerance, or one that is no number.

    Below temperature 1 a difference counts times the temperature: rounding of logits is divided by it.
    """
    compared = comparisons["reason"].isna() & comparisons["blocks"]
    within = comparisons["largest_difference"] * comparisons["temperature"].clip(upper=1) <= tolerance
    return comparisons[compared & ~within]


def _row(variant: Variant, own: pd.DataFrame, other: pd.DataFrame | None) -> dict[str, Any]:
    named = {"variant": variant.name, "blocks": variant.blocks, "reason": variant.reason}
    if other is None:
        return named
    ours, theirs = _masses(own), _masses(other)
    greedy = (own["temperature"] == 0).to_numpy()
    flips = (ours[greedy].argmax(1) != theirs[greedy].argmax(1)).sum()
    difference = np.where(greedy, -1.0, np.abs(ours - theirs).max(1))
    counts = difference * own["temperature"].clip(upper=1).to_numpy()
    at = int(np.where(greedy, -1.0, counts).argmax())  # the first that is not a number, if there is one
    worst = own.iloc[at]
    return named | {
        "largest_difference": float(difference[at]),
        "temperature": float(worst["temperature"]),
        "prompt_id": worst["prompt_id"],
        "flips": int(flips),
    }


def _masses(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Answers, off_scale and no_number of every row, the answers filled up with zeros: (rows, widest + 2)."""
    widest = int(table["probabilities"].map(len).max())
    answers = [np.pad(np.asarray(p, dtype=np.float64), (0, widest - len(p))) for p in table["probabilities"]]
    return np.hstack([np.stack(answers), table[["off_scale", "no_number"]].to_numpy(np.float64)])


def _free() -> None:
    """Give back what a model held, before the next one is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
