"""Answers taken to end where no further digit could make one, and the audit of what that leaves out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evsim_assets.prompts.chat import render
from evsim_assets.simulation.answer_walk import walk_answers
from evsim_assets.simulation.audit import AuditFound, to_audit, unlike_others
from evsim_assets.simulation.distributions import answer_distributions
from evsim_assets.specs.study import Audit, Decoding
from tests.simulation.reference import texts_by_brute_force

MASSES = ["off_scale", "no_number", "unexpanded"]


@pytest.fixture(scope="module")
def asked(make_prompts: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_prompts(10, 2, letters="abcdefgh ", high=100, length=60)


@pytest.fixture(scope="module")
def weak(byte_level: Any, likes_numbers: Callable[[Any], Any]) -> Any:
    return likes_numbers(byte_level).double()


def read(
    model: Any, tokenizer: Any, prompts: pd.DataFrame, **decoding: Any
) -> tuple[pd.DataFrame, list[AuditFound]]:
    found: list[AuditFound] = []
    table = answer_distributions(
        model,
        tokenizer,
        prompts,
        digit_answers=False,
        temperatures=(0.0, 0.3, 1.0),
        decoding=Decoding(tolerance=1e-4, **decoding),
        on_audit=found.append,
    )
    return table, found


def apart(one: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    """Of each row: half the summed difference of all masses."""
    return np.abs(np.stack(one["probabilities"]) - np.stack(other["probabilities"])).sum(1) + np.abs(
        one[MASSES].to_numpy() - other[MASSES].to_numpy()
    ).sum(1)


def test_prompts_in_the_audit_are_read_on_and_the_others_off_by_what_goes_on(
    weak: Any, byte_level: Any, asked: pd.DataFrame
) -> None:
    full, none = read(weak, byte_level, asked)
    assert none == [] and (full["taken"] == 0).all()
    audited, [found] = read(
        weak, byte_level, asked, reading="audited", audit=Audit(at_least=3, share=0.01, limit=0.9)
    )
    assert (found.prompts, found.random, found.all_in_full) == (6, 3, False)
    by_prompt = (audited["taken"].to_numpy() == 0).reshape(-1, 3).all(1)
    assert by_prompt.sum() == 6, "six of twenty prompts are read on"
    difference = apart(full, audited)
    unread = 2 * audited["unexpanded"] + 1e-6
    assert (difference <= unread)[np.repeat(by_prompt, 3)].all(), "only what is said to be unread"
    assert difference.max() > 1e-3, "this model is weak: its numbers do go on"
    assert (difference <= 2 * audited["taken"] + unread).all(), "never more than was taken to end"
    greedy = (audited["temperature"] == 0).to_numpy()
    assert (audited["taken"][greedy] == 0).all() and difference[greedy].max() < 1e-6, (
        "greedy answers are read"
    )
    assert (audited["taken"][~greedy] > 0).any()
    total = np.stack(audited["probabilities"]).sum(1) + audited[MASSES].sum(axis=1)
    assert np.abs(total - 1).max() < 1e-5
    goes_on = np.stack(audited["probabilities"]).sum(1) - np.stack(full["probabilities"]).sum(1)
    assert found.largest.max() > 1e-3
    assert found.largest[0] == 0
    assert (goes_on >= -unread).all()


def test_where_the_audit_finds_too_much_everything_is_read_in_full(
    weak: Any, byte_level: Any, asked: pd.DataFrame
) -> None:
    full, _ = read(weak, byte_level, asked)
    audited, [found] = read(
        weak, byte_level, asked, reading="audited", audit=Audit(at_least=3, share=0.01, limit=1e-6)
    )
    assert found.all_in_full
    assert (audited["taken"] == 0).all()
    assert apart(full, audited).max() < 1e-6


def test_less_is_read_than_in_full(
    weak: Any, byte_level: Any, asked: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def counted(*given: Any) -> int:
        counts.append(walk_answers(*given))
        return counts[-1]

    monkeypatch.setattr("evsim_assets.simulation.answer_walk.walk_answers", counted)
    read(weak, byte_level, asked)
    in_full = sum(counts)
    counts.clear()
    read(weak, byte_level, asked, reading="audited", audit=Audit(at_least=1, share=0.01, limit=0.9))
    assert 0 < sum(counts) < 0.8 * in_full


def test_which_prompts_are_audited_follows_from_their_tokens_and_not_from_their_order() -> None:
    tokens = [[k, k + 1] for k in range(50)]
    taken, unlike = np.full(50, 0.5), np.zeros(50)
    unlike[[7, 11]] = 0.5, 0.4
    chosen, random = to_audit(Audit(at_least=2, share=0.05), tokens, taken, unlike)
    assert random == 2 and len(chosen) == 4
    assert {7, 11} <= set(chosen[2:].tolist()) | set(chosen[:2].tolist())
    turned, _ = to_audit(Audit(at_least=2, share=0.05), tokens[::-1], taken, unlike[::-1])
    assert {49 - k for k in turned.tolist()} == set(chosen.tolist())


def test_a_small_study_is_audited_whole() -> None:
    chosen, random = to_audit(Audit(at_least=20), [[1], [2]], np.ones(2), np.zeros(2))
    assert sorted(chosen.tolist()) == [0, 1] and random == 2


def test_no_audit_is_spent_on_prompts_with_nothing_taken() -> None:
    taken, unlike = np.tile([0.0, 0.9, 0.2], 20), np.tile([1.0, 0.3, 0.5], 20)
    chosen, random = to_audit(Audit(at_least=6, share=0.01), [[k] for k in range(60)], taken, unlike)
    assert (len(chosen), random) == (12, 6)
    assert (taken[chosen] > 0).all()
    assert (taken[chosen[6:]] == 0.9).all(), "0.9 × 0.3 comes before 0.2 × 0.5, and that before 0"
    none, random = to_audit(Audit(at_least=6), [[k] for k in range(60)], np.zeros(60), unlike)
    assert (len(none), random) == (0, 0)


def test_a_distribution_is_unlike_the_mean_of_the_others_of_its_kind() -> None:
    mass = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    kind = np.array([4, 4, 4, 4, 7])
    # the means of the others, by hand: (1/6, 1/2, 1/3), (1/2, 1/6, 1/3), (1/2, 1/2, 0), (1/3, 1/3, 1/3)
    assert unlike_others(mass, kind) == pytest.approx([5 / 6, 5 / 6, 1, 1 / 3, 1])


def test_labels_are_not_audited(
    weak: Any, byte_level: Any, make_prompts: Callable[..., pd.DataFrame]
) -> None:
    words = make_prompts(3, 2, letters="abcdefgh ", labels=("no", "rather not", "rather", "yes"), length=60)
    audited, [found] = read(weak, byte_level, words, reading="audited")
    assert (found.prompts, found.random, found.all_in_full) == (0, 0, False)
    assert (found.largest == 0).all() and (found.mean == 0).all() and len(audited) == 18


def test_a_prompt_whose_numbers_go_on_is_found_although_it_is_not_random(
    full_tokenizer: Callable[[str], Any],
    likes_numbers: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    tokenizer = full_tokenizer("digits apart")
    prose, years = ("As a man", "I think", "72"), ("2024", "50", "50", "50")
    model = likes_numbers(
        tokenizer, ("72", "50", "35", "80"), otherwise={"g": prose, "f": years}, steps=150
    ).double()
    prompts = make_prompts(4, 2, high=100).assign(system="", user=[f"{letter}a" for letter in "abcdefgh"])
    audited, [found] = read(
        model, tokenizer, prompts, reading="audited", audit=Audit(at_least=1, share=0.01, limit=0.9)
    )
    warm = audited[audited["temperature"] == 1].reset_index(drop=True)
    assert (found.prompts, found.random) == (2, 1)
    assert warm["taken"][5] == 0 and (warm["taken"] > 0).sum() == 6, "years are among the two read on"
    assert found.mean[-1] < 0.1 < 0.15 < found.largest[-1], "and are not the random one"
    lost = audited[MASSES].sum(axis=1).to_numpy().reshape(8, 3)
    before = (lost - np.outer(np.arange(8) == 5, found.largest)).max(1)
    assert before[6] > before[5] + 0.1, "by the mass outside of answers the prose would have been chosen"


def test_the_audit_bounds_from_above_what_goes_on(
    tiny_tokenizer: Callable[[str], Any],
    make_model: Callable[..., Any],
    make_prompts: Callable[..., pd.DataFrame],
) -> None:
    tokenizer = tiny_tokenizer("digits apart")  # one digit a token, or the place of an end would be ambiguous
    found: list[AuditFound] = []
    audit = Audit(at_least=9, limit=0.3)  # up to 0.03 is left unread before and after, and not the same
    decoding = Decoding(max_new_tokens=4, reading="audited", audit=audit)
    for seed in (0, 2):
        model = make_model("llama", len(tokenizer), seed=seed, spread=0.4).double()
        prompts = make_prompts(1, 1, letters="a13", high=13, seed=seed)
        answer_distributions(
            model,
            tokenizer,
            prompts,
            digit_answers=False,
            temperatures=(1.0, 2.0),
            decoding=decoding,
            on_audit=found.append,
        )
        ids = render(tokenizer, prompts["system"][0], prompts["user"][0])[0]
        for t, temperature in enumerate((1.0, 2.0)):
            texts = texts_by_brute_force(model, tokenizer, ids, temperature, decoding)
            truth = sum(p for text, p in texts.items() if _goes_on_behind(text, range(2, 14)))
            assert truth > 0.03
            assert truth <= found[-1].largest[t] <= truth + 2 * 0.03


def _goes_on_behind(text: str, complete: range) -> bool:
    """Whether the text's number goes on behind an answer that no further digit leaves one."""
    number = re.match(r"\s*([0-9]*)", text)
    assert number is not None
    return any(int(number[1][:k]) in complete for k in range(1, len(number[1])))


def test_progress_never_goes_back(weak: Any, byte_level: Any, asked: pd.DataFrame) -> None:
    for limit in (0.9, 1e-6):
        told: list[tuple[int, int]] = []
        answer_distributions(
            weak,
            byte_level,
            asked,
            digit_answers=False,
            temperatures=(1.0,),
            decoding=Decoding(
                tolerance=1e-2, reading="audited", audit=Audit(at_least=3, share=0.01, limit=limit)
            ),
            batch_tokens=200,
            on_progress=lambda done, of, told=told: told.append((done, of)),  # type: ignore[misc]
        )
        done = [one for one, _ in told]
        of = 26 if limit == 0.9 else 46  # twenty prompts, six of them once more, and again all
        assert done == sorted(done) and told[0][1] == 26 and told[-1] == (of, of)
        assert len(told) > 4
