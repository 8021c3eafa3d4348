"""One adapter, from a study's prompts to a folder; begun anew or gone on with.

Belongs here: the order of things and what is kept of them. Not here: a step (`trainer.py`), the loss
(`token_tree/losses.py`), when a step checkpoint counts (`step_checkpoints.py`), the folder's files
(`saving.py`). Heavy imports stay inside functions.
"""

from __future__ import annotations

import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
    trainable,
)
from evsim_assets.adapters.curve import learning_curve
from evsim_assets.adapters.fits import require_memory
from evsim_assets.adapters.identity import identity
from evsim_assets.adapters.model_card import model_card
from evsim_assets.adapters.own_prompts import own_prompts
from evsim_assets.adapters.saving import save_weights
from evsim_assets.adapters.shares import Batching
from evsim_assets.adapters.step_checkpoints import begin, step_of
from evsim_assets.adapters.steps import Step, plan_steps
from evsim_assets.adapters.texts import fraction_of, texts_by_participant
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.seeds import derived_seed
from evsim_assets.specs.study import AdapterSpec, TrainingSpec
from evsim_assets.token_tree.losses import Text
from evsim_assets.token_tree.tree import Layout

log = logging.getLogger(__name__)

CURVE_FILE = "learning_curve.parquet"
MICRO_BATCH_TOKENS = 16384
CHECKPOINT_SECONDS = 600.0
"""A step checkpoint is written at every evaluation, and when the last is older than this."""

Texts = dict[str, list[list[Text]]]
"""The texts of each split, by participant."""


