"""Values to tune over: one adapter each, its key says which, and nonsense is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import StudySpec, read_study

STUDY = """
survey: snacks
title: Snacks
models: {{s: {{path: data/models/s}}}}
training: {{rank: 16, epochs: 4, learning_rate: 1.0e-3}}
adapters:
  - {{models: [s], method: pretrained}}
  - {{models: [s], method: lora}}
  - {grid}
temperatures: [1]
"""


def study_with(folder: Path, grid: str) -> StudySpec:
    path = folder / "tuned.yaml"
    path.write_text(STUDY.format(grid=grid))
    return read_study(path)


def test_every_combination_is_an_adapter_with_its_values_in_key_training_and_factors(tmp_path: Path) -> None:
    grid = "{models: [s], method: lora, tune: {learning_rate: [1.0e-5, 0.003], epochs: [2, 6]}}"
    _, plain, *tuned = study_with(tmp_path, grid).adapter_specs
    assert [spec.key for spec in tuned] == [
        "s~lora~epochs-2~rate-1e-05",
        "s~lora~epochs-2~rate-0.003",
        "s~lora~epochs-6~rate-1e-05",
        "s~lora~epochs-6~rate-0.003",
    ]
    trained = [spec.training for spec in tuned if spec.training]
    assert [(one.epochs, one.learning_rate, one.rank) for one in trained] == [
        (2, 1e-5, 16),
        (2, 0.003, 16),
        (6, 1e-5, 16),
        (6, 0.003, 16),
    ]
    assert tuned[1].factors["tuned"] == "epochs-2~rate-0.003"
    assert plain.factors["tuned"] == "" and plain.key == "s~lora"


def test_a_tuned_value_wins_over_the_grid_s_training_and_half_the_data_is_seen_as_often(
    tmp_path: Path,
) -> None:
    grid = (
        "{models: [s], method: qlora, fractions: [0.5], training: {rank: 4, loss_on: text},"
        " tune: {rank: [8], epochs: [3], loss_on: [answer]}}"
    )
    *_, spec = study_with(tmp_path, grid).adapter_specs
    assert spec.key == "s~qlora~fraction-0.5~epochs-3~rank-8~on-answer~trial-1"
    assert spec.training is not None
    assert (spec.training.rank, spec.training.epochs, spec.training.loss_on) == (8, 6, "answer")


def test_what_is_tried_is_no_part_of_a_dumped_spec_so_that_equal_training_has_one_hash(
    tmp_path: Path,
) -> None:
    *_, tuned = study_with(tmp_path, "{models: [s], method: qlora, tune: {rank: [8]}}").adapter_specs
    *_, given = study_with(tmp_path, "{models: [s], method: qlora, training: {rank: 8}}").adapter_specs
    assert tuned.model_dump() == given.model_dump()


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ("{models: [s], method: lora, tune: {rank: [8, 8]}}", "s~lora~rank-8"),
        ("{models: [s], method: lora, tune: {rank: []}}", "rank"),
        ("{models: [s], method: lora, tune: {epochs: [0]}}", "epochs"),
        ("{models: [s], method: lora, tune: {dropout: [0.1]}}", "dropout"),
        ("{models: [s], method: full, tune: {rank: [8]}}", "without LoRA"),
        ("{models: [s], method: pretrained, tune: {epochs: [8]}}", "not trained"),
    ],
)
def test_a_tuning_that_cannot_be_is_refused_by_name(tmp_path: Path, grid: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        study_with(tmp_path, grid)
    assert caught.value.remedy
