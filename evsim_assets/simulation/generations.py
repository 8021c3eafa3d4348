"""Generated answers: one text per prompt and replicate, drawn from what a model would generate.

Belongs here: the draw from an answer distribution, and the table of generations. Not here: the
distribution (`distributions.py`), how a text is continued token by token (`decoding.py`).

A draw that falls on an answer needs no model: its text is the number or the label. A draw that falls
elsewhere is really decoded, exactly given where it fell, and F then reads the text; a model that begins
"As a 52-year-old" answers 52, as in the paper. Where a question is answered by label, F is the label
that the text begins with (`labels.py`), as the number of that answer. Every row's randomness follows
from the study's seed and the row's own key, so no row depends on the order or on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.simulation.asked import AskedPrompts, asked_prompts, batches, row_labels, row_scales
from evsim_assets.simulation.distributions import BATCH_TOKENS, TOLERANCE, Progress, walk_of
from evsim_assets.simulation.labels import first_label
from evsim_assets.simulation.numbers import first_number
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.seeds import derived_seed
from evsim_assets.specs.study import Decoding

LoadModel = Callable[[], tuple[Any, Any]]
"""Returns (model, tokenizer); called once, and only when a text must really be decoded."""

TEXTS_PER_ROW = 128
"""Texts of one prompt that are decoded side by side; each sees a mask over all of them."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Draw:
    """One row: its place in the table of prompts, its draw, and the seed of all its randomness.

    `outcome`: an answer's index, or −3 (off the scale), −2 (no answer), −1 (not expanded).
    """

    row: int
    replicate: int
    outcome: int
    seed: int

    def uniform(self, tokens: int) -> Floats:
        """Numbers for the branch and for every one of `tokens`: (1 + tokens,)."""
        return np.random.default_rng(self.seed).random(2 + tokens)[1:]  # the first drew the outcome


