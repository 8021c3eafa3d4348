"""EV-shift's prompts in Llama 2's tokens, as the training benchmarks take them.

Belongs here: the way from the bundled waves to tokens, by evsim's own stages. Not here: models, trainers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evsim_assets.token_tree.losses import Text

ROOT = Path(__file__).resolve().parents[1]
TOKENIZER = ROOT.parent / "shared" / "tokenizers" / "llama2"
SURVEY, WAVE = "ev_shift", "2021-11"
QUESTIONS = 6
STATED = (169, 49, 61)
"""Tokens of EV-shift's common beginning, of its question, and of that with an intervention before it."""
SPECIAL = 259
"""Llama 2's vocabulary begins with three control tokens and the 256 bytes."""
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{% set system = '<<SYS>>\\n' + message.content + '\\n<</SYS>>\\n\\n' %}"
    "{{ bos_token + '[INST] ' + system }}"
    "{% elif message.role == 'user' %}{{ message.content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + message.content.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
"""What Llama 2 chat's own template writes for one system, one user and one assistant message."""

Participant = list[Text]


def llama2_tokenizer(folder: Path) -> Any:
    """Llama 2's tokenizer from its `tokenizer.model`. Ends the benchmark if that is not there."""
    file = folder / "tokenizer.model"
    if not file.is_file():
        raise SystemExit(
            f"{file} is not there: copy tokenizer.model of meta-llama/Llama-2-7b-chat-hf (its licence keeps"
            " it out of this repository) into that folder, or name its folder with --tokenizer"
        )
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaTokenizer

    pieces = SentencePieceProcessor(model_file=str(file))
    vocabulary = {pieces.id_to_piece(i): i for i in range(len(pieces))}
    merges = sorted(
        (-pieces.get_score(i), text[:k], text[k:])
        for text, i in vocabulary.items()
        if i >= SPECIAL
        for k in range(1, len(text))
        if text[:k] in vocabulary and text[k:] in vocabulary
    )
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=[(one, other) for _, one, other in merges])
    tokenizer.chat_template = CHAT_TEMPLATE
    sample = "Please reply with just a single number rating: 72 (18–25, $10,001)"
    if tokenizer.encode(sample, add_special_tokens=False) != pieces.encode(sample):
        raise SystemExit(f"{file}: the tokenizer made of it does not cut a text as SentencePiece does")
    return tokenizer


def participants_of_ev_shift(tokenizer: Any, count: int) -> list[Participant]:
    """The texts of the first `count` participants that gave all six answers, each a list of six."""
    from evsim_assets.prompts.chat import render

    participants: dict[str, Participant] = {}
    for row in prompts_of_ev_shift().itertuples(index=False):
        texts = participants.setdefault(str(row.participant), [])
        if len(participants) > 2 * count:
            break
        texts.append(Text(*render(tokenizer, str(row.system), str(row.user), str(row.target))))
    whole = [texts for texts in participants.values() if len(texts) == QUESTIONS]
    if len(whole) < count:
        raise SystemExit(f"only {len(whole)} of the {count} participants wanted gave {QUESTIONS} answers")
    return whole[:count]


def prompts_of_ev_shift() -> Any:
    """The prompts of one bundled wave, made by the stages that a study runs."""
    import pandas as pd

    from evsim_assets.prompts.render import build_prompts
    from evsim_assets.specs.project import Project
    from evsim_assets.specs.templates import DEFAULT
    from evsim_assets.surveys.cleaning import clean_wave
    from evsim_assets.surveys.landing import intervention_texts
    from evsim_assets.surveys.reading import read_cells
    from evsim_assets.surveys.responses import merge_waves
    from evsim_assets.surveys.splits import split_participants

    project = Project(ROOT)
    survey = project.survey(SURVEY)
    raw = project.survey_folder(SURVEY) / "waves" / f"{WAVE}.csv"
    interventions = intervention_texts(survey)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cells = read_cells(raw, survey.for_wave(WAVE).waves, folder / "cells.parquet")
        clean = clean_wave(cells.path, survey, WAVE, interventions, folder, raw.name)
        merged = merge_waves([clean.answers], survey, folder)
        split_participants(merged.responses, survey, folder / "splits.parquet")
        made = folder / "prompts.parquet"
        build_prompts(
            merged.responses, folder / "splits.parquet", survey, (DEFAULT,), None, made, interventions
        )
        return pd.read_parquet(made)


def unlike(participants: Sequence[Participant]) -> list[Participant]:
    """As many texts with nothing in common: one a participant, each with a first token of its own."""
    firsts = [texts[i % len(texts)] for i, texts in enumerate(participants)]
    return [[replace(text, prompt=[SPECIAL + i, *text.prompt[1:]])] for i, text in enumerate(firsts)]


def at_stated_lengths(participants: Sequence[Participant]) -> list[Participant]:
    """The texts cut or drawn out to the mean lengths of the paper's survey, each participant alike."""
    stated = []
    for texts in participants:
        shared = _shared([text.prompt for text in texts])
        prefix = [texts[0].prompt[0], *_resized(texts[0].prompt[1:shared], STATED[0] - 1)]
        stated.append(
            [
                replace(text, prompt=[*prefix, *_resized(text.prompt[shared:], STATED[min(i, 1) + 1])])
                for i, text in enumerate(texts)
            ]
        )
    return stated


def _resized(tokens: Sequence[int], length: int) -> list[int]:
    """The last `length` tokens, repeated from the end where there are fewer."""
    return (list(tokens) * (1 + length // len(tokens)))[-length:]


def lengths(participants: Sequence[Participant]) -> dict[str, float]:
    """Means a participant: what all texts begin with, the first question after that, the later ones (with
    an intervention), an answer; and tokens as texts and as a tree."""
    from evsim_assets.token_tree.tree import build_tree

    def mean(values: Sequence[float]) -> float:
        return round(sum(values) / len(values), 1)

    prefixes = [_shared([text.prompt for text in texts]) for texts in participants]
    pairs = list(zip(participants, prefixes, strict=True))
    return {
        "prefix": mean(prefixes),
        "question": mean([len(texts[0].prompt) - prefix for texts, prefix in pairs]),
        "question_with_intervention": mean(
            [len(text.prompt) - prefix for texts, prefix in pairs for text in texts[1:]] or [0]
        ),
        "answer": mean([len(text.answer) for texts in participants for text in texts]),
        "texts": mean([len(texts) for texts in participants]),
        "text_tokens": mean([sum(len(text.tokens) for text in texts) for texts in participants]),
        "tree_tokens": mean([len(build_tree([text.tokens for text in texts])[0]) for texts in participants]),
    }


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all of them begin with."""
    if len(prompts) == 1:
        return 0
    return next(i for i, column in enumerate(zip(*prompts, strict=False)) if len(set(column)) > 1)
