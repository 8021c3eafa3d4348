"""One adapter, from a study's prompts to a PEFT folder.

Belongs here: the order of things and what is kept of them. Not here: a step (`trainer.py`), the loss
(`token_tree/losses.py`), versions and manifests of checkpoints. Heavy imports stay inside functions.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.adapters.base_model import (
    Device,
    Precision,
    Storage,
    load_base,
    load_tokenizer,
    quiet_libraries,
    storage_of,
)
from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.adapters.steps import plan_steps
from evsim_assets.adapters.texts import fraction_of, texts_by_participant
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.seeds import derived_seed
from evsim_assets.specs.study import AdapterSpec, TrainingSpec
from evsim_assets.token_tree.losses import WeightedTree, weigh

CURVE_FILE = "learning_curve.parquet"


@dataclass(frozen=True)
class TrainingResult:
    """What is known of an adapter once it is trained.

    `learning_curve`: step | epoch | split ("train": mean over the steps since the row before;
    "validation") | loss; step 0 is the model as it was. `best_step`: the step whose weights were
    kept. The counts are per epoch: `participants` and `texts` trained on, `tree_tokens` that a
    forward pass takes, `text_tokens` the same texts hold one by one; `steps` and `seconds` in all.
    """

    learning_curve: pd.DataFrame
    best_step: int
    best_validation_loss: float
    pretrained_validation_loss: float
    base_weights: Storage
    participants: int
    texts: int
    tree_tokens: int
    text_tokens: int
    steps: int
    seconds: float

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the curve, as plain values for a manifest."""
        return {name: value for name, value in asdict(self).items() if name != "learning_curve"}


def train(
    prompts: pd.DataFrame,
    spec: AdapterSpec,
    *,
    source: str,
    device: Device,
    precision: Precision,
    seed: int,
    out_dir: Path,
    revision: str | None = None,
    trust_remote_code: bool = False,
    recorded_as: str | None = None,
    resident: bool | None = None,
    micro_batch_tokens: int = 16384,
    on_progress: Callable[[float, str], None] | None = None,
) -> TrainingResult:
    """Fine-tune the base model at `source` as `spec` says, and save the adapter in `out_dir`.

    The weights kept are those of the lowest validation loss. `out_dir` is made at the very end and
    holds adapter_model.safetensors, adapter_config.json, README.md and learning_curve.parquet.
    On one CPU thread the same input gives the same bytes.

    Args:
        prompts: the study's prompts; only those in the adapter's own wording, and of them only the
            splits "train" and "validation", are looked at: what is held out is neither.
        seed: the study's. Fraction, batches and LoRA's first weights follow from it and the trial
            alone, so that adapters of one trial are compared on the same draws.
        recorded_as: the base model's name in adapter_config.json (`source` may be a path that
            means nothing elsewhere).
        resident: see `load_base`.
        micro_batch_tokens: padded tokens that go through the model at once; no result depends on
            it beyond rounding.

    Raises:
        BadInput: no participants to train or validate on, or a loss, a gradient or a weight that is
            no finite number; then nothing is saved.
    """
    if spec.training is None or spec.method == "pretrained":
        raise BadInput("a pretrained model is not trained", field="method", value=spec.method)
    started = time.monotonic()
    tokenizer = load_tokenizer(source, revision=revision, trust_remote_code=trust_remote_code)
    training, alpha = spec.training, spec.penalty.alpha if spec.penalty else 0.0
    trial = str(spec.trial)
    worded = own_prompts(prompts, spec.template)
    kept = _kept(worded, spec.fraction, derived_seed(seed, "fraction", trial))
    trees = {
        split: [
            weigh(texts, training.loss_on, alpha)
            for texts in texts_by_participant(rows, tokenizer, spec).values()
        ]
        for split, rows in kept.items()
    }
    steps = plan_steps(
        [t.texts for t in trees["train"]],
        training.batch_size,
        training.epochs,
        derived_seed(seed, "batches", trial),
    )
    with _own_randomness(derived_seed(seed, "adapter", trial)) as small_seed, quiet_libraries():
        base = load_base(
            source,
            method=spec.method,
            device=device,
            precision=precision,
            revision=revision,
            trust_remote_code=trust_remote_code,
            resident=resident,
        )
        model = _with_lora(base, training)
        from evsim_assets.adapters.trainer import TreeTrainer, training_arguments

        with tempfile.TemporaryDirectory(prefix="evsim-adapter-") as scratch:
            arguments = training_arguments(
                training,
                scratch=scratch,
                steps=len(steps),
                device=device,
                precision=precision,
                evaluate_every=_evaluation_interval(training, spec.fraction, len(steps)),
                paged=spec.method == "qlora" and device == "cuda",
                seed=small_seed,
            )
            trainer = TreeTrainer(
                model,
                arguments,
                steps=steps,
                train=trees["train"],
                validation=trees["validation"],
                alpha=alpha,
                max_tokens=micro_batch_tokens,
                on_progress=on_progress,
            )
            trainer.train()
    result = _result(
        trainer.curve,
        int(trainer.state.best_global_step or 0),
        trees["train"],
        steps=len(steps),
        base_weights=storage_of(model, spec.method, precision),
        seconds=time.monotonic() - started,
    )
    _save(model, result, spec, recorded_as or source, out_dir)
    return result


