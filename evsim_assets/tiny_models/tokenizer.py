"""The tiny models' own tokenizer: a small byte-level BPE that keeps digits apart, as Llama 2's does.

Belongs here: how it is trained, its special tokens and its chat template. Not here: how chats become
prompt and answer tokens (`prompts/chat.py`). Imports tokenizers; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from evsim_assets.tiny_models.corpus import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY_SIZE = 2048
LONGEST_TEXT = 2048
"""Positions the models are made for, in tokens."""

BOS, EOS, PAD = "<s>", "</s>", "<pad>"

CHAT_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' -%}
{%- set system = '<<SYS>>\\n' + messages[0]['content'] | trim + '\\n<</SYS>>\\n\\n' -%}
{%- set turns = messages[1:] -%}
{%- else -%}
{%- set system = '' -%}
{%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
{%- if message['role'] == 'user' -%}
{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'] | trim + ' [/INST]' }}
{%- elif message['role'] == 'assistant' -%}
{{ ' ' + message['content'] | trim + eos_token }}
{%- else -%}
{{ raise_exception('a chat has one system message, at its beginning, then user and assistant in turn') }}
{%- endif -%}
{%- endfor -%}
"""
"""Llama 2's. It ends where the answer begins, so a generation prompt adds nothing to it."""


def train_tokenizer(texts: Sequence[Text], size: int = VOCABULARY_SIZE) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `size` entries learned from `texts`; any string can be spelled with it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BOS, EOS, PAD],
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(_strings(texts), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return _wrapped(tokenizer)


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=LONGEST_TEXT,
        clean_up_tokenization_spaces=False,
    )


def _strings(texts: Sequence[Text]) -> Iterator[str]:
    """Each text as the template's parts will be seen by the BPE, special tokens aside."""
    for text in texts:
        if isinstance(text, str):
            yield text
        else:
            for message in text:
                yield {
                    "system": f"[INST] <<SYS>>\n{message['content']}\n<</SYS>>\n\n",
                    "user": f"{message['content']} [/INST]",
                    "assistant": f" {message['content']}",
                }[message["role"]]
