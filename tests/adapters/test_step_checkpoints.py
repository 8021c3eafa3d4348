import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from evsim_assets.adapters.identity import changes
from evsim_assets.adapters.step_checkpoints import is_whole, prune, seal
from evsim_assets.adapters.training import TrainingResult, train
from evsim_assets.specs.study import AdapterSpec
from tests.adapters.tiny_survey import adapter, prompts

SPEC = adapter(dropout=0.1)
"""16 steps, an evaluation after every fourth; micro-batches: one at the start, then five until the next."""


class Interrupted(Exception):
    pass


def _train(
    base: str, folder: Path, *, stop_at: int | None = None, spec: AdapterSpec = SPEC, **given: Any
) -> tuple[TrainingResult | None, list[str]]:
    """A training in `folder`/work; None if it stopped at that micro-batch. And what it said."""
    calls, said = 0, list[str]()

    def still_wanted() -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise Interrupted

    settings: dict[str, Any] = {"device": "cpu", "precision": "fp32", "seed": 7, "prompts": prompts()}
    settings |= {"source": base, "out_dir": folder / "adapter", "work": folder / "work", **given}
    try:
        result = train(settings.pop("prompts"), spec, still_wanted=still_wanted, say=said.append, **settings)
    except Interrupted:
        return None, said
    return result, said


def _whole(work: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in work.glob("checkpoint-*") if is_whole(path))


def test_step_checkpoints_are_few_and_hold_no_pickle_of_arguments(base: str, tmp_path: Path) -> None:
    _train(base, tmp_path, checkpoint_seconds=0.0)
    work = tmp_path / "work"
    found = _whole(work)
    assert found[-2:] == [15, 16] and len(found) <= 4
    assert len(list(work.glob("checkpoint-*"))) == len(found)
    files = {path.name for path in (work / "checkpoint-16").iterdir()}
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= files
    assert "training_args.bin" not in files
    for name in ("optimizer.pt", "scheduler.pt"):
        torch.load(work / "checkpoint-16" / name, weights_only=True)


@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "optimizer.pt", "rng_state.pth", "complete.json"]
)
def test_a_damaged_checkpoint_is_left_out_for_the_one_before(name: str, base: str, tmp_path: Path) -> None:
    whole, _ = _train(base, tmp_path / "whole")
    _train(base, tmp_path, stop_at=13)
    assert _whole(tmp_path / "work") == [4, 8]
    damaged = tmp_path / "work" / "checkpoint-8" / name
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    result, said = _train(base, tmp_path)
    assert said == ["the step checkpoint of step 8 is damaged and was left out", "resumed at step 4 of 16"]
    assert whole is not None and result is not None and result.resumed_at == 4
    weights = "adapter_model.safetensors"
    assert (tmp_path / "adapter" / weights).read_bytes() == (
        tmp_path / "whole/adapter" / weights
    ).read_bytes()


def test_a_checkpoint_whose_best_step_is_damaged_is_left_out_too(base: str, tmp_path: Path) -> None:
    """Validation answers otherwise than training, so that step 8 is no better than step 4."""
    spec = adapter(learning_rate=0.05, epochs=6)
    given: dict[str, Any] = {"spec": spec, "prompts": prompts(validation_answer=3)}
    whole, _ = _train(base, tmp_path / "whole", **given)
    assert whole is not None
    after = 16
    calls = 1 + 5 * after // 4 + 2
    _train(base, tmp_path, stop_at=calls, **given)
    work = tmp_path / "work"
    state = json.loads((work / f"checkpoint-{after}" / "trainer_state.json").read_text())
    best = state["best_global_step"]
    assert best not in (after, after - 4) and _whole(work) == [best, after - 4, after]
    (work / f"checkpoint-{best}" / "optimizer.pt").unlink()
    result, said = _train(base, tmp_path, **given)
    assert said == [f"the step checkpoint of step {best} is damaged and was left out"]
    assert result is not None and result.resumed_at == 0
    pd.testing.assert_frame_equal(result.learning_curve, whole.learning_curve)


