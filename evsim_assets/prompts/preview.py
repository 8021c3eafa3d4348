"""Prompts as a model will read them, of a wave that is not stored: one a question.

Belongs here: which answers are shown. Not here: how prompts are rendered (`render.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from evsim_assets import sql
from evsim_assets.prompts.render import build_prompts
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.specs.templates import DEFAULT
from evsim_assets.surveys.landing import intervention_texts
from evsim_assets.surveys.splits import SPLITS


@dataclass(frozen=True)
class PreviewedPrompt:
    """A prompt with the human's answer to it; `held_out` says what keeps it out of training, if anything."""

    question: str
    system: str
    user: str
    target: str
    answer: int
    intervention: str | None
    held_out: str | None


def preview_prompts(
    answers: Path, survey: SurveySpec, questions: Collection[str], scratch: Path
) -> list[PreviewedPrompt]:
    """The first answer of the wave to each of the questions, one after an intervention where there is
    one, as the survey's first wording asks for it; in the codebook's order.

    Args:
        answers: what `clean_wave` made of the wave.
        survey: the codebook, not that of one wave.
        questions: ids; those without an answer in the wave are left out.
        scratch: a folder for small tables.
    """
    chosen, splits, made = (scratch / f"preview_{name}.parquet" for name in ("answers", "splits", "prompts"))
    with sql.connection(scratch) as database:
        rows = f"read_parquet({sql.text(str(answers))}, file_row_number = true)"
        firsts = database.execute(
            "SELECT coalesce(min(file_row_number) FILTER (intervention_text <> ''), min(file_row_number))"
            f" FROM {rows} WHERE list_contains(?, question) GROUP BY question",
            [list(questions)],
        ).fetchall()
        if not firsts:
            return []
        listed = ", ".join(str(first) for (first,) in firsts)
        sql.write_parquet(
            database,
            f"SELECT * EXCLUDE (file_row_number) FROM {rows} WHERE file_row_number IN ({listed})"
            ' ORDER BY participant, "order"',
            chosen,
        )
        # A study has people in every split; those of the preview are in one, and nobody in the others.
        nobody = " UNION ALL ".join(f"SELECT '{split}', '{split}', 1.0, false" for split in SPLITS)
        sql.write_parquet(
            database,
            "SELECT DISTINCT participant, 'train' AS split, 0.0::DOUBLE AS rank, false AS held_out"
            f" FROM {sql.parquet([chosen])} UNION ALL {nobody}",
            splits,
        )
        build_prompts(
            responses=chosen,
            splits=splits,
            survey=survey,
            templates=(DEFAULT,),
            sample=None,
            interventions=intervention_texts(survey),
            into=made,
        )
        prompts = database.execute(
            'SELECT question, system, "user", target, answer, intervention, held_out'
            f" FROM {sql.parquet([made])}"
        ).fetchall()
    order = [question.id for question in survey.questions]
    return sorted((PreviewedPrompt(*row) for row in prompts), key=lambda p: order.index(p.question))
