import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evsim_assets.token_tree.tree import build_tree

sequences = st.lists(st.lists(st.integers(0, 3), max_size=7), max_size=8)


def test_two_texts_share_their_beginning() -> None:
    tree, paths = build_tree([[1, 2, 3], [1, 4], [2], [1, 2, 5]])
    assert tree.token.tolist() == [1, 2, 3, 5, 4, 2]
    assert tree.depth.tolist() == [0, 1, 2, 2, 1, 0]
    assert tree.parent.tolist() == [-1, 0, 1, 1, 0, -1]
    assert tree.end.tolist() == [5, 4, 3, 4, 5, 6]
    assert [p.tolist() for p in paths] == [[0, 1, 2], [0, 4], [5], [0, 1, 3]]


@given(sequences)
def test_every_text_is_a_path_and_every_beginning_is_one_node(texts: list[list[int]]) -> None:
    tree, paths = build_tree(texts)
    beginnings = {tuple(t[:k]) for t in texts for k in range(1, len(t) + 1)}
    assert len(tree) == len(beginnings)
    for text, path in zip(texts, paths, strict=True):
        assert tree.token[path].tolist() == text
        assert tree.depth[path].tolist() == list(range(len(text)))
        assert tree.parent[path].tolist() == [-1, *path[:-1].tolist()][: len(text)]
    assert all(array.dtype == np.int64 for array in (tree.token, tree.depth, tree.parent, tree.end, *paths))


@given(sequences)
def test_a_token_sees_itself_and_the_nodes_above_it_and_nothing_else(texts: list[list[int]]) -> None:
    tree, _ = build_tree(texts)
    expected = np.zeros((len(tree), len(tree)), dtype=bool)
    for i in range(len(tree)):
        j = i
        while j >= 0:  # up to the root
            expected[i, j] = True
            j = int(tree.parent[j])
    query, key = np.indices(expected.shape)
    assert np.array_equal((key <= query) & (query < tree.end[key]), expected)
