"""One `evsim run`: from a study's name to everything fresh, or to an error that says what to do.

Belongs here: the order of checks, observation and scheduling, and the instance they work on. Not
here: judging, running, showing (their own modules).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dagster as dg

from evsim_assets.adapters.assets import changed_adapters
from evsim_assets.definitions import build_definitions
from evsim_assets.running.graph import Graph, Node
from evsim_assets.running.instance import open_at
from evsim_assets.running.scheduler import Plan, Progress, Scheduler, close_dead_runs
from evsim_assets.running.staleness import Staleness
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.landing import intervention_texts, landed_waves, misnamed_files
from evsim_assets.surveys.observed import changed_waves, removed_waves
from evsim_resources.compute import chosen_compute
from evsim_resources.lake import Lake, partition_folders
from evsim_resources.models import ModelHub
from evsim_resources.records import Records
from evsim_resources.versions import VersionedStore

NEEDS_MODELS = {
    "prompt_lengths",
    "adapter_checkpoint",
    "answer_distributions",
    "validation_scores",
    "generations",
}
CPU_WORKERS = 2
"""Processes at once on a CPU; tiny models gain more from a second process than from more threads."""
LIKELY_SECONDS = {
    "adapter_checkpoint": 40.0,
    "answer_distributions": 8.0,
    "baseline_fits": 30.0,
    "baseline_answers": 10.0,
    "validation_scores": 5.0,
    "generations": 1.0,
    "prompt_lengths": 8.0,
    "metrics": 6.0,
    "metric_replicates": 6.0,
    "discriminability": 5.0,
    "effects": 3.0,
    "noise_floor": 5.0,
    "report": 5.0,
}


@dataclass(frozen=True)
class Session:
    """A study opened on the project's instance, its inputs observed."""

    project: Project
    study: StudySpec
    survey: SurveySpec
    instance: dg.DagsterInstance
    graph: Graph
    staleness: Staleness

    @property
    def warnings(self) -> list[str]:
        """Raw files that cannot be taken, and waves whose file is gone, in sentences."""
        return [*misnamed_files(self.survey), *removed_waves(self.survey, self.instance)]

    def nodes_named(self, assets: Sequence[str], partition: str | None) -> tuple[Node, ...]:
        """The nodes of the assets of those short names, and of that partition where one is given.

        Raises:
            BadInput: no asset or no partition of that name.
        """
        names = {key.path[-1] for node in self.graph.nodes for key in node.keys}
        for asset in assets:
            if asset not in names:
                raise BadInput(
                    "no such asset",
                    field="--only",
                    value=asset,
                    remedy=f"use one of: {', '.join(sorted(names))}",
                )
        chosen = [
            node
            for node in self.graph.nodes
            if not assets or any(key.path[-1] in assets for key in node.keys)
        ]
        if partition is not None:
            offered = sorted({node.partition for node in chosen if node.partition})
            chosen = [node for node in chosen if node.partition == partition]
            if not chosen:
                raise BadInput(
                    "no such partition",
                    field="--partition",
                    value=partition,
                    remedy=f"use one of: {', '.join(offered) or '(these assets have none)'}",
                )
        return tuple(chosen)

    def run(
        self,
        look: Callable[[Progress], None],
        *,
        only: Sequence[Node] | None = None,
        again: bool = False,
        workers: int | None = None,
    ) -> Progress:
        """Run what is out of date (of `only`, if given; whatever its state, with `again`)."""
        considered = self.graph.nodes if only is None else tuple(only)
        if any(node.name in NEEDS_MODELS for node in considered):
            preflight(self.project, self.study)
        close_dead_runs(self.instance)
        gpu = self.study.compute.device == "cuda"
        scheduler = Scheduler(
            self.graph,
            self.staleness,
            root=self.project.root,
            study=self.study.name,
            workers=self.processes(workers),
            fresh_process=gpu,
            expected_seconds=self.expected_seconds,
        )
        plan = Plan(self.graph.nodes, again=again, only=None if only is None else frozenset(only))
        progress = scheduler.run(plan, look)
        self._remember_seconds(progress)
        return progress

    def processes(self, asked: int | None = None) -> int:
        """Processes at once: as asked, else one on a GPU and two on a CPU."""
        return asked or (1 if self.study.compute.device == "cuda" else min(CPU_WORKERS, os.cpu_count() or 1))

    def expected_seconds(self, node: Node) -> float:
        """What the node took last time on this machine, or a first guess."""
        untrained = node.name == "adapter_checkpoint" and str(node.partition).endswith("~pretrained")
        guess = 0.5 if untrained else LIKELY_SECONDS.get(node.name, 0.5)
        return self._seconds.get(node.label, guess)

    @property
    def _timings(self) -> Path:
        return self.project.home / "seconds.json"

    @cached_property
    def _seconds(self) -> dict[str, float]:
        try:
            return dict(json.loads(self._timings.read_text()))
        except (OSError, ValueError):
            return {}

    def _remember_seconds(self, progress: Progress) -> None:
        made = {o.node.label: round(o.seconds, 2) for o in progress.done if not o.error}
        if made:
            self._timings.write_text(json.dumps(self._seconds | made, indent=1, sort_keys=True))


