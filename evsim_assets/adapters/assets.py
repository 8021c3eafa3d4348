"""Dagster assets of a study's adapters: their specs as observed, and their checkpoints.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation.
"""

import shutil
from collections.abc import Iterator
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.adapters.training import TrainingResult, train
from evsim_assets.automation import refreshed
from evsim_assets.prompts.lengths import require_within_context
from evsim_assets.specs.study import AdapterSpec, StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.compute import Compute
from evsim_resources.lake import DIMENSION, Lake, content_hash
from evsim_resources.models import ModelHub
from evsim_resources.outputs import OWNERS, about, picture, refusing, spec_hash
from evsim_resources.progress import reporter
from evsim_resources.records import Records, observed
from evsim_resources.versions import VersionedStore

VERSION = "1"


def adapters_partitions(study: StudySpec) -> dg.StaticPartitionsDefinition:
    """The study's adapters, by key."""
    return dg.StaticPartitionsDefinition([spec.key for spec in study.adapter_specs])


def checkpoint_store(lake: Lake, study: StudySpec, adapter: str) -> VersionedStore:
    """Where an adapter's checkpoints are."""
    return VersionedStore(lake, [study.name, "adapter_checkpoint"], {"adapter": adapter})


def adapter_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, adapter_spec]` (external) and `[<study>, adapter_checkpoint]`."""
    adapters = adapters_partitions(study)
    common: dict[str, Any] = {"partitions_def": adapters, "group_name": study.name, "owners": OWNERS}
    spec_of = dg.AssetSpec(
        [study.name, "adapter_spec"],
        kinds={"yaml"},
        **common,
        description=about(
            "An adapter's line of the study file with its base model's files, observed by hash:"
            " editing one adapter makes one partition stale.",
            survey,
        ),
    )
    beats = dg.AssetCheckSpec(
        "beats_its_pretrained_model",
        asset=[study.name, "adapter_checkpoint"],
        description="Validation loss after fine-tuning is below the base model's.",
    )

    @dg.asset(
        key=[study.name, "adapter_checkpoint"],
        deps=[spec_of],
        kinds={"pytorch", "huggingface"},
        ins={"prompts": dg.AssetIn(key=[study.name, "prompts"])},
        code_version=VERSION,
        metadata={DIMENSION: "adapter"},
        automation_condition=refreshed(),
        check_specs=[beats],
        pool="gpu" if study.compute.device == "cuda" else None,
        **common,
        description=about(
            "LoRA/QLoRA adapter as a PEFT folder, the checkpoint of the lowest validation loss."
            " A pretrained model is an adapter without weights.",
            survey,
        ),
    )
    def adapter_checkpoint(
        context: dg.AssetExecutionContext,
        prompts: pd.DataFrame,
        lake: Lake,
        hub: ModelHub,
        compute: Compute,
    ) -> Iterator[Any]:
        spec = study.adapter(context.partition_key)
        refusing(hub.require, {spec.model: study.models[spec.model]})
        refusing(compute.require, study.compute)
        own = refusing(own_prompts, prompts, spec.template)
        tokenizer = hub.tokenizer(spec.model, study.models[spec.model])
        context_length = hub.context_length(spec.model, study.models[spec.model])
        refusing(require_within_context, own, tokenizer, spec.model, context_length)
        results: list[TrainingResult] = []

        def fill(folder: Path) -> dict[str, Any]:
            said = _manifest(study, spec, hub)
            if spec.method != "pretrained":
                results.append(_train(study, spec, own, hub, compute, folder, context.log))
                said["training"] = _reproducible(results[0]) | {"data_version": content_hash(own)}
            return said

        stored = refusing(checkpoint_store(lake, study, spec.key).write, fill)
        metadata: dict[str, Any] = {
            "version": stored.id,
            "path": dg.MetadataValue.path(str(stored.folder)),
            **{name: value for name, value in spec.factors.items() if value is not None},
        }
        if results:
            metadata |= results[0].facts | {"learning_curve": _curve(results[0], spec, survey)}
        yield dg.MaterializeResult(data_version=dg.DataVersion(stored.id), metadata=metadata)
        yield _verdict(results[0] if results else None)

    return [spec_of, adapter_checkpoint]


def changed_adapters(
    study: StudySpec, instance: dg.DagsterInstance, hub: ModelHub
) -> Iterator[dg.AssetMaterialization]:
    """An event of `adapter_spec` for every adapter whose spec, base model, seed or compute Dagster has
    not seen in this form."""
    key = dg.AssetKey([study.name, "adapter_spec"])
    records = Records(instance)
    digests = {name: hub.digest(spec) for name, spec in study.models.items()}
    for adapter in study.adapter_specs:
        version = spec_hash(adapter, digests[adapter.model], study.seed, study.compute)
        seen = records.latest(key, adapter.key)
        if seen is None or seen.data_version != version:
            factors = {name: value for name, value in adapter.factors.items() if value is not None}
            spec = dg.MetadataValue.json(adapter.model_dump(mode="json"))
            yield observed(key, adapter.key, version, factors | {"spec": spec})


def _train(
    study: StudySpec,
    spec: AdapterSpec,
    prompts: pd.DataFrame,
    hub: ModelHub,
    compute: Compute,
    folder: Path,
    log: Any,
) -> TrainingResult:
    model = study.models[spec.model]
    target = folder / "adapter"
    result = compute.run(
        train,
        prompts,
        spec,
        source=str(hub.folder(spec.model, model)),
        device=study.compute.device,
        precision=study.compute.precision,
        seed=study.seed,
        out_dir=target,
        trust_remote_code=model.trust_remote_code,
        recorded_as=model.hub or model.path,
        on_progress=reporter(log),
    )
    for path in sorted(target.iterdir()):
        shutil.move(str(path), folder / path.name)
    target.rmdir()
    return result


def _manifest(study: StudySpec, spec: AdapterSpec, hub: ModelHub) -> dict[str, Any]:
    """What is needed to make the checkpoint again; no times, so that equal work gives equal bytes."""
    packages = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
    return {
        "study": study.name,
        "adapter": spec.key,
        "spec": spec.model_dump(mode="json"),
        "spec_hash": spec_hash(spec),
        "seed": study.seed,
        "code_version": VERSION,
        "base_model": hub.digest(study.models[spec.model]),
        "compute": study.compute.model_dump(mode="json"),
        "packages": {name: installed_version(name) for name in packages},
    }


def _reproducible(result: TrainingResult) -> dict[str, Any]:
    return {name: value for name, value in result.facts.items() if name != "seconds"}


def _curve(result: TrainingResult, spec: AdapterSpec, survey: SurveySpec) -> dg.MarkdownMetadataValue:
    """Losses, marked by what the codebook said when they were trained: no word retrains an adapter."""
    from evsim_assets.adapters.curve import learning_curve_figure

    curve = result.learning_curve.assign(adapter=spec.key)
    figure = learning_curve_figure(curve, title="Losses while training", simulated=survey.simulated)
    return picture(figure, "learning curve")


def _verdict(result: TrainingResult | None) -> dg.AssetCheckResult:
    if result is None:
        return dg.AssetCheckResult(
            check_name="beats_its_pretrained_model", passed=True, metadata={"note": "is its pretrained model"}
        )
    return dg.AssetCheckResult(
        check_name="beats_its_pretrained_model",
        severity=dg.AssetCheckSeverity.WARN,
        passed=result.best_validation_loss < result.pretrained_validation_loss,
        metadata={
            "validation_loss": result.best_validation_loss,
            "pretrained_validation_loss": result.pretrained_validation_loss,
        },
    )
