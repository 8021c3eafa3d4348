"""Jobs on a Ray cluster: the same functions, in a process of another machine that has the GPUs.

Belongs here: finding the cluster, holding a process on it, hearing from it, what happens when it dies. Not
here: what runs, which folders are carried how (`shipping.py`). Ray is imported when a job runs.

A resource holds one process on the cluster at a time, with its GPUs, from the first job to `close` (in
Dagster: the end of the run). So an adapter's model is loaded once for all its jobs, and the GPU's memory
returns when that process ends.
"""

import copyreg
import hashlib
import logging
import os
import queue
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from platform import node
from typing import Any, TypeVar

import dagster as dg
from pydantic import PrivateAttr

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import ComputeSpec
from evsim_resources.compute import Compute
from evsim_resources.shipping import Sent, packed, received, signs, unpack

ADDRESS = "EVSIM_RAY_ADDRESS"
"""Environment variable: the cluster's address, HOST:PORT, `ray://HOST:10001`, or `local` for one of this
machine alone, started for the purpose."""
PASSED_ON = (
    "HF_HUB_OFFLINE",
    "HF_HUB_DISABLE_PROGRESS_BARS",
    "TRANSFORMERS_VERBOSITY",
    "TOKENIZERS_PARALLELISM",
)
"""What a job's process inherits of this one's environment; all else is its node's own."""
LISTEN_SECONDS = 0.5
STOP_SECONDS = 10.0
"""How long a job that is no longer wanted may take to end by itself, before its process is killed."""
CONNECT_SECONDS = 10.0
STILL_WANTED = "still_wanted"

Result = TypeVar("Result")
Call = tuple[str, tuple[Any, ...], dict[str, Any]]


class StoppedError(Exception):
    """Ends a job, on the cluster, that is no longer wanted."""


