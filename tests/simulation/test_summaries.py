"""What is shown of a simulated population is what its tables say."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pandas as pd
import pytest

from evsim_assets.simulation.audit import AuditFound
from evsim_assets.simulation.summaries import (
    answers_figure,
    audit_note,
    audit_summary,
    drawn_rates,
    examples,
    mean_distributions,
    success_figure,
    success_rates,
)

PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["a", "b", "c"],
        "participant": ["x", "y", "x"],
        "question": ["first", "first", "second"],
        "answer": [1, 2, 10],
        "answer_digit": [0.0, 9.0, 4.0],
        "low": [1, 1, -10],
        "high": [3, 3, 10],
        "step": [1, 1, 10],
    }
)


def row(prompt: str, temperature: float, answers: list[float], off: float, none: float) -> dict[str, object]:
    masses = {"off_scale": off, "no_number": none, "unexpanded": 0.0}
    return {
        "prompt_id": prompt,
        "temperature": temperature,
        "probabilities": np.array(answers, dtype=np.float32),
        **masses,
    }


DISTRIBUTIONS = pd.DataFrame(
    [
        row("a", 0.0, [1, 0, 0], 0, 0),
        row("a", 1.0, [0.5, 0.25, 0], 0.25, 0),
        row("b", 0.0, [0, 0, 0], 0, 1),
        row("b", 1.0, [0.25, 0.25, 0.5], 0, 0),
        row("c", 0.0, [0, 0, 1], 0, 0),
        row("c", 1.0, [0, 0.5, 0.125], 0, 0.375),
        row("elsewhere", 1.0, [1], 0, 0),
    ]
)


def test_success_is_the_mean_mass_of_answers_by_question_and_temperature() -> None:
    rates = success_rates(PROMPTS, DISTRIBUTIONS)
    assert rates[["question", "temperature", "prompts", "success_rate"]].to_numpy().tolist() == [
        ["first", 0.0, 2, 0.5],
        ["first", 1.0, 2, 0.875],
        ["second", 0.0, 1, 1.0],
        ["second", 1.0, 1, 0.625],
    ]
    assert rates["off_scale"].tolist() == [0, 0.125, 0, 0]
    assert rates["no_number"].tolist() == [0.5, 0, 0, 0.375]


GENERATIONS = pd.DataFrame(
    {
        "prompt_id": ["a", "a", "b", "b", "c", "c"],
        "question": ["first"] * 4 + ["second"] * 2,
        "temperature": 1.0,
        "text": ["1", "7", "As a 2", "well", "well", "well | then"],
        "answer": pd.array([1, None, 2, None, None, None], dtype="Int64"),
        "success": [True, False, True, False, False, False],
        "made_by": ["distribution", "decode", "decode", "decode", "decode", "generate"],
    }
)


def test_rates_of_texts_stand_beside_the_mass_of_answers_at_their_temperature() -> None:
    rates = drawn_rates(PROMPTS, GENERATIONS, DISTRIBUTIONS)
    columns = ["question", "temperature", "texts", "success_rate", "decoded", "mass_of_answers"]
    assert rates.columns.tolist() == columns
    assert rates.to_numpy().tolist() == [
        ["first", 1.0, 4, 0.5, 0.75, 0.875],
        ["second", 1.0, 2, 0.0, 1.0, 0.625],
    ]


def test_examples_are_of_every_kind_and_differ() -> None:
    shown = examples(GENERATIONS)
    assert shown[["kind", "prompt_id", "text"]].to_numpy().tolist() == [
        ["drawn from the distribution", "a", "1"],
        ["decoded, without an answer", "a", "7"],
        ["decoded, without an answer", "b", "well"],
        ["decoded, with an answer", "b", "As a 2"],
        ["generate, without an answer", "c", "well | then"],
    ]
    assert shown["answer"].tolist()[0] == 1 and len(examples(GENERATIONS, 1)) == 4
    assert examples(GENERATIONS.head(0)).empty


def test_mean_distributions_stand_beside_the_humans_on_the_questions_own_scale() -> None:
    means = mean_distributions(PROMPTS, DISTRIBUTIONS, digit_answers=False)
    first = means[(means["question"] == "first") & (means["temperature"] == 1.0)]
    assert first["answer"].tolist() == [1, 2, 3]
    assert first["human"].tolist() == [0.5, 0.5, 0.0]
    assert first["simulated"].tolist() == [0.375, 0.25, 0.25]
    second = means[(means["question"] == "second") & (means["temperature"] == 1.0)]
    assert second["answer"].tolist() == [-10, 0, 10] and second["human"].tolist() == [0, 0, 1]


def test_digit_answers_stand_beside_the_humans_digits() -> None:
    tenths = pd.Series([np.full(10, 0.1, dtype=np.float32)] * 6, dtype=object)
    masses = DISTRIBUTIONS.head(6).assign(probabilities=tenths)
    means = mean_distributions(PROMPTS, masses, digit_answers=True)
    first = means[(means["question"] == "first") & (means["temperature"] == 0.0)]
    assert first["answer"].tolist() == list(range(10))
    assert first["human"].tolist() == [0.5, *[0.0] * 8, 0.5]


def test_figures_are_pictures_even_of_a_model_that_never_answers() -> None:
    from matplotlib.image import imread

    silent = DISTRIBUTIONS.assign(probabilities=DISTRIBUTIONS["probabilities"].map(lambda p: p * 0))
    for table in (DISTRIBUTIONS, silent):
        means = mean_distributions(PROMPTS, table, digit_answers=False)
        drawn = [
            success_figure(success_rates(PROMPTS, table), title="$x", simulated=True),
            answers_figure(means, ["first", "second"], title="x", simulated=False),
        ]
        for picture in drawn:
            assert imread(BytesIO(picture)).std() > 0


def test_audits_of_several_shards_are_one() -> None:
    one = AuditFound(40, 20, np.array([0.0, 3e-4]), np.array([0.0, 1e-4]), 1e-3, False)
    two = AuditFound(12, 5, np.array([2e-3, 1e-4]), np.array([1e-3, 0.0]), 1e-3, True)
    table = audit_summary([0.0, 1.0], [audit_note(one), audit_note(two)])
    assert table["prompts"].tolist() == [52, 52] and table["random"].tolist() == [25, 25]
    assert table["largest"].tolist() == [2e-3, 3e-4]
    assert table["mean"].tolist() == pytest.approx([5 * 1e-3 / 25, 20 * 1e-4 / 25])
    assert table["read_anew"].tolist() == [1, 1]
