"""What the page begins with: the adapters that one would take by validation, and how they fare on test.

Belongs here: that section's table and its words. Not here: the choice (`metrics/chosen.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from evsim_assets.reports.page import Section, Table
from evsim_assets.reports.tables import NOTHING, known, three_digits, two_digits, with_interval
from evsim_assets.specs.study import temperature_key

CHOSEN_BY = {"kl": "KL", "rmse": "RMSE", "crps": "CRPS", "nll": "NLL"}
RMSE_OF = {"sample": "rmse", "mean": "rmse_mean", "median": "rmse_median"}
"""The scoreboard's column of each point answer."""
HEAD = [
    "question",
    "answers",
    "chosen by",
    "adapter",
    "T",
    "answer",
    "validation KL",
    "test KL",
    "validation RMSE",
    "test RMSE",
    "test CRPS",
    "test NLL",
    "prompts",
]
CAPTION = (
    "Per question, the adapter, temperature and point answer that are best on validation by each measure,"
    " and what they score on test participants, who chose nothing: the figures to quote. What is best on"
    " test may be another one, and is a little lucky. Near the best: within 2 % of the lowest RMSE of the"
    " mean. KL, CRPS and NLL are alike for every point answer. RMSE is of the answer named; a drawn one is"
    " taken in expectation on validation. Few validation prompts choose badly: look how many there were."
)


def chosen_section(chosen: pd.DataFrame, board: pd.DataFrame) -> Section:
    """The chosen adapters with their test figures, and why a choice is doubtful; empty without a choice."""
    if chosen.empty:
        return Section("Chosen on validation", [])
    doubts = dict.fromkeys(
        f" {r['question']} ({r['answers']}): {r['reason']}."
        for r in chosen[chosen["reason"].notna()].to_dict("records")
    )
    rows = chosen_table_rows(chosen, board)
    return Section("Chosen on validation", [Table("Chosen adapters", CAPTION + "".join(doubts), rows)])


def chosen_table_rows(chosen: pd.DataFrame, board: pd.DataFrame) -> list[list[str]]:
    """A header, then one row a choice, with figures of the scoreboard's row of the same temperature."""
    place = ["adapter", "temperature", "question"]
    on_test = {tuple(r[name] for name in place): r for r in board.to_dict("records")}
    rows = [HEAD]
    for r in chosen.to_dict("records"):
        test = on_test.get(tuple(r[name] for name in place), {})
        rows.append(
            [
                str(r["question"]),
                str(r["answers"]),
                CHOSEN_BY[str(r["chosen_by"])],
                str(r["adapter"]),
                temperature_key(r["temperature"]),
                str(r["point_answer"]),
                three_digits(r["validation_kl"]),
                _on_test(test, "kl", three_digits),
                known(r["validation_rmse"], two_digits),
                _on_test(test, RMSE_OF[str(r["point_answer"])], two_digits),
                _on_test(test, "crps", two_digits),
                _on_test(test, "nll", two_digits),
                str(int(r["n"])),
            ]
        )
    return rows


def _on_test(test: dict[Any, Any], column: str, write: Callable[[float], str]) -> str:
    if column not in test:
        return NOTHING
    low, high = (test.get(f"{column}_{end}", float("nan")) for end in ("low", "high"))
    return with_interval(test[column], low, high, write)