class RayCompute(Compute):
    """Runs jobs on a Ray cluster.

    `address`: of the cluster; empty, that of the environment's `EVSIM_RAY_ADDRESS`. `retries`: how often a
    job is begun again whose process died (killed, out of memory, its node gone); its callbacks are then
    called anew. What a job raises is never retried here.
    """

    address: str = ""
    retries: int = 3

    _process: Any = PrivateAttr(default=None)
    _gpus: int = PrivateAttr(default=0)

    def require(self, spec: ComputeSpec) -> None:
        """Refuse a cluster without a GPU where the study wants one.

        Whether torch can use it is seen on its node, when the model is loaded.

        Raises:
            BadInput: no cluster, or no GPU in it.
        """
        self._require_gpus(self.gpus(spec))

    def run(
        self,
        function: Callable[..., Result],
        *args: Any,
        gpus: int = 0,
        callbacks: Mapping[str, Callable[..., Any]] | None = None,
        folders: Mapping[str, Path] | None = None,
        **kwargs: Any,
    ) -> Result:
        """As `Compute.run`, on the cluster. All arguments but callbacks have to be picklable.

        Raises:
            BadInput: as the function does; no such cluster; no node with that many GPUs; a node with other
                code; or the job's process died more than `retries` times.
        """
        self._require_gpus(gpus)
        job = (function, args, kwargs)
        for attempt in range(self.retries + 1):
            try:
                return self._attempt(job, gpus, callbacks or {}, folders or {})
            except _deaths() as death:
                self.close()
                why = str(death).strip() or type(death).__name__
                if attempt < self.retries:
                    dg.get_dagster_logger().warning(f"the job's process died and is begun again: {why}")
        raise BadInput(
            f"the job's process on the cluster died {self.retries + 1} times, last:\n{why}",
            field="EVSIM_COMPUTE",
            value="ray",
            remedy="where it ran out of memory, use a smaller model or training.batch_size, or nodes with"
            " more; else look at the nodes' logs (ray status, /tmp/ray/session_latest/logs); then run again",
        )

    def close(self) -> None:
        """End the process on the cluster; its GPUs are free for others."""
        process, self._process = self._process, None
        if process is not None:
            import ray

            if ray.is_initialized():
                ray.kill(process)

    def _attempt(
        self,
        job: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
        gpus: int,
        callbacks: Mapping[str, Callable[..., Any]],
        folders: Mapping[str, Path],
    ) -> Any:
        process = self._held(gpus)
        try:
            with signs(folders) as placed:
                seen = self._awaited(process, process.sees.remote(placed), callbacks) if placed else {}
            sent = {
                name: Sent(str(folder.absolute()), None if seen[name] else packed(folder))
                for name, folder in folders.items()
            }
            running = process.run.remote(source_hash(), *job, tuple(callbacks), sent)
            result, error, files = self._awaited(process, running, callbacks)
        except _deaths():
            raise
        except BaseException:  # a callback's, or an interrupt: nobody waits for the job any more
            self._stop(process)
            raise
        for name, content in files.items():
            unpack(content, folders[name])
        if error is not None:
            raise error
        return result

    def _awaited(self, process: Any, answer: Any, callbacks: Mapping[str, Callable[..., Any]]) -> Any:
        """The answer, once it is there; until then, and at last, callbacks are called that the job called."""
        import ray

        still_wanted = callbacks.get(STILL_WANTED, lambda: None)
        news = process.news.remote(LISTEN_SECONDS)
        while True:
            ready, _ = ray.wait([answer, news], timeout=LISTEN_SECONDS)
            still_wanted()
            if news in ready:
                _call(callbacks, ray.get(news))
                news = process.news.remote(LISTEN_SECONDS)
            if answer in ready:
                result = ray.get(answer)
                _call(callbacks, ray.get(news))
                _call(callbacks, ray.get(process.news.remote(0)))
                return result

    def _stop(self, process: Any) -> None:
        """Let the job end by itself, which it does at its next callback, then end its process anyhow."""
        import ray

        try:
            ray.wait([process.stop.remote(STOP_SECONDS)], timeout=STOP_SECONDS)
        finally:
            self.close()

    def _held(self, gpus: int) -> Any:
        """The process on the cluster, with that many GPUs; made where there is none, or one with others."""
        import ray

        if self._process is not None and self._gpus != gpus:
            self.close()
        if self._process is None:
            actor: Any = ray.remote(_Process)
            given = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
            if not gpus:  # Ray leaves the node's own in sight
                given["CUDA_VISIBLE_DEVICES"] = ""
            # three calls at once: the job, whoever hears from it, whoever stops it
            options = actor.options(num_cpus=self.threads or 1, num_gpus=gpus, max_concurrency=3)
            self._process, self._gpus = options.remote(given), gpus
        return self._process

    def _require_gpus(self, gpus: int) -> None:
        self._connect()
        import ray

        most = max((int(n["Resources"].get("GPU", 0)) for n in ray.nodes() if n["Alive"]), default=0)
        if most < gpus:
            raise BadInput(
                f"no node of the Ray cluster has {gpus} GPU{'s' if gpus > 1 else ''}",
                field=ADDRESS,
                value=self._address,
                remedy="add such a node (ray start --address=HOST:PORT), or set compute.device: cpu"
                " in the study",
            )

    @property
    def _address(self) -> str:
        return self.address or os.environ.get(ADDRESS, "")

    def _connect(self) -> None:
        """Join the cluster, once a process.

        Raises:
            BadInput: Ray is not installed, no cluster is named, or it does not answer.
        """
        try:
            import ray
        except ImportError:
            raise BadInput(
                "Ray is not installed", field="EVSIM_COMPUTE", value="ray", remedy="pip install 'evsim[ray]'"
            ) from None
        _let_resources_go_along(dg.ConfigurableResource)
        if ray.is_initialized():
            return
        address = self._address
        if not address:
            raise BadInput(
                "no Ray cluster is named",
                field=ADDRESS,
                remedy="set it to the cluster's HOST:PORT, or to `local` for one of this machine alone",
            )
        try:
            _require_answer(address)
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise BadInput(
                f"the Ray cluster cannot be joined: {error}",
                field=ADDRESS,
                value=self._address,
                remedy="start it (ray start --head), or mend the address; with token authentication"
                " set RAY_AUTH_MODE=token and the cluster's token",
            ) from error


