"""A small survey that every case of bad input can be tried on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evsim_assets.specs.survey import SurveySpec

MakeSurvey = Callable[..., SurveySpec]


@pytest.fixture
def make_survey(tmp_path: Path) -> MakeSurvey:
    """A survey in tmp_path/snacks; keywords replace fields of its codebook."""

    def make(**changes: Any) -> SurveySpec:
        folder = tmp_path / "snacks"
        (folder / "waves").mkdir(parents=True, exist_ok=True)
        document = {
            "title": "Snacks",
            "source": "invented",
            "participant": "person",
            "missing": ["", "NA"],
            "demographics": [
                {
                    "name": "living area",
                    "column": "area",
                    "options": ["Urban", "Rural"],
                    "codes": {1: "Urban"},
                },
                {
                    "name": "home",
                    "column": "home",
                    "options": ["alone", "spouse", "children"],
                    "several": True,
                },
            ],
            "questions": [
                {"id": "first", "scale": {"low": 0, "high": 100}, "columns": [{"answer": "q1"}]},
                {
                    "id": "second",
                    "scale": {"low": 0, "high": 100, "rounding": "half_up"},
                    "columns": [
                        {"answer": "q2", "intervention": "read2"},
                        {"answer": "q3", "intervention": "read3"},
                    ],
                },
            ],
            "interventions": {"file": "texts.csv", "id": "id", "text": "text", "none": ["0"]},
            "prompts": {"system": "{demographics}", "user": "{intervention} {low} to {high}?"},
        }
        return SurveySpec.model_validate({**document, **changes, "name": "snacks", "folder": folder})

    return make
