"""Tokenizers and models small enough to enumerate, and prompts for them.

`HANDMADE` writes numbers in every way that is awkward: several digits a token, a blank before the
digit, a comma behind it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
)

from tests.simulation.vocabularies import CHAT, FULL, TINY

ROOT = Path(__file__).parents[2]
SAID = ("72", "7", "100", "50", "35", "250", "0.", "\n80", "07", "I think 30", "As a 52-year-old man")
LLAMA_CHAT = (
    "[INST] {% for m in messages %}{% if m['role'] == 'assistant' %} [/INST] {% endif %}{{ m['content'] }}"
    "{% endfor %}{% if add_generation_prompt %} [/INST]{% endif %}"
)
HANDMADE = ["</s>", "a", " ", "0", "1", "2", "12", " 1", "2,", "\n"]


@pytest.fixture(scope="session")
def handmade() -> Any:
    """Ten entries, written one character at a time unless a model chooses the longer ones."""
    tokenizer = Tokenizer(models.WordLevel({text: i for i, text in enumerate(HANDMADE)}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", chat_template=CHAT)


@pytest.fixture(scope="session")
def byte_level() -> Any:
    """The bundled tiny models' own tokenizer (byte-level BPE)."""
    return AutoTokenizer.from_pretrained(ROOT / "data" / "models" / "s")


@pytest.fixture(scope="session")
def llama2() -> Any:
    """Llama 2's tokenizer, from its SentencePiece model."""
    path = ROOT.parent / "shared" / "tokenizers" / "llama2" / "tokenizer.model"
    if not path.exists():
        pytest.skip("Llama 2's tokenizer.model is not here; its licence keeps it out of the project")
    pieces = list(_pieces(path.read_bytes()))
    vocabulary = {text: i for i, (text, _) in enumerate(pieces)}
    merges = sorted(
        (-score, text[:k], text[k:])
        for text, score in pieces[259:]
        for k in range(1, len(text))
        if text[:k] in vocabulary and text[k:] in vocabulary
    )
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=[(one, other) for _, one, other in merges])
    tokenizer.chat_template = LLAMA_CHAT
    return tokenizer


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Callable[[str], Any]:
    """One of the vocabularies that can be enumerated (`vocabularies.TINY`), by name."""
    return cache(lambda name: TINY[name]())


@pytest.fixture(scope="session")
def full_tokenizer() -> Callable[[str], Any]:
    """One of the vocabularies that write every ASCII text (`vocabularies.FULL`), by name."""
    return cache(lambda name: FULL[name]())


def _pieces(model: bytes) -> Iterator[tuple[str, float]]:
    """Text and score of each entry of a SentencePiece model (a protobuf; field 1 holds the entries)."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = model[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(model) and model[at] == 0x0A:
        at += 1
        end = varint() + at
        text, score = "", 0.0
        while at < end:
            tag = varint()
            if tag == 0x0A:
                size = varint()
                text, at = model[at : at + size].decode(), at + size
            elif tag == 0x15:
                (score,), at = struct.unpack("<f", model[at : at + 4]), at + 4
            else:
                varint()
        yield text, score


def tiny_llama(vocabulary: int, *, seed: int = 0, attention: str = "sdpa", spread: float = 0.6) -> Any:
    """A random Llama whose next-token distributions are neither flat nor certain."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        initializer_range=spread,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config).eval()


def tiny_gemma(vocabulary: int) -> Any:
    """A random Gemma 2: soft-capped logits, and layers that would slide."""
    torch.manual_seed(3)
    config = Gemma2Config(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=0.6,
        final_logit_softcapping=2.0,
        sliding_window=64,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        attn_implementation="eager",
    )
    return Gemma2ForCausalLM(config).eval()


def tiny_lora(vocabulary: int) -> Any:
    """The random Llama under a LoRA adapter that is not zero."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_llama(vocabulary), LoraConfig(r=2, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(5)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """Models by name, for a vocabulary of the given size."""
    makers: dict[str, Callable[..., Any]] = {
        "llama": tiny_llama,
        "eager": lambda v: tiny_llama(v, attention="eager"),
        "gemma": tiny_gemma,
        "lora": tiny_lora,
    }
    return lambda name, vocabulary, **options: makers[name](vocabulary, **options)


@pytest.fixture(scope="session")
def likes_numbers(make_model: Callable[..., Any]) -> Callable[..., Any]:
    """A Llama for any tokenizer, trained for a moment: it often begins with a number, and often not. Prompts
    of a letter in `otherwise` are answered with that."""

    def make(
        tokenizer: Any,
        answers: Sequence[str] = SAID,
        *,
        otherwise: Mapping[str, Sequence[str]] = {},
        steps: int = 40,
    ) -> Any:
        model = make_model("llama", len(tokenizer), spread=0.1)
        texts = [
            [
                *tokenizer(f"{letter}a", add_special_tokens=False).input_ids,
                *tokenizer(answer, add_special_tokens=False).input_ids,
                tokenizer.eos_token_id,
            ]
            for letter in "abcdefgh"
            for answer in otherwise.get(letter, answers)
        ]
        longest = max(len(text) for text in texts)
        ids = torch.tensor([text + [tokenizer.eos_token_id] * (longest - len(text)) for text in texts])
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        order = np.random.default_rng(0).integers(len(texts), size=(steps, 16))
        for batch in order:
            model(input_ids=ids[batch], labels=ids[batch]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return model

    return make


@pytest.fixture(scope="session")
def make_prompts() -> Callable[..., pd.DataFrame]:
    """Prompts of several participants, a few questions each; texts are taken from `letters`."""

    def make(
        participants: int = 3,
        questions: int = 2,
        *,
        letters: str = "a12 ",
        low: int = 0,
        high: int = 12,
        step: int = 1,
        length: int = 6,
        seed: int = 0,
        labels: Sequence[str] = (),
    ) -> pd.DataFrame:
        high = low + step * (len(labels) - 1) if labels else high
        rng = np.random.default_rng(seed)

        def text() -> str:
            size = 1 + rng.integers(length)
            return "".join(rng.choice(list(letters), size=size)) + "a"

        rows = []
        for p in range(participants):
            system = text()
            for q in range(questions):
                rows.append(
                    {
                        "prompt_id": f"p{p}q{q}",
                        "participant": f"p{p}",
                        "wave": "w1",
                        "split": "test",
                        "held_out": None,
                        "question": f"q{q}",
                        "order": q,
                        "intervention": None,
                        "template": "default",
                        "weight": 1.0,
                        "answer": low,
                        "answer_digit": None,
                        "low": low,
                        "high": high,
                        "step": step,
                        "labels": json.dumps(labels) if labels else None,
                        "system": system,
                        "user": text(),
                        "user_digit": None,
                        "target": labels[0] if labels else str(low),
                        "target_digit": None,
                    }
                )
        return pd.DataFrame(rows)

    return make
