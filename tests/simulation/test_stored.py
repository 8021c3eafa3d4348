"""What is stored of a simulated population: compact, resumed, and nothing that does not add up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import yaml

from evsim_assets.definitions import build_definitions
from evsim_assets.simulation import assets as room
from evsim_assets.simulation.distributions import answer_distributions
from evsim_assets.simulation.loading import fresh_model
from evsim_assets.simulation.parity import ALONE, IN_FOUR_BITS, IN_FULL, MERGED
from evsim_assets.specs.project import Project
from evsim_resources.lake import Lake
from evsim_resources.warehouse import Warehouse
from tests.adapters.tiny_survey import prompts as tiny_prompts
from tests.conftest import ROOT

READ = ["small", "answer_distributions"]
DRAWN = ["small", "generations"]
MASSES = ["off_scale", "no_number", "unexpanded"]
TRAINED = {"adapter": "s~qlora"}
BARE = {"adapter": "s~pretrained"}


def make(project: Project, asset: str, partition: str) -> dg.ExecuteInProcessResult:
    job = build_definitions(Project(project.root)).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        asset_selection=[dg.AssetKey(["small", asset])], partition_key=partition, raise_on_error=False
    )


def stored(project: Project, asset: str, partition: dict[str, str]) -> pd.DataFrame:
    return Lake(root=project.lake).read_table(["small", asset], partition)


def of(project: Project, **changes: Any) -> None:
    """Change the study."""
    path = project.root / "data" / "studies" / "small.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def failed(result: dg.ExecuteInProcessResult) -> str:
    (failure,) = [event.step_failure_data for event in result.get_step_failure_events()]
    assert failure.user_failure_data is not None
    return str(failure.user_failure_data.description)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an adapter trained on a tiny survey, asked of three people more; three questions."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "data" / "studies").mkdir(parents=True)
    shutil.copytree(ROOT / "data" / "surveys" / "ev_shift", folder / "data" / "surveys" / "ev_shift")
    (folder / "data" / "models").symlink_to(ROOT / "data" / "models")
    study = yaml.safe_load((ROOT / "tests" / "chain" / "small_study.yaml").read_text())
    study["training"] |= {"epochs": 2, "evaluations_per_epoch": 1}
    changes = {"temperatures": [0, 1], "replicates": 2, "parity": {"prompts": 3}}
    (folder / "data" / "studies" / "small.yaml").write_text(yaml.safe_dump(study | changes))
    table = tiny_prompts(train=11, validation=4)
    table.loc[table["participant"].isin(["p8", "p9", "p10"]), "split"] = "test"
    project = Project(folder)
    Lake(root=project.lake).write_table(table, ["small", "prompts"])
    for adapter in ("s~pretrained", "s~qlora"):
        assert make(project, "adapter_checkpoint", adapter).success
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Project:
    shutil.copytree(trained, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def test_a_population_is_stored_with_what_there_is_to_see_of_it(project: Project) -> None:
    read = make(project, "answer_distributions", "s~qlora")
    drawn = make(project, "generations", "s~qlora|1.0")
    assert read.success and drawn.success
    (event,), (drawn_event,) = (r.get_asset_materialization_events() for r in (read, drawn))
    shown = event.materialization.metadata
    assert {"success_rates", "success_rate_by_temperature", "answers_by_question", "lost_masses"} <= set(
        shown
    )
    assert "data:image/png" in str(shown["answers_by_question"].value)
    drawn_shown = drawn_event.materialization.metadata
    table = stored(project, "generations", {**TRAINED, "temperature": "1.0"})
    assert len(table) == 9 * 2 and table["replicate"].tolist() == [0, 1] * 9
    assert drawn_shown["success_rate"].value == table["success"].mean()
    assert str(table["text"].iloc[0]) in str(drawn_shown["examples"].value)
    asked = stored(project, "prompts", {}).query("split == 'test'")["prompt_id"].tolist()
    assert table["prompt_id"].tolist() == list(np.repeat(asked, 2))
    assert stored(project, "answer_distributions", TRAINED)["prompt_id"].tolist() == list(np.repeat(asked, 2))
    assert not Path(project.lake, ".work").exists()
    checks = {check.check_name: check for check in read.get_asset_check_evaluations()}
    assert sorted(checks) == ["little_left_unread", "masses_sum_to_one", "parity"]
    assert all(check.passed for check in checks.values())
    parity = checks["parity"]
    said = str(parity.metadata["comparisons"].value)
    for variant in (ALONE, MERGED, IN_FOUR_BITS, IN_FULL):
        assert variant in said
    assert parity.partition == "s~qlora" and parity.blocking and parity.metadata["tolerance"].value == 1e-4
    assert 0 < float(parity.metadata["largest_difference"].value) < 1e-4  # type: ignore[arg-type]


def test_an_adapter_that_changes_when_merged_is_refused_and_replaces_nothing(
    monkeypatch: pytest.MonkeyPatch, project: Project
) -> None:
    before = pd.DataFrame({"what": ["was there before"]})
    Lake(root=project.lake).write_table(before, READ, TRAINED)

    def other(*adapter: Any, **held: Any) -> Any:
        model, tokenizer = fresh_model(*adapter, **held)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data *= 1.1
        return model, tokenizer

    monkeypatch.setattr(room, "fresh_model", other)
    result = make(project, "answer_distributions", "s~qlora")
    assert "nothing was stored" in failed(result) and "Remedy" in failed(result)
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("parity", False)
    assert float(check.metadata["largest_difference"].value) > 1e-4  # type: ignore[arg-type]
    assert result.get_asset_materialization_events() == []
    pd.testing.assert_frame_equal(stored(project, "answer_distributions", TRAINED), before)


def test_distributions_that_do_not_sum_to_one_are_refused_and_replace_nothing(
    monkeypatch: pytest.MonkeyPatch, project: Project
) -> None:
    before = pd.DataFrame({"what": ["was there before"]})
    Lake(root=project.lake).write_table(before, READ, BARE)

    def short(*args: Any, **named: Any) -> pd.DataFrame:
        table = answer_distributions(*args, **named)
        return table.assign(probabilities=table["probabilities"] * 0, **dict.fromkeys(MASSES, 0.2))

    monkeypatch.setattr(room, "read_answers", short)
    result = make(project, "answer_distributions", "s~pretrained")
    assert "miss 1 by 0.4" in failed(result) and "Remedy" in failed(result)
    (check,) = [c for c in result.get_asset_check_evaluations() if not c.passed]
    assert check.check_name == "masses_sum_to_one"
    assert result.get_asset_materialization_events() == []
    pd.testing.assert_frame_equal(stored(project, "answer_distributions", BARE), before)
    monkeypatch.undo()  # what did not add up is not taken up again
    assert make(project, "answer_distributions", "s~pretrained").success


@pytest.mark.parametrize(("asset", "key"), [("answer_distributions", BARE), ("generations", None)])
def test_a_killed_run_goes_on_with_the_shard_it_was_at(
    asset: str, key: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch, project: Project
) -> None:
    partition = "s~pretrained" if key else "s~pretrained|1.0"
    where = key or {**BARE, "temperature": "1.0"}
    name = "read_answers" if key else "draw_answers"
    monkeypatch.setattr(room, "SHARD_PROMPTS", 4)
    if not key:
        assert make(project, "answer_distributions", "s~pretrained").success
    assert make(project, asset, partition).success
    whole = stored(project, asset, where)
    original = getattr(room, name)
    asked: list[list[str]] = []

    def dies(at: int) -> Any:
        def read(*args: Any, **named: Any) -> pd.DataFrame:
            some = next(arg for arg in args if isinstance(arg, pd.DataFrame))
            asked.append(some["prompt_id"].tolist())
            if len(asked) == at:
                raise RuntimeError("the machine went away")
            return original(*args, **named)

        return read

    monkeypatch.setattr(room, name, dies(3))
    assert not make(project, asset, partition).success
    assert [len(shard) for shard in asked] == [4, 4, 1]
    assert len(list(Path(project.lake, ".work", "small", asset).rglob("*.parquet"))) == 2
    monkeypatch.setattr(room, name, dies(0))
    assert make(project, asset, partition).success
    assert len(asked) == 4 and asked[3] == asked[2]
    pd.testing.assert_frame_equal(stored(project, asset, where), whole)
    assert not list(Path(project.lake, ".work").rglob("*.parquet"))


def test_the_audits_of_all_shards_are_shown_even_those_of_a_killed_run(
    monkeypatch: pytest.MonkeyPatch, project: Project
) -> None:
    of(project, decoding={"reading": "audited", "audit": {"at_least": 1}})
    monkeypatch.setattr(room, "SHARD_PROMPTS", 4)
    calls = iter(range(9))

    def dies(*args: Any, **named: Any) -> pd.DataFrame:
        if next(calls) == 1:
            raise RuntimeError("the machine went away")
        return answer_distributions(*args, **named)

    monkeypatch.setattr(room, "read_answers", dies)
    assert not make(project, "answer_distributions", "s~pretrained").success
    result = make(project, "answer_distributions", "s~pretrained")
    assert result.success
    (event,) = result.get_asset_materialization_events()
    rows = str(event.materialization.metadata["audit"].value).splitlines()[2:]
    # In each of three shards one prompt by chance and one that looks unlike the others (of one prompt: one).
    assert [row.split(" | ")[1:3] for row in rows] == [["5", "3"]] * 2


def code_versions(project: Project, **changes: Any) -> dict[str, str]:
    of(project, **changes)
    graph = build_definitions(Project(project.root)).resolve_asset_graph()
    return {name: str(graph.get(dg.AssetKey(["small", name])).code_version) for name in (READ[1], DRAWN[1])}


@pytest.mark.parametrize(
    ("changes", "distributions", "generations"),
    [
        ({"decoding": {"engine": "decode", "tolerance": 1e-4}}, False, True),
        ({"decoding": {"reading": "audited", "tolerance": 1e-4}}, True, True),
        ({"decoding": {"top_k": 5, "tolerance": 1e-4}}, True, True),
        ({"temperatures": [0, 0.5]}, True, False),
        ({"seed": 3}, False, True),
        ({"replicates": 7}, False, True),
        ({"parity": {"prompts": 3}}, False, False),
        ({"title": "Another"}, False, False),
    ],
)
def test_only_what_changes_a_table_makes_it_stale(
    changes: dict[str, Any], distributions: bool, generations: bool, project: Project
) -> None:
    before, after = code_versions(project), code_versions(project, **changes)
    assert (before[READ[1]] != after[READ[1]], before[DRAWN[1]] != after[DRAWN[1]]) == (
        distributions,
        generations,
    )


PROMPTS, TEMPERATURES, LIMIT_BYTES = 2500, np.linspace(0, 1.5, 11), 12e6
"""A tenth of 25,000 prompts, which may take 120 MB."""


def realistic() -> Iterator[pd.DataFrame]:
    """Distributions over 0–100 as models have them: a hump, heaps on round answers, noise; tempered."""
    rng = np.random.default_rng(0)
    answers = np.arange(101)
    centre, width = rng.uniform(0, 100, (PROMPTS, 1)), rng.uniform(5, 30, (PROMPTS, 1))
    heaps = 1.5 * (answers % 10 == 0) + 0.7 * (answers % 5 == 0)
    scores = heaps - ((answers - centre) / width) ** 2 / 2 + rng.normal(0, 0.5, (PROMPTS, 101))
    scores = np.hstack([scores, rng.normal([-4, -4, -12], 1, (PROMPTS, 3))])
    scores -= scores.max(axis=1, keepdims=True)
    for temperature in TEMPERATURES:
        mass = np.exp(scores / temperature) if temperature else (scores == 0).astype(float)
        mass /= mass.sum(axis=1, keepdims=True)
        lost = dict(zip(MASSES, mass[:, 101:].T, strict=True))
        ids = [f"{number:032x}" for number in range(PROMPTS)]
        exact = list(mass[:, :101].astype(np.float32))
        yield pd.DataFrame({"prompt_id": ids, "temperature": temperature, "probabilities": exact, **lost})


def test_distributions_are_stored_compactly_and_come_back_as_they_were(tmp_path: Path) -> None:
    table = pd.concat(realistic(), ignore_index=True)
    lake = Lake(root=str(tmp_path))
    path = lake.write_table(table, READ, TRAINED)
    assert path.stat().st_size < LIMIT_BYTES * 0.8
    pd.testing.assert_frame_equal(lake.read_table(READ, TRAINED), table)
    answered = "sum(list_sum(probabilities)) + sum(off_scale + no_number + unexpanded)"
    sql = (
        f"SELECT count(*) AS rows, {answered} AS mass FROM small.answer_distributions WHERE temperature = 1.5"
    )
    (seen,) = Warehouse(lake=lake).query(sql).to_dict("records")
    assert seen["rows"] == PROMPTS and seen["mass"] == pytest.approx(PROMPTS, rel=1e-6)
