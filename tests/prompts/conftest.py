"""Responses, splits and prompts as files, as the stages before leave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evsim_assets.prompts.render import build_prompts
from evsim_assets.specs.study import Sample
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.landing import Intervention

NUMBERS = {"order": pa.int64(), "answer": pa.int64(), "weight": pa.float64(), "rank": pa.float64()}
NUMBERS["held_out"] = pa.bool_()

Rows = list[dict[str, Any]]


def stored(path: Path, rows: Rows) -> Path:
    schema = pa.schema([(name, NUMBERS.get(name, pa.string())) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def stored_responses(path: Path, survey: SurveySpec, answers: Rows) -> Path:
    common = {
        "participant": "p",
        "wave": "w",
        "question": survey.questions[0].id,
        "order": 0,
        "intervention": None,
        "intervention_text": "",
        "fields": None,
        "answer": 1,
        "weight": 1.0,
        **dict.fromkeys(d.slug for d in survey.demographics),
    }
    return stored(path, [{**common, **answer} for answer in answers])


def stored_splits(path: Path, people: Mapping[str, str], held_out: tuple[str, ...] = ()) -> Path:
    """`people` and their splits; one more in each split, `0 <split>`, has given no answer."""
    others = {f"0 {split}": split for split in ("train", "validation", "test")}
    ranks = {"train": 0.1, "validation": 0.85, "test": 0.95}
    rows = [
        {
            "participant": person,
            "split": split,
            "rank": ranks[split] + i / 1e9,
            "held_out": person in held_out,
        }
        for i, (person, split) in enumerate({**others, **people}.items())
    ]
    return stored(path, rows)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., pd.DataFrame]:
    """Prompts of `answers`, as a table; everybody is tested unless `people` says otherwise."""

    def make(
        survey: SurveySpec,
        *answers: dict[str, Any],
        people: Mapping[str, str] | None = None,
        held_out: tuple[str, ...] = (),
        templates: tuple[str, ...] = ("default",),
        sample: Sample | None = None,
        interventions: Mapping[str, Intervention] | None = None,
    ) -> pd.DataFrame:
        there = {str(answer.get("participant", "p")): "test" for answer in answers}
        read = {str(a["intervention"]): Intervention("", {}) for a in answers if a.get("intervention")}
        build_prompts(
            stored_responses(tmp_path / "responses", survey, list(answers)),
            stored_splits(tmp_path / "splits", there if people is None else people, held_out),
            survey,
            templates,
            sample,
            tmp_path / "prompts",
            read if interventions is None else interventions,
        )
        return pd.read_parquet(tmp_path / "prompts")

    return make
