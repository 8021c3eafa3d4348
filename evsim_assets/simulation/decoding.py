"""Texts decoded token by token, each exactly given where its draw from the distribution fell.

Belongs here: the choice of a branch of the walk, and the loop over tokens. Not here: what a distribution or
a table of generations is, texts that follow no draw (`engines.py`). Imports torch and transformers; import
this module inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evsim_assets.simulation.answer_walk import FREE, Bools, Floats, Ints, Outcomes, Walk, walk_answers
from evsim_assets.simulation.asked import AskedPrompts, batches
from evsim_assets.simulation.distributions import Progress
from evsim_assets.simulation.reading import Nodes, Read, read_prompts
from evsim_assets.simulation.sampling import draw_tokens
from evsim_assets.simulation.seeded import uniforms
from evsim_assets.token_tree.growth import Remembered

NOTHING: Ints = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Branch:
    """How a text begins: these tokens, and then none of those `excluded`."""

    path: tuple[int, ...]
    excluded: Ints


def continued_texts(
    model: Any,
    tokenizer: Any,
    asked: AskedPrompts,
    walk: Walk,
    prompt: Ints,
    outcome: Ints,
    seed: Ints,
    *,
    on_progress: Progress | None = None,
) -> list[str]:
    """The text of every draw that fell on no answer; `prompt` (one of `asked`), `outcome`, `seed`: (n,).

    Each prompt is read once; its answers are walked again as far as the drawn outcomes need, to
    know the branches that lead there; a branch is drawn by its mass, and the text continued from it.

    Args:
        walk: at one temperature.
        seed: the first number of its stream has drawn the outcome; the second draws the branch, and the
            others the tokens.
        on_progress: told how many of the different prompts are done.
    """
    uniform = uniforms(seed, 2 + int(walk.limit.max()))[:, 1:]
    needed = np.unique(prompt)
    texts = [""] * len(prompt)
    done = 0
    wanted = np.zeros((len(asked.tokens), 3), dtype=bool)
    wanted[prompt, outcome] = True  # the codes of outcomes are those of the last three columns

    def keep(ends: Outcomes) -> None:
        """Of numbers of three digits a token most outcomes are off the scale: they are many."""
        lost = np.flatnonzero((ends.outcome < 0) & (ends.mass[:, 0] > 0))
        kept = lost[wanted[ends.prompt[lost], ends.outcome[lost]]]
        found.append(ends.take(kept))

    for batch in batches(asked.only(needed.tolist()), walk.at_once):
        read, logits = read_prompts(model, [[(p, asked.tokens[p]) for p in group] for group in batch])
        found: list[Outcomes] = []
        walk_answers(read, logits, walk, keep)
        row, these = _by_row(read.prompt, prompt)
        branches = draw_branches(found, prompt[these], outcome[these].tolist(), uniform[these, 0], walk)
        nodes = read.roots.take(row)
        for k in read.parts(nodes, walk.at_once):
            written = continue_texts(
                tokenizer,
                read,
                nodes.take(k),
                logits[torch.from_numpy(row[k]).to(logits.device)],
                [branches[i] for i in k],
                uniform[these[k], 1:],
                walk,
            )
            for draw, text in zip(these[k].tolist(), written, strict=True):
                texts[draw] = text
        done += len(read.prompt)
        if on_progress is not None:
            on_progress(done, len(needed))
    return texts


def _by_row(read: Ints, prompt: Ints) -> tuple[Ints, Ints]:
    """The draws, by number, of the prompts just read, and the row of each one's prompt, ascending."""
    these = np.flatnonzero(np.isin(prompt, read))
    place = np.argsort(read)
    row = place[np.searchsorted(read[place], prompt[these])]
    order = np.argsort(row, kind="stable")
    return row[order], these[order]


def draw_branches(
    found: Sequence[Outcomes], prompt: Ints, outcome: Sequence[int], uniform: Floats, walk: Walk
) -> list[Branch]:
    """One branch a draw, by inversion of `uniform` among those `found` of its prompt with its outcome.

    A branch's probability is its mass at the walk's first temperature. Branches stand in the order of
    their paths, so that a draw does not depend on the batch that found them. A draw whose outcome
    has no branch (its mass was rounding error) begins freely.
    """
    choices: dict[tuple[int, int], list[tuple[tuple[int, ...], int, float]]] = {}
    for ends in found:
        columns = ends.prompt, ends.outcome, ends.path, ends.next, ends.mass[:, 0]
        for of_prompt, code, path, following, mass in zip(*(c.tolist() for c in columns), strict=True):
            choices.setdefault((of_prompt, code), []).append((tuple(path), following, mass))
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
    tokenizer: Any,
    read: Read,
    nodes: Nodes,
    logits: torch.Tensor,
    branches: Sequence[Branch],
    uniform: Floats,
    walk: Walk,
) -> list[str]:
    """The text of every draw: its branch, and then tokens drawn at the walk's first temperature.

    Args:
        read: the prompts.
        nodes, logits: (m), (m, V): each draw's prompt and the distribution behind it.
        uniform: (m, tokens), one number a token; at least as many as any prompt's limit.

    A text ends at the first token without text, or at its prompt's limit.
    """
    texts: list[list[int]] = [[] for _ in branches]
    alive = np.arange(len(branches))
    fed: list[Remembered] = []
    limit = walk.limit[read.prompt[nodes.row]]
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
        alive = alive[goes_on]
        read, nodes = read.below(fed, nodes, goes_on, token[goes_on])
        left, logits = read.feed(nodes)
        fed = [left]
    return [text_of(tokenizer, tokens, walk.silent) for tokens in texts]


def _forbidden(branches: Sequence[Branch], t: int, silent: Bools) -> torch.Tensor:
    """Bool (m, V): what may not come at position t, right behind a branch that excludes it."""
    forbidden = np.zeros((len(branches), len(silent)), dtype=bool)
    for k, branch in enumerate(branches):
        if t == len(branch.path):
            forbidden[k, branch.excluded] = True
    return torch.from_numpy(forbidden)


def text_of(tokenizer: Any, tokens: Sequence[int], silent: Bools) -> str:
    """The tokens up to the first without text, as the tokenizer writes them."""
    kept = []
    for token in tokens:
        if silent[token]:
            break
        kept.append(token)
    text: str = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
