"""What the tree is compared with: full texts, one by one in a padded batch, by ordinary transformers code."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from evsim_assets.token_tree.losses import Text


def tiny_llama(seed: int = 0, **changes: Any) -> Any:
    """A Llama with random weights, spread enough for its distributions to be far from uniform."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": 40,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
    }
    return LlamaForCausalLM(LlamaConfig(**{**shape, **changes}))


def with_adapter(model: Any, seed: int = 0) -> Any:
    """LoRA whose two matrices are both random: fresh ones have a zero, which hides half the gradients."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return adapted


def padded(sequences: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Input ids and 2D attention mask, padded on the right."""
    n = max(len(s) for s in sequences)
    ids = torch.zeros(len(sequences), n, dtype=torch.long)
    mask = torch.zeros(len(sequences), n, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return ids, mask


def answer_log_probability(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """log p(answer | prompt), all its tokens, from a batch of one."""
    log_p = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return torch.stack([log_p[i, token] for i, token in zip(places, answer, strict=True)]).sum()


def plain_loss(model: Any, texts: list[Text], loss_on: str, alpha: float) -> torch.Tensor:
    """(1 − α) cross entropy by labels in a padded batch + α × the penalty, text by text; both are means
    weighted by the texts' survey weights."""
    full = [[*t.prompt, *t.answer] for t in texts]
    ids, mask = padded(full)
    labels = ids.masked_fill(mask == 0, -100)
    if loss_on == "answer":
        for row, text in enumerate(texts):
            labels[row, : len(text.prompt)] = -100
    logits = model(input_ids=ids, attention_mask=mask).logits
    each = cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="none"
    ).view(len(texts), -1)
    weight = torch.tensor([t.weight for t in texts])
    cross = (weight @ each).sum() / (weight @ (labels[:, 1:] != -100).float()).sum()
    if alpha == 0:
        return cross
    penalty = -sum(
        t.weight * mass * answer_log_probability(model, list(t.prompt), list(tokens))
        for t in texts
        for mass, tokens in t.candidates
    ) / sum(t.weight for t in texts)
    return (1 - alpha) * cross + alpha * penalty


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """Of every trained weight; they are cleared."""
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found
