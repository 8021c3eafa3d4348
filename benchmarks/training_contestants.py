"""Who takes part in the training benchmarks: evsim, transformers' Trainer and TRL's SFTTrainer.

Belongs here: the model that all of them train, and each one's trainer for the same texts. Not here: texts
(`training_texts.py`), clocks and tables (`training.py`, `training_gpu.py`).

All take the same optimizer steps: `PARTICIPANTS_A_STEP` participants in order, AdamW, one learning rate, one
bound on the gradient. No one evaluates, saves, logs or draws a progress bar.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from evsim_assets.token_tree.losses import Text

IGNORED = -100
SEED = 0


@dataclass(frozen=True)
class Shape:
    """A Llama with random weights and LoRA on all its linear layers but the head.

    `spread` is the weights' standard deviation: with the usual 0.02 a random model's attention is so flat
    that a wrong one would hardly change the loss.
    """

    hidden: int = 512
    intermediate: int = 1376
    layers: int = 4
    heads: int = 8
    vocabulary: int = 32_000
    spread: float = 0.05
    rank: int = 16
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    weights: Literal["plain", "nf4"] = "plain"


@dataclass(frozen=True)
class Contestant:
    """One way to train. `at_once`: texts that go through the model at once (evsim: tree tokens).

    `head`: TRL's own, or `targets` for its trainer with `compute_loss` overridden, as its documentation
    suggests, so that only tokens with a label reach the language-model head.
    """

    name: str
    kind: Literal["ours", "hf", "trl"]
    loss_on: Literal["answer", "text"] = "answer"
    layout: Literal["tree", "padded", "padding_free", "packed"] = "padded"
    at_once: int = 18
    head: Literal["own", "targets"] = "own"
    checkpointing: bool = False
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"

    @property
    def setting(self) -> str:
        """Everything but the name, for people."""
        told = [f"{self.layout}, {self.at_once} at once", f"loss on the {self.loss_on}"]
        told += ["head at targets only"] if self.head == "targets" else []
        told += ["gradient checkpointing"] if self.checkpointing else []
        told += [self.attention] if self.attention != "sdpa" else []
        return "; ".join(told)


def make_model(shape: Shape, attention: str = "sdpa") -> Any:
    """The same model at every call."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    shapes: dict[str, Any] = {"attn_implementation": attention}  # known to every configuration
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=4096,
        initializer_range=shape.spread,
        use_cache=False,
        **shapes,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, shape.dtype))
    try:
        with torch.device(shape.device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    if shape.weights == "nf4":
        model = _in_nf4(model, shape)
    lora = LoraConfig(
        r=shape.rank,
        lora_alpha=2 * shape.rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)


def _in_nf4(model: Any, shape: Shape) -> Any:
    """Every linear layer but the head in 4 bits, with double quantization, as QLoRA holds them."""
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    for name, layer in list(model.named_modules()):
        if not isinstance(layer, torch.nn.Linear) or name == "lm_head":
            continue
        small = Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=False,
            compute_dtype=getattr(torch, shape.dtype),
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        small.weight = Params4bit(
            layer.weight.detach(), requires_grad=False, compress_statistics=True, quant_type="nf4"
        )
        small.support_avx512bf16_for_cpu = False  # or gradients go wrong after an evaluation
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, small.to(shape.device))
    model.is_loaded_in_4bit = True
    return model


def make_trainer(
    contestant: Contestant, steps: Sequence[Sequence[Text]], shape: Shape, *, log: bool = False
) -> Any:
    """A trainer that takes one optimizer step for the texts of each of `steps`, each time it trains."""
    given: dict[str, Any] = {
        "output_dir": tempfile.gettempdir(),
        "max_steps": len(steps),
        "use_cpu": shape.device == "cpu",
        "seed": SEED,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.3,
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "bf16": shape.dtype == "bfloat16",
        "logging_strategy": "steps" if log else "no",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "train_sampling_strategy": "sequential",
        "activation_checkpointing": contestant.checkpointing,
    }
    made = {"ours": _ours, "hf": _hf, "trl": _trl}[contestant.kind](contestant, steps, shape, given)
    made.remove_callback(PrinterCallback)
    made.add_callback(StepClock())
    return made


@dataclass(frozen=True)
class Took:
    """Seconds on the wall, and of all processor cores together."""

    wall: float
    cpu: float


class StepClock(TrainerCallback):
    """What each optimizer step took, with the making of its batch, from the end of the step before."""

    def __init__(self) -> None:
        self.steps: list[Took] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps, self._last = [], Took(time.perf_counter(), time.process_time())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.device.type == "cuda":
            torch.cuda.synchronize()
        now = Took(time.perf_counter(), time.process_time())
        self.steps.append(Took(now.wall - self._last.wall, now.cpu - self._last.cpu))
        self._last = now


def steps_taken(trainer: Any) -> list[Took]:
    """Train from the first step to the last; what each took."""
    trainer.train()
    (clock,) = [c for c in trainer.callback_handler.callbacks if isinstance(c, StepClock)]
    return clock.steps


def losses(trainer: Any) -> list[float]:
    """Train a trainer that logs; the loss of each step."""
    trainer.train()
    return [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]


