"""Splits are of people, by a keyed hash: nobody ever moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsim_assets import sql
from evsim_assets.specs.seeds import keyed_rank, keyed_rank_sql
from evsim_assets.surveys.splits import split_participants, split_report, uneven_shares


def responses(path: Path, rows: list[dict[str, Any]]) -> Path:
    known = {"wave": "w", "order": 0, "living_area": None, "home": None}
    table = pd.DataFrame([{**known, **row} for row in rows])
    texts = dict.fromkeys(("participant", "wave", "living_area", "home"), "string")
    table.astype(texts).to_parquet(path)
    return path


def people(path: Path, numbers: range) -> Path:
    return responses(path, [{"participant": f"{i:05d}", "order": order} for i in numbers for order in (0, 1)])


def split(rows: Path, survey: Any) -> pd.DataFrame:
    into = rows.with_name(f"splits of {rows.name}")
    count = split_participants(rows, survey, into)
    table = pd.read_parquet(into)
    assert len(table) == count
    return table


def test_a_new_wave_moves_nobody(make_survey: Any, tmp_path: Path) -> None:
    before = split(people(tmp_path / "one", range(500)), make_survey())
    after = split(people(tmp_path / "both", range(1500)), make_survey())
    assert len(after) == 1500 and after["participant"].is_monotonic_increasing
    both = before.merge(after, on="participant")
    assert len(both) == 500
    assert (both["split_x"] == both["split_y"]).all() and (both["rank_x"] == both["rank_y"]).all()


def test_another_survey_splits_otherwise(make_survey: Any, tmp_path: Path) -> None:
    rows, survey = people(tmp_path / "one", range(500)), make_survey()
    here, there = split(rows, survey), split(rows, survey.model_copy(update={"name": "sweets"}))
    assert 0.2 < (here["split"] != there["split"]).mean() < 0.5  # 1 − (0.8² + 0.1² + 0.1²) = 0.34


def test_fractions_are_near_those_of_the_codebook(make_survey: Any, tmp_path: Path) -> None:
    splits = split(people(tmp_path / "r", range(10_000)), make_survey())
    shares = splits["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.8, abs=0.012)  # 3 standard deviations
    assert shares["validation"] == pytest.approx(0.1, abs=0.009)
    assert shares["test"] == pytest.approx(0.1, abs=0.009)
    assert splits["rank"].between(0, 1, inclusive="left").all()


def test_splits_are_ranges_of_the_rank(make_survey: Any, tmp_path: Path) -> None:
    fractions = {"train": 0.5, "validation": 0.2, "test": 0.3}
    splits = split(people(tmp_path / "r", range(2000)), make_survey(splits=fractions))
    spans = splits.groupby("split")["rank"].agg(["min", "max"])
    assert spans.loc["train", "max"] < 0.5 <= spans.loc["validation", "min"]
    assert spans.loc["validation", "max"] < 0.7 <= spans.loc["test", "min"]


def test_ranks_are_those_of_the_function_in_python(make_survey: Any, tmp_path: Path) -> None:
    splits = split(people(tmp_path / "r", range(300)), make_survey())
    assert splits["rank"].tolist() == [keyed_rank("split:snacks", person) for person in splits["participant"]]


@settings(deadline=None, max_examples=50)
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_sql_and_python_rank_alike_whatever_the_texts(purpose: str, key: str) -> None:
    with sql.connection() as database:
        [(rank,)] = database.execute(f"SELECT {keyed_rank_sql(purpose, '$key')}", {"key": key}).fetchall()
    assert rank == keyed_rank(purpose, key)


def test_who_is_in_all_parts_of_a_cell_in_any_wave_is_held_out(make_survey: Any, tmp_path: Path) -> None:
    rural_with_children = {"living area": ["Rural"], "home": ["children", "alone"]}
    survey = make_survey(held_out={"cells": [rural_with_children]})
    rows = [
        {"participant": "a", "living_area": "Rural", "home": "spouse; children"},
        {"participant": "b", "living_area": "Urban", "home": "children"},
        {"participant": "c", "living_area": "Rural", "home": "spouse"},
        {"participant": "d", "living_area": None, "home": "alone"},
        {"participant": "e", "living_area": "Urban", "home": "alone"},
        {"participant": "e", "living_area": "Rural", "home": "alone", "order": 1, "wave": "x"},
        {"participant": "f", "living_area": "Rural", "home": None},
    ]
    splits = split(responses(tmp_path / "r", rows), survey)
    assert splits.set_index("participant")["held_out"].to_dict() == {
        "a": True,
        "b": False,
        "c": False,
        "d": False,
        "e": True,
        "f": False,
    }
    several = make_survey(held_out={"cells": [rural_with_children, {"living area": ["Urban"]}]})
    assert split(tmp_path / "r", several)["held_out"].tolist() == [True, True, False, False, True, False]
    assert not split(tmp_path / "r", make_survey())["held_out"].any()


def test_the_report_says_how_splits_came_out_in_each_stratum(make_survey: Any, tmp_path: Path) -> None:
    area, home = ("Urban", "Rural", None), ("alone", "spouse; children", None, "children")
    rows = [
        {"participant": f"{i:03d}", "living_area": area[i % 3], "home": home[i % 4], "order": order}
        for i in range(240)
        for order in (0, 1)
    ]
    rows.append({"participant": "000", "living_area": "Rural", "home": None, "order": 2})  # a later wave
    survey = make_survey(strata=["living area", "home"], held_out={"cells": [{"living area": ["Rural"]}]})
    given = responses(tmp_path / "r", rows)
    splits = split(given, survey)
    report = split_report(tmp_path / "splits of r", given, survey)
    assert list(report.columns) == [
        "stratum",
        "level",
        "participants",
        "train",
        "validation",
        "test",
        "held_out",
    ]
    found = {(row.stratum, row.level): row for row in report.itertuples()}
    sizes = {key: row.participants for key, row in found.items()}
    assert sizes == {
        ("all", "all"): 240,
        ("living area", "Rural"): 80,
        ("living area", "Urban"): 80,
        ("living area", "not known"): 80,
        ("home", "alone"): 60,
        ("home", "children"): 120,
        ("home", "not known"): 60,
        ("home", "spouse"): 60,
    }
    for place, level in enumerate(["Urban", "Rural", "not known"]):
        mine = splits.iloc[place::3]
        row = found["living area", level]
        for name in ("train", "validation", "test"):
            assert getattr(row, name) == pytest.approx((mine["split"] == name).mean())
    assert found["living area", "Urban"].held_out == pytest.approx(1 / 80)  # of the participant who moved
    assert found["living area", "Rural"].held_out == 1 and found["all", "all"].held_out == pytest.approx(
        81 / 240
    )


def test_uneven_shares_of_a_thousand_people_name_a_key_that_mends_them(
    make_survey: Any, tmp_path: Path
) -> None:
    uneven = 0
    for name in ("a", "b", "c", "d", "e"):
        survey = make_survey().model_copy(update={"name": name})
        rows = people(tmp_path / name, range(1_000))
        into = tmp_path / f"splits of {name}"
        split_participants(rows, survey, into)
        shares = pd.read_parquet(into)["split"].value_counts(normalize=True)
        off = max(abs(shares["train"] - 0.8), abs(shares["validation"] - 0.1), abs(shares["test"] - 0.1))
        told = uneven_shares(split_report(into, rows, survey), into, survey)
        assert (told is not None) == (off > 0.01)
        if told is not None:
            uneven += 1
            key = int(told.split("splits.key: ")[1].split(",")[0])
            splits = survey.splits.model_copy(update={"key": key})
            again = survey.model_copy(update={"splits": splits})
            split_participants(rows, again, into)
            mended = pd.read_parquet(into)["split"].value_counts(normalize=True)
            assert mended["train"] == pytest.approx(0.8, abs=0.01)
            assert mended["validation"] == pytest.approx(0.1, abs=0.01)
            assert mended["test"] == pytest.approx(0.1, abs=0.01)
    assert uneven > 0
