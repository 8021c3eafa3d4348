from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evsim_assets.token_tree.layout import prepare
from evsim_assets.token_tree.losses import Text, candidate_masses, cut, loss_batches, weigh, weighted_loss
from evsim_assets.token_tree.tree import build_tree
from tests.token_tree.families import LAYOUTS, MAKE
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


WEIGHTED = [[replace(t, weight=w) for t, w in zip(SHARED[0], (0.5, 2.0, 0.0), strict=True)], SHARED[1]]


def tree_loss(
    model: Any, people: list[list[Text]], loss_on: Any, alpha: float, at_once: int, layout: Any = "tree"
) -> float:
    """Loss of one step, gradients accumulated over its micro-batches."""
    total = 0.0
    if layout == "tree":
        assert prepare(model) == "tree"
    texts = [text for of_one in people for text in of_one]
    for part in loss_batches(texts, loss_on=loss_on, alpha=alpha, max_tokens=at_once, layout=layout):
        loss = weighted_loss(model, part)
        loss.backward()
        total += loss.item()
    return total


@pytest.mark.parametrize("layout", ["tree", "packed", "padded"])
@pytest.mark.parametrize(
    "people", [SHARED, NOT_SHARED, WEIGHTED], ids=["shared", "nothing-shared", "survey-weights"]
)
@pytest.mark.parametrize("at_once", [10_000, 40, 1], ids=["one-batch", "some", "accumulated"])
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
    people: list[list[Text]], at_once: int, loss_on: str, alpha: float, layout: str
) -> None:
    model = with_adapter(tiny_llama())
    expected = plain_loss(model, [t for texts in people for t in texts], loss_on, alpha)
    expected.backward()
    wanted = gradients(model)
    loss = tree_loss(model, people, loss_on, alpha, at_once, layout)
    found = gradients(model)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert found.keys() == wanted.keys() and len(wanted) == 2 * 7 * 2
    for name, gradient in wanted.items():
        assert gradient.norm() > 0
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("family", MAKE)
def test_gradients_of_every_family_equal_those_of_padded_full_texts(family: str) -> None:
    model = MAKE[family]()
    texts = [text for of_one in SHARED for text in of_one]
    expected = plain_loss(model, texts, "text", 0.4)
    expected.backward()
    wanted = gradients(model)
    layout = prepare(model)
    assert layout == LAYOUTS[family]
    for part in loss_batches(texts, loss_on="text", alpha=0.4, max_tokens=60, layout=layout):
        weighted_loss(model, part).backward()
    found = gradients(model)
    assert wanted and found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= 2e-5 * gradient.norm(), name


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
    assert sorted(zip(weighted.parent.tolist(), weighted.token.tolist(), strict=True)) == [
        (6, 11),
        (6, 12),
        (7, END),
        (8, END),
    ]


def test_an_answer_of_weight_zero_is_not_read() -> None:
    texts = [Text(SYSTEM, [11, END]), Text(SYSTEM, [12, END], weight=0.0)]
    assert weigh(texts, "answer", 0.0).tree.token.tolist() == [*SYSTEM, 11]
    nothing = [replace(text, weight=0.0) for text in texts]
    assert list(loss_batches(nothing, loss_on="answer", alpha=0.5, max_tokens=100)) == []


def test_an_answer_without_a_prompt_is_read_from_its_first_token_on() -> None:
    """Of 70, 71 and 72 nothing predicts the 7; the 0, 1 and 2 behind it have their masses."""
    weighted = weigh([text([], 71, d=2)], "answer", 1.0)
    read = zip(weighted.token.tolist(), weighted.weight[:, 1].tolist(), strict=True)
    assert {(token, mass) for token, mass in read if token != END} == {(10, 0.25), (11, 0.5), (12, 0.25)}


def test_equal_prompts_with_equal_answers_count_as_often_as_they_were_given() -> None:
    weighted = weigh([Text(SYSTEM, [11, END]), Text(SYSTEM, [11, END])], "text", 0.0)
    assert weighted.weight[:, 0].tolist() == [2.0] * 8


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
    printed = [(m, spelled(a)) for a, m in candidate_masses(answer, range(10), 3, equation_1="printed")]
    as_printed = -sum(mass * answer_log_probability(model, prompt, spelled(answer)) for _, mass in masses)
    cross_entropy = -answer_log_probability(model, prompt, spelled(answer))
    assert as_printed.item() == pytest.approx(cross_entropy.item(), rel=1e-6)
    in_the_tree = tree_loss(model, [[Text(prompt, spelled(answer), printed)]], "answer", 1.0, 1)
    assert in_the_tree == pytest.approx(as_printed.item(), rel=1e-5)
    digit = Text(prompt, spelled(answer), [(mass, spelled(a)) for a, mass in masses])
    meant = tree_loss(model, [[digit]], "answer", 1.0, 1)
    assert meant == pytest.approx(plain_loss(model, [digit], "answer", 1.0).item(), rel=1e-5)
    assert abs(meant - cross_entropy.item()) > 0.1


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=15),
    st.integers(1, 30),
    st.sampled_from(["tree", "packed"]),
)
@settings(max_examples=100, deadline=None)
def test_a_step_is_cut_into_trees_within_the_budget(
    prompts: list[list[int]], budget: int, layout: Any
) -> None:
    texts = [Text(prompt, [3 + n, END]) for n, prompt in enumerate(prompts)]
    parts = cut(texts, alpha=0.0, max_tokens=budget, layout=layout)
    assert sorted(id(text) for part in parts for text in part) == sorted(id(text) for text in texts)
    for part in parts:
        alone = sum(len(text.tokens) for text in part)
        size = len(build_tree([text.tokens for text in part])[0]) if layout == "tree" else alone
        assert size <= budget or len(part) == 1


def test_what_two_people_share_is_in_the_tree_once() -> None:
    """The beginning SYSTEM[:3] of both people stands once among the 7 + 2 + 2 + 1 + 3 tokens of their texts
    that a forward pass needs, and the answers' first tokens."""
    (part,) = loss_batches([*SHARED[0], *SHARED[1]], loss_on="answer", alpha=0.0, max_tokens=1000)
    written = {tuple(t.tokens[:n]) for t in [*SHARED[0], *SHARED[1]] for n in range(1, len(t.tokens))}
    assert part.batch.tokens == len(written)
