"""Dagster assets of a study's adapters: their specs as observed, their checkpoints, their learning curves.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.adapters.curve import learning_curve
from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.adapters.together import train_together
from evsim_assets.adapters.training import CURVE_FILE, TrainingResult
from evsim_assets.automation import cheap, refreshed
from evsim_assets.prompts.lengths import require_within_context
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AdapterSpec, StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.compute import Compute, failure
from evsim_resources.lake import DIMENSION, Lake, content_hash
from evsim_resources.models import ModelHub
from evsim_resources.outputs import OWNERS, about, picture, refusing, spec_hash, table_output
from evsim_resources.progress import reporter
from evsim_resources.records import Records, observed
from evsim_resources.versions import Version, VersionedStore
from evsim_resources.work import work_folder

VERSION = "2"
CURVES_VERSION = "1"
BEATS = "beats_its_pretrained_model"
LOOK_SECONDS = 1.0
"""How often a training looks whether its run was cancelled."""


def adapters_partitions(study: StudySpec) -> dg.StaticPartitionsDefinition:
    """The study's adapters, by key."""
    return dg.StaticPartitionsDefinition([spec.key for spec in study.adapter_specs])


def checkpoint_store(lake: Lake, study: StudySpec, adapter: str) -> VersionedStore:
    """Where an adapter's checkpoints are."""
    return VersionedStore(lake, [study.name, "adapter_checkpoint"], {"adapter": adapter})


def adapter_assets(survey: SurveySpec, study: StudySpec) -> list[Any]:
    """`[<study>, adapter_spec]` (external), `[<study>, adapter_checkpoint]`, `[<study>, learning_curves]`."""
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
        BEATS,
        asset=[study.name, "adapter_checkpoint"],
        blocking=True,
        partitions_def=adapters,  # one adapter's failure neither holds another nor is forgotten with its pass
        description="Validation loss after fine-tuning is below the base model's; else nothing is stored.",
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
            "LoRA/QLoRA adapter as a PEFT folder, or a whole model where all weights were trained: the"
            " checkpoint of the lowest validation loss. A pretrained model is an adapter without weights.",
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
        try:
            stored = _store(context, study, spec, own, lake, hub, compute, results)
        except BadInput as error:
            if not results or results[0].beats_pretrained:
                raise failure(error) from error
            # Nothing is stored: what was there before stays as it was.
            told = _losses(results[0]) | {"learning_curve": _curve(results[0], spec, survey)}
            yield dg.AssetCheckResult(check_name=BEATS, passed=False, metadata=told)
            raise dg.Failure(str(error), metadata=told, allow_retries=False) from error
        metadata: dict[str, Any] = {
            "version": stored.id,
            "path": dg.MetadataValue.path(str(stored.folder)),
            **{name: value for name, value in spec.factors.items() if value is not None},
        }
        if results:
            metadata |= results[0].facts | {"learning_curve": _curve(results[0], spec, survey)}
        yield dg.MaterializeResult(data_version=dg.DataVersion(stored.id), metadata=metadata)
        told = _losses(results[0]) if results else {"note": "is its pretrained model"}
        yield dg.AssetCheckResult(check_name=BEATS, passed=True, metadata=told)

    @dg.asset(
        key=[study.name, "learning_curves"],
        deps=[[study.name, "adapter_checkpoint"]],
        kinds={"parquet"},
        code_version=CURVES_VERSION,
        metadata={DIMENSION: "adapter"},
        automation_condition=cheap(),
        **common,
        description=about(
            "Training and validation loss by step and epoch, with learning rate and gradient norm.", survey
        ),
    )
    def learning_curves(context: dg.AssetExecutionContext, lake: Lake) -> dg.Output[pd.DataFrame]:
        spec = study.adapter(context.partition_key)
        return table_output(refusing(stored_curve, lake, study, spec))

    return [spec_of, adapter_checkpoint, learning_curves]


def stored_curve(lake: Lake, study: StudySpec, spec: AdapterSpec) -> pd.DataFrame:
    """The learning curve of a stored adapter, with the column `adapter`; of a pretrained model no rows.

    Raises:
        BadInput: the adapter is not stored, or its files are not what was stored.
    """
    folder = checkpoint_store(lake, study, spec.key).resolve().folder
    curve = learning_curve([], []) if spec.method == "pretrained" else pd.read_parquet(folder / CURVE_FILE)
    curve.insert(0, "adapter", pd.Series(spec.key, index=curve.index, dtype="str"))
    return curve


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


