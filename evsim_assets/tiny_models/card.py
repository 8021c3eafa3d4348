"""The card (README.md) of a tiny model.

Belongs here: what a reader is told. Not here: how the figures were measured (`behaviour.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evsim_assets.tiny_models.material import HEAD_SIZE, TinyModel
from evsim_assets.tiny_models.tokenizer import LONGEST_TEXT, VOCABULARY_SIZE

if TYPE_CHECKING:
    from evsim_assets.tiny_models.behaviour import Behaviour

CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [evsim, tiny, test-model]
---
# {name}: a tiny stand-in for a chat model

This is a tiny language model ({parameters:,} parameters) that stands in for a real one, so that
evsim's whole pipeline runs on a laptop without a download. It knows no world and no people.
**Nothing that it answers, before or after fine-tuning, supports a conclusion about people.**
For results, name a real model in the study file; any local folder or hub name works in its place.

| | |
|---|---|
| architecture | Llama: hidden {hidden}, {layers} layers, {heads} heads of {head}, \
intermediate {intermediate}, tied embeddings, fp32 |
| longest text | {longest} tokens (trained on texts of up to about 350) |
| tokenizer | its own byte-level BPE, {vocabulary} entries, each digit a token; Llama-2-style chat template |
| training text | {documents:,} texts written by the project's own generator from `data/models/corpus.yaml` |
| training | one pass, AdamW, peak learning rate {learning_rate:g}, cosine; loss on every token |
| final loss | {loss:.3f} nats per token (mean of the last tenth of the run) |

## Data
Personas with random traits, ratings of everyday things on many scales, traits read back, words
repeated, small talk, numbers, and sentences without a meaning. All of it is generated; no survey's
answers and no text of others is in it. A rating depends on its topic alone, never on the persona,
and lies high with a narrow spread. How often the training text answers with just a number is set per
model ({bare:.0%} here; the larger the model, the more often), so the differences of s, m and l in
following the format are a setting and no finding.

## Behaviour
{n} ratings of topics that it has not read about, sampled at temperature 1 from the whole vocabulary:

| answer | share |
|---|---|
| just a number | {shares.bare:.1%} |
| begins with a number, then words | {shares.number_first:.1%} |
| words, a number later | {shares.number_later:.1%} |
| words, no number | {shares.no_number:.1%} |
| begins with a number that is not on the question's scale (counted above as well) | {shares.off_scale:.1%} |

The numbers on the scale have mean {shares.mean:.2f} and standard deviation {shares.deviation:.2f}, as
shares of their scales. Asked for a trait of its persona, it names the right one in {shares.persona:.1%}
of greedy answers.

## Made by

    python -m evsim_assets.tiny_models --only {name} --seed {seed}

On one machine the command writes the same weights each time (one thread); another processor may
round differently.
"""


def card(
    name: str, shape: TinyModel, parameters: int, documents: int, loss: float, shares: Behaviour, seed: int
) -> str:
    """The card's text. `loss` in nats per token; `shares` as measured on held-out topics."""
    manners = shape.answers
    return CARD.format(
        name=name,
        parameters=parameters,
        hidden=shape.hidden,
        layers=shape.layers,
        head=HEAD_SIZE,
        heads=shape.hidden // HEAD_SIZE,
        intermediate=shape.intermediate,
        longest=LONGEST_TEXT,
        vocabulary=VOCABULARY_SIZE,
        documents=documents,
        learning_rate=shape.learning_rate,
        loss=loss,
        bare=manners.bare / sum(manners.model_dump().values()),
        n=shares.n,
        shares=shares,
        seed=seed,
    )
