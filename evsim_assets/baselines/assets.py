"""Dagster assets of the baselines: fits per algorithm, their curves, and the chosen ones.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pandas as pd

from evsim_assets.automation import cheap, refreshed
from evsim_assets.baselines.answers import SETTING, chosen_answers, recomputed
from evsim_assets.baselines.curves import baseline_curves as curves_of
from evsim_assets.baselines.curves import chosen_on_validation, not_chosen
from evsim_assets.baselines.curves_figure import curves_figure
from evsim_assets.baselines.fits import Algorithm, fit_grid, part_of
from evsim_assets.baselines.rows import answers_in_splits, read_answers
from evsim_assets.metrics.contestants import one_reading
from evsim_assets.prompts.sampling import sampled_participants
from evsim_assets.prompts.templates_sql import has_digits
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AnswerScale, StudySpec
from evsim_assets.specs.survey import DIGITS, Scale, SurveySpec
from evsim_resources.compute import failure
from evsim_resources.lake import DIMENSION, Lake, TableFiles
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
from evsim_resources.progress import reporter
from evsim_resources.work import work_folder

VERSION = "4"
PARTS_AT_ONCE = 2
"""`evsim run` makes two parts at the same time; they share the cores."""


def baseline_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, baseline_fits]`, `baseline_curves`, `chosen_baselines` and `baseline_answers`."""
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
    fits_key, answers_key = [study.name, "baseline_fits"], [study.name, "baseline_answers"]
    of_people = {
        "responses": dg.AssetIn(key=[survey.name, "responses"]),
        "splits": dg.AssetIn(key=[survey.name, "splits"]),
    }

    def rows_of(responses: TableFiles, splits: pd.DataFrame) -> pd.DataFrame:
        people = refusing(sampled_participants, splits, study.sample)
        return answers_in_splits(read_answers(responses.paths, survey), people, survey.held_out)

    @dg.asset(
        key=fits_key,
        partitions_def=parts,
        metadata={DIMENSION: "algorithm"},
        **common,
        code_version=f"{VERSION}.{meaning}",
        kinds={"scikitlearn", "parquet"},
        automation_condition=refreshed(),
        ins=of_people,
        check_specs=[
            dg.AssetCheckSpec(
                "settings_fitted",
                asset=fits_key,
                partitions_def=parts,
                description="Every setting could be fitted for every question that has answers to fit. Warns;"
                " blocks nothing.",
            )
        ],
        description=about(
            "A part of a baseline's settings (Tables 9 and 10 for SVR and CatBoost), for every question.",
            survey,
        ),
    )
    def baseline_fits(
        context: dg.AssetExecutionContext, responses: TableFiles, splits: pd.DataFrame, lake: Lake
    ) -> Iterator[Any]:
        key = context.partition_key
        rows = rows_of(responses, splits)
        with work_folder(lake, fits_key, {"algorithm": key}) as work:
            table = _fit(survey, study, key, rows, work, context.log)
            shown: dict[str, Any] = fits_counted(table)
            yield table_output(
                table,
                seconds=float(table.drop_duplicates(SETTING)["seconds"].sum()),
                **shown,
            )
            shutil.rmtree(work)
        failed = table[table["reason"].notna()].drop_duplicates(["question", "answers", "reason"])
        yield warning_check(
            "settings_fitted",
            passed=shown["failed"] == 0,
            words=f"{shown['failed']} fits failed" if shown["failed"] else None,
            **shown,
            reasons=markdown(failed[["question", "answers", "setting", "reason"]]),
        )

    @dg.asset(
        key=[study.name, "baseline_curves"],
        code_version=f"{VERSION}.{spec_hash(survey.simulated)}",
        kinds={"parquet", "matplotlib"},
        **common,
        ins={"fits": dg.AssetIn(key=fits_key)},
        automation_condition=cheap(),
        description=about(
            "A (KL, RMSE) point a setting, and each algorithm's Pareto front (Figure 11).", survey
        ),
    )
    def baseline_curves(fits: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        table = curves_of(fits)
        plots: dict[str, Any] = {
            f"fronts_{scale}": picture(
                curves_figure(
                    table, title=f"{study.name}: baselines", simulated=survey.simulated, answers=scale
                ),
                "RMSE against KL of every setting",
            )
            for scale in dict.fromkeys(table["answers"])
        }
        return table_output(table, **plots)

    @dg.asset(
        key=[study.name, "chosen_baselines"],
        code_version=VERSION,
        kinds={"parquet"},
        **common,
        ins={"fits": dg.AssetIn(key=fits_key)},
        automation_condition=cheap(),
        check_specs=[
            dg.AssetCheckSpec(
                "every_algorithm_has_a_choice",
                asset=[study.name, "chosen_baselines"],
                description="Of each algorithm some setting has figures on validation and on test, for every"
                " question and answer scale. Warns; blocks nothing.",
            )
        ],
        description=about(
            "The setting of each algorithm that is best on validation, with its test figures.", survey
        ),
    )
    def chosen_baselines(fits: pd.DataFrame) -> Iterator[Any]:
        table = chosen_on_validation(fits)
        yield table_output(table, chosen=markdown(table))
        lost = not_chosen(fits, table)
        yield warning_check(
            "every_algorithm_has_a_choice",
            passed=lost.empty,
            words=None if lost.empty else f"{len(lost)} without a setting that has figures on both splits",
            without_a_choice=len(lost),
            which=markdown(lost),
        )

    @dg.asset(
        key=answers_key,
        code_version=f"{VERSION}.{meaning}",
        kinds={"scikitlearn", "parquet"},
        **common,
        ins=of_people | {"chosen": dg.AssetIn(key=[study.name, "chosen_baselines"])},
        automation_condition=cheap(),
        check_specs=[
            dg.AssetCheckSpec(
                "as_chosen",
                asset=answers_key,
                blocking=True,
                description="The answers kept have the test KL and RMSE by which chosen_baselines reports the"
                " settings.",
            )
        ],
        description=about(
            "What the baselines chosen on validation say to each test person, to be compared with adapters.",
            survey,
        ),
    )
    def baseline_answers(
        context: dg.AssetExecutionContext,
        responses: TableFiles,
        splits: pd.DataFrame,
        chosen: pd.DataFrame,
        lake: Lake,
    ) -> Iterator[Any]:
        rows, choices = rows_of(responses, splits), one_reading(chosen)
        with work_folder(lake, answers_key) as work:
            table = refusing(_answers, survey, study, choices, rows, work, context.log)
            same = recomputed(table, choices, _scales(survey, study))
            check = _as_chosen(same)
            if not check.passed:
                shutil.rmtree(work)
                yield check
                raise failure(_other_fits(same))
            yield table_output(table, settings=len(table[SETTING].drop_duplicates()), figures=markdown(same))
            shutil.rmtree(work)
        yield check

    return [baseline_fits, baseline_curves, chosen_baselines, baseline_answers]


def fits_counted(table: pd.DataFrame) -> dict[str, int]:
    """How many settings a part has, and how many fits (a setting, question and answer scale) failed, or
    stopped before they converged. A question without answers to fit is no failed fit."""
    fits = table.drop_duplicates(SETTING)
    tried = fits["train_rows"] > 0
    return {
        "settings": int(fits["setting"].nunique()),
        "failed": int((tried & fits["reason"].notna()).sum()),
        "not_converged": int((tried & ~fits["converged"] & fits["reason"].isna()).sum()),
        "without_answers": int((~tried & fits["reason"].notna()).sum()),
    }


def _as_chosen(same: pd.DataFrame) -> dg.AssetCheckResult:
    apart = (same["kept"] - same["chosen"]).abs()
    return dg.AssetCheckResult(
        check_name="as_chosen",
        passed=bool(same["equal"].all()),
        metadata={
            "figures": len(same),
            "differ": int((~same["equal"]).sum()),
            "largest_difference": float(apart.max()) if len(apart) else 0.0,
            "which": markdown(same[~same["equal"]]),
        },
    )


def _other_fits(same: pd.DataFrame) -> BadInput:
    worst = same[~same["equal"]].iloc[0]
    return BadInput(
        f"{worst['algorithm']} fitted again for question {worst['question']!r} has another"
        f" {worst['measure'].upper()} on test than when it was chosen",
        field=worst["setting"],
        value=f"{worst['kept']:.6g}, was {worst['chosen']:.6g}",
        remedy="run baseline_fits and chosen_baselines again, then this: answers, libraries or the machine"
        " have changed since",
    )


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


def _answers(
    survey: SurveySpec, study: StudySpec, choices: pd.DataFrame, rows: pd.DataFrame, work: Path, log: Any
) -> pd.DataFrame:
    """The test answers of every choice; `work` keeps those that are finished."""
    tables = [
        chosen_answers(
            cast(Algorithm, algorithm),
            getattr(study.baselines, algorithm, None),
            choices[(choices["algorithm"] == algorithm) & (choices["answers"] == answers)],
            rows,
            demographics=survey.demographics,
            scales=scales_on(answers, survey),
            seed=study.seed,
            answers=answers,
            max_train_rows=study.baselines.max_train_rows,
            work=work / algorithm,
            say=log.info,
        )
        for algorithm in study.baselines.algorithms
        for answers in answer_scales(survey, study)
    ]
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def _scales(survey: SurveySpec, study: StudySpec) -> dict[tuple[str, str], Scale]:
    """Each question's scale, by question and answer scale."""
    return {
        (question, answers): DIGITS if answers == "digit" else scale
        for answers in answer_scales(survey, study)
        for question, scale in scales_on(answers, survey).items()
    }


def answer_scales(survey: SurveySpec, study: StudySpec) -> list[AnswerScale]:
    """The survey's own scale, and 0–9 where some adapter answers on it and some question can be."""
    digits = any(spec.answers == "digit" for spec in study.adapter_specs)
    return ["native", "digit"] if digits and scales_on("digit", survey) else ["native"]


def scales_on(answers: AnswerScale, survey: SurveySpec) -> dict[str, Scale]:
    """The scale of what people answered, of the questions that have a form on this answer scale."""
    asked = [q for q in survey.questions if answers == "native" or has_digits(q)]
    return {q.id: q.answer_scale for q in asked}
