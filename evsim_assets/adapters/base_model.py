"""Base models as they are loaded for training and for reading: one way in, so both see the same weights.

Belongs here: precision, 4-bit quantization, what of a model is trained, a finished adapter on top. Not
here: which models a study names (`specs/study.py`), where a job runs. torch and transformers are
imported inside functions.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import AdapterSpec, Method

Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16"]
Storage = Literal["fp32", "bf16", "nf4", "nf4, dequantized once to fp32", "nf4, dequantized once to bf16"]

RESIDENT_FROM_BYTES = 60e9
"""On CUDA, weights that would fill more than this once dequantized stay in 4 bits (70B in bf16: 138e9)."""


def storage_of(model: Any, method: Method, precision: Precision) -> Storage:
    """How a loaded model's base weights are held; the manifest records it.

    4-bit weights are dequantized anew in every layer's every pass. Dequantized once they are the same
    numbers (equal gradients, tested) at the speed of LoRA, and take the memory of LoRA. All weights
    are trained in fp32 whatever the precision of the arithmetic: see `load_base`.
    """
    import torch

    if four_bit_layers(model):
        return "nf4"
    if method == "full":
        return "fp32" if model.dtype == torch.float32 else "bf16"
    if method == "qlora":
        return "nf4, dequantized once to fp32" if precision == "fp32" else "nf4, dequantized once to bf16"
    return precision


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

    On CUDA, a process that torchrun or accelerate started takes the GPU of its own (LOCAL_RANK).

    Args:
        method: "qlora" quantizes every linear layer but the head to NF4 with double quantization.
        precision: of the other weights and of the arithmetic. With method "full" the weights are fp32
            all the same: a step of 2e-4 is below the last digit of a weight held in bf16, and lost.
        resident: keep 4-bit weights in 4 bits. None decides: dequantize once on a CPU and wherever
            the result is below RESIDENT_FROM_BYTES.

    Raises:
        BadInput: the device is not there, the model has no safetensors weights on this machine or
            not all of them, or they are stored quantized and the method is to train them.
    """
    import torch

    if method == "full":
        _refuse_quantized(source, revision=revision, trust_remote_code=trust_remote_code)
    dtype = torch.float32 if precision == "fp32" or method == "full" else torch.bfloat16
    model = _read(
        source,
        dtype,
        device,
        revision=revision,
        trust_remote_code=trust_remote_code,
        quantization_config=_four_bit(dtype) if method == "qlora" else None,
        remedy="put config.json and *.safetensors there, or download the model beforehand",
    )
    keep_gradients_right(model)
    if method == "qlora":
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
    resident: bool | None = None,
) -> Any:
    """What was trained, for reading: the base model with the adapter in folder `checkpoint`, or, with
    method "full", the model in `checkpoint` itself, in `precision`; the bare base where that is None.

    `resident`: see `load_base`; an adapter that was trained so is read so, since more may not fit.

    Raises:
        BadInput: as `load_base`, or the checkpoint has no weights in safetensors.
    """
    import torch

    if checkpoint is not None and not any(checkpoint.glob("*.safetensors")):
        raise BadInput(
            "the checkpoint has no weights in safetensors, and no other kind is read",
            file=checkpoint,
            remedy="materialize the adapter's checkpoint again",
        )
    if checkpoint is not None and method == "full":
        return _read(
            str(checkpoint),
            torch.float32 if precision == "fp32" else torch.bfloat16,
            device,
            trust_remote_code=trust_remote_code,
            remedy="materialize the adapter's checkpoint again",
        ).eval()
    model = load_base(
        source,
        method=method,
        device=device,
        precision=precision,
        revision=revision,
        trust_remote_code=trust_remote_code,
        resident=resident,
    )
    if checkpoint is None:
        return model
    with quiet_libraries():
        from peft import PeftModel

        return PeftModel.from_pretrained(model, str(checkpoint)).eval()


def trainable(model: Any, spec: AdapterSpec) -> Any:
    """The base model of `load_base` with what the spec trains: every weight ("full"), or LoRA on every
    linear layer but the head, whose first weights are drawn from torch's generator.

    LoRA gives a PeftModel; "full" gives the model itself. Both have `save_pretrained`.
    """
    training = spec.training
    assert training is not None, "a pretrained model is not trained"
    if spec.method == "full":
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=training.rank,
        lora_alpha=training.lora_alpha,  # type: ignore[arg-type]  # divides by r, any number
        lora_dropout=training.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _refuse_quantized(source: str, **named: Any) -> None:
    """Raises BadInput where the weights at `source` are stored quantized, in whatever way."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True, **named)
    except OSError:
        return  # loading says what is missing
    if getattr(config, "quantization_config", None) is not None:
        raise BadInput(
            "the model's weights are stored quantized, and such weights cannot be trained",
            field="method",
            value="full",
            remedy="use the model as it was before quantization, or method: qlora on that",
        )


def _read(source: str, dtype: Any, device: Device, *, remedy: str, **named: Any) -> Any:
    """A causal language model from safetensors on this machine. Raises BadInput with `remedy`."""
    import torch
    from transformers import AutoModelForCausalLM

    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput(
            "no CUDA device on this machine",
            value=device,
            remedy="set compute.device to cpu, or run where there is a GPU",
        )
    place = f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device
    try:
        with quiet_libraries():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source,
                local_files_only=True,
                use_safetensors=True,
                dtype=dtype,
                device_map={"": place},
                output_loading_info=True,
                **named,
            )
    except OSError as error:
        raise BadInput(
            f"the model cannot be loaded: {str(error).splitlines()[0]}", value=source, remedy=remedy
        ) from error
    model, found = loaded
    missing = sorted(found["missing_keys"])
    if missing:  # transformers would make them up at random
        raise BadInput(
            f"the model's files lack {len(missing)} of its weights, such as {missing[0]}",
            value=source,
            remedy=remedy,
        )
    return model


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
    silently wrong (the loss looks normal). The repacking also fails on a layer whose outputs are no
    multiple of 32; without it such a layer is like any other.
    """
    for module in four_bit_layers(model):
        module.support_avx512bf16_for_cpu = False


def four_bit_layers(model: Any) -> list[Any]:
    """The layers whose weights are held in 4 bits; there are none unless bitsandbytes made them."""
    if "bitsandbytes" not in sys.modules:  # its import takes seconds
        return []
    from bitsandbytes.nn.modules import Linear4bit

    return [module for module in model.modules() if isinstance(module, Linear4bit)]


def dequantized_once(model: Any, dtype: Any) -> Any:
    """The model with its 4-bit layers as ordinary ones of the same values, frozen."""
    with quiet_libraries():
        model = model.dequantize(dtype)
    model.is_loaded_in_4bit = False  # transformers leaves it set, and PEFT would believe it
    model.requires_grad_(False)
    return model
