"""Jobs on a real Ray cluster of this machine: as here, one at a time on a GPU, and right after a kill."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import ComputeSpec
from evsim_resources.compute import Compute, InlineCompute
from evsim_resources.lake import Lake
from evsim_resources.ray_compute import RayCompute
from tests.resources.ray_cluster import cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed (pip install 'evsim[ray]')"
    ),
]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster with one GPU."""
    import ray

    with cluster(gpus=1) as place:
        yield place
        ray.shutdown()


@pytest.fixture
def on_ray(address: str) -> Iterator[RayCompute]:
    compute = RayCompute(address=address, retries=2)
    yield compute
    compute.close()


def stored_model(tmp_path: Path) -> tuple[Any, pd.DataFrame]:
    """The bundled model `s` as it was pretrained, and four prompts."""
    from evsim_assets.simulation.loading import StoredAdapter

    prompts = pd.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(4)],
            "participant": [f"n{i}" for i in range(4)],
            "system": "Answer as this person would.",
            "user": [f"You are {age}. How likely, 0 to 100? Answer:" for age in (20, 40, 60, 80)],
            "low": 0,
            "high": 100,
            "step": 1,
            "labels": None,
        }
    )
    folder = str(ROOT / "data" / "models" / "s")
    return StoredAdapter(folder, None, "pretrained", ComputeSpec(), False, False, "0"), prompts


def test_a_job_takes_its_gpus_and_inherits_no_other(on_ray: RayCompute) -> None:
    def seen() -> tuple[str | None, int]:
        return os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()

    with_one, process = on_ray.run(seen, gpus=1)
    assert with_one == "0" and process != os.getpid()
    assert on_ray.run(seen, gpus=1) == ("0", process)  # held for the next job, with what it has loaded
    without, other = on_ray.run(seen)
    assert not without and other != process


def test_more_gpus_than_any_node_has_are_refused_at_once(on_ray: RayCompute) -> None:
    on_ray.require(ComputeSpec(device="cuda", precision="bf16"))
    with pytest.raises(BadInput, match="no node of the Ray cluster has 2 GPUs"):
        on_ray.run(print, gpus=2)


def test_what_a_job_raises_arrives_as_it_was_raised_and_is_not_tried_again(
    on_ray: RayCompute, tmp_path: Path
) -> None:
    def refuse(folder: str) -> None:
        Path(folder, str(time.time_ns())).touch()
        raise BadInput("off", file="f.csv", line=3, field="x", value=7, remedy="mend it")

    with pytest.raises(BadInput) as caught:
        on_ray.run(refuse, str(tmp_path), gpus=1)
    error = caught.value
    assert str(error) == "f.csv:3: x: off (got 7)\n  Remedy: mend it"
    assert (error.file, error.line, error.field, error.value) == ("f.csv", 3, "x", 7)
    assert "in refuse" in error.__notes__[0]
    with pytest.raises(ZeroDivisionError):
        on_ray.run(lambda: 1 / 0)
    assert len(list(tmp_path.iterdir())) == 1


def test_callbacks_are_called_here_in_order_and_all_of_them(on_ray: RayCompute) -> None:
    heard: list[tuple[str, int]] = []

    def work(say: Any, on_progress: Any) -> int:
        say("begins")
        for done in range(200):
            on_progress(done, of=200)
        return os.getpid()

    def on_progress(done: int, of: int) -> None:
        heard.append((str(of), done))

    there = on_ray.run(
        work, callbacks={"say": lambda words: heard.append((words, os.getpid())), "on_progress": on_progress}
    )
    assert (
        heard == [("begins", os.getpid()), *[("200", done) for done in range(200)]] and there != os.getpid()
    )


