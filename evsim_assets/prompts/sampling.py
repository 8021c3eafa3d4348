"""Which of a survey's participants a study uses: all, or the first of each split by rank.

Belongs here: samples of people. Not here: splits (`surveys/splits.py`), prompts (`render.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from evsim_assets import sql
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import Sample
from evsim_assets.surveys.splits import SPLITS


def sampled_participants(splits: pd.DataFrame, sample: Sample | None) -> pd.DataFrame:
    """The rows of `splits` that a study uses, in their order: those of `sampled_participants_sql`.

    Raises:
        BadInput: a split is empty, or has fewer participants than the sample asks for.
    """
    check_sample({split: int((splits["split"] == split).sum()) for split in SPLITS}, sample)
    with sql.connection() as database:
        database.register("splits", splits)
        chosen = database.execute(sampled_participants_sql("splits", sample)).df()
    return splits[splits["participant"].isin(chosen["participant"])]


def sampled_participants_sql(splits: str, sample: Sample | None) -> str:
    """A query for the rows of the table `splits` that a study uses: all, or the first of each split by
    rank, people of one rank by name. `check_sample` comes first.

    The rank is a keyed hash, so a larger sample holds a smaller one, and a new wave that brings
    more people moves only those at the margin.
    """
    asked = {split: getattr(sample, split) for split in SPLITS} if sample else {}
    limits = [f"split = '{split}' AND place > {number}" for split, number in asked.items() if number]
    if not limits:
        return f"SELECT * FROM {splits}"
    placed = (
        f"SELECT *, row_number() OVER (PARTITION BY split ORDER BY rank, participant) AS place FROM {splits}"
    )
    return f"SELECT * EXCLUDE (place) FROM ({placed}) WHERE NOT ({' OR '.join(limits)})"


def check_sample(counts: Mapping[str, int], sample: Sample | None) -> None:
    """Raise BadInput unless every split has people, and as many as the sample asks for.

    Args:
        counts: participants by split.
    """
    if not all(counts.get(split) for split in SPLITS):
        there = ", ".join(f"{counts.get(split, 0)} {split}" for split in SPLITS)
        raise BadInput(
            f"a study needs participants for training, validation and test, and the survey has {there}",
            field="splits",
            remedy="add waves with more people, or raise the empty split's fraction in survey.yaml",
        )
    for split in SPLITS:
        asked = getattr(sample, split) if sample else None
        if asked is not None and counts[split] < asked:
            raise BadInput(
                f"the survey has {counts[split]} {split} participants, fewer than the sample asks for",
                field=f"sample.{split}",
                value=asked,
                remedy="ask for fewer, or add waves",
            )
