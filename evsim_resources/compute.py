"""Where a job runs: the device, its precision, and the one call through which assets use them.

Belongs here: refusing a device that is not there, running a function in this process, which way of running
the environment asks for. Not here: what runs, and how a cluster is talked to (`ray_compute.py`).
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import ComputeSpec

PROCESSES = "EVSIM_TRAINING_PROCESSES"
"""Environment variable: how many processes of this machine train one adapter together (1 unless said)."""

CHOSEN = "EVSIM_COMPUTE"
"""Environment variable: where jobs run, `inline` (unless said) or `ray`."""

Result = TypeVar("Result")


class Compute(dg.ConfigurableResource):
    """Runs jobs, in this process unless a subclass says otherwise.

    `threads` limits what one job takes of the CPU (0: all cores; on a cluster, one).
    """

    threads: int = 0

    def require(self, spec: ComputeSpec) -> None:
        """Refuse a missing GPU, rather than run on the CPU in silence.

        Raises:
            BadInput: the study wants CUDA and there is none, or a precision the GPU lacks.
        """
        if spec.device == "cpu":
            return
        import torch

        if not torch.cuda.is_available():
            raise BadInput(
                "the study wants a GPU and this machine has none that torch can use",
                field="compute.device",
                value=spec.device,
                remedy="run it on a machine with CUDA, or set compute.device: cpu in the study",
            )
        if spec.precision == "bf16" and not torch.cuda.is_bf16_supported():
            raise BadInput(
                "this GPU has no bfloat16",
                field="compute.precision",
                value=spec.precision,
                remedy="set compute.precision: fp32 in the study",
            )

    @property
    def training_processes(self) -> int:
        """How many processes train one adapter together: of the machine, so of its environment.

        Raises:
            BadInput: the environment says something that is no number of processes.
        """
        said = os.environ.get(PROCESSES, "1")
        if not said.isdecimal() or int(said) < 1:
            raise BadInput(
                "that is no number of processes",
                field=PROCESSES,
                value=said,
                remedy="set it to the number of this machine's GPUs, or unset it",
            )
        return int(said)

    def gpus(self, spec: ComputeSpec) -> int:
        """How many GPUs one process of a study's job takes: 1 on CUDA, else 0."""
        return 1 if spec.device == "cuda" else 0

    def run(
        self,
        function: Callable[..., Result],
        *args: Any,
        gpus: int = 0,
        callbacks: Mapping[str, Callable[..., Any]] | None = None,
        folders: Mapping[str, Path] | None = None,
        **kwargs: Any,
    ) -> Result:
        """Call `function(*args, **kwargs, **callbacks, **folders)` where this resource says, and wait for it.

        Args:
            gpus: how many it takes; only a cluster has to find them.
            callbacks: what the function calls while it works, by parameter: called in this process wherever
                the function runs. There it returns None; what it raises here ends the job. One named
                `still_wanted` is asked every moment, even before the job has begun.
            folders: what the function reads and writes, by parameter: the same files wherever it runs.

        Raises:
            BadInput: as the function does; or the cluster cannot run it.
        """
        del gpus
        if self.threads:
            import torch

            torch.set_num_threads(self.threads)
        return function(*args, **kwargs, **(callbacks or {}), **(folders or {}))

    def close(self) -> None:
        """Let go of what is held for the next job; Dagster does so at the end of a run."""

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Let go, at the end of the run."""
        self.close()


class InlineCompute(Compute):
    """Runs jobs in this process."""


def chosen_compute() -> Compute:
    """Where jobs run, as the environment says: here, or on the Ray cluster of `EVSIM_RAY_ADDRESS`.

    Raises:
        BadInput: it names neither.
    """
    said = os.environ.get(CHOSEN) or "inline"
    if said == "ray":
        from evsim_resources.ray_compute import RayCompute

        return RayCompute()
    if said != "inline":
        raise BadInput(
            "jobs cannot run there", field=CHOSEN, value=said, remedy="set it to inline or ray, or unset it"
        )
    return InlineCompute()


def failure(error: BadInput) -> dg.Failure:
    """A bad input as a failure that no retry will mend."""
    metadata: dict[str, Any] = {
        "file": str(error.file) if error.file else None,
        "line": error.line,
        "field": error.field,
        "value": repr(error.value) if error.value is not None else None,
        "remedy": error.remedy,
    }
    shown = {name: value for name, value in metadata.items() if value is not None}
    return dg.Failure(description=str(error), metadata=shown, allow_retries=False)
