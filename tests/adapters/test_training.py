import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from evsim_assets.adapters.base_model import load_tokenizer, load_with_adapter
from evsim_assets.adapters.saving import save_weights
from evsim_assets.adapters.texts import texts_by_participant
from evsim_assets.adapters.training import CURVE_FILE, TrainingResult, train
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AdapterSpec
from tests.adapters.tiny_survey import PENALTY, adapter, prompts, worded_prompts
from tests.token_tree.plain import plain_loss

FILES = ["README.md", "adapter_config.json", "adapter_model.safetensors", CURVE_FILE]


def _train(
    base: str, spec: AdapterSpec, out: Path, table: pd.DataFrame | None = None, **given: Any
) -> TrainingResult:
    settings: dict[str, Any] = {"device": "cpu", "precision": "fp32", "seed": 7, **given}
    return train(prompts() if table is None else table, spec, source=base, out_dir=out, **settings)


def _plain_validation_loss(base: str, folder: Path | None, spec: AdapterSpec, table: pd.DataFrame) -> float:
    """Of the validation split, by PEFT and full texts in a padded batch."""
    model = load_with_adapter(base, folder, method=spec.method, device="cpu", precision="fp32")
    rows = table[table.split == "validation"]
    texts = texts_by_participant(rows, load_tokenizer(base), spec)
    alpha = spec.penalty.alpha if spec.penalty else 0.0
    with torch.no_grad():
        return plain_loss(model, [t for of_one in texts.values() for t in of_one], "answer", alpha).item()


@pytest.mark.parametrize(
    "spec",
    [
        adapter(),
        adapter("qlora", penalty=PENALTY),
        adapter(loss_on="text", dropout=0.1, schedule="cosine"),
        adapter(penalty=PENALTY, answers="digit"),
    ],
    ids=lambda spec: spec.key,
)
def test_training_lowers_the_validation_loss_and_keeps_the_best_step(
    spec: AdapterSpec, base: str, tmp_path: Path
) -> None:
    result = _train(base, spec, tmp_path / "adapter")
    curve = result.learning_curve
    validation = curve[curve.split == "validation"].set_index("step").loss
    assert validation.index.tolist() == [0, 4, 8, 12, 16]
    assert curve[curve.split == "train"].epoch.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert result.best_validation_loss == validation.min() == validation[result.best_step]
    assert result.best_validation_loss < 0.8 * result.pretrained_validation_loss
    assert sorted(p.name for p in (tmp_path / "adapter").iterdir()) == sorted(FILES)
    assert (result.participants, result.texts, result.steps) == (8, 24, 16)
    assert result.tree_tokens < 0.7 * result.text_tokens


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_saved_adapter_has_the_validation_loss_that_was_kept(
    method: str, base: str, tmp_path: Path
) -> None:
    """Validation answers otherwise than training, so the best step comes before the last."""
    spec = adapter(method, penalty=PENALTY, learning_rate=0.01, epochs=6)
    table = prompts(validation_answer=3)
    result = _train(base, spec, tmp_path / "adapter", table)
    assert 0 < result.best_step < result.steps
    loss = _plain_validation_loss(base, tmp_path / "adapter", spec, table)
    assert result.best_validation_loss == pytest.approx(loss, rel=1e-4)


def test_the_curve_begins_with_the_model_as_it_was(base: str, tmp_path: Path) -> None:
    result = _train(base, adapter(epochs=1), tmp_path / "adapter")
    loss = _plain_validation_loss(base, None, adapter(), prompts())
    assert result.pretrained_validation_loss == pytest.approx(loss, rel=1e-5)


def test_the_same_inputs_give_the_same_bytes_and_other_seeds_do_not(base: str, tmp_path: Path) -> None:
    spec = adapter(dropout=0.1)
    state = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    _train(base, spec, tmp_path / "one")
    assert random.getstate() == state[0] and np.random.get_state()[1].tolist() == state[1]
    assert torch.equal(torch.get_rng_state(), state[2])
    torch.manual_seed(99)  # what the process did before must not matter
    _train(base, spec, tmp_path / "two")
    _train(base, spec, tmp_path / "three", seed=8)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    one, three = (load_file(tmp_path / n / FILES[2]) for n in ("one", "three"))
    assert any(not torch.equal(one[name], three[name]) for name in one)


