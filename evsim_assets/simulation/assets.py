"""Dagster assets of the simulated population: answer distributions and generations.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.adapters.assets import adapters_partitions, checkpoint_store
from evsim_assets.adapters.base_model import load_tokenizer, load_with_adapter
from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.automation import following
from evsim_assets.simulation.distributions import answer_distributions as read_answers
from evsim_assets.simulation.generations import generations as draw_answers
from evsim_assets.specs.study import AdapterSpec, ComputeSpec, StudySpec, temperature_key
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.compute import Compute
from evsim_resources.lake import DIMENSION, Lake
from evsim_resources.models import ModelHub
from evsim_resources.outputs import OWNERS, about, markdown, refusing, spec_hash, table_output
from evsim_resources.progress import reporter

VERSION = "1"
UNEXPANDED_LIMIT = 1e-2
"""Largest mass of a prompt's distribution that may stay unread before a check says so."""


def temperatures_partitions(study: StudySpec) -> dg.StaticPartitionsDefinition:
    """The study's temperatures, as keys."""
    return dg.StaticPartitionsDefinition([temperature_key(t) for t in study.temperature_values])


def simulation_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, answer_distributions]` and `[<study>, generations]`."""
    adapters = adapters_partitions(study)
    grid = dg.MultiPartitionsDefinition({"adapter": adapters, "temperature": temperatures_partitions(study)})
    gpu = {"pool": "gpu"} if study.compute.device == "cuda" else {}
    common: dict[str, Any] = {
        "group_name": study.name,
        "owners": OWNERS,
        "automation_condition": following(),
        **gpu,
    }
    checkpoint_key = dg.AssetKey([study.name, "adapter_checkpoint"])

    @dg.asset(
        key=[study.name, "answer_distributions"],
        partitions_def=adapters,
        deps=[checkpoint_key],
        ins={"prompts": dg.AssetIn(key=[study.name, "prompts"])},
        kinds={"pytorch", "parquet"},
        code_version=f"{VERSION}.{spec_hash(study.temperature_values, study.decoding)}",
        metadata={DIMENSION: "adapter"},
        **common,
        description=about(
            "Exact probability of every answer, number or label, for each test prompt at every temperature.",
            survey,
        ),
        check_specs=[
            dg.AssetCheckSpec(
                "masses_sum_to_one",
                asset=[study.name, "answer_distributions"],
                blocking=True,
                description="Answers, off_scale, no_number and unexpanded sum to 1 for every prompt.",
            ),
            dg.AssetCheckSpec(
                "little_left_unread",
                asset=[study.name, "answer_distributions"],
                description=f"No prompt has more than {UNEXPANDED_LIMIT:g} of its mass unexpanded.",
            ),
        ],
    )
    def answer_distributions(
        context: dg.AssetExecutionContext,
        prompts: pd.DataFrame,
        lake: Lake,
        hub: ModelHub,
        compute: Compute,
    ) -> Iterator[Any]:
        spec = study.adapter(context.partition_key)
        refusing(compute.require, study.compute)
        model, tokenizer = refusing(_model, study, spec, lake, hub)
        tell = reporter(context.log)
        table = refusing(
            compute.run,
            read_answers,
            model,
            tokenizer,
            refusing(own_prompts, prompts, spec.template, "test"),
            digit_answers=spec.answers == "digit",
            temperatures=study.temperature_values,
            decoding=study.decoding,
            on_progress=lambda done, of: tell(done / of, f"{done} of {of} prompts"),
        )
        lost = table.groupby("temperature")[["off_scale", "no_number", "unexpanded"]].mean().reset_index()
        total = table["probabilities"].map(sum) + table[["off_scale", "no_number", "unexpanded"]].sum(axis=1)
        worst = float((total - 1).abs().max())
        unread = float(table["unexpanded"].max())
        whole = dg.AssetCheckResult(
            check_name="masses_sum_to_one", passed=worst < 1e-5, metadata={"largest_deviation": worst}
        )
        if not whole.passed:  # nothing bad is stored: what was there before stays as it was
            yield whole
            raise dg.Failure(
                f"the masses of an answer distribution miss 1 by {worst:.2g}; nothing was stored\n"
                f"  Remedy: look for numbers that are not finite in the model of {spec.key}",
                allow_retries=False,
            )
        yield table_output(table, lost_masses=markdown(lost))
        yield whole
        yield dg.AssetCheckResult(
            check_name="little_left_unread",
            passed=unread <= UNEXPANDED_LIMIT,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"largest_unexpanded_mass": unread},
        )

    @dg.asset(
        key=[study.name, "generations"],
        partitions_def=grid,
        deps=[checkpoint_key],
        ins={
            "prompts": dg.AssetIn(key=[study.name, "prompts"]),
            "distributions": dg.AssetIn(key=[study.name, "answer_distributions"]),
        },
        code_version=f"{VERSION}.{spec_hash(study.seed, study.decoding)}",
        kinds={"pytorch", "parquet"},
        **common,
        description=about(
            "One simulated answer a test prompt: drawn from the exact distribution, and really decoded"
            " where the text does not begin with an answer.",
            survey,
        ),
    )
    def generations(
        context: dg.AssetExecutionContext,
        prompts: pd.DataFrame,
        distributions: pd.DataFrame,
        lake: Lake,
        hub: ModelHub,
        compute: Compute,
    ) -> dg.Output[pd.DataFrame]:
        key = context.partition_key
        assert isinstance(key, dg.MultiPartitionKey)
        spec = study.adapter(key.keys_by_dimension["adapter"])
        temperature = float(key.keys_by_dimension["temperature"])
        refusing(compute.require, study.compute)
        tell = reporter(context.log)
        table = refusing(
            compute.run,
            draw_answers,
            lambda: _model(study, spec, lake, hub),
            refusing(own_prompts, prompts, spec.template, "test"),
            distributions,
            digit_answers=spec.answers == "digit",
            temperature=temperature,
            decoding=study.decoding,
            seed=study.seed,
            on_progress=lambda done, of: tell(done / of, f"{done} of {of} prompts"),
        )
        decoded = table[table["made_by"] == "decode"]
        return table_output(
            table,
            success_rate=float(table["success"].mean()),
            decoded=len(decoded),
            decoded_texts=markdown(decoded[["prompt_id", "text", "answer"]].head(5)),
        )

    return [answer_distributions, generations]


def _model(study: StudySpec, spec: AdapterSpec, lake: Lake, hub: ModelHub) -> tuple[Any, Any]:
    """The adapter's model and tokenizer; the last one loaded is kept for its next temperature."""
    stored = checkpoint_store(lake, study, spec.key).resolve()
    base = study.models[spec.model]
    return _loaded(
        str(hub.folder(spec.model, base)),
        None if spec.method == "pretrained" else str(stored.folder),
        spec.method,
        study.compute,
        base.trust_remote_code,
        stored.manifest.get("training", {}).get("base_weights") == "nf4" or None,
        stored.id,
    )


@lru_cache(maxsize=1)
def _loaded(
    source: str,
    checkpoint: str | None,
    method: Any,
    compute: ComputeSpec,
    trust: bool,
    resident: bool | None,
    version: str,
) -> tuple[Any, Any]:
    from pathlib import Path

    model = load_with_adapter(
        source,
        Path(checkpoint) if checkpoint else None,
        method=method,
        device=compute.device,
        precision=compute.precision,
        trust_remote_code=trust,
        resident=resident,
    )
    return model, load_tokenizer(source, trust_remote_code=trust)
