"""Base models as they are loaded for training and for reading: one way in, so both see the same weights.

Belongs here: precision, 4-bit quantization, a finished adapter on top. Not here: which models a
study names (`specs/study.py`), where a job runs. torch and transformers are imported inside functions.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Method

Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16"]
Storage = Literal["fp32", "bf16", "nf4", "nf4, dequantized once to fp32", "nf4, dequantized once to bf16"]

RESIDENT_FROM_BYTES = 60e9
"""On CUDA, weights that would fill more than this once dequantized stay in 4 bits (70B in bf16: 138e9)."""


def storage_of(model: Any, method: Method, precision: Precision) -> Storage:
    """How a loaded model's base weights are held; the manifest records it.

    4-bit weights are dequantized anew in every layer's every pass. Dequantized once they are the same
    numbers (equal gradients, tested) at the speed of LoRA, and take the memory of LoRA.
    """
    if method != "qlora":
        return precision
    if four_bit_layers(model):
        return "nf4"
    return "nf4, dequantized once to fp32" if precision == "fp32" else "nf4, dequantized once to bf16"


def load_tokenizer(source: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The tokenizer at `source`, a folder or a hub name already on this machine."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        source, revision=revision, trust_remote_code=trust_remote_code, local_files_only=True
    )


def load_base(
    source: str,
    *,
    method: Method,
    device: Device,
    precision: Precision,
    revision: str | None = None,
    trust_remote_code: bool = False,
    resident: bool | None = None,
) -> Any:
    """The model at `source` (folder or hub name on this machine) on `device`, in evaluation mode.

    Args:
        method: "qlora" quantizes every linear layer but the head to NF4 with double quantization.
        precision: of the other weights and of the arithmetic.
        resident: keep 4-bit weights in 4 bits. None decides: dequantize once on a CPU and wherever
            the result is below RESIDENT_FROM_BYTES.

    Raises:
        BadInput: the device is not there, or the model has no safetensors weights on this machine.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput(
            "no CUDA device on this machine",
            value=device,
            remedy="set compute.device to cpu, or run where there is a GPU",
        )
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    try:
        with quiet_libraries():
            model = AutoModelForCausalLM.from_pretrained(
                source,
                revision=revision,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                use_safetensors=True,
                dtype=dtype,
                device_map={"": device},
                quantization_config=_four_bit(dtype) if method == "qlora" else None,
            )
    except OSError as error:
        raise BadInput(
            f"the model cannot be loaded: {str(error).splitlines()[0]}",
            value=source,
            remedy="put config.json and *.safetensors there, or download the model beforehand",
        ) from error
    if method == "qlora":
        keep_gradients_right(model)
        if resident is None:
            size = 4 if precision == "fp32" else 2
            resident = device == "cuda" and size * model.num_parameters() > RESIDENT_FROM_BYTES
        if not resident:
            model = dequantized_once(model, dtype)
    return model.eval()


def load_with_adapter(
    source: str,
    checkpoint: Path | None,
    *,
    method: Method,
    device: Device,
    precision: Precision,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """The base model with the finished adapter in folder `checkpoint`; bare where that is None."""
    model = load_base(
        source,
        method=method,
        device=device,
        precision=precision,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    if checkpoint is None:
        return model
    with quiet_libraries():
        from peft import PeftModel

        return PeftModel.from_pretrained(model, str(checkpoint)).eval()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars and no notices that a user can do nothing about; errors still come through."""
    # On import it says that an optional inference kernel is missing; evsim never uses that kernel.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from transformers.utils import logging as notices

    level, bars = notices.get_verbosity(), notices.is_progress_bar_enabled()
    notices.set_verbosity_error()
    notices.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        notices.set_verbosity(level)
        if bars:
            notices.enable_progress_bar()


def _four_bit(dtype: Any) -> Any:
    """NF4 with double quantization, as in the QLoRA paper (2305.14314)."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def keep_gradients_right(model: Any) -> None:
    """Forbid bitsandbytes to repack 4-bit weights on CPUs with AVX512-BF16.

    There, one evaluation pass repacks them for inference, and every later training gradient is
    silently wrong (the loss looks normal).
    """
    for module in four_bit_layers(model):
        module.support_avx512bf16_for_cpu = False


def four_bit_layers(model: Any) -> list[Any]:
    """The layers whose weights are held in 4 bits."""
    from bitsandbytes.nn.modules import Linear4bit

    return [module for module in model.modules() if isinstance(module, Linear4bit)]


def dequantized_once(model: Any, dtype: Any) -> Any:
    """The model with its 4-bit layers as ordinary ones of the same values, frozen."""
    with quiet_libraries():
        model = model.dequantize(dtype)
    model.is_loaded_in_4bit = False  # transformers leaves it set, and PEFT would believe it
    model.requires_grad_(False)
    return model