def test_micro_batches_change_nothing_but_rounding(base: str, tmp_path: Path) -> None:
    whole = _train(base, adapter(penalty=PENALTY), tmp_path / "whole")
    cut = _train(base, adapter(penalty=PENALTY), tmp_path / "cut", micro_batch_tokens=1)
    assert cut.learning_curve.loss.to_numpy() == pytest.approx(whole.learning_curve.loss.to_numpy(), rel=1e-3)


def test_a_fraction_trains_on_that_part_of_the_participants(base: str, tmp_path: Path) -> None:
    half = adapter(fraction=0.5, epochs=8)
    result = _train(base, half, tmp_path / "half")
    assert (result.participants, result.texts, result.steps) == (4, 12, 16)
    validation = result.learning_curve[result.learning_curve.split == "validation"]
    assert len(validation) == 5  # as often as the whole data in as many steps
    other = _train(base, half.model_copy(update={"trial": 2}), tmp_path / "other")
    assert not other.learning_curve.equals(result.learning_curve)


def test_the_base_model_is_recorded_by_the_name_given(base: str, tmp_path: Path) -> None:
    _train(base, adapter(epochs=1), tmp_path / "adapter", recorded_as="some/model")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "some/model"
    assert len(config["target_modules"]) == 2 * 7  # linear layers, two blocks of seven
    assert config["target_modules"] == sorted(config["target_modules"])
    assert base not in (tmp_path / "adapter" / "README.md").read_text()


def test_a_broken_base_model_stops_training_and_nothing_is_saved(base: str, tmp_path: Path) -> None:
    """Broken at one word alone, which only some texts have."""
    (word,) = load_tokenizer(base).encode("7", add_special_tokens=False)[-1:]
    shutil.copytree(base, tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights["model.embed_tokens.weight"][word] = float("nan")
    save_file(weights, tmp_path / "broken" / "model.safetensors", {"format": "pt"})
    table = prompts()
    table["user"] = table["user"].where(table["split"] == "train", table["user"] + " 7")
    with pytest.raises(BadInput, match="validation loss at step 0 is not a finite number"):
        _train(str(tmp_path / "broken"), adapter(), tmp_path / "adapter", table)
    assert not (tmp_path / "adapter").exists()


def test_a_weight_that_is_no_number_is_not_saved(base: str, tmp_path: Path) -> None:
    """The check reads what was written; it does not ask which weights say that they are trained."""

    class Spoilt:
        def save_model(self, folder: str) -> None:
            Path(folder).mkdir()
            weights = {"good": torch.ones(2), "spoilt": torch.tensor([1.0, float("inf")])}
            save_file(weights, Path(folder) / FILES[2], {"format": "pt"})

        def is_world_process_zero(self) -> bool:
            return True

    with pytest.raises(BadInput, match=r"a trained weight is not a finite number.*got 'spoilt'"):
        save_weights(Spoilt(), tmp_path / "adapter", "some/model")
    assert not (tmp_path / "adapter").exists()


def test_all_weights_are_trained_and_saved_as_a_model(base: str, tmp_path: Path) -> None:
    spec = adapter("full", learning_rate=1e-3, penalty=PENALTY)
    result = _train(base, spec, tmp_path / "adapter")
    assert result.best_validation_loss < 0.8 * result.pretrained_validation_loss
    files = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"model.safetensors", "config.json", "README.md", CURVE_FILE} <= files
    assert not {name for name in files if name.endswith(".bin")}
    loss = _plain_validation_loss(base, tmp_path / "adapter", spec, prompts())
    assert result.best_validation_loss == pytest.approx(loss, rel=1e-4)
    was, now = load_file(Path(base) / "model.safetensors"), load_file(tmp_path / "adapter/model.safetensors")
    assert was.keys() == now.keys() and not [name for name in was if torch.equal(was[name], now[name])]
    assert base not in (tmp_path / "adapter" / "config.json").read_text()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_gradient_checkpointing_changes_no_bit(method: str, base: str, tmp_path: Path) -> None:
    weights = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    for name, checkpointing in (("plain", False), ("checkpointed", True)):
        spec = adapter(method, gradient_checkpointing=checkpointing, dropout=0.1 if method == "lora" else 0.0)
        _train(base, spec, tmp_path / name)
    one, other = ((tmp_path / name / weights).read_bytes() for name in ("plain", "checkpointed"))
    assert one == other


