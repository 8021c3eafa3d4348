"""The exact distribution of answers against vLLM on a GPU, at Llama 2 7B's shapes.

    python benchmarks/answers_gpu.py [--quick]
    python benchmarks/answers_gpu.py --tiny-cpu      # evsim's side with tiny shapes, to see that it runs

Random weights in bf16 with an adapter that is trained here until the model answers with numbers; words made
up, of EV-shift's mean lengths (six questions a participant: 169 tokens shared, questions of 49 and 61). Needs
torch, transformers, peft and numpy, and vLLM for the comparison; no Dagster, survey or tokenizer. Without
vLLM only evsim's side is measured, and that is said.

**What to expect: exactness and free replicates, not a large factor.** vLLM with prefix caching reads a
participant's shared beginning once, too, and all temperatures of a prompt one after the other from its cache;
what remains to it is to write a few tokens for each draw. Reading prompts is most of the work at 7B, and that
is the same for both. evsim then has the distribution (no sampling error at all), where vLLM has one draw for
each temperature; `replicates` shows what a hundred draws cost each of them.

vLLM gets its best form: all prompts at all temperatures in one call, prefix caching on, tokens in and tokens
out, its cache emptied before every repeat. Its time is told without its start (loading, compiling, CUDA
graphs) and with it. Weights are the same for both, handed over as a folder. The two
cannot share a GPU's memory at leisure, so they run one after the other and not in turns.

First it is checked that distributions and samples differ by no more than samples do, beside 0.02 for bf16,
which the two round differently. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from answers import TEMPERATURES, Task, clocked, replicated, seconds
from answers import tokens_read as tokens_of
from answers_checks import as_humans, check_against_samples
from answers_contestants import NEW_TOKENS, Generate, Ours, Remembering, adapted
from training_contestants import Shape

from evsim_assets.prompts.chat import render
from evsim_assets.token_tree.losses import Text

SHARED, FIRST, LATER, QUESTIONS = 169, 49, 61, 6
LLAMA_7B = Shape(4096, 11_008, 32, 32, 32_000, spread=0.02, rank=64, device="cuda", dtype="bfloat16")
TINY = Shape(64, 192, 2, 4, 512, spread=0.2, rank=32)
FILLER, UNKNOWN, END, BLANK = range(4)
DIGIT = 4
WORD = 14
HEAPS = np.array([0, 5, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 100])
LEARNT = 2.0
"""Largest loss of a model that answers with numbers. One that does not has no distribution worth reading."""
ROUNDING = 0.02
"""Of bf16: what total variation may be beside that of sampling."""


def words_tokenizer(vocabulary: int) -> Any:
    """One token a digit, a blank, and words; what is written is read back letter by letter."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    texts = ["<filler>", "a", "</s>", " ", *"0123456789", *(f"w{i}" for i in range(vocabulary - WORD))]
    made = Tokenizer(models.WordLevel({text: i for i, text in enumerate(texts)}, unk_token="a"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.Fuse()
    chat = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    return Remembering(PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", chat_template=chat))


def asked(participants: int, vocabulary: int, seed: int) -> pd.DataFrame:
    """Prompts of made-up words, all with the same last word, as a template ends."""
    random = np.random.default_rng(seed)

    def words(count: int) -> str:
        return " ".join(f"w{i}" for i in random.integers(1, vocabulary - WORD, count))

    rows = []
    for participant in range(participants):
        shared = words(SHARED)
        for question in range(QUESTIONS):
            rows.append(
                {
                    "prompt_id": f"{participant}-{question}",
                    "participant": str(participant),
                    "question": "post" if question else "initial",
                    "system": shared,
                    "user": words((LATER if question else FIRST) - 1) + " w0",
                    "low": 0,
                    "high": 100,
                    "step": 1,
                    "labels": None,
                    "answer": int(random.choice(HEAPS)),
                }
            )
    return pd.DataFrame(rows)


def training_steps(tokenizer: Any, steps: int, participants: int, vocabulary: int) -> list[list[Text]]:
    """Each prompt with a blank, the digits of its answer, a blank and the end, as Llama 2 writes them."""
    table = asked(steps * participants, vocabulary, seed=1)
    texts = []
    for row in table.itertuples():
        digits = [DIGIT + int(digit) for digit in str(row.answer)]
        texts.append(Text(render(tokenizer, row.system, row.user)[0], [BLANK, *digits, BLANK, END]))
    size = participants * QUESTIONS
    return [texts[i : i + size] for i in range(0, len(texts), size)]


def make_task(shape: Shape, arguments: argparse.Namespace, result: dict[str, Any]) -> Task:
    tokenizer = words_tokenizer(shape.vocabulary)
    steps = training_steps(tokenizer, arguments.steps, arguments.participants_a_step, shape.vocabulary)
    weights, losses = adapted(steps, shape, arguments.rate)
    result["adapter"] = {"first_loss": round(losses[0], 3), "last_loss": round(losses[-1], 3)}
    print(f"adapter: {result['adapter']}")
    if losses[-1] > LEARNT:
        raise SystemExit(
            "the adapter did not learn to answer with numbers: give it another --rate, more --steps"
        )
    prompts = asked(arguments.participants, shape.vocabulary, seed=2)
    tokens = [render(tokenizer, row.system, row.user)[0] for row in prompts.itertuples()]
    return Task({name: one.cpu() for name, one in weights.items()}, tokenizer, prompts, tokens, shape)


def evsim_side(task: Task, arguments: argparse.Namespace, folder: Path | None) -> dict[str, Any]:
    """Seconds, tokens and memory; the model is written to `folder` for vLLM."""
    model = task.model()
    if folder is not None:
        model.save_pretrained(folder)
    found: dict[str, Any] = {}
    for reading in ("full", "audited"):
        _clear()
        ours = Ours(model, task.tokenizer, reading, batch_tokens=arguments.batch_tokens)
        distributions = ours.answer(task.prompts, TEMPERATURES[5])
        told = found[reading] = {"answers": as_humans(distributions)}
        if reading == "full":
            found["table"] = distributions
            told["samples"] = check_against_samples(
                task, distributions, Generate(model, 1), (0,), arguments.samples, ROUNDING
            )
        for count, temperatures in TEMPERATURES.items():
            works = [lambda o=ours, t=temperatures: o.answer(task.prompts, t)] * arguments.repeats
            took = [clocked(work) for work in works]
            told[f"at {count}"] = {name: round(one, 3) for name, one in seconds(took).items()}
        told["replicates at 5"] = replicated(ours, task, distributions, arguments.replicates)
        told["tokens_a_prompt"] = tokens_of(ours, task)
        if torch.cuda.is_available():
            told["peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
        print(f"evsim, {reading}: {told}")
    return found


class Vllm:
    """vLLM with prefix caching on the model in `folder`; its start is timed."""

    def __init__(self, folder: Path) -> None:
        from vllm import LLM

        started = time.perf_counter()
        self.engine = LLM(
            model=str(folder),
            skip_tokenizer_init=True,
            dtype="bfloat16",
            enable_prefix_caching=True,
            max_model_len=1024,
            generation_config="vllm",
            seed=0,
        )
        self.start = time.perf_counter() - started

    def answer(
        self, prompts: Sequence[Sequence[int]], temperatures: Sequence[float], count: int = 1
    ) -> list[list[int]]:
        """`count` texts of every prompt at every temperature: prompts, then temperatures, then draws."""
        from vllm import SamplingParams

        how = [
            SamplingParams(
                n=count if t else 1,  # greedy texts are all alike
                temperature=t,
                top_p=1.0,
                max_tokens=NEW_TOKENS,
                stop_token_ids=[END],
                detokenize=False,
            )
            for t in temperatures
        ]
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts for _ in temperatures]
        made = self.engine.generate(asked, how * len(prompts), use_tqdm=False)
        return [[token for token in text.token_ids if token != END] for one in made for text in one.outputs]

    def samples(self, prompt: Sequence[int], temperature: float, count: int) -> list[list[int]]:
        """`count` texts for one prompt."""
        return self.answer([prompt], [temperature], count)

    def forget(self) -> None:
        """Empty the cache of prefixes."""
        self.engine.reset_prefix_cache()


def vllm_side(task: Task, table: pd.DataFrame, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    vllm = Vllm(folder)
    found: dict[str, Any] = {"start_seconds": round(vllm.start, 1)}
    found["samples"] = check_against_samples(task, table, vllm, (0, 1), arguments.samples, ROUNDING)
    for count, temperatures in TEMPERATURES.items():
        took = []
        for _ in range(arguments.repeats):
            vllm.forget()
            took.append(clocked(lambda t=temperatures: vllm.answer(task.tokens, t)))
        found[f"at {count}"] = {name: round(one, 3) for name, one in seconds(took).items()}
    vllm.forget()
    many = clocked(lambda: vllm.answer(task.tokens, TEMPERATURES[5], arguments.replicates))
    found[f"{arguments.replicates} replicates at 5"] = round(many.wall, 3)
    print(f"vLLM: {found}")
    return found


def times_as_fast(result: dict[str, Any]) -> dict[str, Any]:
    """evsim over vLLM: without vLLM's start, and with it."""
    made: dict[str, Any] = {}
    theirs = result["vllm"]
    for reading in ("full", "audited"):
        ours = result[reading]
        for count in TEMPERATURES:
            one, other = ours[f"at {count}"]["fastest"], theirs[f"at {count}"]["fastest"]
            made[f"{reading} at {count}"] = {
                "start_excluded": round(other / one, 2),
                "start_included": round((other + theirs["start_seconds"]) / one, 2),
            }
        drawn = [key for key in theirs if "replicates" in key]
        for key in drawn:
            many = ours["at 5"]["fastest"] + ours["replicates at 5"][key.split()[0]]["seconds"]
            made[f"{reading}, {key}"] = {"start_excluded": round(theirs[key] / many, 2)}
    return made


def _clear() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def run(shape: Shape, arguments: argparse.Namespace) -> dict[str, Any]:
    name = "CPU, tiny shapes" if arguments.tiny_cpu else torch.cuda.get_device_name()
    result: dict[str, Any] = {"device": name, "prompts": arguments.participants * QUESTIONS}
    there = importlib.util.find_spec("vllm") is not None and not arguments.tiny_cpu
    if not there:
        why = "--tiny-cpu" if arguments.tiny_cpu else "vLLM is not installed (pip install vllm)"
        print(f"only evsim's side is measured: {why}")
    task = make_task(shape, arguments, result)
    with tempfile.TemporaryDirectory() as folder:
        found = evsim_side(task, arguments, Path(folder) if there else None)
        table = found.pop("table")
        result |= found
        _clear()
        if there:
            result["vllm"] = vllm_side(task, table, arguments, Path(folder))
            result["times_as_fast_as_vllm"] = times_as_fast(result)
            print(f"evsim is as many times as fast: {result['times_as_fast_as_vllm']}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few participants, once")
    parser.add_argument("--tiny-cpu", action="store_true", help="tiny shapes on a CPU, without vLLM")
    parser.add_argument("--participants", type=int, default=100, help="six prompts each (default: 100)")
    parser.add_argument("--steps", type=int, default=60, help="of the adapter's training")
    parser.add_argument("--participants-a-step", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate (default: 3e-4)")
    parser.add_argument("--batch-tokens", type=int, default=16_384, help="tree tokens at once")
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--samples", type=int, default=2000, help="for the check of the distributions")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.tiny_cpu:
        arguments.participants, arguments.participants_a_step = 2, 2
        arguments.rate, arguments.repeats, arguments.replicates, arguments.samples = 1e-2, 1, 10, 500
    elif not torch.cuda.is_available():
        raise SystemExit(
            "no CUDA GPU is at hand: torch.cuda.is_available() is False. Run this on a machine with an NVIDIA"
            " GPU, torch built for CUDA and vLLM, or with --tiny-cpu to see that evsim's side runs"
        )
    elif arguments.quick:
        arguments.participants, arguments.repeats = 20, 1
    # vLLM starts a process of its own, and CUDA is in use in this one
    os.environ.setdefault("VLLM_WORKER_MULTIPROCESSING_METHOD", "spawn")
    warnings.filterwarnings("ignore")
    print(json.dumps(run(TINY if arguments.tiny_cpu else LLAMA_7B, arguments)))


if __name__ == "__main__":
    main()
