"""Several processes of this machine that train one adapter together.

Belongs here: starting them, hearing from them, ending them. Not here: what each does (`training.py`), how
their gradients come together (`trainer.py`).
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import socket
import time
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any

import pandas as pd

from evsim_assets.adapters.training import TrainingResult, train
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AdapterSpec

HEAR_SECONDS = 0.5


def train_together(
    processes: int,
    prompts: pd.DataFrame,
    spec: AdapterSpec,
    *,
    on_progress: Callable[[float, str], None] | None = None,
    still_wanted: Callable[[], None] | None = None,
    say: Callable[[str], None] | None = None,
    **given: Any,
) -> TrainingResult:
    """`train` in that many processes, as torchrun would start them; with 1, here.

    Each takes a GPU of its own where the device is CUDA. What accelerate reads from the environment
    (`ACCELERATE_USE_FSDP` and the like) they inherit. They end with this process, however it ends.

    Raises:
        BadInput: as `train`; or one of them was killed. Step checkpoints are kept.
    """
    told: dict[str, Any] = {"on_progress": on_progress, "say": say}
    if processes == 1:
        heard = {name: function for name, function in told.items() if function is not None}
        return train(prompts, spec, still_wanted=still_wanted, **heard, **given)
    context = multiprocessing.get_context("spawn")
    news = context.Queue()
    common = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    started = [
        context.Process(
            target=_work,
            args=(
                common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                os.getpid(),
                news,
                prompts,
                spec,
                given,
            ),
            daemon=True,
        )
        for rank in range(processes)
    ]
    try:
        for process in started:
            process.start()
        return _hear(started, news, told, still_wanted)
    finally:
        for process in started:
            if process.pid is not None:
                process.kill()
                process.join()


def _hear(
    started: list[Any],
    news: Any,
    told: Mapping[str, Any],
    still_wanted: Callable[[], None] | None,
) -> TrainingResult:
    """Pass on what is said until the first process has a result and all have ended."""
    result: TrainingResult | None = None
    while True:
        if still_wanted:
            still_wanted()
        try:
            kind, content = news.get(timeout=HEAR_SECONDS)
        except queue.Empty:
            if result is not None and all(process.exitcode == 0 for process in started):
                return result
            dead = [process for process in started if process.exitcode not in (None, 0)]
            if dead:
                raise BadInput(
                    "a training process was killed (out of memory?); step checkpoints are kept",
                    value=f"exit status {dead[0].exitcode}",
                    remedy="free memory, or set a smaller training.micro_batch_tokens; then run again",
                ) from None
            continue
        if kind == "error":
            raise content
        if kind == "result":
            result = content
        elif told[kind] is not None:
            told[kind](*content)


def _work(
    environment: Mapping[str, str],
    parent: int,
    news: Any,
    prompts: pd.DataFrame,
    spec: AdapterSpec,
    given: Mapping[str, Any],
) -> None:
    """One of the processes."""
    os.environ.update(environment)
    Thread(target=_end_with, args=(parent,), daemon=True).start()
    first = environment["RANK"] == "0"

    def passed_on(kind: str) -> Callable[..., None]:
        return lambda *content: news.put((kind, content)) if first else None

    try:
        result = train(prompts, spec, on_progress=passed_on("on_progress"), say=passed_on("say"), **given)
    except Exception as error:
        news.put(("error", error))
        news.close()
        news.join_thread()
        raise
    if first:
        news.put(("result", result))


def _end_with(parent: int) -> None:
    """A killed run leaves nobody at work."""
    while os.getppid() == parent:
        time.sleep(HEAR_SECONDS)
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
