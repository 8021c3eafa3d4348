"""Dagster assets of a study's prompts and their lengths.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.automation import cheap, cheap_on_cpu
from evsim_assets.prompts.lengths import token_lengths
from evsim_assets.prompts.render import build_prompts, examples
from evsim_assets.prompts.separation import separation_problems
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.landing import intervention_texts, interventions_version
from evsim_resources.compute import failure
from evsim_resources.lake import Lake, TableFiles
from evsim_resources.models import ModelHub
from evsim_resources.outputs import (
    OWNERS,
    about,
    markdown,
    refusing,
    spec_hash,
    table_file_output,
    table_output,
)

VERSION = "2"


def prompt_assets(survey: SurveySpec, study: StudySpec, hub: ModelHub) -> list[Any]:
    """`[<study>, prompts]` and `[<study>, prompt_lengths]`.

    `hub` is asked for the tokenizers' digests, so that another tokenizer makes the lengths out of date.
    """
    meaning = spec_hash(
        survey.prompts,
        survey.demographics,
        survey.questions,
        survey.waves,
        survey.interventions,
        interventions_version(survey),
        survey.held_out,
        study.sample,
        study.templates,
    )
    tokenizers = {name: hub.tokenizer_digest(spec) for name, spec in study.models.items()}
    common: dict[str, Any] = {"group_name": study.name, "owners": OWNERS}

    @dg.asset(
        key=[study.name, "prompts"],
        automation_condition=cheap(),
        kinds={"parquet"},
        code_version=f"{VERSION}.{meaning}",
        **common,
        ins={
            "responses": dg.AssetIn(key=[survey.name, "responses"]),
            "splits": dg.AssetIn(key=[survey.name, "splits"]),
        },
        check_specs=[
            dg.AssetCheckSpec(
                "splits_are_apart",
                asset=dg.AssetKey([study.name, "prompts"]),
                blocking=True,
                description="No participant is in two splits, and nothing held out is in a training or"
                " validation prompt.",
            )
        ],
        description=about("System and survey prompt (B.1) of every answer that the study uses.", survey),
    )
    def prompts(responses: TableFiles, splits: TableFiles, lake: Lake) -> Iterator[Any]:
        with lake.scratch() as scratch:
            made = scratch / "prompts.parquet"
            people = refusing(
                build_prompts,
                responses.paths[0],
                splits.paths[0],
                survey,
                study.templates,
                study.sample,
                made,
                refusing(intervention_texts, survey),
            )
            problems = separation_problems(made, splits.paths[0], responses.paths[0], survey)
            check = dg.AssetCheckResult(
                check_name="splits_are_apart",
                asset_key=dg.AssetKey([study.name, "prompts"]),
                passed=not problems,
                description="; ".join(problems) or None,
            )
            if problems:
                yield check
                raise failure(_leak(study, problems))
            yield table_file_output(made, participants=markdown(people), examples=_whole(examples(made)))
            yield check

    @dg.asset(
        key=[study.name, "prompt_lengths"],
        kinds={"parquet"},
        **common,
        code_version=f"{VERSION}.{spec_hash(study.models, tokenizers)}",
        automation_condition=cheap_on_cpu(study),
        ins={"prompts": dg.AssetIn(key=[study.name, "prompts"])},
        check_specs=[
            dg.AssetCheckSpec(
                "prompts_fit_the_context",
                asset=dg.AssetKey([study.name, "prompt_lengths"]),
                blocking=True,
                description="No prompt with its answer is longer than its model's context.",
            )
        ],
        description=about(
            "Tokens a prompt for each model, and what the token tree shares (Table 5).", survey
        ),
    )
    def prompt_lengths(prompts: TableFiles, hub: ModelHub) -> Iterator[Any]:
        refusing(hub.require, study.models)
        counted = [
            refusing(
                token_lengths,
                prompts.paths[0],
                hub.tokenizer(name, spec),
                name,
                refusing(hub.context_length, name, spec),
            )
            for name, spec in study.models.items()
        ]
        table = pd.concat(counted, ignore_index=True)
        over = table[(table["question"] == "all") & (table["over_context"] > 0)]
        check = dg.AssetCheckResult(
            check_name="prompts_fit_the_context",
            asset_key=dg.AssetKey([study.name, "prompt_lengths"]),
            passed=over.empty,
            metadata={"lengths": markdown(table.round(3))},
        )
        if not over.empty:
            yield check
            raise failure(_too_long(study, over))
        yield table_output(table, lengths=markdown(table.round(1)))
        yield check

    return [prompts, prompt_lengths]


def _leak(study: StudySpec, problems: list[str]) -> BadInput:
    return BadInput(
        f"the splits are not apart: {'; '.join(problems)}; the prompts are as they were",
        file=study.name,
        field="prompts",
        remedy=f"make responses and splits of {study.survey} again (evsim run {study.name} --only"
        " responses,splits --again); if it stays so, this is an error of evsim: report it",
    )


def _too_long(study: StudySpec, over: pd.DataFrame) -> BadInput:
    told = ", ".join(
        f"{row.model}: {row.over_context} of {row.texts_in_all} ({row.share_over_context:.1%}) over"
        f" {row.context} tokens, the longest of {row.longest}"
        for row in over.itertuples(index=False)
    )
    return BadInput(
        f"prompts are longer than a model's context: {told}",
        file=study.name,
        field="models",
        remedy="shorten the texts of interventions or templates in the codebook, or use a model with a"
        " longer context",
    )


def _whole(shown: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """One whole prompt a question, as a person would read it."""
    parts = [
        f"**{row.question}**\n\n> {row.system}\n>\n> {row.user}\n\nHuman's answer: **{row.target}**"
        for row in shown.itertuples(index=False)
    ]
    return dg.MetadataValue.md("\n\n---\n\n".join(parts))
