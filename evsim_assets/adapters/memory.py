"""How much memory training an adapter takes at its peak, from shapes alone.

Belongs here: what is held when, in bytes. Not here: what a forward pass keeps (`activations.py`), whether
it fits and what to change (`fits.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from evsim_assets.adapters.activations import count_kept
from evsim_assets.adapters.base_model import RESIDENT_FROM_BYTES, Device, Precision
from evsim_assets.adapters.shapes import Shapes
from evsim_assets.specs.study import AdapterSpec

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight in 4 bits: half a byte, and of each 64 weights one byte of scale with double quantization."""

WORKING_WIDTHS = 4
"""How many tensors of a layer's greatest width are there at once besides those that are kept: gradients on
the way back, and on the way forward what has not been let go yet."""

LOSS_ROWS = 256
"""Rows of logits that the loss works on at the same time (`token_tree/edge_loss.py`)."""

HEAP, HEAP_CHECKPOINTED, HEAP_CUDA = 2.3, 3.4, 1.1
"""How much more the allocator holds than is alive of what comes and goes in every pass. On a CPU glibc's
keeps freed pieces below 32 MB, into which tensors of other sizes fit badly, and checkpointing makes more of
them; with every piece given back at once (MALLOC_MMAP_THRESHOLD_) the peak was what is alive. Measured at
hidden sizes 512 and 1024 with 1,425 and 3,800 tree tokens; CUDA's is an allowance."""

LIBRARIES = {"cpu": 0.05e9, "cuda": 0.9e9}
"""What the libraries themselves take once training begins: on a CPU code that is loaded late and workspaces
of kernels, on CUDA the context and the workspaces. Measured."""


@dataclass(frozen=True)
class Passage:
    """What goes through the model at once: tree `tokens`, and `rows`, the places where logits are read."""

    tokens: int
    rows: int


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of training, by what they are for.

    `trained`: LoRA's weights ("full": none beside the base's). `kept`: what the forward pass of a micro-batch
    leaves for the backward pass. `working`: the most that is there besides, whichever is largest of the
    logits with their gradient, a layer's temporaries, an evaluation, an optimizer step and a checkpoint
    on its way to disk. `resident`: 4-bit weights stay in 4 bits.
    """

    base: int
    trained: int
    gradients: int
    optimizer: int
    kept: int
    working: int
    libraries: int
    resident: bool = False

    @property
    def total(self) -> int:
        """All of it."""
        return (
            self.base
            + self.trained
            + self.gradients
            + self.optimizer
            + self.kept
            + self.working
            + self.libraries
        )

    @property
    def parts(self) -> dict[str, int]:
        """The same by name, for people."""
        held = "4-bit base weights" if self.resident else "base weights"
        return {
            held: self.base,
            "trained weights": self.trained,
            "gradients": self.gradients,
            "AdamW": self.optimizer,
            "activations": self.kept,
            "logits and temporaries": self.working,
            "libraries": self.libraries,
        }


def memory_of(
    spec: AdapterSpec,
    shapes: Shapes,
    *,
    device: Device,
    precision: Precision,
    trained_on: Passage,
    evaluated_on: Passage,
    resident: bool | None = None,
) -> Memory:
    """The memory of one process that trains the adapter.

    Args:
        trained_on, evaluated_on: the largest micro-batches.
        resident: as `base_model.load_base` takes it; None decides as it does.
    """
    assert spec.training is not None, "a pretrained model is not trained"
    full, size = spec.method == "full", 4 if precision == "fp32" else 2
    weights = shapes.weights
    if resident is None:
        resident = device == "cuda" and size * weights.every > RESIDENT_FROM_BYTES
    resident = resident and spec.method == "qlora"
    trained = 4 * shapes.trained(spec)  # LoRA's weights are fp32, and so are all that "full" trains
    base = _base_bytes(spec, shapes, 4 if full else size, resident)
    found = count_kept(shapes, spec, device, precision)
    layers = found.per_layer * trained_on.tokens * shapes.layers
    checkpointed, inside = spec.training.gradient_checkpointing, 0.0
    heap = HEAP_CUDA if device == "cuda" else HEAP_CHECKPOINTED if checkpointed else HEAP
    if checkpointed:  # a layer's input each, and one layer's rest at a time
        inside = found.per_layer * trained_on.tokens
        layers = float(size * shapes.hidden * trained_on.tokens * shapes.layers)
    kept = layers + found.rest * trained_on.tokens + found.copies
    width = WORKING_WIDTHS * size * shapes.widest
    unpacked = size * weights.largest if resident else 0  # a layer's weights, while they are used
    working = max(
        max(inside + width * trained_on.tokens, _logits_trained(trained_on, shapes)) + unpacked,
        _logits_evaluated(evaluated_on, shapes, size) + width * evaluated_on.tokens + unpacked - kept,
        trained - kept,
    )
    return Memory(
        base=base,
        trained=0 if full else trained,
        gradients=trained,
        optimizer=2 * trained,
        kept=round(heap * kept),
        working=round(heap * max(working, 0.0)),
        libraries=round(LIBRARIES[device]),
        resident=resident,
    )


def _logits_trained(passage: Passage, shapes: Shapes) -> int:
    """Logits and their gradient, both float32 whatever the precision: accelerate makes a model's outputs
    so. The model's own in half precision (2 bytes) are gone by the time there is a gradient, and the logits
    before the gradient's copy in half precision is made. The loss holds two pieces of its rows."""
    return 4 * shapes.vocabulary * (2 * passage.rows + 2 * LOSS_ROWS)


def _logits_evaluated(passage: Passage, shapes: Shapes, size: int) -> int:
    """Logits as float32, with those in half precision that they are made from, or with the loss' piece."""
    made_from = 0 if size == 4 else size * passage.rows
    return shapes.vocabulary * (4 * passage.rows + max(made_from, 4 * LOSS_ROWS))


def _base_bytes(spec: AdapterSpec, shapes: Shapes, size: int, resident: bool) -> int:
    weights = shapes.weights
    if not resident:
        return size * weights.every
    return round(NF4_BYTES * weights.linear) + size * (weights.every - weights.linear)
