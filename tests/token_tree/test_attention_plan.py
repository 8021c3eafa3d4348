import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsim_assets.token_tree.attention_plan import plan_calls
from evsim_assets.token_tree.tree import TokenTree, build_tree, joined

forests = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=25)


def seen(tree: TokenTree, window: int | None = None) -> np.ndarray:
    """(n, n): which keys each query meets over all calls; 2 where it meets one twice."""
    met = np.zeros((len(tree), len(tree)), dtype=int)
    for call in plan_calls(tree):
        allowed = call.allowed(tree, window)
        for group, query, key in np.argwhere(allowed).tolist():
            i, j = call.queries[group, query], call.keys[group, key]
            if i >= 0:
                assert j >= 0
                met[i, j] += 1
    return met


def by_parents(tree: TokenTree, window: int | None = None) -> np.ndarray:
    """The same, by walking up from every node."""
    wanted = np.zeros((len(tree), len(tree)), dtype=int)
    for i in range(len(tree)):
        j = i
        while j >= 0 and (window is None or tree.depth[i] - tree.depth[j] < window):
            wanted[i, j] = 1
            j = int(tree.parent[j])
    return wanted


@given(forests)
@settings(max_examples=200, deadline=None)
def test_every_node_meets_itself_and_its_ancestors_once_and_nobody_else(sequences: list[list[int]]) -> None:
    tree = build_tree(sequences)[0]
    assert np.array_equal(seen(tree), by_parents(tree))


@given(forests, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_sliding_window_counts_along_the_path(sequences: list[list[int]], window: int) -> None:
    tree = build_tree(sequences)[0]
    assert np.array_equal(seen(tree, window), by_parents(tree, window))


@given(forests)
@settings(max_examples=100, deadline=None)
def test_a_path_leads_from_the_root_by_parents(sequences: list[list[int]]) -> None:
    tree = build_tree(sequences)[0]
    for node in range(len(tree)):
        path = tree.path(node).tolist()
        assert path[-1] == node and tree.parent[path[0]] == -1
        assert [int(tree.parent[i]) for i in path[1:]] == path[:-1]


@given(forests, forests)
@settings(max_examples=50, deadline=None)
def test_joined_trees_stay_apart(one: list[list[int]], other: list[list[int]]) -> None:
    trees = [build_tree(one)[0], build_tree(other)[0]]
    both = joined(trees)
    wanted = np.zeros((len(both), len(both)), dtype=int)
    wanted[: len(trees[0]), : len(trees[0])] = by_parents(trees[0])
    wanted[len(trees[0]) :, len(trees[0]) :] = by_parents(trees[1])
    assert np.array_equal(by_parents(both), wanted)


@pytest.mark.parametrize("people", [1, 3])
def test_a_participants_questions_are_not_paired_with_each_other(people: int) -> None:
    """Six questions of 60 tokens below 170: far fewer pairs than all with all."""
    texts = [
        [*range(1000 * p, 1000 * p + 170), *range(9000 + 100 * q, 9000 + 100 * q + 60)]
        for p in range(people)
        for q in range(6)
    ]
    tree = build_tree(texts)[0]
    pairs = sum(call.queries.size * call.keys.shape[1] for call in plan_calls(tree))
    least = people * (170 * 170 + 6 * 60 * 230)
    assert least <= pairs < 1.2 * least
    assert pairs < 0.45 * people * len(tree) ** 2 / people**2