@dataclass(frozen=True)
class TrainingResult:
    """What is known of an adapter once it is trained.

    `learning_curve`: see `curve.learning_curve`; step 0 is the model as it was. `best_step`: the step whose
    weights were kept. `participants` and `texts`: of the training split. In the first epoch's steps (in all,
    where there is less than an epoch) `tree_tokens` go through the model for the `text_tokens` that the
    texts hold one by one. `steps`, `evaluations`: in all. `seconds` and `resumed_at` (step; 0: begun
    anew) are of this run, which may have gone on with another.
    """

    learning_curve: pd.DataFrame
    best_step: int
    best_validation_loss: float
    pretrained_validation_loss: float
    base_weights: Storage
    layout: Layout
    participants: int
    texts: int
    tree_tokens: int
    text_tokens: int
    steps: int
    evaluations: int
    seconds: float
    resumed_at: int

    @property
    def beats_pretrained(self) -> bool:
        """Whether the validation loss is lower than before training."""
        return self.best_validation_loss < self.pretrained_validation_loss

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the curve, as plain values."""
        return {name: value for name, value in asdict(self).items() if name != "learning_curve"}

    @property
    def reproducible(self) -> dict[str, Any]:
        """The facts that equal trainings have in common, for a manifest."""
        return {name: value for name, value in self.facts.items() if name not in ("seconds", "resumed_at")}


def train(
    prompts: pd.DataFrame,
    spec: AdapterSpec,
    *,
    source: str,
    device: Device,
    precision: Precision,
    seed: int,
    out_dir: Path,
    work: Path | None = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
    recorded_as: str | None = None,
    base_digest: str = "",
    data_version: str = "not told",
    resident: bool | None = None,
    micro_batch_tokens: int | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    on_progress: Callable[[float, str], None] | None = None,
    still_wanted: Callable[[], None] | None = None,
    say: Callable[[str], None] = log.info,
) -> TrainingResult:
    """Fine-tune the base model at `source` as `spec` says, and save the adapter in `out_dir`.

    The weights kept are those of the lowest validation loss. `out_dir` is made at the very end and holds
    the weights with their config (`saving.py`), README.md and learning_curve.parquet. On one CPU thread
    the same input gives the same bytes, however often it was killed and resumed in between.

    Several processes (torchrun, accelerate) train one adapter together when each calls this with the same
    arguments; the first of them saves.

    Args:
        prompts: the study's prompts; only those in the adapter's own wording, and of them only the
            splits "train" and "validation", are looked at: what is held out is neither.
        seed: the study's. Fraction, batches and LoRA's first weights follow from it and the trial
            alone, so that adapters of one trial are compared on the same draws.
        work: a local folder for step checkpoints. What an interrupted training of the same adapter left
            there is gone on with. It is left as it is at the end; None keeps nothing.
        recorded_as: the base model's name in adapter_config.json (`source` may be a path that
            means nothing elsewhere).
        base_digest: what the base model is, so that a training is not resumed on another.
        data_version: of the prompts, for the model card.
        resident: see `load_base`.
        micro_batch_tokens: in place of the spec's: tokens that go through the model at once; no result
            depends on it beyond rounding.
        still_wanted: called a few times a step; what it raises ends the training, which `work` keeps.
        say: is told where training goes on, or why it begins anew.

    Raises:
        BadInput: no participants to train or validate on, a training that does not fit into memory, or a
            loss, a gradient or a weight that is no finite number; then nothing is saved.
    """
    if spec.training is None or spec.method == "pretrained":
        raise BadInput("a pretrained model is not trained", field="method", value=spec.method)
    started = time.monotonic()
    tokenizer = load_tokenizer(source, revision=revision, trust_remote_code=trust_remote_code)
    trial = str(spec.trial)
    texts = _texts(prompts, spec, tokenizer, derived_seed(seed, "fraction", trial))
    steps = plan_steps(
        [len(of_one) for of_one in texts["train"]],
        spec.training.batch_size,
        spec.training.epochs,
        derived_seed(seed, "batches", trial),
    )
    known = {
        "base model": base_digest,
        "seed": seed,
        "compute": {"device": device, "precision": precision, "processes": os.environ.get("WORLD_SIZE", "1")},
    }
    validation = [text for of_one in texts["validation"] for text in of_one]
    budget = micro_batch_tokens or spec.training.micro_batch_tokens or MICRO_BATCH_TOKENS
    if resident is None:  # before anything is seeded: it makes tensors of its own
        resident = require_memory(
            spec,
            source=source,
            device=device,
            precision=precision,
            steps=[[text for p in step.participants for text in texts["train"][p]] for step in steps],
            validation=validation,
            budget=budget,
            say=say,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
    with _own_randomness(derived_seed(seed, "adapter", trial)) as small_seed, ExitStack() as held:
        held.enter_context(quiet_libraries())
        if work is None:
            work = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="evsim-adapter-")))
        base = load_base(
            source,
            method=spec.method,
            device=device,
            precision=precision,
            revision=revision,
            trust_remote_code=trust_remote_code,
            resident=resident,
        )
        model = trainable(base, spec)
        from evsim_assets.adapters.trainer import TreeTrainer, training_arguments
        from evsim_assets.token_tree.layout import prepare

        batching = Batching(
            spec.training.loss_on,
            spec.penalty.alpha if spec.penalty else 0.0,
            budget,
            prepare(model),
        )
        arguments = training_arguments(
            spec.training,
            work=work,
            steps=len(steps),
            device=device,
            precision=precision,
            evaluate_every=_evaluation_interval(spec.training, spec.fraction, len(steps)),
            paged=spec.method == "qlora" and device == "cuda",
            seed=small_seed,
        )
        trainer = TreeTrainer(
            model,
            arguments,
            steps=steps,
            train=texts["train"],
            validation=validation,
            batching=batching,
            checkpoint_seconds=checkpoint_seconds,
            on_progress=on_progress,
            still_wanted=still_wanted,
        )
        resumed_at = _run(trainer, work, identity(texts, spec, **known), say)
        result = _result(
            trainer,
            texts["train"],
            batching,
            base_weights=storage_of(model, spec.method, precision),
            resumed_at=resumed_at,
            seconds=time.monotonic() - started,
        )
        save_weights(trainer, out_dir, recorded_as or source)
        if trainer.is_world_process_zero():
            card = model_card(spec, result.facts, base_model=recorded_as or source, data_version=data_version)
            (out_dir / "README.md").write_text(card, encoding="utf-8")
            result.learning_curve.to_parquet(out_dir / CURVE_FILE, index=False)
    return result


def _run(trainer: Any, work: Path, who: Mapping[str, Any], say: Callable[[str], None]) -> int:
    """Train to the end, from the last step checkpoint where there is one; its step, or 0."""
    from evsim_assets.adapters.trainer import from_the_first

    found = from_the_first(lambda: begin(work, who, say), trainer.args)
    step = step_of(found) if found else 0
    if found:
        say(f"resumed at step {step} of {len(trainer.steps)}")
        trainer.args.eval_on_start = False  # the checkpoint knows it
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    return step


def _result(
    trainer: Any, people: Sequence[Sequence[Text]], batching: Batching, **known: Any
) -> TrainingResult:
    steps: Sequence[Step] = trainer.steps
    curve = learning_curve(trainer.state.log_history, [step.epoch for step in steps])
    validation = curve[curve.split == "validation"].set_index("step").loss
    best_step = int(trainer.state.best_global_step)
    first_epoch = [[t for p in step.participants for t in people[p]] for step in steps if step.epoch <= 1]
    return TrainingResult(
        learning_curve=curve,
        best_step=best_step,
        best_validation_loss=float(validation[best_step]),
        pretrained_validation_loss=float(validation[0]),
        layout=batching.layout,
        participants=len(people),
        texts=sum(len(texts) for texts in people),
        tree_tokens=sum(batching.tokens(texts) for texts in first_epoch),
        text_tokens=sum(len(text.tokens) for texts in first_epoch for text in texts),
        steps=len(steps),
        evaluations=len(validation) - 1,
        **known,
    )


def _texts(prompts: pd.DataFrame, spec: AdapterSpec, tokenizer: Any, seed: int) -> Texts:
    """What the adapter learns from and what it is judged by."""
    kept = _kept(own_prompts(prompts, spec.template), spec.fraction, seed)
    return {split: list(texts_by_participant(rows, tokenizer, spec).values()) for split, rows in kept.items()}


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
