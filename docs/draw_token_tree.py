"""Draws docs/token_tree.png: two people's questions as one token tree, and who sees whom in it.

    python docs/draw_token_tree.py

The words stand for tokens. The tree and its rule are made by evsim itself.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from evsim_assets.token_tree.tree import TokenTree, build_tree

TEXTS = [
    "You are a man, 25 . Before reading : 40 ■",
    "You are a man, 25 . After a message : 70 ■",
    "You are a man, 25 . After a story : 45 ■",
    "You are a woman, 61 . Before reading : 80 ■",
    "You are a woman, 61 . After a message : 85 ■",
]
ANSWER, PROMPT = "#D55E00", "#0072B2"


def main() -> None:
    """Write the picture beside this file."""
    words = [text.split() for text in TEXTS]
    known = {word: number for number, word in enumerate(dict.fromkeys(w for text in words for w in text))}
    tree, paths = build_tree([[known[word] for word in text] for text in words])
    written = {number: word for word, number in known.items()}
    answers = {int(node) for path in paths for node in path[-2:]}
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12.5, 5.6), width_ratios=[1.25, 1], layout="constrained"
    )
    _draw_tree(left, tree, written, answers, sum(map(len, words)))
    _draw_rule(right, tree)
    figure.savefig(Path(__file__).with_name("token_tree.png"), dpi=110)


def _draw_tree(
    axis: plt.Axes, tree: TokenTree, written: dict[int, str], answers: set[int], plain: int
) -> None:
    leaves = np.flatnonzero(tree.end == np.arange(1, len(tree) + 1)).tolist()
    height = np.zeros(len(tree))
    for node in range(len(tree) - 1, -1, -1):
        below = [place for place, leaf in enumerate(leaves) if node <= leaf < tree.end[node]]
        height[node] = -np.mean(below)
    for node in range(len(tree)):
        x, y, above = int(tree.depth[node]), height[node], int(tree.parent[node])
        if above >= 0:
            axis.plot([tree.depth[above], x], [height[above], y], color="#bbbbbb", linewidth=1, zorder=1)
        colour = ANSWER if node in answers else PROMPT
        axis.text(
            x,
            y,
            written[int(tree.token[node])],
            ha="center",
            va="center",
            fontsize=8,
            color="white",
            bbox={"boxstyle": "round,pad=0.25", "facecolor": colour, "edgecolor": "white"},
            zorder=2,
        )
        axis.text(x, y + 0.27, str(node), ha="center", fontsize=6, color="#777777")
    axis.set_xlim(-0.7, tree.depth.max() + 0.7)
    axis.set_ylim(-len(leaves) + 0.4, 0.6)
    axis.set_xlabel("depth: the token's position in its text")
    axis.set_yticks([])
    axis.set_title(
        f"{len(TEXTS)} texts of {plain} tokens: a tree of {len(tree)} (orange: answers)", fontsize=10
    )
    for side in ("top", "left", "right"):
        axis.spines[side].set_visible(False)


def _draw_rule(axis: plt.Axes, tree: TokenTree) -> None:
    i, j = np.arange(len(tree))[:, None], np.arange(len(tree))[None, :]
    axis.imshow((j <= i) & (i < tree.end[j]), cmap="Blues", vmin=-0.2, vmax=1.3)
    axis.set_xlabel("token j")
    axis.set_ylabel("token i")
    axis.set_title("token i sees token j exactly when j <= i < end[j]", fontsize=10)


if __name__ == "__main__":
    main()
