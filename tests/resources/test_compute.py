"""Which way jobs run follows from the environment; here they run as they are called."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import ComputeSpec
from evsim_resources.compute import CHOSEN, InlineCompute, chosen_compute
from evsim_resources.ray_compute import RayCompute
from evsim_resources.shipping import packed, unpack


@pytest.mark.parametrize(
    ("said", "kind"),
    [(None, InlineCompute), ("", InlineCompute), ("inline", InlineCompute), ("ray", RayCompute)],
)
def test_the_environment_says_where_jobs_run(
    monkeypatch: pytest.MonkeyPatch, said: str | None, kind: type
) -> None:
    if said is None:
        monkeypatch.delenv(CHOSEN, raising=False)
    else:
        monkeypatch.setenv(CHOSEN, said)
    assert type(chosen_compute()) is kind


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOSEN, "slurm")
    with pytest.raises(BadInput, match="jobs cannot run there"):
        chosen_compute()


def test_a_job_here_gets_its_callbacks_and_folders_as_they_are(tmp_path: Path) -> None:
    told: list[int] = []

    def work(a: int, b: int, say: object, out: Path) -> tuple[int, object, Path, int]:
        return a - b, say, out, os.getpid()

    append = told.append
    done = InlineCompute().run(
        work, 5, b=2, gpus=3, callbacks={"say": append}, folders={"out": tmp_path / "new"}
    )
    assert done == (3, append, tmp_path / "new", os.getpid())


def test_a_job_of_a_study_takes_one_gpu_on_cuda() -> None:
    compute = InlineCompute()
    assert compute.gpus(ComputeSpec(device="cuda", precision="bf16")) == 1
    assert compute.gpus(ComputeSpec()) == 0


def test_a_carried_folder_holds_what_was_sent_and_nothing_else(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "a" / "b").mkdir(parents=True)
    (here / "a" / "b" / "c").write_bytes(b"1")
    (there / "old").mkdir(parents=True)
    unpack(packed(here), there)
    assert [path.relative_to(there).as_posix() for path in sorted(there.rglob("*"))] == ["a", "a/b", "a/b/c"]
    unpack(packed(tmp_path / "nowhere"), there)
    assert not there.exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "no Ray cluster is named"),
        ("127.0.0.1:1", "cannot be joined"),
        ("ray://127.0.0.1:1", "be joined"),
    ],
)
def test_a_cluster_that_is_not_there_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'evsim[ray]')")
    monkeypatch.delenv("EVSIM_RAY_ADDRESS", raising=False)
    with pytest.raises(BadInput, match=said) as caught:
        RayCompute(address=address).run(os.getpid)
    assert caught.value.field == "EVSIM_RAY_ADDRESS"


def test_without_ray_a_cluster_is_refused_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match="Ray is not installed") as caught:
        RayCompute(address="127.0.0.1:1").require(ComputeSpec())
    assert "pip install 'evsim[ray]'" in str(caught.value.remedy)
