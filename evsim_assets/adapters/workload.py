"""What an adapter has to read: texts, steps and tokens, counted on a sample of its steps.

Belongs here: counting. Not here: which steps there are (`steps.py`), how long that takes (`pace.py`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.adapters.memory import Passage
from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.adapters.steps import plan_steps
from evsim_assets.adapters.texts import fraction_of, texts_by_participant
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.seeds import derived_seed
from evsim_assets.specs.study import AdapterSpec
from evsim_assets.token_tree.losses import Text, cut, weigh

SAMPLED_STEPS = 32
"""Steps whose texts are made into tokens; where there are more, these lie evenly among them."""

SAMPLED_PEOPLE = 64
"""Participants of the validation split whose texts are made into tokens."""


@dataclass(frozen=True)
class Workload:
    """What one training reads.

    `texts`: answers of an epoch. `steps`, `evaluations`: in all. `tree_tokens`: in all steps, what forward
    passes take; `text_tokens`: what the same texts hold one by one; `evaluated_tokens`: tree tokens of one
    evaluation. `trained_on`, `evaluated_on`: the largest micro-batches. `sample`, `validation`: the texts
    of each sampled step, and of the sampled participants. `sampled`: whether there are more.
    """

    participants: int
    texts: int
    steps: int
    evaluations: int
    tree_tokens: int
    text_tokens: int
    evaluated_tokens: int
    trained_on: Passage
    evaluated_on: Passage
    sample: tuple[tuple[Text, ...], ...]
    validation: tuple[Text, ...]
    sampled: bool


def workload(prompts: pd.DataFrame, spec: AdapterSpec, tokenizer: Any, seed: int, budget: int) -> Workload:
    """What training the adapter on the study's prompts reads, micro-batches of `budget` tree tokens.

    Raises:
        BadInput: as `training.train`: no prompts in the wording, no participants in a split, or none
            whose answers have a weight.
    """
    training, trial = spec.training, str(spec.trial)
    assert training is not None, "a pretrained model is not trained"
    own = own_prompts(prompts, spec.template, "train", "validation")
    of_split = {split: own[own["split"] == split] for split in ("train", "validation")}
    for split, rows in of_split.items():
        if rows.empty:
            raise BadInput(
                f"no prompts in the {split} split",
                field="split",
                value=split,
                remedy="give the study more participants",
            )
    train = of_split["train"]
    drawn = fraction_of(train["participant"].unique(), spec.fraction, derived_seed(seed, "fraction", trial))
    train = _counting(train[train["participant"].isin(drawn)], spec, tokenizer)
    judging = _counting(of_split["validation"], spec, tokenizer)
    everyone = train["participant"].astype(str)
    kept, counts = list(everyone.unique()), everyone.value_counts()
    texts = [int(counts[person]) for person in kept]
    steps = plan_steps(texts, training.batch_size, training.epochs, derived_seed(seed, "batches", trial))
    chosen = [steps[at] for at in _evenly(len(steps), SAMPLED_STEPS)]
    people = sorted({p for step in chosen for p in step.participants})
    rows = train[everyone.isin({kept[p] for p in people})]
    by_person = texts_by_participant(rows, tokenizer, spec)
    sample = [[t for p in step.participants for t in by_person[kept[p]]] for step in chosen]
    passes = [list(_passes(texts_of_step, spec, budget)) for texts_of_step in sample]
    judges = judging["participant"].unique()
    asked = judges[_evenly(len(judges), SAMPLED_PEOPLE)]
    judged = judging[judging["participant"].isin(asked)]
    validation = [t for texts in texts_by_participant(judged, tokenizer, spec).values() for t in texts]
    evaluated = list(_passes(validation, spec, budget))
    share = len(asked) / len(judges)
    evaluated_tokens = round(sum(p.tokens for p in evaluated) / share)
    return Workload(
        participants=len(kept),
        texts=sum(texts),
        steps=len(steps),
        evaluations=1 + round(max(1.0, training.evaluations_per_epoch * training.epochs * spec.fraction)),
        tree_tokens=_in_all([sum(p.tokens for p in of_step) for of_step in passes], len(steps)),
        text_tokens=_in_all([sum(len(t.tokens) for t in of_step) for of_step in sample], len(steps)),
        evaluated_tokens=evaluated_tokens,
        trained_on=_largest([p for of_step in passes for p in of_step]),
        evaluated_on=_grown(_largest(evaluated), min(budget, evaluated_tokens)),
        sample=tuple(tuple(texts_of_step) for texts_of_step in sample),
        validation=tuple(validation),
        sampled=len(chosen) < len(steps) or len(asked) < len(judges),
    )


def _counting(rows: pd.DataFrame, spec: AdapterSpec, tokenizer: Any) -> pd.DataFrame:
    """The rows that have a text. As in training, they are taken after the fraction has been drawn."""
    if spec.training is None or not spec.training.survey_weights:
        return rows
    counting = rows[rows["weight"] > 0]
    if counting.empty:
        texts_by_participant(rows, tokenizer, spec)  # raises, in training's words
    return counting


def largest_passages(
    steps: Sequence[Sequence[Text]], validation: Sequence[Text], spec: AdapterSpec, budget: int
) -> tuple[Passage, Passage]:
    """The largest micro-batch of training (looking at some of the steps' texts) and of evaluation."""
    some = [steps[at] for at in _evenly(len(steps), SAMPLED_STEPS)]
    trained = _largest([p for texts in some for p in _passes(texts, spec, budget)])
    return trained, _largest(list(_passes(validation, spec, budget)))


def _passes(texts: Sequence[Text], spec: AdapterSpec, budget: int) -> list[Passage]:
    """The micro-batches of one step."""
    assert spec.training is not None
    alpha = spec.penalty.alpha if spec.penalty else 0.0
    made = []
    for part in cut(texts, alpha=alpha, max_tokens=budget):
        tree = weigh(part, spec.training.loss_on, alpha)
        made.append(Passage(len(tree.tree), len(np.unique(tree.parent))))
    return made


def _largest(passes: Sequence[Passage]) -> Passage:
    return Passage(max(p.tokens for p in passes), max(p.rows for p in passes))


def _grown(passage: Passage, tokens: int) -> Passage:
    """The passage at another length, read as densely."""
    return Passage(tokens, round(passage.rows * tokens / max(passage.tokens, 1)))


def _evenly(count: int, at_most: int) -> list[int]:
    """Up to so many places among `count`, evenly spaced."""
    if count <= at_most:
        return list(range(count))
    return [int(place) for place in np.linspace(0, count - 1, at_most).round()]


def _in_all(of_some: Sequence[int], count: int) -> int:
    return round(sum(of_some) / len(of_some) * count)


class StandInTokenizer:
    """In place of a tokenizer that is not here: pieces of up to six letters, single digits and signs, in a
    chat of Llama 2's form. On EV-shift's prompts it makes 11 % more tokens than Llama 2's own."""

    chat_template = "stand-in"
    name_or_path = "stand-in"
    _PIECE = re.compile(r" ?[^\W\d_]{1,6}|\d|[^\w\s]|_|\s+")

    def apply_chat_template(
        self, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool = False, **_: Any
    ) -> dict[str, list[int]]:
        """Ids below 32,000; equal pieces have equal ids."""
        said = {message["role"]: message["content"] for message in messages}
        text = f"<s>[INST] <<SYS>>\n{said['system']}\n<</SYS>>\n\n{said['user']} [/INST]"
        ids = [zlib.crc32(piece.encode()) % 32000 for piece in self._PIECE.findall(text)]
        if "assistant" in said:
            ids += [zlib.crc32(p.encode()) % 32000 for p in self._PIECE.findall(f" {said['assistant']}")]
            ids.append(2)
        return {"input_ids": ids}
