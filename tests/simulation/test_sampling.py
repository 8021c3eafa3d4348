"""Next-token probabilities at many temperatures against a plain softmax in double precision."""

from __future__ import annotations

import math

import pytest
import torch

from evsim_assets.simulation import sampling
from evsim_assets.simulation.sampling import token_probabilities
from evsim_assets.specs.study import Decoding

TEMPERATURES = (0.0, 0.05, 0.1, 0.3, 0.5, 0.9, 1.0, 2.0)


@pytest.mark.parametrize("spread", [0.1, 3.0, 12.0], ids=["flat", "as models are", "sharp"])
@pytest.mark.parametrize("at_once", [1, 700, 10**6])
def test_they_are_those_of_a_plain_softmax(
    spread: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "AT_ONCE", at_once)
    logits = spread * torch.randn(9, 300, generator=torch.Generator().manual_seed(1))
    logits[4, 17] = logits[4].max() + 60  # a row that is all but certain
    tokens = torch.tensor([17, 3, 299, 0])
    found = token_probabilities(logits, tokens, TEMPERATURES, Decoding())
    for t, temperature in enumerate(TEMPERATURES[1:], start=1):
        wanted = (logits.double() / temperature).softmax(-1)[:, tokens]
        torch.testing.assert_close(found[:, t].double(), wanted, rtol=2e-5, atol=1e-9)
    greedy = torch.nn.functional.one_hot(logits.argmax(-1), 300)[:, tokens].float()
    assert torch.equal(found[:, 0], greedy)


def test_a_temperature_does_not_depend_on_the_others_asked_for() -> None:
    logits = 5 * torch.randn(6, 400, generator=torch.Generator().manual_seed(2))
    tokens = torch.arange(20)
    together = token_probabilities(logits, tokens, TEMPERATURES, Decoding())
    for t, temperature in enumerate(TEMPERATURES):
        alone = token_probabilities(logits, tokens, (temperature,), Decoding())[:, 0]
        torch.testing.assert_close(together[:, t], alone, rtol=1e-6, atol=1e-12)


def test_what_is_far_away_still_counts_where_there_is_much_of_it() -> None:
    logits = torch.full((1, 100_000), -10.0)
    logits[0, 0] = 0.0
    p = token_probabilities(logits, torch.tensor([0]), (0.5, 1.0), Decoding())[0, :, 0]
    wanted = [1 / (1 + 99_999 * math.exp(-10 / t)) for t in (0.5, 1.0)]
    assert p.tolist() == pytest.approx(wanted, rel=1e-5)
    assert p[1] < 0.2
