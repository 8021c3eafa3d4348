"""What distributions and generations are compared with: transformers' own `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import torch

from evsim_assets.simulation.numbers import NumberTokens
from evsim_assets.specs.study import Decoding


def generate_texts(
    model: Any,
    tokenizer: Any,
    prompt: Sequence[int],
    numbers: NumberTokens,
    *,
    temperature: float,
    decoding: Decoding,
    count: int,
    seed: int,
) -> list[str]:
    """`count` texts from transformers' own `generate`: slow, and independent of evsim's reading.

    Limits of the model's own generation
    config are switched off, as the paper's sampling has none.
    """
    torch.manual_seed(seed)
    ends = np.flatnonzero(numbers.silent).tolist()
    tokens = torch.tensor([list(prompt)], device=model.device).repeat(count, 1)
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {
            "do_sample": True,
            "temperature": temperature,
            "top_k": decoding.top_k or 0,
            "top_p": decoding.top_p or 1.0,
        }
    with torch.inference_mode():
        written = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=ends,
            pad_token_id=ends[0],
            **sampling,
        )
    return [_text(tokenizer, row, ends) for row in written[:, len(prompt) :].tolist()]


def _text(tokenizer: Any, tokens: Sequence[int], ends: Sequence[int]) -> str:
    kept = list(takewhile(lambda token: token not in ends, tokens))
    text: str = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
