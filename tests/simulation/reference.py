"""What distributions and generations are compared with: every continuation, and `generate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from evsim_assets.simulation.numbers import NumberTokens
from evsim_assets.specs.study import Decoding

SCORES = 2**23
"""Scores of one step of `generate`: few enough to be reused by the allocator and not mapped anew."""


def texts_by_brute_force(
    model: Any, tokenizer: Any, prompt: list[int], temperature: float, decoding: Decoding
) -> dict[str, float]:
    """Probability of every text of a tiny vocabulary, whose entry 0 is the end of turn, from plain passes
    over whole sequences."""
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
                    finished[_decoded(tokenizer, context)] += texts[context] * mass
                elif mass:
                    following[(*context, token)] = texts[context] * mass
        texts = following
    for context, mass in texts.items():
        finished[_decoded(tokenizer, context)] += mass
    return dict(finished)


@cache
def _decoded(tokenizer: Any, tokens: tuple[int, ...]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


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
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {
            "do_sample": True,
            "temperature": temperature,
            "top_k": decoding.top_k or 0,
            "top_p": decoding.top_p or 1.0,
        }
    parts = []
    for rows in torch.arange(count).split(max(1, SCORES // len(numbers.silent))):
        tokens = torch.tensor([list(prompt)], device=model.device).repeat(len(rows), 1)
        with torch.inference_mode():
            written = model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=decoding.max_new_tokens,
                eos_token_id=ends,
                pad_token_id=ends[0],
                **sampling,
            )[:, len(prompt) :]
        lacking = decoding.max_new_tokens - written.shape[1]  # where every text ended before
        parts.append(torch.nn.functional.pad(written, (0, lacking), value=ends[0]))
    different, of_text = torch.cat(parts).unique(dim=0, return_inverse=True)
    kept = [tuple(takewhile(lambda token: token not in ends, row)) for row in different.tolist()]
    texts = [_decoded(tokenizer, tokens) for tokens in kept]
    return [texts[k] for k in of_text.tolist()]
