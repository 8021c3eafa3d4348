"""Two real surveys, as unlike as they come, from their raw files to a scoreboard, without a line of code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chain.command_line import evsim_in, stored_table

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "surveys"
STUDY = """
survey: {survey}
title: Real answers, tiny model
sample: {{train: {train}, validation: 10, test: 10}}
models: {{s: {{path: data/models/s}}}}
training: {{rank: 8, learning_rate: 3.0e-3, epochs: 1, evaluations_per_epoch: 1, max_grad_norm: 1.0}}
adapters:
  - {{models: [s], method: pretrained, templates: [{templates}]}}
  - {{models: [s], method: qlora, templates: [{templates}]}}
temperatures: [0, 1]
decoding: {{tolerance: 1.0e-4}}
parity: {{prompts: 2}}
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REAL.is_dir(), reason=f"the real surveys are not on this machine ({REAL})"),
]


def project(folder: Path, survey: str, files: list[Path], train: int, templates: str = "default") -> Path:
    """A project with the survey's codebook, its whole raw files and a study of a few people, run."""
    codebook = folder / "data" / "surveys" / survey
    shutil.copytree(
        ROOT / "data" / "surveys" / survey, codebook, ignore=shutil.ignore_patterns("waves", "messages.csv")
    )
    (folder / "data" / "studies").mkdir(parents=True)
    (folder / "data" / "models").symlink_to(ROOT / "data" / "models")
    study = STUDY.format(survey=survey, train=train, templates=templates)
    (folder / "data" / "studies" / "small.yaml").write_text(study)
    for file in files:
        evsim_in(folder, "survey", "add", survey, str(file))
    evsim_in(folder, "run", "small")
    return folder


def test_options_by_number_and_by_label_before_and_after_in_two_countries(tmp_path: Path) -> None:
    folder = REAL / "covid_vaccine_misinfo"
    made = project(tmp_path, "vaccine_intent", [folder / "orb_us.csv", folder / "orb_uk.csv"], train=60)
    assert len(stored_table(made, "vaccine_intent/responses")) == 4 * 8001
    prompts = stored_table(made, "small/prompts")
    by_label = prompts[prompts["question"].str.startswith("others")]
    assert set(by_label["target"]) <= {
        "Yes, definitely",
        "Unsure, but leaning towards yes",
        "Unsure, but leaning towards no",
        "No, definitely not",
    }
    assert set(prompts.loc[prompts["question"].str.startswith("self"), "target"]) <= set("1234")
    for country, wave in (("United States", "orb_us"), ("United Kingdom", "orb_uk")):
        assert prompts.loc[prompts["wave"] == wave, "system"].str.contains(f"country: {country}").all()
    board = stored_table(made, "small/scoreboard")
    assert set(board["question"]) == {"self_pre", "others_pre", "self_post", "others_post"}
    read = stored_table(made, "small/answer_distributions")
    assert read["probabilities"].str.len().eq(4).all()
    masses = read["probabilities"].map(sum) + read[["off_scale", "no_number", "unexpanded"]].sum(axis=1)
    assert masses.tolist() == pytest.approx([1.0] * len(read), abs=1e-5)
    labelled = read[read["prompt_id"].isin(by_label["prompt_id"]) & (read["temperature"] == 1.0)]
    assert len(labelled) and (labelled["off_scale"] == 0).all()


def test_forty_questions_a_person_in_two_wordings_with_two_held_out(tmp_path: Path) -> None:
    file = REAL / "food_world_cup" / "food-world-cup-data.csv"
    made = project(tmp_path, "food_world_cup", [file], train=12, templates="default, plain")
    assert len(stored_table(made, "food_world_cup/responses")) == 50_880
    prompts = stored_table(made, "small/prompts")
    trained = prompts[prompts["split"].isin(["train", "validation"])]
    assert trained["question"].nunique() == 38 and not trained["question"].isin(["vietnam", "italy"]).any()
    assert prompts.loc[prompts["split"] == "test", "question"].nunique() == 40
    assert (prompts.groupby("template").size() == len(prompts) / 2).all()
    assert (prompts.loc[prompts["answer"] == 0, "target"] == "0").all() and (prompts["low"] == 0).all()
    board = stored_table(made, "small/scoreboard")
    assert set(board.loc[board["template"] == "plain", "adapter"]) == {
        "s~pretrained~template-plain",
        "s~qlora~template-plain",
    }
    assert set(board.loc[board["adapter"] == "s~qlora", "question"]) == set(prompts["question"])
