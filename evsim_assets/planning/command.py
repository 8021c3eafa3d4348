"""The plan of a study: what is read, judged and measured for `evsim plan`.

Belongs here: gathering the inputs, and the order of things. Not here: what is printed (`display.py`), any
estimate (`adapters/estimate.py`). Nothing is run in Dagster, and nothing is stored; only the inputs are
looked at, as `evsim status` does. Heavy imports, and Dagster's, stay inside functions.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evsim_assets.adapters.estimate import Estimate, Pretrained, estimate_study
from evsim_assets.console import console, warn
from evsim_assets.planning.costs import seconds_of_last_runs
from evsim_assets.planning.display import UNKNOWN, show_plan
from evsim_assets.planning.display_due import show_due
from evsim_assets.planning.due import Costs, Due, due, totals
from evsim_assets.planning.prompts_now import prompts_of_landed_waves
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project
from evsim_assets.specs.study import ModelSpec, StudySpec

if TYPE_CHECKING:
    from evsim_assets.running.session import Session

UP_TO_DATE = "up to date"


def plan(project: Project, name: str, memory: int | None = None, *, as_json: bool = False) -> bool:
    """Print what would run, why and at what cost, and what training takes; whether every adapter fits, as far
    as that is known.

    Where the prompts cannot be made, as of a survey without a wave, it is said why, and memory is that of
    full micro-batches.

    Args:
        memory: bytes to judge by, in place of what is free on this machine.
        as_json: one JSON object on stdout in place of the tables.

    Raises:
        BadInput: no such study or survey, or a spec that cannot be read.
    """
    from evsim_assets.adapters.fits import available_memory

    study = project.study(name)
    project.survey(study.survey)
    session = _session(project, name)
    if not isinstance(session, BadInput) and not as_json:
        warn(session.warnings)
    folders = {model: _folder(project, model, spec) for model, spec in study.models.items()}
    free = memory if memory is not None else available_memory(study.compute.device)
    processes = _processes(study)
    if study.compute.device == "cpu":
        _as_many_threads_as_a_run(processes)
    found = _prompts(session, name)
    estimates = _estimates(study, found, folders, free, quiet=as_json)
    entries = session if isinstance(session, BadInput) else _due(session, estimates)
    states = _states(session, study)
    if as_json:
        print(json.dumps(_as_json(study, entries, estimates, states, free), indent=1))
        return _all_fit(estimates)
    if not isinstance(entries, BadInput):
        show_due(console, entries, device=study.compute.device)
        console.print()
    if isinstance(found.prompts, str):
        warn([found.said])
    else:
        console.print(found.said, highlight=False, soft_wrap=True)
    show_plan(console, estimates, states, device=study.compute.device, free=free, processes=processes)
    return _all_fit(estimates)


def _estimates(
    study: StudySpec, found: _Found, folders: dict[str, Path | None], free: int | None, *, quiet: bool
) -> list[Estimate | Pretrained]:
    """What training each adapter takes; on a terminal it is said meanwhile what is being measured."""
    if quiet:
        return list(estimate_study(study, found.prompts, folders, free=free))
    with console.status("reading the study") as shown:
        return list(estimate_study(study, found.prompts, folders, free=free, say=shown.update))


def _all_fit(estimates: Sequence[Estimate | Pretrained]) -> bool:
    return not any(
        isinstance(e, Estimate) and not isinstance(e.fit, str) and e.fit.fits is False for e in estimates
    )


def _due(session: Session, estimates: Sequence[Estimate | Pretrained]) -> list[Due]:
    """What would run now, with its cost."""
    trainings = {
        e.spec.key: e.seconds for e in estimates if isinstance(e, Estimate) and e.seconds is not None
    }
    last = seconds_of_last_runs(session.instance, session.graph.nodes)
    return due(session.graph, session.staleness, Costs(last, trainings))


def _as_json(
    study: StudySpec,
    entries: Sequence[Due] | BadInput,
    estimates: Sequence[Estimate | Pretrained],
    states: dict[str, str],
    free: int | None,
) -> dict[str, Any]:
    """Seconds and bytes; null is what is not known. `problem` says why nothing is known of what would run."""
    known = [] if isinstance(entries, BadInput) else entries
    return {
        "study": study.name,
        "device": study.compute.device,
        "problem": str(entries) if isinstance(entries, BadInput) else None,
        "would_run": [entry.as_json() for entry in known],
        "totals": asdict(totals(known)),
        "bytes_to_judge_by": free,
        "trainings": [
            _training_as_json(e, states.get(e.spec.key, UNKNOWN))
            for e in estimates
            if isinstance(e, Estimate)
        ],
    }


def _training_as_json(estimate: Estimate, state: str) -> dict[str, Any]:
    work = None if isinstance(estimate.work, str) else estimate.work
    fit = None if isinstance(estimate.fit, str) else estimate.fit
    return {
        "adapter": estimate.spec.key,
        "model": estimate.spec.model,
        "state": state,
        "texts": work.texts if work else None,
        "tree_tokens": work.tree_tokens if work else None,
        "steps": work.steps if work else None,
        "bytes": fit.memory.total if fit else None,
        "fits": fit.fits if fit else None,
        "seconds": estimate.seconds,
    }


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
