"""Several processes that train one adapter together, as torchrun starts them."""

import multiprocessing
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from evsim_assets.adapters.shares import Batching
from evsim_assets.adapters.together import train_together
from evsim_assets.adapters.training import CURVE_FILE
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AdapterSpec
from evsim_assets.token_tree.losses import Text
from tests.adapters.killed import finished, killed_when, said, started
from tests.adapters.tiny_survey import PENALTY, adapter, prompts

WEIGHTS = "adapter_model.safetensors"


def _together(base: str, spec: AdapterSpec, out: Path, work: Path, processes: int, **given: Any) -> list[Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        started(
            base,
            spec,
            out,
            work,
            environment={
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            **given,
        )
        for rank in range(processes)
    ]


@pytest.mark.parametrize(
    ("spec", "tokens"),
    [(adapter(penalty=PENALTY), None), (adapter("qlora", loss_on="text"), 150)],
    ids=["a step in one micro-batch a process", "in several"],
)
def test_two_processes_train_the_adapter_that_one_trains(
    spec: AdapterSpec, tokens: int | None, base: str, tmp_path: Path
) -> None:
    finished(started(base, spec, tmp_path / "one", tmp_path / "w1", micro_batch_tokens=tokens))
    for process in _together(base, spec, tmp_path / "two", tmp_path / "w2", 2, micro_batch_tokens=tokens):
        finished(process)
    one, two = load_file(tmp_path / "one" / WEIGHTS), load_file(tmp_path / "two" / WEIGHTS)
    assert one.keys() == two.keys()
    apart = max(float(np.abs(one[name] - two[name]).max()) for name in one)
    assert apart < 1e-5
    curves = [pd.read_parquet(tmp_path / name / CURVE_FILE) for name in ("one", "two")]
    pd.testing.assert_frame_equal(*curves, rtol=1e-4)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == sorted(
        p.name for p in (tmp_path / "one").iterdir()
    )


def test_two_processes_that_are_killed_go_on_together(base: str, tmp_path: Path) -> None:
    spec = adapter(dropout=0.1)
    for process in _together(base, spec, tmp_path / "whole", tmp_path / "w1", 2):
        finished(process)
    given = (base, spec, tmp_path / "adapter", tmp_path / "w2")
    pair = _together(*given, 2)
    sealed = tmp_path / "w2" / "checkpoint-8" / "complete.json"
    for process in pair:
        assert killed_when(process, sealed.exists)
    for process in _together(*given, 2):
        finished(process)
    assert "resumed at step 8 of 16" in said(tmp_path / "adapter")
    assert (tmp_path / "adapter" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_add_up_and_everybody_takes_part(processes: int) -> None:
    """By the weights of the edges alone: cross entropy counts each target as 1 / targets."""
    texts = [
        Text([1, 2, 3, person, 5 + question], [7, 8], ()) for person in range(3) for question in range(2)
    ]
    for most in (6, 12, 1000):
        batching = Batching("answer", 0.0, most, "tree")
        shares = [list(batching.share(texts, "cpu", rank, processes)) for rank in range(processes)]
        assert len({len(share) for share in shares}) == 1
        assert sum(float(part.edge_weight.sum()) for share in shares for part in share) == pytest.approx(1.0)
        alone = sum(float(part.edge_weight.sum()) for part in batching.share(texts, "cpu"))
        assert alone == pytest.approx(1.0)


def test_one_text_for_two_processes_is_a_share_and_a_silent_one() -> None:
    batching = Batching("answer", 0.0, 1000, "tree")
    text = Text([1, 2], [3], ())
    first, second = (list(batching.share([text], "cpu", rank, 2)) for rank in range(2))
    assert [float(part.edge_weight.sum()) for part in (*first, *second)] == [1.0, 0.0]


def _given(base: str, folder: Path) -> dict[str, Any]:
    settings = {"device": "cpu", "precision": "fp32", "seed": 7, "base_digest": "one"}
    return {"source": base, "out_dir": folder / "adapter", "work": folder / "work", **settings}


def test_processes_started_from_here_train_together_and_are_heard(base: str, tmp_path: Path) -> None:
    said, told = list[str](), list[float]()
    heard: dict[str, Any] = {"say": said.append, "on_progress": lambda fraction, _: told.append(fraction)}
    alone = train_together(1, prompts(), adapter(), **_given(base, tmp_path / "one"), **heard)
    assert told == [0.0, 0.25, 0.5, 0.75, 1.0]
    told.clear()
    both = train_together(2, prompts(), adapter(), **_given(base, tmp_path / "two"), **heard)
    assert told == [0.0, 0.25, 0.5, 0.75, 1.0]
    pd.testing.assert_frame_equal(both.learning_curve, alone.learning_curve, rtol=1e-4)
    again = train_together(2, prompts(), adapter(), **_given(base, tmp_path / "two"), **heard)
    assert said == ["resumed at step 16 of 16"] and again.resumed_at == 16


def test_an_error_in_one_of_them_is_the_error_of_all_and_a_cancelled_training_leaves_nobody(
    base: str, tmp_path: Path
) -> None:
    table = prompts()
    with pytest.raises(BadInput, match="no prompts in the validation split"):
        train_together(2, table[table["split"] == "train"], adapter(), **_given(base, tmp_path))
    assert multiprocessing.active_children() == []

    def sealed() -> None:
        if list((tmp_path / "work").glob("*/complete.json")):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_together(2, table, adapter(), still_wanted=sealed, **_given(base, tmp_path))
    assert multiprocessing.active_children() == []
    said = list[str]()
    train_together(2, table, adapter(), say=said.append, **_given(base, tmp_path))
    assert said[0].startswith("resumed at step")
