"""Tokenizers built here, without downloads: small ones to enumerate, larger ones to sample from.

Each writes numbers as a known family does: digits apart with a leading blank (Llama 2), up to three digits a
token (Llama 3), bytes (GPT-2), or a minus sign cut into its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
MINUS = "−".encode()
TEXT = "\n" + "".join(map(chr, range(0x20, 0x7F)))


def sentencepiece_like(entries: Sequence[str]) -> Any:
    """Llama 2's: `▁` for a blank, one before every text; `<0x..>` for what has no entry of its own.

    Entry 0 is the end of turn. Nothing but a `▁` is merged with what follows.
    """
    vocabulary = {entry: i for i, entry in enumerate(["</s>", *entries])}
    merges = [("▁", entry[1:]) for entry in entries if entry[0] == "▁" and {"▁", entry[1:]} < {*entries}]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _fast(tokenizer)


def byte_level_like(pieces: Iterable[bytes]) -> Any:
    """Llama 3's and GPT-2's: every entry spells bytes; up to three digits are taken as one where there is
    such an entry, and everything else byte by byte. Entry 0 is the end of turn.
    """
    letter = bytes_to_unicode()
    spelled = ["".join(letter[byte] for byte in piece) for piece in pieces]
    vocabulary = {entry: i for i, entry in enumerate(["</s>", *spelled])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d{1,3}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return _fast(tokenizer)


def _fast(tokenizer: Tokenizer) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", chat_template=CHAT)


def numbers_of(digits: str, width: int = 3) -> list[bytes]:
    """Every number of at most `width` of these digits."""
    return ["".join(n).encode() for size in range(1, width + 1) for n in product(digits, repeat=size)]


def _with_bytes(pieces: Sequence[bytes], bytes_too: Iterable[int]) -> list[bytes]:
    """The pieces, a blank with its minus sign, and single bytes, each once."""
    singles = (bytes([byte]) for byte in (*bytes_too, *MINUS))
    return list(dict.fromkeys([*singles, b" -", *pieces]))


TINY = {
    "digits apart": lambda: sentencepiece_like(["a", "▁", "▁-", "-", "0", "1", "3", "−", "<0x0A>", "5,"]),
    "three digits": lambda: byte_level_like([b"a", b" -", b"-", *numbers_of("13")]),
    "bytes": lambda: byte_level_like([b"a", b" ", b"-", b"0", b"1", b"3", *(bytes([b]) for b in MINUS)]),
    "split minus": lambda: byte_level_like(
        [
            b"a",
            b" " + MINUS[:2],
            MINUS[:2],
            MINUS[:1],
            MINUS[1:],
            MINUS[2:],
            MINUS[2:] + b"3",
            b"-3,",
            b"1",
            b"3",
        ]
    ),
    "byte fallback": lambda: sentencepiece_like(
        ["a", "▁", "<0x2D>", "1", "3", "▁3", *(f"<0x{byte:02X}>" for byte in MINUS)]
    ),
}
"""For brute force: at most 18 entries."""

FULL = {
    "digits apart": lambda: sentencepiece_like(["▁", "▁-", "−", *TEXT[2:], "<0x0A>"]),
    "three digits": lambda: byte_level_like(_with_bytes(numbers_of("01257"), sorted(map(ord, TEXT)))),
    "every number": lambda: byte_level_like(_with_bytes(numbers_of("0123456789"), range(256))),
}
"""Every ASCII text can be written; in "three digits" only some numbers are one token."""
