"""What a person must be told before believing the tables of measures: each a yes or no, with its numbers.

Belongs here: the conditions of checks that warn, and their words. Not here: Dagster's side of a check
(`assets.py`, `contrast_assets.py`), computing what is judged.

None of them stops anything: a table with a warning is right, and says something that is easily misread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from evsim_assets.metrics.groups import ALL

LEAST_PEOPLE = 100
"""Test participants of a question below which most differences between models drown in noise."""
FLOORED = ("kl", "w1")
"""Measures that lead, and that a model could be too good in."""
TOO_GOOD = {"kl": 0.5, "w1": 0.5**0.5}
"""The share of the floor's lower end below which hardly a perfect model comes. Floors are of two samples, and
a model's exact distribution carries no noise of its own, which halves a squared distance. (Simulated, with
multinomial answers of 60 to 700 people: 2 to 3 % of perfect models are below it, and 15 to 25 % below
the lower end itself.)"""
LEAST_SUCCESS = 0.95
"""Below this success rate many answers are missing, and what is measured is of the others alone."""
LEAST_RELIABILITY = 0.3
"""Below this share of the spread of human effects that is not noise, no model can be judged by them."""
FAITHFUL = (0.5, 2.0)
"""Groups differ about as among people where the median amplification of demographics is within this."""
TOLD_APART = 0.05
"""A p-value up to this says that simulated answers can be told from people's."""
PLACE = ["question", "answers"]


