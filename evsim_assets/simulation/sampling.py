"""Next-token probabilities: softmax(logits / T), limited as transformers limits it.

Belongs here: temperature, top-k and top-p, and drawing a token. Not here: what a token means
(`numbers.py`). Imports torch; import this module inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from evsim_assets.specs.study import Decoding

Floats = npt.NDArray[np.float64]


AT_ONCE = 2**18
"""Logits that are exponentiated together: few enough to stay in a processor's cache."""
FAR = 32.0
"""Tokens this many temperatures below the likeliest are left out of sums where that is cheaper: each is less
than 1.3e-14 of it."""


def token_probabilities(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    temperatures: Sequence[float],
    decoding: Decoding,
    rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Probability of each of `tokens` (C,) as the next one, at each temperature: float32 (n, T, C).

    `logits`: (n, V), or more, of which `rows` (n,) are meant. The distribution is over the whole vocabulary,
    unless `decoding` limits it; at temperature 0 the token with the largest logit (the first of several) has
    probability 1.
    """
    n = len(logits) if rows is None else len(rows)
    p = torch.empty(n, len(temperatures), len(tokens), device=logits.device)
    limited = decoding.top_k is not None or (decoding.top_p is not None and decoding.top_p < 1)
    warm = [t for t, temperature in enumerate(temperatures) if temperature > 0]
    warm.sort(key=lambda t: -temperatures[t])
    for start in range(0, n, size := max(1, AT_ONCE // logits.shape[1])):
        some = slice(start, start + size)
        of_rows = logits[some if rows is None else rows[some]].float()
        if len(warm) < len(temperatures):
            greedy = (of_rows.argmax(-1, keepdim=True) == tokens).float()
            for t in (t for t, temperature in enumerate(temperatures) if temperature == 0):
                p[some, t] = greedy
        if limited:
            for t in warm:
                p[some, t] = limit_scores(of_rows / temperatures[t], decoding).softmax(-1)[:, tokens]
            continue
        near = of_rows - of_rows.amax(-1, keepdim=True)
        wanted, reach = near[:, tokens], 1.0
        for t in warm:
            temperature = temperatures[t]
            if temperature <= reach / 2:  # most tokens are out of reach of colder temperatures
                in_reach = (near.amax(0) > -FAR * temperature).nonzero()[:, 0]
                near, reach = near.index_select(1, in_reach), temperature
            # `softmax` does not sum in pairs, as `sum` does: of 100,000 equal tokens it is 1e-5 off
            total = (near / temperature).exp_().sum(-1, keepdim=True)
            p[some, t] = (wanted / temperature).exp_() / total
    return p


def limit_scores(scores: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """`scores` (n, V) with what top-k and then top-p exclude set to −inf.

    As transformers' warpers do: ties with the k-th largest stay, and top-p keeps the smallest set of
    tokens whose probabilities (among those that top-k left) reach top_p.
    """
    if decoding.top_k is not None:
        smallest = torch.topk(scores, min(decoding.top_k, scores.shape[-1]))[0][:, -1:]
        scores = scores.masked_fill(scores < smallest, -torch.inf)
    if decoding.top_p is not None and decoding.top_p < 1:
        ascending, order = torch.sort(scores, descending=False)
        excluded = ascending.softmax(-1).cumsum(-1) <= 1 - decoding.top_p
        excluded[:, -1] = False
        scores = scores.masked_fill(excluded.scatter(1, order, excluded), -torch.inf)
    return scores


def draw_tokens(
    logits: torch.Tensor, temperature: float, decoding: Decoding, forbidden: torch.Tensor, uniform: Floats
) -> npt.NDArray[np.int64]:
    """One next token per row of `logits` (n, V), by inversion of `uniform` (n,); argmax at T = 0.

    `forbidden`, bool (n, V), conditions the draw on none of those tokens: what is left of the limited
    distribution is renormalised, so a draw is exact given that the forbidden did not happen.
    """
    logits = logits.float()
    if temperature == 0:
        greedy = logits.masked_fill(forbidden, -torch.inf).argmax(-1)
        return greedy.cpu().numpy()
    limited = limit_scores(logits / temperature, decoding)
    scores = limited.masked_fill(forbidden, -torch.inf)
    nothing_left = scores.amax(-1, keepdim=True) == -torch.inf  # a branch of rounding error alone
    cumulative = torch.where(nothing_left, limited, scores).double().softmax(-1).cumsum(-1)
    target = torch.from_numpy(uniform).to(cumulative.device)[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return drawn.clamp(max=logits.shape[-1] - 1).cpu().numpy()
