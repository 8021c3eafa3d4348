"""Trainings in processes of their own, which end or are killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evsim_assets.specs.study import AdapterSpec

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["evsim_assets.adapters.trainer", "peft", "tests.adapters.killed"])


def started(base: str, spec: AdapterSpec, out: Path, work: Path, **given: Any) -> Any:
    """A process that trains; what it says is in the file `<out>.said`."""
    process = PROCESSES.Process(target=_train, args=(base, spec, out, work), kwargs=given)
    process.start()
    return process


def killed_when(process: Any, now: Callable[[], bool]) -> bool:
    """SIGKILL it as soon as `now`; whether it was still at work then."""
    while process.is_alive() and not now():
        time.sleep(0.0005)
    process.kill()
    process.join()
    return bool(process.exitcode == -signal.SIGKILL)


def finished(process: Any) -> None:
    """Wait for a training to end as it should."""
    process.join()
    assert process.exitcode == 0


def said(out: Path) -> list[str]:
    """What the training that wrote there said, in all its runs."""
    told = out.with_suffix(".said")
    return told.read_text().splitlines() if told.exists() else []


def _train(
    base: str,
    spec: AdapterSpec,
    out: Path,
    work: Path,
    *,
    die_at: int | None = None,
    environment: Mapping[str, str] | None = None,
    **given: Any,
) -> None:
    """`die_at`: the process kills itself at this of the micro-batches, of steps and evaluations."""
    os.environ.update(environment or {})
    import torch

    from evsim_assets.adapters.training import train
    from tests.adapters.tiny_survey import prompts

    torch.set_num_threads(1)
    calls = 0

    def still_wanted() -> None:
        nonlocal calls
        calls += 1
        if calls == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def say(sentence: str) -> None:
        with out.with_suffix(".said").open("a") as file:
            file.write(sentence + "\n")

    settings: dict[str, Any] = {
        "device": "cpu",
        "precision": "fp32",
        "seed": 7,
        "prompts": prompts(),
        **given,
    }
    train(
        settings.pop("prompts"),
        spec,
        source=base,
        out_dir=out,
        work=work,
        still_wanted=still_wanted,
        say=say,
        **settings,
    )