def test_the_specs_micro_batches_are_used(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evsim_assets.adapters import trainer

    honest, tokens = trainer.weighted_loss, list[int]()

    def counted(model: Any, part: Any) -> torch.Tensor:
        tokens.append(part.batch.tokens)
        return honest(model, part)

    monkeypatch.setattr(trainer, "weighted_loss", counted)
    _train(base, adapter(epochs=1, micro_batch_tokens=200), tmp_path / "adapter")
    assert max(tokens) <= 200 < sum(tokens)


def test_a_gradient_that_is_no_number_stops_before_it_reaches_the_weights(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evsim_assets.adapters import trainer

    honest, calls = trainer.weighted_loss, []

    def third_step_breaks(model: Any, part: Any) -> torch.Tensor:
        loss = honest(model, part)
        calls.append(model.training)
        if sum(calls) == 3:  # a finite loss whose gradient is infinite: d√x/dx at 0
            loss = loss + torch.sqrt(0 * loss)
        return loss

    monkeypatch.setattr(trainer, "weighted_loss", third_step_breaks)
    with pytest.raises(BadInput, match="gradient at step 3"):
        _train(base, adapter(), tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_progress_is_told_from_nothing_to_all(base: str, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    _train(base, adapter(epochs=2), tmp_path / "adapter", on_progress=lambda f, m: told.append((f, m)))
    assert [fraction for fraction, _ in told] == [0.0, 0.5, 1.0]
    assert "validation loss" in told[0][1]


def test_nobody_to_learn_from_is_said_before_the_model_is_loaded(base: str, tmp_path: Path) -> None:
    table = prompts()
    with pytest.raises(BadInput, match="no prompts in the validation split"):
        _train(base, adapter(), tmp_path / "adapter", table[table.split == "train"])
    with pytest.raises(BadInput, match="a pretrained model is not trained"):
        _train(base, AdapterSpec(model="s", method="pretrained"), tmp_path / "adapter")


def test_other_wordings_and_what_is_held_out_are_not_trained_on(base: str, tmp_path: Path) -> None:
    table = prompts()
    alone = _train(base, adapter(), tmp_path / "alone", table)
    other = table.assign(template="plain", user="Say something else.")
    held = table.assign(participant="h" + table["participant"], split="held_out", answer=3, target="3")
    beside = _train(base, adapter(), tmp_path / "beside", pd.concat([other, held, table]))
    assert (beside.participants, beside.texts) == (alone.participants, alone.texts) == (8, 24)
    pd.testing.assert_frame_equal(beside.learning_curve, alone.learning_curve)
    plain = adapter().model_copy(update={"template": "plain"})
    reworded = _train(base, plain, tmp_path / "plain", pd.concat([table, other]))
    assert reworded.pretrained_validation_loss != alone.pretrained_validation_loss


@pytest.mark.parametrize("penalty", [None, PENALTY], ids=["cross entropy", "penalty"])
def test_numbers_and_labels_are_learnt_together(penalty: Any, base: str, tmp_path: Path) -> None:
    spec, table = adapter(penalty=penalty), worded_prompts()
    result = _train(base, spec, tmp_path / "adapter", table)
    assert result.best_validation_loss < 0.8 * result.pretrained_validation_loss
    loss = _plain_validation_loss(base, tmp_path / "adapter", spec, table)
    assert result.best_validation_loss == pytest.approx(loss, rel=1e-4)