def open_session(project: Project, study_name: str) -> Session:
    """Read the specs, observe the inputs, and build the graph. Raises BadInput."""
    study = project.study(study_name)
    survey = project.survey(study.survey)
    if not landed_waves(survey):
        raise BadInput(
            "the survey has no raw wave",
            file=survey.folder / "waves",
            remedy=f"evsim survey add {survey.name} FILE",
        )
    intervention_texts(survey)
    instance = open_instance(project)
    definitions = build_definitions(project, studies=[study_name])
    observe(survey, study, instance, ModelHub(root=str(project.root)))
    graph = Graph(list(definitions.assets or []), instance)
    lake = Lake(root=project.lake)

    def stored(key: dg.AssetKey, partition: str | None) -> bool:
        return is_stored(lake, graph.specs[key], partition)

    return Session(project, study, survey, instance, graph, Staleness(graph, Records(instance), stored))


def preflight(project: Project, study: StudySpec) -> None:
    """Everything a GPU run could fail for later, before anything is computed. Raises BadInput."""
    used = {spec.model for spec in study.adapter_specs}
    problems = []
    for check in (
        lambda: ModelHub(root=str(project.root)).require(
            {n: s for n, s in study.models.items() if n in used}
        ),
        lambda: chosen_compute().require(study.compute),
    ):
        try:
            check()
        except BadInput as problem:
            problems.append(problem)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise BadInput(
            f"the study {study.name} cannot run here, for {len(problems)} reasons:\n"
            + "\n".join(f"- {problem}" for problem in problems),
            file=project.root / "data" / "studies" / f"{study.name}.yaml",
        )


def observe(survey: SurveySpec, study: StudySpec, instance: dg.DagsterInstance, hub: ModelHub) -> None:
    """Tell Dagster which waves and adapters there are now, as the sensors do."""
    partitions = f"{survey.name}_wave"
    for event in [*changed_waves(survey, instance), *changed_adapters(study, instance, hub)]:
        is_wave = event.asset_key.path[-1] == "wave_file"
        if is_wave and not instance.has_dynamic_partition(partitions, str(event.partition)):
            instance.add_dynamic_partitions(partitions, [str(event.partition)])
        instance.report_runless_asset_event(event)


def open_instance(project: Project) -> dg.DagsterInstance:
    """The project's persistent instance, its configuration written on first use."""
    return open_at(project.dagster_home)


def is_stored(lake: Lake, spec: dg.AssetSpec, partition: str | None) -> bool:
    """Whether the lake holds the partition's table or version."""
    definition = spec.partitions_def
    key: str | None = partition
    if partition is not None and isinstance(definition, dg.MultiPartitionsDefinition):
        key = definition.get_partition_key_from_str(partition)
    place = partition_folders(key, spec.metadata) if key is not None else None
    return (lake.folder(spec.key.path, place) / "data.parquet").exists() or VersionedStore(
        lake, spec.key.path, place
    ).is_whole()


@contextmanager
def only_one_run(project: Project) -> Iterator[None]:
    """Keep a second `evsim run` of the same project from starting. Raises BadInput."""
    project.home.mkdir(parents=True, exist_ok=True)
    with (project.home / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                "another `evsim run` is at work in this project",
                file=project.home / "run.lock",
                remedy="wait for it, or stop it",
            ) from None
        yield
