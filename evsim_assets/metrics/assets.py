"""Dagster assets of agreement with the humans: people, noise floor, null models, metrics, scoreboard.

Belongs here: reading inputs, calling the stage, attaching metadata and checks. Not here: any computation,
what a check goes by (`verdicts.py`); effects, bias and who can be told apart (`contrast_assets.py`).

Pictures beside these tables carry the study's name and not its title: another title would make everything
out of date that is scored.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.adapters.assets import adapters_partitions
from evsim_assets.automation import cheap
from evsim_assets.metrics import verdicts
from evsim_assets.metrics.agreement import population_histograms, score
from evsim_assets.metrics.agreement_figures import forest_figure, metrics_figure, plane_figure
from evsim_assets.metrics.beside import beside
from evsim_assets.metrics.comparisons import comparisons as compared
from evsim_assets.metrics.groups import ALL
from evsim_assets.metrics.histograms import histogram_figure
from evsim_assets.metrics.noise_figures import floors_figure, nulls_figure
from evsim_assets.metrics.noise_floor import noise_floor as floors_of
from evsim_assets.metrics.nulls import score_nulls
from evsim_assets.metrics.people import read_people
from evsim_assets.metrics.scoreboard import scoreboard as side_by_side
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
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

VERSION = "4"
PLOTTED_QUESTIONS = 4
"""Questions whose histograms are shown inline for an adapter; the report has all of them."""


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

    drawn: dict[str, Any] = {"simulated": survey.simulated}
    scored = spec_hash(study.seed, survey.demographics, survey.simulated)
    widths = pd.Series(
        {q.id: q.answer_scale.answers[-1] - q.answer_scale.answers[0] for q in survey.questions}
    )

    def of(name: str) -> dg.AssetIn:
        return dg.AssetIn(key=[study.name, name])

    def check(asset: str, name: str, said: str, **partitioned: Any) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(
            name, asset=[study.name, asset], description=f"{said} Warns; blocks nothing.", **partitioned
        )

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
        code_version=f"{VERSION}.{scored}",
        check_specs=[
            check("noise_floor", "floors_hold", "Floors of KL and W1 over everybody are above 0."),
            check(
                "noise_floor",
                "enough_people",
                f"Every question has {verdicts.LEAST_PEOPLE} test participants or more.",
            ),
        ],
        description=about(
            "Every measure between two samples of humans, per group: what is left of it is noise.",
            survey,
        ),
    )
    def noise_floor(prompts: pd.DataFrame, people: pd.DataFrame) -> Iterator[Any]:
        table = refusing(floors_of, prompts, people, survey.demographics, study.seed)
        png = floors_figure(table, widths, title=f"{study.name}: noise floor", **drawn)
        yield table_output(
            table,
            floors=markdown(_of_everybody(table).dropna(subset=["floor"])),
            noise_floor=picture(png, "noise floor by measure and question"),
        )
        yield _warning("floors_hold", verdicts.floors_hold(table))
        yield _warning("enough_people", verdicts.enough_people(table))

    @dg.asset(
        key=[study.name, "null_models"],
        ins={"prompts": of("prompts"), "people": of("people")},
        code_version=f"{VERSION}.{scored}",
        **common,
        check_specs=[
            check(
                "null_models",
                "population_says_something",
                "Test answers are predicted better from the training answers than by guessing (CRPS).",
            )
        ],
        description=about(
            "Models that know nothing, the population, or a person's demographic cell, against test answers.",
            survey,
        ),
    )
    def null_models(prompts: pd.DataFrame, people: pd.DataFrame) -> Iterator[Any]:
        table = refusing(score_nulls, prompts, people, survey.demographics, study.seed)
        png = nulls_figure(table, widths, title=f"{study.name}: null models", **drawn)
        yield table_output(
            table,
            nulls=markdown(_of_everybody(table).dropna(subset=["value"])),
            null_models=picture(png, "null models by measure and question"),
        )
        yield _warning("population_says_something", verdicts.nulls_in_order(table))

    succeeds = check(
        "metrics",
        "answers_are_numbers",
        f"At least {verdicts.LEAST_SUCCESS:.0%} of the answers are on the scale, at every temperature.",
        partitions_def=adapters,  # one adapter's warning is not forgotten with the next one's pass
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
                code_version=f"{VERSION}.{scored}",
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
        found = refusing(
            score,
            prompts,
            people,
            distributions,
            generations.paths,
            study.adapter(context.partition_key).factors,
            seed=study.seed,
            demographics=survey.demographics,
        )
        table = beside(found.metrics, floors, nulls)
        overall = _of_everybody(table)
        shown = overall.pivot_table(
            index=["temperature", "question"], columns=["measure", "point_answer"], values="value"
        )
        shown.columns = [" ".join(column) for column in shown.columns]
        png = metrics_figure(table, title=f"{study.name}: {context.partition_key}", **drawn)
        yield table_output(
            table,
            output_name="metrics",
            by_temperature=picture(png, "measures by temperature"),
            measures=markdown(shown.reset_index().round(3)),
        )
        yield table_output(found.replicates, output_name="metric_replicates")
        yield _warning("answers_are_numbers", verdicts.answers_are_numbers(table))

    @dg.asset(
        key=[study.name, "comparisons"],
        ins={"replicates": of("metric_replicates"), "metrics": of("metrics")},
        code_version=f"{VERSION}.{spec_hash(survey.simulated)}",
        **common,
        description=about(
            "Each pair of adapters: which is closer to the humans, by how much, with a paired interval.",
            survey,
        ),
    )
    def comparisons(replicates: pd.DataFrame, metrics: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        table = refusing(compared, replicates, metrics)
        told = table[(table["measure"] == "w1") & (table["point_answer"] == "none")]
        png = forest_figure(table, title=f"{study.name}: who is closer", **drawn)
        return table_output(
            table, forest=picture(png, "differences from the closest adapter"), by_w1=markdown(told.round(3))
        )

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
        code_version=f"{VERSION}.{spec_hash(survey.simulated)}",
        **common,
        check_specs=[
            check(
                "scoreboard",
                "nobody_too_good",
                "No adapter is nearer to people, in KL or W1, than chance lets a perfect model be: that would"
                " be a leak of test answers, or much luck.",
            )
        ],
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
    ) -> Iterator[Any]:
        table = side_by_side(metrics, floors, nulls, chosen)
        png = plane_figure(table, title=f"{study.name}: scoreboard", **drawn)
        shown: dict[str, Any] = {
            "rmse_kl": picture(png, "RMSE over KL"),
            "scoreboard": markdown(table.round(3)),
        }
        yield table_output(table, **shown)
        yield _warning("nobody_too_good", verdicts.nobody_too_good(table))

    return [people, noise_floor, null_models, metrics, comparisons, answer_histograms, scoreboard]


def _warning(name: str, verdict: verdicts.Verdict) -> dg.AssetCheckResult:
    return warning_check(name, passed=verdict.passed, words=verdict.words, **verdict.numbers)


def _of_everybody(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["demographic"] == ALL]
