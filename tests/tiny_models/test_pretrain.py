"""Pre-training: the committed command, on a few texts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evsim_assets.tiny_models import build as build_module
from evsim_assets.tiny_models.__main__ import main
from evsim_assets.tiny_models.behaviour import Behaviour, manner
from evsim_assets.tiny_models.build import shared_tokenizer
from evsim_assets.tiny_models.corpus import texts
from evsim_assets.tiny_models.material import read_material
from evsim_assets.tiny_models.pretrain import pretrain, token_ids, untrained

CORPUS = Path(__file__).parents[2] / "data" / "models" / "corpus.yaml"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer texts for the tokenizer, and no sampling for the card."""
    monkeypatch.setattr(build_module, "TOKENIZER_TEXTS", 600)
    figures = Behaviour(0.5, 0.1, 0.2, 0.2, 0.0, 0.0, 0.7, 0.1, 10)
    monkeypatch.setattr(build_module, "behaviour", lambda *args, **options: figures)


def test_the_command_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    for place in ("first", "second"):
        asked = ["--corpus", str(CORPUS), "--out", str(tmp_path / place), "--only", "s", "--documents", "40"]
        assert main(asked) == 0
    names = {file.name for file in (tmp_path / "first" / "s").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "README.md"} <= names
    for name in names:
        first, second = ((tmp_path / place / "s" / name).read_bytes() for place in ("first", "second"))
        assert first == second, name


def test_an_unknown_model_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--corpus", str(CORPUS), "--out", str(tmp_path), "--only", "xxl"]) == 2
    assert "no such tiny model (got 'xxl')" in capsys.readouterr().err


def test_training_lowers_the_loss_on_texts_not_read() -> None:
    torch.set_num_threads(1)
    material = read_material(CORPUS)
    tokenizer = shared_tokenizer(material, seed=0)
    model = untrained(material.models["s"], tokenizer, 0, "s")
    unread = [token_ids(tokenizer, text) for text in texts(material, "m", 12, seed=9)]
    before = _loss(model, unread)
    pretrain(model, tokenizer, texts(material, "s", 120, seed=0), 4e-3, seed=0)
    assert before == pytest.approx(torch.log(torch.tensor(len(tokenizer))).item(), abs=0.3)
    assert _loss(model, unread) < before - 1


def test_a_chat_ends_with_the_end_of_turn_and_a_plain_text_too() -> None:
    material = read_material(CORPUS)
    tokenizer = shared_tokenizer(material, seed=0)
    for text in texts(material, "s", 30, seed=0):
        ids = token_ids(tokenizer, text)
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("72", "bare"),
        ("-3", "bare"),
        ("72 out of 100.", "number_first"),
        ("72.", "number_first"),
        ("I say 60.", "number_later"),
        ("It depends.", "no_number"),
        ("", "no_number"),
    ],
)
def test_answers_are_sorted_by_manner(answer: str, expected: str) -> None:
    assert manner(answer) == expected


def _loss(model: torch.nn.Module, rows: list[list[int]]) -> float:
    """Mean nats per text's token, one text at a time."""
    model.eval()
    with torch.inference_mode():
        losses = [model(torch.tensor([row]), labels=torch.tensor([row])).loss.item() for row in rows]
    model.train()
    return sum(losses) / len(losses)