def generations(
    load_model: LoadModel,
    prompts: pd.DataFrame,
    distributions: pd.DataFrame,
    *,
    temperature: float,
    decoding: Decoding,
    seed: int,
    digit_answers: bool,
    replicates: int = 1,
    batch_tokens: int = BATCH_TOKENS,
    tolerance: float = TOLERANCE,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """`replicates` generated texts for every row of `prompts`, at one temperature.

    Args:
        load_model: see `LoadModel`; a model that always answers with a number is never loaded.
        distributions: this adapter's answer distributions, made with the same `decoding`,
            `tolerance` and `digit_answers`.
        seed: the study's.
        on_progress: told how many of the different prompts that need decoding are done.

    Returns:
        prompt_id | participant | question | temperature | replicate | text | answer (Int64, on the
        scale, else missing) | success (whether there is one) | made_by ("distribution" | "decode").
    """
    draws = _draws(prompts, distributions, temperature, seed, replicates)
    to_decode = [draw for draw in draws if draw.outcome < 0]
    texts: dict[tuple[int, int], str] = {}
    if to_decode:
        texts = _decoded(
            load_model,
            prompts,
            to_decode,
            temperature,
            decoding,
            digit_answers,
            batch_tokens,
            tolerance,
            on_progress,
        )
    return _as_table(prompts, draws, texts, temperature, digit_answers)


def _draws(
    prompts: pd.DataFrame,
    distributions: pd.DataFrame,
    temperature: float,
    seed: int,
    replicates: int,
) -> list[_Draw]:
    """Where every row's draw falls, by inversion of the distribution's cumulative sum."""
    at = distributions[np.isclose(distributions["temperature"], temperature)].set_index("prompt_id")
    missing = [p for p in prompts["prompt_id"] if p not in at.index]
    if missing:
        raise BadInput(
            "a prompt has no answer distribution at this temperature",
            field=f"temperature {temperature}",
            value=missing[0],
            remedy="materialize the answer distributions of this adapter again",
        )
    mass = {
        prompt_id: np.cumsum([*probabilities, *rest])
        for prompt_id, probabilities, *rest in at[
            ["probabilities", "off_scale", "no_number", "unexpanded"]
        ].itertuples()
    }
    draws = []
    for row, prompt_id in enumerate(prompts["prompt_id"]):
        cumulative = mass[prompt_id] / mass[prompt_id][-1]
        for replicate in range(replicates):
            key = f"{prompt_id}|{float(temperature)}|{replicate}"
            own_seed = derived_seed(seed, "generation", key)
            first = np.random.default_rng(own_seed).random()
            drawn = int(np.searchsorted(cumulative, first, side="right"))
            outcome = drawn - len(cumulative) if drawn >= len(cumulative) - 3 else drawn
            draws.append(_Draw(row, replicate, outcome, own_seed))
    return draws


def _decoded(
    load_model: LoadModel,
    prompts: pd.DataFrame,
    draws: list[_Draw],
    temperature: float,
    decoding: Decoding,
    digit_answers: bool,
    batch_tokens: int,
    tolerance: float,
    on_progress: Progress | None,
) -> dict[tuple[int, int], str]:
    """The text of every draw that fell on no answer, by (row, replicate).

    Each prompt is read once; its answers are walked again as far as the drawn outcomes need, to
    know the branches that lead there; a branch is drawn by its mass, and the text continued from it.
    """
    from evsim_assets.simulation.answer_walk import NO_ANSWER, Outcomes, walk_answers
    from evsim_assets.simulation.decoding import continue_texts, draw_branches
    from evsim_assets.simulation.reading import read_prompts, split, take

    model, tokenizer = load_model()
    asked = _only_needed(asked_prompts(tokenizer, prompts, digit_answers=digit_answers), draws)
    wanted: dict[int, list[_Draw]] = {}
    for draw in draws:
        wanted.setdefault(int(asked.of_row[draw.row]), []).append(draw)
    within = np.zeros(len(asked.tokens), dtype=bool)
    within[[p for p, of_prompt in wanted.items() if any(d.outcome != NO_ANSWER for d in of_prompt)]] = True
    walk = walk_of(model, tokenizer, asked, [temperature], decoding, tolerance, batch_tokens, within)
    longest = int(walk.limit.max())
    texts: dict[tuple[int, int], str] = {}
    done = 0
    for batch in batches(asked, batch_tokens):
        rows, roots, logits = read_prompts(model, [[(p, asked.tokens[p]) for p in group] for group in batch])
        found: list[Outcomes] = []
        walk_answers(model, rows, roots, logits, walk, found.append)
        row, these = _by_row(rows.prompt, wanted)
        uniform = np.array([draw.uniform(longest) for draw in these])
        outcomes = [draw.outcome for draw in these]
        branches = draw_branches(found, rows.prompt[row], outcomes, uniform[:, 0], walk)
        for block in _blocks(row):
            nodes = take(roots, row[block])
            for part_rows, part, chosen in split(rows, nodes, batch_tokens):
                k = block[chosen]
                written = continue_texts(
                    model,
                    tokenizer,
                    part_rows,
                    part,
                    logits[row[k]],
                    [branches[i] for i in k],
                    uniform[k, 1:],
                    walk,
                )
                texts.update({(these[i].row, these[i].replicate): t for i, t in zip(k, written, strict=True)})
        done += len(rows.prompt)
        if on_progress is not None:
            on_progress(done, len(wanted))
    return texts


def _by_row(prompts: Ints, wanted: dict[int, list[_Draw]]) -> tuple[Ints, list[_Draw]]:
    """The draws of the prompts just read, and the row of each one's prompt, ascending."""
    pairs = [(r, draw) for r, prompt in enumerate(prompts) for draw in wanted[int(prompt)]]
    return np.array([r for r, _ in pairs]), [draw for _, draw in pairs]


def _blocks(row: Ints) -> list[Ints]:
    """Indices into the ascending `row`, at most TEXTS_PER_ROW of each row to a block."""
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    return [np.flatnonzero(rank // TEXTS_PER_ROW == b) for b in range(int(rank.max()) // TEXTS_PER_ROW + 1)]


def _only_needed(asked: AskedPrompts, draws: list[_Draw]) -> AskedPrompts:
    """The same prompts, grouped without those that no draw needs."""
    needed = {int(asked.of_row[draw.row]) for draw in draws}
    groups = [[p for p in group if p in needed] for group in asked.groups]
    return replace(asked, groups=[group for group in groups if group])


def _as_table(
    prompts: pd.DataFrame,
    draws: list[_Draw],
    texts: dict[tuple[int, int], str],
    temperature: float,
    digit_answers: bool,
) -> pd.DataFrame:
    """The contract's table; F reads every text, so a row's answer never disagrees with its text."""
    scales = row_scales(prompts, digit_answers=digit_answers)
    labels = row_labels(prompts, digit_answers=digit_answers)
    named = prompts[["prompt_id", "participant", "question"]].to_numpy()
    records = []
    for draw in draws:
        answers, words = _answers(scales[draw.row]), labels[draw.row]
        decoded = draw.outcome < 0
        if decoded:
            text = texts[draw.row, draw.replicate]
        else:
            text = words[draw.outcome] if words else str(answers[draw.outcome])
        answer = _answer_in(text, answers, words)
        made_by = "decode" if decoded else "distribution"
        records.append((*named[draw.row], float(temperature), draw.replicate, text, answer, made_by))
    columns = ["prompt_id", "participant", "question", "temperature", "replicate", "text", "answer"]
    table = pd.DataFrame(records, columns=[*columns, "made_by"])
    table["answer"] = table["answer"].astype("Int64")
    table.insert(7, "success", table["answer"].notna())
    return table


def _answers(scale: Ints) -> range:
    low, high, step = (int(number) for number in scale)
    return range(low, high + 1, step)


def _answer_in(text: str, answers: range, labels: tuple[str, ...]) -> Any:
    """What F finds in the text, where that is an answer; else missing."""
    if labels:
        found = first_label(text, labels)
        return pd.NA if found is None else answers[found]
    number = first_number(text)
    return number if number is not None and number in answers else pd.NA
