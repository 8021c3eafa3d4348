"""What a training follows from, so that an interrupted one is only ever resumed as itself.

Belongs here: naming it all, and saying what of it has changed. Not here: what is done about it
(`step_checkpoints.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from evsim_assets.specs.study import AdapterSpec
from evsim_assets.token_tree.losses import Text

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "tokenizers", "numpy")
CODE = (
    "adapters/base_model.py",
    "adapters/shares.py",
    "adapters/steps.py",
    "adapters/trainer.py",
    "adapters/training.py",
    "token_tree/*.py",
)
"""Files of this package whose every line may decide a weight. (The texts are in the data themselves.)"""
SHOWN = 6


def identity(
    texts: Mapping[str, Sequence[Sequence[Text]]], spec: AdapterSpec, **known: Any
) -> dict[str, Any]:
    """All that decides the trained weights, as JSON values by name.

    `texts` are those of each split, by participant, so that data, prompts and tokenizer are all in them.
    How many threads there are, how much goes through the model at once and which layout it takes are not
    named: they change rounding alone.
    """
    return {
        "data": {split: _digest(people) for split, people in sorted(texts.items())},
        "spec": spec.model_dump(mode="json"),
        "code": _code(),
        "libraries": {name: installed_version(name) for name in LIBRARIES},
        **known,
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, in words: `spec (training.learning_rate: 0.002, was 0.003)`."""
    found = []
    for name in sorted({*before, *now}):
        old, new = dict(_leaves(before.get(name))), dict(_leaves(now.get(name)))
        apart = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        if not apart:
            continue
        told = [f"{key}: {_short(new.get(key))}, was {_short(old.get(key))}" for key in apart[:SHOWN]]
        more = f" and {len(apart) - SHOWN} more" if len(apart) > SHOWN else ""
        found.append(f"{name} ({'; '.join(told).removeprefix(': ')}{more})")
    return found


def _leaves(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _leaves(part, f"{above}.{name}" if above else str(name))
    else:
        yield above, value


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text  # a digest


def _digest(people: Sequence[Sequence[Text]]) -> str:
    """SHA-256 of all that a training sees of the texts."""
    digest = hashlib.sha256()
    for texts in people:
        for text in texts:
            near = [[mass, list(tokens)] for mass, tokens in text.candidates]
            digest.update(json.dumps([list(text.prompt), list(text.answer), near, text.weight]).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _code() -> str:
    """SHA-256 of the source of everything that trains."""
    digest = hashlib.sha256()
    for files in CODE:
        for file in sorted(Path(__file__).parents[1].glob(files)):
            digest.update(f"{file.parent.name}/{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()
