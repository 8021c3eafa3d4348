"""Assembles surveys and studies into one Dagster code location, and does nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from evsim_assets.adapters.assets import adapter_assets, adapters_partitions, changed_adapters
from evsim_assets.automation import refresh_schedule, study_sensor
from evsim_assets.baselines.assets import baseline_assets
from evsim_assets.metrics.assets import metric_assets
from evsim_assets.metrics.contest_assets import contest_assets
from evsim_assets.metrics.contrast_assets import contrast_assets
from evsim_assets.metrics.validation_assets import validation_assets
from evsim_assets.prompts.assets import prompt_assets
from evsim_assets.reports.assets import report_assets
from evsim_assets.simulation.assets import simulation_assets
from evsim_assets.specs.project import Project, find_project
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.observed import look_for_waves
from evsim_assets.surveys.population_assets import population_assets
from evsim_assets.surveys.wave_assets import wave_assets
from evsim_assets.wave_sensor import wave_sensor
from evsim_resources.compute import chosen_compute
from evsim_resources.lake import Lake
from evsim_resources.models import ModelHub
from evsim_resources.tables import TableIOManager
from evsim_resources.warehouse import Warehouse

# Data versions of outputs are a beta of Dagster's; its version is pinned, and tests cover what is used.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)


def build_definitions(
    project: Project | None = None,
    *,
    studies: Sequence[str] | None = None,
    resource_overrides: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """The assets, checks, sensors, schedules and resources of a project.

    Args:
        project: the one found from the current folder upwards, unless given.
        studies: only these studies and their surveys; all of both, unless given.
        resource_overrides: resources in place of the project's own, by name.

    Raises:
        BadInput: a survey or a study is wrong; names file, line, field, value and remedy.
    """
    project = project or find_project()
    read: dict[str, SurveySpec] = {}
    chosen = [project.study(name, read) for name in (project.study_names if studies is None else studies)]
    names = project.survey_names if studies is None else sorted(read)
    surveys = {name: read.get(name) or project.survey(name) for name in names}
    resources = project_resources(project) | dict(resource_overrides or {})
    assets: list[Any] = []
    sensors, schedules = [], []
    for survey in surveys.values():
        assets += [*wave_assets(survey), *population_assets(survey)]
        sensors.append(wave_sensor(survey, look_for_waves))
    for study in chosen:
        survey = surveys[study.survey]
        assets += prompt_assets(survey, study, resources["hub"])
        assets += adapter_assets(survey, study)
        assets += simulation_assets(survey, study)
        assets += metric_assets(survey, study)
        assets += contrast_assets(survey, study)
        assets += validation_assets(survey, study)
        assets += baseline_assets(survey, study)
        assets += contest_assets(survey, study)
        assets += report_assets(survey, study)
        sensors.append(study_sensor(study, changed_adapters))
        schedules.append(refresh_schedule(study, adapters_partitions(study)))
    sensors.append(
        dg.AutomationConditionSensorDefinition(
            "automation",
            target=dg.AssetSelection.all(),
            minimum_interval_seconds=30,
            default_status=dg.DefaultSensorStatus.RUNNING,
        )
    )
    return dg.Definitions(
        assets=assets,
        sensors=sensors,
        schedules=schedules,
        # One process a run: cheap tables do not pay for a process each, and a GPU step's memory
        # returns with its run, which holds one adapter.
        executor=dg.in_process_executor,
        resources=resources,
    )


def project_resources(project: Project) -> dict[str, Any]:
    """Everything assets are given, on this machine."""
    lake = Lake(root=project.lake)
    return {
        "lake": lake,
        "io_manager": TableIOManager(lake=lake),
        "hub": ModelHub(root=str(project.root)),
        "compute": chosen_compute(),
        "warehouse": Warehouse(lake=lake),
    }
