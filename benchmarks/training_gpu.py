"""Fine-tuning on the token tree against transformers' Trainer and TRL on a GPU, at Llama 2 7B's shapes.

    python benchmarks/training_gpu.py [--quick] [--weights bf16 nf4]
    python benchmarks/training_gpu.py --tiny-cpu      # the same code with tiny shapes, to see that it runs

Random weights, LoRA on all linear layers, random tokens of EV-shift's mean lengths (six questions a
participant: 169 tokens shared, questions of 49 and 61, answers of 5), loss on the answer. Needs torch,
transformers, peft, bitsandbytes and numpy, and no Dagster, survey or tokenizer; TRL takes part if installed.

First the tree's loss and gradients are compared with the padded batch's: a small model in float32 (1e-4, the
order of sums differs) and in bf16 (2e-2). Then every contestant trains, one at a time, in turns, on
the same steps; its step is from the end of the step before. `tokens_a_second` counts what the texts hold
written out one by one, for all contestants alike. `share_of_peak` is the multiplications that a contestant
cannot do without for the tokens that it passes, padding left out, over the rate of one large matrix product
measured here: for the tree, of the tree's tokens. Peak memory is what torch allocated on the GPU.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from training_contestants import (
    HF,
    OURS,
    TRL_OPTIONS,
    TRL_TUNED,
    Contestant,
    Shape,
    losses,
    make_model,
    make_trainer,
    steps_taken,
)

from evsim_assets.token_tree.layout import prepare
from evsim_assets.token_tree.losses import Text, loss_batches, weighted_loss
from evsim_assets.token_tree.tree import build_tree

SHARED, FIRST, LATER, ANSWER, QUESTIONS = 169, 49, 61, 5, 6
LLAMA_7B = Shape(4096, 11_008, 32, 32, 32_000, spread=0.02, rank=64, device="cuda", dtype="bfloat16")
TINY = Shape(64, 192, 2, 4, 512, rank=8, dtype="bfloat16")
SMALL = Shape(256, 704, 3, 4, 2_000, rank=8)
EQUAL = {"float32": 1e-4, "bfloat16": 2e-2}
MIB = 2**20


def random_steps(steps: int, participants: int, vocabulary: int) -> list[list[Text]]:
    """The texts of each step; the same for the same arguments."""
    random = np.random.default_rng(0)

    def tokens(count: int) -> list[int]:
        drawn: list[int] = random.integers(3, vocabulary, count).tolist()
        return drawn

    made: list[list[Text]] = []
    for _ in range(steps):
        made.append([])
        for _ in range(participants):
            shared = tokens(SHARED)
            for i in range(QUESTIONS):
                made[-1].append(Text([*shared, *tokens(LATER if i else FIRST)], tokens(ANSWER)))
    return made


def parity(shape: Shape) -> dict[str, float]:
    """How far the tree is from the padded batch, of the padded: the loss, and all adapter gradients."""
    texts = random_steps(1, 2, shape.vocabulary)[0]
    found: dict[str, tuple[float, torch.Tensor]] = {}
    for layout in ("tree", "padded"):
        model = make_model(shape)
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # zeros would leave no gradient to the others
                torch.nn.init.normal_(
                    weight, std=0.05, generator=torch.Generator(weight.device).manual_seed(1)
                )
        if layout == "tree" and (able := prepare(model)) != "tree":
            raise SystemExit(f"the model does not take token trees here, only {able} texts")
        total = 0.0
        for part in loss_batches(
            texts, loss_on="answer", alpha=0.0, max_tokens=10**6, layout=layout, device=shape.device
        ):
            loss = weighted_loss(model, part)
            loss.backward()
            total += loss.item()
        gradients = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
        found[layout] = total, torch.cat(gradients)
    (tree_loss, tree), (loss, plain) = found["tree"], found["padded"]
    apart = {
        "loss": abs(tree_loss - loss) / abs(loss),
        "gradients": float((tree - plain).norm() / plain.norm()),
    }
    # rounding to bf16 in every layer moves a gradient further than the loss
    if apart["loss"] > EQUAL[shape.dtype] or apart["gradients"] > 5 * EQUAL[shape.dtype]:
        raise SystemExit(f"tree and padded batch differ in {shape.dtype}: {apart}")
    return apart


def candidates(texts: int, tree_tokens: Sequence[int], quick: bool) -> list[Contestant]:
    """The settings tried. Whole steps and parts of them, as memory may not do for a whole one."""
    sizes = [texts] if quick else [size for size in (texts, texts // 2, texts // 4) if texts % size == 0]
    tried = [replace(OURS, at_once=tokens) for tokens in tree_tokens[: 1 if quick else None]]
    tried += [replace(HF, at_once=size) for size in sizes]
    if importlib.util.find_spec("trl"):
        flash = importlib.util.find_spec("flash_attn") is not None
        for size in sizes:
            tried += [replace(TRL_OPTIONS, at_once=size), replace(TRL_TUNED, at_once=size)]
            if flash:
                attention: Any = "flash_attention_2"
                free = replace(TRL_OPTIONS, layout="padding_free", at_once=size, attention=attention)
                tried += [free, replace(free, name=TRL_TUNED.name, head="targets")]
        if not flash:
            # without flash-attn rows that are packed pay for a mask over the whole row, so small ones only
            tried += [replace(c, layout="padding_free", at_once=QUESTIONS) for c in (TRL_OPTIONS, TRL_TUNED)]
    return tried


def measured(contestant: Contestant, steps: list[list[Text]], shape: Shape) -> dict[str, Any] | None:
    """Seconds of the steps after the first, MiB at the peak; None where memory does not do."""
    _clear()
    trainer = None
    try:
        trainer = make_trainer(contestant, steps, shape)
        seconds = [took.wall for took in steps_taken(trainer)][1:]
    except torch.OutOfMemoryError:
        return None
    finally:
        del trainer
        peak = torch.cuda.max_memory_allocated() / MIB if shape.device == "cuda" else 0.0
        _clear()
    return {"seconds": seconds, "peak_mib": round(peak)}


def _clear() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def first_losses(
    contestants: Sequence[Contestant], steps: list[list[Text]], shape: Shape
) -> dict[str, float]:
    """The loss of the first step. Ends the benchmark where they differ."""
    found = {}
    for contestant in contestants:
        _clear()
        found[contestant.name] = losses(make_trainer(contestant, steps[:1], shape, log=True))[0]
    values = list(found.values())
    if max(values) - min(values) > EQUAL[shape.dtype] * abs(values[0]):
        raise SystemExit(f"the contestants do not have the same loss: {found}")
    return found


def gflop_a_step(contestant: Contestant, texts: Sequence[Text], shape: Shape) -> float:
    """Multiplications and additions of one step's matrix products, attention left out.

    A frozen layer takes 2 a weight and token forward and 2 backward, LoRA's two take 6. The head is
    counted at the answers' tokens alone, for everybody.
    """
    read = sum(text.targets("answer") for text in texts)
    tokens = sum(len(text.tokens) for text in texts)
    if contestant.kind == "ours":
        tokens = len(build_tree([text.tokens for text in texts])[0])
    layer = 4 * shape.hidden**2 + 3 * shape.hidden * shape.intermediate
    adapter = shape.rank * (8 * shape.hidden + 3 * (shape.hidden + shape.intermediate))
    body = tokens * shape.layers * (4 * layer + 6 * adapter)
    return (body + 4 * read * shape.hidden * shape.vocabulary) / 1e9


def matmul_gflops(shape: Shape) -> float:
    """The rate of one large matrix product here, in the model's precision."""
    size = 8192 if shape.device == "cuda" else 512
    one, other = (
        torch.randn(size, size, device=shape.device, dtype=getattr(torch, shape.dtype)) for _ in range(2)
    )
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        one @ other
        if shape.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e9


