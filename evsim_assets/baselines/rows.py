"""The answers that baselines are fitted to and measured on.

Belongs here: which responses those are. Not here: who takes part in a study (`prompts/`), features,
fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from evsim_assets.baselines.features import INTERVENTION
from evsim_assets.specs.survey import HeldOut, SurveySpec


def read_answers(responses: Iterable[Path], survey: SurveySpec) -> pd.DataFrame:
    """The stored responses, only the columns that baselines look at."""
    columns = ["participant", "order", "question", INTERVENTION, "answer", "weight"]
    columns += [demographic.slug for demographic in survey.demographics]
    return pd.concat([pd.read_parquet(path, columns=columns) for path in responses], ignore_index=True)


def answers_in_splits(responses: pd.DataFrame, people: pd.DataFrame, held_out: HeldOut) -> pd.DataFrame:
    """The responses of `people` with their `split`, without what is held out of training.

    Of train and validation participants, answers are held out because of their question, their
    intervention, or the person's demographic cell; test answers all stay, as in a study's prompts.

    Args:
        people: rows of the survey's splits (participant, split, held_out).
    """
    rows = responses.merge(people[["participant", "split", "held_out"]], on="participant")
    held = rows["held_out"].astype(bool) | rows["question"].isin(held_out.questions)
    held |= rows[INTERVENTION].isin(held_out.interventions)
    return rows[~held | (rows["split"] == "test")].drop(columns="held_out")
