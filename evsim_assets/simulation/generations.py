"""Generated answers: one text per prompt and replicate, drawn from what a model would generate.

Belongs here: the draw from an answer distribution, and the table of generations. Not here: the
distribution (`distributions.py`), how a text is continued from a draw (`decoding.py`), other engines that
write texts (`engines.py`).

A draw that falls on an answer needs no model: its text is the number or the label, so replicates are
free. A draw that falls elsewhere is really decoded, exactly given where it fell, and F then reads the text;
a model that begins "As a 52-year-old" answers 52, as in the paper. Where a question is answered by label, F
is the label that the text begins with (`labels.py`), as the number of that answer. Every row's randomness
follows from its seed, and that from the study's seed and the row's own key, so no row depends on the
order, on its neighbours or on the number of replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.simulation.asked import AskedPrompts, asked_prompts, row_labels, row_scales
from evsim_assets.simulation.audit import unread_at_most
from evsim_assets.simulation.distributions import BATCH_TOKENS, Progress, walk_of
from evsim_assets.simulation.labels import first_label
from evsim_assets.simulation.numbers import number_in
from evsim_assets.simulation.seeded import row_seeds, uniforms
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Decoding

if TYPE_CHECKING:
    from evsim_assets.simulation.engines import Weights

LoadModel = Callable[[], tuple[Any, Any]]
"""Returns (model, tokenizer); called once, and only when a text must really be decoded."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

WRITTEN = {"exact": "decode", "decode": "generate", "vllm": "vllm"}
"""What `made_by` says of texts that were really decoded, by the study's `decoding.engine`."""
NO_DRAW = -1
"""The outcome of a row that no distribution was drawn for."""


