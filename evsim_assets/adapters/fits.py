"""Whether a training fits into this machine's memory, and what to change where it does not.

Belongs here: the memory that is free, and the advice. Not here: what a training takes (`memory.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from evsim_assets.adapters.base_model import Device, Precision
from evsim_assets.adapters.memory import Memory, Passage, memory_of
from evsim_assets.adapters.shapes import Shapes, shapes_of
from evsim_assets.adapters.workload import largest_passages
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AdapterSpec
from evsim_assets.token_tree.losses import Text

LEAST_TOKENS = 256
"""No smaller micro-batch is advised."""

MICRO_BATCH, CHECKPOINTING, METHOD = (
    "training.micro_batch_tokens",
    "training.gradient_checkpointing",
    "method",
)
"""The study's fields that are advised to be changed, in the order in which they are named."""


def available_memory(device: Device, *, root: Path = Path("/")) -> int | None:
    """Bytes that a training could take now in this process. None: there is no such device, or nothing says.

    Of this process' GPU (LOCAL_RANK, as torchrun and accelerate set it); or of the machine's memory or what
    this process' control group leaves of it, whichever is less, an equal share for each process that
    trains the adapter here.

    Args:
        root: where /proc and /sys are.
    """
    if device == "cuda":
        import torch

        own = int(os.environ.get("LOCAL_RANK", "0"))
        return int(torch.cuda.mem_get_info(own)[0]) if torch.cuda.is_available() else None
    said = [*_of_the_machine(root / "proc" / "meminfo"), *_of_the_group(root)]
    return min(said) // _processes_here() if said else None


