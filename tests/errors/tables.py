"""Question tables and tables of interventions that are refused."""

from __future__ import annotations

from evsim_assets.specs.survey import read_survey
from evsim_assets.surveys.landing import intervention_texts
from tests.errors.situation import Situation, codebook_with, in_codebook, put_survey

ENTRY = "id: hunger\n    columns: [{answer: q1}]"
TABLE = 'for_each: snacks.csv\n    id: "{snack}"\n    columns: [{answer: "{column}"}]'
TEXTS = "interventions: {file: texts.csv}"


def _question_table(title: str, content: str, entry: str = TABLE) -> Situation:
    return in_codebook(title, ENTRY, entry, snacks_csv=content)


def _not_csv(title: str, shown: str, content: bytes) -> Situation:
    broken = in_codebook(title, ENTRY, TABLE, snacks_csv=content)
    return Situation(title, (("text", shown),), broken.make)


QUESTION_TABLES = [
    in_codebook("The question table is not there", ENTRY, TABLE),
    _not_csv(
        "The question table is not UTF-8",
        "snack,column\npâté,q1    # saved as Latin-1",
        "snack,column\npâté,q1\n".encode("latin-1"),
    ),
    _not_csv(
        "A quote in the question table does not pair", 'snack,column\n"ham,q1', b'snack,column\n"ham,q1\n'
    ),
    _question_table(
        "A row of the question table is too long or too short", "snack,column\nham,q1\njam, red,q3\n"
    ),
    _question_table("The question table has no rows", "snack,column\n"),
    _question_table("The question table has no such column", "name,column\nham,q1\n"),
    _question_table("A row of the question table makes no question", "snack,column\nham,q1\nRed jam,q3\n"),
    _question_table(
        "A column of the question table has the name of a placeholder", "snack,column,low\nham,q1,0\n"
    ),
    in_codebook(
        "A question table that is neither a file nor a list", ENTRY, TABLE.replace("snacks.csv", "3")
    ),
]


def _texts(title: str, codebook: str | None, **files: str | bytes | None) -> Situation:
    """Interventions that cannot be read."""
    text = codebook_with(TEXTS, codebook or TEXTS)
    shown = [("yaml", codebook or TEXTS)]
    shown += [("text", content.rstrip("\n")) for content in files.values() if isinstance(content, str)]
    return Situation(
        title, tuple(shown), lambda root: intervention_texts(read_survey(put_survey(root, text, **files)))
    )


INTERVENTIONS = [
    in_codebook(
        "An intervention column without interventions",
        f"{TEXTS}\n",
        "",
        "- id: likes\n  columns: [{answer: q2, intervention: read}]\n# and no `interventions: …`",
    ),
    in_codebook(
        "Interventions from two sources, or from none",
        TEXTS,
        "interventions: {file: texts.csv, texts: {ham: Ham is cheap.}}",
    ),
    in_codebook(
        "Fields of interventions without a file",
        TEXTS,
        "interventions: {texts: {ham: Ham is cheap.}, fields: {author: by}}",
    ),
    _texts("The table of interventions is not there", None, texts_csv=None),
    _texts("The table of interventions lacks a column", None, texts_csv="number,text\n1,Ham is cheap.\n"),
    _texts(
        "An intervention is in the table twice",
        None,
        texts_csv="id,text\n78,Ham is cheap.\n78.0,Jam is sweet.\n",
    ),
    _texts(
        "An intervention is in the codebook twice",
        'interventions: {texts: {"78": Ham is cheap., "78.0": Jam is sweet.}}',
    ),
    _texts(
        "The table of interventions has an ending that cannot be read",
        "interventions: {file: texts.docx}",
        texts_docx=b"PK",
    ),
    _texts("The table of interventions is empty", None, texts_csv="id,text\n"),
]

SITUATIONS = [*QUESTION_TABLES, *INTERVENTIONS]
