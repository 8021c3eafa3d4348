"""A study: which models, adapters, temperatures and baselines are compared on one survey.

Belongs here: the fields of `data/studies/<study>.yaml` and how a grid of adapters unfolds into
keys. Not here: the fields of `training` and `penalty` (`training.py`) and of `baselines`
(`baselines.py`), what any of them does
(`adapters/`, `simulation/`, `baselines/`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_serializer, model_validator

from evsim_assets.specs.baselines import Baselines as Baselines
from evsim_assets.specs.baselines import BoostedGrid as BoostedGrid
from evsim_assets.specs.baselines import CatBoostGrid as CatBoostGrid
from evsim_assets.specs.baselines import SvrGrid as SvrGrid
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import Name
from evsim_assets.specs.templates import DEFAULT, TemplateName
from evsim_assets.specs.training import LORA_FIELDS, tuned_key
from evsim_assets.specs.training import LossSpec as LossSpec
from evsim_assets.specs.training import Method as Method
from evsim_assets.specs.training import TrainingSpec as TrainingSpec
from evsim_assets.specs.training import Tuning as Tuning
from evsim_assets.specs.yaml_file import Spec, SpecError, read_spec

AnswerScale = Literal["native", "digit"]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]


class ModelSpec(Spec):
    """A base model: a local `path` (relative to the project) or a `hub` name with its `revision`.

    `trust_remote_code` is off unless the study says otherwise.
    """

    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> ModelSpec:
        if (self.path is None) == (self.hub is None):
            raise SpecError("a model has either path or hub", remedy="keep exactly one of the two")
        return self


class ComputeSpec(Spec):
    """Where the study's models run. A GPU that is not there is an error, never a silent CPU run."""

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"


class AdapterGrid(Spec):
    """One line of a study's `adapters`: every model × template × penalty × fraction × tuning × trial.

    `templates` are wordings of the survey's prompts, by name. Of `training` only the fields that are
    given count, or filled in by its preset; they take the place of the study's. `tune` lists values of
    such fields, and every combination is an adapter, to be chosen among on validation.
    """

    models: Annotated[tuple[ModelName, ...], Field(min_length=1)]
    method: Method
    answers: AnswerScale = "native"
    templates: Annotated[tuple[TemplateName, ...], Field(min_length=1)] = (DEFAULT,)
    penalty: tuple[LossSpec, ...] = ()
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0,)
    trials: Annotated[int, Field(ge=1)] = 1
    training: TrainingSpec = TrainingSpec()
    tune: Tuning | None = None

    @model_validator(mode="before")
    @classmethod
    def _full_has_no_lora(cls, given: Any) -> Any:
        """Looks at what is written: of a preset, and of the study's own training, LoRA's fields are
        passed over, since they serve other adapters too."""
        if not isinstance(given, dict) or given.get("method") != "full":
            return given
        for section in ("training", "tune"):
            written = given.get(section)
            written = written if isinstance(written, dict) else {}
            for field in (name for name in LORA_FIELDS if name in written):
                raise SpecError(
                    "every weight is trained, without LoRA, so this means nothing here",
                    at=(section, field),
                    value=written[field],
                    remedy="remove the field, or use method: lora",
                )
        return given

    @model_validator(mode="after")
    def _pretrained_is_bare(self) -> AdapterGrid:
        if self.method == "pretrained":
            said = {
                "penalty": self.penalty,
                "training": self.training.given,
                "tune": self.tune,
                "trials": self.trials > 1,
                "fractions": self.fractions != (1.0,),
            }
            for field in (name for name, given in said.items() if given):
                raise SpecError(
                    "a pretrained model is not trained, so this means nothing here",
                    at=(field,),
                    remedy="remove the field, or change the method",
                )
        return self