def _store(
    context: dg.AssetExecutionContext,
    study: StudySpec,
    spec: AdapterSpec,
    prompts: pd.DataFrame,
    lake: Lake,
    hub: ModelHub,
    compute: Compute,
    results: list[TrainingResult],
) -> Version:
    """Train in the adapter's work folder, where an interrupted run has left its step checkpoints, and store
    what is better than the base model; `results` gets what came of it, whether it is stored or not."""
    store, manifest = checkpoint_store(lake, study, spec.key), _manifest(study, spec, hub)
    if spec.method == "pretrained":
        return store.write(lambda folder: manifest)
    data_version = content_hash(prompts)

    def fill(folder: Path) -> dict[str, Any]:
        results.append(_train(context, study, spec, prompts, hub, compute, folder, work, data_version))
        _require_better(results[0], spec)
        return manifest | {"training": results[0].reproducible | {"data_version": data_version}}

    with work_folder(lake, [study.name, "adapter_checkpoint"], {"adapter": spec.key}) as work:
        stored = store.write(fill)
        shutil.rmtree(work, ignore_errors=True)
    return stored


def _train(
    context: dg.AssetExecutionContext,
    study: StudySpec,
    spec: AdapterSpec,
    prompts: pd.DataFrame,
    hub: ModelHub,
    compute: Compute,
    folder: Path,
    work: Path,
    data_version: str,
) -> TrainingResult:
    model = study.models[spec.model]
    target = folder / "adapter"
    result = compute.run(
        train_together,
        compute.training_processes,
        prompts,
        spec,
        gpus=compute.gpus(study.compute) * compute.training_processes,
        callbacks={
            "on_progress": reporter(context.log),
            "still_wanted": _cancelled(context),
            "say": context.log.info,
        },
        folders={"out_dir": target, "work": work},
        source=str(hub.folder(spec.model, model)),
        device=study.compute.device,
        precision=study.compute.precision,
        seed=study.seed,
        trust_remote_code=model.trust_remote_code,
        recorded_as=model.hub or model.path,
        base_digest=hub.digest(model),
        data_version=data_version,
    )
    for path in sorted(target.iterdir()):
        shutil.move(str(path), folder / path.name)
    target.rmdir()
    return result


def _cancelled(context: dg.AssetExecutionContext) -> Callable[[], None]:
    """A function that raises soon after the run was cancelled.

    A run that Dagster launched is interrupted by a signal as well. One of `evsim run` is a process that
    Dagster does not know: cancelling it in the UI marks it in the instance, and nothing more.
    """
    over = {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE}
    looked = time.monotonic()

    def look() -> None:
        nonlocal looked
        if time.monotonic() - looked < LOOK_SECONDS:
            return
        looked = time.monotonic()
        run = context.instance.get_run_by_id(context.run.run_id)
        if run is not None and run.status in over:
            raise dg.Failure(
                "the run was cancelled; the next run of this adapter goes on from its last step checkpoint",
                allow_retries=False,
            )

    return look


def _require_better(result: TrainingResult, spec: AdapterSpec) -> None:
    """Raises BadInput for an adapter that is no better than the model it was made from."""
    if result.beats_pretrained:
        return
    after, before = result.best_validation_loss, result.pretrained_validation_loss
    raise BadInput(
        f"the adapter is no better than its pretrained model: validation loss {after:.4f} at its best step,"
        f" {result.best_step} of {result.steps}, and {before:.4f} before training; nothing was stored",
        field="adapters",
        value=spec.key,
        remedy="look at its learning curve: where the loss rises from the start, lower"
        " training.learning_rate; where it falls and rises again between evaluations, raise"
        " training.evaluations_per_epoch; where it hardly moves, raise training.epochs or the learning rate."
        " With very few validation participants the loss says little",
    )


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


def _losses(result: TrainingResult) -> dict[str, Any]:
    return {
        "validation_loss": result.best_validation_loss,
        "pretrained_validation_loss": result.pretrained_validation_loss,
    }


def _curve(result: TrainingResult, spec: AdapterSpec, survey: SurveySpec) -> dg.MarkdownMetadataValue:
    """Losses, marked by what the codebook said when they were trained: no word retrains an adapter."""
    from evsim_assets.adapters.curve import learning_curve_figure

    curve = result.learning_curve.assign(adapter=spec.key)
    figure = learning_curve_figure(curve, title="Losses while training", simulated=survey.simulated)
    return picture(figure, "learning curve")
