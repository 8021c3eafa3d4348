"""Who answered: one row a participant with their demographics, to group answers by.

Belongs here: reading them from the survey's responses. Not here: groups (`groups.py`), who takes part in a
study (`prompts/`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from evsim_assets.specs.demographics import Demographic


def read_people(
    responses: Iterable[Path], demographics: Sequence[Demographic], participants: Iterable[str]
) -> pd.DataFrame:
    """`participant` and one column of text a demographic, ascending by participant.

    A participant of several waves who answered differently about themselves has the demographics of the last
    wave (by name). Prompts have those of their own wave.

    Args:
        responses: the survey's stored responses. participants: whom to keep.
    """
    slugs = [demographic.slug for demographic in demographics]
    read = [pd.read_parquet(path, columns=["participant", "wave", *slugs]) for path in responses]
    rows = pd.concat(read, ignore_index=True)
    rows = rows[rows["participant"].isin(set(participants))]
    last = rows.sort_values(["participant", "wave"], kind="stable").drop_duplicates(
        "participant", keep="last"
    )
    return last.drop(columns="wave").reset_index(drop=True)
