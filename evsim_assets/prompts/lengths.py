"""How many tokens a study's prompts have for a model, and how many of them are shared.

Belongs here: counting (the paper's Table 5, and the token tree's saving), and which prompts do not fit
into the model's context. Not here: trees (`token_tree/`), budgets, what to do about long prompts.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evsim_assets import sql
from evsim_assets.prompts.chat import render
from evsim_assets.specs.errors import BadInput
from evsim_assets.token_tree.tree import build_tree

if TYPE_CHECKING:
    import duckdb

COUNTED_PARTICIPANTS = 200
"""Lengths are counted on this many participants at most, the first by id; `over_context` on all."""

PERCENTILES = (5, 50, 95, 99)
_NFKC_GROWTH = 11.0
"""Bytes that a byte can become in Unicode's compatibility forms, at most (U+FDFA: 3 become 33)."""
_BATCH = 2_000


def token_lengths(
    prompts: Path | pd.DataFrame, tokenizer: Any, model: str, context_length: int | None
) -> pd.DataFrame:
    """One row a question, and one for all of them (`question` = "all").

    Counted on the first COUNTED_PARTICIPANTS: `participants`, `texts`, and for `prompt_tokens` and
    `answer_tokens` (with the end of turn) the mean, and `…_p5`, `…_p50`, `…_p95`, `…_p99` and `…_max`.

    Counted on every prompt: `texts_in_all`, `context` (tokens that the model can read), `over_context`
    (texts that have more, with their answer), `share_over_context`, and `longest`, the tokens of the
    longest of those. `longest` is null where none is over, all but the first where `context_length` is None.

    On the last row `text_tokens` and `tree_tokens` (means a participant and template) with
    `sharing` = text_tokens / tree_tokens, the work that the token tree saves.
    """
    with sql.connection() as database:
        if isinstance(prompts, Path):
            source = sql.parquet([prompts])
        else:
            database.register("given_prompts", prompts)
            source = "given_prompts"
        counted = _counted(database, source)
        sizes = _fits(database, source, tokenizer, context_length)
    texts = [
        render(tokenizer, system, user, target)
        for system, user, target in zip(counted["system"], counted["user"], counted["target"], strict=True)
    ]
    lengths = counted[["participant", "template", "question"]].assign(
        prompt_tokens=[len(prompt) for prompt, _ in texts],
        answer_tokens=[len(answer) for _, answer in texts],
    )
    trees = [
        len(build_tree([texts[i][0] + texts[i][1] for i in rows])[0].token)
        for rows in counted.groupby(["participant", "template"]).indices.values()
    ]
    rows = [_row(model, str(question), part) for question, part in lengths.groupby("question")]
    total = _row(model, "all", lengths)
    text_tokens = (lengths["prompt_tokens"] + lengths["answer_tokens"]).sum() / len(trees)
    total |= {
        "text_tokens": float(text_tokens),
        "tree_tokens": float(np.mean(trees)),
        "sharing": float(text_tokens / np.mean(trees)),
    }
    return pd.DataFrame([*rows, total]).merge(sizes, on="question", how="left")


def require_within_context(
    prompts: pd.DataFrame, tokenizer: Any, model: str, context_length: int | None
) -> None:
    """Refuse prompts that with their answer are longer than the model's context, before it is loaded.

    Raises:
        BadInput: says how many there are, and how long the longest is.
    """
    if context_length is None:
        return
    with sql.connection() as database:
        database.register("given_prompts", prompts)
        over = _over_context(database, "given_prompts", tokenizer, context_length)
    lengths = [tokens for of_question in over.values() for tokens in of_question]
    if lengths:
        raise BadInput(
            f"{len(lengths)} of {len(prompts)} prompts have more than the {context_length} tokens that the"
            f" model can read, the longest {max(lengths)}",
            field=f"models.{model}",
            value=max(over, key=lambda question: max(over[question])),
            remedy="shorten the texts of interventions or templates in the codebook, or use a model with a"
            " longer context",
        )


def _counted(database: duckdb.DuckDBPyConnection, source: str) -> pd.DataFrame:
    """The prompts of the first participants."""
    people = f"SELECT DISTINCT participant FROM {source} ORDER BY participant LIMIT {COUNTED_PARTICIPANTS}"
    [(last,)] = database.execute(f"SELECT max(participant) FROM ({people})").fetchall()
    return database.execute(
        f'SELECT participant, template, question, system, "user", target FROM {source}'
        f" WHERE participant <= {sql.text(str(last))}"
    ).df()


