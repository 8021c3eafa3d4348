"""The exact distribution of answers against transformers' `generate`, and against one bare prefill, on a CPU.

    pip install -e '.[benchmarks]'
    python benchmarks/answers.py [--quick] [--tokenizer FOLDER]

EV-shift's prompts in Llama 2's tokens (six a participant), a Llama of hidden 512, 8 layers (--layers) and
32,000 words, the shape known as `llama_60m` from GaLore's experiments, with random weights and an adapter
that is trained here on the answers of other participants until it answers with numbers, as they do: its
success rate and the entropy of its answers are printed. Float32, two threads, one process, in turns. Needs
Llama 2's `tokenizer.model`, which its licence keeps out of the repository: --tokenizer names its folder.

- *evsim, full* leaves at most 1e-6 of a prompt's distribution unread; *evsim, audited* takes numbers to end
  where no further digit could make an answer, and reads on for some prompts (`docs/answers.md`). Both at
  one temperature (1), at five (0, 0.25, … 1) and at eleven (0, 0.1, … 1).
- *generate* writes one text a prompt (8 new tokens, the whole vocabulary, stopping where all of a batch have
  ended), once for every temperature, greedily at 0; prompts sorted by length, the fastest of several batch
  sizes. It ends with one draw a prompt, and evsim with the distribution.
- *one bare prefill* is a forward pass over the same token trees with logits at the prompts' ends, and nothing
  else: of the model as it is, and of one whose last layer computes only what is read, which is evsim's own
  saving. The trees are made before its clock starts; evsim makes them within.

Prompts are tokenized, and the vocabulary classified, before the clock starts, for all alike.

First it is checked that the answers are right, and the benchmark ends where they are not: the
distributions and many samples of `generate` may differ by no more than such samples do (total variation; a
false alarm in a million), and audited and full by no more than the audit allows. Peak memory is
the largest resident set (VmHWM) of a process of its own that answers with one contestant only.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from answers_checks import as_humans, check_against_samples, check_audited
from answers_contestants import RATE, Generate, Ours, Remembering, adapted, model_of, prefill
from answers_profile import print_profile, where_time_goes
from training_contestants import SEED, Shape, Took
from training_texts import QUESTIONS, TOKENIZER, llama2_tokenizer, prompts_of_ev_shift

from evsim_assets.prompts.chat import render
from evsim_assets.simulation.asked import asked_prompts
from evsim_assets.simulation.audit import AuditFound
from evsim_assets.simulation.generations import generations
from evsim_assets.specs.study import Audit
from evsim_assets.token_tree.growth import Growth
from evsim_assets.token_tree.losses import Text
from evsim_assets.token_tree.tree import build_tree

TEMPERATURES = {
    1: (1.0,),
    5: (0.0, 0.25, 0.5, 0.75, 1.0),
    11: tuple(round(0.1 * i, 1) for i in range(11)),
}
PEOPLE, ANSWERS, ENDS = 110, 25, (8, 30, 80)
"""People whose prompts the adapter is trained on, answers to each in a step, and how much of a prompt is
seen at first."""
READINGS = ("full", "audited")
AS_IT_IS, NARROWED = "bare prefill", "bare prefill, last layer narrowed"
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Task:
    """What is answered by whom: the weights of the model, its prompts as a table and as tokens."""

    weights: dict[str, torch.Tensor]
    tokenizer: Any
    prompts: pd.DataFrame
    tokens: list[list[int]]
    shape: Shape

    def model(self) -> Any:
        return model_of(self.weights, self.shape, self.tokenizer.eos_token_id)


def participants(table: pd.DataFrame, split: str, count: int) -> list[pd.DataFrame]:
    """The prompts of the first `count` participants of the split that answered all questions."""
    people = (one for _, one in table[table["split"] == split].groupby("participant", sort=False))
    found = list(itertools.islice((one for one in people if len(one) == QUESTIONS), count))
    if len(found) < count:
        raise SystemExit(f"only {len(found)} of the {count} participants wanted are in the split {split}")
    return found


def training_steps(tokenizer: Any, table: pd.DataFrame, steps: int) -> list[list[Text]]:
    """The texts of each optimizer step: one participant's prompts, each with ANSWERS answers of anybody's.

    Two thirds of the steps see only the prompts' ends, which is faster: what they teach is to write a number
    and nothing else, as any fine-tuned model does.
    """
    people = participants(table, "train", PEOPLE)
    texts = [
        [Text(*render(tokenizer, row.system, row.user, row.target)) for row in one.itertuples()]
        for one in people
    ]
    answers = [text.answer for one in texts for text in one]
    random = np.random.default_rng(SEED)
    made = []
    for step in range(steps):
        tail = ENDS[step % len(ENDS)] if step < 2 * steps // 3 else 10**6
        made.append(
            [
                replace(text, prompt=text.prompt[-tail:], answer=answers[k])
                for text in texts[step % len(texts)]
                for k in random.integers(len(answers), size=ANSWERS)
            ]
        )
    return made


# --- How long they take


def clocked(work: Callable[[], Any]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def in_turns(works: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[Took]]:
    """What each took, `repeats` times. All have run before."""
    took: dict[str, list[Took]] = {name: [] for name in works}
    for repeat in range(repeats):
        # back and forth, so that a machine that grows slower or faster is as hard on all
        for name in works if repeat % 2 == 0 else reversed(works):
            took[name].append(clocked(works[name]))
    return took


def fastest_batch(
    model: Any, tokens: Sequence[Sequence[int]], sizes: Sequence[int]
) -> tuple[int, dict[int, float]]:
    """The number of prompts at once at which `generate` is fastest, and the prompts a second of each."""
    rates = {}
    for size in sizes:
        some = tokens[: max(2 * size, 24)]
        writer = Generate(model, size)
        writer.answer(some[:size], 1.0)
        rates[size] = round(len(some) / clocked(lambda w=writer, s=some: w.answer(s, 1.0)).wall, 2)
    return max(rates, key=rates.__getitem__), rates


def seconds(took: Sequence[Took]) -> dict[str, float]:
    walls = [one.wall for one in took]
    return {
        "fastest": min(walls),
        "median": statistics.median(walls),
        "cpu": min(one.cpu for one in took),
    }


def summed(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def over(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: round(one[name] / other[name], 2) for name in one}


def table_of(took: dict[str, list[Took]], readings: Sequence[str]) -> dict[str, Any]:
    """The issue's table: how many times as fast as `generate`, and how many prefills it costs."""
    of = {name: seconds(one) for name, one in took.items()}
    made: dict[str, Any] = {}
    for reading, count in itertools.product(readings, TEMPERATURES):
        ours = of[f"{reading} at {count}"]
        written = summed([of[f"generate at {t:g}"] for t in TEMPERATURES[count]])
        made[f"{reading} at {count}"] = {
            "seconds": round(ours["fastest"], 3),
            "times_as_fast_as_generate": over(written, ours),
            "of_a_bare_prefill": over(ours, of[AS_IT_IS]),
            "of_a_narrowed_prefill": over(ours, of[NARROWED]),
        }
    for reading in readings:
        at = {count: of[f"{reading} at {count}"] for count in TEMPERATURES}
        made[f"{reading}, growth with temperatures"] = {
            "from_1_to_5": over(at[5], at[1]),
            "from_5_to_11": over(at[11], at[5]),
        }
    return made


