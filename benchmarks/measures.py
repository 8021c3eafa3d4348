"""Ten million simulated answers scored, bootstrap included: seconds, and the largest resident set.

    python benchmarks/measures.py [--quick] [--folder FOLDER]

Everything here is SIMULATED: 4,000 test participants of 14 demographics (61 levels) who answer one initial
question and five after one of 35 interventions, 0 to 100, with survey weights; an adapter's distributions at
eleven temperatures (0, 0.1, … 1), one percent of whose mass is prose; and 40 generations a prompt and
temperature, in one Parquet file a temperature with all columns of the stage: 10.56 million answers.
(--quick: a twentieth of the people, four temperatures.)

The data are made, and written, by a process of its own. Another reads prompts, people and distributions as
the asset does, hands over the generations' files, and scores them: every measure, over everybody and in 61
groups, both questions, each with 1,000 resamples and 20 shuffles of personas. Its seconds start before the
first read and end with the last value; its memory is VmHWM. Processor seconds (of all threads) are printed
besides, for machines that have other work.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LEVELS = (2, 6, 5, 4, 3, 5, 6, 2, 4, 7, 5, 3, 4, 5)
ASKED, ARMS, REPLICATES, PROSE = 6, 35, 40, 0.01
SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help="where data are made; a temporary one, if not given")
    parser.add_argument("--step", choices=["make", "score"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    people, temperatures = (200, 4) if given.quick else (4000, 11)
    if given.step == "make":
        make(given.folder, people, np.linspace(0, 1, temperatures).round(2).tolist())
    elif given.step == "score":
        print(json.dumps(scored(given.folder)))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            folder = given.folder or Path(temporary)
            command = [sys.executable, __file__, "--folder", str(folder), *(["--quick"] * given.quick)]
            subprocess.run([*command, "--step", "make"], check=True)
            said = subprocess.run(
                [*command, "--step", "score"], check=True, stdout=subprocess.PIPE, text=True
            )
        found = json.loads(said.stdout.splitlines()[-1])
        print(
            f"{found['answers']:,} simulated answers: {found['seconds']} s, {found['peak_gib']} GiB at most"
        )
        print(json.dumps(found))


# --- data ----------------------------------------------------------------------------------------


def make(folder: Path, people: int, temperatures: list[float]) -> None:
    """Write prompts, people, distributions and one file of generations a temperature."""
    rng = np.random.default_rng(SEED)
    levels = np.stack([rng.integers(0, count, people) for count in LEVELS], axis=1)
    leaning = 25 + 50 * rng.random(people) + 8 * (levels[:, 0] - 0.5) + 4 * (levels[:, 1] - 2.5)
    prompts = _prompts(rng, people, leaning)
    ids = prompts["participant"].unique()
    known = {f"demographic_{k}": [f"level {v}" for v in column] for k, column in enumerate(levels.T)}
    pd.DataFrame({"participant": ids, **known}).to_parquet(folder / "people.parquet")
    prompts.to_parquet(folder / "prompts.parquet")
    read = []
    for temperature in temperatures:
        masses = _masses(np.repeat(leaning, ASKED), temperature)
        read.append(_distributions(prompts, masses, temperature))
        path = folder / f"generations-{temperature}.parquet"
        _generations(rng, prompts, masses, temperature).to_parquet(path)
    pd.concat(read, ignore_index=True).to_parquet(folder / "distributions.parquet")


def _prompts(rng: np.random.Generator, people: int, leaning: np.ndarray) -> pd.DataFrame:
    person, order = np.repeat(np.arange(people), ASKED), np.tile(np.arange(ASKED), people)
    answers = np.clip(np.round(leaning[person] + 30 * rng.standard_normal(len(person))), 0, 100)
    heaped = rng.random(len(person)) < 0.7
    answers = np.where(heaped, 10 * np.round(answers / 10), answers).astype(np.int64)
    arm = rng.integers(0, ARMS, len(person))
    return pd.DataFrame(
        {
            "prompt_id": [f"p{p:05d}-{o}" for p, o in zip(person, order, strict=True)],
            "participant": [f"p{p:05d}" for p in person],
            "wave": "w1",
            "split": "test",
            "held_out": None,
            "question": np.where(order == 0, "initial", "post"),
            "order": order,
            "intervention": [None if o == 0 else f"arm {a}" for a, o in zip(arm, order, strict=True)],
            "template": "default",
            "weight": (0.5 + rng.random(people))[person],
            "answer": answers,
            "answer_digit": pd.array([None] * len(person), dtype="Int64"),
            "low": 0,
            "high": 100,
            "step": 1,
            "labels": None,
        }
    )


def _masses(leaning: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities of 0–100 and of prose, (n, 102)."""
    values = np.arange(101)
    wide = 5 + 25 * temperature
    masses = np.exp(-(((values - leaning[:, None]) / wide) ** 2) / 2) * np.where(values % 10 == 0, 12.0, 1.0)
    if temperature == 0:
        masses = np.eye(101)[masses.argmax(axis=1)]
    masses *= (1 - PROSE) / masses.sum(axis=1, keepdims=True)
    return np.concatenate([masses, np.full((len(leaning), 1), PROSE)], axis=1)


