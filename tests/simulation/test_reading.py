"""New nodes below a read tree: the same logits as whole texts, without reading anything twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from evsim_assets.simulation.reading import Nodes, Read, read_prompts
from evsim_assets.token_tree.layout import can_grow, prepare
from tests.token_tree.families import MAKE, TAKES_TREES
from tests.token_tree.plain import tiny_llama, with_adapter

PROMPTS = [
    [1, 5, 9, 2, 7, 7],
    [1, 5, 9, 3],
    [1, 5, 9],
    [1, 5, 8, 8, 8, 8, 2, 9],
    [4],
    [1, 5, 9, 3],
    [1, 5, 8, 8],
]
CONTINUED = [
    [[7, 7, 3], [7, 7, 4], [2, 1, 6]],
    [[3, 3, 3]],
    [[2, 9, 9], [3, 9, 9]],
    [[1, 2, 3]],
    [],
    [[6, 6, 6]],
    [[8, 8, 2], [5, 5, 5]],
]
"""Of each prompt; the third is a beginning of others and goes on as they do, the last is one where nothing
parts from it, and the one before it is the second again."""


def alone(model: Any, text: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]


def check_level(model: Any, read: Read, nodes: Nodes, logits: torch.Tensor, wanted: dict[Any, Any]) -> None:
    for row, path, found in zip(nodes.row, nodes.path.tolist(), logits, strict=True):
        text = [*PROMPTS[read.prompt[row]], *path]
        torch.testing.assert_close(found, wanted[tuple(text)], rtol=1e-4, atol=1e-5 * float(found.std()))


def grow_and_check(model: Any, at_once: int) -> None:
    texts = {
        (*prompt, *path[:t])
        for prompt, of in zip(PROMPTS, CONTINUED, strict=True)
        for path in of
        for t in range(4)
    } | {tuple(prompt) for prompt in PROMPTS}
    wanted = {text: alone(model, list(text)) for text in texts}
    read, logits = read_prompts(
        model, [[(k, PROMPTS[k]) for k in (0, 1, 2)], [(k, PROMPTS[k]) for k in (3, 4, 5, 6)]]
    )
    nodes = read.roots
    check_level(model, read, nodes, logits, wanted)
    fed: list[Any] = []
    for t in range(3):
        parent, token = [], []
        for n, (row, path) in enumerate(zip(nodes.row, nodes.path.tolist(), strict=True)):
            going = {of[t] for of in CONTINUED[read.prompt[row]] if of[:t] == path}
            parent += [n] * len(going)
            token += sorted(going)
        read, nodes = read.below(fed, nodes, np.array(parent), np.array(token))
        fed = []
        for part in read.parts(nodes, at_once):
            left, logits = read.feed(nodes.take(part))
            fed.append(left)
            check_level(model, read, nodes.take(part), logits, wanted)
    assert len(nodes) == sum(map(len, CONTINUED))


@pytest.mark.parametrize("family", MAKE)
def test_continuations_have_the_logits_of_their_whole_texts(family: str) -> None:
    grow_and_check(MAKE[family](), at_once=3)


@pytest.mark.parametrize("at_once", [1, 100])
def test_how_many_are_read_at_once_makes_no_difference(at_once: int) -> None:
    grow_and_check(with_adapter(tiny_llama()).eval(), at_once)


@pytest.mark.parametrize("family", TAKES_TREES)
def test_what_takes_trees_grows_them(family: str) -> None:
    model = TAKES_TREES[family]()
    prepare(model)
    with torch.inference_mode():
        assert can_grow(model)


def test_a_model_that_cannot_grow_reads_whole_texts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama().eval()
    monkeypatch.setattr("evsim_assets.simulation.reading.can_grow", lambda _: False)
    grow_and_check(model, at_once=20)
    assert read_prompts(model, [[(0, PROMPTS[0])]])[0].tree_left is None


def test_only_new_nodes_go_through_the_model() -> None:
    model = tiny_llama().eval()
    read, _ = read_prompts(model, [[(k, prompt) for k, prompt in enumerate(PROMPTS)]])
    nodes = Nodes(np.array([0, 3]), np.array([[7], [1]]), np.empty((2, 0), np.int64))
    seen: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda _m, given, _o: seen.append(given[0].numel())
    )
    read.feed(nodes)
    hook.remove()
    assert seen == [2]


def test_a_model_whose_layers_lose_what_they_left_behind_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_llama().eval()
    prepare(model)
    assert can_grow(model)
    from evsim_assets.token_tree.growth import Growth

    own = Growth.attend
    monkeypatch.setattr(
        Growth, "attend", lambda self, q, k, v, **given: own(self, q, k, torch.zeros_like(v), **given)
    )
    assert not can_grow(model)