def replicated(ours: Ours, task: Task, found: pd.DataFrame, many: int) -> dict[str, Any]:
    """What generations at five temperatures cost on top of their distributions, once and `many` times."""
    made: dict[str, Any] = {}
    for replicates in (1, many):
        rows, decoded = 0, 0
        started = time.perf_counter()
        for temperature in TEMPERATURES[5]:
            table = generations(
                lambda: (ours.model, ours.tokenizer),
                task.prompts,
                found,
                temperature=temperature,
                decoding=ours.decoding,
                seed=0,
                digit_answers=False,
                replicates=replicates,
            )
            rows, decoded = rows + len(table), decoded + int((table["made_by"] != "distribution").sum())
        made[f"{replicates}"] = {
            "seconds": round(time.perf_counter() - started, 3),
            "rows": rows,
            "decoded": decoded,
        }
    return made


# --- What they take


@contextmanager
def passes_counted(model: Any) -> Iterator[Counter[str]]:
    """How many tokens go through the model: of trees, and of continuations."""
    count: Counter[str] = Counter()

    def seen(_model: Any, _given: Any, named: dict[str, Any]) -> None:
        kind = "continuations" if isinstance(named.get("tree"), Growth) else "tree"
        count[kind] += named["input_ids"].numel()

    hook = model.register_forward_pre_hook(seen, with_kwargs=True)
    try:
        yield count
    finally:
        hook.remove()


def tokens_read(ours: Ours, task: Task, counts: Sequence[int] = tuple(TEMPERATURES)) -> dict[str, float]:
    """Tokens that go through the model, a prompt, at so many temperatures."""
    read = {}
    for count in counts:
        with passes_counted(ours.model) as passed:
            ours.answer(task.prompts, TEMPERATURES[count])
        read[f"tree at {count}"] = round(passed["tree"] / len(task.tokens), 1)
        read[f"continuations at {count}"] = round(passed["continuations"] / len(task.tokens), 1)
    return read


