"""Whether a training fits into this machine's memory, and what to change where it does not.

Belongs here: the memory that is free, and the advice. Not here: what a training takes (`memory.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


def available_memory(device: Device, *, root: Path = Path("/")) -> int | None:
    """Bytes that a training could take now: of the GPU's memory, or of the machine's and what this process'
    control group leaves of it, whichever is less. None: there is no such device, or nothing says it.

    Args:
        root: where /proc and /sys are.
    """
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None
    said = [*_of_the_machine(root / "proc" / "meminfo"), *_of_the_group(root)]
    return min(said, default=None)


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
class Fit:
    """A training's memory, and `free`: what there is of it (None: not known).

    `budget`: tree tokens a micro-batch may have. `advice`: what would make it fit, where it does not:
    (study field, value, what it takes then).
    """

    memory: Memory
    free: int | None
    budget: int
    advice: tuple[tuple[str, Any, int], ...] = ()

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
    """The memory that training takes, 4-bit weights kept in 4 bits where that alone makes it fit.

    Args:
        trained_on, evaluated_on: the largest micro-batches of at most `budget` tree tokens.
        free: see `available_memory`.
    """

    def memory(of: AdapterSpec, at_once: int | None = None, resident: bool | None = None) -> Memory:
        return memory_of(
            of,
            shapes,
            device=device,
            precision=precision,
            trained_on=_at_most(trained_on, at_once),
            evaluated_on=_at_most(evaluated_on, at_once),
            resident=resident,
        )

    wanted = memory(spec)
    if free is None or wanted.total <= free:
        return Fit(wanted, free, budget)
    if spec.method == "qlora" and (small := memory(spec, resident=True)).total <= free:
        return Fit(small, free, budget)
    longest = max(trained_on.tokens, evaluated_on.tokens)
    return Fit(wanted, free, budget, tuple(_advice(spec, free, longest, memory)))


def _at_most(passage: Passage, tokens: int | None) -> Passage:
    if tokens is None or passage.tokens <= tokens:
        return passage
    return Passage(tokens, max(1, round(passage.rows * tokens / passage.tokens)))


def _advice(
    spec: AdapterSpec, free: int, longest: int, memory: Callable[..., Memory]
) -> Iterator[tuple[str, Any, int]]:
    """Each change that is enough by itself; of micro-batches the largest that is."""
    assert spec.training is not None
    tokens = 2 ** (longest - 1).bit_length() // 2
    while tokens >= LEAST_TOKENS:
        if (needed := memory(spec, tokens).total) <= free:
            yield "training.micro_batch_tokens", tokens, needed
            break
        tokens //= 2
    saving = spec.model_copy(
        update={"training": spec.training.model_copy(update={"gradient_checkpointing": True})}
    )
    if not spec.training.gradient_checkpointing and (needed := memory(saving).total) <= free:
        yield "training.gradient_checkpointing", True, needed
    if spec.method != "qlora":
        small = spec.model_copy(update={"method": "qlora"})
        if (needed := memory(small, resident=True).total) <= free:
            yield "method", "qlora", needed


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
    field = found.advice[0][0] if found.advice else "models"
    if field == "models":
        return {"field": field, "value": spec.model}
    if field == "method":
        return {"field": field, "value": spec.method}
    tokens = field == "training.micro_batch_tokens"
    return {"field": field, "value": found.budget if tokens else False}


def advice_in_words(found: Fit) -> str:
    """What to change in the study."""
    if not found.advice:
        return f"use a smaller model, or a machine with {_gb(found.memory.total)} of memory or more"
    told = [
        f"set {field}: {str(value).lower() if isinstance(value, bool) else value}"
        f" (it takes {_gb(needed)} then)"
        for field, value, needed in found.advice
    ]
    return ", or ".join(told)


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
