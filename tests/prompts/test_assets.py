"""The prompts of a study on a real instance: what blocks, and what then stays as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from evsim_assets.prompts.assets import prompt_assets
from evsim_assets.running.worker import _failure
from evsim_assets.specs.study import read_study
from evsim_assets.specs.survey import read_survey
from evsim_resources.lake import Lake
from evsim_resources.models import ModelHub
from evsim_resources.tables import TableIOManager

from .conftest import stored_responses, stored_splits

ROOT = Path(__file__).parents[2]
CODEBOOK = """\
title: Snacks
source: invented
participant: person
demographics: [{name: area, column: area, options: [Urban, Rural]}]
questions:
  - {id: sweet, scale: {low: 0, high: 10}, columns: [{answer: q1}]}
  - {id: salty, scale: {low: 0, high: 10}, columns: [{answer: q2}]}
held_out: {questions: [salty]}
prompts: {system: "You are {demographics}", user: "From {low} to {high}?"}
"""
STUDY = """\
survey: snacks
title: Snacks
models: {tiny: {path: model}}
adapters: [{models: [tiny], method: pretrained}]
temperatures: [1]
"""


class Study:
    """A survey of two questions, one of them held out, and a study of it with one tiny model."""

    def __init__(self, root: Path) -> None:
        folder = root / "snacks"
        folder.mkdir()
        (folder / "survey.yaml").write_text(CODEBOOK)
        (root / "small.yaml").write_text(STUDY)
        shutil.copytree(ROOT / "data" / "models" / "s", root / "model")
        self.root, self.survey, self.spec = root, read_survey(folder), read_study(root / "small.yaml")
        self.lake = Lake(root=str(root / "lake"))
        self.instance = dg.DagsterInstance.ephemeral()
        people = {"p": "train", "q": "validation", "r": "test"}
        answers = [
            {"participant": person, "question": question, "order": order, "area": "Urban", "answer": 7}
            for person in (*people, "0 train", "0 validation", "0 test")
            for order, question in enumerate(("sweet", "salty"))
        ]
        self.store(stored_responses(root / "r.parquet", self.survey, answers), "responses")
        self.store(stored_splits(root / "s.parquet", people), "splits")

    def store(self, path: Path, asset: str) -> None:
        self.lake.write_table(pd.read_parquet(path), ["snacks", asset])

    def run(self, asset: str) -> dg.ExecuteInProcessResult:
        hub = ModelHub(root=str(self.root))
        return dg.materialize(
            [*prompt_assets(self.survey, self.spec, hub), *_upstream()],
            selection=dg.AssetSelection.assets(["small", asset]),
            instance=self.instance,
            resources={"lake": self.lake, "io_manager": TableIOManager(lake=self.lake), "hub": hub},
            raise_on_error=False,
        )


def _upstream() -> list[dg.AssetSpec]:
    return [dg.AssetSpec(["snacks", "responses"]), dg.AssetSpec(["snacks", "splits"])]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_prompts_say_what_is_held_out_and_pass_their_check(study: Study) -> None:
    result = study.run("prompts")
    (check,) = result.get_asset_check_evaluations()
    assert result.success and check.passed and check.blocking
    table = study.lake.read_table(["small", "prompts"])
    salty = table[table["question"] == "salty"]
    assert set(salty["held_out"]) == {"question"}
    assert dict(zip(salty["participant"], salty["split"], strict=True))["p"] == "held_out"
    assert dict(zip(salty["participant"], salty["split"], strict=True))["r"] == "test"


def test_a_participant_in_two_splits_blocks_and_the_prompts_stay_as_they_were(study: Study) -> None:
    assert study.run("prompts").success
    before = study.lake.table_file(["small", "prompts"]).read_bytes()
    splits = study.lake.read_table(["snacks", "splits"])
    twice = splits[splits["participant"] == "p"].assign(split="test")
    study.lake.write_table(pd.concat([splits, twice], ignore_index=True), ["snacks", "splits"])
    result = study.run("prompts")
    told, _ = _failure(result)
    assert not result.success and "Remedy" in told
    assert study.lake.table_file(["small", "prompts"]).read_bytes() == before


def test_prompts_longer_than_the_model_s_context_block_and_say_how_long(study: Study) -> None:
    assert study.run("prompts").success
    assert study.run("prompt_lengths").success
    lengths = study.lake.read_table(["small", "prompt_lengths"]).set_index("question")
    longest = int(lengths.loc["all", "prompt_tokens_max"] + lengths.loc["all", "answer_tokens_max"])
    config = study.root / "model" / "config.json"
    short = json.loads(config.read_text()) | {"max_position_embeddings": longest - 1}
    config.write_text(json.dumps(short))
    result = study.run("prompt_lengths")
    (check,) = result.get_asset_check_evaluations()
    assert not result.success and not check.passed and check.blocking
    told, trace = _failure(result)
    assert trace is None and f"over {longest - 1} tokens, the longest of {longest}" in told, told
