from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM

from evsim_assets.specs.errors import BadInput
from evsim_assets.token_tree.batch import logits_at, pad_trees
from evsim_assets.token_tree.tree import build_tree
from tests.token_tree.plain import tiny_llama

TEXTS = [[1, 5, 9, 2, 7], [1, 5, 9, 3], [1, 5, 8, 8, 8, 8], [4, 4]]


def _gemma(**changes: Any) -> Any:
    torch.manual_seed(0)
    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=40,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            head_dim=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.5,
            **{"final_logit_softcapping": 1.5, **changes},
        )
    )


def _qwen() -> Any:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=40,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.2,
            tie_word_embeddings=True,
        )
    )


@pytest.mark.parametrize(
    "make",
    [
        tiny_llama,
        lambda: tiny_llama(attn_implementation="eager"),
        _gemma,
        _qwen,
    ],
    ids=["llama", "llama-eager", "gemma2-softcapped", "qwen2-tied"],
)
def test_logits_in_a_batch_of_trees_are_those_of_each_text_alone(make: Any) -> None:
    model = make().eval()
    built = [build_tree(TEXTS[:2]), build_tree(TEXTS[2:])]
    batch = pad_trees([tree for tree, _ in built])
    with torch.no_grad():
        for text, (number, place) in zip(TEXTS, [(0, 0), (0, 1), (1, 0), (1, 1)], strict=True):
            rows = torch.from_numpy(batch.flat(number, built[number][1][place]))
            alone = model(input_ids=torch.tensor([text])).logits[0]
            torch.testing.assert_close(logits_at(model, batch, rows), alone, rtol=1e-4, atol=1e-5)


def test_padding_sees_itself_alone_and_nobody_sees_it() -> None:
    small, large = build_tree([[1, 2]])[0], build_tree([[3, 4, 5, 6]])[0]
    allowed = pad_trees([small, large]).allowed[0, 0].numpy()
    assert np.array_equal(allowed[2:], np.eye(4, dtype=bool)[2:])
    assert not allowed[:2, 2:].any()


def test_a_text_longer_than_a_sliding_window_is_refused() -> None:
    model = _gemma(sliding_window=4)
    tree, paths = build_tree([[1, 2, 3, 4, 5, 6]])
    with pytest.raises(BadInput, match="sliding attention window of 4"):
        logits_at(model, pad_trees([tree]), torch.from_numpy(paths[0]))
