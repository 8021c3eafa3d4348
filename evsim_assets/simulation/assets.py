"""Dagster assets of the simulated population: answer distributions and generations.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from evsim_assets.adapters.assets import adapters_partitions, checkpoint_store
from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.automation import following
from evsim_assets.simulation.audit import AuditFound
from evsim_assets.simulation.distributions import answer_distributions as read_answers
from evsim_assets.simulation.generations import generations as draw_answers
from evsim_assets.simulation.loading import StoredAdapter, forget, fresh_model, model_of, weights_of
from evsim_assets.simulation.parity import beyond, compare, compared_prompts, tolerance_of, variants
from evsim_assets.simulation.resuming import ASKED, SHARD_PROMPTS, Make, by_shards, follows_from
from evsim_assets.simulation.summaries import (
    LOST,
    answers_figure,
    audit_note,
    audit_summary,
    drawn_rates,
    examples,
    mean_distributions,
    success_figure,
    success_rates,
)
from evsim_assets.specs.study import AdapterSpec, StudySpec, temperature_key
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.compute import Compute
from evsim_resources.lake import DIMENSION, Lake, content_hash
from evsim_resources.models import ModelHub
from evsim_resources.outputs import OWNERS, about, markdown, picture, refusing, spec_hash, table_output
from evsim_resources.progress import reporter
from evsim_resources.work import work_folder

VERSION = "3"
PLOTTED_QUESTIONS = 4
"""Questions whose mean distributions are shown inline; the report has all of them."""
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
        code_version=f"{VERSION}.{spec_hash(study.temperature_values, of_distributions(study))}",
        metadata={DIMENSION: "adapter"},
        **common,
        description=about(
            "Exact probability of every answer, number or label, for each test prompt at every temperature.",
            survey,
        ),
        check_specs=[
            dg.AssetCheckSpec(
                "parity",
                asset=[study.name, "answer_distributions"],
                partitions_def=adapters,
                blocking=True,
                description="Probabilities are the same for other batches, merged LoRA weights, and 4-bit"
                " weights kept or dequantized once, within the study's tolerance.",
            ),
            dg.AssetCheckSpec(
                "masses_sum_to_one",
                asset=[study.name, "answer_distributions"],
                partitions_def=adapters,
                blocking=True,
                description="Answers, off_scale, no_number and unexpanded sum to 1 for every prompt.",
            ),
            dg.AssetCheckSpec(
                "little_left_unread",
                asset=[study.name, "answer_distributions"],
                partitions_def=adapters,
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
        own = refusing(own_prompts, prompts, spec.template, "test")
        chosen = compared_prompts(own, study.parity.prompts)
        gpus = compute.gpus(study.compute)
        same = _parity(
            study, refusing(compute.run, _compared, study, spec, chosen, lake, hub, gpus=gpus), len(chosen)
        )
        yield same
        if not same.passed:
            raise nothing_stored(
                "an adapter's probabilities depend on how its model is held or batched",
                f"look at the comparisons of check parity of {spec.key}; where they are rounding alone, raise"
                " parity.tolerance in the study",
            )
        with partition_work(lake, study, "answer_distributions", {"adapter": spec.key}) as work:
            table, audits = refusing(read_stored, context, study, spec, own, lake, hub, compute, work)
            whole, worst = sums_to_one(table)
            if not whole.passed:  # nothing bad is stored: what was there before stays as it was
                shutil.rmtree(work)  # nor taken up again
                yield whole
                raise nothing_stored(
                    f"the masses of an answer distribution miss 1 by {worst:.2g}",
                    f"look for numbers that are not finite in the model of {spec.key}",
                )
            yield table_output(table, **_shown(own, table, spec, survey), **audits)
            shutil.rmtree(work)
        yield whole
        unread = float(table["unexpanded"].max())
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
        code_version=f"{VERSION}.{spec_hash(study.seed, study.decoding, study.replicates)}",
        kinds={"pytorch", "parquet"},
        **common,
        description=about(
            "Simulated answers to each test prompt, one a replicate: drawn from the exact distribution, and"
            " really decoded where the text does not begin with an answer.",
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
    ) -> Iterator[Any]:
        key = context.partition_key
        assert isinstance(key, dg.MultiPartitionKey)
        place = dict(key.keys_by_dimension)
        spec, temperature = study.adapter(place["adapter"]), float(place["temperature"])
        refusing(compute.require, study.compute)
        own = refusing(own_prompts, prompts, spec.template, "test")
        here = distributions[np.isclose(distributions["temperature"], temperature)]
        with partition_work(lake, study, "generations", place) as work:
            table = refusing(_draw, context, study, spec, own, here, lake, hub, compute, work)
            rates = drawn_rates(own, table, here)
            yield table_output(
                table,
                success_rate=float(table["success"].mean()),
                decoded=int((table["made_by"] != "distribution").sum()),
                success_rates=markdown(rates),
                examples=markdown(examples(table)),
            )
            shutil.rmtree(work)

    return [answer_distributions, generations]


def _compared(
    study: StudySpec, spec: AdapterSpec, chosen: pd.DataFrame, lake: Lake, hub: ModelHub
) -> pd.DataFrame:
    """An adapter's probabilities of some prompts, compared with those where nothing should matter."""
    forget()  # so that of all models compared one is held at a time
    stored = _stored(study, spec, lake, hub)
    return compare(
        lambda: model_of(stored),
        variants(spec.method, partial(fresh_model, stored), kept_in_4_bits=stored.four_bits),
        chosen,
        digit_answers=spec.answers == "digit",
        temperatures=study.temperature_values,
        decoding=study.decoding,
    )


