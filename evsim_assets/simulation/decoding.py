"""Texts decoded token by token: from a branch of the walk, or plainly from a prompt.

Belongs here: the choice of a branch, and the loop over tokens. Not here: what a distribution or a
table of generations is. Imports torch and transformers; import this module inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evsim_assets.simulation import reading
from evsim_assets.simulation.answer_walk import FREE, Bools, Floats, Ints, Outcomes, Walk
from evsim_assets.simulation.sampling import draw_tokens

NOTHING: Ints = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Branch:
    """How a text begins: these tokens, and then none of those `excluded`."""

    path: tuple[int, ...]
    excluded: Ints


def draw_branches(
    found: Sequence[Outcomes], prompt: Ints, outcome: Sequence[int], uniform: Floats, walk: Walk
) -> list[Branch]:
    """One branch a draw, by inversion of `uniform` among those of its prompt that end in its outcome.

    A branch's probability is its mass at the walk's first temperature. Branches stand in the order of
    their paths, so that a draw does not depend on the batch that found them. A draw whose outcome
    has no branch (its mass was rounding error) begins freely.
    """
    choices: dict[tuple[int, int], list[tuple[tuple[int, ...], int, float]]] = {}
    asked = set(zip(prompt.tolist(), outcome, strict=True))
    for ends in found:
        for k in np.flatnonzero((ends.outcome < 0) & (ends.mass[:, 0] > 0)):
            key = int(ends.prompt[k]), int(ends.outcome[k])
            if key in asked:
                choices.setdefault(key, []).append(
                    (tuple(ends.path[k].tolist()), int(ends.next[k]), float(ends.mass[k, 0]))
                )
    branches = []
    ordered = {key: sorted(of_key) for key, of_key in choices.items()}
    for key, u in zip(zip(prompt.tolist(), outcome, strict=True), uniform, strict=True):
        of_key = ordered.get(key, [((), FREE, 1.0)])
        cumulative = np.cumsum([mass for _, _, mass in of_key])
        drawn = int(np.searchsorted(cumulative / cumulative[-1], u, side="right"))
        path, following, _ = of_key[drawn]
        answers = walk.kinds[int(walk.kind[key[0]])]
        branches.append(Branch(path, NOTHING if following == FREE else answers.excluded(following)))
    return branches


def continue_texts(
    model: Any,
    tokenizer: Any,
    rows: reading.Rows,
    nodes: reading.Nodes,
    logits: torch.Tensor,
    branches: Sequence[Branch],
    uniform: Floats,
    walk: Walk,
) -> list[str]:
    """The text of every draw: its branch, and then tokens drawn at the walk's first temperature.

    Args:
        rows: the prompts, already read; their cache grows.
        nodes, logits: (m), (m, V): each draw's prompt and the distribution behind it. Draws of one
            prompt share its row.
        uniform: (m, tokens), one number a token; at least as many as any prompt's limit.

    A text ends at the first token without text, or at its prompt's limit.
    """
    texts: list[list[int]] = [[] for _ in branches]
    alive = np.arange(len(branches))
    limit = walk.limit[rows.prompt[nodes.row]]
    for t in range(int(limit.max(initial=0))):
        begun = [branches[int(k)] for k in alive]
        forced = np.array([branch.path[t] if t < len(branch.path) else -1 for branch in begun])
        forbidden = _forbidden(begun, t, walk.silent).to(logits.device)
        drawn = draw_tokens(logits, walk.temperatures[0], walk.decoding, forbidden, uniform[alive, t])
        token = np.where(forced >= 0, forced, drawn)
        for k, word in zip(alive, token.tolist(), strict=True):
            texts[k].append(word)
        goes_on = np.flatnonzero(~walk.silent[token] & (t + 1 < limit[alive]))
        if not len(goes_on):
            break
        alive, nodes = alive[goes_on], reading.take(nodes, goes_on)
        path = np.concatenate([nodes.path, token[goes_on][:, None]], 1)
        nodes, logits = reading.feed(model, rows, reading.Nodes(nodes.row, path, nodes.allowed))
    return [_text(tokenizer, tokens, walk.silent) for tokens in texts]


def _forbidden(branches: Sequence[Branch], t: int, silent: Bools) -> torch.Tensor:
    """Bool (m, V): what may not come at position t, right behind a branch that excludes it."""
    forbidden = np.zeros((len(branches), len(silent)), dtype=bool)
    for k, branch in enumerate(branches):
        if t == len(branch.path):
            forbidden[k, branch.excluded] = True
    return torch.from_numpy(forbidden)


def _text(tokenizer: Any, tokens: Sequence[int], silent: Bools) -> str:
    """The tokens up to the first without text, as the tokenizer writes them."""
    kept = []
    for token in tokens:
        if silent[token]:
            break
        kept.append(token)
    text: str = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
