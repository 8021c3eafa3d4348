"""Dagster assets of agreement with the humans: people, noise floor, null models, metrics, scoreboard.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation; effects, bias
and who can be told apart (`contrast_assets.py`).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.adapters.assets import adapters_partitions
from evsim_assets.automation import cheap
from evsim_assets.metrics.agreement import population_histograms, score
from evsim_assets.metrics.beside import beside
from evsim_assets.metrics.comparisons import comparisons as compared
from evsim_assets.metrics.groups import ALL
from evsim_assets.metrics.histograms import histogram_figure
from evsim_assets.metrics.noise_floor import noise_floor as floors_of
from evsim_assets.metrics.nulls import score_nulls
from evsim_assets.metrics.people import read_people
from evsim_assets.metrics.scoreboard import scoreboard as side_by_side
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.lake import DIMENSION, TableFiles
from evsim_resources.outputs import OWNERS, about, markdown, picture, refusing, spec_hash, table_output

VERSION = "3"
PLOTTED_QUESTIONS = 4
"""Questions whose histograms are shown inline for an adapter; the report has all of them."""
LEAST_SUCCESS_RATE = 0.95
"""Below this success rate at some temperature a check says that many answers are missing."""


def metric_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, people]`, `noise_floor`, `null_models`, `metrics` with `metric_replicates`, `comparisons`,
    `answer_histograms` and `scoreboard`."""
    adapters = adapters_partitions(study)
    common: dict[str, Any] = {
        "group_name": study.name,
        "owners": OWNERS,
        "automation_condition": cheap(),
        "kinds": {"parquet"},
    }

    def of(name: str) -> dg.AssetIn:
        return dg.AssetIn(key=[study.name, name])

    @dg.asset(
        key=[study.name, "people"],
        ins={"prompts": of("prompts"), "responses": dg.AssetIn(key=[survey.name, "responses"])},
        **common,
        code_version=f"{VERSION}.{spec_hash(survey.demographics)}",
        description=about("The study's participants with their demographics, one row a person.", survey),
    )
    def people(prompts: pd.DataFrame, responses: TableFiles) -> dg.Output[pd.DataFrame]:
        asked = prompts["participant"].unique()
        return table_output(refusing(read_people, responses.paths, survey.demographics, asked))

    @dg.asset(
        key=[study.name, "noise_floor"],
        ins={"prompts": of("prompts"), "people": of("people")},
        **common,
        code_version=f"{VERSION}.{spec_hash(study.seed, survey.demographics)}",
        description=about(
            "Every measure between two samples of humans, per group: what is left of it is noise.",
            survey,
        ),
    )
    def noise_floor(prompts: pd.DataFrame, people: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        table = refusing(floors_of, prompts, people, survey.demographics, study.seed)
        return table_output(table, floors=markdown(_of_everybody(table).dropna(subset=["floor"])))

    @dg.asset(
        key=[study.name, "null_models"],
        ins={"prompts": of("prompts"), "people": of("people")},
        code_version=f"{VERSION}.{spec_hash(study.seed, survey.demographics)}",
        **common,
        description=about(
            "Models that know nothing, the population, or a person's demographic cell, against test answers.",
            survey,
        ),
    )
    def null_models(prompts: pd.DataFrame, people: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        table = refusing(score_nulls, prompts, people, survey.demographics, study.seed)
        return table_output(table, nulls=markdown(_of_everybody(table).dropna(subset=["value"])))

    succeeds = dg.AssetCheckSpec(
        "answers_are_numbers",
        asset=[study.name, "metrics"],
        description=f"At least {LEAST_SUCCESS_RATE:.0%} of the answers are on the scale.",
    )
    by_adapter: dict[str, Any] = {"metadata": {DIMENSION: "adapter"}, "kinds": {"parquet"}, "owners": OWNERS}

    @dg.multi_asset(
        name=f"{study.name}__metrics",
        partitions_def=adapters,
        group_name=study.name,
        check_specs=[succeeds],
        ins={
            "prompts": of("prompts"),
            "people": of("people"),
            "distributions": of("answer_distributions"),
            "generations": of("generations"),
            "floors": of("noise_floor"),
            "nulls": of("null_models"),
        },
        outs={
            name: dg.AssetOut(
                key=[study.name, name],
                code_version=f"{VERSION}.{spec_hash(study.seed, survey.demographics)}",
                automation_condition=cheap(),
                description=about(text, survey),
                **by_adapter,
            )
            for name, text in {
                "metrics": "Agreement of an adapter's population with the human test answers, per"
                " temperature, question, demographic group and point answer, with intervals and floor.",
                "metric_replicates": "The bootstrap's replicates behind the intervals of `metrics`, by"
                " which adapters are compared.",
            }.items()
        },
    )
    def metrics(
        context: dg.AssetExecutionContext,
        prompts: pd.DataFrame,
        people: pd.DataFrame,
        distributions: pd.DataFrame,
        generations: TableFiles,
        floors: pd.DataFrame,
        nulls: pd.DataFrame,
    ) -> Iterator[Any]:
        scored = refusing(
            score,
            prompts,
            people,
            distributions,
            generations.paths,
            study.adapter(context.partition_key).factors,
            seed=study.seed,
            demographics=survey.demographics,
        )
        table = beside(scored.metrics, floors, nulls)
        overall = _of_everybody(table)
        shown = overall.pivot_table(
            index=["temperature", "question"], columns=["measure", "point_answer"], values="value"
        )
        shown.columns = [" ".join(column) for column in shown.columns]
        yield table_output(table, output_name="metrics", measures=markdown(shown.reset_index().round(3)))
        yield table_output(scored.replicates, output_name="metric_replicates")
        rates = overall.loc[overall["measure"] == "success_rate", "value"]
        yield dg.AssetCheckResult(
            check_name="answers_are_numbers",
            passed=bool(rates.min() >= LEAST_SUCCESS_RATE),
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"least_success_rate": float(rates.min())},
        )

    @dg.asset(
        key=[study.name, "comparisons"],
        ins={"replicates": of("metric_replicates"), "metrics": of("metrics")},
        code_version=VERSION,
        **common,
        description=about(
            "Each pair of adapters: which is closer to the humans, by how much, with a paired interval.",
            survey,
        ),
    )
    def comparisons(replicates: pd.DataFrame, metrics: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        table = refusing(compared, replicates, metrics)
        told = table[(table["measure"] == "w1") & (table["point_answer"] == "none")]
        return table_output(table, by_w1=markdown(told.round(3)))

    @dg.asset(
        key=[study.name, "answer_histograms"],
        code_version=f"{VERSION}.{spec_hash(study.title, survey.simulated)}",  # what its plots say
        partitions_def=adapters,
        metadata={DIMENSION: "adapter"},
        ins={
            "prompts": of("prompts"),
            "distributions": of("answer_distributions"),
            "generations": of("generations"),
        },
        **common,
        description=about("Counts of human and simulated answers behind the metrics.", survey),
    )
    def answer_histograms(
        context: dg.AssetExecutionContext,
        prompts: pd.DataFrame,
        distributions: pd.DataFrame,
        generations: TableFiles,
    ) -> dg.Output[pd.DataFrame]:
        spec = study.adapter(context.partition_key)
        table = refusing(population_histograms, prompts, distributions, generations.paths, spec.factors)
        plots: dict[str, Any] = {
            f"{question} at T={temperature:g}": picture(
                histogram_figure(table, question, temperature, title=study.title, simulated=survey.simulated),
                f"answers to {question}",
            )
            for question in list(dict.fromkeys(table["question"]))[:PLOTTED_QUESTIONS]
            for temperature in (table["temperature"].min(), table["temperature"].max())
        }
        return table_output(table, **plots)

    @dg.asset(
        key=[study.name, "scoreboard"],
        code_version=VERSION,
        **common,
        ins={
            "metrics": of("metrics"),
            "floors": of("noise_floor"),
            "nulls": of("null_models"),
            "chosen": of("chosen_baselines"),
        },
        description=about(
            "One row an adapter, temperature and question, beside floor, nulls and baselines.", survey
        ),
    )
    def scoreboard(
        metrics: pd.DataFrame, floors: pd.DataFrame, nulls: pd.DataFrame, chosen: pd.DataFrame
    ) -> dg.Output[pd.DataFrame]:
        table = side_by_side(metrics, floors, nulls, chosen)
        return table_output(table, scoreboard=markdown(table.round(3)))

    return [people, noise_floor, null_models, metrics, comparisons, answer_histograms, scoreboard]


def _of_everybody(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["demographic"] == ALL]
