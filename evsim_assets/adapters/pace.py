"""How fast this machine trains a model: a short measurement, and what follows from it for a whole training.

Belongs here: running a few micro-batches on the clock. Not here: what a training has to read
(`workload.py`). Imports torch; import this module inside functions.

A small model whose weights are here is measured itself. Of a large one, layers of its shapes with random
weights are: one and two, whose difference is one more layer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from evsim_assets.adapters.base_model import (
    Device,
    Precision,
    keep_gradients_right,
    load_base,
    quiet_libraries,
    trainable,
)
from evsim_assets.adapters.shapes import Shapes, cut_to
from evsim_assets.specs.study import AdapterSpec
from evsim_assets.token_tree.losses import Text, loss_batches, weighted_loss

SMALL_WEIGHTS = 50_000_000
"""A model of no more weights is loaded and measured itself."""

SECONDS = 4.0
"""How long each measurement goes on; a pass that has begun is finished."""

PASS_SECONDS = 1.5
"""How long one pass over a part of a large model may take; its texts are cut to that."""

SLOWEST = 20e9
"""Multiplications a second that the slowest machine is believed to do, for the first guess at that."""


@dataclass(frozen=True)
class Pace:
    """Seconds a tree token of training (with its share of the optimizer) and of evaluation; `starting`:
    seconds until the first step. `how`: what was measured, in words; `seconds`: how long that took."""

    training: float
    evaluation: float
    starting: float
    how: str
    seconds: float

    def time_of(self, tree_tokens: int, evaluated_tokens: int) -> float:
        """Seconds of a training that reads so many tokens, and so many in evaluations."""
        return self.starting + self.training * tree_tokens + self.evaluation * evaluated_tokens


def measured_pace(
    spec: AdapterSpec,
    shapes: Shapes,
    steps: Sequence[Sequence[Text]],
    validation: Sequence[Text],
    *,
    source: str | None,
    device: Device,
    precision: Precision,
    resident: bool,
    budget: int,
    trust_remote_code: bool = False,
) -> Pace:
    """Measure for at most some 20 seconds.

    Args:
        steps, validation: texts to measure with; their token ids are taken modulo the vocabulary.
        source: where the model's weights are, if they are here.
    """
    began = time.monotonic()
    read = [[_within(text, shapes.vocabulary) for text in texts] for texts in steps]
    judged = [_within(text, shapes.vocabulary) for text in validation]
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(0)
        if source is not None and shapes.weights.every <= SMALL_WEIGHTS:
            with quiet_libraries():
                base = load_base(
                    source,
                    method=spec.method,
                    device=device,
                    precision=precision,
                    resident=resident,
                    trust_remote_code=trust_remote_code,
                )
            run = _Run(base, spec, device, precision, budget)
            starting = time.monotonic() - began
            run.evaluated(judged)
            training, evaluation = run.trained(read), run.evaluated(judged)
            how = f"the model itself, {run.passes} steps of its own"
            return Pace(training, evaluation, starting, how, time.monotonic() - began)
        few = _shortened(read, shapes)
        tokens = sum(len(text.tokens) for text in few)
        paces = []
        for layers in (1, 2):
            run = _Run(
                _part(shapes, layers, spec, device, precision, resident), spec, device, precision, budget
            )
            paces.append((run.trained([few] * 50), run.evaluated(few)))
            del run
    training, evaluation = (
        one + (shapes.layers - 1) * max(two - one, 0.0) for one, two in zip(*paces, strict=True)
    )
    how = f"one and two of its {shapes.layers} layers with random weights, {tokens} tokens at once"
    return Pace(training, evaluation, 0.0, how, time.monotonic() - began)


class _Run:
    """A model on the clock."""

    def __init__(
        self, base: Any, spec: AdapterSpec, device: Device, precision: Precision, budget: int
    ) -> None:
        from evsim_assets.token_tree.layout import prepare

        assert spec.training is not None
        with quiet_libraries():
            self.model = trainable(base, spec)
            if spec.training.gradient_checkpointing:
                self.model.activation_checkpointing_enable({"use_reentrant": False})
                self.model.enable_input_require_grads()
        self.layout = prepare(self.model)
        self.spec, self.device, self.budget = spec, device, budget
        self.half = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
        self.weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-6)
        self.passes = 0

    def trained(self, steps: Sequence[Sequence[Text]]) -> float:
        """Seconds a tree token of optimizer steps; the first is not counted unless it took all the time."""
        self.model.train()
        counted: list[tuple[float, int]] = []
        stop = time.monotonic() + SECONDS
        for texts in steps:
            began, tokens = self._now(), 0
            for loss, n in self._losses(texts):
                loss.backward()
                tokens += n
            torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            counted.append((self._now() - began, tokens))
            if time.monotonic() > stop:
                break
        self.passes = max(len(counted) - 1, 1)
        return _a_token(counted[1:] or counted)

    def evaluated(self, texts: Sequence[Text]) -> float:
        """Seconds a tree token of an evaluation."""
        self.model.eval()
        began, tokens = self._now(), 0
        with torch.no_grad():
            for _, n in self._losses(texts):
                tokens += n
                if self._now() - began > SECONDS:
                    break
        return _a_token([(self._now() - began, tokens)])

    def _losses(self, texts: Sequence[Text]) -> Iterator[tuple[torch.Tensor, int]]:
        training, penalty = self.spec.training, self.spec.penalty
        assert training is not None
        for part in loss_batches(
            texts,
            loss_on=training.loss_on,
            alpha=penalty.alpha if penalty else 0.0,
            max_tokens=self.budget,
            layout=self.layout,
            device=self.device,
        ):
            with self.half:
                loss = weighted_loss(self.model, part)
            yield loss, part.batch.tokens

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.monotonic()


def _a_token(counted: Sequence[tuple[float, int]]) -> float:
    return sum(seconds for seconds, _ in counted) / max(sum(tokens for _, tokens in counted), 1)


def _within(text: Text, vocabulary: int) -> Text:
    """The text with ids that the model has, also where a stand-in made them."""

    def ids(tokens: Sequence[int]) -> list[int]:
        return [token % vocabulary for token in tokens]

    return replace(
        text,
        prompt=ids(text.prompt),
        answer=ids(text.answer),
        candidates=[(mass, ids(tokens)) for mass, tokens in text.candidates],
    )


def _shortened(steps: Sequence[Sequence[Text]], shapes: Shapes) -> list[Text]:
    """As many texts of the first step as two layers are likely to read in time; one, cut, at the least."""
    weights = shapes.weights.every - shapes.weights.linear * (1 - 2 / shapes.layers)
    most = max(int(PASS_SECONDS * SLOWEST / (3 * weights)), 32)
    if torch.cuda.is_available():
        most = max(most, 4096)
    kept: list[Text] = []
    for text in (text for texts in steps for text in texts):
        if sum(len(t.tokens) for t in kept) + len(text.tokens) > most:
            break
        kept.append(text)
    return kept or [replace(steps[0][0], prompt=steps[0][0].prompt[-most:], candidates=())]


def _part(
    shapes: Shapes, layers: int, spec: AdapterSpec, device: Device, precision: Precision, resident: bool
) -> Any:
    """The first layers of the model with random weights, in 4 bits where the model would be."""
    from transformers import AutoModelForCausalLM

    half = precision == "bf16" and spec.method != "full"
    with quiet_libraries(), torch.device(device):
        model = AutoModelForCausalLM.from_config(
            cut_to(shapes.config, layers), dtype=torch.bfloat16 if half else torch.float32
        )
    model.requires_grad_(False)
    if resident:
        _quantize(model, device)
        keep_gradients_right(model)
    return model


def _quantize(model: Any, device: Device) -> None:
    """Every linear layer but the head in NF4, as `load_base` leaves them."""
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is torch.nn.Linear and layer is not model.get_output_embeddings():
                small = Linear4bit(
                    layer.in_features,
                    layer.out_features,
                    bias=layer.bias is not None,
                    compute_dtype=layer.weight.dtype,
                    quant_type="nf4",
                )
                small.weight = Params4bit(layer.weight.data.cpu(), requires_grad=False, quant_type="nf4")
                small.bias = layer.bias
                setattr(parent, name, small.to(device))
