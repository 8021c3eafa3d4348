"""Tables of many prompts come out in the prompts' own order, whatever order they were made in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evsim_assets.simulation import resuming
from evsim_assets.simulation.resuming import beside_their_like, by_shards, follows_from

PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["p0", "p1", "p2", "p3", "p4"],
        "participant": list("abcab"),
        "system": ["old", "new", "old", "old", "new"],
    }
)


def test_prompts_of_like_people_stand_together_and_of_one_participant_too() -> None:
    assert beside_their_like(PROMPTS)["prompt_id"].tolist() == ["p0", "p3", "p2", "p1", "p4"]


def test_shards_are_of_neighbours_and_the_table_is_in_the_prompts_order(tmp_path: Path) -> None:
    asked: list[list[str]] = []
    told: list[str] = []

    def make(some: pd.DataFrame, progress: Any) -> tuple[pd.DataFrame, Any]:
        asked.append(some["prompt_id"].tolist())
        progress(1, 2)
        rows = some.loc[some.index.repeat(2), ["prompt_id"]].reset_index(drop=True)
        return rows.assign(temperature=np.tile([0.0, 1.0], len(some))), {"first": asked[-1][0]}

    def tell(share: float, words: str) -> None:
        told.append(f"{share:g}: {words}")

    table, notes = by_shards(tmp_path, {}, PROMPTS, make, size=3, tell=tell, say=print)
    assert asked == [["p0", "p3", "p2"], ["p1", "p4"]]
    assert told == ["0.4: 2 of 5 prompts", "0.8: 4 of 5 prompts"]
    assert notes == [{"first": "p0"}, {"first": "p1"}]
    assert table["prompt_id"].tolist() == list(np.repeat(PROMPTS["prompt_id"], 2))
    assert table["temperature"].tolist() == [0.0, 1.0] * 5
    again, noted = by_shards(tmp_path, {}, PROMPTS, make, size=3, tell=tell, say=print)
    pd.testing.assert_frame_equal(again, table)
    assert noted == notes and len(asked) == 2
    _, other = by_shards(tmp_path, {"seed": 1}, PROMPTS, make, size=2, tell=tell, say=print)
    assert len(other) == 3 and len(asked) == 5


def test_more_to_do_than_was_thought_takes_nothing_back_of_what_was_told(tmp_path: Path) -> None:
    told: list[float] = []

    def make(some: pd.DataFrame, progress: Any) -> tuple[pd.DataFrame, Any]:
        for done, of in [(2, 4), (4, 4), (5, 8), (8, 8)]:
            progress(done, of)
        return some[["prompt_id"]].reset_index(drop=True), None

    by_shards(tmp_path, {}, PROMPTS, make, size=5, tell=lambda share, _: told.append(share), say=print)
    assert told == [0.4, 1, 1, 1]


def test_a_row_follows_from_code_and_libraries_too(monkeypatch: pytest.MonkeyPatch) -> None:
    known = follows_from(seed=1)
    assert known["seed"] == 1 and set(known["libraries"]) >= {"torch", "transformers", "peft"}
    assert follows_from(seed=1) == known
    monkeypatch.setattr(resuming, "CODE", ("simulation/numbers.py",))
    assert follows_from(seed=1)["code"] != known["code"]