def _distributions(prompts: pd.DataFrame, masses: np.ndarray, temperature: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prompt_id": prompts["prompt_id"],
            "temperature": temperature,
            "probabilities": list(masses[:, :101].astype(np.float32)),
            "off_scale": 0.0,
            "no_number": masses[:, 101],
            "unexpanded": 0.0,
            "taken": 0.0,
        }
    )


def _generations(
    rng: np.random.Generator, prompts: pd.DataFrame, masses: np.ndarray, temperature: float
) -> pd.DataFrame:
    below = masses.cumsum(axis=1)
    drawn = np.array([np.searchsorted(one, rng.random(REPLICATES) * one[-1], side="right") for one in below])
    outcome, row = drawn.ravel(), np.repeat(np.arange(len(prompts)), REPLICATES)
    prose = outcome == 101
    number = np.where(prose, rng.integers(18, 80, len(outcome)), outcome)
    failed = prose & (rng.random(len(outcome)) < 0.5)
    return pd.DataFrame(
        {
            "prompt_id": prompts["prompt_id"].to_numpy()[row],
            "participant": prompts["participant"].to_numpy()[row],
            "question": prompts["question"].to_numpy()[row],
            "temperature": temperature,
            "replicate": np.tile(np.arange(REPLICATES), len(prompts)),
            "text": np.where(prose, "As a person of my age", number.astype(str)),
            "answer": pd.array(np.where(failed, 0, number), dtype="Int64").copy(),
            "success": ~failed,
            "made_by": np.where(prose, "decode", "distribution"),
            "seed": rng.integers(0, 2**62, len(outcome)),
        }
    ).assign(answer=lambda table: table["answer"].mask(~table["success"]))


# --- scoring -------------------------------------------------------------------------------------


def scored(folder: Path) -> dict[str, Any]:
    """Score what `make` wrote; the figures."""
    import pyarrow.parquet as pq

    from evsim_assets.metrics.agreement import score
    from evsim_assets.metrics.bootstrap import RESAMPLES
    from evsim_assets.specs.study import AdapterSpec

    files = sorted(folder.glob("generations-*.parquet"))
    answers = sum(pq.read_metadata(path).num_rows for path in files)
    start, before = time.perf_counter(), time.process_time()
    prompts, people, distributions = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("prompts", "people", "distributions")
    )
    factors = AdapterSpec(model="s", method="qlora").factors
    found = score(prompts, people, distributions, files, factors, seed=SEED)
    seconds = time.perf_counter() - start
    groups = found.metrics[["demographic", "level"]].drop_duplicates()
    return {
        "answers": answers,
        "prompts": len(prompts),
        "temperatures": len(files),
        "groups": len(groups) - 1,
        "resamples": RESAMPLES,
        "values": int(found.metrics["value"].notna().sum()),
        "replicate_rows": len(found.replicates),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time() - before, 1),
        "peak_gib": round(_peak_kib() / 2**20, 2),
        "simulated": True,
    }


def _peak_kib() -> int:
    """The largest resident set of this process so far."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    main()
