"""Waves become one table by participant, and every answer is in it or set aside with a reason."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evsim_assets.surveys.responses import merge_waves

TEXTS = (
    "participant",
    "wave",
    "question",
    "intervention",
    "intervention_text",
    "fields",
    "living_area",
    "home",
)


def stored(rows: pd.DataFrame, path: Path) -> Path:
    """The rows as `clean_wave` writes them."""
    kinds = {"order": pa.int64(), "answer": pa.int64(), "weight": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in rows.columns])
    pq.write_table(pa.Table.from_pandas(rows, schema=schema, preserve_index=False), path)
    return path


def wave(name: str, people: dict[str, list[int]], **columns: str | None) -> pd.DataFrame:
    rows = [
        {
            "participant": person,
            "wave": name,
            "question": "first",
            "order": order,
            "intervention": None,
            "intervention_text": "",
            "fields": None,
            "answer": answer,
            "weight": 1.0,
            "living_area": None,
            "home": None,
            **columns,
        }
        for person, answers in people.items()
        for order, answer in enumerate(answers)
    ]
    return pd.DataFrame(rows)


def waves(folder: Path) -> list[Path]:
    """Three waves, the last one first; "é" is in all, "b" in two of them, "a" and "c" in one."""
    last = wave("2023", {"é": [5], "b": [6, 7]}, living_area="Urban")
    middle = wave("2022", {"b": [3, 4], "é": [2]}, home="spouse; children")
    first = wave("2021", {"é": [1, 0], "c": [9], "a": [8]})
    return [stored(rows, folder / f"{i}.parquet") for i, rows in enumerate((last, middle, first))]


def answers(path: Path) -> list[tuple[str, str, int, int]]:
    table = pd.read_parquet(path)
    columns = table[["participant", "wave", "order", "answer"]]
    return [tuple(row) for row in columns.itertuples(index=False)]


def test_the_answers_of_a_panel_follow_each_other_in_the_order_of_waves(
    make_survey: Any, tmp_path: Path
) -> None:
    merged = merge_waves(waves(tmp_path), make_survey(), tmp_path)
    assert answers(merged.responses) == [
        ("a", "2021", 0, 8),
        ("b", "2022", 0, 3),
        ("b", "2022", 1, 4),
        ("b", "2023", 2, 6),
        ("b", "2023", 3, 7),
        ("c", "2021", 0, 9),
        ("é", "2021", 0, 1),
        ("é", "2021", 1, 0),
        ("é", "2022", 2, 2),
        ("é", "2023", 3, 5),
    ]
    assert answers(merged.superseded) == []
    assert merged.counts == {"clean": 10, "kept": 10, "superseded": 0, "panel": 2}


@pytest.mark.parametrize(
    ("policy", "kept", "reasons"),
    [
        (
            "keep first",
            [("a", "2021"), ("b", "2022"), ("b", "2022"), ("c", "2021"), ("é", "2021"), ("é", "2021")],
            {("b", "2023"): "2022", ("é", "2022"): "2021", ("é", "2023"): "2021"},
        ),
        (
            "keep last",
            [("a", "2021"), ("b", "2023"), ("b", "2023"), ("c", "2021"), ("é", "2023")],
            {("b", "2022"): "2023", ("é", "2021"): "2023", ("é", "2022"): "2023"},
        ),
    ],
)
def test_one_wave_of_a_participant_is_kept_and_the_others_are_set_aside_with_the_reason(
    make_survey: Any,
    tmp_path: Path,
    policy: str,
    kept: list[tuple[str, str]],
    reasons: dict[tuple[str, str], str],
) -> None:
    given = waves(tmp_path)
    survey = make_survey(duplicates={"across_waves": policy})
    merged = merge_waves(given, survey, tmp_path)
    responses, superseded = pd.read_parquet(merged.responses), pd.read_parquet(merged.superseded)
    assert list(zip(responses["participant"], responses["wave"], strict=True)) == kept
    assert list(superseded.columns) == [*responses.columns, "reason"]
    told = superseded.groupby(["participant", "wave"])["reason"].first().to_dict()
    assert set(told) == set(reasons)
    assert all(f"wave {reasons[key]} count" in told[key] and policy in told[key] for key in reasons)
    assert merged.counts == {"clean": 10, "kept": len(kept), "superseded": 10 - len(kept), "panel": 2}
    both = pd.concat([responses, superseded.drop(columns="reason")])
    before = pd.concat([pd.read_parquet(path) for path in given])
    same = ["participant", "wave", "order"]
    pd.testing.assert_frame_equal(
        both.sort_values(same, ignore_index=True), before.sort_values(same, ignore_index=True)
    )


def test_texts_come_through_whether_they_are_few_or_many(
    make_survey: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = wave("w", {f"{i:04d}": [i % 7] for i in reversed(range(3000))})
    rows["fields"] = [f'{{"headline": "{i} \\"x\\""}}' for i in range(3000)]
    rows["home"] = [None if i % 3 else f"it's; {i % 5}" for i in range(3000)]
    path = stored(rows, tmp_path / "w.parquet")
    expected = pd.read_parquet(path).sort_values("participant", ignore_index=True)
    for few in (0, 100, 10_000):  # no text, some texts and all texts sorted as numbers
        monkeypatch.setattr("evsim_assets.surveys.responses.FEW", few)
        into = tmp_path / str(few)
        into.mkdir()
        merged = merge_waves([path], make_survey(), into)
        table = pd.read_parquet(merged.responses)
        pd.testing.assert_frame_equal(table, expected)
        schema = pq.read_schema(merged.responses)
        assert all(schema.field(name).type == pa.string() for name in TEXTS)
        assert schema.field("order").type == schema.field("answer").type == pa.int64()


def test_the_same_waves_give_the_same_bytes(make_survey: Any, tmp_path: Path) -> None:
    given = [
        stored(wave(name, {f"{i:05d}": [1, 2, 3] for i in range(start, start + 60_000)}), tmp_path / name)
        for name, start in (("a", 30_000), ("b", 0))
    ]
    hashes = set()
    for turn in ("one", "two"):
        (tmp_path / turn).mkdir()
        merged = merge_waves(given, make_survey(), tmp_path / turn)
        hashes.add(hashlib.sha256(merged.responses.read_bytes()).hexdigest())
    assert len(hashes) == 1
    table = pd.read_parquet(merged.responses)
    assert table["participant"].is_monotonic_increasing and len(table) == 360_000
    assert (table.groupby("participant").cumcount() == table["order"]).all()


def test_a_wave_without_usable_answers_adds_nothing(make_survey: Any, tmp_path: Path) -> None:
    empty = stored(wave("empty", {"x": [1]}).head(0), tmp_path / "empty.parquet")
    full = stored(wave("full", {"x": [1]}), tmp_path / "full.parquet")
    assert answers(merge_waves([empty, full], make_survey(), tmp_path).responses) == [("x", "full", 0, 1)]
    assert merge_waves([empty], make_survey(), tmp_path).counts["kept"] == 0
