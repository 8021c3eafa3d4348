"""Tiny models with random weights of the families that token trees are used with, and of some that cannot
take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}


def make(config: Any, **changes: Any) -> Any:
    """A model of that configuration, random weights spread enough for answers far from uniform."""
    torch.manual_seed(0)
    return hf.AutoModelForCausalLM.from_config(config(**{**SHAPE, **changes})).eval()


TAKES_TREES: dict[str, Callable[[], Any]] = {
    "llama": lambda: make(hf.LlamaConfig),
    "llama-eager": lambda: make(hf.LlamaConfig, attn_implementation="eager"),
    "qwen2-tied": lambda: make(hf.Qwen2Config, tie_word_embeddings=True),
    "qwen2-window": lambda: make(
        hf.Qwen2Config, use_sliding_window=True, sliding_window=3, max_window_layers=1
    ),
    "qwen3": lambda: make(hf.Qwen3Config, head_dim=8),
    "mistral": lambda: make(hf.MistralConfig, sliding_window=None),
    "mistral-window": lambda: make(hf.MistralConfig, sliding_window=4),
    "gemma": lambda: make(hf.GemmaConfig, head_dim=8),
    "gemma2-capped": lambda: make(
        hf.Gemma2Config,
        head_dim=8,
        query_pre_attn_scalar=8,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=1.5,
        sliding_window=3,
    ),
    "gemma3": lambda: make(
        hf.Gemma3TextConfig,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=3,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "phi3": lambda: make(hf.Phi3Config, pad_token_id=0, sliding_window=5),
}
"""Sliding windows shorter than the texts, grouped key-value heads, capped scores."""

ONLY_PACKED: dict[str, Callable[[], Any]] = {
    "llama4": lambda: make(
        hf.Llama4TextConfig,
        num_local_experts=2,
        head_dim=8,
        intermediate_size_mlp=48,
        attention_chunk_size=4,
        no_rope_layers=[1, 1],
        pad_token_id=0,
    ),
}
"""Layers that see only their chunk of the text."""

ONLY_PADDED: dict[str, Callable[[], Any]] = {
    "gpt-oss": lambda: make(
        hf.GptOssConfig, head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=128
    ),
    "bloom": lambda: make(hf.BloomConfig, n_layer=2, n_head=4),
    "mamba": lambda: make(hf.MambaConfig, state_size=4),
}
"""An extra score in every softmax; positions that are distances in the row; states that run along it."""


def leans_on_the_batch() -> Any:
    """A model that keeps the few strongest keys of the whole padded row."""
    return make(hf.DogeConfig, keep_window_size=4)


LAYOUTS = {
    **dict.fromkeys(TAKES_TREES, "tree"),
    **dict.fromkeys(ONLY_PACKED, "packed"),
    **dict.fromkeys(ONLY_PADDED, "padded"),
}
MAKE = {**TAKES_TREES, **ONLY_PACKED, **ONLY_PADDED}
