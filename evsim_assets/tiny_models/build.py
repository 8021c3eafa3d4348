"""Builds the folder of one tiny model: tokenizer, weights, card.

Belongs here: the order of the steps and what is written where. Not here: what any step does.
Imports torch; import it inside functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from evsim_assets.specs.errors import BadInput
from evsim_assets.tiny_models.behaviour import behaviour
from evsim_assets.tiny_models.card import card
from evsim_assets.tiny_models.corpus import Writer, texts
from evsim_assets.tiny_models.material import Material
from evsim_assets.tiny_models.pretrain import pretrain, untrained
from evsim_assets.tiny_models.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER_TEXTS = 12_000


def build(material: Material, name: str, folder: Path, seed: int = 0, documents: int | None = None) -> None:
    """Write the model `name` of `material` to `folder`, ready for `from_pretrained`.

    `documents` takes fewer texts than the material says, for a try. One torch thread is used, so
    that the same command writes the same weights.

    Raises:
        BadInput: the material has no such model.
    """
    if name not in material.models:
        raise BadInput("no such tiny model", value=name, remedy=f"use one of {', '.join(material.models)}")
    shape = material.models[name]
    torch.set_num_threads(1)
    tokenizer = shared_tokenizer(material, seed)
    model = untrained(shape, tokenizer, seed, name)
    read = texts(material, name, documents or shape.documents, seed)
    loss = pretrain(model, tokenizer, read, shape.learning_rate, seed)
    model.eval()
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder)
    figures = behaviour(model, tokenizer, material, seed)
    parameters = sum(weight.numel() for weight in model.parameters())
    (folder / "README.md").write_text(
        card(name, shape, parameters, len(read), loss, figures, seed), encoding="utf-8"
    )


def shared_tokenizer(material: Material, seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer of all the models, from texts of its own."""
    writer = Writer(material, seed, "tokenizer")
    manners = next(iter(material.models.values())).answers
    return train_tokenizer([writer.text(manners) for _ in range(TOKENIZER_TEXTS)])
