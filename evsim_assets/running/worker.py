"""A process that materializes nodes one after another, in the shared Dagster instance.

Belongs here: running one node as a Dagster run and saying how it ended. Not here: which and when.
"""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from socket import gethostname
from threading import Thread

from evsim_assets.running.graph import Node
from evsim_resources.progress import NODE

HOST_TAG, NODE_TAG = "evsim/host", "evsim/node"
"""Tags of a run of `evsim run`, by which it is found again when its process was killed."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Outcome:
    """How a run ended; `error` is for people, `detail` the traceback's end."""

    node: Node
    seconds: float
    error: str | None = None
    detail: str | None = None


def run_node(root: str, study: str, node: Node) -> Outcome:
    """Materialize the node. Never raises: what went wrong is in the outcome."""
    started = time.monotonic()
    os.environ[NODE] = node.label
    try:
        error, detail = _materialize(Path(root), study, node)
    except Exception as unexpected:  # noqa: BLE001 - the pool's other tasks go on; the error is shown, counted
        error, detail = f"{type(unexpected).__name__}: {unexpected}", traceback.format_exc()
    return Outcome(node, time.monotonic() - started, error, detail)


def _materialize(root: Path, study: str, node: Node) -> tuple[str | None, str | None]:
    job, instance = _loaded(root, study)
    result = job.execute_in_process(
        run_config=QUIET,
        instance=instance,
        partition_key=node.partition,
        asset_selection=[*node.keys],
        raise_on_error=False,
        tags={"evsim/study": study, NODE_TAG: node.label, HOST_TAG: gethostname()},
    )
    return (None, None) if result.success else _failure(result)


def _failure(result: object) -> tuple[str, str | None]:
    """The message of the first failed step: evsim's own sentence where there is one."""
    for event in result.get_step_failure_events():  # type: ignore[attr-defined]
        data = event.step_failure_data
        told = data.user_failure_data.description if data.user_failure_data else None
        if told:
            return str(told), None
        error = data.error
        if error is not None and error.cls_name == "DagsterExecutionInterruptedError":
            return "the run was interrupted; the next one goes on from what is stored", None
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return error.message.strip(), "".join(error.stack[-3:])
    return "the run failed before any step", None


@cache
def _loaded(root: Path, study: str):  # type: ignore[no-untyped-def]
    """The job of all the study's assets and the project's instance, once a process."""
    import dagster as dg

    from evsim_assets.definitions import build_definitions
    from evsim_assets.specs.project import Project

    project = Project(root)
    job = build_definitions(project, studies=[study]).resolve_implicit_global_asset_job_def()
    return job, dg.DagsterInstance.from_config(str(project.dagster_home))


def prepare_process(threads: int) -> None:
    """Called once in a new process, before anything heavy is imported."""
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _end_with(parent: int) -> None:
    """End this process when its parent has ended: a killed `evsim run` leaves nobody at work."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