def compare(shape: Shape, arguments: argparse.Namespace) -> dict[str, Any]:
    """All contestants at that shape; of each name its fastest setting."""
    steps = random_steps(arguments.steps + 1, arguments.participants, shape.vocabulary)
    texts = len(steps[0])
    peak = matmul_gflops(shape)
    tried = candidates(texts, (16_384, 8_192, 4_096), arguments.quick)
    result: dict[str, Any] = {"matmul_tflops": round(peak / 1e3, 2)}
    result["first_loss"] = first_losses(
        list({c.name: replace(c, at_once=_small(c)) for c in tried}.values()), steps, shape
    )
    seen: dict[Contestant, dict[str, Any]] = {}
    for repeat in range(arguments.repeats):
        for c in tried if repeat % 2 == 0 else reversed(tried):
            one = measured(c, steps, shape)
            if one is None:
                print(f"{c.name} ({c.setting}): out of memory")
                continue
            before = seen.setdefault(c, {"seconds": [], "peak_mib": 0})
            before["seconds"] += one["seconds"]
            before["peak_mib"] = max(before["peak_mib"], one["peak_mib"])
    print(f"{'participants/s':>15}{'tokens/s':>10}{'of peak':>9}{'MiB':>8}  contestant")
    written = sum(len(text.tokens) for text in steps[0])
    for c, one in seen.items():
        fastest = min(one["seconds"])
        row = {
            "setting": c.setting,
            "participants_a_second": round(arguments.participants / fastest, 3),
            "participants_a_second_median": round(
                arguments.participants / statistics.median(one["seconds"]), 3
            ),
            "tokens_a_second": round(written / fastest),
            "share_of_peak": round(gflop_a_step(c, steps[0], shape) / fastest / peak, 3),
            "peak_mib": one["peak_mib"],
        }
        print(
            f"{row['participants_a_second']:>15.3f}{row['tokens_a_second']:>10}"
            f"{100 * row['share_of_peak']:>8.1f}%{row['peak_mib']:>8}  {c.name} ({c.setting})"
        )
        best = result.get(c.name)
        if best is None or row["participants_a_second"] > best["participants_a_second"]:
            result[c.name] = row
    result["ratios"] = {
        name: round(result[OURS.name]["participants_a_second"] / result[name]["participants_a_second"], 2)
        for name in (HF.name, TRL_OPTIONS.name, TRL_TUNED.name)
        if name in result and OURS.name in result
    }
    print(f"evsim is as many times as fast: {result['ratios']}")
    return result


