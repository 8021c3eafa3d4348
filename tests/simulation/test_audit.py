"""Answers taken to end where no further digit could make one, and the audit of what that leaves out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evsim_assets.simulation.answer_walk import walk_answers
from evsim_assets.simulation.audit import AuditFound, to_audit
from evsim_assets.simulation.distributions import answer_distributions
from evsim_assets.specs.study import Audit, Decoding

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
    unlike = np.zeros(50)
    unlike[[7, 11]] = 0.5, 0.4
    chosen, random = to_audit(Audit(at_least=2, share=0.05), tokens, unlike)
    assert random == 2 and len(chosen) == 4
    assert {7, 11} <= set(chosen[2:].tolist()) | set(chosen[:2].tolist())
    turned, _ = to_audit(Audit(at_least=2, share=0.05), tokens[::-1], unlike[::-1])
    assert {49 - k for k in turned.tolist()} == set(chosen.tolist())


def test_a_small_study_is_audited_whole() -> None:
    chosen, random = to_audit(Audit(at_least=20), [[1], [2]], np.zeros(2))
    assert sorted(chosen.tolist()) == [0, 1] and random == 2
