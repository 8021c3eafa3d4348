"""What `evsim plan` says would run, why and at what cost: the real command line on a small project."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chain.command_line import evsim_ended, evsim_in

SURVEY = "raw_wave,clean_wave,responses,splits,prompts"


def planned(folder: Path) -> dict[str, Any]:
    ended = evsim_ended(folder, "plan", "small", "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return dict(json.loads(ended.stdout))


def test_of_a_fresh_project_everything_would_run_and_only_the_training_can_be_estimated(
    project_folder: Path,
) -> None:
    plan = planned(project_folder)
    runs = {(each["asset"], each["partition"]): each for each in plan["would_run"]}
    assert runs["ev_shift/raw_wave", "2021-11"]["order"] == 1
    assert runs["small/prompts", None]["order"] == 5  # raw, clean, responses, splits, prompts
    trained, read = runs["small/adapter_checkpoint", "s~qlora"], runs["small/answer_distributions", "s~qlora"]
    drawn = runs["small/generations", "s~qlora|1.0"]
    assert [trained["order"], read["order"], drawn["order"]] == [6, 7, 8]
    assert trained["because"] == ["raw_wave was never made"]
    assert trained["seconds_from"] == "estimate" and trained["seconds"] > 0
    assert {key for key, each in runs.items() if each["seconds"] is not None} == {
        ("small/adapter_checkpoint", "s~qlora")
    }
    assert plan["totals"]["partitions"] == len(runs)
    assert plan["totals"]["model_seconds"] == pytest.approx(trained["seconds"])
    assert plan["totals"]["unknown"] == len(runs) - 1
    assert [each["adapter"] for each in plan["trainings"]] == ["s~qlora"]
    assert not (project_folder / ".evsim" / "lake").exists()


def test_a_changed_wave_is_named_and_what_follows_is_costed_by_its_last_run(
    project_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evsim_in(project_folder, "run", "small", "--only", SURVEY)
    file = project_folder / "data" / "surveys" / "ev_shift" / "waves" / "2022-02.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    plan = planned(project_folder)
    runs = {(each["asset"], each["partition"]): each for each in plan["would_run"]}
    change = "the file of wave 2022-02 changed"
    assert ("ev_shift/raw_wave", "2021-11") not in runs
    assert runs["ev_shift/raw_wave", "2022-02"]["why"] == change
    assert runs["small/prompts", None]["because"] == [change]
    known = {key for key, each in runs.items() if each["seconds_from"] == "last run"}
    assert known == {
        ("ev_shift/raw_wave", "2022-02"),
        ("ev_shift/clean_wave", "2022-02"),
        ("ev_shift/responses", None),
        ("ev_shift/splits", None),
        ("small/prompts", None),
    }
    tables = sum(runs[key]["seconds"] for key in known)
    assert plan["totals"]["seconds"] - plan["totals"]["model_seconds"] == pytest.approx(tables)
    monkeypatch.setenv("COLUMNS", "100")
    said = evsim_ended(project_folder, "plan", "small").stdout
    assert f"1  {change}" in said and "raw_wave [2022-02]" in said and "partitions would run" in said
    assert max(map(len, said.splitlines())) <= 130