def test_a_finished_training_whose_adapter_was_not_stored_is_saved_without_a_step(
    base: str, tmp_path: Path
) -> None:
    first, _ = _train(base, tmp_path)
    files = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    again, said = _train(base, tmp_path, out_dir=tmp_path / "again", stop_at=1)
    assert said == ["resumed at step 16 of 16"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == files
    assert first is not None and again is not None
    assert again.reproducible == first.reproducible and again.resumed_at == 16


def test_a_work_folder_that_was_moved_is_gone_on_with(base: str, tmp_path: Path) -> None:
    """Validation answers otherwise than training, so that the best step is not the last."""
    given: dict[str, Any] = {"spec": adapter(learning_rate=0.05), "prompts": prompts(validation_answer=3)}
    first, _ = _train(base, tmp_path, **given)
    assert first is not None and first.best_step < first.steps
    (tmp_path / "work").rename(tmp_path / "moved")
    _, said = _train(base, tmp_path, work=tmp_path / "moved", out_dir=tmp_path / "again", **given)
    assert said == ["resumed at step 16 of 16"]
    weights = "adapter_model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (tmp_path / "adapter" / weights).read_bytes()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (
            {"spec": adapter(dropout=0.1, learning_rate=0.004)},
            "spec (training.learning_rate: 0.004, was 0.005)",
        ),
        ({"spec": adapter(dropout=0.1, epochs=5)}, "spec (training.epochs: 5.0, was 4.0)"),
        ({"seed": 8}, "seed (8, was 7)"),
        ({"base_digest": "other"}, "base model (other, was )"),
        ({"precision": "bf16"}, "compute (precision: bf16, was fp32)"),
        ({"prompts": prompts(validation_answer=3)}, "data (validation: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_training_follows_from_has_changed_so_it_begins_anew_and_says_what(
    changed: dict[str, Any], why: str, base: str, tmp_path: Path
) -> None:
    _train(base, tmp_path, stop_at=8)
    result, said = _train(base, tmp_path, **changed)
    (sentence,) = said
    assert sentence.startswith("training starts anew, since what it follows from has changed: " + why)
    assert ";" not in sentence
    assert result is not None and result.resumed_at == 0


def test_checkpoints_of_nobody_known_are_not_gone_on_with_and_that_is_said(base: str, tmp_path: Path) -> None:
    _train(base, tmp_path, stop_at=12)
    (tmp_path / "work" / "identity.json").write_text("{")
    result, said = _train(base, tmp_path)
    assert result is not None and result.resumed_at == 0
    assert "training starts anew: nothing readable says whose" in said[0]


def test_another_version_of_a_library_begins_anew(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train(base, tmp_path, stop_at=8)
    identity = tmp_path / "work" / "identity.json"
    told = json.loads(identity.read_text())
    told["libraries"]["peft"], told["code"] = "0.1", "0" * 64
    identity.write_text(json.dumps(told))
    _, (sentence,) = _train(base, tmp_path)
    assert "code (" in sentence and "libraries (peft: " in sentence and ", was 0.1)" in sentence


def test_how_much_goes_through_the_model_at_once_may_change(base: str, tmp_path: Path) -> None:
    """(With dropout that is another draw.)"""
    whole, _ = _train(base, tmp_path / "whole", spec=adapter())
    _train(base, tmp_path, stop_at=8, spec=adapter())
    result, said = _train(base, tmp_path, micro_batch_tokens=100, spec=adapter())
    assert said == ["resumed at step 4 of 16"]
    assert whole is not None and result is not None
    assert result.learning_curve.loss.to_numpy() == pytest.approx(
        whole.learning_curve.loss.to_numpy(), rel=1e-3
    )


def test_the_last_two_and_their_best_are_kept(tmp_path: Path) -> None:
    bests = {4: 4, 8: 8, 12: 8, 16: 8, 20: 20}
    kept = []
    for step, best in bests.items():
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"best_global_step": best}))
        seal(folder)
        prune(tmp_path)
        kept.append(_whole(tmp_path))
    assert kept == [[4], [4, 8], [8, 12], [8, 12, 16], [8, 16, 20]]


def test_changes_are_told_in_words() -> None:
    before = {"spec": {"training": {"rank": 4}, "penalty": None}, "data": {"train": "a" * 64}, "seed": 1}
    now = {"spec": {"training": {"rank": 8}, "penalty": {"d": 1}}, "data": {"train": "b" * 64}, "seed": 1}
    assert changes(before, now) == [
        f"data (train: {'b' * 12}, was {'a' * 12})",
        "spec (penalty.d: 1, was None; training.rank: 8, was 4)",
    ]
    assert changes(now, now) == []


def test_gradient_norm_and_learning_rate_are_in_the_curve(base: str, tmp_path: Path) -> None:
    result, _ = _train(base, tmp_path, spec=adapter(schedule="linear", evaluations_per_epoch=4))
    assert result is not None
    trained = result.learning_curve[result.learning_curve["split"] == "train"]
    assert trained["learning_rate"].to_numpy() == pytest.approx(5e-3 * (1 - np.arange(16) / 16))
    assert (trained["gradient_norm"] > 0).all()
    assert trained["step"].tolist() == list(range(1, 17))
