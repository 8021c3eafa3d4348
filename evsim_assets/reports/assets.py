"""Dagster asset of a study's report: the figures, and the page that analysts open.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any drawing.
"""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.adapters.assets import checkpoint_store
from evsim_assets.automation import cheap
from evsim_assets.reports.contents import Results, write_report
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.lake import Lake
from evsim_resources.outputs import OWNERS, about, picture, refusing, spec_hash
from evsim_resources.versions import VersionedStore

VERSION = "4"


def report_store(lake: Lake, study: str) -> VersionedStore:
    """Where a study's reports are."""
    return VersionedStore(lake, [study, "report"])


def report_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, report]`."""
    words = (study.title, study.note, survey.title, survey.source, survey.simulated)
    inputs = (
        "scoreboard",
        "answer_histograms",
        "baseline_curves",
        "chosen_baselines",
        "chosen_adapters",
        "chosen_temperatures",
        "noise_floor",
        "null_models",
        "effects",
        "effect_agreement",
        "bias",
        "discriminability",
        "comparisons",
        "claim",
        "contest",
    )

    @dg.asset(
        key=[study.name, "report"],
        group_name=study.name,
        owners=OWNERS,
        kinds={"html", "matplotlib"},
        code_version=f"{VERSION}.{spec_hash(*words, study.published)}",
        automation_condition=cheap(),
        deps=[[study.name, "adapter_checkpoint"]],
        ins={name: dg.AssetIn(key=[study.name, name]) for name in inputs},
        description=about(
            "RMSE–KL plot, histograms, effects, groups, learning curves and tables on one page.", survey
        ),
    )
    def report(
        scoreboard: pd.DataFrame,
        answer_histograms: pd.DataFrame,
        baseline_curves: pd.DataFrame,
        chosen_baselines: pd.DataFrame,
        chosen_adapters: pd.DataFrame,
        chosen_temperatures: pd.DataFrame,
        noise_floor: pd.DataFrame,
        null_models: pd.DataFrame,
        effects: pd.DataFrame,
        effect_agreement: pd.DataFrame,
        bias: pd.DataFrame,
        discriminability: pd.DataFrame,
        comparisons: pd.DataFrame,
        claim: pd.DataFrame,
        contest: pd.DataFrame,
        lake: Lake,
    ) -> dg.MaterializeResult:
        results = Results(
            scoreboard=scoreboard,
            histograms=answer_histograms,
            curves=baseline_curves,
            chosen=chosen_baselines,
            floors=noise_floor,
            nulls=null_models,
            learning_curves=refusing(_learning_curves, lake, study),
            chosen_adapters=chosen_adapters,
            chosen_temperatures=chosen_temperatures,
            effects=effects,
            effect_agreement=effect_agreement,
            bias=bias,
            discriminability=discriminability,
            comparisons=comparisons,
            claim=claim,
            contest=contest,
        )
        pictures: dict[str, bytes] = {}

        def fill(folder: Path) -> dict[str, Any]:
            pictures.update(write_report(folder, survey, study, results))
            return {"study": study.name}

        stored = refusing(report_store(lake, study.name).write, fill)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(stored.id),
            metadata={
                "page": dg.MetadataValue.path(str(stored.folder / "index.html")),
                **{name.removesuffix(".png"): picture(png, name) for name, png in pictures.items()},
            },
        )

    return [report]


def _learning_curves(lake: Lake, study: StudySpec) -> pd.DataFrame:
    """The learning curves of all trained adapters, with the column `adapter`."""
    from evsim_assets.adapters.training import CURVE_FILE

    curves = []
    for spec in study.adapter_specs:
        if spec.method != "pretrained":
            folder = checkpoint_store(lake, study, spec.key).resolve().folder
            curves.append(pd.read_parquet(folder / CURVE_FILE).assign(adapter=spec.key))
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()
