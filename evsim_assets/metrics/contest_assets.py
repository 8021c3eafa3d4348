"""Dagster assets of adapters against baselines: the contest, and the claim that it decides.

Belongs here: reading inputs, calling the stages, attaching metadata. Not here: any computation; adapters
alone (`assets.py`), what baselines say (`baselines/assets.py`).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.automation import cheap
from evsim_assets.metrics.chosen import ALL_ROUND
from evsim_assets.metrics.claim import claim as claim_of
from evsim_assets.metrics.claim import summary
from evsim_assets.metrics.contest import contest as contest_of
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.lake import TableFiles
from evsim_resources.outputs import (
    OWNERS,
    about,
    markdown,
    refusing,
    spec_hash,
    table_output,
    warning_check,
)

VERSION = "1"
SHOWN = ["question", "answers", "adapter", "baseline", "baseline_chosen_by", "measure", "difference", "low"]


def contest_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, contest]` and `[<study>, claim]`."""
    common: dict[str, Any] = {
        "group_name": study.name,
        "owners": OWNERS,
        "automation_condition": cheap(),
        "kinds": {"parquet"},
    }
    factors = {spec.key: spec.factors for spec in study.adapter_specs}

    def of(*names: str) -> dict[str, dg.AssetIn]:
        return {name: dg.AssetIn(key=[study.name, name]) for name in names}

    @dg.asset(
        key=[study.name, "contest"],
        ins=of("prompts", "answer_distributions", "baseline_answers", "chosen_baselines", "chosen_adapters"),
        code_version=f"{VERSION}.{spec_hash(study.seed, factors)}",
        **common,
        description=about(
            "Each adapter chosen on validation against each chosen baseline, on the same test prompts: paired"
            " differences and ratios with 95 % intervals.",
            survey,
        ),
    )
    def contest(
        prompts: pd.DataFrame,
        answer_distributions: TableFiles,
        baseline_answers: pd.DataFrame,
        chosen_baselines: pd.DataFrame,
        chosen_adapters: pd.DataFrame,
    ) -> dg.Output[pd.DataFrame]:
        # a file a partition, in the partitions' sorted order
        files = dict(zip(sorted(factors), answer_distributions.paths, strict=True))
        table = refusing(
            contest_of,
            prompts,
            files,
            baseline_answers,
            chosen_baselines,
            chosen_adapters,
            factors,
            seed=study.seed,
        )
        told = table[(table["chosen_by"] == ALL_ROUND) & table["measure"].isin(["kl", "rmse"])]
        return table_output(table, chosen_by_crps=markdown(told[[*SHOWN, "high", "ratio", "closer"]]))

    @dg.asset(
        key=[study.name, "claim"],
        ins=of("contest", "chosen_baselines"),
        code_version=VERSION,
        **common,
        check_specs=[
            dg.AssetCheckSpec(
                "adapter_beats_baselines",
                asset=[study.name, "claim"],
                description="On every question the adapter chosen on validation has a lower KL than every"
                " baseline and an RMSE within 2 % of the best baseline's. Warns;"
                " blocks nothing.",
            )
        ],
        description=about(
            "Per question: is an adapter's KL below every baseline's and its RMSE within 2 % of the best's,"
            " and how sure is that.",
            survey,
        ),
    )
    def claim(contest: pd.DataFrame, chosen_baselines: pd.DataFrame) -> Iterator[Any]:
        table = claim_of(contest, chosen_baselines)
        yield table_output(table, verdict=dg.MetadataValue.md(summary(table)), claim=markdown(table))
        met = table["both"].fillna(False).astype(bool)
        yield warning_check(
            "adapter_beats_baselines",
            passed=bool(met.all()),
            words=" ".join(table.loc[~met, "sentence"]) or None,
            questions=len(table),
            met=int(met.sum()),
            undecided=int(table["both"].isna().sum()),
            not_below_every_kl=int((~table["kl_below_every_baseline"]).sum()),
            not_within_2_percent_of_rmse=int((~table["rmse_within_2_percent"]).sum()),
        )

    return [contest, claim]