def _small(contestant: Contestant) -> int:
    """What surely fits at once: one participant."""
    return contestant.at_once if contestant.kind == "ours" else QUESTIONS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one setting each, two steps, once")
    parser.add_argument("--tiny-cpu", action="store_true", help="tiny shapes on a CPU, to see that it runs")
    parser.add_argument("--weights", nargs="+", choices=["bf16", "nf4"], default=["bf16", "nf4"])
    parser.add_argument("--participants", type=int, default=16, help="a step; six texts each (default: 16)")
    parser.add_argument("--steps", type=int, default=4, help="timed, after one that is not")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.tiny_cpu:
        arguments.participants, arguments.quick = min(2, arguments.participants), True
    elif not torch.cuda.is_available():
        raise SystemExit(
            "no CUDA GPU is at hand: torch.cuda.is_available() is False. Run this on a machine with an NVIDIA"
            " GPU and torch built for CUDA, or with --tiny-cpu to see that the code runs"
        )
    if arguments.quick:
        arguments.steps, arguments.repeats = 2, 1
    warnings.filterwarnings("ignore")
    shape = TINY if arguments.tiny_cpu else LLAMA_7B
    small = replace(TINY if arguments.tiny_cpu else SMALL, device=shape.device)
    name = "CPU, tiny shapes" if arguments.tiny_cpu else torch.cuda.get_device_name()
    result: dict[str, Any] = {"device": name, "trl": importlib.util.find_spec("trl") is not None}
    result["parity"] = {dtype: parity(replace(small, dtype=dtype)) for dtype in ("float32", "bfloat16")}
    print(f"tree against padded batch on {name}: {result['parity']}")
    for weights in arguments.weights:
        print(f"\nweights in {weights}")
        result[weights] = compare(replace(shape, weights="nf4" if weights == "nf4" else "plain"), arguments)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
