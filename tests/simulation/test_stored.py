"""What is stored of answer distributions: nothing that does not add up."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from evsim_assets.definitions import build_definitions
from evsim_assets.simulation import assets as room
from evsim_assets.specs.project import Project
from evsim_resources.lake import Lake

ADAPTER = {"adapter": "s~pretrained"}


def read(monkeypatch: pytest.MonkeyPatch, project: Project, share: float) -> dg.ExecuteInProcessResult:
    """Materialize the distributions of one adapter, whose model says each of two answers with `share`."""
    masses = {"off_scale": [0.0], "no_number": [0.0], "unexpanded": [0.0]}
    table = pd.DataFrame({"prompt_id": ["p-0"], "temperature": 1.0, "probabilities": [[share] * 2], **masses})
    monkeypatch.setattr(room, "_model", lambda *_: (None, None))
    monkeypatch.setattr(room, "read_answers", lambda *_, **__: table)
    lake = Lake(root=project.lake)
    lake.write_table(pd.DataFrame({"template": ["default"], "split": ["test"]}), ["small", "prompts"])
    job = build_definitions(project).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        asset_selection=[dg.AssetKey(["small", "answer_distributions"])],
        partition_key=ADAPTER["adapter"],
        raise_on_error=False,
    )


def test_distributions_that_do_not_sum_to_one_are_refused_and_replace_nothing(
    monkeypatch: pytest.MonkeyPatch, project_folder: Path
) -> None:
    project = Project(project_folder)
    assert read(monkeypatch, project, 0.5).success
    stored = Lake(root=project.lake).read_table(["small", "answer_distributions"], ADAPTER)
    result = read(monkeypatch, project, 0.4)
    (failed,) = [e.step_failure_data for e in result.get_step_failure_events()]
    assert failed.user_failure_data is not None
    said = str(failed.user_failure_data.description)
    assert "miss 1 by 0.2" in said and "Remedy" in said
    (check,) = [c for c in result.get_asset_check_evaluations() if not c.passed]
    assert check.check_name == "masses_sum_to_one"
    assert result.get_asset_materialization_events() == []
    now = Lake(root=project.lake).read_table(["small", "answer_distributions"], ADAPTER)
    assert now["probabilities"][0].tolist() == stored["probabilities"][0].tolist() == [0.5, 0.5]