def _row(model: str, question: str, part: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": model,
        "question": question,
        "participants": part["participant"].nunique(),
        "texts": len(part),
    }
    for column in ("prompt_tokens", "answer_tokens"):
        counts = part[column].to_numpy()
        row[column] = float(counts.mean())
        row |= {f"{column}_p{p}": float(np.percentile(counts, p)) for p in PERCENTILES}
        row[f"{column}_max"] = int(counts.max())
    return row


def _fits(
    database: duckdb.DuckDBPyConnection, source: str, tokenizer: Any, context_length: int | None
) -> pd.DataFrame:
    """Per question, and for "all": `texts_in_all` and what is said of them.

    Exact, though only texts with so many bytes that they may not fit are tokenized.
    """
    table = database.execute(
        f"SELECT question, count(*) AS texts_in_all FROM {source} GROUP BY question ORDER BY question"
    ).df()
    everything = pd.DataFrame({"question": ["all"], "texts_in_all": [table["texts_in_all"].sum()]})
    table = pd.concat([table, everything], ignore_index=True)
    table["context"] = pd.array([context_length] * len(table), dtype="Int64")
    over: dict[str, list[int]] = {}
    if context_length is not None:
        over |= _over_context(database, source, tokenizer, context_length)
        over["all"] = [tokens for lengths in over.values() for tokens in lengths]
    found = [over.get(str(question), []) for question in table["question"]]
    counts = pd.Series([len(lengths) for lengths in found], dtype="Int64")
    table["over_context"] = counts.where(table["context"].notna())
    table["share_over_context"] = (table["over_context"] / table["texts_in_all"]).astype("Float64")
    table["longest"] = pd.array([max(lengths, default=None) for lengths in found], dtype="Int64")
    return table


def _over_context(
    database: duckdb.DuckDBPyConnection, source: str, tokenizer: Any, context_length: int
) -> dict[str, list[int]]:
    """The tokens of the prompts, by question, that with their answer have more than `context_length`."""
    factor, constant = token_bound(tokenizer)
    size = 'strlen(system) + strlen("user") + strlen(target)'
    long = database.execute(
        f'SELECT question, system, "user", target FROM {source}'
        f" WHERE {factor}::DOUBLE * ({size}) + {constant} > {context_length}"
    )
    over: dict[str, list[int]] = {}
    while rows := long.fetchmany(_BATCH):
        for question, system, user, target in rows:
            tokens = sum(map(len, render(tokenizer, system, user, target)))
            if tokens > context_length:
                over.setdefault(question, []).append(tokens)
    return over


def token_bound(tokenizer: Any) -> tuple[float, int]:
    """Numbers (f, c) such that a prompt and its answer have at most f · bytes + c tokens.

    `bytes` are those of the three messages in UTF-8. A token of a text stands for at least one byte of it
    (byte-level BPE, byte fallback), and so does a special token for those the chat template writes. A
    normalizer may make a text longer before it is cut: f is the most that it makes of any character. A
    mark that it puts at the beginning of a text or after a special token is no more than the
    bytes that the special tokens have.
    """
    short, long = (_rendered_bytes(tokenizer, length) for length in (1, 101))
    copies = max(1, math.ceil((long - short) / 300))  # how often the template writes a message
    growth = _growth(tokenizer)
    return growth * copies, math.ceil(growth * max(0, short - 3 * copies)) + 1


def _rendered_bytes(tokenizer: Any, length: int) -> int:
    messages = [{"role": role, "content": "x" * length} for role in ("system", "user", "assistant")]
    return len(tokenizer.apply_chat_template(messages, tokenize=False).encode())


def _growth(tokenizer: Any) -> float:
    """The most bytes that the normalizer makes of a byte, over all characters; 1 without one.

    SentencePiece's mark of a blank (U+2581) counts as the one byte that it stands for, where it is in the
    vocabulary, since it is never cut then.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _NFKC_GROWTH
    if backend.normalizer is None:
        return 1.0

    mark = " " if "\u2581" in tokenizer.get_vocab() else "\u2581"

    def size(text: str) -> int:
        return len(backend.normalizer.normalize_str(text).replace("\u2581", mark).encode())

    alone = size("a")  # a mark at the beginning is not made of the character
    characters = (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    return max(1.0, max((size("a" + c) - alone) / len(c.encode()) for c in characters))