class AdapterSpec(Spec):
    """One adapter of a study. `key` names what makes it different, in a fixed order."""

    model: ModelName
    method: Method
    answers: AnswerScale = "native"
    template: TemplateName = DEFAULT
    penalty: LossSpec | None = None
    fraction: float = 1.0
    trial: int = 1
    training: TrainingSpec | None = None
    tuned: Annotated[str, Field(exclude=True)] = ""
    """What `tune` set, as in the key: `epochs-6~rank-32`, or nothing; `training` has the values."""

    @field_serializer("training")
    def _without_lora(self, training: TrainingSpec | None) -> dict[str, Any] | None:
        """A dumped spec, and so its hash, says of training what counts for the method."""
        if training is None:
            return None
        return training.model_dump(mode="json", exclude=set(LORA_FIELDS) if self.method == "full" else None)

    @property
    def key(self) -> str:
        """The partition key, in `[a-z0-9.~-]`: `7b~qlora~alpha-0.5~d-10~fraction-0.1~trial-2`."""
        parts = [self.model, self.method]
        parts += [self.answers] if self.answers != "native" else []
        parts += [f"template-{self.template}"] if self.template != DEFAULT else []
        if self.penalty:
            parts += [f"alpha-{self.penalty.alpha:g}", f"d-{self.penalty.d:g}"]
        if self.fraction != 1.0:
            parts += [f"fraction-{self.fraction:g}"]
        parts += [self.tuned] if self.tuned else []
        if self.trial != 1 or self.fraction != 1.0:
            parts += [f"trial-{self.trial}"]
        return "~".join(parts)

    @property
    def factors(self) -> dict[str, Any]:
        """Every factor of the key as its own column, so that nobody parses keys."""
        return {
            "adapter": self.key,
            "model": self.model,
            "method": self.method,
            "answers": self.answers,
            "template": self.template,
            "alpha": self.penalty.alpha if self.penalty else None,
            "d": self.penalty.d if self.penalty else None,
            "fraction": self.fraction,
            "tuned": self.tuned,
            "trial": self.trial,
        }


class Sample(Spec):
    """How many participants of each split the study uses (all, where none is said); the first by keyed
    hash, so nested."""

    train: Annotated[int, Field(ge=1)] | None = None
    validation: Annotated[int, Field(ge=1)] | None = None
    test: Annotated[int, Field(ge=1)] | None = None


class TemperatureRange(Spec):
    """`low`, `low + step`, … `high`, as a range in place of a list."""

    low: Annotated[float, Field(ge=0)]
    high: Annotated[float, Field(allow_inf_nan=False)]
    step: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _arrives(self) -> TemperatureRange:
        if self.high < self.low:
            raise SpecError(
                f"the range is empty: high {self.high:g} is below low {self.low:g}",
                remedy="set high to low or above",
            )
        steps = (self.high - self.low) / self.step
        if abs(steps - round(steps)) > 1e-6:
            raise SpecError(
                f"step {self.step:g} does not lead from {self.low:g} to {self.high:g}",
                at=("step",),
                remedy="choose a step that divides high - low",
            )
        return self