@dataclass(frozen=True)
class Verdict:
    """Whether all is well, why not in one sentence each, and the numbers (for Dagster's metadata)."""

    passed: bool
    problems: tuple[str, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str | None:
        """The problems as one text; None where there is none."""
        return "; ".join(self.problems) or None


def _verdict(problems: list[str], numbers: dict[str, Any]) -> Verdict:
    return Verdict(not problems, tuple(problems), numbers)


def floors_hold(floors: pd.DataFrame) -> Verdict:
    """The floors of KL and W1 over everybody are finite and above 0: else they are of no use."""
    rows = _everybody(floors)
    rows = rows[rows["measure"].isin(FLOORED)]
    problems: list[str] = []
    numbers: dict[str, Any] = {}
    for row in rows.to_dict("records"):
        value = float(row["floor"])
        numbers[f"{row['measure']} of {_name(row)}"] = value
        if not np.isfinite(value) or value <= 0:
            why = row["reason"] or "two samples of people never differ"
            problems.append(f"{row['measure']} of {_name(row)} has the floor {value:g}: {why}")
    return _verdict(problems, _known(numbers))


def enough_people(floors: pd.DataFrame) -> Verdict:
    """Every question was answered by LEAST_PEOPLE test participants or more."""
    asked = _everybody(floors).groupby(PLACE, sort=False)["n"].max().reset_index()
    rows = asked.to_dict("records")
    problems = [
        f"{_name(row)} has {row['n']} test participants, fewer than {LEAST_PEOPLE}: intervals will be wide"
        for row in rows
        if row["n"] < LEAST_PEOPLE
    ]
    fewest = int(asked["n"].min()) if len(asked) else 0
    return _verdict(
        problems, {"fewest_people": fewest} | {f"people of {_name(row)}": row["n"] for row in rows}
    )


def nulls_in_order(nulls: pd.DataFrame) -> Verdict:
    """Knowing the population is better than guessing, by CRPS: else training and test answers differ."""
    rows = _everybody(nulls)
    rows = rows[(rows["measure"] == "crps") & (rows["point_answer"] == "none")]
    problems: list[str] = []
    numbers: dict[str, Any] = {}
    for (question, answers), part in rows.groupby(PLACE, sort=False):
        name = _name({"question": question, "answers": answers})
        value = part.set_index("null")["value"].astype(float)
        numbers |= {f"crps of {null}, {name}": crps for null, crps in value.items()}
        guessed, known = value.get("uniform", np.nan), value.get("population_marginal", np.nan)
        if known > guessed:
            problems.append(
                f"{name}: the training answers say less of the test answers (crps {known:.3g}) than guessing"
                f" ({guessed:.3g}): look whether splits, waves or scales differ"
            )
    return _verdict(problems, _known(numbers))


def answers_are_numbers(metrics: pd.DataFrame) -> Verdict:
    """At every temperature, LEAST_SUCCESS of the answers to each question are on its scale."""
    rows = _everybody(metrics)
    rates = rows[rows["measure"] == "success_rate"].to_dict("records")
    problems = [
        f"{row['question']} at T={row['temperature']:g}: {row['value']:.1%} of the answers are on the scale"
        for row in rates
        if not row["value"] >= LEAST_SUCCESS
    ]
    return _verdict(problems, {"least_success_rate": min(float(row["value"]) for row in rates)})


def effects_can_be_judged(agreement: pd.DataFrame) -> Verdict:
    """The spread of people's effects is more than noise in every question with interventions."""
    rows = agreement[agreement["measure"] == "reliability"] if len(agreement) else agreement
    rows = rows[rows["held_out"] == "all"].drop_duplicates("question") if len(rows) else rows
    problems: list[str] = []
    numbers: dict[str, Any] = {}
    for row in rows.to_dict("records"):
        value = float(row["value"])
        numbers |= {
            f"reliability of {row['question']}": value,
            f"interventions of {row['question']}": row["n"],
        }
        if value < LEAST_RELIABILITY:
            problems.append(
                f"{row['question']}: {value:.2f} of the spread of human effects is more than noise, less than"
                f" {LEAST_RELIABILITY:g}: no model can be told from another by them"
            )
    return _verdict(problems, _known(numbers))


def groups_as_among_people(bias: pd.DataFrame) -> Verdict:
    """At the highest temperature, the median amplification of each question is within FAITHFUL."""
    problems: list[str] = []
    numbers: dict[str, Any] = {}
    for question, rows in _hottest(bias):
        known = rows.dropna(subset=["amplification"])
        if not len(known):
            continue
        median = float(known["amplification"].median())
        more, less = known[known["low"] > 1], known[known["high"] < 1]
        numbers |= {
            f"median amplification of {question}": median,
            f"exaggerated in {question}": ", ".join(more["demographic"]) or "none",
            f"levelled out in {question}": ", ".join(less["demographic"]) or "none",
        }
        if not FAITHFUL[0] <= median <= FAITHFUL[1]:
            what = "levels out" if median < 1 else "exaggerates"
            problems.append(
                f"{question}: the model {what} what groups differ by, median amplification {median:.2f}"
            )
    return _verdict(problems, numbers)


def not_told_apart(table: pd.DataFrame) -> Verdict:
    """At the highest temperature, simulated answers cannot be told from people's beyond chance."""
    problems: list[str] = []
    numbers: dict[str, Any] = {}
    for question, rows in _hottest(table):
        row = rows.iloc[0]
        numbers |= {f"auc of {question}": float(row["auc"]), f"p_value of {question}": float(row["p_value"])}
        if row["p_value"] <= TOLD_APART:
            problems.append(
                f"{question}: a classifier tells simulated answers from people's at T={row['temperature']:g}"
                f" (AUC {row['auc']:.3f}, p {row['p_value']:.2g})"
            )
    return _verdict(problems, _known(numbers))


def nobody_too_good(board: pd.DataFrame) -> Verdict:
    """No adapter is nearer to people than chance lets a perfect model be (TOO_GOOD): a sign of a leak."""
    problems: list[str] = []
    numbers: dict[str, Any] = {}
    for measure, share in TOO_GOOD.items():
        least = board[f"floor_{measure}_low"].astype(float) * share
        below = board.assign(least=least)[board[measure].astype(float) < least]
        numbers[f"too good in {measure}"] = len(below)
        problems += [
            f"{row['adapter']} at T={row['temperature']:g}, {row['question']}: {measure} {row[measure]:.3g}"
            f" is below {row['least']:.3g}, nearer than a perfect model comes: look whether test answers got"
            " into its training"
            for row in below.to_dict("records")
        ]
    return _verdict(problems, numbers)


def _everybody(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["demographic"] == ALL]


def _hottest(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each question's rows at the highest temperature; none of an empty table."""
    if len(table):
        rows = table[table["temperature"] == table["temperature"].max()]
        yield from ((str(question), part) for question, part in rows.groupby("question", sort=False))


def _name(row: Mapping[Any, Any]) -> str:
    """A question, with its scale where that is not its own."""
    return f"{row['question']}{'' if row['answers'] == 'native' else ' (0–9)'}"


def _known(numbers: dict[str, Any]) -> dict[str, Any]:
    """Without numbers that are not there."""
    return {name: number for name, number in numbers.items() if np.isfinite(number)}