def peak_memory(name: str, at_once: int, tolerance: float, task: Task, threads: int) -> dict[str, float]:
    """MiB of a process that answers with this contestant only: at its peak, and of that, since its model was
    there."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "task.pickle"
        file.write_bytes(pickle.dumps((name, at_once, tolerance, task)))
        command = [sys.executable, __file__, "--memory-of", str(file), "--threads", str(threads)]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(f"{name} failed in a process of its own:\n{said.stderr}")
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def report_memory(file: Path) -> None:
    """What the child of `peak_memory` does."""
    name, at_once, tolerance, task = pickle.loads(file.read_bytes())
    model = task.model()
    if name == "generate":
        work = lambda: Generate(model, at_once).answer(task.tokens, 1.0)  # noqa: E731
    elif name in READINGS:
        ours = Ours(model, task.tokenizer, name, tolerance)
        work = lambda: ours.answer(task.prompts, TEMPERATURES[11])  # noqa: E731
    else:
        work = prefill(model, task.tokenizer, task.prompts, narrowed=name == NARROWED).read
    before = _status("VmRSS")
    work()
    peak = _status("VmHWM")
    print(json.dumps({"peak_mib": round(peak), "answering_mib": round(peak - before)}))


def _status(field: str) -> float:
    """MiB of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024


# --- All of it


def train(tokenizer: Any, table: pd.DataFrame, arguments: argparse.Namespace) -> tuple[Any, dict[str, float]]:
    """The weights with the trained adapter, and what the training was."""
    started = time.perf_counter()
    steps = training_steps(tokenizer, table, arguments.steps)
    weights, losses = adapted(steps, Shape(layers=arguments.layers), arguments.rate)
    return weights, {
        "steps": len(losses),
        "texts": sum(map(len, steps)),
        "seconds": round(time.perf_counter() - started, 1),
        "first_loss": round(losses[0], 3),
        "last_losses": round(statistics.mean(losses[-8:]), 3),
    }


