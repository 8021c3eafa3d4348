"""How a model takes token trees: found out by trying, not by its name.

Belongs here: setting evsim's attention on a model, and proving that its answers stay what they were. Not
here: the attention (`attention.py`), the layouts (`batch.py`). Imports torch; import this module inside
functions.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import numpy as np
import torch

from evsim_assets.specs.errors import BadInput
from evsim_assets.token_tree.batch import lay_out, logits_at, logits_below
from evsim_assets.token_tree.last_layer import ATTRIBUTE
from evsim_assets.token_tree.tree import Indices, Layout, build_tree

ATTENTION_DROPOUT = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
"""Under which names configurations have it."""

log = logging.getLogger(__name__)

ALIKE = {torch.float32: 1e-4, torch.float64: 1e-8}
"""Largest difference of two logits, in standard deviations of all, that counts as rounding; 0.1 in the
half precisions."""


def prepare(model: Any) -> Layout:
    """Set evsim's attention on `model` and try it; returns the layout in which the model is exact.

    A handful of tokens is read as a tree and as plain texts. Where the two differ, the model gets its own
    attention back, and full texts are packed in one row, or else padded, whichever is exact.

    Raises:
        BadInput: not even padded texts give what the texts give one by one.
    """
    trained = model.training
    model.eval()
    try:
        with torch.no_grad():
            return _prepare(model)
    finally:
        model.train(trained)


def _prepare(model: Any) -> Layout:
    own = model.config._attn_implementation
    if (last := getattr(_plain(model), ATTRIBUTE, None)) is not None:
        last.remove()  # prepared before
    sequences = _sequences(int(model.config.get_text_config().vocab_size))
    wanted = torch.cat([_one_by_one(model, sequence) for sequence in sequences])
    if not torch.isfinite(wanted).all():
        raise BadInput(
            "the model's logits are not finite numbers",
            value=type(_plain(model)).__name__,
            remedy="check the base model's weights and precision",
        )
    reasons: list[str] = []
    layouts: tuple[Layout, ...] = ("tree", "packed", "padded")
    for layout in layouts:
        reason = _tree_refused(model) if layout == "tree" else None
        reason = reason or _differs(model, sequences, wanted, layout)
        if reason is None:
            _narrow_last_layer(model, sequences, wanted, layout)
            if layout != "tree":
                log.warning(
                    "%s cannot be given token trees (%s): its texts are %s in full, which is as exact"
                    " and slower",
                    type(_plain(model)).__name__,
                    "; ".join(reasons),
                    layout,
                )
            return layout
        reasons.append(f"{layout}: {reason}")
        if layout == "tree" and model.config._attn_implementation != own:
            _plain(model).set_attn_implementation(own)
    raise BadInput(
        "the model's answers depend on what else is in the batch",
        value=type(_plain(model)).__name__,
        remedy=f"use another model ({'; '.join(reasons)})",
    )


def can_grow(model: Any) -> bool:
    """Whether a model whose layout is "tree" answers the same where texts are read in two parts, the second
    token by token below the first (`growth.py`). Tried, as in `prepare`."""
    with torch.no_grad():
        return _can_grow(model)


def _can_grow(model: Any) -> bool:
    from evsim_assets.token_tree.growth import Growth

    sequences = sorted(_sequences(int(model.config.get_text_config().vocab_size)))
    wanted = torch.stack([_one_by_one(model, sequence)[-1] for sequence in sequences])
    tree, paths = build_tree([sequence[:-2] for sequence in sequences])
    leaf = np.array([path[-1] for path in paths])
    line = np.arange(len(sequences))[:, None]
    try:
        batch = lay_out(tree, "tree", model.device, remember=True)
        logits_at(model, batch, leaf)
        remembered = batch.inputs["tree"].remembered
        first = Growth(tree, remembered, (), leaf, line[:, :0])
        logits_below(model, first, np.array([sequence[-2] for sequence in sequences]))
        second = Growth(tree, remembered, (first.remembered,), leaf, line)
        found = logits_below(model, second, np.array([sequence[-1] for sequence in sequences]))
    except Exception:  # noqa: BLE001 - a foreign architecture may raise anything
        return False
    return _apart(found, wanted) < ALIKE.get(found.dtype, 0.1)


def _narrow_last_layer(model: Any, sequences: list[list[int]], wanted: torch.Tensor, layout: Layout) -> None:
    """Have the last layer compute only what is read, where the model's answers stay what they are."""
    from evsim_assets.token_tree.last_layer import LastLayer

    try:
        last = LastLayer(_plain(model))
    except Exception:  # noqa: BLE001 - a foreign architecture may raise anything
        return  # it computes all rows, as it did
    ends = np.cumsum([len(sequence) for sequence in sequences]) - 1
    if _differs(model, sequences, wanted, layout, read=ends) is not None:
        last.remove()


def _tree_refused(model: Any) -> str | None:
    """Set the attention; a reason why it cannot be right, or None."""
    from evsim_assets.token_tree.attention import NAME

    config = model.config.get_text_config()
    if model.device.type == "cuda" and any(getattr(config, name, 0) for name in ATTENTION_DROPOUT):
        return "dropout in its attention, which FlexAttention does not have"
    kinds = set(getattr(config, "layer_types", None) or [])
    if kinds - {"full_attention", "sliding_attention"}:
        return f"layers of kind {', '.join(sorted(kinds))}"
    _plain(model).set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        return "its attention cannot be set"
    return None


def _differs(
    model: Any,
    sequences: list[list[int]],
    wanted: torch.Tensor,
    layout: Layout,
    read: Indices | None = None,
) -> str | None:
    """What is wrong with this layout, or None; `read`: the tokens whose logits are compared (all)."""
    tree, paths = build_tree(sequences)
    batch = lay_out(tree, layout, model.device)
    nodes = np.concatenate(paths)
    if read is not None:
        nodes, wanted = nodes[read], wanted[torch.from_numpy(read).to(wanted.device)]
    try:
        found = logits_at(model, batch, nodes)
    except Exception as error:  # noqa: BLE001 - a foreign architecture may raise anything; it is said
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    apart = _apart(found, wanted)
    if not apart < ALIKE.get(found.dtype, 0.1):
        return f"logits differ by {apart:.2g} standard deviations"
    if layout == "tree":
        config = model.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        if (
            window
            and getattr(config, "use_sliding_window", True)
            and window not in batch.inputs["tree"].windows
        ):
            return "its layers do not say which of them have a sliding window"
    return None


def _apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference of two logits, in standard deviations of all."""
    return float((found.float() - wanted).abs().max() / wanted.std())


def _one_by_one(model: Any, sequence: list[int]) -> torch.Tensor:
    ids = torch.tensor([sequence], device=model.device)
    return cast(torch.Tensor, model(input_ids=ids, use_cache=False).logits[0].float())


def _sequences(vocabulary: int) -> list[list[int]]:
    """Three texts with two common beginnings, and one of its own, of tokens spread over the vocabulary."""
    token = np.random.default_rng(0).integers(0, vocabulary, 24).tolist()
    return [token[:12], [*token[:9], *token[12:15]], [*token[:4], *token[15:20]], token[20:24]]


def _plain(model: Any) -> Any:
    """The model below an adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
