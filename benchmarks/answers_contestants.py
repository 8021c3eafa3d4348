"""Who takes part in the benchmark of answers: evsim, transformers' `generate`, and one bare prefill.

Belongs here: the model with its trained adapter, and each one's way to answer all prompts. Not here: texts
(`training_texts.py`), clocks and tables (`answers.py`), where the time goes (`answers_profile.py`).

All read the same prompts with the same weights, the adapter merged into them, so that nobody pays for it at
every token. Each has a model of its own, and whoever is not evsim one without evsim's hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from training_contestants import Shape, make_model

from evsim_assets.simulation.asked import asked_prompts, batches
from evsim_assets.simulation.audit import AuditFound
from evsim_assets.simulation.distributions import BATCH_TOKENS, answer_distributions
from evsim_assets.specs.study import Audit, Decoding
from evsim_assets.token_tree.batch import lay_out, logits_at
from evsim_assets.token_tree.last_layer import ATTRIBUTE
from evsim_assets.token_tree.layout import prepare
from evsim_assets.token_tree.losses import Text, loss_batches, weighted_loss
from evsim_assets.token_tree.tree import Indices, TokenTree, build_tree

NEW_TOKENS = 8
FILLER = 0
RATE, CLIPPED = 2e-3, 1.0
TINY = 1e-15
"""Adam's epsilon. With the usual 1e-8, words that are never written keep some 1e-4 in all: their gradients
are smaller than that; a pretrained model has long unlearned them."""
Weights = dict[str, torch.Tensor]


class Remembering:
    """A tokenizer that does everything once. Tokens of prompts and the texts of the vocabulary are there
    before the clock starts, for all contestants alike."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._seen: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked by pickle, before there is anything
            raise AttributeError(name)
        return getattr(self._tokenizer, name)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def apply_chat_template(self, messages: Sequence[dict[str, str]], **options: Any) -> Any:
        key = (*(m["content"] for m in messages), *options.items())
        if key not in self._seen:
            self._seen[key] = self._tokenizer.apply_chat_template(messages, **options)
        return self._seen[key]

    def batch_decode(self, tokens: Sequence[Sequence[int]], **options: Any) -> Any:
        if len(tokens) != len(self):  # texts, not the vocabulary
            return self._tokenizer.batch_decode(tokens, **options)
        key = (*tokens[0], *options.items())
        if key not in self._seen:
            self._seen[key] = self._tokenizer.batch_decode(tokens, **options)
        return self._seen[key]


def adapted(steps: Sequence[Sequence[Text]], shape: Shape, rate: float = RATE) -> tuple[Weights, list[float]]:
    """The weights of a model whose adapter is trained on the texts of `steps`, one optimizer step each, and
    the loss of each step. The learning rate falls to a tenth, as a half cosine.

    The head is trained too: a random one would keep mass on all of its words, which no pretrained model does,
    and whose share goes on behind a number decides how much is read.
    """
    model = make_model(shape)
    if (able := prepare(model)) != "tree":
        raise SystemExit(f"the model does not take token trees here, only {able} texts")
    model.get_output_embeddings().weight.requires_grad_(True)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0, eps=TINY)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(steps), rate / 10)
    losses = []
    for texts in steps:
        losses.append(0.0)
        parts = loss_batches(texts, loss_on="answer", alpha=0.0, max_tokens=2**14, device=shape.device)
        for part in parts:
            loss = weighted_loss(model, part)
            loss.backward()
            losses[-1] += loss.item()
        torch.nn.utils.clip_grad_norm_(trained, CLIPPED)
        optimizer.step()
        falling.step()
        optimizer.zero_grad()
    return model.merge_and_unload().state_dict(), losses


def model_of(weights: Weights, shape: Shape, end: int) -> Any:
    """A model of its own with these weights and transformers' own attention, in eval mode."""
    model = make_model(shape).unload()
    model.load_state_dict(weights)
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = FILLER
    return model.eval()