def test_a_job_that_is_no_longer_wanted_ends_and_its_gpu_is_free(
    on_ray: RayCompute, address: str, tmp_path: Path
) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"

    def work(begun: str, ended: str, still_wanted: Any) -> None:
        Path(begun).touch()
        try:
            while True:
                still_wanted()
                time.sleep(0.01)
        finally:
            Path(ended).touch()

    def still_wanted() -> None:
        if begun.exists():
            raise dg.Failure("cancelled")

    with pytest.raises(dg.Failure, match="cancelled"):
        on_ray.run(work, str(begun), str(ended), gpus=1, callbacks={"still_wanted": still_wanted})
    assert ended.exists()
    other = RayCompute(address=address)
    assert other.run(lambda: 5, gpus=1) == 5
    other.close()


def test_a_job_that_waits_for_a_gpu_is_asked_whether_it_is_wanted(on_ray: RayCompute, address: str) -> None:
    on_ray.run(lambda: None, gpus=1)  # and holds the GPU
    waiting, asked = RayCompute(address=address), []

    def still_wanted() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise dg.Failure("cancelled")

    with pytest.raises(dg.Failure, match="cancelled"):
        waiting.run(lambda still_wanted: None, gpus=1, callbacks={"still_wanted": still_wanted})


JOB = """
import sys, time
from evsim_resources.ray_compute import RayCompute

def work():
    began = time.time()
    time.sleep(1)
    return began, time.time()

compute = RayCompute(address=sys.argv[1])
print(*compute.run(work, gpus=1))
compute.close()
"""


