"""Whether answers are right, before anything is timed, and how they look.

Belongs here: distributions against samples, audited against full, success rates. Not here: clocks and tables
(`answers.py`), who answers (`answers_contestants.py`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evsim_assets.simulation.numbers import first_number
from evsim_assets.specs.study import Decoding

if TYPE_CHECKING:
    from answers import Task

FALSE_ALARM = 1e-6
LOST = ["off_scale", "no_number", "unexpanded"]


def as_humans(found: pd.DataFrame) -> dict[str, dict[str, float]]:
    """By temperature: how often a number is answered, the mean entropy of a prompt's distribution given that,
    in bits, and what is lost."""
    told = {}
    for temperature, rows in found.groupby("temperature"):
        p = np.stack(rows["probabilities"].to_list()).astype(np.float64)
        success = p.sum(1)
        given = p / np.maximum(success, 1e-30)[:, None]
        told[f"{temperature:g}"] = {
            "success_rate": round(float(success.mean()), 4),
            "entropy_bits": round(
                float(-(given * np.log2(given, where=given > 0, out=np.zeros_like(given))).sum(1).mean()), 2
            ),
        } | {name: float(f"{rows[name].mean():.2g}") for name in LOST}
    return told


def check_against_samples(
    task: Task,
    found: pd.DataFrame,
    writer: Any,
    numbers: Sequence[int],
    count: int,
    rounding: float = 0.0,
) -> list[dict[str, float]]:
    """Total variation between distributions and a writer's samples, of the prompts `numbers`. Ends the
    benchmark where samples of these distributions would not differ as much, `rounding` aside."""
    checked = []
    for number, temperature in itertools.product(numbers, (0.5, 1.0)):
        row = task.prompts.iloc[number]
        of_row = found[(found["prompt_id"] == row["prompt_id"]) & (found["temperature"] == temperature)]
        expected = np.concatenate([of_row["probabilities"].iloc[0], of_row[LOST].iloc[0].to_numpy(float)])
        texts = writer.samples(task.tokens[number], temperature, count)
        counted = np.zeros(len(expected))
        for text in task.tokenizer.batch_decode(texts, skip_special_tokens=True):
            counted[_outcome(text, row)] += 1
        apart = 0.5 * float(np.abs(counted / count - expected).sum())
        usual = 0.5 * float(np.sqrt(2 * expected * (1 - expected) / (math.pi * count)).sum())
        allowed = rounding + usual + math.sqrt(math.log(1 / FALSE_ALARM) / (2 * count))  # McDiarmid
        checked.append(
            {
                "temperature": temperature,
                "total_variation": round(apart, 4),
                "of_samples": round(usual, 4),
                "allowed": round(allowed, 4),
            }
        )
        if apart > allowed:
            raise SystemExit(
                f"{row['prompt_id']}: the distribution is not that of the samples: {checked[-1]}"
            )
    return checked


def _outcome(text: str, row: Any) -> int:
    """Where the outcome of a text stands: an answer's index, −3 (off the scale) or −2 (no number)."""
    begins = text.lstrip()
    if not begins[:1].isdigit():
        return -2
    value = first_number(begins)
    assert value is not None
    fits = row["low"] <= value <= row["high"] and (value - row["low"]) % row["step"] == 0
    return (value - row["low"]) // row["step"] if fits else -3


def check_audited(full: pd.DataFrame, audited: pd.DataFrame) -> float:
    """The largest difference of a probability. Ends the benchmark where the audit does not allow it."""
    columns = [np.stack(one["probabilities"].to_list()).astype(np.float64) for one in (full, audited)]
    apart = float(np.abs(columns[0] - columns[1]).max())
    apart = max(apart, float((full[LOST] - audited[LOST]).abs().to_numpy().max()))
    if apart > Decoding().audit.limit:
        raise SystemExit(f"audited and full differ by {apart:.2g}, more than {Decoding().audit.limit:g}")
    return apart
