"""Tables of many prompts that a killed run need not begin anew: in what order, and what they follow from.

Belongs here: which prompts stand beside each other, and what names a shard besides its prompts. Not here:
shards and their files (`shards.py`), what a shard holds (`distributions.py`, `generations.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.durable import write_durably
from evsim_assets.simulation.shards import in_shards

SHARD_PROMPTS = 1024
"""Prompts of one shard: what a killed run loses at most. Fewer would cut more shared beginnings in two."""
ASKED = (
    "prompt_id",
    "participant",
    "question",
    "system",
    "user",
    "user_digit",
    "low",
    "high",
    "step",
    "labels",
)
"""The columns of `prompts` that answers follow from; wording a target otherwise changes none."""
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers", "numpy")
CODE = ("simulation/*.py", "token_tree/*.py", "adapters/base_model.py", "prompts/chat.py")
"""Files of this package whose every line may decide a row."""

Progress = Callable[[int, int], None]
Make = Callable[[pd.DataFrame, Progress], tuple[pd.DataFrame, Any]]
"""Rows of the table for the given prompts, any number of each, and a note on them: JSON, or None. Tells how
many prompts are done, of how many."""


def by_shards(
    folder: Path,
    follows_from: dict[str, Any],
    prompts: pd.DataFrame,
    make: Make,
    *,
    tell: Callable[[float, str], None],
    say: Callable[[str], None],
    size: int = SHARD_PROMPTS,
) -> tuple[pd.DataFrame, list[Any]]:
    """The table of all `prompts`, in their order, made shard by shard; finished shards are taken as they are.

    With it the notes on all shards, those of earlier runs as well.

    Args:
        folder: where the shards are; this run's alone.
        follows_from: see `follows_from`; a shard of anything else is not mistaken for one of this table.
        prompts: each `prompt_id` once. The rows that `make` gives have that column.
        tell: told which share of the prompts is done, and in words.
        say: told what is taken from an earlier run.
    """
    near = beside_their_like(prompts)
    named = hashlib.sha256(json.dumps([follows_from, near["prompt_id"].tolist()]).encode()).hexdigest()[:16]

    def shard(rows: list[int]) -> pd.DataFrame:
        reached = rows[0]

        def progress(done: int, of: int) -> None:  # there may turn out to be more to do
            nonlocal reached
            reached = max(reached, rows[0] + round(len(rows) * done / max(of, 1)))
            tell(reached / len(near), f"{reached} of {len(near)} prompts")

        made, note = make(near.iloc[rows], progress)
        if note is not None:  # before the shard, so that no shard is without
            write_durably(folder / f"note-{named}-{rows[0]:08d}.json", json.dumps(note).encode())
        return made

    table = in_shards(folder, follows_from, near["prompt_id"].tolist(), shard, size=size, say=say)
    own_place = pd.Index(prompts["prompt_id"]).get_indexer(pd.Index(table["prompt_id"]))
    notes = [json.loads(path.read_text()) for path in sorted(folder.glob(f"note-{named}-*.json"))]
    return table.iloc[np.argsort(own_place, kind="stable")].reset_index(drop=True), notes


def beside_their_like(prompts: pd.DataFrame) -> pd.DataFrame:
    """The prompts with those of one beginning together, and within them those of one participant.

    What is shared is read once a shard: beginnings, and whole prompts of people who are alike.
    """
    first = [pd.factorize(prompts[name])[0] for name in ("participant", "system")]
    return prompts.iloc[np.lexsort(first)]


def follows_from(**known: Any) -> dict[str, Any]:
    """All that decides a row besides its prompt, as JSON by name: what is known, code and libraries."""
    digest = hashlib.sha256()
    for files in CODE:
        for file in sorted(Path(__file__).parents[1].glob(files)):
            digest.update(f"{file.parent.name}/{file.name}\n".encode() + file.read_bytes())
    libraries = {name: installed_version(name) for name in LIBRARIES}
    return {**known, "code": digest.hexdigest(), "libraries": libraries}
