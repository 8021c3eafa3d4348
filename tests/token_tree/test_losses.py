from typing import Any

import numpy as np
import pytest
import torch

from evsim_assets.token_tree.losses import Text, candidate_masses, loss_batches, weigh, weighted_loss
from tests.token_tree.plain import answer_log_probability, gradients, plain_loss, tiny_llama, with_adapter

END = 39  # ends a turn


def spelled(answer: int) -> list[int]:
    """One token a digit (10–19), and the end of the turn."""
    return [10 + int(digit) for digit in str(answer)] + [END]


def text(prompt: list[int], answer: int, d: float = 3) -> Text:
    candidates = [(mass, spelled(a)) for a, mass in candidate_masses(answer, range(101), d)]
    return Text(prompt, spelled(answer), candidates)


SYSTEM = [1, 20, 21, 22, 23, 24, 25]
SHARED = [
    [text([*SYSTEM, 30, 31], 9), text([*SYSTEM, 30, 32, 33], 72), text([*SYSTEM, 34], 100)],
    [text([*SYSTEM[:3], 26, 27, 35], 0), text([*SYSTEM[:3], 26, 27, 35], 50)],
]
NOT_SHARED = [[text([k, k + 1, k + 2, 36], 7 * k)] for k in range(1, 6)]


def tree_loss(model: Any, people: list[list[Text]], loss_on: Any, alpha: float, at_once: int) -> float:
    """Loss of one step, gradients accumulated over its micro-batches."""
    trees = [weigh(texts, loss_on, alpha) for texts in people]
    total = 0.0
    for part in loss_batches(trees, alpha, at_once):
        loss = weighted_loss(model, part)
        loss.backward()
        total += loss.item()
    return total


@pytest.mark.parametrize("people", [SHARED, NOT_SHARED], ids=["shared", "nothing-shared"])
@pytest.mark.parametrize("at_once", [10_000, 1], ids=["one-batch", "accumulated"])
@pytest.mark.parametrize(
    "loss_on,alpha",
    [
        ("answer", 0.0),
        ("text", 0.0),
        ("answer", 0.4),
        ("text", 0.4),
        ("answer", 1.0),
    ],
)
def test_loss_and_every_gradient_equal_those_of_padded_full_texts(
    people: list[list[Text]], at_once: int, loss_on: str, alpha: float
) -> None:
    model = with_adapter(tiny_llama())
    expected = plain_loss(model, [t for texts in people for t in texts], loss_on, alpha)
    expected.backward()
    wanted = gradients(model)
    loss = tree_loss(model, people, loss_on, alpha, at_once)
    found = gradients(model)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert found.keys() == wanted.keys() and len(wanted) == 2 * 7 * 2
    for name, gradient in wanted.items():
        assert gradient.norm() > 0
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_transformers_own_loss_is_the_text_loss() -> None:
    model = tiny_llama()
    texts = NOT_SHARED[0]
    ids = torch.tensor([[*texts[0].prompt, *texts[0].answer]])
    own = model(input_ids=ids, labels=ids).loss.item()
    assert tree_loss(model, [texts], "text", 0.0, 1) == pytest.approx(own, rel=1e-5)


def test_only_what_is_read_goes_through_the_model() -> None:
    """Two texts of 7 + 2 tokens share 7; the last token of each is never read from."""
    texts = [Text(SYSTEM, [11, END]), Text(SYSTEM, [12, END])]
    weighted = weigh(texts, "answer", 0.0)
    assert weighted.tree.token.tolist() == [*SYSTEM, 11, 12]
    assert weighted.tree.end.tolist() == [9] * 7 + [8, 9]
    assert (weighted.targets, weighted.texts, weighted.text_tokens) == (4, 2, 18)
    assert sorted(zip(weighted.parent.tolist(), weighted.token.tolist(), strict=True)) == [
        (6, 11),
        (6, 12),
        (7, END),
        (8, END),
    ]


def test_equal_prompts_with_equal_answers_count_as_often_as_they_were_given() -> None:
    weighted = weigh([Text(SYSTEM, [11, END]), Text(SYSTEM, [11, END])], "text", 0.0)
    assert weighted.weight[:, 0].tolist() == [2.0] * 8
    assert weighted.targets == 16


def test_candidate_masses_fall_linearly_to_zero_at_distance_d() -> None:
    assert candidate_masses(5, range(10), 2) == [(4, 0.25), (5, 0.5), (6, 0.25)]
    assert candidate_masses(0, range(0, 101, 5), 10) == [(0, pytest.approx(2 / 3)), (5, pytest.approx(1 / 3))]
    assert candidate_masses(9, range(10), 1) == [(9, 1.0)]


def test_a_candidates_mass_lies_on_every_edge_of_its_number() -> None:
    """69, 70 and 71 with masses 1/4, 1/2, 1/4: the shared first digit 7 carries 3/4."""
    weighted = weigh([text([1], 70, d=2)], "answer", 1.0)
    mass = dict(
        zip(
            zip(weighted.parent.tolist(), weighted.token.tolist(), strict=True),
            weighted.weight[:, 1].tolist(),
            strict=True,
        )
    )
    assert mass[(0, 17)] == 0.75 and mass[(0, 16)] == 0.25


def test_equation_1_as_printed_is_cross_entropy() -> None:
    """Eq. 1 multiplies log p of the *given* answer with weights that sum to one, so it does not
    depend on them; the penalty as meant takes each candidate's own probability and does."""
    model = tiny_llama()
    prompt, answer = [1, 20, 21], 4
    masses = candidate_masses(answer, range(10), 3)
    as_printed = -sum(mass * answer_log_probability(model, prompt, spelled(answer)) for _, mass in masses)
    cross_entropy = -answer_log_probability(model, prompt, spelled(answer))
    assert as_printed.item() == pytest.approx(cross_entropy.item(), rel=1e-6)
    digit = Text(prompt, spelled(answer), [(mass, spelled(a)) for a, mass in masses])
    meant = tree_loss(model, [[digit]], "answer", 1.0, 1)
    assert meant == pytest.approx(plain_loss(model, [digit], "answer", 1.0).item(), rel=1e-5)
    assert abs(meant - cross_entropy.item()) > 0.1


def test_micro_batches_hold_trees_of_like_size_within_the_budget() -> None:
    trees = [weigh([Text(list(range(1, n)), [11, END])], "answer", 0.0) for n in (30, 5, 29, 6, 5)]
    shapes = [tuple(p.batch.input_ids.shape) for p in loss_batches(trees, 0.0, 62)]
    assert shapes == [(2, 30), (3, 6)]
    assert np.prod(shapes, axis=1).max() <= 62
