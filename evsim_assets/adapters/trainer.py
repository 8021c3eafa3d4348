"""transformers' Trainer, taught to take steps of token trees.

Belongs here: how one step, one evaluation and the optimizer go, with one process or several. Not here: what
a step holds (`steps.py`, `shares.py`), when a checkpoint counts (`step_checkpoints.py`), what is saved
(`saving.py`). Imports torch and transformers; import it inside functions.

All that the learning curve needs is in Trainer's own log, which its checkpoints hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from evsim_assets.adapters.shares import Batching
from evsim_assets.adapters.step_checkpoints import prune, seal
from evsim_assets.adapters.steps import Step
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import TrainingSpec
from evsim_assets.token_tree.losses import LossBatch, Text, weighted_loss


class TreeTrainer(Trainer):
    """A Trainer whose every batch is one whole optimizer step, cut into micro-batches.

    The micro-batches' losses add up to the step's loss (their weights are divided by the whole step's
    totals), so nothing is averaged over them and Trainer's own accumulation stays at 1. Of several
    processes each takes its share of the micro-batches; the gradients are those of one process.

    Args:
        train: the texts of each participant.
        validation: all texts of the validation split.
        still_wanted: called between micro-batches; what it raises ends the training.
        checkpoint_seconds: a checkpoint is also written when the last is older than this.
    """

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        *,
        steps: Sequence[Step],
        train: Sequence[Sequence[Text]],
        validation: Sequence[Text],
        batching: Batching,
        checkpoint_seconds: float,
        on_progress: Callable[[float, str], None] | None,
        still_wanted: Callable[[], None] | None,
    ) -> None:
        self.steps, self.train_texts, self.validation_texts = steps, train, validation
        self.batching, self.on_progress, self.still_wanted = batching, on_progress, still_wanted
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=steps,
            eval_dataset=validation,
            callbacks=[_FiniteGradients(), _Checkpoints(checkpoint_seconds)],
        )
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The steps in their planned order, each made into tensors when it is due; the same in every
        process, so accelerate, which would deal them out, is not asked."""
        return DataLoader(self.steps, batch_size=1, collate_fn=self._parts)  # type: ignore[arg-type]

    def _parts(self, steps: Sequence[Step]) -> list[LossBatch]:
        (step,) = steps
        return list(self._share([text for p in step.participants for text in self.train_texts[p]]))

    def _share(self, texts: Sequence[Text]) -> Iterator[LossBatch]:
        arguments = self.args
        return self.batching.share(texts, arguments.device, arguments.process_index, arguments.world_size)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Gradients of one whole step; its loss."""
        model.train()
        total = torch.zeros((), device=self.args.device)
        for number, part in enumerate(inputs, start=1):
            self._look_up()
            with self._gathered(model, number == len(inputs)):
                loss = self.compute_loss(model, part)
                # over several processes gradients are averaged, and their losses add up
                self.accelerator.backward(loss * self.args.world_size)
            total += loss.detach()
        total = self._summed(total)
        _finite(total.item(), "training loss", self.state.global_step + 1)
        return total

    @contextmanager
    def _gathered(self, model: Any, last: bool) -> Iterator[None]:
        """Gradients are exchanged between processes once a step, with its last micro-batch."""
        if last or self.args.world_size == 1:
            yield
        else:
            with self.accelerator.no_sync(model):
                yield

    def _summed(self, value: torch.Tensor) -> torch.Tensor:
        """Over all processes."""
        if self.args.world_size > 1:
            dist.all_reduce(value)
        return value

    def _look_up(self) -> None:
        if self.still_wanted:
            self.still_wanted()

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> torch.Tensor:
        """The weighted sum over the edges of one micro-batch."""
        return weighted_loss(model, inputs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The validation loss, normalised over the whole validation set."""
        self.model_wrapped.eval()
        total = 0.0
        with torch.no_grad():
            for part in self._share(self.validation_texts):
                self._look_up()
                total += self.compute_loss(self.model_wrapped, part).item()
        step = self.state.global_step
        summed = self._summed(torch.tensor(total, dtype=torch.float64, device=self.args.device))
        loss = _finite(summed.item(), "validation loss", step)
        metrics = {"eval_loss": loss}
        self.log(dict(metrics))
        if self.on_progress and self.is_world_process_zero():
            self.on_progress(step / len(self.steps), f"step {step}: validation loss {loss:.4f}")
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: Trainer's formula knows nothing of trees."""
        return 0


class _FiniteGradients(TrainerCallback):
    """Stops before a gradient that is no number reaches the weights."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        gradients = [p.grad for p in given["model"].parameters() if p.grad is not None]
        norm: Any = torch.nn.utils.get_total_norm(gradients)
        whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of weights in shards (FSDP)
        _finite(whole.item(), "gradient", state.global_step + 1)


class _Checkpoints(TrainerCallback):
    """Makes each checkpoint count once it is whole, removes older ones, and asks for one in between."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.written = seconds, time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.best_global_step:  # the folder may have been moved since that was written
            state.best_model_checkpoint = str(Path(args.output_dir) / f"checkpoint-{state.best_global_step}")

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        due = torch.tensor(time.monotonic() - self.written >= self.seconds, device=args.device)
        if args.world_size > 1:
            dist.broadcast(due, 0)  # a checkpoint is everybody's work
        control.should_save = control.should_save or bool(due)

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        everybody_here(args)  # each process wrote a part
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            prune(Path(args.output_dir))
        everybody_here(args)
        self.written = time.monotonic()


def everybody_here(arguments: Any) -> None:
    """Wait for all processes of this training."""
    if arguments.world_size > 1:
        dist.barrier()


def from_the_first(find: Callable[[], Path | None], arguments: Any) -> Path | None:
    """What the first process finds, in all of them."""
    found = [find() if arguments.process_index == 0 else None]
    if arguments.world_size > 1:
        dist.broadcast_object_list(found, 0)
    return found[0]


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
    work: Path,
    steps: int,
    evaluate_every: int,
    device: str,
    precision: str,
    paged: bool,
    seed: int,
) -> TrainingArguments:
    """The spec in Trainer's words. AdamW without weight decay; paged (bitsandbytes) if asked.

    Of several processes (torchrun, accelerate) Trainer learns from the environment.
    """
    schedule = training.schedule if training.schedule != "constant" else "constant_with_warmup"
    checkpointing = training.gradient_checkpointing
    return TrainingArguments(
        output_dir=str(work),
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
        activation_checkpointing=checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
        eval_strategy="steps",
        eval_steps=evaluate_every,
        eval_on_start=True,
        save_strategy="steps",
        save_steps=evaluate_every,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
