"""A small survey that every case of bad input can be tried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.cleaning import clean_wave
from evsim_assets.surveys.landing import Intervention

MakeSurvey = Callable[..., SurveySpec]


@dataclass(frozen=True)
class CleanTables:
    """What cleaning made, read back: the tables of `Cleaned` with NULL as None."""

    answers: pd.DataFrame
    quarantine: pd.DataFrame
    counts: dict[str, int]
    people: int
    demographics: tuple[dict[str, Any], ...]


def write_cells(columns: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> Path:
    """The cells as `read_cells` stores them."""
    own = {
        "__row": pa.array(range(1, len(rows) + 1), pa.int64()),
        "__line": pa.array(range(2, len(rows) + 2), pa.int64()),
    }
    raw = {name: pa.array([row[n] for row in rows], pa.string()) for n, name in enumerate(columns)}
    pq.write_table(pa.table(own | raw), path)
    return path


def clean_rows(
    survey: SurveySpec,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    texts: dict[str, str],
    folder: Path,
    wave: str = "w1",
) -> CleanTables:
    """Clean these raw rows, by way of files in `folder`."""
    folder.mkdir(exist_ok=True)
    cells = write_cells(columns, rows, folder / "cells.parquet")
    interventions = {id: Intervention(text, {}) for id, text in texts.items()}
    made = clean_wave(cells, survey, wave, interventions, folder, f"{wave}.csv")
    tables = [pq.read_table(path).to_pandas() for path in (made.answers, made.quarantine)]
    answers, quarantine = (table.astype(object).where(table.notna(), None) for table in tables)
    return CleanTables(answers, quarantine, made.counts, made.people, made.demographics)


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
