"""Where evsim spends its time while it reads answers.

Belongs here: clocks around the parts of one reading. Not here: comparisons with others (`answers.py`).
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pandas as pd
from answers_contestants import Ours

from evsim_assets.token_tree.growth import Growth

TREE, GROWTH = "prompts' trees: layers", "continuations: layers"
HEADS = {TREE: "prompts' ends: head", GROWTH: "continuations: head"}
FUNCTIONS = {
    "build_tree": "building the trees",
    "lay_out": "building the trees",
    "token_probabilities": "softmax over temperatures",
    "asked_prompts": "prompts and vocabulary",
    "classify_tokens": "prompts and vocabulary",
}
WALK = "walk (NumPy) and the rest"


class Clock:
    """Seconds by part; what runs within another part counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = [WALK]
        self._last = time.perf_counter()

    def begin(self, part: str) -> None:
        self._note()
        self._running.append(part)

    def end(self) -> None:
        self._note()
        self._running.pop()

    def _note(self) -> None:
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._last
        self._last = now

    @property
    def part(self) -> str:
        return self._running[-1]


def where_time_goes(ours: Ours, prompts: pd.DataFrame, temperatures: Sequence[float]) -> dict[str, Any]:
    """Seconds of one reading and the share of each part."""
    clock = Clock()
    with ExitStack() as watched:
        for function, part in FUNCTIONS.items():
            watched.enter_context(_function_clocked(clock, function, part))
        watched.enter_context(_model_clocked(clock, ours.model))
        clock.begin(WALK)
        ours.answer(prompts, temperatures)
        clock.end()
    total = sum(clock.seconds.values())
    shares = sorted(clock.seconds.items(), key=lambda pair: -pair[1])
    return {"seconds": round(total, 3), "share": {part: round(one / total, 3) for part, one in shares}}


@contextmanager
def _function_clocked(clock: Clock, name: str, part: str) -> Iterator[None]:
    """Wherever a module of the simulation holds the function of that name."""
    modules = [m for n, m in list(sys.modules.items()) if n.startswith("evsim_assets.simulation.")]
    held: list[tuple[Any, Callable[..., Any]]] = [(m, vars(m)[name]) for m in modules if name in vars(m)]

    def clocked(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            clock.begin(part)
            try:
                return function(*given, **named)
            finally:
                clock.end()

        return call

    for module, function in held:
        setattr(module, name, clocked(function))
    try:
        yield
    finally:
        for module, function in held:
            setattr(module, name, function)


@contextmanager
def _model_clocked(clock: Clock, model: Any) -> Iterator[None]:
    """Layers and head, of trees and of continuations."""
    head = model.get_output_embeddings()

    def begin(_model: Any, _given: Any, named: dict[str, Any]) -> None:
        clock.begin(GROWTH if isinstance(named.get("tree"), Growth) else TREE)

    hooks = [
        model.register_forward_pre_hook(begin, with_kwargs=True),
        model.register_forward_hook(lambda *_: clock.end()),
        head.register_forward_pre_hook(lambda *_: clock.begin(HEADS[clock.part])),
        head.register_forward_hook(lambda *_: clock.end()),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def print_profile(reading: str, found: dict[str, Any]) -> None:
    print(f"\nwhere the {found['seconds']} s of reading {reading} at five temperatures go:")
    for part, share in found["share"].items():
        print(f"  {100 * share:5.1f} %  {part}")
