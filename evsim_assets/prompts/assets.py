"""Dagster assets of a study's prompts and their lengths.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation.
"""

from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.automation import cheap, cheap_on_cpu
from evsim_assets.prompts.lengths import token_lengths
from evsim_assets.prompts.render import build_prompts
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.models import ModelHub
from evsim_resources.outputs import OWNERS, about, markdown, refusing, spec_hash, table_output

VERSION = "1"


def prompt_assets(survey: SurveySpec, study: StudySpec, hub: ModelHub) -> list[Any]:
    """`[<study>, prompts]` and `[<study>, prompt_lengths]`.

    `hub` is asked for the tokenizers' digests, so that another tokenizer makes the lengths out of date.
    """
    meaning = spec_hash(
        survey.prompts, survey.model_dump(include={"demographics", "questions"}), study.sample
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
        description=about("System and survey prompt (B.1) of every answer that the study uses.", survey),
    )
    def prompts(responses: pd.DataFrame, splits: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        table = refusing(build_prompts, responses, splits, survey, study.sample)
        people = table.groupby("split")["participant"].nunique()
        first = table.groupby("question", as_index=False).first()[["question", "system", "user", "answer"]]
        return table_output(table, participants=markdown(people.reset_index()), examples=_whole(first))

    @dg.asset(
        key=[study.name, "prompt_lengths"],
        kinds={"parquet"},
        **common,
        code_version=f"{VERSION}.{spec_hash(study.models, tokenizers)}",
        automation_condition=cheap_on_cpu(study),
        ins={"prompts": dg.AssetIn(key=[study.name, "prompts"])},
        description=about(
            "Tokens a prompt for each model, and what the token tree shares (Table 5).", survey
        ),
    )
    def prompt_lengths(prompts: pd.DataFrame, hub: ModelHub) -> dg.Output[pd.DataFrame]:
        refusing(hub.require, study.models)
        counted = [
            refusing(token_lengths, prompts, _tokenizer(hub, study, name), name) for name in study.models
        ]
        table = pd.concat(counted, ignore_index=True)
        return table_output(table, lengths=markdown(table.round(1)))

    return [prompts, prompt_lengths]


def _tokenizer(hub: ModelHub, study: StudySpec, name: str) -> Any:
    from transformers import AutoTokenizer

    spec = study.models[name]
    return AutoTokenizer.from_pretrained(
        str(hub.folder(name, spec)), local_files_only=True, trust_remote_code=spec.trust_remote_code
    )


def _whole(examples: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """One whole prompt a question, as a person would read it."""
    parts = [
        f"**{row.question}**\n\n> {row.system}\n>\n> {row.user}\n\nHuman's answer: **{row.answer}**"
        for row in examples.itertuples(index=False)
    ]
    return dg.MetadataValue.md("\n\n---\n\n".join(parts))
