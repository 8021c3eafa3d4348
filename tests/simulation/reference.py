"""What distributions and generations are compared with: every continuation, and `generate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from evsim_assets.simulation.numbers import NumberTokens
from evsim_assets.specs.study import Decoding


def texts_by_brute_force(
    model: Any, tokenizer: Any, prompt: list[int], temperature: float, decoding: Decoding
) -> dict[str, float]:
    """Probability of every text of the handmade vocabulary, from plain passes over whole sequences."""
    entries = [tokenizer.decode([i], skip_special_tokens=True) for i in range(len(tokenizer))]
    texts: dict[tuple[int, ...], float] = {(): 1.0}
    finished: Counter[str] = Counter()
    for _ in range(decoding.max_new_tokens):
        if not (contexts := list(texts)):
            break
        with torch.no_grad():
            ids = torch.tensor([[*prompt, *context] for context in contexts])
            logits = model(input_ids=ids).logits[:, -1]
        following = {}
        for context, p in zip(contexts, _warped(logits, temperature, decoding).tolist(), strict=True):
            for token, mass in enumerate(p):
                if mass and token == 0:
                    finished["".join(entries[t] for t in context)] += texts[context] * mass
                elif mass:
                    following[(*context, token)] = texts[context] * mass
        texts = following
    for context, mass in texts.items():
        finished["".join(entries[t] for t in context)] += mass
    return dict(finished)


def _warped(logits: torch.Tensor, temperature: float, decoding: Decoding) -> torch.Tensor:
    """Next-token probabilities by transformers' own warpers, in the order that `generate` applies."""
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1])
    scores = logits / temperature
    if decoding.top_k is not None:
        scores = TopKLogitsWarper(decoding.top_k)(None, scores)
    if decoding.top_p is not None:
        scores = TopPLogitsWarper(decoding.top_p)(None, scores)
    return scores.softmax(-1).double()


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
