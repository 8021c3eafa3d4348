"""Effects, bias, discriminability and pairs of adapters as text: rows of cells for a page.

Belongs here: which columns people see, and in which words. Not here: the scoreboard (`tables.py`),
escaping, markup.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from evsim_assets.reports.tables import NOTHING, percent, three_digits, two_digits, with_interval
from evsim_assets.specs.study import temperature_key

AGREEMENT_COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "correlation": ("correlation", two_digits),
    "disattenuated_correlation": ("… without noise", two_digits),
    "slope": ("slope", two_digits),
    "disattenuated_slope": ("… without noise", two_digits),
    "sign_accuracy": ("sign accuracy", percent),
    "top_1_regret": ("regret of 1", two_digits),
    "top_3_regret": ("regret of 3", two_digits),
    "rmse": ("RMSE", two_digits),
}
HELD_OUT = {"all": "all", "no": "trained on", "yes": "held out"}
COMPARED: dict[tuple[str, str], tuple[str, Callable[[float], str]]] = {
    ("none", "kl"): ("by KL", three_digits),
    ("none", "w1"): ("by W1", two_digits),
    ("mean", "rmse"): ("by RMSE of mean", two_digits),
}
MANY_PAIRS = 45
"""Of more pairs a question, only those with the adapter that is best on validation are shown."""


def effect_rows(agreement: pd.DataFrame) -> list[list[str]]:
    """A header, then one row an adapter, temperature, question and set of interventions."""
    names = [name for name, _ in AGREEMENT_COLUMNS.values()]
    rows = [["adapter", "T", "question", "interventions", *names, "n"]]
    for _, part in agreement.groupby([*_PLACE, "held_out"], sort=False):
        first = part.iloc[0].to_dict()
        measured = {str(row["measure"]): row for row in part.to_dict("records")}
        cells = [_interval(measured.get(m), write) for m, (_, write) in AGREEMENT_COLUMNS.items()]
        if any(cell != NOTHING for cell in cells):
            rows.append([*_start(first), HELD_OUT[str(first["held_out"])], *cells, str(int(part["n"].max()))])
    return rows


def bias_rows(bias: pd.DataFrame) -> list[list[str]]:
    """A header, then one row an adapter, temperature, question and measure: how its demographics fare.

    A demographic is levelled out where its amplification's interval lies below 1, exaggerated where
    above. `least` and `most` are the demographics of the lowest and highest amplification.
    """
    header = ["adapter", "T", "question", "of", "demographics", "levelled out", "exaggerated"]
    rows = [[*header, "least amplified", "most amplified"]]
    known = bias.dropna(subset=["amplification"])
    for _, part in known.groupby([*_PLACE, "measure"], sort=False):
        ordered = part.sort_values("amplification", kind="stable").to_dict("records")
        counts = (len(part), int((part["high"] < 1).sum()), int((part["low"] > 1).sum()))
        farthest = (_demographic(row) for row in (ordered[0], ordered[-1]))
        rows.append([*_start(ordered[0]), str(ordered[0]["measure"]), *map(str, counts), *farthest])
    return rows


def discriminability_rows(table: pd.DataFrame) -> list[list[str]]:
    """A header, then one row an adapter, temperature and question that could be tested."""
    rows = [["adapter", "T", "question", "AUC", "accuracy", "p", "answers"]]
    for r in table.dropna(subset=["auc"]).to_dict("records"):
        auc = with_interval(r["auc"], r["low"], r["high"], three_digits)
        accuracy = NOTHING if pd.isna(r["accuracy"]) else percent(r["accuracy"])
        rows.append([*_start(r), auc, accuracy, p_value(r["p_value"]), str(int(r["n"]))])
    return rows


def p_value(value: float) -> str:
    """`0.031`, `< 0.001`, `—`."""
    if pd.isna(value):
        return NOTHING
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def comparison_rows(comparisons: pd.DataFrame, chosen: pd.DataFrame) -> list[list[str]]:
    """A header, then one row a pair of adapters and question, in words: which one is closer, by how much.

    A pair is shown at the temperature chosen for the one of lower KL on validation (at equal temperatures
    only, as the table compares). Of more than MANY_PAIRS a question, those with the adapter of the lowest
    KL on validation are shown.

    Args:
        chosen: of `metrics.chosen.chosen_temperatures`.
    """
    rows = [["question", "T", "pair", *(name for name, _ in COMPARED.values())]]
    lowest = {
        (str(r["adapter"]), str(r["question"])): (float(r["validation_kl"]), float(r["temperature"]))
        for r in chosen.to_dict("records")
    }
    for question, of_question in comparisons.groupby("question", sort=False):
        for _, part in of_question.groupby("answers", sort=False):
            for pair in _pairs_shown(part, lowest, str(question)):
                known = [lowest[name, str(question)] for name in pair if (name, str(question)) in lowest]
                if known:
                    rows += _pair_row(part, pair, str(question), min(known)[1])
    return rows


def _pairs_shown(
    part: pd.DataFrame, lowest: dict[tuple[str, str], tuple[float, float]], question: str
) -> list[tuple[str, str]]:
    """The pairs of one question; of more than MANY_PAIRS, those with the best adapter on validation."""
    pairs = list(dict.fromkeys(zip(part["adapter"].astype(str), part["other"].astype(str), strict=True)))
    known = {name: lowest[name, question] for pair in pairs for name in pair if (name, question) in lowest}
    if len(pairs) <= MANY_PAIRS or not known:
        return pairs
    best = min(known, key=lambda name: known[name])
    return [pair for pair in pairs if best in pair]


def _pair_row(
    part: pd.DataFrame, pair: tuple[str, str], question: str, temperature: float
) -> list[list[str]]:
    """The row of one pair, none where the table lacks this temperature."""
    same = (part["adapter"] == pair[0]) & (part["other"] == pair[1]) & (part["temperature"] == temperature)
    found = part[same].drop_duplicates(["point_answer", "measure"]).set_index(["point_answer", "measure"])
    measured = found.to_dict("index")
    cells = [comparison_words(measured.get(key), pair, write) for key, (_, write) in COMPARED.items()]
    if all(cell == NOTHING for cell in cells):
        return []
    return [[question, temperature_key(temperature), f"{pair[0]} and {pair[1]}", *cells]]


def comparison_words(
    row: dict[Any, Any] | None, pair: tuple[str, str], write: Callable[[float], str] = two_digits
) -> str:
    """`a is closer by 0.41 (0.35 to 0.47)`, or that neither is shown to be; "—" if unknown.

    The interval is of the amount named: where the difference is negative, the signs are turned.
    """
    if row is None or pd.isna(row["difference"]):
        return NOTHING
    amount = abs(row["difference"])
    ends = sorted((row["low"], row["high"]) if row["difference"] >= 0 else (-row["low"], -row["high"]))
    interval = "" if pd.isna(row["low"]) else f" ({write(ends[0])} to {write(ends[1])})"
    if row["closer"] not in pair:
        return f"neither: differ by {write(amount)}{interval}"
    return f"{row['closer']} is closer by {write(amount)}{interval}"


_PLACE = ["adapter", "temperature", "question"]


def _start(row: dict[Any, Any]) -> list[str]:
    """The cells that a row begins with."""
    return [str(row["adapter"]), temperature_key(row["temperature"]), str(row["question"])]


def _interval(row: dict[Any, Any] | None, write: Callable[[float], str]) -> str:
    return NOTHING if row is None else with_interval(row["value"], row["low"], row["high"], write)


def _demographic(row: dict[Any, Any]) -> str:
    """`gender 0.24 [0.11, 0.50]`."""
    return f"{row['demographic']} {with_interval(row['amplification'], row['low'], row['high'])}"
