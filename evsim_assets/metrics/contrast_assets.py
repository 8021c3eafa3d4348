"""Dagster assets of what differs: effects of interventions, groups, and humans from simulated people.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation; agreement of
whole populations (`assets.py`).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.adapters.assets import adapters_partitions
from evsim_assets.automation import cheap
from evsim_assets.metrics.bias import bias as biases
from evsim_assets.metrics.discriminability import discriminability as told_apart
from evsim_assets.metrics.effects import effects as effects_of
from evsim_assets.metrics.effects_figure import effects_figure
from evsim_assets.metrics.figures import bias_figure, discriminability_figure
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.landing import canonical_id
from evsim_resources.lake import DIMENSION
from evsim_resources.outputs import OWNERS, about, markdown, picture, refusing, spec_hash, table_output

VERSION = "1"


def contrast_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, effects]` with `effect_agreement`, `bias` with `bias_levels`, `discriminability`."""
    adapters = adapters_partitions(study)
    inputs = {
        name: dg.AssetIn(key=[study.name, name]) for name in ("prompts", "people", "answer_distributions")
    }
    before = {question.id: question.before for question in survey.questions if question.before}
    held_out = {canonical_id(one) for one in survey.held_out.interventions}
    of_groups = spec_hash(study.seed, survey.demographics)
    words = (study.title, survey.simulated)

    def outs(code_version: str, **texts: str) -> dict[str, dg.AssetOut]:
        return {
            name: dg.AssetOut(
                key=[study.name, name],
                code_version=code_version,
                automation_condition=cheap(),
                description=about(text, survey),
                metadata={DIMENSION: "adapter"},
                kinds={"parquet"},
                owners=OWNERS,
            )
            for name, text in texts.items()
        }

    @dg.multi_asset(
        name=f"{study.name}__effects",
        partitions_def=adapters,
        group_name=study.name,
        ins={name: asset for name, asset in inputs.items() if name != "people"},
        outs=outs(
            f"{VERSION}.{spec_hash(study.seed, before, sorted(held_out), *words)}",
            effects="What each intervention changes in human and in simulated answers, with intervals.",
            effect_agreement="How well simulated effects of interventions agree with the humans'.",
        ),
    )
    def effects(
        context: dg.AssetExecutionContext, prompts: pd.DataFrame, answer_distributions: pd.DataFrame
    ) -> Iterator[Any]:
        table, agreement = refusing(
            effects_of,
            prompts,
            answer_distributions,
            study.adapter(context.partition_key).factors,
            before=before,
            held_out=held_out,
            seed=study.seed,
        )
        plots = {}
        if len(table):
            hottest = table["temperature"] == table["temperature"].max()
            of_hottest = agreement[agreement["temperature"] == table["temperature"].max()]
            png = effects_figure(table[hottest], of_hottest, title=study.title, simulated=survey.simulated)
            plots["effects"] = picture(png, "human and simulated effects of interventions")
        yield table_output(table, output_name="effects", **plots)
        yield table_output(agreement, output_name="effect_agreement", agreement=markdown(agreement.round(3)))

    @dg.multi_asset(
        name=f"{study.name}__bias",
        partitions_def=adapters,
        group_name=study.name,
        ins=inputs,
        outs=outs(
            f"{VERSION}.{spec_hash(of_groups, *words)}",
            bias="How far groups lie apart in people's answers and in simulated ones, a row a demographic.",
            bias_levels="The mean answers of each group, human and simulated.",
        ),
    )
    def bias(
        context: dg.AssetExecutionContext,
        prompts: pd.DataFrame,
        people: pd.DataFrame,
        answer_distributions: pd.DataFrame,
    ) -> Iterator[Any]:
        table, levels = refusing(
            biases,
            prompts,
            people,
            answer_distributions,
            study.adapter(context.partition_key).factors,
            seed=study.seed,
            demographics=survey.demographics,
        )
        plots = {}
        if len(table):
            hottest = table[table["temperature"] == table["temperature"].max()]
            png = bias_figure(hottest, title=study.title, simulated=survey.simulated)
            plots["amplification"] = picture(png, "differences between groups, simulated over human")
        yield table_output(table, output_name="bias", **plots)
        yield table_output(levels, output_name="bias_levels")

    @dg.asset(
        key=[study.name, "discriminability"],
        partitions_def=adapters,
        metadata={DIMENSION: "adapter"},
        group_name=study.name,
        owners=OWNERS,
        kinds={"parquet", "scikitlearn"},
        automation_condition=cheap(),
        code_version=f"{VERSION}.{spec_hash(of_groups, *words)}",
        ins=inputs,
        description=about(
            "Whether a classifier can tell simulated answers from people's (two-sample test).", survey
        ),
    )
    def discriminability(
        context: dg.AssetExecutionContext,
        prompts: pd.DataFrame,
        people: pd.DataFrame,
        answer_distributions: pd.DataFrame,
    ) -> dg.Output[pd.DataFrame]:
        table = refusing(
            told_apart,
            prompts,
            people,
            answer_distributions,
            study.adapter(context.partition_key).factors,
            seed=study.seed,
            demographics=survey.demographics,
        )
        png = discriminability_figure(table, title=study.title, simulated=survey.simulated)
        return table_output(
            table, told_apart=markdown(table.round(3)), auc=picture(png, "AUC by temperature")
        )

    return [effects, bias, discriminability]
