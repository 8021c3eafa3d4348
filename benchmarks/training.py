"""Fine-tuning on the token tree against transformers' Trainer and TRL's SFTTrainer, on a CPU.

    pip install -e '.[benchmarks]'
    python benchmarks/training.py [--quick] [--tokenizer FOLDER]

The same model (Llama architecture, random weights, LoRA on all linear layers, float32), the same texts
(EV-shift's prompts in Llama 2's tokens), the same loss, the same optimizer steps (three participants,
18 texts), in one process, in turns. Needs Llama 2's `tokenizer.model`, which its licence keeps out of the
repository: --tokenizer names its folder.

- *TRL as it comes*: SFTTrainer's defaults (padded batches, loss on the text, gradient checkpointing) but
  for float32 and the batch.
- *TRL tuned by its options*: the fastest of padded, padding-free and packed rows of several sizes, loss on
  the answer, no checkpointing. On a CPU TRL 1.16 computes the logits of every token all the same, and each
  one's entropy.
- *TRL tuned, loss overridden*: the same with `compute_loss` overridden so that the head sees only tokens
  with a label. TRL as fast as one can make it; the ratio "tuned" is to this one.

evsim takes part with its default micro-batch (a whole step) and with one of a participant or so, which needs
less memory.

First each loss of the first steps is compared: no contestant may differ by more than 1e-4. A step's time
is from the end of the step before, its batch included, the first of every repeat left out. `nothing_shared`
has one text a participant, no two with a common beginning. `stated_lengths` has the same texts at the mean
lengths stated for EV-shift (169 tokens shared, questions of 49 and 61). Peak memory is the largest
resident set (VmHWM) of a process of its own that trains with one contestant only.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from training_contestants import (
    HF,
    OURS,
    OURS_SMALL,
    OURS_TEXT,
    TRL,
    TRL_OPTIONS,
    TRL_TUNED,
    Contestant,
    Shape,
    Took,
    losses,
    make_trainer,
    steps_taken,
    texts_of_steps,
)
from training_profile import print_profile, where_time_goes
from training_texts import (
    QUESTIONS,
    TOKENIZER,
    Participant,
    at_stated_lengths,
    lengths,
    llama2_tokenizer,
    participants_of_ev_shift,
    unlike,
)

EQUAL = 1e-4
PARTICIPANTS_A_STEP = 3
Steps = list[list[Any]]


def in_steps(participants: Sequence[Participant], a_step: int) -> Steps:
    """The texts of each optimizer step: those of `a_step` participants."""
    whole = len(participants) // a_step
    return [
        [text for texts in participants[i * a_step : (i + 1) * a_step] for text in texts]
        for i in range(whole)
    ]


def check_equal_losses(contestants: Sequence[Contestant], steps: Steps) -> dict[str, list[float]]:
    """Losses of the first steps by contestant. Ends the benchmark where two with the same loss differ."""
    found = {c.name: losses(make_trainer(c, steps, Shape(), log=True)) for c in contestants}
    for loss_on in ("answer", "text"):
        same = [c.name for c in contestants if c.loss_on == loss_on]
        for name in same[1:]:
            for one, other in zip(found[same[0]], found[name], strict=True):
                if not abs(one - other) <= EQUAL * abs(one):
                    raise SystemExit(f"{same[0]} has a loss of {one} where {name} has {other}")
    return found


def candidates(texts: int, quick: bool) -> dict[str, list[Contestant]]:
    """The settings tried of each that can be tuned; the fastest takes part."""
    sizes = [size for size in (1, 2, 3, 6, 9, 18) if texts % size == 0]
    whole = replace(HF, at_once=texts), replace(TRL, at_once=texts // 2)
    overridden = [replace(TRL_TUNED, at_once=size) for size in sizes if size > 2]
    overridden += [replace(TRL_TUNED, layout="padding_free", at_once=size) for size in sizes if size < 9]
    overridden += [replace(TRL_TUNED, layout="packed", at_once=size) for size in sizes if size in (3, 6)]
    overridden += [replace(TRL_TUNED, at_once=6, attention="eager")]
    if quick:
        overridden = [c for c in overridden if (c.layout, c.at_once) in {("padding_free", 2), ("padded", 6)}]
        return {
            HF.name: [whole[0]],
            TRL.name: [whole[1]],
            TRL_TUNED.name: [c for c in overridden if c.attention == "sdpa"],
        }
    return {
        HF.name: [replace(HF, at_once=size) for size in sizes if size > 2],
        TRL.name: [replace(TRL, at_once=size) for size in sizes if size > 2],
        TRL_OPTIONS.name: [
            replace(TRL_OPTIONS, layout="padded", at_once=6),
            replace(TRL_OPTIONS, layout="padded", at_once=texts),
            replace(TRL_OPTIONS, layout="padding_free", at_once=2),
            replace(TRL_OPTIONS, layout="packed", at_once=3),
        ],
        TRL_TUNED.name: overridden,
    }


def fastest_of(tried: Sequence[Contestant], steps: Steps) -> tuple[Contestant, dict[str, float]]:
    """The one with the shortest step, and the seconds of each."""
    if len(tried) == 1:
        return tried[0], {}
    seconds = {c: min(step.wall for step in timed(c, steps, 1)[c.name]) for c in tried}
    return min(tried, key=seconds.__getitem__), {c.setting: round(seconds[c], 3) for c in tried}


def timed(
    contestants: Contestant | Sequence[Contestant], steps: Steps, repeats: int
) -> dict[str, list[Took]]:
    """What the steps took, warm-up left out, as if each had the texts of the first; in turns."""
    contestants = [contestants] if isinstance(contestants, Contestant) else contestants
    trainers = {c: make_trainer(c, steps, Shape()) for c in contestants}
    took: dict[str, list[Took]] = {c.name: [] for c in contestants}
    for repeat in range(repeats):
        # back and forth, so that a machine that grows slower or faster is as hard on all
        for c in list(trainers) if repeat % 2 == 0 else reversed(list(trainers)):
            texts = texts_of_steps(trainers[c], c, steps)
            made = list(zip(steps_taken(trainers[c]), texts, strict=True))[1:]
            scale = len(steps[0])
            took[c.name] += [Took(one.wall * scale / n, one.cpu * scale / n) for one, n in made]
    return took


def figures(took: dict[str, list[Took]], a_step: int) -> dict[str, dict[str, float]]:
    """Of each contestant: participants a second by its fastest and by its median step."""
    made = {}
    for name, steps in took.items():
        walls = [step.wall for step in steps]
        made[name] = {
            "participants_a_second": round(a_step / min(walls), 3),
            "participants_a_second_median": round(a_step / statistics.median(walls), 3),
            "cpu_seconds_a_participant": round(min(step.cpu for step in steps) / a_step, 4),
            "steps": len(walls),
        }
    return made


def ratios(found: dict[str, dict[str, float]], ours: str, other: str) -> dict[str, float]:
    """How many times as fast as the other: fastest steps, median steps, and seconds of all cores."""
    one, peer = found[ours], found[other]
    return {
        "fastest": round(one["participants_a_second"] / peer["participants_a_second"], 2),
        "median": round(one["participants_a_second_median"] / peer["participants_a_second_median"], 2),
        "cpu": round(peer["cpu_seconds_a_participant"] / one["cpu_seconds_a_participant"], 2),
    }


def peak_memory(contestant: Contestant, steps: Steps, threads: int) -> dict[str, float]:
    """MiB of a process that trains with this contestant only: at its peak, and of that, since training
    began."""
    with tempfile.TemporaryDirectory() as name:
        task = Path(name) / "task.pickle"
        task.write_bytes(pickle.dumps((asdict(contestant), steps)))
        command = [sys.executable, __file__, "--memory-of", str(task), "--threads", str(threads)]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(f"{contestant.name} failed in a process of its own:\n{said.stderr}")
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def report_memory(task: Path) -> None:
    """What the child of `peak_memory` does."""
    told, steps = pickle.loads(task.read_bytes())
    trainer = make_trainer(Contestant(**told), steps, Shape())
    before = _status("VmRSS")
    steps_taken(trainer)
    peak = _status("VmHWM")
    print(json.dumps({"peak_mib": round(peak), "training_mib": round(peak - before)}))


def _status(field: str) -> float:
    """MiB of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def print_table(title: str, found: dict[str, dict[str, float]], settings: dict[str, str]) -> None:
    print(f"\n{title}\n{'participants/s':>15}{'median':>9}{'peak MiB':>10}  contestant")
    for name, one in found.items():
        print(
            f"{one['participants_a_second']:>15.3f}{one['participants_a_second_median']:>9.3f}"
            f"{one.get('peak_mib', ''):>10}  {name} ({settings[name]})"
        )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    quick, repeats = arguments.quick, arguments.repeats or (1 if arguments.quick else 5)
    a_step = 2 if quick else PARTICIPANTS_A_STEP
    n_steps = 1 + (1 if quick else 3)
    people = participants_of_ev_shift(
        llama2_tokenizer(arguments.tokenizer), max(60, a_step * n_steps * QUESTIONS)
    )
    steps = in_steps(people[: a_step * n_steps], a_step)
    result: dict[str, Any] = {"threads": arguments.threads, "lengths": lengths(people)}
    print(f"EV-shift's prompts, means a participant: {result['lengths']}")

    texts = a_step * QUESTIONS
    small = [step[:QUESTIONS] for step in steps[: 1 if quick else 2]]
    whole = [replace(c, at_once=QUESTIONS) for c in (HF, TRL_OPTIONS, TRL_TUNED, TRL)]
    result["losses"] = check_equal_losses([OURS, OURS_TEXT, *whole], small)
    print(f"losses of the first steps: {result['losses']}")

    chosen: dict[str, Contestant] = {c.name: c for c in (OURS, OURS_SMALL, OURS_TEXT)}
    result["tried"] = {}
    for name, tried in candidates(texts, quick).items():
        chosen[name], result["tried"][name] = fastest_of(tried, steps[:2] if quick else steps[:3])
        print(f"{name}: {chosen[name].setting}  {result['tried'][name]}")
    settings = {name: c.setting for name, c in chosen.items()}
    result["settings"] = settings

    shared = figures(timed(list(chosen.values()), steps, repeats), a_step)
    remembered = (OURS_SMALL.name, TRL_TUNED.name) if quick else tuple(chosen)
    for name in remembered:
        shared[name] |= peak_memory(chosen[name], steps[:2], arguments.threads)
    print_table("EV-shift", shared, settings)
    result["ev_shift"] = shared
    result["ratios"] = {"hf": ratios(shared, OURS.name, HF.name)}
    result["ratios"]["as_it_comes"] = ratios(shared, OURS_TEXT.name, TRL.name)
    if TRL_OPTIONS.name in shared:
        result["ratios"]["tuned_by_options"] = ratios(shared, OURS.name, TRL_OPTIONS.name)
    result["ratios"]["tuned"] = ratios(shared, OURS.name, TRL_TUNED.name)
    result["ratios"]["tuned_to_small_micro_batches"] = ratios(shared, OURS_SMALL.name, TRL_TUNED.name)

    pair = [OURS, chosen[TRL_TUNED.name]]
    others = {"nothing_shared": (in_steps(unlike(people), texts)[:n_steps], texts)}
    if not quick:
        others["stated_lengths"] = (in_steps(at_stated_lengths(people[: a_step * n_steps]), a_step), a_step)
    for case, (its_steps, its_participants) in others.items():
        found = figures(timed(pair, its_steps, repeats), its_participants)
        print_table(case.replace("_", " "), found, settings)
        result[case], result["ratios"][case] = found, ratios(found, OURS.name, TRL_TUNED.name)
    result["profile"] = where_time_goes(OURS, steps, Shape())
    print_profile(result["profile"])
    print(f"\ntimes as fast as: {result['ratios']}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="two participants a step, one step, fewer settings"
    )
    parser.add_argument(
        "--tokenizer", type=Path, default=TOKENIZER, help="folder with Llama 2's tokenizer.model"
    )
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="default: two cores")
    parser.add_argument("--repeats", type=int, help="default: 5, with --quick 1")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    if arguments.memory_of:
        report_memory(arguments.memory_of)
        return
    print(json.dumps(run(arguments)))


if __name__ == "__main__":
    main()
