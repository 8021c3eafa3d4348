"""Dagster assets of the baselines: fits per algorithm, their curves, and the chosen ones.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation.
"""

from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.automation import cheap, refreshed
from evsim_assets.baselines.curves import baseline_curves as curves_of
from evsim_assets.baselines.curves import chosen_on_validation
from evsim_assets.baselines.fits import fit_grid
from evsim_assets.baselines.rows import answers_in_splits, read_answers
from evsim_assets.prompts.sampling import sampled_participants
from evsim_assets.prompts.templates_sql import has_digits
from evsim_assets.specs.study import AnswerScale, StudySpec
from evsim_assets.specs.survey import Scale, SurveySpec
from evsim_resources.lake import DIMENSION, TableFiles
from evsim_resources.outputs import OWNERS, about, markdown, refusing, spec_hash, table_output
from evsim_resources.progress import reporter

VERSION = "2"


def baseline_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, baseline_fits]`, `baseline_curves` and `chosen_baselines`."""
    algorithms = dg.StaticPartitionsDefinition(list(study.baselines.algorithms))
    common: dict[str, Any] = {"group_name": study.name, "owners": OWNERS}
    meaning = spec_hash(
        study.baselines,
        study.seed,
        study.sample,
        answer_scales(survey, study),
        survey.demographics,
        survey.questions,
        survey.held_out,
    )
    fits_key = [study.name, "baseline_fits"]

    @dg.asset(
        key=fits_key,
        partitions_def=algorithms,
        metadata={DIMENSION: "algorithm"},
        **common,
        code_version=f"{VERSION}.{meaning}",
        kinds={"scikitlearn", "parquet"},
        automation_condition=refreshed(),
        ins={
            "responses": dg.AssetIn(key=[survey.name, "responses"]),
            "splits": dg.AssetIn(key=[survey.name, "splits"]),
        },
        description=about(
            "SVR, CatBoost or random for every question and setting (Tables 9 and 10).", survey
        ),
    )
    def baseline_fits(
        context: dg.AssetExecutionContext, responses: TableFiles, splits: pd.DataFrame
    ) -> dg.Output[pd.DataFrame]:
        algorithm = context.partition_key
        people = refusing(sampled_participants, splits, study.sample)
        rows = answers_in_splits(read_answers(responses.paths, survey), people, survey.held_out)
        tables = [
            fit_grid(
                algorithm,
                getattr(study.baselines, algorithm, None),
                rows,
                demographics=survey.demographics,
                scales=scales_on(answers, survey),
                seed=study.seed,
                answers=answers,
                max_train_rows=study.baselines.max_train_rows,
                on_progress=reporter(context.log),
            )
            for answers in answer_scales(survey, study)
        ]
        table = pd.concat(tables, ignore_index=True)
        return table_output(
            table, settings=int(table["setting"].nunique()), seconds=float(table["seconds"].sum())
        )

    @dg.asset(
        key=[study.name, "baseline_curves"],
        code_version=VERSION,
        kinds={"parquet"},
        **common,
        ins={"fits": dg.AssetIn(key=fits_key)},
        automation_condition=cheap(),
        description=about(
            "A (KL, RMSE) point a setting, and each algorithm's Pareto front (Figure 11).", survey
        ),
    )
    def baseline_curves(fits: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        return table_output(curves_of(fits))

    @dg.asset(
        key=[study.name, "chosen_baselines"],
        code_version=VERSION,
        kinds={"parquet"},
        **common,
        ins={"fits": dg.AssetIn(key=fits_key)},
        automation_condition=cheap(),
        description=about(
            "The setting of each algorithm that is best on validation, with its test figures.", survey
        ),
    )
    def chosen_baselines(fits: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        table = chosen_on_validation(fits)
        return table_output(table, chosen=markdown(table))

    return [baseline_fits, baseline_curves, chosen_baselines]


def answer_scales(survey: SurveySpec, study: StudySpec) -> list[AnswerScale]:
    """The survey's own scale, and 0–9 where some adapter answers on it and some question can be."""
    digits = any(spec.answers == "digit" for spec in study.adapter_specs)
    return ["native", "digit"] if digits and scales_on("digit", survey) else ["native"]


def scales_on(answers: AnswerScale, survey: SurveySpec) -> dict[str, Scale]:
    """The scale of what people answered, of the questions that have a form on this answer scale."""
    asked = [q for q in survey.questions if answers == "native" or has_digits(q)]
    return {q.id: q.answer_scale for q in asked}
