"""Which participants train, validate and test: by a keyed hash, so that nobody ever moves.

Belongs here: splits of people. Not here: which of them a study uses (`prompts/`).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from evsim_assets.specs.seeds import keyed_rank
from evsim_assets.specs.survey import SurveySpec


def merge_waves(waves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The answers of all waves, by participant.

    A participant of several waves is one participant (a panel): their answers follow each other in
    the order of the waves' names, and they are in one split.
    """
    answers = pd.concat(waves, ignore_index=True)
    answers = answers.sort_values(["participant", "wave", "order"], kind="stable", ignore_index=True)
    answers["order"] = answers.groupby("participant", sort=False).cumcount()
    return answers


def split_participants(responses: pd.DataFrame, survey: SurveySpec) -> pd.DataFrame:
    """One row a participant: `participant`, `split`, `rank`.

    `rank` is uniform in [0, 1) and depends on the survey's name and the participant alone: the
    first `train` part of it trains, the next validates, the last tests. A new wave moves nobody.
    """
    people = sorted(responses["participant"].unique())
    rank = pd.Series([keyed_rank(f"split:{survey.name}", person) for person in people], dtype=float)
    fractions = survey.splits
    split = pd.Series("test", index=rank.index)
    split[rank < fractions.train + fractions.validation] = "validation"
    split[rank < fractions.train] = "train"
    return pd.DataFrame({"participant": people, "split": split, "rank": rank})
