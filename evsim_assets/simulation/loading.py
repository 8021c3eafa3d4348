"""A stored adapter as a model in memory.

Belongs here: how one is loaded for reading, and the last one loaded. Not here: where adapters are stored
(`assets.py`), how weights are loaded (`adapters/base_model.py`), what is read from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from evsim_assets.adapters.base_model import load_tokenizer, load_with_adapter
from evsim_assets.simulation.engines import Weights
from evsim_assets.specs.study import ComputeSpec, Method


@dataclass(frozen=True)
class StoredAdapter:
    """Where an adapter's files are and how they are read.

    `base`: the base model's folder; `checkpoint`: the adapter's, None of a pretrained model. `four_bits`:
    whether it was trained, and so is read, with its base's weights kept in 4 bits. `version` names what is in
    `checkpoint`, for whoever remembers.
    """

    base: str
    checkpoint: str | None
    method: Method
    compute: ComputeSpec
    trust_remote_code: bool
    four_bits: bool
    version: str


@lru_cache(maxsize=1)
def model_of(stored: StoredAdapter) -> tuple[Any, Any]:
    """The adapter's model and tokenizer; the last one loaded is kept for its next temperature.

    Raises:
        BadInput: it cannot be loaded; see `load_with_adapter`.
    """
    return fresh_model(stored)


def fresh_model(
    stored: StoredAdapter, *, method: Method | None = None, resident: bool | None = None
) -> tuple[Any, Any]:
    """The same, loaded anew and the caller's own; `method` and `resident` in place of the adapter's."""
    model = load_with_adapter(
        stored.base,
        Path(stored.checkpoint) if stored.checkpoint else None,
        method=method or stored.method,
        device=stored.compute.device,
        precision=stored.compute.precision,
        trust_remote_code=stored.trust_remote_code,
        resident=(stored.four_bits or None) if resident is None else resident,
    )
    return model, load_tokenizer(stored.base, trust_remote_code=stored.trust_remote_code)


def forget() -> None:
    """Let go of the model that is kept, so that another has room."""
    model_of.cache_clear()


def weights_of(stored: StoredAdapter) -> Weights:
    """Where the model lies, for an engine that loads it by itself."""
    compute = stored.compute
    return Weights(
        stored.base,
        stored.checkpoint,
        stored.method,
        compute.device,
        compute.precision,
        stored.trust_remote_code,
    )