@dataclass(frozen=True)
class Ours:
    """evsim: the distribution of every prompt at all temperatures."""

    model: Any
    tokenizer: Any
    reading: Literal["full", "audited"]
    tolerance: float = 1e-6
    batch_tokens: int = BATCH_TOKENS
    audit: Audit = Audit()  # noqa: RUF009 - frozen

    @property
    def decoding(self) -> Decoding:
        return Decoding(
            max_new_tokens=NEW_TOKENS, reading=self.reading, tolerance=self.tolerance, audit=self.audit
        )

    def answer(
        self,
        prompts: pd.DataFrame,
        temperatures: Sequence[float],
        on_audit: Callable[[AuditFound], None] | None = None,
    ) -> pd.DataFrame:
        return answer_distributions(
            self.model,
            self.tokenizer,
            prompts,
            digit_answers=False,
            temperatures=temperatures,
            decoding=self.decoding,
            batch_tokens=self.batch_tokens,
            on_audit=on_audit,
        )


@dataclass(frozen=True)
class Generate:
    """transformers' `generate`: one text a prompt, at one temperature.

    Prompts are sorted by length, so that a batch holds little padding. Sampling is over the whole vocabulary:
    without `top_k=0` it would silently be over the likeliest 50.
    """

    model: Any
    at_once: int

    def answer(self, prompts: Sequence[Sequence[int]], temperature: float) -> list[list[int]]:
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        texts: list[list[int]] = [[] for _ in prompts]
        for i in range(0, len(order), self.at_once):
            batch = order[i : i + self.at_once]
            width = max(len(prompts[k]) for k in batch)
            filled = [[FILLER] * (width - len(prompts[k])) for k in batch]
            ids = torch.tensor([[*f, *prompts[k]] for f, k in zip(filled, batch, strict=True)])
            seen = torch.tensor([[*f, *[1] * len(prompts[k])] for f, k in zip(filled, batch, strict=True)])
            made = _generated(self.model, ids, temperature, attention_mask=seen.to(self.model.device))
            for k, text in zip(batch, made, strict=True):
                texts[k] = text
        return texts

    def samples(self, prompt: Sequence[int], temperature: float, count: int) -> list[list[int]]:
        """`count` texts for one prompt, which is read once."""
        texts: list[list[int]] = []
        while len(texts) < count:
            some = min(250, count - len(texts))
            ids = torch.tensor([prompt], device=self.model.device)
            with torch.inference_mode():
                cache = self.model(ids[:, :-1], use_cache=True).past_key_values
            cache.batch_repeat_interleave(some)
            texts += _generated(self.model, ids.repeat(some, 1), temperature, past_key_values=cache)
        return texts


def _generated(model: Any, ids: torch.Tensor, temperature: float, **given: Any) -> list[list[int]]:
    """The new tokens behind every row of `ids`, up to the end of the text."""
    how: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    with torch.inference_mode():
        made = model.generate(ids.to(model.device), max_new_tokens=NEW_TOKENS, use_cache=True, **how, **given)
    rows: list[list[int]] = made[:, ids.shape[1] :].tolist()
    end = model.generation_config.eos_token_id
    return [row[: row.index(end)] if end in row else row for row in rows]


@dataclass(frozen=True)
class Prefill:
    """One forward pass over the prompts' trees, as evsim cuts them, with logits at the prompts' ends.

    The trees are built before; the plan of their attention is made in the pass. With `narrowed` the last
    layer computes only what is read (evsim's own saving), else it is the model as it is.
    """

    model: Any
    trees: list[tuple[TokenTree, Indices]]
    narrowed: bool

    def read(self) -> None:
        for tree, ends in self.trees:
            with torch.inference_mode():
                logits_at(self.model, lay_out(tree, "tree", self.model.device), ends)


def prefill(model: Any, tokenizer: Any, prompts: pd.DataFrame, *, narrowed: bool) -> Prefill:
    """`model` set up for that, and the trees that evsim makes of `prompts`."""
    prepare(model)
    if not narrowed:
        getattr(model, ATTRIBUTE).remove()
    asked = asked_prompts(tokenizer, prompts, digit_answers=False)
    trees = []
    for batch in batches(asked, BATCH_TOKENS):
        tree, paths = build_tree([asked.tokens[number] for group in batch for number in group])
        trees.append((tree, np.array([path[-1] for path in paths])))
    return Prefill(model, trees, narrowed)
