"""Pre-trains one tiny model on its texts.

Belongs here: the model's shape, the token ids it reads, and the training run. Not here: what the
texts say (`corpus.py`), fine-tuning on a survey (`adapters/`). Imports torch; import it inside
functions.

transformers' own Trainer does the work: AdamW, cosine schedule, one text a row, texts of like
length together. A row holds one chat from position zero, as every prompt of a survey will.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    DataCollatorForSeq2Seq,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
    set_seed,
)

from evsim_assets.specs.seeds import derived_seed
from evsim_assets.tiny_models.corpus import Text
from evsim_assets.tiny_models.material import HEAD_SIZE, TinyModel
from evsim_assets.tiny_models.tokenizer import LONGEST_TEXT

BATCH_SIZE = 8


class Texts(torch.utils.data.Dataset[dict[str, list[int]]]):
    """Token ids of each text; every token is a target."""

    def __init__(self, rows: Sequence[list[int]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        row = self.rows[index]
        return {"input_ids": row, "labels": row, "attention_mask": [1] * len(row)}


def token_ids(tokenizer: Any, text: Text) -> list[int]:
    """A chat through the chat template; a plain text between <s> and </s>."""
    if isinstance(text, str):
        return [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    return list(tokenizer.apply_chat_template(text, tokenize=True, return_dict=True)["input_ids"])


def untrained(shape: TinyModel, tokenizer: Any, seed: int, name: str) -> LlamaForCausalLM:
    """The model before training, its weights drawn from (seed, name)."""
    set_seed(derived_seed(seed, "tiny-model-weights", name) % 2**32)
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    heads = shape.hidden // HEAD_SIZE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=LONGEST_TEXT,
        tie_word_embeddings=True,
        dtype="float32",
        **special,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**special)
    return model


def pretrain(
    model: LlamaForCausalLM, tokenizer: Any, texts: Sequence[Text], learning_rate: float, seed: int
) -> float:
    """Train `model` in place, one pass over `texts`; the mean loss (nats per token) of the last tenth.

    On a CPU the same texts, seed and number of torch threads give the same weights, bit for bit.
    """
    rows = [token_ids(tokenizer, text) for text in texts]
    steps = -(-len(rows) // BATCH_SIZE)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            seed=derived_seed(seed, "tiny-model-order", "") % 2**32,
            per_device_train_batch_size=BATCH_SIZE,
            num_train_epochs=1,
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=steps // 50,
            weight_decay=0.01,
            adam_beta2=0.99,
            train_sampling_strategy="group_by_length",
            use_cpu=True,
            logging_steps=max(1, steps // 40),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=Texts(rows),
            data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100),
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)
