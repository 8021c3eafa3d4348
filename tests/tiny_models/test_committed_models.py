"""The models in data/models: they load like any other, fit in a repository, and speak digits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evsim_assets.prompts.chat import render

MODELS = Path(__file__).parents[2] / "data" / "models"
NAMES = ("s", "m", "l")
SYSTEM = "Answer as this person would. {age: 18–25, income: $10,001 to $40,000}"
USER = "On a scale from 0 to 100, what is your current preference for kites? Score:"


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest) -> Path:
    return MODELS / request.param


def test_together_they_are_at_most_12_megabytes() -> None:
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) <= 12_000_000


def test_weights_are_safetensors_only_and_a_card_lies_beside(folder: Path) -> None:
    files = {file.name for file in folder.iterdir()}
    assert files == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert "stand" in (folder / "README.md").read_text(encoding="utf-8")


def test_all_have_the_same_tokenizer() -> None:
    assert len({(MODELS / name / "tokenizer.json").read_bytes() for name in NAMES}) == 1


def test_digits_are_tokens_of_their_own(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize(" 72") == ["Ġ", "7", "2"]
    entries = [tokenizer.decode([i]) for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
    assert sorted(e for e in entries if any(c in "0123456789" for c in e)) == list("0123456789")


def test_any_text_survives_the_tokenizer(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in ("BEVs’ range: 400 miles – $7,500!", "  two  blanks\n", "naïve 漢字 🙂"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text


def test_padding_is_neither_beginning_nor_end(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


def test_a_chat_reads_like_llama_2s(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt, answer = render(tokenizer, "Be brief.", "How much?", "72")
    assert tokenizer.decode(prompt) == "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHow much? [/INST]"
    assert tokenizer.convert_ids_to_tokens(answer) == ["Ġ", "7", "2", "</s>"]
    without_system = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert without_system == "<s>[INST] Hi [/INST]"


@pytest.mark.parametrize("answer", ["0", "7", "100", "-3", "As I said, 5.", "I'm just an AI"])
def test_the_prompt_is_the_beginning_of_the_full_text(folder: Path, answer: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt, _ = render(tokenizer, SYSTEM, USER)
    same_prompt, tokens = render(tokenizer, SYSTEM, USER, answer)  # raises if it is not
    assert same_prompt == prompt
    assert tokenizer.decode(tokens) == f" {answer}</s>"


def test_they_load_and_their_logits_are_finite(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.max_position_embeddings >= 2048
    prompt, _ = render(tokenizer, SYSTEM, USER)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt])).logits
    assert torch.isfinite(logits).all()


def test_nothing_limits_the_vocabulary_when_they_sample(folder: Path) -> None:
    generation = AutoModelForCausalLM.from_pretrained(folder).generation_config
    assert generation.top_k in (None, 0)
    assert generation.top_p in (None, 1.0)


def test_linear_layers_fit_4_bit_weights(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    layers = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    assert layers
    assert all(layer.out_features % 32 == 0 and layer.weight.numel() % 64 == 0 for layer in layers)


def test_they_have_learned_to_answer_a_rating_with_a_number_more_often_than_by_chance(folder: Path) -> None:
    """The first token that is no blank: a digit for most of the mass, far from all of it."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt, answer = render(tokenizer, SYSTEM, USER, "7")
    digits = [tokenizer.convert_tokens_to_ids(d) for d in "0123456789"]
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, answer[0]]])).logits[0]  # (tokens, vocabulary)
    blank = logits[-2].softmax(-1)[answer[0]]
    assert 0.2 < blank * logits[-1].softmax(-1)[digits].sum() < 0.95
