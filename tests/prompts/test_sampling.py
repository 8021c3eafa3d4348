"""A study uses the first participants of each split, the same ones of a frame and of a file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from evsim_assets import sql
from evsim_assets.prompts.sampling import sampled_participants, sampled_participants_sql
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.seeds import keyed_rank
from evsim_assets.specs.study import Sample

ENDS = {"train": 0.8, "validation": 0.9, "test": 1.0}


def splits(people: int) -> pd.DataFrame:
    names = [f"{i:05d}" for i in range(people)]
    ranks = [keyed_rank("split:snacks", name) for name in names]
    split = [next(s for s, end in ENDS.items() if rank < end) for rank in ranks]
    return pd.DataFrame({"participant": names, "split": split, "rank": ranks})


def test_a_larger_sample_holds_a_smaller_one() -> None:
    everybody = splits(1000)
    small = sampled_participants(everybody, Sample(train=50, validation=5, test=20))
    large = sampled_participants(everybody, Sample(train=200, validation=50, test=60))
    assert small["split"].value_counts().to_dict() == {"train": 50, "test": 20, "validation": 5}
    assert set(small["participant"]) < set(large["participant"])
    train = everybody[everybody["split"] == "train"]
    assert set(train.nsmallest(50, "rank")["participant"]) < set(small["participant"])
    assert sampled_participants(everybody, None).equals(everybody)


@pytest.mark.parametrize("sample", [None, Sample(), Sample(train=7), Sample(train=9, validation=3, test=2)])
def test_the_first_by_rank_and_then_by_name_are_chosen_whatever_the_order_of_the_rows(
    tmp_path: Path, sample: Sample | None
) -> None:
    everybody = splits(300)
    everybody.loc[:, "rank"] = (everybody["rank"] * 40).astype(int) / 40  # many are of one rank
    want = set()
    for split in ENDS:
        people = everybody[everybody["split"] == split]
        in_order = sorted(zip(people["rank"], people["participant"], strict=True))
        asked = getattr(sample, split) if sample else None
        want |= {name for _, name in in_order[:asked]}

    shuffled = everybody.sample(frac=1, random_state=1)
    shuffled.to_parquet(tmp_path / "splits")
    with sql.connection() as database:
        query = sampled_participants_sql(sql.parquet([tmp_path / "splits"]), sample)
        assert {name for name, *_ in database.execute(query).fetchall()} == want
    chosen = sampled_participants(shuffled, sample)
    assert chosen["participant"].tolist() == [name for name in shuffled["participant"] if name in want]
    assert list(chosen) == list(everybody)


def test_a_sample_larger_than_the_survey_is_refused() -> None:
    everybody = splits(100)
    there = int((everybody["split"] == "test").sum())
    with pytest.raises(BadInput) as caught:
        sampled_participants(everybody, Sample(train=1, validation=1, test=there + 1))
    assert (caught.value.field, caught.value.value) == ("sample.test", there + 1)
    assert f"{there} test participants" in caught.value.problem and caught.value.remedy


@pytest.mark.parametrize("empty", ["train", "validation", "test"])
@pytest.mark.parametrize("sample", [None, Sample(test=5)], ids=["all", "sampled"])
def test_a_split_without_people_is_refused_with_the_counts_of_all(empty: str, sample: Sample | None) -> None:
    people = pd.DataFrame(
        {"participant": list("abcd"), "split": ["train", "validation", "test", "test"], "rank": 0.5}
    )
    with pytest.raises(BadInput) as caught:
        sampled_participants(people[people["split"] != empty], sample)
    counts = {"train": 1, "validation": 1, "test": 2} | {empty: 0}
    assert ", ".join(f"{count} {split}" for split, count in counts.items()) in str(caught.value)
    assert "survey.yaml" in str(caught.value.remedy)
