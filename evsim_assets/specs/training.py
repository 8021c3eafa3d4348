"""How an adapter is trained: the fields of a study's `training` and `penalty`, and presets of them.

Belongs here: values, their ranges and where they come from. Not here: which adapters there are and
whose field wins (`study.py`), what a loss or an optimizer makes of them (`token_tree/`, `adapters/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from evsim_assets.specs.yaml_file import Spec

Method = Literal["pretrained", "lora", "qlora", "full"]
"""`pretrained`: as it is. `lora`; `qlora`: on 4-bit weights. `full`: every weight, without an adapter."""

Preset = Literal["qlora-paper", "qlora-paper-large", "ev-shift-paper"]

_QLORA = {
    "rank": 64,
    "lora_alpha": 16.0,
    "learning_rate": 2e-4,
    "schedule": "constant",
    "warmup_fraction": 0.0,
    "batch_size": 16,
    "max_grad_norm": 0.3,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "qlora-paper": _QLORA,
    "qlora-paper-large": {**_QLORA, "learning_rate": 1e-4},
    "ev-shift-paper": {**_QLORA, "epochs": 3.0, "loss_on": "text"},
}
"""What each preset fills in. QLoRA (2305.14314, B.2 and Table 9), to 13B and from 33B on; its LoRA dropout
is left at 0, since on the tree one mask serves all texts that share a beginning. EV-shift (2403.20252,
App. H and I) prints epochs and loss alone; the rest is QLoRA's to 13B."""

LORA_FIELDS = ("rank", "lora_alpha", "dropout")
"""What means nothing where every weight is trained."""


class TrainingSpec(Spec):
    """How an adapter is trained. Defaults: the QLoRA paper's (2305.14314, Table 9), 3 epochs.

    `learning_rate` is in 1/step; `batch_size` counts texts (one text is one answered question);
    `loss_on` is `answer` (answer and end-of-turn tokens) or `text` (every token, App. H). With
    `survey_weights` each answer counts by its survey weight, as given.

    `gradient_checkpointing` and `micro_batch_tokens` (tree tokens at once; None: 16384) are how, not
    what: they change memory and time, and results by rounding at most (with dropout, which masks are
    drawn). They are not part of a dumped
    spec, so no adapter is stale, nor an interrupted one begun anew, when they are set to fit a machine.

    `preset` names fields that are filled in; those written beside it win. It is gone once read: a
    preset and the same values written out are the same spec.
    """

    preset: Annotated[Preset | None, Field(exclude=True)] = None
    rank: Annotated[int, Field(ge=1)] = 64
    lora_alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    batch_size: Annotated[int, Field(ge=1)] = 16
    epochs: Annotated[float, Field(gt=0)] = 3.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 0.3
    evaluations_per_epoch: Annotated[int, Field(ge=1)] = 4
    loss_on: Literal["answer", "text"] = "answer"
    survey_weights: bool = True
    gradient_checkpointing: Annotated[bool, Field(exclude=True)] = False
    micro_batch_tokens: Annotated[int | None, Field(ge=1, exclude=True)] = None

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, given: Any) -> Any:
        """The preset's fields under those written; a name that is none stays, to be refused."""
        name = given.get("preset") if isinstance(given, dict) else None
        if not isinstance(name, str) or name not in PRESETS:
            return given
        return {**PRESETS[name], **{field: value for field, value in given.items() if field != "preset"}}

    @property
    def given(self) -> dict[str, Any]:
        """The fields that were written or filled in by a preset, with their values."""
        return {field: getattr(self, field) for field in self.model_fields_set - {"preset"}}


class LossSpec(Spec):
    """L = (1 - alpha) L_cross + alpha L_penalty (B.3); `d` is the penalty's reach in answers (Eq. 2)."""

    alpha: Annotated[float, Field(gt=0, le=1)]
    d: Annotated[float, Field(gt=0)]


class Tuning(Spec):
    """Values of training fields to try, each list in place of the study's one value. Every combination is an
    adapter, with what was tried in its key."""

    epochs: Annotated[tuple[Annotated[float, Field(gt=0)], ...] | None, Field(min_length=1)] = None
    rank: Annotated[tuple[Annotated[int, Field(ge=1)], ...] | None, Field(min_length=1)] = None
    lora_alpha: Annotated[tuple[Annotated[float, Field(gt=0)], ...] | None, Field(min_length=1)] = None
    learning_rate: Annotated[tuple[Annotated[float, Field(gt=0)], ...] | None, Field(min_length=1)] = None
    batch_size: Annotated[tuple[Annotated[int, Field(ge=1)], ...] | None, Field(min_length=1)] = None
    loss_on: Annotated[tuple[Literal["answer", "text"], ...] | None, Field(min_length=1)] = None

    @property
    def values(self) -> tuple[dict[str, Any], ...]:
        """Every combination, by field; the last field varies fastest."""
        lists = {field: listed for field in TUNED if (listed := getattr(self, field)) is not None}
        return tuple(dict(zip(lists, combination, strict=True)) for combination in product(*lists.values()))


TUNED = {
    "epochs": "epochs",
    "rank": "rank",
    "lora_alpha": "lora-alpha",
    "learning_rate": "rate",
    "batch_size": "batch",
    "loss_on": "on",
}
"""The fields of `Tuning` in the order of a key, with the key's word for each."""


def tuned_key(values: Mapping[str, Any]) -> str:
    """`epochs-6~rate-0.003~on-text`, the part of an adapter's key; empty where nothing is tuned."""
    parts = [
        f"{word}-{value}" if isinstance(value := values[field], str) else f"{word}-{value:g}"
        for field, word in TUNED.items()
        if field in values
    ]
    return "~".join(parts)
