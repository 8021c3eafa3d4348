"""What a model keeps of a forward pass for its backward pass, counted without computing anything.

Belongs here: one pass of a model of one and of two layers over tensors that have a shape and no numbers.
Not here: everything else that takes memory (`memory.py`). torch is imported inside functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from evsim_assets.adapters.base_model import Device, Precision, quiet_libraries, trainable
from evsim_assets.adapters.shapes import Shapes
from evsim_assets.specs.study import AdapterSpec
from evsim_assets.token_tree.tree import TokenTree, build_tree

PREFIX, QUESTIONS, QUESTION = 160, 6, 60
"""The tree that is counted: people who share nothing, with six questions each. How much is shared matters
to attention alone."""


@dataclass(frozen=True)
class Kept:
    """Bytes kept for the backward pass: of each layer, and of the rest of the model, a tree token; and
    whatever does not depend on tokens (copies of weights in half precision), of all layers together."""

    per_layer: float
    rest: float
    copies: float


def count_kept(shapes: Shapes, spec: AdapterSpec, device: Device, precision: Precision) -> Kept:
    """Counted on the model with 1 and 2 layers over trees of two sizes; the rest is proportion.

    Takes a second and next to no memory; in one process each model is counted once. Raises whatever a
    model raises that cannot run so.
    """
    training = spec.training
    assert training is not None, "a pretrained model is not trained"
    lora = None if spec.method == "full" else (training.rank, training.dropout)
    which = (shapes.written, lora, device, precision)
    if which not in _COUNTED:
        _COUNTED[which] = _count(shapes, spec, device, precision)
    return _COUNTED[which]


_COUNTED: dict[Any, Kept] = {}


def _count(shapes: Shapes, spec: AdapterSpec, device: Device, precision: Precision) -> Kept:
    few, many = _people(1), _people(3)
    kept = {
        (layers, len(tree)): _kept(shapes, layers, tree, spec, device, precision)
        for layers in (1, 2)
        for tree in (few, many)
    }
    more = len(many) - len(few)
    slopes = [(kept[layers, len(many)] - kept[layers, len(few)]) / more for layers in (1, 2)]
    fixed = [
        kept[layers, len(many)] - slope * len(many) for layers, slope in zip((1, 2), slopes, strict=True)
    ]
    per_layer = slopes[1] - slopes[0]
    copies = max(fixed[0] + (fixed[1] - fixed[0]) * (shapes.layers - 1), 0.0)
    return Kept(per_layer, max(slopes[0] - per_layer, 0.0), copies)


def _people(count: int) -> TokenTree:
    draw = np.random.default_rng(0)

    def tokens(length: int) -> list[int]:
        return [int(t) for t in draw.integers(0, 1000, length)]

    texts = []
    for _ in range(count):
        prefix = tokens(PREFIX)
        texts += [[*prefix, *tokens(QUESTION)] for _ in range(QUESTIONS)]
    return build_tree(texts)[0]


def _kept(
    shapes: Shapes, layers: int, tree: TokenTree, spec: AdapterSpec, device: Device, precision: Precision
) -> int:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = shapes.bare("fp32" if spec.method == "full" else precision, layers).requires_grad_(False)
    with quiet_libraries():
        model = trainable(model, spec)
    model = (model.get_base_model() if hasattr(model, "get_base_model") else model).train()
    decoder = model.get_decoder()
    n, seen = len(tree), dict[int, Any]()
    with FakeTensorMode(allow_non_fake_inputs=True):
        inputs = _inputs(model, tree, device)
        state = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, requires_grad=tensor.requires_grad)
            for name, tensor in [*decoder.named_parameters(), *decoder.named_buffers()]
        }
        weights = {tensor.untyped_storage()._cdata for tensor in state.values()}

        def keep(tensor: Any) -> Any:
            mask = tensor.ndim > 1 and tensor.shape[-1] == tensor.shape[-2] == n  # no tree has one
            if not mask and tensor.untyped_storage()._cdata not in weights:
                seen[tensor.untyped_storage()._cdata] = tensor.untyped_storage()  # held, so no id comes twice
            return tensor

        half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        with half, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            torch.func.functional_call(decoder, state, (), inputs)
        return sum(storage.nbytes() for storage in seen.values())


def _inputs(model: Any, tree: TokenTree, device: Device) -> dict[str, Any]:
    """On a CPU the tree with its own attention, which copies keys; on CUDA, where FlexAttention keeps
    queries, keys, values and outputs as any fused attention does, an ordinary row."""
    import torch

    from evsim_assets.token_tree.attention import NAME
    from evsim_assets.token_tree.batch import lay_out

    model.set_attn_implementation(NAME)
    if device == "cpu":
        return {**lay_out(tree).inputs, "use_cache": False}
    n = len(tree)
    ids = torch.zeros((1, n), dtype=torch.int64)
    return {"input_ids": ids, "position_ids": torch.arange(n)[None], "use_cache": False}