def _processes_here() -> int:
    """Processes that train together on this machine; where no launcher counts those, on all machines."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or "1")


def _of_the_machine(meminfo: Path) -> Iterator[int]:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _of_the_group(root: Path) -> Iterator[int]:
    """What each control group above this process leaves (version 2, and version 1's memory controller)."""
    try:
        entries = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for entry in entries:
        _, controllers, inside = entry.split(":", 2)
        if controllers in ("", "memory"):
            top = root / "sys" / "fs" / "cgroup" / ("memory" if controllers else "")
            limit, used = (
                ("memory.limit_in_bytes", "memory.usage_in_bytes")
                if controllers
                else ("memory.max", "memory.current")
            )
            group = top / inside.lstrip("/")
            for folder in (group, *group.parents):
                yield from _left(folder, limit, used)
                if folder == top:
                    break


def _left(folder: Path, limit: str, used: str) -> Iterator[int]:
    """The limit less what is used and cannot be given back; nothing where there is no limit."""
    try:
        most = int((folder / limit).read_text())
        taken = int((folder / used).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no limit is "max"; a container may see the group by another path
        return
    files = int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
    yield max(most - max(taken - files, 0), 0)


@dataclass(frozen=True)
class Remedy:
    """`changes` of the study, (field, value) each, that together make a training fit; `needed`: the bytes
    it takes then."""

    changes: tuple[tuple[str, Any], ...]
    needed: int


@dataclass(frozen=True)
class Fit:
    """A training's memory, and `free`: what there is of it (None: not known).

    `budget`: tree tokens a micro-batch may have. `advice`: what would make it fit, where it does not; each
    of them is enough.
    """

    memory: Memory
    free: int | None
    budget: int
    advice: tuple[Remedy, ...] = ()

    @property
    def fits(self) -> bool | None:
        """None: not known."""
        return None if self.free is None else self.memory.total <= self.free


def fit(
    spec: AdapterSpec,
    shapes: Shapes,
    *,
    device: Device,
    precision: Precision,
    trained_on: Passage,
    evaluated_on: Passage,
    budget: int,
    free: int | None,
) -> Fit:
    """The memory that training takes, 4-bit weights kept in 4 bits where only that makes it fit; where
    nothing does, the least it takes.

    Args:
        trained_on, evaluated_on: the largest micro-batches of at most `budget` tree tokens.
        free: see `available_memory`.
    """

    def memory(of: AdapterSpec, at_once: int | None = None) -> Memory:
        forms = [
            memory_of(
                of,
                shapes,
                device=device,
                precision=precision,
                trained_on=_at_most(trained_on, at_once),
                evaluated_on=_at_most(evaluated_on, at_once),
                resident=resident,
            )
            for resident in ((None, True) if of.method == "qlora" else (None,))
        ]
        fitting = [form for form in forms if free is None or form.total <= free]
        return fitting[0] if fitting else min(forms, key=lambda form: form.total)

    wanted = memory(spec)
    if free is None or wanted.total <= free:
        return Fit(wanted, free, budget)
    longest = max(trained_on.tokens, evaluated_on.tokens)
    return Fit(wanted, free, budget, _advice(spec, free, longest, memory))


def _at_most(passage: Passage, tokens: int | None) -> Passage:
    if tokens is None or passage.tokens <= tokens:
        return passage
    return Passage(tokens, max(1, round(passage.rows * tokens / passage.tokens)))


def _advice(spec: AdapterSpec, free: int, longest: int, memory: Callable[..., Memory]) -> tuple[Remedy, ...]:
    """The fewest changes that are enough: each by itself, else each two, else all three."""
    assert spec.training is not None
    offered = [MICRO_BATCH]
    offered += [] if spec.training.gradient_checkpointing else [CHECKPOINTING]
    offered += [] if spec.method == "qlora" else [METHOD]
    for count in range(1, len(offered) + 1):
        found = (_remedy(spec, fields, free, longest, memory) for fields in combinations(offered, count))
        if enough := tuple(remedy for remedy in found if remedy):
            return enough
    return ()


def _remedy(
    spec: AdapterSpec, fields: Sequence[str], free: int, longest: int, memory: Callable[..., Memory]
) -> Remedy | None:
    """These changes, the largest micro-batches that suffice among them; None: they are not enough."""
    changed = spec
    if CHECKPOINTING in fields and spec.training is not None:
        saving = spec.training.model_copy(update={"gradient_checkpointing": True})
        changed = changed.model_copy(update={"training": saving})
    if METHOD in fields:
        changed = changed.model_copy(update={"method": "qlora"})
    for tokens in _smaller_than(longest) if MICRO_BATCH in fields else (None,):
        if (needed := memory(changed, tokens).total) <= free:
            values = {MICRO_BATCH: tokens, CHECKPOINTING: True, METHOD: "qlora"}
            return Remedy(tuple((field, values[field]) for field in fields), needed)
    return None


def _smaller_than(longest: int) -> Iterator[int]:
    """Powers of two below so many tokens, from the largest."""
    tokens = 2 ** (longest - 1).bit_length() // 2
    while tokens >= LEAST_TOKENS:
        yield tokens
        tokens //= 2


def require_memory(
    spec: AdapterSpec,
    *,
    source: str,
    device: Device,
    precision: Precision,
    steps: Sequence[Sequence[Text]],
    validation: Sequence[Text],
    budget: int,
    say: Callable[[str], None],
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> bool | None:
    """Refuse a training that does not fit into what is free now, before its weights are loaded.

    Takes a second or two. Where it cannot be known beforehand, `say` is told why, and nothing is refused.

    Args:
        steps, validation: the texts of each optimizer step, and of an evaluation.
        budget: tree tokens a micro-batch may have.

    Returns:
        `resident` for `load_base`: True where 4-bit weights have to stay in 4 bits to fit.

    Raises:
        BadInput: it does not fit; the remedy is what would make it fit.
    """
    try:
        trained_on, evaluated_on = largest_passages(steps, validation, spec, budget)
        found = fit(
            spec,
            shapes_of(source, revision=revision, trust_remote_code=trust_remote_code),
            device=device,
            precision=precision,
            trained_on=trained_on,
            evaluated_on=evaluated_on,
            budget=budget,
            free=available_memory(device),
        )
    except Exception as error:  # noqa: BLE001 - a foreign architecture may raise anything; it is said
        say(f"memory is not known beforehand ({type(error).__name__}: {error})")
        return None
    require_fits(found, spec)
    return found.memory.resident if spec.method == "qlora" else None


def require_fits(found: Fit, spec: AdapterSpec) -> None:
    """Raises BadInput, naming what would help, if there is not as much memory as training takes."""
    if found.fits is not False:
        return
    raise BadInput(
        f"training {spec.key} takes about {_gb(found.memory.total)}, and {_gb(found.free or 0)} are free"
        f" ({', '.join(f'{name} {_gb(size)}' for name, size in found.memory.parts.items())})",
        **_where(found, spec),
        remedy=advice_in_words(found),
    )


def _where(found: Fit, spec: AdapterSpec) -> dict[str, Any]:
    """The study's field that would help most easily, with its value as it is."""
    if not found.advice:
        return {"field": "models", "value": spec.model}
    field = found.advice[0].changes[0][0]
    as_it_is = {MICRO_BATCH: found.budget, CHECKPOINTING: False, METHOD: spec.method}
    return {"field": field, "value": as_it_is[field]}


def advice_in_words(found: Fit) -> str:
    """What to change in the study."""
    if not found.advice:
        return f"use a smaller model, or a machine with {_gb(found.memory.total)} of memory or more"
    return ", or ".join(
        f"set {' and '.join(f'{field}: {_in_yaml(value)}' for field, value in remedy.changes)}"
        f" (it takes {_gb(remedy.needed)} then)"
        for remedy in found.advice
    )


def _in_yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
