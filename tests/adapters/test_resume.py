"""A training that is killed, at any moment, and goes on in the next run as if nothing had been."""

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evsim_assets.adapters.training import CURVE_FILE
from evsim_assets.specs.study import AdapterSpec
from tests.adapters.killed import finished, killed_when, said, started
from tests.adapters.tiny_survey import PENALTY, adapter

SPEC = adapter(dropout=0.1, schedule="cosine", warmup_fraction=0.2, evaluations_per_epoch=1)
"""16 steps, an evaluation after every fourth."""


@pytest.fixture(scope="module")
def undisturbed(base: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a training that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finished(started(base, SPEC, folder / "adapter", folder / "work"))
    return _files(folder / "adapter")


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _steps(work: Path) -> list[int]:
    return sorted(int(path.parent.name.split("-")[1]) for path in work.glob("checkpoint-*/complete.json"))


@pytest.mark.parametrize(("die_at", "step"), [(1, 0), (4, 0), (6, 0), (8, 4), (16, 8), (18, 12), (21, 12)])
def test_killed_in_a_step_or_an_evaluation_it_goes_on_from_the_last_evaluation(
    die_at: int, step: int, base: str, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    """Micro-batches: 1 is the evaluation at the start, 2 to 5 are steps, 6 is the next evaluation."""
    given = (base, SPEC, tmp_path / "adapter", tmp_path / "work")
    process = started(*given, die_at=die_at)
    assert killed_when(process, lambda: False)
    assert not (tmp_path / "adapter").exists()
    finished(started(*given))
    assert said(tmp_path / "adapter") == ([f"resumed at step {step} of 16"] if step else [])
    assert _files(tmp_path / "adapter") == undisturbed


def test_killed_while_a_checkpoint_is_written_it_goes_on_from_the_one_before(
    base: str, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    work = tmp_path / "work"
    given = (base, SPEC, tmp_path / "adapter", work)

    def half_written(name: str) -> Any:
        return lambda: (work / name).exists() and not (work / name / "complete.json").exists()

    assert killed_when(started(*given), half_written("checkpoint-8"))
    assert _steps(work) == [4]
    assert killed_when(started(*given), half_written("checkpoint-12"))
    finished(started(*given))
    assert said(tmp_path / "adapter") == ["resumed at step 4 of 16", "resumed at step 8 of 16"]
    assert _files(tmp_path / "adapter") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec", [SPEC, adapter("qlora", penalty=PENALTY), adapter("full")], ids=lambda s: s.key
)
def test_killed_again_and_again_at_random_moments_it_ends_with_the_same_bytes(
    spec: AdapterSpec, base: str, tmp_path: Path
) -> None:
    """A checkpoint after every step, so that many a kill falls into one; each kill comes up to a fifth of a
    second after one of the next two steps was begun to be written."""
    import time

    chance = random.Random(3)
    given: dict[str, Any] = {"checkpoint_seconds": 0.0}
    finished(started(base, spec, tmp_path / "whole", tmp_path / "other", **given))
    kills = 0
    for _ in range(4):
        step = _last(tmp_path / "work") + chance.randint(1, 2)
        late = chance.uniform(0, 0.2)

        def now(step: int = step, late: float = late) -> bool:
            if _last(tmp_path / "work") < step:
                return False
            time.sleep(late)
            return True

        kills += killed_when(started(base, spec, tmp_path / "adapter", tmp_path / "work", **given), now)
    finished(started(base, spec, tmp_path / "adapter", tmp_path / "work", **given))
    assert kills >= 2
    assert any(sentence.startswith("resumed at step") for sentence in said(tmp_path / "adapter"))
    assert _files(tmp_path / "adapter") == _files(tmp_path / "whole")


def _last(work: Path) -> int:
    """The step of the latest checkpoint in the folder, whole or not; 0 without any."""
    return max((int(path.name.split("-")[1]) for path in work.glob("checkpoint-*")), default=0)


def test_the_learning_curve_and_the_best_step_are_those_of_one_run(
    base: str, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    given = (base, SPEC, tmp_path / "adapter", tmp_path / "work")
    killed_when(started(*given, die_at=13), lambda: False)
    finished(started(*given))
    curve = pd.read_parquet(tmp_path / "adapter" / CURVE_FILE)
    assert curve[curve["split"] == "validation"]["step"].tolist() == [0, 4, 8, 12, 16]
    assert curve[curve["split"] == "train"]["step"].tolist() == [4, 8, 12, 16]
    assert (tmp_path / "adapter" / CURVE_FILE).read_bytes() == undisturbed[CURVE_FILE]