class _Process:
    """What runs on the cluster, a process of its own: one job at a time, heard and stopped meanwhile."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._running = self._stopped = False

    def sees(self, signs_of: Mapping[str, str]) -> dict[str, bool]:
        """Of each sign whether it is in this machine's file system."""
        return {name: Path(sign).exists() for name, sign in signs_of.items()}

    def run(
        self,
        source: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        callbacks: tuple[str, ...],
        folders: Mapping[str, Sent],
    ) -> tuple[Any, Exception | None, dict[str, bytes]]:
        """What the function returned or raised, and the files of folders that were carried here."""
        files: dict[str, bytes] = {}
        result, raised, self._running = None, None, True
        try:
            if source != source_hash():
                raise BadInput(
                    "a node of the Ray cluster has another version of evsim's code",
                    file=str(Path(__file__).parents[1]),
                    value=node(),
                    remedy="install the same version on every node, and start its Ray anew",
                )
            with received(folders, files) as here:
                told = {name: self._teller(name) for name in callbacks}
                result = function(*args, **kwargs, **told, **here)
        except Exception as error:  # noqa: BLE001 - raised again where the job was asked for
            error.add_note(f"on {node()}:\n{traceback.format_exc()}")
            raised = error
        self._running = False
        self._calls.put(None)  # wakes whoever waits for news
        return result, raised, files

    def news(self, seconds: float) -> list[Call]:
        """Callbacks that the job called since the last time; waits that long for the first."""
        calls: list[Call | None] = []
        try:
            calls.append(self._calls.get(timeout=seconds) if seconds else self._calls.get_nowait())
            while True:
                calls.append(self._calls.get_nowait())
        except queue.Empty:
            return [call for call in calls if call is not None]

    def stop(self, seconds: float) -> None:
        """Have the job end at its next callback; comes back when it has, or after that long."""
        self._stopped = True
        until = time.monotonic() + seconds
        while self._running and time.monotonic() < until:
            time.sleep(0.05)

    def _teller(self, name: str) -> Callable[..., None]:
        def tell(*args: Any, **kwargs: Any) -> None:
            if self._stopped:
                raise StoppedError
            if name != STILL_WANTED:  # that is asked where the job was asked for, without being called
                self._calls.put((name, args, kwargs))

        return tell


def _require_answer(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would end this process after a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def _let_resources_go_along(kind: type[dg.ConfigurableResource]) -> None:
    """Have resources pickled by their configuration: what Dagster keeps beside it cannot be pickled."""
    for below in kind.__subclasses__():
        copyreg.pickle(below, _by_configuration)
        _let_resources_go_along(below)


def _by_configuration(resource: dg.ConfigurableResource) -> tuple[Any, tuple[Any, ...]]:
    kind = type(resource)
    return _configured, (kind, {name: getattr(resource, name) for name in kind.model_fields})


def _configured(kind: type[Any], configuration: dict[str, Any]) -> Any:
    return kind(**configuration)


def _call(callbacks: Mapping[str, Callable[..., Any]], calls: list[Call]) -> None:
    for name, args, kwargs in calls:
        callbacks[name](*args, **kwargs)


def _deaths() -> tuple[type[Exception], ...]:
    """What Ray says when a job's process or what it made is gone, by no fault of the function's own code."""
    from ray import exceptions

    return (
        exceptions.ActorDiedError,
        exceptions.ActorUnavailableError,
        exceptions.WorkerCrashedError,
        exceptions.OutOfMemoryError,
        exceptions.NodeDiedError,
        exceptions.ObjectLostError,
    )


@cache
def source_hash() -> str:
    """SHA-256 of evsim's own code as it is installed here: a node with other code makes other tables."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for package in ("evsim_assets", "evsim_resources"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()
