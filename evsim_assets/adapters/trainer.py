"""transformers' Trainer, taught to take steps of token trees.

Belongs here: how one step, one evaluation and the optimizer go. Not here: what a step holds
(`steps.py`), what is saved (`training.py`). Imports torch and transformers; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from evsim_assets.adapters.steps import Step
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import TrainingSpec
from evsim_assets.token_tree.losses import LossBatch, WeightedTree, loss_batches, weighted_loss

CurveRow = tuple[int, float, str, float]
"""step, epoch, split ("train" or "validation"), loss"""


class TreeTrainer(Trainer):
    """A Trainer whose every batch is one whole optimizer step, cut into micro-batches.

    The micro-batches' losses add up to the step's loss (their weights are divided by the whole
    step's totals), so nothing is averaged over them and Trainer's own accumulation stays at 1.
    """

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        *,
        steps: Sequence[Step],
        train: Sequence[WeightedTree],
        validation: Sequence[WeightedTree],
        alpha: float,
        max_tokens: int,
        on_progress: Callable[[float, str], None] | None,
    ) -> None:
        self.steps, self.train_trees = steps, train
        self.alpha, self.max_tokens, self.on_progress = alpha, max_tokens, on_progress
        self.curve: list[CurveRow] = []
        self.losses: list[float] = []  # of the steps since the last evaluation
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=steps,
            eval_dataset=validation,
            callbacks=[_FiniteGradients()],
        )
        self.remove_callback(PrinterCallback)
        self.validation_trees = validation

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The steps in their planned order, each made into tensors when it is due."""
        return DataLoader(self.steps, batch_size=None, collate_fn=self._parts)  # type: ignore[arg-type]

    def _parts(self, step: Step) -> list[LossBatch]:
        trees = [self.train_trees[p] for p in step.participants]
        return list(loss_batches(trees, self.alpha, self.max_tokens, self.args.device))

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Gradients of one whole step; its loss."""
        model.train()
        total = torch.zeros((), device=self.args.device)
        for part in inputs:
            loss = self.compute_loss(model, part)
            self.accelerator.backward(loss)
            total += loss.detach()
        self.losses.append(_finite(total.item(), "training loss", self.state.global_step + 1))
        return total

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> torch.Tensor:
        """The weighted sum over the edges of one micro-batch."""
        return weighted_loss(model, inputs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The validation loss, normalised over the whole validation set; adds rows to the curve."""
        self.model_wrapped.eval()
        parts = loss_batches(self.validation_trees, self.alpha, self.max_tokens, self.args.device)
        with torch.no_grad():
            losses = [self.compute_loss(self.model_wrapped, part).item() for part in parts]
        step = self.state.global_step
        loss = _finite(sum(losses), "validation loss", step)
        epoch = self.steps[step - 1].epoch if step else 0.0
        if self.losses:
            self.curve.append((step, epoch, "train", sum(self.losses) / len(self.losses)))
            self.losses = []
        self.curve.append((step, epoch, "validation", loss))
        if self.on_progress:
            self.on_progress(step / len(self.steps), f"step {step}: validation loss {loss:.4f}")
        metrics = {"eval_loss": loss}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: Trainer's formula knows nothing of trees."""
        return 0


class _FiniteGradients(TrainerCallback):
    """Stops before a gradient that is no number reaches the weights."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        gradients = [p.grad for p in given["model"].parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients).item()
        _finite(norm, "gradient", state.global_step + 1)


def _finite(value: float, what: str, step: int) -> float:
    if not torch.isfinite(torch.tensor(value)):
        raise BadInput(
            f"the {what} at step {step} is not a finite number; nothing is saved",
            value=value,
            remedy="lower training.learning_rate, or check the base model's weights and precision",
        )
    return value


def training_arguments(
    training: TrainingSpec,
    *,
    scratch: str,
    steps: int,
    evaluate_every: int,
    device: str,
    precision: str,
    paged: bool,
    seed: int,
) -> TrainingArguments:
    """The spec in Trainer's words. AdamW without weight decay; paged (bitsandbytes) if asked."""
    schedule = training.schedule if training.schedule != "constant" else "constant_with_warmup"
    return TrainingArguments(
        output_dir=scratch,
        max_steps=steps,
        seed=seed,
        use_cpu=device == "cpu",
        bf16=precision == "bf16",
        learning_rate=training.learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=round(training.warmup_fraction * steps),
        max_grad_norm=training.max_grad_norm,
        optim="paged_adamw_32bit" if paged else "adamw_torch",
        weight_decay=0.0,
        eval_strategy="steps",
        eval_steps=evaluate_every,
        eval_on_start=True,
        save_strategy="best",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