def _parity(study: StudySpec, table: pd.DataFrame, prompts: int) -> dg.AssetCheckResult:
    """The check that an adapter's probabilities do not depend on what should not matter."""
    limit = tolerance_of(study.parity, study.compute)
    compared = table[table["blocks"] & table["reason"].isna()]
    return dg.AssetCheckResult(
        check_name="parity",
        passed=beyond(table, limit).empty,
        metadata={
            "tolerance": limit,
            "largest_difference": float(compared["largest_difference"].max(skipna=False)),
            "prompts": prompts,
            "comparisons": markdown(table.assign(reason=table["reason"].fillna(""))),
        },
    )


def read_stored(
    context: dg.AssetExecutionContext,
    study: StudySpec,
    spec: AdapterSpec,
    own: pd.DataFrame,
    lake: Lake,
    hub: ModelHub,
    compute: Compute,
    work: Path,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The adapter's distributions of its `own` prompts, and what the audit found, as metadata.

    Shards are kept in the folder `work` until the caller has stored what it makes of them.
    """
    temperatures, decoding = study.temperature_values, of_distributions(study)
    stored = _stored(study, spec, lake, hub)

    def make(some: pd.DataFrame, progress: Callable[[int, int], None]) -> tuple[pd.DataFrame, Any]:
        found: list[AuditFound] = []
        table = compute.run(
            _read_there,
            study,
            spec,
            lake,
            hub,
            some,
            gpus=compute.gpus(study.compute),
            callbacks={"on_progress": progress, "on_audit": found.append},
            digit_answers=spec.answers == "digit",
            temperatures=temperatures,
            decoding=study.decoding,
        )
        return table, audit_note(found[0]) if found else None

    known = _known(study, spec, own, stored) | {"temperatures": temperatures, "decoding": decoding}
    table, audits = _by_shards(context, work, known, own, make)
    return table, {"audit": markdown(audit_summary(temperatures, audits))} if audits else {}


def _draw(
    context: dg.AssetExecutionContext,
    study: StudySpec,
    spec: AdapterSpec,
    own: pd.DataFrame,
    distributions: pd.DataFrame,
    lake: Lake,
    hub: ModelHub,
    compute: Compute,
    work: Path,
) -> pd.DataFrame:
    """The adapter's generations at the temperature of its `distributions`."""
    temperature = float(distributions["temperature"].iloc[0])
    stored = _stored(study, spec, lake, hub)

    def make(some: pd.DataFrame, progress: Callable[[int, int], None]) -> tuple[pd.DataFrame, Any]:
        table = compute.run(
            _draw_there,
            study,
            spec,
            lake,
            hub,
            some,
            distributions[distributions["prompt_id"].isin(some["prompt_id"])],
            gpus=compute.gpus(study.compute),
            callbacks={"on_progress": progress},
            digit_answers=spec.answers == "digit",
            temperature=temperature,
            decoding=study.decoding,
            seed=study.seed,
            replicates=study.replicates,
        )
        return table, None

    known = _known(study, spec, own, stored) | {
        "temperature": temperature,
        "decoding": study.decoding.model_dump(mode="json"),
        "seed": study.seed,
        "replicates": study.replicates,
        "distributions": content_hash(distributions),
    }
    return _by_shards(context, work, known, own, make)[0]


def _read_there(
    study: StudySpec, spec: AdapterSpec, lake: Lake, hub: ModelHub, some: pd.DataFrame, **asked: Any
) -> pd.DataFrame:
    """The distributions of some prompts, from the adapter as the machine at work finds it."""
    return read_answers(*model_of(_stored(study, spec, lake, hub)), some, **asked)


def _draw_there(
    study: StudySpec,
    spec: AdapterSpec,
    lake: Lake,
    hub: ModelHub,
    some: pd.DataFrame,
    distributions: pd.DataFrame,
    **asked: Any,
) -> pd.DataFrame:
    """Generations for some prompts, likewise; the model is loaded where a text has to be decoded."""
    stored = _stored(study, spec, lake, hub)
    weights = weights_of(stored) if study.decoding.engine == "vllm" else None
    return draw_answers(lambda: model_of(stored), some, distributions, weights=weights, **asked)


def _stored(study: StudySpec, spec: AdapterSpec, lake: Lake, hub: ModelHub) -> StoredAdapter:
    """Where the adapter's files are. Raises BadInput where it is not stored, or its base not here."""
    stored = checkpoint_store(lake, study, spec.key).resolve()
    base = study.models[spec.model]
    return StoredAdapter(
        str(hub.folder(spec.model, base)),
        None if spec.method == "pretrained" else str(stored.folder),
        spec.method,
        study.compute,
        base.trust_remote_code,
        bool(stored.manifest.get("training", {}).get("base_weights") == "nf4"),
        stored.id,
    )


def _known(study: StudySpec, spec: AdapterSpec, own: pd.DataFrame, stored: StoredAdapter) -> dict[str, Any]:
    """What the rows of both tables follow from."""
    return {
        "adapter": stored.version,
        "answers": spec.answers,
        "prompts": content_hash(own[list(ASKED)]),
        "compute": study.compute.model_dump(mode="json"),
    }


def _by_shards(
    context: dg.AssetExecutionContext, work: Path, known: dict[str, Any], own: pd.DataFrame, make: Make
) -> tuple[pd.DataFrame, list[Any]]:
    tell, say = reporter(context.log), context.log.info
    return by_shards(work, follows_from(**known), own, make, size=SHARD_PROMPTS, tell=tell, say=say)


def of_distributions(study: StudySpec) -> dict[str, Any]:
    """What of the decoding decides a distribution: all but the engine that makes generations."""
    return study.decoding.model_dump(mode="json", exclude={"engine"})


def sums_to_one(table: pd.DataFrame) -> tuple[dg.AssetCheckResult, float]:
    """The check that every row sums to one, and the largest deviation."""
    total = table["probabilities"].map(sum) + table[["off_scale", "no_number", "unexpanded"]].sum(axis=1)
    off = (total - 1).abs()
    worst = float("nan") if off.isna().any() else float(off.max())
    result = dg.AssetCheckResult(
        check_name="masses_sum_to_one", passed=worst < 1e-5, metadata={"largest_deviation": worst}
    )
    return result, worst


def _shown(own: pd.DataFrame, table: pd.DataFrame, spec: AdapterSpec, survey: SurveySpec) -> dict[str, Any]:
    """Success rates and histograms, as metadata."""
    rates = success_rates(own, table)
    means = mean_distributions(own, table, digit_answers=spec.answers == "digit")
    questions = list(dict.fromkeys(means["question"]))[:PLOTTED_QUESTIONS]
    marked = {"simulated": survey.simulated}
    by_rate = success_figure(rates, title=f"{spec.key}: mass of answers", **marked)
    by_answer = answers_figure(means, questions, title=f"{spec.key}: mean distributions", **marked)
    return {
        "lost_masses": markdown(table.groupby("temperature")[LOST].mean().reset_index()),
        "success_rates": markdown(rates),
        "success_rate_by_temperature": picture(by_rate, "success rate by temperature"),
        "answers_by_question": picture(by_answer, "mean distributions beside humans"),
    }


def nothing_stored(problem: str, remedy: str) -> dg.Failure:
    """A failure that trying again does not mend."""
    return dg.Failure(f"{problem}; nothing was stored\n  Remedy: {remedy}", allow_retries=False)


@contextmanager
def partition_work(lake: Lake, study: StudySpec, asset: str, partition: dict[str, str]) -> Iterator[Path]:
    """The partition's work folder; another process in it is a failure of the step."""
    with ExitStack() as stack:
        yield refusing(stack.enter_context, work_folder(lake, [study.name, asset], partition))
