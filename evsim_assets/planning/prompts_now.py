"""A study's prompts as they are, or as they would be made now from the landed waves; nothing is stored.

Belongs here: the order of the stages. Not here: what any stage does (`surveys/`, `prompts/`).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from evsim_assets.prompts.render import build_prompts
from evsim_assets.specs.study import StudySpec
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.cleaning import clean_wave
from evsim_assets.surveys.landing import intervention_texts, landed_waves
from evsim_assets.surveys.reading import read_cells
from evsim_assets.surveys.responses import merge_waves
from evsim_assets.surveys.splits import split_participants


def prompts_of_landed_waves(survey: SurveySpec, study: StudySpec, scratch: Path) -> pd.DataFrame:
    """What the study's prompts would be now. Raises BadInput as the stages do.

    Waves that would be put in quarantine whole take part, so it may be a few more than will be.
    """
    texts = intervention_texts(survey)
    answers = []
    for wave in landed_waves(survey):
        folder = scratch / wave.wave
        folder.mkdir()
        cells = read_cells(wave.fetched(folder), survey.format_of(wave.wave), folder / "cells.parquet")
        answers.append(clean_wave(cells.path, survey, wave.wave, texts, folder, wave.path.name).answers)
    responses = merge_waves(answers, survey, scratch).responses
    splits, prompts = scratch / "splits.parquet", scratch / "prompts.parquet"
    split_participants(responses, survey, splits)
    build_prompts(responses, splits, survey, study.templates, study.sample, prompts, texts)
    return pd.read_parquet(prompts)
