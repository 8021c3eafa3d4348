"""What training each adapter of a study would take: memory, tokens, time, and whether it fits.

Belongs here: putting the parts together, each of them known or unknown for a stated reason. Not here: the
parts (`workload.py`, `memory.py`, `fits.py`, `pace.py`), where prompts come from, what is printed
(`planning/`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evsim_assets.adapters.base_model import load_tokenizer
from evsim_assets.adapters.fits import Fit, fit
from evsim_assets.adapters.memory import Passage
from evsim_assets.adapters.shapes import Shapes, shapes_or_why_not
from evsim_assets.adapters.training import MICRO_BATCH_TOKENS
from evsim_assets.adapters.workload import StandInTokenizer, Workload, workload
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AdapterSpec, StudySpec

LOGITS_ON_ANSWERS = 0.05
"""Places where logits are read, as a share of tree tokens, where texts are not known: EV-shift's, rounded."""


@dataclass(frozen=True)
class Pretrained:
    """An adapter that is its base model: nothing to train."""

    spec: AdapterSpec


@dataclass(frozen=True)
class Estimate:
    """What training an adapter would take; each part itself, or in words why it is not known.

    `notes`: what the figures rest on, where that is not the study's own texts and model.
    """

    spec: AdapterSpec
    work: Workload | str
    fit: Fit | str
    pace: Any | str
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """Time of the whole training; None: not known."""
        if isinstance(self.work, str) or isinstance(self.pace, str):
            return None
        evaluated = self.work.evaluations * self.work.evaluated_tokens
        return float(self.pace.time_of(self.work.tree_tokens, evaluated))


def estimate_study(
    study: StudySpec,
    prompts: pd.DataFrame | str,
    folders: Mapping[str, Path | None],
    *,
    free: int | None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Estimate | Pretrained]:
    """One for each adapter, in the study's order. No weights are loaded but for measuring a small model.

    Args:
        prompts: the study's; or why there are none.
        folders: of each model its folder on this machine; None: it is not here.
        free: bytes to judge by (`fits.available_memory`); None: not known.
        say: is told what is being measured.
    """
    parts = _Parts(study, prompts, folders, say)
    for spec in study.adapter_specs:
        yield Pretrained(spec) if spec.training is None else parts.estimate(spec, free)


class _Parts:
    """What adapters of a study have in common is found out once."""

    def __init__(
        self,
        study: StudySpec,
        prompts: pd.DataFrame | str,
        folders: Mapping[str, Path | None],
        say: Callable[[str], None],
    ) -> None:
        self.study, self.prompts, self.folders, self.say = study, prompts, folders, say
        self._shapes: dict[str, Shapes | str] = {}
        self._tokenizers: dict[str, Any] = {}
        self._paces: dict[Any, Any] = {}

    def estimate(self, spec: AdapterSpec, free: int | None) -> Estimate:
        assert spec.training is not None
        budget = spec.training.micro_batch_tokens or MICRO_BATCH_TOKENS
        shapes, work = self.shapes(spec.model), self._work(spec, budget)
        notes = []
        if isinstance(shapes, Shapes) and shapes.source != "config.json":
            notes.append(f"{spec.model}: shapes {shapes.source}; its files are not here")
        if not isinstance(work, str) and isinstance(self.tokenizer(spec.model), StandInTokenizer):
            notes.append(
                f"{spec.model}: its tokenizer is not here; tokens are those of a stand-in, which makes"
                " about a tenth more than Llama 2's"
            )
        if isinstance(work, str) and isinstance(shapes, Shapes):
            notes.append(
                f"{spec.key}: its texts are not known; memory is that of a full micro-batch ({budget} tokens)"
            )
        found = self._fit(spec, shapes, work, budget, free)
        pace = self._pace(spec, shapes, work, found, budget)
        return Estimate(spec, work, found, pace, tuple(notes))

    def shapes(self, name: str) -> Shapes | str:
        if name not in self._shapes:
            self._shapes[name] = shapes_or_why_not(self.study.models[name], self.folders[name])
        return self._shapes[name]

    def tokenizer(self, name: str) -> Any:
        """The model's own, or a stand-in where that is not here."""
        if name not in self._tokenizers:
            model, folder = self.study.models[name], self.folders[name]
            try:
                self._tokenizers[name] = load_tokenizer(
                    str(folder or model.hub or model.path),
                    revision=model.revision,
                    trust_remote_code=model.trust_remote_code,
                )
            except (OSError, ValueError):
                self._tokenizers[name] = StandInTokenizer()
        return self._tokenizers[name]

    def _work(self, spec: AdapterSpec, budget: int) -> Workload | str:
        if isinstance(self.prompts, str):
            return self.prompts
        try:
            return workload(self.prompts, spec, self.tokenizer(spec.model), self.study.seed, budget)
        except BadInput as problem:
            return str(problem)

    def _fit(
        self, spec: AdapterSpec, shapes: Shapes | str, work: Workload | str, budget: int, free: int | None
    ) -> Fit | str:
        if isinstance(shapes, str):
            return shapes
        assert spec.training is not None
        if isinstance(work, str):
            on_text = spec.training.loss_on == "text"
            full = Passage(budget, budget if on_text else round(LOGITS_ON_ANSWERS * budget))
            passages = {"trained_on": full, "evaluated_on": full}
        else:
            passages = {"trained_on": work.trained_on, "evaluated_on": work.evaluated_on}
        compute = self.study.compute
        try:
            return fit(
                spec,
                shapes,
                device=compute.device,
                precision=compute.precision,
                budget=budget,
                free=free,
                **passages,
            )
        except Exception as error:  # noqa: BLE001 - a foreign architecture may raise anything; it is said
            return f"its forward pass cannot be counted ({type(error).__name__}: {error})"

    def _pace(
        self, spec: AdapterSpec, shapes: Shapes | str, work: Workload | str, found: Fit | str, budget: int
    ) -> Any | str:
        """Measured once for all adapters that a step costs the same."""
        if isinstance(shapes, str):
            return shapes
        if isinstance(work, str):
            return work
        if isinstance(found, str):
            return found
        import torch

        device = self.study.compute.device
        if device == "cuda" and not torch.cuda.is_available():
            return "no GPU here to measure on"
        if found.free is not None and 12 * (shapes.weights.every - shapes.weights.linear) > found.free:
            return "too large to measure here"
        training = spec.training
        assert training is not None
        same = (spec.model, found.memory.resident, spec.method == "full", training.rank, training.dropout)
        same += (training.loss_on, training.gradient_checkpointing, budget, spec.answers, spec.penalty)  # type: ignore[assignment]
        if same not in self._paces:
            from evsim_assets.adapters.pace import measured_pace

            self.say(f"measuring {spec.key}")
            try:
                self._paces[same] = measured_pace(
                    spec,
                    shapes,
                    work.sample,
                    work.validation,
                    source=_weights_at(self.folders[spec.model]),
                    device=device,
                    precision=self.study.compute.precision,
                    resident=found.memory.resident,
                    budget=budget,
                    trust_remote_code=self.study.models[spec.model].trust_remote_code,
                )
            except Exception as error:  # noqa: BLE001 - of a part of a foreign model; it is said
                self._paces[same] = f"it could not be measured ({type(error).__name__}: {error})"
        return self._paces[same]


def _weights_at(folder: Path | None) -> str | None:
    return str(folder) if folder is not None and any(folder.glob("*.safetensors")) else None