def test_two_processes_that_want_the_one_gpu_do_not_overlap(address: str) -> None:
    both = [
        subprocess.Popen([sys.executable, "-c", JOB, address], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    spans = sorted(tuple(map(float, process.communicate(timeout=120)[0].split())) for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert spans[0][1] <= spans[1][0]


def test_a_job_whose_process_is_killed_in_the_middle_is_begun_again_and_right(
    on_ray: RayCompute, tmp_path: Path
) -> None:
    def add(folder: Path, on_progress: Any) -> int:
        """The sum of 1 to 5, of which every number is kept in a file, as a training keeps its steps."""
        for number in range(1, 6):
            if not (folder / str(number)).exists():
                (folder / str(number)).write_text(str(os.getpid()))
            on_progress(os.getpid(), number)
            time.sleep(0.5)
        return sum(int(path.name) for path in folder.iterdir())

    processes: list[int] = []

    def on_progress(process: int, number: int) -> None:
        if process not in processes:
            processes.append(process)
        if number == 3 and len(processes) == 1:
            os.kill(process, signal.SIGKILL)

    (tmp_path / "work").mkdir()
    done = on_ray.run(
        add, gpus=1, callbacks={"on_progress": on_progress}, folders={"folder": tmp_path / "work"}
    )
    assert done == 15 and len(processes) == 2
    by_process = {path.name: int(path.read_text()) for path in (tmp_path / "work").iterdir()}
    assert [by_process[str(n)] for n in (1, 2, 3)] == [processes[0]] * 3 and by_process["5"] == processes[1]
    assert list(tmp_path.iterdir()) == [tmp_path / "work"]


def test_a_job_that_always_dies_ends_with_one_error_after_its_retries(
    on_ray: RayCompute, tmp_path: Path
) -> None:
    def die(folder: str) -> None:
        Path(folder, str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(BadInput, match="died 3 times") as caught:
        on_ray.run(die, str(tmp_path), gpus=1)
    assert len(list(tmp_path.iterdir())) == 3
    assert "training.batch_size" in str(caught.value.remedy)
    assert on_ray.run(lambda: 1, gpus=1) == 1


def test_a_real_reading_is_the_same_here_and_on_the_cluster(on_ray: RayCompute, tmp_path: Path) -> None:
    stored, prompts = stored_model(tmp_path)

    def read(on_progress: Any) -> pd.DataFrame:
        from evsim_assets.simulation.distributions import answer_distributions
        from evsim_assets.simulation.loading import model_of
        from evsim_assets.specs.study import Decoding

        return answer_distributions(
            *model_of(stored),
            prompts,
            digit_answers=False,
            temperatures=[0.0, 1.0],
            decoding=Decoding(tolerance=1e-3),
            on_progress=on_progress,
        )

    told: list[Any] = []
    callbacks = {"on_progress": lambda *done: told.append(done)}
    here = InlineCompute(threads=1).run(read, callbacks=callbacks)
    count = len(told)
    there = on_ray.run(read, gpus=1, callbacks=callbacks)
    pd.testing.assert_frame_equal(here, there, check_exact=True)
    assert len(here) == 8 and told[count:] == told[:count] and count > 0


def test_an_asset_asks_the_compute_it_is_given_and_lets_go_of_the_gpu(
    on_ray: RayCompute, address: str
) -> None:
    @dg.asset
    def where(compute: Compute) -> dg.Output[int]:
        process = compute.run(os.getpid, gpus=1)
        return dg.Output(process)

    result = dg.materialize([where], resources={"compute": RayCompute(address=address)})
    assert result.output_for_node("where") != os.getpid()
    assert on_ray.run(lambda: 2, gpus=1) == 2  # would wait for ever for a GPU that is still held


def test_a_lake_a_version_and_a_folder_s_lock_can_go_along(on_ray: RayCompute, tmp_path: Path) -> None:
    from evsim_resources.versions import VersionedStore

    lake = Lake(root=str(tmp_path / "lake"))
    lake.write_table(pd.DataFrame({"x": [1, 2]}), ["study", "table"])

    def fill(folder: Path) -> dict[str, int]:
        (folder / "weights").write_bytes(b"1")
        return {"number": 1}

    store = VersionedStore(lake, ["study", "checkpoints"])
    made = store.write(fill)

    def read() -> tuple[int, str]:
        return int(lake.read_table(["study", "table"])["x"].sum()), store.resolve().id

    assert on_ray.run(read) == (3, made.id)


TRAINING = """
import sys
from pathlib import Path
from evsim_assets.specs.errors import BadInput
from evsim_resources.ray_compute import RayCompute

def train(refuse, out, work):
    step = int((work / "checkpoint-3" / "state").read_text())
    (work / "checkpoint-4").mkdir(exist_ok=True)
    (work / "checkpoint-4" / "state").write_text(str(step + 1))
    (work / "old").unlink(missing_ok=True)
    if refuse:
        raise BadInput("off")
    out.mkdir()
    (out / "weights").write_bytes(bytes(2_000_000))
    return work == root / "work"

root = Path(sys.argv[2])
compute = RayCompute(address=sys.argv[1])
folders = {"out": root / "out", "work": root / "work"}
try:
    compute.run(train, True, folders=folders)
except BadInput:
    print("refused", (root / "work" / "checkpoint-4" / "state").read_text())
print(compute.run(train, False, folders=folders))
compute.close()
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="a node that does not see this machine's files needs the right to unshare mounts",
)
def test_folders_are_carried_to_a_node_that_does_not_see_them_and_back(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    for name, content in (("work/checkpoint-3/state", b"3"), ("work/old", b"x")):
        (hidden / name).parent.mkdir(parents=True, exist_ok=True)
        (hidden / name).write_bytes(content)

    # The same in a process of its own, for a process joins one cluster only.
    hide = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none {hidden}; exec "$@"', "sh")
    with cluster(gpus=0, within=hide) as address:
        result = subprocess.run(
            [sys.executable, "-c", TRAINING, address, str(hidden)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.stdout.split() == ["refused", "4", "False"], result.stdout + result.stderr
    files = {str(p.relative_to(hidden)): p.stat().st_size for p in hidden.rglob("*") if p.is_file()}
    assert files == {"work/checkpoint-3/state": 1, "work/checkpoint-4/state": 1, "out/weights": 2_000_000}
    assert (hidden / "work/checkpoint-4/state").read_text() == "4"