@dataclass(frozen=True)
class _Draws:
    """n rows: their prompt's place in the table of prompts, their replicate, the seed of all their
    randomness, and where they fell; (n,) each.

    `outcome`: an answer's index, or −3 (off the scale), −2 (no answer), −1 (not expanded).
    """

    row: Ints
    replicate: Ints
    seed: Ints
    outcome: Ints

    def take(self, chosen: Ints) -> _Draws:
        """The draws numbered `chosen`."""
        return _Draws(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class _Task:
    """What a table is asked for; see `generations`. `distributions`: those at the temperature, in the order
    of `prompts`, which the engine `exact` has."""

    prompts: pd.DataFrame
    distributions: pd.DataFrame | None
    temperature: float
    decoding: Decoding
    digit_answers: bool
    batch_tokens: int
    tolerance: float
    weights: Weights | None
    on_progress: Progress | None


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
    tolerance: float | None = None,
    weights: Weights | None = None,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """`replicates` generated texts for every row of `prompts`, at one temperature.

    Args:
        load_model: see `LoadModel`; a model that always answers with a number is never loaded.
        distributions: this adapter's answer distributions, made with the same `decoding`,
            `tolerance` and `digit_answers`; only the engine `exact` reads them.
        seed: the study's.
        tolerance: in place of the decoding's.
        weights: where the model lies, for the engine `vllm`, which loads it by itself.
        on_progress: told how many of the different prompts that need decoding are done (of the texts,
            by another engine than `exact`).

    Returns:
        prompt_id | participant | question | temperature | replicate | text | answer (Int64, on the
        scale, else missing) | success (whether there is one) | made_by ("distribution", or as in
        `WRITTEN`) | seed (int64, the row's own); a prompt's replicates one after another.

    Raises:
        BadInput: a prompt has no distribution at this temperature, or the engine cannot run here.
    """
    engine = decoding.engine
    if engine == "vllm":
        from evsim_assets.simulation.engines import require_vllm

        assert weights is not None, "vLLM loads the model by itself"
        require_vllm(weights)
    keys = (f"{prompt_id}|{float(temperature)}" for prompt_id in prompts["prompt_id"])
    seeds = row_seeds(seed, "generation", keys, replicates)
    at = _at(distributions, prompts["prompt_id"], temperature) if engine == "exact" else None
    task = _Task(
        prompts,
        at,
        float(temperature),
        decoding,
        digit_answers,
        batch_tokens,
        decoding.tolerance if tolerance is None else tolerance,
        weights,
        on_progress,
    )
    outcome = np.full(seeds.shape, NO_DRAW) if at is None else _outcomes(at, seeds)
    row, replicate = np.indices(seeds.shape)
    draws = _Draws(row.ravel(), replicate.ravel(), seeds.ravel(), outcome.ravel())
    written = np.flatnonzero(draws.outcome < 0)
    texts = _texts(load_model, task, draws.take(written)) if len(written) else []
    return _as_table(task, draws, written, texts)


def _at(distributions: pd.DataFrame, prompt_id: pd.Series, temperature: float) -> pd.DataFrame:
    """The distribution of every prompt at the temperature."""
    at = distributions[np.isclose(distributions["temperature"], temperature)]
    place = pd.Index(at["prompt_id"]).get_indexer(pd.Index(prompt_id))
    if (place < 0).any():
        raise BadInput(
            "a prompt has no answer distribution at this temperature",
            field=f"temperature {temperature}",
            value=prompt_id.iloc[int((place < 0).argmax())],
            remedy="materialize the answer distributions of this adapter again",
        )
    return at.iloc[place]


def _outcomes(at: pd.DataFrame, seeds: Ints) -> Ints:
    """Where every draw falls, by inversion of its distribution's cumulative sum: like `seeds`, (P, R)."""
    probabilities = at["probabilities"].to_numpy()
    lost = at[["off_scale", "no_number", "unexpanded"]].to_numpy(np.float64)
    answers = np.array([len(of_one) for of_one in probabilities], dtype=np.int64)
    outcome = np.empty(seeds.shape, dtype=np.int64)
    for width in np.unique(answers).tolist():
        rows = np.flatnonzero(answers == width)
        of_answers = np.array(probabilities[rows].tolist(), dtype=np.float64).reshape(len(rows), width)
        cumulative = np.concatenate([of_answers, lost[rows]], 1).cumsum(1)
        cumulative /= cumulative[:, -1:]
        uniform = uniforms(seeds[rows].ravel(), 1).reshape(len(rows), -1)
        drawn = np.array([c.searchsorted(u, side="right") for c, u in zip(cumulative, uniform, strict=True)])
        outcome[rows] = np.where(drawn < width, drawn, drawn - width - 3)
    return outcome


def _texts(load_model: LoadModel, task: _Task, draws: _Draws) -> list[str]:
    """The text of every draw, really decoded by the study's engine."""
    rows, place = np.unique(draws.row, return_inverse=True)
    engine, model = task.decoding.engine, None
    if engine == "vllm":
        from evsim_assets.simulation.engines import vllm_tokenizer

        assert task.weights is not None
        tokenizer = vllm_tokenizer(task.weights)
    else:
        model, tokenizer = load_model()
    of_rows = asked_prompts(tokenizer, task.prompts.iloc[rows], digit_answers=task.digit_answers)
    brief, tolerance = _as_read(task, rows)
    of_rows = of_rows.apart(brief + 2 * (tolerance > task.tolerance))
    number = of_rows.of_row[place]
    if task.temperature == 0:  # every row of a prompt has one text
        _, kept, again = np.unique(number, return_index=True, return_inverse=True)
    else:
        kept = again = np.arange(len(number))
    number, draws = number[kept], draws.take(kept)
    if engine == "exact":
        per_prompt = np.unique(of_rows.of_row, return_index=True)[1]
        as_read = brief[per_prompt], tolerance[per_prompt]
        texts = _continued(model, tokenizer, task, of_rows, as_read, number, draws)
    else:
        from evsim_assets.simulation.engines import Sampling, generated_texts, vllm_texts

        limit = np.maximum(task.decoding.max_new_tokens, of_rows.label_tokens)[number]
        tokens = [of_rows.tokens[one] for one in number]
        sampling = Sampling(task.temperature, task.decoding, limit, draws.seed)
        if task.weights is not None and engine == "vllm":
            texts = vllm_texts(task.weights, tokenizer, tokens, sampling)
        else:
            texts = generated_texts(
                model,
                tokenizer,
                tokens,
                sampling,
                batch_tokens=task.batch_tokens,
                on_progress=task.on_progress,
            )
    return [texts[k] for k in again]


def _as_read(task: _Task, rows: Ints) -> tuple[Bools, Floats]:
    """How the prompt of each of these rows was walked when its distribution was read, as that says: (rows,)
    both. Whether its numbers were taken to end (`brief`), and how much was left unread at most."""
    brief, tolerance = np.zeros(len(rows), dtype=bool), np.full(len(rows), task.tolerance)
    if task.distributions is not None and task.decoding.reading == "audited":
        read = task.distributions.iloc[rows]
        brief = (read["taken"] > 0).to_numpy()
        nearly = brief | (read["unexpanded"] > task.tolerance).to_numpy()
        tolerance[nearly] = max(task.tolerance, unread_at_most(task.decoding.audit))
    return brief, tolerance


def _continued(
    model: Any,
    tokenizer: Any,
    task: _Task,
    asked: AskedPrompts,
    as_read: tuple[Bools, Floats],
    number: Ints,
    draws: _Draws,
) -> list[str]:
    """The text of every draw, given where it fell; `number` (n,): its prompt, `as_read` (P,): see `_as_read`.

    Numbers are followed only for prompts with a draw that needs it: the ways to write no answer are found
    alike without (`answer_walk.BEFORE`), so that a text does not depend on the other draws of its prompt.
    """
    from evsim_assets.simulation.answer_walk import NO_ANSWER
    from evsim_assets.simulation.decoding import continued_texts

    brief, tolerance = as_read
    within = np.zeros(len(asked.tokens), dtype=bool)
    within[number[draws.outcome != NO_ANSWER]] = True
    walk = walk_of(
        model,
        tokenizer,
        asked,
        [task.temperature],
        task.decoding,
        tolerance,
        task.batch_tokens,
        within,
        brief,
    )
    return continued_texts(
        model, tokenizer, asked, walk, number, draws.outcome, draws.seed, on_progress=task.on_progress
    )


def _as_table(task: _Task, draws: _Draws, written: Ints, texts: Sequence[str]) -> pd.DataFrame:
    """The contract's table; F reads every decoded text, so a row's answer never disagrees with its text."""
    scales = row_scales(task.prompts, digit_answers=task.digit_answers)
    labels = row_labels(task.prompts, digit_answers=task.digit_answers)
    low, _, step = scales[draws.row].T
    number = low + step * np.maximum(draws.outcome, 0)
    text = _drawn_texts(draws, number, labels)
    success = np.ones(len(number), dtype=bool)
    for k, row, written_text in zip(written.tolist(), draws.row[written].tolist(), texts, strict=True):
        answer = _answer_in(written_text, scales[row], labels[row])
        text[k], success[k] = written_text, answer is not None
        number[k] = 0 if answer is None else answer
    made_by = np.full(len(number), "distribution", dtype=object)
    made_by[written] = WRITTEN[task.decoding.engine]
    named = task.prompts[["prompt_id", "participant", "question"]].iloc[draws.row]
    return named.reset_index(drop=True).assign(
        temperature=task.temperature,
        replicate=draws.replicate,
        text=pd.Series(text, dtype="str"),
        answer=pd.arrays.IntegerArray(number, ~success),
        success=success,
        made_by=pd.Series(made_by, dtype="str"),
        seed=draws.seed,
    )


def _drawn_texts(draws: _Draws, number: Ints, labels: Sequence[tuple[str, ...]]) -> npt.NDArray[np.object_]:
    """The number, or the label, of every draw (n,); of those that fell on no answer it means nothing."""
    different, place = np.unique(number, return_inverse=True)
    text = np.array([str(one) for one in different.tolist()], dtype=object)[place]
    sets = {words: k for k, words in enumerate(dict.fromkeys(labels))}
    of_draw = np.array([sets[words] for words in labels], dtype=np.int64)[draws.row]
    for words, k in sets.items():
        if words:
            chosen = np.flatnonzero(of_draw == k)
            text[chosen] = np.array(words, dtype=object)[np.maximum(draws.outcome[chosen], 0)]
    return text


def _answer_in(text: str, scale: Ints, labels: tuple[str, ...]) -> int | None:
    """What F finds in the text, where that is an answer."""
    low, high, step = scale.tolist()
    answers = range(low, high + 1, step)
    if labels:
        found = first_label(text, labels)
        return None if found is None else answers[found]
    number = number_in(text, low)
    return number if number in answers else None
