"""The attention of token trees, registered with transformers as `evsim_tree`.

Belongs here: the function that replaces a model's attention, on a CPU and on CUDA. Not here: which
queries meet which keys (`attention_plan.py`), whether a model can take it (`layout.py`). Imports torch and
transformers; import this module inside functions.

A model is called with `tree=TreeAttention(…)`, which transformers hands down to every layer's attention
as it is. Called without, the same model goes by transformers' own attention, so that one model serves
trees, plain batches and `generate`.
"""

from __future__ import annotations

from copy import copy
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from evsim_assets.token_tree.attention_plan import plan_calls
from evsim_assets.token_tree.growth import Growth, Remembered
from evsim_assets.token_tree.tree import TokenTree

NAME = "evsim_tree"


class TreeAttention:
    """The attention rule of one row of n tree nodes: i sees j exactly when j <= i < end[j].

    `windows` collects the sliding windows that layers asked for (None: a layer without). `read`: the nodes
    whose logits are read, ascending, or None: perhaps all. `remembered`: every layer's keys and values, where
    that was asked for (`growth.py`).
    """

    def __init__(
        self, tree: TokenTree, device: torch.device, *, flex: bool | None = None, remember: bool = False
    ) -> None:
        """`flex`: by FlexAttention, else by a few dense calls; None decides: on CUDA."""
        self.tree, self.device = tree, device
        self.flex = device.type == "cuda" if flex is None else flex
        self.deepest = int(tree.depth.max(initial=0))
        self.windows: set[int | None] = set()
        self.read: torch.Tensor | None = None
        self.remembered: Remembered | None = {} if remember else None
        self._masks: dict[Any, Any] = {}
        if self.flex:
            self._end = torch.from_numpy(tree.end).to(device)
            self._depth = torch.from_numpy(tree.depth).to(device)
            return
        self.calls = plan_calls(tree)
        queries = np.concatenate([call.queries.ravel() for call in self.calls])
        place = np.empty(len(tree), dtype=np.int64)
        place[queries[queries >= 0]] = np.flatnonzero(queries >= 0)
        self._queries = torch.from_numpy(queries.clip(0))
        self._keys = torch.from_numpy(np.concatenate([call.keys.ravel() for call in self.calls]).clip(0))
        self._place = torch.from_numpy(place)

    def reading(self, nodes: torch.Tensor) -> TreeAttention:
        """The same rule, with only these nodes read."""
        other = copy(self)
        other.read = nodes
        return other

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        layer: int = 0,
        scaling: float | None,
        dropout: float,
        window: int | None,
        softcap: float | None,
    ) -> torch.Tensor:
        """query (1, H, n, D), key and value (1, H' <= H, n, D) to (1, n, H, D)."""
        self.windows.add(window)
        if self.remembered is not None:
            self.remembered[layer] = key[0], value[0]
        if window is not None and window > self.deepest:
            window = None  # it hides nothing
        if self.flex:
            if dropout:
                raise NotImplementedError("dropout in FlexAttention")
            return self._flex(query, key, value, scaling, window, softcap)
        q = query[0].transpose(0, 1).index_select(0, self._queries)
        k = key[0].transpose(0, 1).index_select(0, self._keys)
        v = value[0].transpose(0, 1).index_select(0, self._keys)
        # split, and not slices: the gradients of a split are joined, those of a slice padded with zeros
        queries = q.split([call.queries.size for call in self.calls])
        keys, values = (x.split([call.keys.size for call in self.calls]) for x in (k, v))
        outputs = [
            _dense(
                queries[number].unflatten(0, call.queries.shape).transpose(1, 2),
                keys[number].unflatten(0, call.keys.shape).transpose(1, 2),
                values[number].unflatten(0, call.keys.shape).transpose(1, 2),
                self._mask(number, window, query.dtype),
                scaling,
                dropout,
                softcap,
            )
            .transpose(1, 2)
            .flatten(0, 1)
            for number, call in enumerate(self.calls)
        ]
        return torch.cat(outputs).index_select(0, self._place)[None]

    def _mask(self, number: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """(G, 1, Lq, Lk), added to the scores; made once for all layers."""
        made = self._masks.get((number, window, dtype))
        if made is None:
            allowed = torch.from_numpy(self.calls[number].allowed(self.tree, window))[:, None]
            made = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, -torch.inf)
            self._masks[number, window, dtype] = made
        return made

    def _flex(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
        window: int | None,
        softcap: float | None,
    ) -> torch.Tensor:
        from torch.nn.attention.flex_attention import create_block_mask

        block_mask = self._masks.get(window)
        if block_mask is None:
            end, depth = self._end, self._depth

            def allowed(_b: Any, _h: Any, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
                sees = (j <= i) & (i < end[j])
                return sees if window is None else sees & (depth[i] - depth[j] < window)

            n = len(self.tree)
            block_mask = create_block_mask(allowed, None, None, n, n, device=self.device)
            self._masks[window] = block_mask
        capped = None
        if softcap is not None:
            cap: float = softcap

            def capped(score: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
                return cap * torch.tanh(score / cap)

        output = _flex_attention(self.device.type)(
            query, key, value, score_mod=capped, block_mask=block_mask, scale=scaling, enable_gqa=True
        )
        return output.transpose(1, 2)


@cache
def _flex_attention(device: str) -> Any:
    """FlexAttention, on CUDA compiled once for every length (each new one would compile for seconds);
    elsewhere as it is, which is slow and serves to be compared with."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if device == "cuda" else flex_attention


def _dense(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
) -> torch.Tensor:
    """Ordinary attention of (G, H, Lq, D) over (G, H' <= H, Lk, D)."""
    if softcap is None:
        return scaled_dot_product_attention(
            query, key, value, mask, dropout, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
        )
    repeats = query.shape[1] // key.shape[1]
    scores = query @ repeat_kv(key, repeats).transpose(-1, -2)
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores + mask
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(query.dtype)
    return drop(weights, dropout) @ repeat_kv(value, repeats)


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    tree: TreeAttention | Growth | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in every layer; (B, n, H, D), and no weights.

    Raises:
        NotImplementedError: the layer wants something that trees do not offer: attention sinks, a mask of its
            own.
    """
    if s_aux is not None:
        raise NotImplementedError("attention sinks")
    if tree is not None:
        if attention_mask is None or attention_mask.shape != (1, 1, 1, 1):
            raise NotImplementedError("layers that make a mask of their own")
        output = tree.attend(
            query,
            key,
            value,
            layer=id(module),
            scaling=scaling,
            dropout=dropout,
            window=sliding_window,
            softcap=softcap,
        )
        return output, None
    if softcap is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    output = _dense(query, key, value, _added(attention_mask, query), scaling, dropout, softcap)
    return output.transpose(1, 2).contiguous(), None


def _added(mask: torch.Tensor | None, query: torch.Tensor) -> torch.Tensor | None:
    """transformers' mask (True: seen) as numbers to add to the scores."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill_(
        ~mask, torch.finfo(query.dtype).min
    )


def _full_mask(*args: Any, **given: Any) -> Any:
    """transformers' own boolean mask, never left out in favour of `is_causal`."""
    return sdpa_mask(*args, **{**given, "allow_is_causal_skip": False})


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, _full_mask)
