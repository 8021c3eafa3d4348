"""The plan of a study: what is read, judged and measured for `evsim plan`.

Belongs here: gathering the inputs, and the order of things. Not here: what is printed (`display.py`), any
estimate (`adapters/estimate.py`). Nothing is run in Dagster, and nothing is stored; only the inputs are
looked at, as `evsim status` does. Heavy imports, and Dagster's, stay inside functions.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from evsim_assets.adapters.estimate import Estimate, Pretrained, estimate_study
from evsim_assets.console import console, warn
from evsim_assets.planning.display import UNKNOWN, show_plan
from evsim_assets.planning.prompts_now import prompts_of_landed_waves
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project
from evsim_assets.specs.study import ModelSpec, StudySpec

if TYPE_CHECKING:
    from evsim_assets.running.session import Session

UP_TO_DATE = "up to date"


def plan(project: Project, name: str, memory: int | None = None) -> bool:
    """Print the plan; whether every adapter fits, as far as that is known.

    Where the prompts cannot be made, as of a survey without a wave, it is said why, and memory is that of
    full micro-batches.

    Args:
        memory: bytes to judge by, in place of what is free on this machine.

    Raises:
        BadInput: no such study or survey, or a spec that cannot be read.
    """
    from evsim_assets.adapters.fits import available_memory

    study = project.study(name)
    project.survey(study.survey)
    session = _session(project, name)
    if not isinstance(session, BadInput):
        warn(session.warnings)
    folders = {model: _folder(project, model, spec) for model, spec in study.models.items()}
    free = memory if memory is not None else available_memory(study.compute.device)
    processes = _processes(study)
    if study.compute.device == "cpu":
        _as_many_threads_as_a_run(processes)
    found = _prompts(session, name)
    estimates: list[Estimate | Pretrained] = []
    with console.status("reading the study") as shown:
        for estimate in estimate_study(study, found.prompts, folders, free=free, say=shown.update):
            estimates.append(estimate)
    if isinstance(found.prompts, str):
        warn([found.said])
    else:
        console.print(found.said, highlight=False, soft_wrap=True)
    states = _states(session, study)
    show_plan(console, estimates, states, device=study.compute.device, free=free, processes=processes)
    return not any(
        isinstance(e, Estimate) and not isinstance(e.fit, str) and e.fit.fits is False for e in estimates
    )


def _session(project: Project, name: str) -> Session | BadInput:
    """The study opened; or why it cannot be, as of a survey without a wave."""
    from evsim_assets.running.session import open_session

    try:
        return open_session(project, name)
    except BadInput as problem:
        return problem


def _processes(study: StudySpec) -> int:
    """As `Session.processes`, of a study that may not be open."""
    from evsim_assets.running.session import CPU_WORKERS

    return 1 if study.compute.device == "cuda" else min(CPU_WORKERS, os.cpu_count() or 1)


def _as_many_threads_as_a_run(processes: int) -> None:
    """What is measured is measured with the threads that `evsim run` gives each of its processes."""
    import torch

    torch.set_num_threads(max(min((os.cpu_count() or 1) // processes, torch.get_num_threads()), 1))


def _folder(project: Project, name: str, model: ModelSpec) -> Path | None:
    """Where the model is on this machine, be it without weights; None: nowhere."""
    from evsim_resources.models import ModelHub

    try:
        return ModelHub(root=str(project.root)).folder(name, model)
    except BadInput:
        folder = project.root / str(model.path)
        return folder if model.path is not None and (folder / "config.json").is_file() else None


@dataclass(frozen=True)
class _Found:
    """The prompts, or why there are none; `said`: where they are from, or that there are none."""

    prompts: pd.DataFrame | str
    said: str


def _prompts(session: Session | BadInput, name: str) -> _Found:
    """The stored prompts where they are up to date, else as they would be made."""
    try:
        if isinstance(session, BadInput):
            raise session
        return _prompts_of(session)
    except BadInput as problem:
        return _Found(problem.problem, f"{name}: without prompts: {problem}")


def _prompts_of(session: Session) -> _Found:
    from evsim_resources.lake import Lake

    study = session.study
    (node,) = session.nodes_named(["prompts"], None)
    reason = session.staleness.reason(node)
    if reason is None:
        stored = Lake(root=session.project.lake).read_table([study.name, "prompts"])
        return _Found(stored, f"{study.name}: the prompts as they are stored")
    with tempfile.TemporaryDirectory(prefix="evsim-plan-") as scratch:
        made = prompts_of_landed_waves(session.survey, study, Path(scratch))
    return _Found(made, f"{study.name}: the prompts as the landed waves would make them now ({reason})")


def _states(session: Session | BadInput, study: StudySpec) -> dict[str, str]:
    """Of each adapter why it would be trained, as Dagster would see it now."""
    if isinstance(session, BadInput):
        return {spec.key: UNKNOWN for spec in study.adapter_specs}
    nodes = session.nodes_named(["adapter_checkpoint"], None)
    return {str(node.partition): session.staleness.reason(node) or UP_TO_DATE for node in nodes}