def _temperature(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SpecError(
            "the temperature is not a number", value=value, remedy="write numbers such as 0 and 0.5"
        )
    if value < 0:
        raise SpecError(
            "the temperature is below zero", value=value, remedy="use 0 (greedy) or a positive number"
        )
    return value


def _temperature_form(value: object) -> str | None:
    if isinstance(value, (list, tuple)):
        return "list"
    return "range" if isinstance(value, (dict, TemperatureRange)) else None


Temperature = Annotated[float, BeforeValidator(_temperature)]
Temperatures = Annotated[
    Annotated[tuple[Temperature, ...], Tag("list")] | Annotated[TemperatureRange, Tag("range")],
    Discriminator(
        _temperature_form,
        custom_error_type="temperatures",
        custom_error_message="neither a list nor a range",
        custom_error_context={"remedy": "write a list such as [0, 1], or low, high and step"},
    ),
]
"""A list of temperatures or a range of them; tagged, so that an error speaks of the one that was written."""


class Audit(Spec):
    """Which prompts are read to their ends where answers are read `audited`: of those with anything taken to
    end a random `share`, at least `at_least`, and as many again of which most was taken and that look the
    least like the others; the mass that the audit finds must stay below `limit`, or all (of a shard) are read
    in full."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.02
    at_least: Annotated[int, Field(ge=1)] = 20
    limit: Annotated[float, Field(gt=0, lt=1)] = 1e-3


class Decoding(Spec):
    """How answers are decoded (B.1): at most `max_new_tokens`; the whole vocabulary unless limited.

    `engine`: what makes generations. `exact` draws them from the answer distribution and decodes what that
    does not cover; `decode` decodes every one with transformers' `generate`, and `vllm` with vLLM (CUDA).
    `reading`: `full` leaves at most `tolerance` of a prompt's distribution unread; `audited` takes numbers
    to end where no further digit could make an answer, reads on behind them for some prompts (`audit`), and
    leaves at most a tenth of the audit's limit unread.
    """

    max_new_tokens: Annotated[int, Field(ge=4)] = 8
    top_k: Annotated[int, Field(ge=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    engine: Literal["exact", "decode", "vllm"] = "exact"
    reading: Literal["full", "audited"] = "full"
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    audit: Audit = Audit()


class ParitySpec(Spec):
    """How far an adapter's probabilities may move with what should not matter: batches, merged LoRA weights,
    4-bit weights kept or dequantized once. Compared on `prompts` test prompts; a difference above `tolerance`
    (default: 1e-4 in fp32, 0.02 in bf16), times the temperature where that is below 1, blocks."""

    prompts: Annotated[int, Field(ge=1)] = 20
    tolerance: Annotated[float, Field(gt=0, lt=1)] | None = None


class PublishedPoint(Spec):
    """A published result shown beside the study's own; nothing is ever tuned to it."""

    label: str
    question: Name
    kl: float
    rmse: float


class StudySpec(Spec):
    """`data/studies/<study>.yaml`, read. `name` follows from the file's name."""

    name: Name
    survey: Name
    title: str
    note: str = ""
    seed: int = 0
    sample: Sample | None = None
    models: dict[ModelName, ModelSpec]
    compute: ComputeSpec = ComputeSpec()
    training: TrainingSpec = TrainingSpec()
    adapters: Annotated[tuple[AdapterGrid, ...], Field(min_length=1)]
    temperatures: Temperatures
    decoding: Decoding = Decoding()
    replicates: Annotated[int, Field(ge=1)] = 1
    parity: ParitySpec = ParitySpec()
    baselines: Baselines = Baselines()
    published: tuple[PublishedPoint, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> StudySpec:
        if not self.temperature_values:
            raise SpecError(
                "no temperature", at=("temperatures",), remedy="list at least one, such as [0, 1]"
            )
        listed: set[str] = set()
        for position, grid in enumerate(self.adapters):
            for nth, model in enumerate(grid.models):
                if model not in self.models:
                    raise SpecError(
                        "there is no such model",
                        at=("adapters", position, "models", nth),
                        value=model,
                        remedy=f"use one of {', '.join(self.models)}, or add it under models",
                    )
            for spec in self._unfolded(grid):
                if spec.key in listed:
                    raise SpecError(
                        "the adapter is listed twice",
                        at=("adapters", position),
                        value=spec.key,
                        remedy="keep one of the two",
                    )
                listed.add(spec.key)
        return self

    @property
    def temperature_values(self) -> tuple[float, ...]:
        """Ascending, without repeats."""
        if isinstance(self.temperatures, TemperatureRange):
            span = self.temperatures
            count = round((span.high - span.low) / span.step) + 1
            return tuple(round(span.low + i * span.step, 6) for i in range(count))
        return tuple(sorted(set(self.temperatures)))

    @property
    def adapter_specs(self) -> tuple[AdapterSpec, ...]:
        """Every adapter of the study, in the order of the file."""
        return tuple(spec for grid in self.adapters for spec in self._unfolded(grid))

    @property
    def templates(self) -> tuple[str, ...]:
        """The wordings that adapters of the study use, by name, in the order of the file."""
        return tuple(dict.fromkeys(template for grid in self.adapters for template in grid.templates))

    def _unfolded(self, grid: AdapterGrid) -> Iterator[AdapterSpec]:
        training = None
        if grid.method != "pretrained":
            training = self.training.model_copy(update=grid.training.given)
        tunings = grid.tune.values if grid.tune else ({},)
        for model, template, penalty, fraction, tuning, trial in product(
            grid.models,
            grid.templates,
            grid.penalty or (None,),
            grid.fractions,
            tunings,
            range(1, grid.trials + 1),
        ):
            yield AdapterSpec(
                model=model,
                method=grid.method,
                answers=grid.answers,
                template=template,
                penalty=penalty,
                fraction=fraction,
                trial=trial,
                training=_scaled(training.model_copy(update=tuning) if training else None, fraction),
                tuned=tuned_key(tuning),
            )

    def adapter(self, key: str) -> AdapterSpec:
        """The adapter of that key (KeyError if there is none)."""
        return {spec.key: spec for spec in self.adapter_specs}[key]


def _scaled(training: TrainingSpec | None, fraction: float) -> TrainingSpec | None:
    """Epochs scaled so that every data fraction sees as many texts (App. I: 3, 6 and 30 epochs)."""
    if training is None or fraction == 1.0:
        return training
    return training.model_copy(update={"epochs": training.epochs / fraction})


def read_study(path: Path) -> StudySpec:
    """The study in `path`. Raises BadInput naming file, line, field, value and remedy."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", path.stem):
        raise BadInput(
            "a study's file is its name",
            file=path,
            value=path.stem,
            remedy="use lower-case letters, digits and underscores",
        )
    return read_spec(path, StudySpec, name=path.stem)


def temperature_key(temperature: float) -> str:
    """The partition key of a temperature: `0.0`, `0.25`, `1.0`."""
    return repr(float(temperature))
