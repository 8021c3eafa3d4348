"""Whether training sees anybody or anything that it may not see, read from the tables themselves.

Belongs here: the check of a study's prompts against splits and responses. Not here: making either
(`surveys/splits.py`, `render.py`); whether the run goes on (`assets.py`).
"""

from __future__ import annotations

from pathlib import Path

from evsim_assets import sql
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.cell_sql import is_one_of
from evsim_assets.surveys.landing import canonical_id
from evsim_assets.surveys.splits import in_held_out_cell

TRAINED_ON = "split IN ('train', 'validation')"


def separation_problems(prompts: Path, splits: Path, responses: Path, survey: SurveySpec) -> list[str]:
    """What is wrong with the splits of a study's prompts, a line each with a count and an example.

    Held-out cells are looked up in the demographics of `responses`, and not in what `splits` says of
    them; "training" below means train and validation.
    """
    held = survey.held_out
    p, s, r = (sql.parquet([path]) for path in (prompts, splits, responses))
    trained = f"SELECT participant, question, intervention FROM {p} WHERE {TRAINED_ON}"
    in_cell = f"SELECT DISTINCT participant FROM {r} WHERE {in_held_out_cell(survey)}"
    found = {
        "participants are in two splits": (
            f"SELECT participant AS what FROM {s} GROUP BY participant HAVING min(split) <> max(split)"
        ),
        "participants have prompts in two splits": (
            f"SELECT participant AS what FROM {p} WHERE split <> 'held_out' GROUP BY participant"
            " HAVING min(split) <> max(split)"
        ),
        "participants have prompts, but are in no split": (
            f"SELECT DISTINCT p.participant AS what FROM {p} AS p"
            f" ANTI JOIN {s} AS s ON p.participant = s.participant"
        ),
        "participants have prompts of another split than theirs": (
            f"SELECT DISTINCT p.participant AS what FROM {p} AS p JOIN {s} AS s USING (participant)"
            " WHERE (p.split <> s.split AND NOT (p.split = 'held_out' AND s.split <> 'test'))"
        ),
        "participants of held-out cells are in training prompts": (
            f"SELECT DISTINCT t.participant AS what FROM ({trained}) AS t"
            f" SEMI JOIN ({in_cell}) AS c ON t.participant = c.participant"
        ),
        "held-out questions are in training prompts": (
            f"SELECT DISTINCT question AS what FROM ({trained}) WHERE {is_one_of('question', held.questions)}"
        ),
        "held-out interventions are in training prompts": (
            f"SELECT DISTINCT intervention AS what FROM ({trained})"
            f" WHERE {is_one_of('intervention', map(canonical_id, held.interventions))}"
        ),
    }
    problems = []
    with sql.connection(prompts.parent) as database:
        for problem, query in found.items():
            [(count, example)] = database.execute(f"SELECT count(*), min(what) FROM ({query})").fetchall()
            if count:
                problems.append(f"{count} {problem}, such as {example!r}")
    return problems
