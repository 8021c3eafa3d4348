"""What is stored of adapters: only what is better than its base model, with its learning curve."""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from evsim_assets.adapters.assets import stored_curve
from evsim_assets.automation import following
from evsim_assets.definitions import build_definitions
from evsim_assets.specs.project import Project
from evsim_resources.lake import Lake
from evsim_resources.versions import VersionedStore
from evsim_resources.warehouse import Warehouse
from tests.adapters.tiny_survey import prompts

GOOD, RUINOUS = "learning_rate: 3.0e-3, epochs: 3", "learning_rate: 0.3, epochs: 3"


def _made(folder: Path, *assets: str, adapter: str = "s~qlora", **given: Any) -> dg.ExecuteInProcessResult:
    """Assets of an adapter, from the tiny survey's prompts."""
    project = Project(folder)
    Lake(root=project.lake).write_table(prompts(), ["small", "prompts"])
    job = build_definitions(project).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        asset_selection=[dg.AssetKey(["small", asset]) for asset in assets or ("adapter_checkpoint",)],
        partition_key=adapter,
        raise_on_error=False,
        **given,
    )


def _rewrite(folder: Path, old: str, new: str) -> None:
    study = folder / "data" / "studies" / "small.yaml"
    text = study.read_text()
    assert old in text
    study.write_text(text.replace(old, new))


def _store(folder: Path, adapter: str = "s~qlora") -> VersionedStore:
    lake = Lake(root=Project(folder).lake)
    return VersionedStore(lake, ["small", "adapter_checkpoint"], {"adapter": adapter})


def test_an_adapter_that_is_no_better_than_its_base_replaces_nothing(project_folder: Path) -> None:
    assert _made(project_folder).success
    before = _store(project_folder).resolve()
    _rewrite(project_folder, GOOD, RUINOUS)
    result = _made(project_folder)
    assert not result.success
    (failed,) = [event.step_failure_data for event in result.get_step_failure_events()]
    assert failed.user_failure_data is not None
    said = str(failed.user_failure_data.description)
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.partition) == (
        "beats_its_pretrained_model",
        False,
        "s~qlora",
    )
    assert check.severity == dg.AssetCheckSeverity.ERROR and check.blocking
    losses = {name: float(check.metadata[name].value) for name in check.metadata if name.endswith("loss")}  # type: ignore[arg-type]
    assert losses["validation_loss"] >= losses["pretrained_validation_loss"]
    for name in ("validation_loss", "pretrained_validation_loss"):
        assert f"{losses[name]:.4f}" in said
    assert "s~qlora" in said and "Remedy" in said and "training.learning_rate" in said
    assert "learning_curve" in check.metadata and "learning_curve" in failed.user_failure_data.metadata
    assert result.get_asset_materialization_events() == []
    assert _store(project_folder).resolve().id == before.id


def test_what_is_made_from_a_failed_adapter_in_the_same_run_is_not_made(project_folder: Path) -> None:
    _rewrite(project_folder, GOOD, RUINOUS)
    result = _made(project_folder, "adapter_checkpoint", "learning_curves")
    assert result.get_asset_materialization_events() == []


def test_learning_curves_are_a_table_of_the_lake(project_folder: Path) -> None:
    for adapter in ("s~qlora", "s~pretrained"):
        assert _made(project_folder, "adapter_checkpoint", "learning_curves", adapter=adapter).success
    project = Project(project_folder)
    lake = Lake(root=project.lake)
    table = Warehouse(lake=lake).query("SELECT * FROM small.learning_curves ORDER BY step, split")
    stored = pd.read_parquet(_store(project_folder).resolve().folder / "learning_curve.parquet")
    assert set(table["adapter"]) == {"s~qlora"}
    assert len(table) == len(stored) == 2 * 6 + 1  # half epochs, and one before the first
    assert sorted(table["loss"]) == sorted(stored["loss"])
    assert table.columns.tolist() == ["adapter", *stored.columns]
    study = project.study("small")
    bare = stored_curve(lake, study, study.adapter("s~pretrained"))
    assert bare.empty and bare.dtypes.astype(str).tolist() == [str(t) for t in bare.dtypes]


def test_a_stored_adapter_leaves_no_work_behind_and_a_failed_one_does(project_folder: Path) -> None:
    work = Path(Project(project_folder).lake) / ".work"
    assert _made(project_folder).success
    assert not work.exists()
    _rewrite(project_folder, GOOD, RUINOUS)
    assert not _made(project_folder).success
    assert list(work.rglob("complete.json"))
    _rewrite(project_folder, RUINOUS, GOOD)
    assert _made(project_folder).success
    assert not work.exists()


def test_the_card_says_what_the_adapter_was_made_from_and_how_good_it_is(project_folder: Path) -> None:
    result = _made(project_folder)
    stored = _store(project_folder).resolve()
    card = (stored.folder / "README.md").read_text()
    facts = stored.manifest["training"]
    assert f"version {facts['data_version']}" in card
    assert "base model: data/models/s; method: qlora" in card
    assert f"| 0 | {facts['pretrained_validation_loss']:.4f} | the base model |" in card
    assert f"| {facts['best_step']} | {facts['best_validation_loss']:.4f} |" in card
    assert f"{facts['tree_tokens']} tokens through the model for {facts['text_tokens']} tokens" in card
    assert '"learning_rate": 0.003' in card
    (made,) = result.get_asset_materialization_events()
    assert made.materialization.metadata["layout"].value == "tree"


@pytest.mark.parametrize("first", ["a", "b"])
def test_one_adapters_failed_check_holds_what_follows_from_it_and_nothing_else(first: str) -> None:
    """a is good, b is not; whichever is trained first, only what follows from a is asked for."""
    letters = dg.StaticPartitionsDefinition(["a", "b"])
    spec = dg.AssetCheckSpec("better", asset="adapter", blocking=True, partitions_def=letters)

    @dg.asset(partitions_def=letters, check_specs=[spec])
    def adapter(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(context.partition_key + context.run.run_id),
            check_results=[dg.AssetCheckResult(check_name="better", passed=context.partition_key == "a")],
        )

    @dg.asset(partitions_def=letters, deps=[adapter], automation_condition=following())
    def answers() -> None: ...

    instance = dg.DagsterInstance.ephemeral()
    definitions = dg.Definitions(assets=[adapter, answers])
    cursor, asked = None, set[str]()
    for letter in (None, first, {"a": "b", "b": "a"}[first], None):
        if letter:
            dg.materialize([adapter], partition_key=letter, instance=instance, raise_on_error=False)
        result = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
        cursor = result.cursor
        asked |= set(result.get_requested_partitions(dg.AssetKey("answers")))
    assert asked == {"a"}


def test_as_many_processes_train_as_the_machine_says(
    project_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVSIM_TRAINING_PROCESSES", "2")
    assert _made(project_folder).success
    two = _store(project_folder).resolve().manifest["training"]
    monkeypatch.delenv("EVSIM_TRAINING_PROCESSES")
    assert _made(project_folder).success
    one = _store(project_folder).resolve().manifest["training"]
    assert two["best_validation_loss"] == pytest.approx(one["best_validation_loss"], rel=1e-4)
    monkeypatch.setenv("EVSIM_TRAINING_PROCESSES", "many")
    result = _made(project_folder)
    (failed,) = [event.step_failure_data for event in result.get_step_failure_events()]
    assert failed.user_failure_data is not None
    assert "EVSIM_TRAINING_PROCESSES: that is no number" in str(failed.user_failure_data.description)
