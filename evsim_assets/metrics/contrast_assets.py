"""Dagster assets of what differs: effects, groups, humans from simulated people, methods.

Belongs here: reading inputs, calling the stage, attaching metadata and checks. Not here: any computation,
what a check goes by (`verdicts.py`); agreement of whole populations (`assets.py`).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.adapters.assets import adapters_partitions
from evsim_assets.automation import cheap
from evsim_assets.metrics import verdicts
from evsim_assets.metrics.bias import bias as biases
from evsim_assets.metrics.discriminability import discriminability as told_apart
from evsim_assets.metrics.effects import effects as effects_of
from evsim_assets.metrics.effects_figure import effects_figure
from evsim_assets.metrics.figures import bias_figure, discriminability_figure, spreads_figure
from evsim_assets.metrics.method_agreement import NO_PAIR, method_agreement, method_pairs
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.landing import canonical_id
from evsim_resources.lake import DIMENSION, TableFiles
from evsim_resources.outputs import (
    OWNERS,
    about,
    markdown,
    picture,
    refusing,
    spec_hash,
    table_output,
    warning_check,
)

VERSION = "2"


def contrast_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, effects]` with `effect_agreement`, `bias` with `bias_levels`, `discriminability`,
    `method_agreement`."""
    adapters = adapters_partitions(study)
    inputs = {
        name: dg.AssetIn(key=[study.name, name]) for name in ("prompts", "people", "answer_distributions")
    }
    before = {question.id: question.before for question in survey.questions if question.before}
    held_out = {canonical_id(one) for one in survey.held_out.interventions}
    of_groups = spec_hash(study.seed, survey.demographics)
    words = (study.title, survey.simulated)

    def check(asset: str, name: str, said: str) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(
            name,
            asset=[study.name, asset],
            partitions_def=adapters,  # one adapter's warning is not forgotten with the next one's pass
            description=f"{said} Warns; blocks nothing.",
        )

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
        check_specs=[
            check(
                "effects",
                "effects_can_be_judged",
                f"Of the spread of human effects, {verdicts.LEAST_RELIABILITY:.0%} or more is not noise.",
            )
        ],
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
        yield _warning("effects_can_be_judged", verdicts.effects_can_be_judged(agreement))

    @dg.multi_asset(
        name=f"{study.name}__bias",
        partitions_def=adapters,
        group_name=study.name,
        ins=inputs,
        check_specs=[
            check(
                "bias",
                "groups_as_among_people",
                "At the highest temperature, the median amplification of differences between groups is within"
                f" {verdicts.FAITHFUL[0]:g} and {verdicts.FAITHFUL[1]:g}.",
            )
        ],
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
            shown: dict[str, Any] = {"title": study.title, "simulated": survey.simulated}
            spreads, amplified = spreads_figure(hottest, **shown), bias_figure(hottest, **shown)
            plots["spreads"] = picture(spreads, "differences between groups, human and simulated")
            plots["amplification"] = picture(amplified, "differences between groups, simulated over human")
        yield table_output(table, output_name="bias", **plots)
        yield table_output(levels, output_name="bias_levels")
        yield _warning("groups_as_among_people", verdicts.groups_as_among_people(table))

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
        check_specs=[
            check(
                "discriminability",
                "not_told_apart",
                "At the highest temperature, a permutation test finds no more than chance (p above"
                f" {verdicts.TOLD_APART:g}) in what a classifier tells apart.",
            )
        ],
        description=about(
            "Whether a classifier can tell simulated answers from people's (two-sample test).", survey
        ),
    )
    def discriminability(
        context: dg.AssetExecutionContext,
        prompts: pd.DataFrame,
        people: pd.DataFrame,
        answer_distributions: pd.DataFrame,
    ) -> Iterator[Any]:
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
        yield table_output(table, told_apart=markdown(table.round(3)), auc=picture(png, "AUC by temperature"))
        yield _warning("not_told_apart", verdicts.not_told_apart(table))

    pairs = method_pairs(spec.factors for spec in study.adapter_specs)

    @dg.asset(
        key=[study.name, "method_agreement"],
        group_name=study.name,
        owners=OWNERS,
        kinds={"parquet"},
        automation_condition=cheap(),
        code_version=f"{VERSION}.{spec_hash(study.seed, pairs)}",
        ins={"prompts": inputs["prompts"], "distributions": inputs["answer_distributions"]},
        description=about(
            "How alike adapters answer that differ in LoRA or QLoRA alone: rank correlation over prompts.",
            survey,
        ),
    )
    def agreement_of_methods(prompts: pd.DataFrame, distributions: TableFiles) -> dg.Output[pd.DataFrame]:
        # Files come in the sorted order of the adapters, whose names the rows do not hold.
        paths = dict(zip(sorted(adapters.get_partition_keys()), distributions.paths, strict=True))
        table = refusing(
            method_agreement, pairs, prompts, lambda key: pd.read_parquet(paths[key]), seed=study.seed
        )
        if not pairs:
            return table_output(table, reason=NO_PAIR)
        return table_output(table, agreement=markdown(table.round(3)))

    return [effects, bias, discriminability, agreement_of_methods]


def _warning(name: str, verdict: verdicts.Verdict) -> dg.AssetCheckResult:
    return warning_check(name, passed=verdict.passed, words=verdict.words, **verdict.numbers)
