"""Why something would run, named by what a person did or what arrived, over a study's real definitions."""

from pathlib import Path

import pytest

from evsim_assets.adapters import assets as adapters
from evsim_assets.planning.due import Costs, due, totals
from evsim_assets.planning.why import why
from tests.automation.real_study import RealStudy


@pytest.fixture
def study(project_folder: Path) -> RealStudy:
    fresh = RealStudy(project_folder)
    fresh.everything_made()
    return fresh


def reasons(study: RealStudy) -> dict[str, str]:
    judge = study.judge()
    return {node.label: said for node in judge.graph.nodes if (said := why(judge, node))}


def test_an_edited_field_is_named_with_what_it_was_and_all_that_follows_goes_back_to_it(
    study: RealStudy,
) -> None:
    assert reasons(study) == {}
    study.edit("method: qlora}", "method: qlora, training: {learning_rate: 1.0e-3}}")
    change = "learning_rate of adapter s~qlora edited (0.0002 → 0.001)"
    assert reasons(study) == {"small/adapter_checkpoint [s~qlora]": change}
    judge = study.judge()
    known = {"small/answer_distributions [s~qlora]": 30.0, "small/generations [s~qlora|0.0]": 5.0}
    entries = due(judge.graph, judge, Costs(known, {"s~qlora": 100.0}))
    assert {entry.because for entry in entries} == {(change,)}
    partitions = {entry.node.partition for entry in entries if entry.by_model}
    assert partitions == {"s~qlora", "s~qlora|0.0", "s~qlora|1.0"}
    summed = totals(entries)
    assert (summed.seconds, summed.model_seconds) == (135.0, 135.0)
    assert summed.unknown == len(entries) - 3


def test_waves_that_arrived_and_that_changed_are_told_apart(study: RealStudy) -> None:
    study.deliver("2022-05")
    study.deliver("2022-02", like="2021-11")
    assert reasons(study) == {
        "ev_shift/raw_wave [2022-05]": "raw_wave was never made",
        "ev_shift/clean_wave [2022-05]": "clean_wave was never made",
        "ev_shift/raw_wave [2022-02]": "the file of wave 2022-02 changed",
    }
    for name in ("raw_wave", "clean_wave", "quarantine"):
        for wave in ("2022-02", "2022-05"):
            study.made(name, wave)
    assert reasons(study)["ev_shift/responses"] == (
        "answers of wave 2022-02 changed; answers of wave 2022-05 arrived"
    )


def test_code_settings_and_a_models_files_are_told_apart(
    study: RealStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.edit("temperatures", "replicates: 2\ntemperatures")
    changed = "settings of generations in the study or codebook changed"
    assert reasons(study)["small/generations [s~qlora|0.0]"] == changed
    study.edit("replicates: 2", "seed: 3\nreplicates: 2")
    assert reasons(study)["small/adapter_checkpoint [s~qlora]"] == (
        "the base model's files, seed or compute of adapter s~qlora changed"
    )
    monkeypatch.setattr(adapters, "VERSION", "9")
    study.edit("replicates: 2", "replicates: 1")
    assert reasons(study)["small/adapter_checkpoint [s~qlora]"] == (
        f"evsim's code of adapter_checkpoint changed (version {version_in_its_file()} → 9)"
    )


def version_in_its_file() -> str:
    """The version of the adapters' code as its file says."""
    return Path(str(adapters.__file__)).read_text().split('\nVERSION = "')[1].split('"')[0]
