"""Real answers of real people through the same assets, described by a codebook alone."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.chain.command_line import evsim_in, stored_table

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "surveys" / "scaling_llm_persuasion_us"
STUDY = """
survey: us_policy
title: Real answers, tiny model
sample: {train: 150, validation: 40}
models: {s: {path: data/models/s}}
training: {rank: 8, learning_rate: 3.0e-3, epochs: 1, evaluations_per_epoch: 1, max_grad_norm: 1.0}
adapters:
  - {models: [s], method: pretrained}
  - {models: [s], method: qlora}
temperatures: [0, 1]
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REAL.is_dir(), reason=f"the real survey is not on this machine ({REAL})"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the codebook, one small study, and every 20th person of the real file."""
    folder = tmp_path_factory.mktemp("real")
    arriving = folder / "arriving"
    (folder / "data" / "studies").mkdir(parents=True)
    (folder / "data" / "surveys" / "us_policy").mkdir(parents=True)
    arriving.mkdir()
    shutil.copy(
        ROOT / "data" / "surveys" / "us_policy" / "survey.yaml", folder / "data" / "surveys" / "us_policy"
    )
    (folder / "data" / "models").symlink_to(ROOT / "data" / "models")
    (folder / "data" / "studies" / "policy.yaml").write_text(STUDY)
    shutil.copy(REAL / "messages.csv", arriving)
    people = pd.read_csv(REAL / "responses.csv", dtype=str, keep_default_na=False).iloc[::20]
    people.to_csv(arriving / "responses.csv", index=False)
    evsim_in(folder, "survey", "add", "us_policy", str(arriving / "responses.csv"))
    evsim_in(folder, "run", "policy")
    return folder


def test_every_person_has_one_answer_and_none_is_lost(project: Path) -> None:
    raw = pd.read_csv(REAL / "responses.csv", dtype=str, keep_default_na=False).iloc[::20]
    responses = stored_table(project, "us_policy/responses")
    assert len(responses) == len(raw) == 1300
    assert responses["participant"].nunique() == 1300
    assert len(stored_table(project, "us_policy/quarantine")) == 0


def test_the_control_arm_has_no_message_and_every_treated_person_has_one(project: Path) -> None:
    raw = pd.read_csv(REAL / "responses.csv", dtype=str, keep_default_na=False).iloc[::20]
    responses = stored_table(project, "us_policy/responses")
    control = responses["intervention"].isna()
    assert control.sum() == (raw["condition"] == "control").sum()
    assert (responses.loc[control, "intervention_text"] == "").all()
    assert (responses.loc[~control, "intervention_text"].str.len() > 0).all()


def test_each_of_the_ten_questions_is_scored_beside_its_floor(project: Path) -> None:
    board = stored_table(project, "policy/scoreboard")
    assert board["question"].nunique() == 10
    trained = board[(board["adapter"] == "s~qlora") & (board["temperature"] == 1.0)]
    bare = board[(board["adapter"] == "s~pretrained") & (board["temperature"] == 1.0)]
    assert trained["success_rate"].mean() > bare["success_rate"].mean()
    assert trained[["kl", "w1", "rmse", "floor_kl", "floor_w1"]].notna().all().all()
