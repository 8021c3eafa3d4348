"""A small study's real definitions on an ephemeral instance, evaluated tick by tick as the daemon does.

What a run would compute is taken on trust: `made` reports what Dagster records of a run that went well, with
the versions it read and a data version that follows from them, so equal inputs give equal content. Runs that
fail or last are really executed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from evsim_assets.definitions import build_definitions
from evsim_assets.running.graph import Graph, Node
from evsim_assets.running.session import observe
from evsim_assets.running.staleness import Staleness
from evsim_assets.specs.project import Project
from evsim_resources.models import ModelHub
from evsim_resources.records import CODE_VERSION, DATA_VERSION, INPUT_VERSION, Records

Asked = set[tuple[str, str | None]]

STUDY = """
survey: ev_shift
title: Small study for tests (simulated answers, tiny model)
models:
  s: {path: data/models/s}
  t: {path: data/models/m}
adapters:
  - {models: [s], method: pretrained}
  - {models: [s], method: qlora}
  - {models: [t], method: lora}
temperatures: [0, 1]
"""


CHAIN = {
    "raw_wave",
    "clean_wave",
    "quarantine",
    "responses",
    "superseded",
    "splits",
    "split_report",
    "prompts",
}
CHAIN |= {"prompt_lengths", "adapter_checkpoint", "learning_curves", "answer_distributions", "generations"}


@dataclass(frozen=True)
class Going:
    """A run that goes on, and the versions of what it has read."""

    run_id: str
    node: Node
    inputs: Mapping[dg.AssetKey, str | None]


class RealStudy:
    """The study's definitions as its files say now, and what Dagster has seen of it."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance | None = None) -> None:
        self.folder = folder
        self.file = folder / "data" / "studies" / "small.yaml"
        self.waves = folder / "data" / "surveys" / "ev_shift" / "waves"
        self.file.write_text(STUDY)
        self.instance = instance or dg.DagsterInstance.ephemeral()
        self.cursor: Any = None
        self.now: datetime | None = None
        self._checked: set[tuple[dg.AssetCheckKey, str | None]] = set()
        self.load()

    def load(self) -> None:
        """Read the files anew, as a reloaded code location does, and look at the inputs as the sensors do."""
        project = Project(self.folder)
        self.study = project.study("small")
        self.definitions = build_definitions(project, studies=["small"])
        graph = self.graph
        self.specs = graph.specs
        made = {id(definition): definition for definition in graph.definition.values()}.values()
        self.blocking = [check for each in made for check in each.check_specs if check.blocking]
        self.look()

    def look(self) -> None:
        """Look at the inputs as the sensors do."""
        survey = Project(self.folder).survey("ev_shift")
        observe(survey, self.study, self.instance, ModelHub(root=str(self.folder)))

    def edit(self, old: str, new: str) -> None:
        """Edit the study's file and reload."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))
        self.load()

    def deliver(self, wave: str, *, rows: int = 40, like: str = "2022-02") -> None:
        """A wave's file lands: the first rows of another one."""
        lines = (self.waves / f"{like}.csv").read_text().splitlines(keepends=True)
        (self.waves / f"{wave}.csv").write_text("".join(lines[: rows + 1]))
        self.look()

    @property
    def graph(self) -> Graph:
        return Graph(list(self.definitions.assets or []), self.instance)

    def judge(self) -> Staleness:
        return Staleness(self.graph, Records(self.instance), lambda *_: True)

    def node(self, name: str, partition: str | None = None) -> Node:
        """The node that makes the asset's partition."""
        found = [n for n in self.graph.nodes if partition == n.partition]
        return next(n for n in found if name in [key.path[-1] for key in n.keys])

    def made(self, name: str, partition: str | None = None) -> None:
        """A run of the asset went well, reading what there is now."""
        node = self.node(name, partition)
        self._report(node, self._inputs(node), [key for key in node.keys if key.path[-1] == name])

    def made_as_before(self, name: str, partition: str | None = None) -> None:
        """The same, and what came of it is what was there."""
        node = self.node(name, partition)
        keys = [key for key in node.keys if key.path[-1] == name]
        latest = Records(self.instance).latest(keys[0], partition)
        assert latest is not None
        self._report(node, self._inputs(node), keys, content=latest.data_version)

    def begin(self, name: str, partition: str | None = None) -> Going:
        """A run that has read its inputs, as they are now, and goes on."""
        node = self.node(name, partition)
        run = self.instance.create_run_for_job(
            self.definitions.resolve_implicit_global_asset_job_def(),
            status=dg.DagsterRunStatus.STARTED,
            tags={"dagster/partition": partition} if partition else {},
            asset_selection=frozenset(node.keys),
        )
        return Going(run.run_id, node, self._inputs(node))

    def finish(self, going: Going) -> None:
        """It went well."""
        self._report(going.node, going.inputs, going.node.keys)
        done = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, "__ASSET_JOB")
        self.instance.report_dagster_event(done, going.run_id)

    def _inputs(self, node: Node, judge: Staleness | None = None) -> dict[dg.AssetKey, str | None]:
        judge = judge or self.judge()
        read = judge.graph.dependencies(node)
        return {dep: judge._version(dep, partitions) for dep, partitions in read.items()}

    def _report(
        self,
        node: Node,
        inputs: Mapping[dg.AssetKey, str | None],
        keys: Iterable[dg.AssetKey],
        content: str | None = None,
    ) -> None:
        for key in keys:
            code = self.specs[key].code_version
            read = [f"{dep.to_user_string()}={version}" for dep, version in sorted(inputs.items())]
            digest = hashlib.sha256("\n".join([str(key), str(code), *read]).encode()).hexdigest()
            tags = {INPUT_VERSION + dep.to_user_string(): str(v) for dep, v in inputs.items()}
            tags |= {DATA_VERSION: content or digest, CODE_VERSION: str(code)}
            self.instance.report_runless_asset_event(
                dg.AssetMaterialization(key, partition=node.partition, tags=tags)
            )
            self._passed(key, node.partition)

    def _passed(self, key: dg.AssetKey, partition: str | None) -> None:
        """The asset's blocking checks passed; reported once, since Dagster takes no second one of no run."""
        for check in self.blocking:
            where = (check.key, partition if check.partitions_def else None)
            if check.asset_key == key and where not in self._checked:
                self._checked.add(where)
                self.instance.report_runless_asset_event(
                    dg.AssetCheckEvaluation(key, check.name, True, partition=where[1])
                )

    def everything_made(self) -> None:
        """As `evsim run` leaves it: all that is missing or out of date, in order."""
        judge = self.judge()
        for node in judge.graph.nodes:
            if judge.reason(node):
                self._report(node, self._inputs(node, judge), node.keys)
                judge.forget(node)

    def tick(self, *, whole: bool = False) -> Asked:
        """One evaluation, of the chain to the generations or of the whole graph; what is requested."""
        chain = [key for key in self.specs if key.path[-1] in CHAIN]
        result = dg.evaluate_automation_conditions(
            self.definitions,
            self.instance,
            asset_selection=None if whole else dg.AssetSelection.assets(*chain),
            evaluation_time=self.now,
            cursor=self.cursor,
        )
        self.cursor = result.cursor
        asked: Asked = set()
        for evaluation in result.results:
            subset, name = evaluation.true_subset, evaluation.key.path[-1]
            if not subset.is_empty and subset.is_partitioned:
                asked |= {(name, str(key)) for key in subset.expensively_compute_partition_keys()}
            elif not subset.is_empty:
                asked.add((name, None))
        return asked

    def live(self, *, whole: bool = False) -> list[Asked]:
        """Ticks until one has nothing to request, each request run after its tick; what they requested."""
        history: list[Asked] = []
        while asked := self.tick(whole=whole):
            for name, partition in sorted(asked, key=str):
                self.made(name, partition)
            history.append(asked)
            assert len(history) < 15, f"it never comes to rest: {history}"
        return history

    def scheduled(self, when: datetime) -> set[str]:
        """The adapters that the study's schedule requests at that time."""
        (schedule,) = self.definitions.schedules or []
        context = dg.build_schedule_context(
            instance=self.instance,
            scheduled_execution_time=when,
            repository_def=self.definitions.get_repository_def(),
        )
        requests = [each for each in schedule(context) if isinstance(each, dg.RunRequest)]  # type: ignore[operator]
        return {str(request.partition_key) for request in requests}

    def run(self, name: str, partition: str | None = None) -> bool:
        """Really execute the asset; whether it went well."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            partition_key=partition,
            asset_selection=[*self.node(name, partition).keys],
            raise_on_error=False,
        ).success


def flat(history: Iterable[Asked]) -> Asked:
    """All that was requested, whenever; each once, or it is an error."""
    every = [one for asked in history for one in asked]
    assert len(every) == len(set(every)), f"requested twice: {sorted(every, key=str)}"
    return set(every)
