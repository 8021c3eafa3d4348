"""The sensor that watches where a survey's waves land.

Belongs here: when a look is taken, and what Dagster is told of it. Not here: what a look is
(`surveys/observed.py`), how files lie there (`surveys/landing_place.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from evsim_assets.automation import OBSERVE_SECONDS
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec

LOOK_SECONDS = OBSERVE_SECONDS / 2
"""After so long a look opens no further file; the rest is for the next."""


@dataclass(frozen=True)
class WavesSeen:
    """What a look into a landing place found.

    Attributes:
        events: new and changed waves that can be taken; observations of what was delivered again.
        warnings: sentences about what cannot be taken, or is no longer there.
        cursor: what the next look is to remember.
    """

    events: Sequence[dg.AssetMaterialization | dg.AssetObservation]
    warnings: Sequence[str]
    cursor: str


def wave_sensor(
    survey: SurveySpec, look: Callable[[SurveySpec, dg.DagsterInstance, str | None], WavesSeen]
) -> dg.SensorDefinition:
    """Registers new wave files and reports changed ones; the conditions do the rest.

    What has been seen is read from the instance, so it agrees with `evsim run`, survives restarts
    and does not skip files that arrive late or out of order. The cursor holds only what is waited
    for: a file is taken once it looks the same at two looks, whatever any clock says, so one that is
    being copied is not taken in half (an object store shows none before it is whole).
    """

    @dg.sensor(
        name=f"{survey.name}_waves",
        minimum_interval_seconds=OBSERVE_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Watches {_short(survey)} for new and changed files.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        try:
            seen = look(survey, context.instance, context.cursor)
        except BadInput as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        for warning in seen.warnings:
            context.log.warning(warning)
        name = f"{survey.name}_wave"
        known = set(context.instance.get_dynamic_partitions(name))
        new = [str(event.partition) for event in seen.events if event.partition not in known]
        adding: list[Any] = [dg.DynamicPartitionsDefinition(name=name).build_add_request(new)] if new else []
        return dg.SensorResult(
            asset_events=seen.events,
            dynamic_partitions_requests=adding,
            cursor=seen.cursor,
            skip_reason=None if seen.events else "\n".join(["no new or changed wave", *seen.warnings]),
        )

    return sensor


def _short(survey: SurveySpec) -> str:
    """The place as it may stand in a description, on whatever machine."""
    place = survey.landing
    return place if isinstance(place, str) else f"{survey.folder.name}/{place.name}"
