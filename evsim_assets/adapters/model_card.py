"""The README.md of a trained adapter.

Belongs here: its words. Not here: where its numbers come from (`training.py`). No times and no paths in it,
so that equal adapters have equal folders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evsim_assets.specs.study import AdapterSpec


def model_card(spec: AdapterSpec, facts: Mapping[str, Any], *, base_model: str, data_version: str) -> str:
    """Hugging Face's form: a YAML head, then what was trained on what, how, and how well.

    `facts` are those of a TrainingResult; `data_version` names the prompts trained on.
    """
    training = spec.training
    assert training is not None
    full = spec.method == "full"
    head = ["base_model: " + json.dumps(base_model), "pipeline_tag: text-generation"]
    head += ["library_name: transformers"] if full else ["library_name: peft", "tags: [lora]"]
    trained = (
        "every weight, without an adapter"
        if full
        else f"LoRA on all linear layers: r {training.rank}, alpha {training.lora_alpha:g}, dropout"
        f" {training.dropout:g}"
    )
    what = "A language model made to answer" if full else "An adapter that makes a language model answer"
    shared = facts["text_tokens"] / max(1, facts["tree_tokens"])
    return "\n".join(
        [
            "---",
            *head,
            "---",
            "",
            f"# {spec.key}",
            "",
            f"{what} survey questions as a sampled population does.",
            "",
            "## Training",
            "",
            f"- base model: {base_model}; method: {spec.method}, base weights held as"
            f" {facts['base_weights']}",
            f"- trained: {trained}",
            f"- loss: {_loss(spec)}",
            f"- data: {facts['texts']} answers of {facts['participants']} participants;"
            f" version {data_version}",
            f"- {training.epochs:g} epochs in {facts['steps']} steps of {training.batch_size} answers;"
            f" AdamW, learning rate {training.learning_rate:g}, {training.schedule}",
            f"- the steps of the first epoch: {facts['tree_tokens']} tokens through the model"
            f" for {facts['text_tokens']} tokens of text ({shared:.2f} to 1)",
            "",
            "## Validation loss",
            "",
            "| step | loss (nats) | |",
            "|---|---|---|",
            f"| 0 | {facts['pretrained_validation_loss']:.4f} | the base model |",
            f"| {facts['best_step']} | {facts['best_validation_loss']:.4f} | lowest of"
            f" {facts['evaluations']} evaluations: these weights |",
            "",
            "## Spec",
            "",
            "```json",
            json.dumps(spec.model_dump(mode="json"), indent=2, sort_keys=True),
            "```",
            "",
        ]
    )


def _loss(spec: AdapterSpec) -> str:
    assert spec.training is not None
    loss = f"cross entropy on the {spec.training.loss_on}"
    if spec.penalty:
        loss = f"(1 − {spec.penalty.alpha:g}) × {loss} + {spec.penalty.alpha:g} × numeric penalty"
        loss += f" (d = {spec.penalty.d:g})"
    return loss + (", each answer by its survey weight" if spec.training.survey_weights else "")
