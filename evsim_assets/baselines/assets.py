"""Dagster assets of the baselines: fits per algorithm, their curves, and the chosen ones.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.automation import cheap, refreshed
from evsim_assets.baselines.curves import baseline_curves as curves_of
from evsim_assets.baselines.curves import chosen_on_validation
from evsim_assets.baselines.fits import fit_grid, part_of
from evsim_assets.baselines.rows import answers_in_splits, read_answers
from evsim_assets.prompts.sampling import sampled_participants
from evsim_assets.prompts.templates_sql import has_digits
from evsim_assets.specs.study import AnswerScale, StudySpec
from evsim_assets.specs.survey import Scale, SurveySpec
from evsim_resources.lake import DIMENSION, Lake, TableFiles
from evsim_resources.outputs import OWNERS, about, markdown, refusing, spec_hash, table_output
from evsim_resources.progress import reporter
from evsim_resources.work import work_folder

VERSION = "3"
PARTS_AT_ONCE = 2
"""`evsim run` makes two parts at the same time; they share the cores."""


def baseline_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, baseline_fits]`, `baseline_curves` and `chosen_baselines`."""
    parts = dg.StaticPartitionsDefinition(list(study.baselines.parts))
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
        partitions_def=parts,
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
            "A part of a baseline's settings (Tables 9 and 10 for SVR and CatBoost), for every question.",
            survey,
        ),
    )
    def baseline_fits(
        context: dg.AssetExecutionContext, responses: TableFiles, splits: pd.DataFrame, lake: Lake
    ) -> Iterator[Any]:
        key = context.partition_key
        people = refusing(sampled_participants, splits, study.sample)
        rows = answers_in_splits(read_answers(responses.paths, survey), people, survey.held_out)
        with work_folder(lake, fits_key, {"algorithm": key}) as work:
            table = _fit(survey, study, key, rows, work, context.log)
            yield table_output(
                table,
                settings=int(table["setting"].nunique()),
                seconds=float(table.drop_duplicates(["question", "answers", "setting"])["seconds"].sum()),
                failed=int(table["reason"].notna().sum()),
                not_converged=int((~table["converged"].astype(bool) & table["reason"].isna()).sum()),
            )
            shutil.rmtree(work)

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


def _fit(
    survey: SurveySpec, study: StudySpec, key: str, rows: pd.DataFrame, work: Path, log: Any
) -> pd.DataFrame:
    """The fits of one partition on every answer scale; `work` keeps those that are finished."""
    algorithm, part = part_of(key)
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
            part=part,
            jobs=max(1, (os.cpu_count() or 1) // PARTS_AT_ONCE),
            work=work,
            on_progress=reporter(log),
            say=log.info,
        )
        for answers in answer_scales(survey, study)
    ]
    return pd.concat(tables, ignore_index=True)


def answer_scales(survey: SurveySpec, study: StudySpec) -> list[AnswerScale]:
    """The survey's own scale, and 0–9 where some adapter answers on it and some question can be."""
    digits = any(spec.answers == "digit" for spec in study.adapter_specs)
    return ["native", "digit"] if digits and scales_on("digit", survey) else ["native"]


def scales_on(answers: AnswerScale, survey: SurveySpec) -> dict[str, Scale]:
    """The scale of what people answered, of the questions that have a form on this answer scale."""
    asked = [q for q in survey.questions if answers == "native" or has_digits(q)]
    return {q.id: q.answer_scale for q in asked}