def _ours(
    contestant: Contestant, steps: Sequence[Sequence[Text]], shape: Shape, given: dict[str, Any]
) -> Any:
    """The trainer that adapters are trained with, without a study, a validation set and checkpoints."""
    from evsim_assets.adapters.shares import Batching
    from evsim_assets.adapters.steps import Step
    from evsim_assets.adapters.trainer import TreeTrainer
    from evsim_assets.token_tree.layout import prepare

    model = make_model(shape)
    return TreeTrainer(
        model,
        TrainingArguments(**given),
        steps=[Step((i,), (i + 1) / len(steps)) for i in range(len(steps))],
        train=steps,
        validation=[],
        batching=Batching(contestant.loss_on, 0.0, contestant.at_once, prepare(model)),
        checkpoint_seconds=float("inf"),
        on_progress=None,
        still_wanted=None,
    )


def _rows(contestant: Contestant, steps: Sequence[Sequence[Text]]) -> list[dict[str, list[int]]]:
    """Input ids and labels of every text, in order."""
    rows = []
    for text in (text for step in steps for text in step):
        ignored = len(text.prompt) if contestant.loss_on == "answer" else 0
        rows.append({"input_ids": text.tokens, "labels": [IGNORED] * ignored + text.tokens[ignored:]})
    return rows


def _accumulated(contestant: Contestant, steps: Sequence[Sequence[Text]]) -> int:
    """Micro-batches a step, for those who count texts. All steps must have as many texts."""
    (texts,) = {len(step) for step in steps}
    if texts % contestant.at_once:
        raise ValueError(f"{contestant.name}: {texts} texts a step cannot be cut by {contestant.at_once}")
    return texts // contestant.at_once


def _hf(contestant: Contestant, steps: Sequence[Sequence[Text]], shape: Shape, given: dict[str, Any]) -> Any:
    arguments = TrainingArguments(
        **given,
        per_device_train_batch_size=contestant.at_once,
        gradient_accumulation_steps=_accumulated(contestant, steps),
    )
    return Trainer(
        model=make_model(shape, contestant.attention),
        args=arguments,
        train_dataset=_rows(contestant, steps),
        data_collator=_padded,
    )


def _padded(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)

    def filled(lists: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        return torch.tensor([[*one, *[value] * (width - len(one))] for one in lists])

    return {
        "input_ids": filled([row["input_ids"] for row in rows], 0),
        "attention_mask": filled([[1] * len(row["input_ids"]) for row in rows], 0),
        "labels": filled([row["labels"] for row in rows], IGNORED),
    }


def _trl(contestant: Contestant, steps: Sequence[Sequence[Text]], shape: Shape, given: dict[str, Any]) -> Any:
    from datasets import Dataset, disable_progress_bars
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    disable_progress_bars()
    rows = _rows(contestant, steps)
    packed = contestant.layout == "packed"
    if contestant.layout == "padding_free":
        given = given | {"max_length": None}
    if packed:  # a row holds about as many texts as go through at once, and so does one batch
        longest = sum(sorted(len(row["input_ids"]) for row in rows)[-contestant.at_once :])
        given = given | {"packing": True, "packing_strategy": "bfd", "max_length": longest}
    arguments = SFTConfig(
        **given,
        per_device_train_batch_size=1 if packed else contestant.at_once,
        gradient_accumulation_steps=_accumulated(contestant, steps),
        padding_free=contestant.layout == "padding_free",
        dataset_num_proc=None,
        eos_token=None,
    )
    kind = _at_targets_only(SFTTrainer) if contestant.head == "targets" else SFTTrainer
    return kind(
        model=make_model(shape, contestant.attention),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=_no_tokenizer(shape),
    )


def _no_tokenizer(shape: Shape) -> Any:
    """SFTTrainer wants a tokenizer, though the texts are tokens already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"<{i}>": i for i in range(4)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<0>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<2>", pad_token="<0>")


def _at_targets_only(trainer: Any) -> Any:
    """SFTTrainer whose head reads only tokens that have a label, and which counts no metrics.

    TRL's own head does so on CUDA; on a CPU it computes the logits of every token, ignored or not, and the
    entropy and accuracy of each for its log.
    """

    class AtTargetsOnly(trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> torch.Tensor:
            labels = inputs.pop("labels")[:, 1:]
            read = labels != IGNORED
            base = self.accelerator.unwrap_model(model).get_base_model()
            hidden = base.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
            logits = base.lm_head(hidden[read]).float()
            total = torch.nn.functional.cross_entropy(logits, labels[read], reduction="sum")
            return total / num_items_in_batch

    return AtTargetsOnly


def texts_of_steps(trainer: Any, contestant: Contestant, steps: Sequence[Sequence[Text]]) -> list[int]:
    """How many texts each step trains on. Packed rows hold as many as fit, so their steps differ."""
    if contestant.layout != "packed":
        return [len(step) for step in steps]
    held = [len(row) for row in trainer.train_dataset["seq_lengths"]]
    rows = trainer.args.gradient_accumulation_steps
    return [sum(held[(i * rows) % len(held) :][:rows]) for i in range(len(steps))]


OURS = Contestant("evsim", "ours", layout="tree", at_once=16_384)
OURS_SMALL = replace(OURS, name="evsim, small micro-batches", at_once=700)
OURS_TEXT = replace(OURS, name="evsim, loss on the text", loss_on="text")
HF = Contestant("HF Trainer, padded", "hf")
TRL = Contestant("TRL as it comes", "trl", loss_on="text", checkpointing=True, at_once=9)
TRL_OPTIONS = Contestant("TRL tuned by its options", "trl")
TRL_TUNED = Contestant("TRL tuned, loss overridden", "trl", head="targets")
