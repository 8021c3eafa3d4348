from typing import Any

import numpy as np
import pytest
import torch

from evsim_assets.token_tree.batch import lay_out, logits_at
from evsim_assets.token_tree.last_layer import ATTRIBUTE
from evsim_assets.token_tree.layout import prepare
from evsim_assets.token_tree.tree import build_tree
from tests.token_tree.families import MAKE, TAKES_TREES
from tests.token_tree.plain import tiny_llama, with_adapter

TEXTS = [[1, 5, 9, 2, 7, 7, 3], [1, 5, 9, 3, 3], [1, 5, 8, 8, 8, 8, 2, 9], [4, 4]]


def rows_through(part: Any, run: Any) -> list[int]:
    """How many rows pass a module in each call while `run` runs."""
    rows: list[int] = []
    hook = part.register_forward_hook(lambda m, given, output: rows.append(given[0].flatten(0, -2).shape[0]))
    run()
    hook.remove()
    return rows


@pytest.mark.parametrize("family", TAKES_TREES)
def test_the_last_layer_computes_what_is_read_and_no_more(family: str) -> None:
    model = MAKE[family]()
    prepare(model)
    tree, paths = build_tree(TEXTS)
    ends = np.array([path[-1] for path in paths])

    def read() -> None:
        with torch.no_grad():
            found = logits_at(model, lay_out(tree), ends)
            alone = torch.stack([model(input_ids=torch.tensor([text])).logits[0, -1] for text in TEXTS])
        assert float((found - alone).abs().max() / alone.std()) < 1e-5

    first, last = model.get_decoder().layers
    in_first = rows_through(getattr(first.mlp, "down_proj", first.mlp), read)
    in_last = rows_through(getattr(last.mlp, "down_proj", last.mlp), read)
    assert in_first == [len(tree), *map(len, TEXTS)]
    assert in_last == [len(TEXTS), *map(len, TEXTS)]


def test_with_checkpointing_loss_and_gradients_are_the_same_bit_by_bit() -> None:
    losses, gradients = [], []
    for checkpointed in (False, True):
        model = with_adapter(tiny_llama())
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        assert prepare(model) == "tree"
        model.train()
        tree, paths = build_tree(TEXTS)
        loss = logits_at(model, lay_out(tree), np.array([path[-1] for path in paths])).logsumexp(-1).sum()
        loss.backward()
        losses.append(loss.item())
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert losses[0] == losses[1]
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) == 2 * 7 * 2
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name])


def test_a_model_prepared_twice_is_narrowed_once() -> None:
    model = tiny_llama().eval()
    prepare(model)
    prepare(model)
    last = getattr(model, ATTRIBUTE)
    assert len(model.get_decoder().layers[-1].mlp._forward_pre_hooks) == 1
    last.remove()
    assert not model.get_decoder().layers[-1].mlp._forward_pre_hooks
