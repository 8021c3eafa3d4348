"""The attention alone, against a plain softmax over all pairs with a mask made by walking up parents."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evsim_assets.token_tree.attention import TreeAttention
from evsim_assets.token_tree.tree import TokenTree, build_tree

forests = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=10), min_size=1, max_size=12)
CPU = torch.device("cpu")


def plain(q: Any, k: Any, v: Any, tree: TokenTree, window: int | None, softcap: float | None) -> Any:
    seen = torch.zeros(len(tree), len(tree), dtype=torch.bool)
    for i in range(len(tree)):
        j = i
        while j >= 0 and (window is None or tree.depth[i] - tree.depth[j] < window):
            seen[i, j] = True
            j = int(tree.parent[j])
    repeats = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    scores = 0.3 * q @ k.transpose(-1, -2)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v).transpose(1, 2)


def inputs(n: int, heads: int) -> tuple[torch.Tensor, ...]:
    made = torch.Generator().manual_seed(n)
    shapes = [(1, 4, n, 8), (1, heads, n, 8), (1, heads, n, 8)]
    return tuple(torch.randn(s, generator=made, dtype=torch.float64).requires_grad_() for s in shapes)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("flex", [False, True], ids=["dense-calls", "flex"])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("heads", [4, 2], ids=["all-heads", "grouped-heads"])
@given(sequences=forests)
@settings(max_examples=15, deadline=None)
def test_output_and_gradients_are_those_of_a_plain_masked_softmax(
    flex: bool, window: int | None, softcap: float | None, heads: int, sequences: list[list[int]]
) -> None:
    tree = build_tree(sequences)[0]
    q, k, v = inputs(len(tree), heads)
    if flex:  # it has no gradients on a CPU
        q, k, v = q.detach(), k.detach(), v.detach()
    given_ = {"scaling": 0.3, "dropout": 0.0, "window": window, "softcap": softcap}
    found = TreeAttention(tree, CPU, flex=flex).attend(q, k, v, **given_)  # type: ignore[arg-type]
    wanted = plain(q, k, v, tree, window, softcap)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    if flex:
        return
    weight = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view_as(found)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), (q, k, v)),
        torch.autograd.grad((wanted * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_flex_attention_refuses_the_dropout_it_does_not_have() -> None:
    tree = build_tree([[1, 2, 3]])[0]
    with pytest.raises(NotImplementedError, match="dropout"):
        TreeAttention(tree, CPU, flex=True).attend(
            *inputs(3, 4), scaling=None, dropout=0.1, window=None, softcap=None
        )


def test_a_row_does_not_depend_on_what_else_is_in_it() -> None:
    one, both = build_tree([[1, 2, 3]])[0], build_tree([[1, 2, 3], [4, 5]])[0]
    q, k, v = inputs(5, 4)
    given_ = {"scaling": None, "dropout": 0.0, "window": None, "softcap": None}
    alone = TreeAttention(one, CPU).attend(*(x[:, :, :3] for x in (q, k, v)), **given_)  # type: ignore[arg-type]
    together = TreeAttention(both, CPU).attend(q, k, v, **given_)  # type: ignore[arg-type]
    assert np.allclose(alone.detach(), together[:, :3].detach(), rtol=0, atol=1e-12)
