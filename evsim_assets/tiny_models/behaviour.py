"""What a tiny model answers to ratings it never read about: the figures of its card.

Belongs here: asking about held-out topics, sorting the answers by manner. Not here: agreement with
people (`metrics/`), exact answer distributions (`simulation/`). Imports torch; import it inside
functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import set_seed

from evsim_assets.prompts.chat import render
from evsim_assets.specs.seeds import derived_seed
from evsim_assets.tiny_models.corpus import Writer
from evsim_assets.tiny_models.material import Manners, Material

NEW_TOKENS = 48
BATCH_SIZE = 50


@dataclass(frozen=True)
class Behaviour:
    """Shares of answers in [0, 1], by manner; `persona` is of greedy answers that name the trait."""

    bare: float
    number_first: float
    number_later: float
    no_number: float
    off_scale: float
    persona: float
    mean: float
    deviation: float
    n: int


def behaviour(model: Any, tokenizer: Any, material: Material, seed: int, count: int = 500) -> Behaviour:
    """Sample `count` ratings of held-out topics (temperature 1, whole vocabulary) and sort them.

    `off_scale` counts answers that begin with a number which is not on the question's scale (they
    are in `bare` or `number_first` as well). `mean` and `deviation` are of the numbers on a scale,
    each as a share of its scale.
    """
    writer = Writer(material, seed, "behaviour")
    topics = material.held_out_topics
    asked = [writer.asked(topics[i % len(topics)]) for i in range(count)]
    set_seed(derived_seed(seed, "tiny-model-behaviour", "") % 2**32)
    answers = complete(model, tokenizer, [render(tokenizer, a.system, a.user)[0] for a in asked], sample=True)
    manners = [manner(answer) for answer in answers]
    ratings, off_scale = [], 0
    for question, answer in zip(asked, answers, strict=True):
        low, high = int(question.fields["low"]), int(question.fields["high"])
        if first := re.match(r"-?\d+", answer):
            on_scale = low <= int(first[0]) <= high
            off_scale += not on_scale
            ratings += [(int(first[0]) - low) / (high - low)] if on_scale else []
    return Behaviour(
        **{name: manners.count(name) / count for name in Manners.model_fields},
        off_scale=off_scale / count,
        persona=_persona_share(model, tokenizer, writer, count),
        n=count,
        mean=float(np.mean(ratings)) if ratings else float("nan"),
        deviation=float(np.std(ratings)) if ratings else float("nan"),
    )


def manner(answer: str) -> str:
    """Which of the corpus's four manners an answer is in."""
    if re.fullmatch(r"-?\d+", answer):
        return "bare"
    if re.match(r"-?\d", answer):
        return "number_first"
    return "number_later" if re.search(r"\d", answer) else "no_number"


def complete(model: Any, tokenizer: Any, prompts: Sequence[list[int]], sample: bool) -> list[str]:
    """An answer to each prompt (token ids), without special tokens and surrounding blanks."""
    answers: list[str] = []
    for start in range(0, len(prompts), BATCH_SIZE):
        batch = prompts[start : start + BATCH_SIZE]
        width = max(len(prompt) for prompt in batch)
        padded = [[tokenizer.pad_token_id] * (width - len(prompt)) + prompt for prompt in batch]
        attended = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch]
        with torch.inference_mode():
            generated = model.generate(
                input_ids=torch.tensor(padded),
                attention_mask=torch.tensor(attended),
                do_sample=sample,
                max_new_tokens=NEW_TOKENS,
                **({"top_k": 0} if sample else {}),
            )
        texts = tokenizer.batch_decode(generated[:, width:], skip_special_tokens=True)
        answers += [text.strip() for text in texts]
    return answers


def _persona_share(model: Any, tokenizer: Any, writer: Writer, count: int) -> float:
    """Of personas asked for one of their traits, how many greedy answers hold its value."""
    prompts, expected = [], []
    for _ in range(count):
        system, user, value = writer.persona_question()
        prompts.append(render(tokenizer, system, user)[0])
        expected.append(value)
    answers = complete(model, tokenizer, prompts, sample=False)
    return float(np.mean([value in answer for value, answer in zip(expected, answers, strict=True)]))
