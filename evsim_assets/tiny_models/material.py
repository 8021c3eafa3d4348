"""What the tiny models' training text is made of: the fields of `data/models/corpus.yaml`.

Belongs here: the file's schema. Not here: how texts are drawn from it (`corpus.py`), or any word of
them: a fact about a persona or a topic stands in the file, never in code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from evsim_assets.specs.survey import Name
from evsim_assets.specs.yaml_file import Spec, SpecError, read_spec

Texts = Annotated[tuple[str, ...], Field(min_length=1)]
Weight = Annotated[float, Field(ge=0)]

HEAD_SIZE = 32
"""Numbers per attention head; `hidden` is a multiple of it, as 4-bit weights need (bitsandbytes)."""


class Manners(Spec):
    """How often a rating is answered in each manner; the weights need not sum to one."""

    bare: Weight
    number_first: Weight
    number_later: Weight
    no_number: Weight


class TinyModel(Spec):
    """One model: its shape (`hidden` numbers per token, `layers`, `intermediate`) and what it reads."""

    hidden: Annotated[int, Field(multiple_of=HEAD_SIZE)]
    layers: Annotated[int, Field(ge=1)]
    intermediate: Annotated[int, Field(multiple_of=HEAD_SIZE)]
    documents: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0)]
    answers: Manners


class Kinds(Spec):
    """How often each kind of text is written; the weights need not sum to one."""

    rating: Weight
    persona: Weight
    echo: Weight
    smalltalk: Weight
    numbers: Weight
    sentences: Weight


class AnswerTexts(Spec):
    """Templates of answers to a rating question, by manner."""

    bare: Texts
    number_first: Texts
    number_later: Texts
    no_number: Texts


class Words(Spec):
    """Neutral words, so that the tokenizer knows English that no persona or topic has."""

    noun: Texts
    verb: Texts
    adjective: Texts
    adverb: Texts
    other: Texts


class Material(Spec):
    """`corpus.yaml`, read. `topics` maps a rated thing to its level, a share of the scale in [0, 1]."""

    models: dict[Name, TinyModel]
    kinds: Kinds
    systems: Texts
    questions: Texts
    attitudes: Texts
    scales: Annotated[tuple[tuple[int, int, float], ...], Field(min_length=1)]
    topics: dict[str, Annotated[float, Field(ge=0, le=1)]]
    held_out_topics: Texts
    statements: Texts
    answers: AnswerTexts
    persona_questions: Texts
    persona_answers: Texts
    persona_unknown: Texts
    echoes: Texts
    smalltalk: Annotated[tuple[tuple[str, str], ...], Field(min_length=1)]
    traits: dict[str, Texts]
    sentences: Texts
    verbs_past: Texts
    words: Words
    numbers: Texts

    @model_validator(mode="after")
    def _held_out_is_held_out(self) -> Material:
        both = sorted(set(self.topics) & set(self.held_out_topics))
        if both:
            raise SpecError(
                "the topic is both trained on and held out",
                at=("held_out_topics",),
                value=both[0],
                remedy="keep one of the two",
            )
        return self


def read_material(path: Path) -> Material:
    """The file at `path`, checked. Raises BadInput naming file, line, field, value and remedy."""
    return read_spec(path, Material)
