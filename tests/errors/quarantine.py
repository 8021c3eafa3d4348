"""Cells and rows that go to quarantine, and answers that are superseded, each with its reason."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from evsim_assets.specs.survey import read_survey
from evsim_assets.surveys.responses import merge_waves
from tests.errors.situation import cleaned, put_survey

CODEBOOK = """\
title: Snacks
source: invented
participant: person
weight: weight
missing: ["", NA]
duplicates: {within_wave: keep first, across_waves: keep last}
demographics:
  - {name: living area, column: area, options: [Urban, Rural]}
questions:
  - {id: hunger, columns: [{answer: q1}], scale: {low: 0, high: 100, step: 10}}
  - id: likes
    columns: [{answer: q2, intervention: read}]
    options: [never, sometimes, often]
    fields: {town: {column: town}}
interventions: {texts: {ham: Ham is cheap.}}
prompts:
  system: You are {demographics}
  user: "{intervention} From {low} to {high}?"
"""
WIDE = """\
person,weight,area,town,q1,q2,read
Ann,1,Urban,Ulm,40,often,ham
Ann,1,Urban,Ulm,50,often,ham
,1,Urban,Ulm,40,often,ham
Bob,NA,Urban,Ulm,40,often,ham
Cem,heavy,Urban,Ulm,40,often,ham
Dan,-1,Urban,Ulm,40,often,ham
Eve,1,Suburb,Ulm,40,often,ham
Fay,1,Urban,Ulm,lots,often,ham
Gus,1,Urban,Ulm,120,often,ham
Hal,1,Urban,Ulm,45,often,ham
Ida,1,Urban,Ulm,40,daily,ham
Jan,1,Urban,Ulm,40,often,NA
Kim,1,Urban,Ulm,40,often,spam
Lea,1,Urban,NA,40,often,ham
"""
OFFERED = CODEBOOK.replace(
    "demographics:",
    "waves: {changes: [{since: 2024-01, questions: {likes: {options: [never, sometimes]}}}]}\ndemographics:",
)
KEEP_LAST = CODEBOOK.replace("keep first", "keep last")
LONG = CODEBOOK.replace("{id: hunger, ", "{id: hunger, where: {item: hunger}, ").replace(
    "- id: likes", "- id: likes\n    where: {item: likes}"
)
LONG_ROWS = """\
person,weight,area,town,item,q1,q2,read
Ann,1,Urban,Ulm,hunger,40,,
Ann,1,Urban,Ulm,thirst,60,,
"""


FIRST_ROWS = "".join(WIDE.splitlines(keepends=True)[:2])
WAVES = ((CODEBOOK, WIDE), (KEEP_LAST, WIDE), (LONG, LONG_ROWS), (OFFERED, FIRST_ROWS))


@dataclass(frozen=True)
class SetAside:
    """A row of a table of what could not be used."""

    column: str
    value: str
    reason: str
    remedy: str


def quarantined() -> list[SetAside]:
    """What four waves of a small survey have in quarantine."""
    found = []
    for codebook, content in WAVES:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            table = cleaned(root, read_survey(put_survey(root, codebook)), content).quarantine
            rows = pq.read_table(table, columns=["column", "value", "reason", "remedy"]).to_pylist()
            found += [SetAside(**row) for row in rows]
    return found


def superseded() -> str:
    """Why the first of a participant's two waves does not count."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        survey = read_survey(put_survey(root, CODEBOOK))
        waves = [cleaned(root, survey, WIDE, wave).answers for wave in ("2024-01", "2024-02")]
        table = pq.read_table(merge_waves(waves, survey, root).superseded)
    (reason,) = set(table["reason"].to_pylist())
    return str(reason)