def _result(
    rows: list[tuple[int, float, str, float]], best_step: int, trees: list[WeightedTree], **known: Any
) -> TrainingResult:
    curve = pd.DataFrame(rows, columns=["step", "epoch", "split", "loss"])
    validation = curve[curve.split == "validation"].set_index("step").loss
    return TrainingResult(
        learning_curve=curve,
        best_step=best_step,
        best_validation_loss=float(validation[best_step]),
        pretrained_validation_loss=float(validation[0]),
        participants=len(trees),
        texts=sum(t.texts for t in trees),
        tree_tokens=sum(len(t.tree) for t in trees),
        text_tokens=sum(t.text_tokens for t in trees),
        **known,
    )


def _kept(prompts: pd.DataFrame, fraction: float, seed: int) -> dict[str, pd.DataFrame]:
    """The train rows of the fraction's participants, and all validation rows."""
    train = prompts[prompts.split == "train"]
    chosen = fraction_of(train.participant.unique(), fraction, seed) if len(train) else []
    rows = {
        "train": train[train.participant.isin(chosen)],
        "validation": prompts[prompts.split == "validation"],
    }
    for split, table in rows.items():
        if table.empty:
            raise BadInput(
                f"no prompts in the {split} split",
                field="split",
                value=split,
                remedy="give the study more participants",
            )
    return rows


def _evaluation_interval(training: TrainingSpec, fraction: float, steps: int) -> int:
    """Steps between evaluations. An epoch counts by the whole training split's size, so that an
    adapter of a tenth of the data and ten times the epochs is evaluated as often as the others."""
    evaluations = training.evaluations_per_epoch * training.epochs * fraction
    return max(1, round(steps / max(1.0, evaluations)))


@contextmanager
def _own_randomness(seed: int) -> Iterator[int]:
    """Global generators seeded for this block and put back after it (Trainer and LoRA use them)."""
    import torch

    small = seed % 2**32  # numpy takes no more
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(small)
        try:
            yield small
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _with_lora(model: Any, training: TrainingSpec) -> Any:
    """LoRA on every linear layer but the head."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=training.rank,
        lora_alpha=training.lora_alpha,  # type: ignore[arg-type]  # divides by r, any number
        lora_dropout=training.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _save(model: Any, result: TrainingResult, spec: AdapterSpec, base_model: str, out_dir: Path) -> None:
    """The PEFT folder, with what would differ between machines or runs taken out of it."""
    import torch

    for name, weight in model.named_parameters():
        if weight.requires_grad and not torch.isfinite(weight).all():
            raise BadInput(
                "a trained weight is not a finite number; nothing is saved",
                value=name,
                remedy="lower training.learning_rate",
            )
    out_dir.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(out_dir), save_embedding_layers=False)
    config_file = out_dir / "adapter_config.json"
    config = json.loads(config_file.read_text())
    config["base_model_name_or_path"] = base_model
    config["target_modules"] = sorted(config["target_modules"])  # was a set, in any order
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (out_dir / "README.md").write_text(_model_card(result, spec, base_model))
    result.learning_curve.to_parquet(out_dir / CURVE_FILE, index=False)


def _model_card(result: TrainingResult, spec: AdapterSpec, base_model: str) -> str:
    """A short model card; no times in it, so that equal adapters have equal folders."""
    training = spec.training
    assert training is not None
    loss = f"cross entropy on the {training.loss_on}"
    if spec.penalty:
        loss = f"(1 − {spec.penalty.alpha:g}) × {loss} + {spec.penalty.alpha:g} × numeric penalty"
        loss += f" (d = {spec.penalty.d:g})"
    return (
        f"---\nlibrary_name: peft\nbase_model: {base_model}\ntags: [lora]\n---\n\n"
        f"# {spec.key}\n\n"
        "An adapter that makes a language model answer survey questions as a sampled population does.\n\n"
        f"- method: {spec.method}, base weights held as {result.base_weights}\n"
        f"- LoRA: r {training.rank}, alpha {training.lora_alpha:g}, dropout {training.dropout:g},"
        " all linear layers\n"
        f"- loss: {loss}\n"
        f"- data: {result.texts} answers of {result.participants} participants, {training.epochs:g} epochs\n"
        f"- validation loss: {result.pretrained_validation_loss:.4f} before,"
        f" {result.best_validation_loss:.4f} at step {result.best_step} of {result.steps} (kept)\n"
    )