def make_task(arguments: argparse.Namespace, result: dict[str, Any]) -> Task:
    """Train the adapter, and ask test participants."""
    tokenizer = Remembering(llama2_tokenizer(arguments.tokenizer))
    table = prompts_of_ev_shift()
    kept: Path | None = arguments.adapter
    if kept is not None and kept.is_file():
        weights, result["adapter"] = torch.load(kept, weights_only=True)
    else:
        weights, result["adapter"] = train(tokenizer, table, arguments)
        if kept is not None:
            torch.save((weights, result["adapter"]), kept)
    print(f"adapter: {result['adapter']}")
    prompts = pd.concat(participants(table, "test", arguments.participants), ignore_index=True)
    asked = asked_prompts(tokenizer, prompts, digit_answers=False)
    tokens = [asked.tokens[number] for number in asked.of_row]
    result["prompts"] = {
        "prompts": len(prompts),
        "different": len(asked.tokens),
        "tokens_a_prompt": round(statistics.mean(map(len, tokens)), 1),
        "tree_tokens_a_prompt": round(len(build_tree(tokens)[0]) / len(tokens), 1),
    }
    print(f"prompts: {result['prompts']}")
    return Task(weights, tokenizer, prompts, tokens, Shape(layers=arguments.layers))


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    quick, repeats = arguments.quick, arguments.repeats or (1 if arguments.quick else 3)
    readings = arguments.readings
    result: dict[str, Any] = {"threads": arguments.threads}
    task = make_task(arguments, result)
    model = task.model()
    audit = Audit(at_least=1) if quick else Audit()  # or all of few prompts would be read in full
    ours = {r: Ours(model, task.tokenizer, r, arguments.tolerance, audit=audit) for r in readings}
    plain = task.model()

    audits: list[AuditFound] = []
    distributions = {r: one.answer(task.prompts, TEMPERATURES[5], audits.append) for r, one in ours.items()}
    for found in audits:
        result["audit"] = {
            "prompts": found.prompts,
            "largest": float(found.largest.max()),
            "all_in_full": found.all_in_full,
        }
        print(f"the audit: {result['audit']}")
        if found.all_in_full:
            print(
                "so `audited` reads everything in full, and its figures are not those of an audited reading"
            )
    first = distributions[readings[0]]
    result["answers"] = as_humans(first)
    print(f"answers by temperature: {result['answers']}")
    result["largest_unexpanded"] = {r: float(one["unexpanded"].max()) for r, one in distributions.items()}
    chosen = range(0, len(task.prompts), max(1, len(task.prompts) // (1 if quick else 4)))
    result["samples"] = check_against_samples(
        task, first, Generate(plain, 1), chosen[: 1 if quick else 4], 500 if quick else 2000
    )
    print(f"against samples of generate: {result['samples']}")
    if len(readings) > 1:
        result["audited_from_full"] = check_audited(distributions["full"], distributions["audited"])
        print(f"audited and full differ by at most {result['audited_from_full']:.2g}")

    sizes = [s for s in ((8, 24) if quick else (6, 12, 24, 48, 96)) if s <= len(task.tokens)]
    at_once, result["prompts_a_second_of_generate"] = fastest_batch(plain, task.tokens, sizes)
    print(f"generate: {at_once} at once is fastest of {result['prompts_a_second_of_generate']}")
    writer = Generate(plain, at_once)
    bare = {
        name: prefill(task.model(), task.tokenizer, task.prompts, narrowed=name == NARROWED)
        for name in (AS_IT_IS, NARROWED)
    }
    for one in bare.values():
        one.read()
    works: dict[str, Callable[[], Any]] = {name: one.read for name, one in bare.items()}
    for reading, (count, temperatures) in itertools.product(readings, TEMPERATURES.items()):
        works[f"{reading} at {count}"] = lambda r=reading, t=temperatures: ours[r].answer(task.prompts, t)
    for t in sorted(set(itertools.chain(*TEMPERATURES.values()))):
        works[f"generate at {t:g}"] = lambda t=t: writer.answer(task.tokens, t)
    took = in_turns(works, repeats)
    result["seconds"] = {n: {k: round(v, 3) for k, v in seconds(one).items()} for n, one in took.items()}
    result["table"] = table_of(took, readings)
    print_table(result["table"], result["seconds"])

    counts = (5,) if quick else tuple(TEMPERATURES)
    result["tokens_a_prompt"] = {reading: tokens_read(one, task, counts) for reading, one in ours.items()}
    print(f"tokens through the model, a prompt: {result['tokens_a_prompt']}")
    made = replicated(ours[readings[-1]], task, distributions[readings[-1]], 10 if quick else 100)
    answering = result["seconds"][f"{readings[-1]} at 5"]["fastest"]
    costs = [answering + one["seconds"] for one in made.values()]
    result["replicates"] = made | {"growth": round(costs[1] / costs[0], 2)}
    print(f"generations at five temperatures: {result['replicates']}")
    names = (readings[-1], "generate") if quick else (*readings, AS_IT_IS, NARROWED, "generate")
    result["memory"] = {
        name: peak_memory(name, at_once, arguments.tolerance, task, arguments.threads) for name in names
    }
    print(f"memory: {result['memory']}")
    result["profile"] = {}
    for reading in readings[-1:] if quick else readings:
        profile = where_time_goes(ours[reading], task.prompts, TEMPERATURES[5])
        result["profile"][reading] = profile
        print_profile(reading, profile)
    return result


def print_table(made: dict[str, Any], of: dict[str, Any]) -> None:
    print(
        f"\n{'seconds':>9}{'generate':>10}{'prefill':>9}{'narrowed':>10}  (fastest; times, and of a prefill)"
    )
    for name, row in made.items():
        if "seconds" in row:
            ratios = (
                row["times_as_fast_as_generate"],
                row["of_a_bare_prefill"],
                row["of_a_narrowed_prefill"],
            )
            told = [one["fastest"] for one in ratios]
            print(f"{row['seconds']:>9.2f}{told[0]:>9.2f}x{told[1]:>9.2f}{told[2]:>10.2f}  {name}")
        else:
            print(f"{name}: {row}")
    for name in (AS_IT_IS, NARROWED):
        print(f"{of[name]['fastest']:>9.2f}  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few participants, a short training, once")
    parser.add_argument(
        "--tokenizer", type=Path, default=TOKENIZER, help="folder with Llama 2's tokenizer.model"
    )
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="default: two cores")
    parser.add_argument("--participants", type=int, help="asked, six prompts each (default: 60; 2)")
    parser.add_argument("--layers", type=int, default=8, help="of the model (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of the adapter's training (default: 600; 90)")
    parser.add_argument("--rate", type=float, default=RATE, help="its learning rate (default: %(default)s)")
    parser.add_argument("--adapter", type=Path, help="file that keeps what was trained for the next run")
    parser.add_argument("--repeats", type=int, help="default: 3, with --quick 1")
    parser.add_argument(
        "--tolerance", type=float, help="largest mass left unread (default: 1e-6, with --quick 1e-4)"
    )
    parser.add_argument("--readings", nargs="+", choices=READINGS, default=list(READINGS))
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.participants = arguments.participants or (2 if arguments.quick else 60)
    arguments.steps = arguments.steps or (90 if arguments.quick else 600)
    arguments.tolerance = arguments.tolerance or (1e-4 if arguments.quick else 1e-6)
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    if arguments.memory_of:
        report_memory(arguments.memory_of)
        return
    print(json.dumps(run(arguments)))


if __name__ == "__main__":
    main()
