"""What each entry of a tokenizer's vocabulary adds to a text: its letters, and its bytes.

Belongs here: the text and the bytes of entries, as the tokenizer itself decodes them. Not here: what
they mean for a number (`numbers.py`) or for a label (`labels.py`).

One thing no entry says by itself: decoders with byte fallback write every byte of a run `<0x..>` as the
replacement character where the run is no UTF-8, so a digit spelled `<0x37>` is lost again if a broken
letter follows at once. Entries are taken as if each stood alone behind a letter.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]

REPLACEMENT = "\ufffd"
"""What decoders write for bytes that are no whole letter."""


def token_texts(tokenizer: Any) -> list[str]:
    """The text each entry adds behind another token; empty for special tokens.

    Decoded by the tokenizer itself, behind an anchor, because decoders drop a blank at the beginning
    of a text and write partial characters as the replacement character.
    """
    anchor = tokenizer.encode("a", add_special_tokens=False)[-1:]
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    alone = tokenizer.decode(anchor, **options)
    together = tokenizer.batch_decode([[*anchor, token] for token in range(len(tokenizer))], **options)
    return [text.removeprefix(alone) for text in together]


def token_bytes(tokenizer: Any, silent: Bools) -> list[bytes]:
    """The bytes that each entry adds behind another token, as many as `silent`; none for silent ones."""
    texts = token_texts(tokenizer)
    pieces = [b""] * len(silent)
    for token in np.flatnonzero(~silent).tolist():
        pieces[token] = bytes_of(tokenizer, token, texts[token])
    return pieces


def bytes_of(tokenizer: Any, token: int, text: str) -> bytes:
    """The bytes of one entry, whose text is `text`.

    They are those of its text, except for a part of a letter, whose text is only the replacement
    character: that is looked up in the entry itself, `<0xE2>` or a byte-level spelling.
    """
    raw = _raw_bytes(tokenizer.convert_ids_to_tokens(token)) if REPLACEMENT in text else None
    same = raw is not None and raw.decode(errors="replace") == text
    return raw if raw is not None and same else text.encode()


def _raw_bytes(entry: str) -> bytes | None:
    """The bytes that an entry spells, where it is one of the two known spellings of bytes."""
    if single := re.fullmatch("<0x([0-9A-Fa-f]{2})>", entry):
        return bytes([int(single[1], 16)])
    if all(letter in _BYTE_OF for letter in entry):
        return bytes(_BYTE_OF[letter] for letter in entry)
    return None


def _byte_level() -> dict[str, int]:
    """Byte-level BPE's letters: printable bytes stand for themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(others)}


_BYTE_OF = _byte_level()
