"""Where a training step of evsim spends its time, and how far that is from the machine's matrix products.

Belongs here: torch's profiler, condensed. Not here: comparisons with others (`training.py`).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Any

import torch
from training_contestants import Contestant, Shape, make_trainer, steps_taken

PRODUCTS = ("aten::mm", "aten::addmm")
REPEATS = 5


def where_time_goes(contestant: Contestant, steps: Any, shape: Shape) -> dict[str, Any]:
    """Seconds a step by what they are for, and the same matrix products measured alone.

    `machine_gflops`: of the step's own products, each measured alone on this machine right after, and of
    one square product of 2048. `at_machine_rate`: what share of the step's time its products would take
    at that rate, which is how near the step is to doing nothing else.
    """
    trainer = make_trainer(contestant, steps, shape)
    steps_taken(trainer)
    walls = [step.wall for step in steps_taken(trainer)]
    batches = trainer.get_train_dataloader()
    started = time.perf_counter()
    for _ in batches:
        pass
    building = (time.perf_counter() - started) / len(steps)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as seen:
        profiled = sum(step.wall for step in steps_taken(trainer))
    parts: dict[str, float] = defaultdict(float)
    products: Counter[tuple[int, int, int]] = Counter()
    for event in seen.key_averages(group_by_input_shape=True):
        seconds = event.self_cpu_time_total / 1e6
        parts[_part(event.key, event.input_shapes, shape)] += seconds
        if event.key in PRODUCTS:
            (m, k), (_, n) = [size for size in event.input_shapes if len(size) == 2][-2:]
            products[m, k, n] += event.count
    parts["Python and the rest"] = max(0.0, profiled - sum(parts.values()))
    alone = {size: _seconds_alone(*size) for size in products}
    flops = sum(2 * m * k * n * count for (m, k, n), count in products.items()) / len(steps)
    ideal = sum(alone[size] * count for size, count in products.items()) / len(steps)
    in_step = sum(seconds for part, seconds in parts.items() if "products" in part) / len(steps)
    median = sorted(walls)[len(walls) // 2]
    return {
        "step_seconds": round(median, 3),
        # the profiler slows everything a little: shares are of its own total
        "share": {
            part: round(seconds / profiled, 3)
            for part, seconds in sorted(parts.items(), key=lambda pair: -pair[1])
        },
        "tree_building_seconds": round(building, 4),
        "gflop_a_step": round(flops / 1e9, 1),
        "gflops_in_the_step": round(flops / in_step / 1e9, 1),
        "gflops_of_its_products_alone": round(flops / ideal / 1e9, 1),
        "gflops_of_a_square_product": round(2 * 2048**3 / _seconds_alone(2048, 2048, 2048) / 1e9, 1),
        "at_machine_rate": round(ideal / median, 3),
    }


def _part(name: str, sizes: list[list[int]], shape: Shape) -> str:
    """What an operation of the profile is for, by its name and its shapes."""
    dims = {dim for size in sizes if isinstance(size, list) for dim in size if isinstance(dim, int)}
    if name in PRODUCTS:
        if shape.vocabulary in dims:
            return "head: products"
        return "adapter: products" if shape.rank in dims else "linear layers: products"
    if shape.vocabulary in dims:
        return "loss on the logits"
    if "scaled_dot_product" in name or "flash_attention" in name:
        return "attention"
    if "index" in name or "Slice" in name or name in ("aten::fill_", "aten::scatter_add_"):
        return "gathering: embeddings, attention"
    if "foreach" in name or "adamw" in name.lower() or "Optimizer" in name:
        return "optimizer"
    if name in ("aten::copy_", "aten::cat", "aten::clone"):
        return "copies"
    return "norms, activations, additions"


def _seconds_alone(m: int, k: int, n: int) -> float:
    """The fastest of some products of that size."""
    one, other = torch.randn(m, k), torch.randn(k, n)
    out = torch.empty(m, n)
    fastest = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        torch.mm(one, other, out=out)
        fastest = min(fastest, time.perf_counter() - started)
    return fastest


def print_profile(found: dict[str, Any]) -> None:
    print(f"\nwhere evsim's step of {found['step_seconds']} s goes:")
    for part, share in found["share"].items():
        print(f"  {100 * share:5.1f} %  {part}")
    print(
        f"  building the tree: {found['tree_building_seconds']} s (within Python and the rest)\n"
        f"  matrix products: {found['gflop_a_step']} GFLOP at {found['gflops_in_the_step']} GFLOP/s; the same"
        f" alone: {found['gflops_of_its_products_alone']};"
        f" 2048 × 2048: {found['gflops_of_a_square_product']}\n"
        f"  at the rate alone they would take {100 * found['at_machine_rate']:.0f} % of the step"
    )
