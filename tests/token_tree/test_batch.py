from typing import Any

import numpy as np
import pytest
import torch

from evsim_assets.specs.errors import BadInput
from evsim_assets.token_tree.batch import lay_out, logits_at
from evsim_assets.token_tree.layout import prepare
from evsim_assets.token_tree.tree import build_tree
from tests.token_tree.families import LAYOUTS, MAKE, ONLY_PACKED, ONLY_PADDED, TAKES_TREES, leans_on_the_batch
from tests.token_tree.plain import tiny_llama, with_adapter

TEXTS = [[1, 5, 9, 2, 7, 7, 3], [1, 5, 9, 3, 3], [1, 5, 8, 8, 8, 8, 2, 9], [4, 4]]


def differences(model: Any, layout: Any) -> float:
    """Largest difference between a text's logits in the tree of all texts and alone."""
    tree, paths = build_tree(TEXTS)
    with torch.no_grad():
        together = logits_at(model, lay_out(tree, layout), np.concatenate(paths))
        alone = torch.cat([model(input_ids=torch.tensor([text])).logits[0] for text in TEXTS])
    return float((together - alone).abs().max() / alone.std())


@pytest.mark.parametrize("family", TAKES_TREES)
def test_logits_in_a_tree_are_those_of_each_text_alone(family: str) -> None:
    model = TAKES_TREES[family]()
    assert prepare(model) == "tree"
    assert differences(model, "tree") < 1e-5


@pytest.mark.parametrize("family", TAKES_TREES)
def test_the_model_still_answers_plain_batches_as_it_did(family: str) -> None:
    model = TAKES_TREES[family]()
    ids = torch.tensor([[1, 5, 9, 2, 7, 7, 3], [4, 4, 0, 0, 0, 0, 0]])
    mask = torch.tensor([[1] * 7, [1, 1, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        before = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
        written = model.generate(ids[:1], max_new_tokens=6, do_sample=False)
        prepare(model)
        after = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
        assert torch.equal(model.generate(ids[:1], max_new_tokens=6, do_sample=False), written)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [*ONLY_PACKED, *ONLY_PADDED])
def test_a_model_that_cannot_take_trees_reads_full_texts_and_says_so(
    family: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, layout = MAKE[family](), LAYOUTS[family]
    own = model.config._attn_implementation
    assert prepare(model) == layout
    assert "cannot be given token trees" in caplog.text and layout in caplog.text
    assert model.config._attn_implementation == own
    assert differences(model, layout) < 1e-5


def test_a_model_whose_answers_depend_on_the_batch_is_refused() -> None:
    with pytest.raises(BadInput, match="depend on what else is in the batch") as refused:
        prepare(leans_on_the_batch())
    assert "layers that make a mask of their own" in str(refused.value)


def test_weights_that_are_no_numbers_are_named() -> None:
    model = tiny_llama()
    torch.nn.init.constant_(model.lm_head.weight, torch.nan)
    with pytest.raises(BadInput, match="not finite"):
        prepare(model)


@pytest.mark.parametrize("layout", ["tree", "packed", "padded"])
def test_every_layout_gives_the_same_logits(layout: Any) -> None:
    model = tiny_llama().eval()
    if layout == "tree":
        prepare(model)
    assert differences(model, layout) < 1e-5


def test_an_adapted_model_is_prepared_through_its_adapter() -> None:
    model = with_adapter(tiny_llama())
    model.train()
    assert prepare(model) == "tree"
    assert model.training
    assert differences(model.eval(), "tree") < 1e-5


def test_nodes_may_be_asked_for_in_any_order_and_twice() -> None:
    model = tiny_llama().eval()
    prepare(model)
    batch = lay_out(build_tree(TEXTS)[0])
    with torch.no_grad():
        every = logits_at(model, batch, np.arange(len(batch.place)))
        some = logits_at(model, batch, np.array([7, 2, 2]))
    torch.testing.assert_close(some, every[[7, 2, 2]])
