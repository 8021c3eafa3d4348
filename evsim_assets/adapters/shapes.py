"""What is known of a model without loading it: its configuration, and from that every weight's shape.

Belongs here: finding a configuration, and the model without weights that follows from it. Not here: how
many bytes or seconds that means (`memory.py`, `pace.py`). torch and transformers are imported inside
functions.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evsim_assets.adapters.base_model import Precision, quiet_libraries, trainable
from evsim_assets.specs.study import AdapterSpec, ModelSpec

_LLAMA_2 = {"vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
PUBLISHED: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-2-7b-chat-hf": {
        **_LLAMA_2,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "meta-llama/Llama-2-13b-chat-hf": {
        **_LLAMA_2,
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
    },
    "meta-llama/Llama-2-70b-chat-hf": {
        **_LLAMA_2,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
}
"""The paper's models, by their hub names, so that a study can be planned where they are not: fields of the
config.json that is published with each, and which give the counts of arXiv 2307.09288, Table 1."""


@dataclass(frozen=True)
class Shapes:
    """A model's configuration (transformers'), and where it is from, in words."""

    config: Any
    source: str

    @cached_property
    def written(self) -> str:
        """The configuration as text; equal ones are of equal shapes."""
        return str(self.config.to_json_string())

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return int(self.config.get_text_config().num_hidden_layers)

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return int(self.config.get_text_config().hidden_size)

    @property
    def vocabulary(self) -> int:
        """How many logits a token has."""
        return int(self.config.get_text_config().vocab_size)

    @property
    def widest(self) -> int:
        """Width of the widest tensor inside a layer."""
        config = self.config.get_text_config()
        return int(max(self.hidden, getattr(config, "intermediate_size", None) or 4 * self.hidden))

    def bare(self, precision: Precision, layers: int | None = None) -> Any:
        """The model on the meta device, which holds no numbers; with only its first `layers` if given."""
        import torch
        from transformers import AutoModelForCausalLM

        config = self.config if layers is None else cut_to(self.config, layers)
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        with quiet_libraries(), torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=dtype)

    @cached_property
    def weights(self) -> Weights:
        """How many weights there are, and of which kind."""
        model = self.bare("fp32")
        head = model.get_output_embeddings()
        linear = [m for m in model.modules() if type(m).__name__ == "Linear" and m is not head]
        every = sum(p.numel() for p in model.parameters())
        return Weights(
            every, sum(m.weight.numel() for m in linear), max(p.numel() for p in model.parameters())
        )

    def trained(self, spec: AdapterSpec) -> int:
        """How many weights the adapter trains."""
        if spec.method == "full":
            return self.weights.every
        assert spec.training is not None, "a pretrained model is not trained"
        which = (self.written, spec.training.rank)
        if which not in _TRAINED:
            counts = []
            for layers in (1, 2):
                with quiet_libraries():
                    model = trainable(self.bare("fp32", layers).requires_grad_(False), spec)
                counts.append(sum(p.numel() for p in model.parameters() if p.requires_grad))
            _TRAINED[which] = counts[0] + (self.layers - 1) * (counts[1] - counts[0])
        return _TRAINED[which]


_TRAINED: dict[tuple[str, int], int] = {}


@dataclass(frozen=True)
class Weights:
    """`every`: all weights, shared ones once. `linear`: those of the linear layers but the head, which
    QLoRA holds in 4 bits. `largest`: of the largest tensor."""

    every: int
    linear: int
    largest: int


def cut_to(config: Any, layers: int) -> Any:
    """The configuration of the same model with only its first `layers`."""
    shorter = copy.deepcopy(config)
    text = shorter.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = list(text.layer_types)[:layers]
    return shorter


def shapes_of(source: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Shapes:
    """The shapes of the model at `source`, a folder or a hub name. Raises OSError: no config.json here."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        source, revision=revision, trust_remote_code=trust_remote_code, local_files_only=True
    )
    return Shapes(config, "config.json")


def shapes_or_why_not(model: ModelSpec, folder: Path | None) -> Shapes | str:
    """The shapes of a study's model, its weights here or not; or why they are not known, in words.

    From its config.json in `folder` or, with None, the Hugging Face cache; else as published, where evsim
    knows that.
    """
    source = str(folder) if folder is not None else model.hub
    if source is None:
        return f"there is no model at {model.path}"
    try:
        return shapes_of(source, revision=model.revision, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        why = str(error).splitlines()[0]
    if folder is None and model.hub in PUBLISHED:
        from transformers import LlamaConfig

        return Shapes(LlamaConfig(**PUBLISHED[str(model.hub)]), "as published")
    return f"no config.json of {model.hub} on this machine" if folder is None else f"its config.json: {why}"
