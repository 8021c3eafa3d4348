"""Texts by other means than evsim's own reading: transformers' `generate`, and vLLM.

Belongs here: the paper's way, every text decoded by itself, kept as the reference that the exact way is
compared with; and vLLM for those who have it. Not here: texts that follow a draw (`decoding.py`), the table
(`generations.py`). Imports torch, transformers and vLLM inside functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evsim_assets.adapters.base_model import Device, Precision, load_tokenizer
from evsim_assets.simulation.distributions import Progress, number_tokens
from evsim_assets.simulation.numbers import classify_tokens
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Decoding, Method

if TYPE_CHECKING:
    import torch

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sampling:
    """How n texts are drawn: `limit` (tokens at most) and `seed` of each, (n,)."""

    temperature: float
    decoding: Decoding
    limit: Ints
    seed: Ints


@dataclass(frozen=True)
class Weights:
    """Where a model lies, for an engine that loads it by itself. `base`: the model's folder;
    `checkpoint`: that of what was trained, a LoRA adapter or with method "full" a model; None where nothing
    was."""

    base: str
    checkpoint: str | None
    method: Method
    device: Device
    precision: Precision
    trust_remote_code: bool = False


def generated_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    batch_tokens: int,
    on_progress: Progress | None = None,
) -> list[str]:
    """One text for every prompt (tokens), each decoded by transformers' `generate` from its own seed.

    Settings in the model's generation config (Llama 2 chat's top_p, `generate`'s own top_k = 50) do not
    apply. Texts of like length are decoded together, padded on the left, at most `batch_tokens` tokens; what
    stands beside a text changes its logits by rounding alone.
    """
    import torch

    from evsim_assets.simulation.decoding import text_of

    silent = number_tokens(model, tokenizer).silent
    texts = [""] * len(prompts)
    done = 0
    for batch in _alike(prompts, sampling.limit, batch_tokens):
        width, limit = max(len(prompts[k]) for k in batch), int(sampling.limit[batch[0]])
        pad = int(silent.argmax())
        tokens = torch.tensor([[pad] * (width - len(prompts[k])) + [*prompts[k]] for k in batch])
        seen = torch.tensor([[0] * (width - len(prompts[k])) + [1] * len(prompts[k]) for k in batch])
        with torch.inference_mode(), _own_settings(model) as plain:
            written = plain.generate(
                tokens.to(model.device),
                attention_mask=seen.to(model.device),
                max_new_tokens=limit,
                do_sample=False,
                eos_token_id=np.flatnonzero(silent).tolist(),
                pad_token_id=pad,
                logits_processor=_noise(sampling, batch),
            )
        for k, answer in zip(batch, written[:, width:].tolist(), strict=True):
            texts[k] = text_of(tokenizer, answer, silent)
        done += len(batch)
        if on_progress is not None:
            on_progress(done, len(prompts))
    return texts


def _alike(prompts: Sequence[Sequence[int]], limit: Ints, batch_tokens: int) -> Iterator[list[int]]:
    """The texts by number, those of one limit and of like length together."""
    batch: list[int] = []
    for k in sorted(range(len(prompts)), key=lambda k: (limit[k], len(prompts[k]), k)):
        size = (len(batch) + 1) * (len(prompts[k]) + int(limit[k]))
        if batch and (size > batch_tokens or limit[k] != limit[batch[0]]):
            yield batch
            batch = []
        batch.append(k)
    if batch:
        yield batch


def _noise(sampling: Sampling, batch: Sequence[int]) -> Any:
    """What makes the largest score the sampled token; nothing for greedy texts.

    `generate` samples a batch from one generator, so a text would depend on what stands beside it. But
    where every score gets Gumbel noise of its own, −log of an exponential number, the largest one is a draw
    from softmax(scores): P(argmax_i (s_i + g_i) = k) = exp(s_k) / Σ exp(s_i). So each text's noise comes
    from a generator of its own, behind transformers' own warpers, and `generate` takes the largest.
    """
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    if sampling.temperature == 0:
        return LogitsProcessorList()
    decoding = sampling.decoding
    warpers: list[Any] = [TemperatureLogitsWarper(float(sampling.temperature))]
    warpers += [TopKLogitsWarper(decoding.top_k)] if decoding.top_k is not None else []
    warpers += [TopPLogitsWarper(decoding.top_p)] if decoding.top_p is not None else []
    generators = [np.random.default_rng(int(sampling.seed[k])) for k in batch]

    def gumbel(_tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        exponential = np.stack([generator.standard_exponential(scores.shape[1]) for generator in generators])
        return scores.double() - torch.from_numpy(exponential).to(scores.device).log()

    return LogitsProcessorList([*warpers, gumbel])


@contextmanager
def _own_settings(model: Any) -> Iterator[Any]:
    """The model below an adapter (whose layers are in it), without what its generation config says:
    `generate` takes from there whatever it is not told, such as a repetition penalty."""
    from transformers import GenerationConfig

    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = plain.generation_config
    plain.generation_config = GenerationConfig()
    try:
        yield plain
    finally:
        plain.generation_config = own


def require_vllm(weights: Weights) -> None:
    """Raises BadInput where vLLM cannot run, before anything is loaded."""
    if weights.device != "cuda":
        raise BadInput(
            "vLLM runs on CUDA only",
            field="compute.device",
            value=weights.device,
            remedy="set decoding.engine: exact or decode, or device: cuda on a machine with a GPU",
        )
    if find_spec("vllm") is None:
        raise BadInput(
            "vLLM is not installed",
            field="decoding.engine",
            value="vllm",
            remedy="pip install vllm beside evsim, or set decoding.engine: exact, which needs nothing more",
        )


def vllm_tokenizer(weights: Weights) -> Any:
    """The tokenizer of the model that vLLM is to load."""
    return load_tokenizer(weights.base, trust_remote_code=weights.trust_remote_code)


def vllm_texts(
    weights: Weights, tokenizer: Any, prompts: Sequence[Sequence[int]], sampling: Sampling
) -> list[str]:
    """As `generated_texts`, by vLLM with prefix caching, which loads the model itself and keeps it."""
    from transformers import AutoConfig, GenerationConfig
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    from evsim_assets.simulation.decoding import text_of

    source = _whole_model(weights)
    config = AutoConfig.from_pretrained(source, trust_remote_code=weights.trust_remote_code)
    try:
        ends = GenerationConfig.from_pretrained(source).eos_token_id
    except OSError:  # the model has none
        ends = config.get_text_config().eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    silent = classify_tokens(tokenizer, config.get_text_config().vocab_size, ends).silent
    decoding, stops = sampling.decoding, np.flatnonzero(silent).tolist()
    params = [
        SamplingParams(
            temperature=sampling.temperature,
            top_k=-1 if decoding.top_k is None else decoding.top_k,
            top_p=1.0 if decoding.top_p is None else decoding.top_p,
            max_tokens=limit,
            seed=seed,
            stop_token_ids=stops,
            detokenize=False,
        )
        for limit, seed in zip(sampling.limit.tolist(), sampling.seed.tolist(), strict=True)
    ]
    adapter = weights.checkpoint if weights.method != "full" else None
    answers = _vllm(weights).generate(
        [{"prompt_token_ids": list(prompt)} for prompt in prompts],
        params,
        lora_request=LoRARequest("adapter", 1, adapter) if adapter else None,
        use_tqdm=False,
    )
    return [text_of(tokenizer, answer.outputs[0].token_ids, silent) for answer in answers]


def _whole_model(weights: Weights) -> str:
    return weights.checkpoint if weights.method == "full" and weights.checkpoint else weights.base


@lru_cache(maxsize=1)
def _vllm(weights: Weights) -> Any:
    """vLLM with the model; starting it takes minutes, so the last one is kept for the next shard."""
    from vllm import LLM

    options: dict[str, Any] = {}
    if weights.method in ("lora", "qlora") and weights.checkpoint:
        config = json.loads((Path(weights.checkpoint) / "adapter_config.json").read_text(encoding="utf-8"))
        rank = next(
            size for size in (8, 16, 32, 64, 128, 256, 512) if size >= config["r"]
        )  # vLLM knows these
        options |= {"enable_lora": True, "max_lora_rank": rank}
    if weights.method == "qlora":
        options |= {"quantization": "bitsandbytes"}
    return LLM(
        model=_whole_model(weights),
        tokenizer=weights.base,
        dtype="bfloat16" if weights.precision == "bf16" else "float32",
        enable_prefix_caching=True,
        generation_config="vllm",  # and not the model's own top-p or top-k
        trust_remote_code=weights.trust_remote_code,
        **options,
    )
