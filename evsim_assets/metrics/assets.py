"""Dagster assets of agreement with the humans: noise floor, null models, metrics, scoreboard.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.adapters.assets import adapters_partitions
from evsim_assets.automation import cheap
from evsim_assets.metrics.agreement import population_histograms, score
from evsim_assets.metrics.histograms import histogram_figure
from evsim_assets.metrics.noise_floor import noise_floor as floors_of
from evsim_assets.metrics.nulls import score_nulls
from evsim_assets.metrics.scoreboard import scoreboard as side_by_side
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.lake import DIMENSION
from evsim_resources.outputs import OWNERS, about, markdown, picture, refusing, spec_hash, table_output

VERSION = "2"
PLOTTED_QUESTIONS = 4
"""Questions whose histograms are shown inline for an adapter; the report has all of them."""
LEAST_SUCCESS_RATE = 0.95
"""Below this success rate at some temperature a check says that many answers are missing."""


def metric_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, noise_floor]`, `null_models`, `metrics`, `answer_histograms` and `scoreboard`."""
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
        key=[study.name, "noise_floor"],
        ins={"prompts": of("prompts")},
        **common,
        code_version=f"{VERSION}.{spec_hash(study.seed)}",
        description=about(
            "Every measure between two samples of humans: what is left of it is noise.", survey
        ),
    )
    def noise_floor(prompts: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        table = refusing(floors_of, prompts, study.seed)
        return table_output(table, floors=markdown(table.dropna(subset=["floor"])))

    @dg.asset(
        key=[study.name, "null_models"],
        ins={"prompts": of("prompts")},
        code_version=VERSION,
        **common,
        description=about(
            "Models that know nothing, or only the population, against the test answers.", survey
        ),
    )
    def null_models(prompts: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        table = score_nulls(prompts)
        return table_output(table, nulls=markdown(table))

    succeeds = dg.AssetCheckSpec(
        "answers_are_numbers",
        asset=[study.name, "metrics"],
        description=f"At least {LEAST_SUCCESS_RATE:.0%} of the answers are on the scale.",
    )
    of_an_adapter: dict[str, Any] = {
        "partitions_def": adapters,
        "metadata": {DIMENSION: "adapter"},
        "ins": {
            "prompts": of("prompts"),
            "distributions": of("answer_distributions"),
            "generations": of("generations"),
        },
    }

    @dg.asset(
        key=[study.name, "metrics"],
        check_specs=[succeeds],
        code_version=VERSION,
        **of_an_adapter,
        **common,
        description=about(
            "Agreement of an adapter's population with the human test answers, per temperature, question"
            " and point answer.",
            survey,
        ),
    )
    def metrics(
        context: dg.AssetExecutionContext,
        prompts: pd.DataFrame,
        distributions: pd.DataFrame,
        generations: pd.DataFrame,
    ) -> Iterator[Any]:
        spec = study.adapter(context.partition_key)
        table = refusing(score, prompts, distributions, generations, spec.factors)
        rates = table[table["measure"] == "success_rate"]
        shown = table.pivot_table(
            index=["temperature", "question"], columns=["measure", "point_answer"], values="value"
        )
        shown.columns = [" ".join(column) for column in shown.columns]
        yield table_output(table, measures=markdown(shown.reset_index().round(3)))
        least = float(rates["value"].min())
        yield dg.AssetCheckResult(
            check_name="answers_are_numbers",
            passed=least >= LEAST_SUCCESS_RATE,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"least_success_rate": least},
        )

    @dg.asset(
        key=[study.name, "answer_histograms"],
        code_version=f"{VERSION}.{spec_hash(study.title, survey.simulated)}",  # what its plots say
        **of_an_adapter,
        **common,
        description=about("Counts of human and simulated answers behind the metrics.", survey),
    )
    def answer_histograms(
        context: dg.AssetExecutionContext,
        prompts: pd.DataFrame,
        distributions: pd.DataFrame,
        generations: pd.DataFrame,
    ) -> dg.Output[pd.DataFrame]:
        spec = study.adapter(context.partition_key)
        table = refusing(population_histograms, prompts, distributions, generations, spec.factors)
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

    return [noise_floor, null_models, metrics, answer_histograms, scoreboard]
