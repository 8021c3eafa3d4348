"""Chat messages as a model's own tokens: the one place where a prompt meets a tokenizer.

Belongs here: the split of a rendered chat into prompt and answer tokens, the same for training and
for reading. Not here: what the messages say (`render.py`), what is done with the tokens.
"""

from __future__ import annotations

from typing import Any

from evsim_assets.specs.errors import BadInput


def render(tokenizer: Any, system: str, user: str, answer: str | None = None) -> tuple[list[int], list[int]]:
    """Token ids of the prompt, and of the answer with its end of turn (empty without an answer).

    The prompt is the model's own chat template up to where the assistant speaks, so nothing is
    opened twice and training and reading see identical prompts.

    Raises:
        BadInput: the tokenizer has no chat template, or its template renders a prompt that is not
            the beginning of the full text (then no answer could be read at the prompt's end).
    """
    if not tokenizer.chat_template:
        raise BadInput(
            "the model's tokenizer has no chat template",
            value=tokenizer.name_or_path,
            remedy="use a chat model, or add chat_template.jinja to the model's folder",
        )
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    prompt = _ids(tokenizer, messages, add_generation_prompt=True)
    if answer is None:
        return prompt, []
    full = _ids(tokenizer, [*messages, {"role": "assistant", "content": answer}])
    if full[: len(prompt)] != prompt:
        raise BadInput(
            "the chat template does not render the prompt as the beginning of the full text",
            value=tokenizer.name_or_path,
            remedy="use a template whose generation prompt ends where the answer begins",
        )
    return prompt, full[len(prompt) :]


def _ids(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> list[int]:
    rendered = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)
    return list(rendered["input_ids"])
