"""What runs by itself, and when: conditions, sensors, schedules.

Belongs here: automation conditions, the sensor that observes adapters, schedules. Not here: assets, the
sensor that watches landing folders (`wave_sensor.py`).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import dagster as dg

from evsim_assets.specs.study import StudySpec
from evsim_resources.models import ModelHub

Events = Iterable[dg.AssetMaterialization]

OBSERVE_SECONDS = 30
REFRESH = "0 3 1 * *"
"""When adapters are refreshed by schedule: 03:00 on the first of each month."""


def cheap() -> dg.AutomationCondition:
    """For what costs seconds: `following`, and tried once more when a run of it failed."""
    return _wanted(changed_since_asked() | never_made() | failed_once())


def following() -> dg.AutomationCondition:
    """For what is read from adapters: when changed, or not made yet though all it needs is there.

    So a grid that was never trained is not started, and the first training of an adapter, by a
    person or by the schedule, is followed. Never tried again by itself: GPU time costs money.
    """
    return _wanted(changed_since_asked() | never_made())


def refreshed() -> dg.AutomationCondition:
    """For adapters: when changed, but never what was never run.

    The first training of an adapter is a person's decision, or the schedule's.
    """
    return _wanted(changed_since_asked() & ~dg.AutomationCondition.missing())


def cheap_on_cpu(study: StudySpec) -> dg.AutomationCondition:
    """For what needs no GPU but the base models' files: `cheap` where the study runs on a CPU with
    tiny models; `refreshed` where the models may not be on the machine that the daemon runs on."""
    return cheap() if study.compute.device == "cpu" else refreshed()


def _wanted(wanted: Any) -> dg.AutomationCondition:
    """Each clause prevents a loss:

    - `~in_progress`: never twice at once.
    - no dep missing or in progress: never on half of what it needs, nor on what is about to be
      replaced. Dagster's own `any_deps_missing` would ask for both in one run; the dep's change would
      then come right after the request, and be asked for a second time.
    - no dep that failed: never on what could not be made anew, and so is older than it should be.
    - no dep that has changed inputs itself: it will be asked for in this tick or soon, and what is
      made from it can wait, rather than be made twice, the first time of old and new together.
    - `all_deps_blocking_checks_passed`: never on what failed its check in another run.
    """
    condition = dg.AutomationCondition
    return (
        wanted
        & ~condition.in_progress()
        & ~condition.any_deps_match(condition.missing())
        & ~condition.any_deps_in_progress()
        & ~condition.any_deps_match(condition.execution_failed())
        & ~condition.any_deps_match(changed_since_asked())
        & condition.all_deps_blocking_checks_passed()
    )


def _changed() -> Any:
    condition = dg.AutomationCondition
    return condition.any_deps_match(condition.data_version_changed()) | condition.code_version_changed()


def changed_since_asked() -> Any:
    """A change asks once. Reset by the request alone: an update as well would lose a change that
    lands while a run is going; and not by a request that a further change came right after."""
    condition = dg.AutomationCondition
    asked = condition.newly_requested() & ~_changed()
    return _changed().since(asked | condition.initial_evaluation())


def never_made() -> Any:
    """Missing, and not asked for since it was."""
    condition = dg.AutomationCondition
    return condition.missing().newly_true().since(condition.newly_requested())


def failed_once() -> Any:
    """The first failure since a success or a change; the failure of the second try is not one.

    Dagster calls a partition failed also while it is tried again, so a failure is new when it is
    there and nothing is asked for or going on.
    """
    condition = dg.AutomationCondition
    failed = condition.execution_failed() & ~condition.in_progress() & ~condition.newly_requested()
    settled = condition.newly_updated()
    first = failed.newly_true().since(_changed() | settled).newly_true()
    return first.since(condition.newly_requested() | settled)


def study_sensor(
    study: StudySpec, changed: Callable[[StudySpec, dg.DagsterInstance, ModelHub], Events]
) -> dg.SensorDefinition:
    """Reports adapters whose spec or base model changed."""

    @dg.sensor(
        name=f"{study.name}_adapters",
        minimum_interval_seconds=OBSERVE_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Watches the adapters of {study.name}: their specs and their base models.",
    )
    def sensor(context: dg.SensorEvaluationContext, hub: ModelHub) -> dg.SensorResult | dg.SkipReason:
        events = list(changed(study, context.instance, hub))
        return dg.SensorResult(asset_events=events) if events else dg.SkipReason("no adapter changed")

    return sensor


def refresh_schedule(study: StudySpec, adapters: dg.StaticPartitionsDefinition) -> dg.ScheduleDefinition:
    """Trains every adapter of the study anew once a month, on all waves that have arrived since.

    A GPU study is scheduled only where somebody turns it on: its runs cost money.
    """
    job = dg.define_asset_job(
        f"{study.name}_refresh_adapters",
        selection=dg.AssetSelection.assets([study.name, "adapter_checkpoint"]),
    )
    on = study.compute.device == "cpu"

    @dg.schedule(
        name=f"{study.name}_monthly",
        job=job,
        cron_schedule=REFRESH,
        execution_timezone="UTC",
        description="Refreshes the adapters; distributions, generations and metrics follow by themselves.",
        default_status=dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        when = context.scheduled_execution_time.date().isoformat()
        for key in adapters.get_partition_keys():
            yield dg.RunRequest(run_key=f"{key}@{when}", partition_key=key)

    return schedule
