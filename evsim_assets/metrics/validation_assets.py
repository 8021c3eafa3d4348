"""Dagster assets of choosing on validation: each adapter's validation scores, and what is chosen by them.

Belongs here: reading inputs, calling the stages, attaching metadata. Not here: any computation; test answers
(`assets.py`).
"""

import shutil
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.adapters.assets import adapters_partitions
from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.automation import cheap, following
from evsim_assets.metrics.chosen import chosen_adapters as adapters_of
from evsim_assets.metrics.chosen import chosen_temperatures as temperatures_of
from evsim_assets.metrics.validation import SPLIT
from evsim_assets.metrics.validation import validation_scores as scored
from evsim_assets.simulation.assets import VERSION as READING_VERSION
from evsim_assets.simulation.assets import (
    nothing_stored,
    of_distributions,
    partition_work,
    read_stored,
    sums_to_one,
)
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.compute import Compute
from evsim_resources.lake import DIMENSION, Lake
from evsim_resources.models import ModelHub
from evsim_resources.outputs import OWNERS, about, markdown, refusing, spec_hash, table_output

VERSION = "1"


def validation_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, validation_scores]`, and `[<study>, chosen_adapters]` with `chosen_temperatures`."""
    adapters = adapters_partitions(study)
    gpu: dict[str, Any] = {"pool": "gpu"} if study.compute.device == "cuda" else {}
    read_as = spec_hash(study.temperature_values, of_distributions(study))

    @dg.asset(
        key=[study.name, "validation_scores"],
        partitions_def=adapters,
        deps=[[study.name, "adapter_checkpoint"]],
        ins={"prompts": dg.AssetIn(key=[study.name, "prompts"])},
        kinds={"pytorch", "parquet"},
        group_name=study.name,
        owners=OWNERS,
        automation_condition=following(),
        code_version=f"{VERSION}.{READING_VERSION}.{read_as}",
        metadata={DIMENSION: "adapter"},
        **gpu,
        description=about(
            "Agreement of an adapter's exact distributions with the human validation answers, per"
            " temperature, question and point answer: what adapters and temperatures are chosen by.",
            survey,
        ),
        check_specs=[
            dg.AssetCheckSpec(
                "masses_sum_to_one",
                asset=[study.name, "validation_scores"],
                partitions_def=adapters,
                blocking=True,
                description="Answers, off_scale, no_number and unexpanded sum to 1 for every prompt.",
            )
        ],
    )
    def validation_scores(
        context: dg.AssetExecutionContext,
        prompts: pd.DataFrame,
        lake: Lake,
        hub: ModelHub,
        compute: Compute,
    ) -> Iterator[Any]:
        spec = study.adapter(context.partition_key)
        refusing(compute.require, study.compute)
        own = refusing(own_prompts, prompts, spec.template, SPLIT)
        with partition_work(lake, study, "validation_scores", {"adapter": spec.key}) as work:
            read, audits = refusing(read_stored, context, study, spec, own, lake, hub, compute, work)
            whole, worst = sums_to_one(read)
            if not whole.passed:
                shutil.rmtree(work)
                yield whole
                raise nothing_stored(
                    f"the masses of an answer distribution miss 1 by {worst:.2g}",
                    f"look for numbers that are not finite in the model of {spec.key}",
                )
            table = refusing(scored, prompts, read, spec.factors)
            means = table[table["point_answer"] == "mean"].drop(columns=list(spec.factors))
            yield table_output(table, scores=markdown(means.round(3)), **audits)
            shutil.rmtree(work)
        yield whole

    @dg.multi_asset(
        name=f"{study.name}__chosen_adapters",
        group_name=study.name,
        ins={"scores": dg.AssetIn(key=[study.name, "validation_scores"])},
        outs={
            name: dg.AssetOut(
                key=[study.name, name],
                code_version=f"{VERSION}.{spec_hash([spec.key for spec in study.adapter_specs])}",
                automation_condition=cheap(),
                description=about(text, survey),
                kinds={"parquet"},
                owners=OWNERS,
            )
            for name, text in {
                "chosen_adapters": "Per question and measure, the adapter, temperature and point answer that"
                " are best on validation.",
                "chosen_temperatures": "Each adapter's temperature per question, by KL on validation.",
            }.items()
        },
    )
    def chosen_adapters(scores: pd.DataFrame) -> Iterator[Any]:
        ordered = pd.concat([scores[scores["adapter"] == spec.key] for spec in study.adapter_specs])
        chosen = adapters_of(ordered)
        yield table_output(chosen, output_name="chosen_adapters", chosen=markdown(chosen.round(3)))
        yield table_output(temperatures_of(ordered), output_name="chosen_temperatures")

    return [validation_scores, chosen_adapters]
