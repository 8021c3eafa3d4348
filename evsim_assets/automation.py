"""What runs by itself, and when: conditions, sensors, schedules.

Belongs here: automation conditions, the sensor that observes inputs, schedules. Not here: assets.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import dagster as dg

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.models import ModelHub

Events = Iterable[dg.AssetMaterialization]

OBSERVE_SECONDS = 30
REFRESH = "0 3 1 * *"
"""When adapters are refreshed by schedule: 03:00 on the first of each month."""


def cheap() -> dg.AutomationCondition:
    """For what costs seconds: run when missing, or when what it was made from or with has changed.

    - `since(newly_requested | initial_evaluation)`: each change asks once. Resetting on an update
      as well would lose a change that lands while a run is going.
    - `~any_deps_missing`, `~any_deps_in_progress`: never on half of what it needs, nor on what is
      about to be replaced.
    - `all_deps_blocking_checks_passed`: never on what failed its check in another run.
    """
    return _when_changed(on_missing=True)


def refreshed() -> dg.AutomationCondition:
    """For adapters and what is read from them: when changed, but never a grid that was never run.

    The first training of an adapter is a person's decision, or the schedule's.
    """
    return _when_changed(on_missing=False)


def following() -> dg.AutomationCondition:
    """For what is read from adapters: like `refreshed`, and made for the first time once all it needs is there.

    A grid that was never trained is not started; the first training of an adapter is followed.
    """
    return _when_changed(on_missing=True)


def cheap_on_cpu(study: StudySpec) -> dg.AutomationCondition:
    """For what needs base models: `cheap` where they are small enough for a CPU, else `refreshed`."""
    return cheap() if study.compute.device == "cpu" else refreshed()


def _when_changed(*, on_missing: bool) -> dg.AutomationCondition:
    condition = dg.AutomationCondition
    changed = condition.any_deps_match(condition.data_version_changed()) | condition.code_version_changed()
    asked = condition.newly_requested() | condition.initial_evaluation()
    out_of_date = changed.since(asked) & ~condition.missing()
    never_made = condition.missing().newly_true().since(condition.newly_requested())
    wanted: Any = (out_of_date | never_made) if on_missing else out_of_date
    return (
        wanted
        & ~condition.in_progress()
        & ~condition.any_deps_missing()
        & ~condition.any_deps_in_progress()
        & condition.all_deps_blocking_checks_passed()
    )


def wave_sensor(
    survey: SurveySpec, changed: Callable[[SurveySpec, dg.DagsterInstance], Events]
) -> dg.SensorDefinition:
    """Registers new wave files and reports changed ones; the conditions do the rest.

    What has been seen is read from the instance, not from a cursor of its own, so it agrees with
    `evsim run`, survives restarts and does not skip files that arrive late or out of order.
    """

    @dg.sensor(
        name=f"{survey.name}_waves",
        minimum_interval_seconds=OBSERVE_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Watches {survey.folder.name}/waves for new and changed files.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            events = list(changed(survey, context.instance))
        except BadInput as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        if not events:
            return dg.SkipReason("no new or changed wave")
        partitions = dg.DynamicPartitionsDefinition(name=f"{survey.name}_wave")
        known = set(context.instance.get_dynamic_partitions(partitions.name or ""))
        new = [str(event.partition) for event in events if event.partition not in known]
        requests: list[Any] = [partitions.build_add_request(new)] if new else []
        return dg.SensorResult(asset_events=events, dynamic_partitions_requests=requests)

    return sensor


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
