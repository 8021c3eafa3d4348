"""Where a job runs: the device, its precision, and the one call through which assets use them.

Belongs here: refusing a device that is not there, and running a function. Not here: what runs.
"""

import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import dagster as dg

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import ComputeSpec

PROCESSES = "EVSIM_TRAINING_PROCESSES"
"""Environment variable: how many processes of this machine train one adapter together (1 unless said)."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Compute(dg.ConfigurableResource):
    """Runs jobs in this process. `threads` limits what one job takes of the CPU (0: all cores)."""

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

    def run(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Call `function` where this resource says: here."""
        if self.threads:
            import torch

            torch.set_num_threads(self.threads)
        return function(*args, **kwargs)


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
