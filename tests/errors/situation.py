"""A situation in which evsim refuses its input, and the small project in which it is tried.

Belongs here: what a situation is, the codebook that most of them break, the way from a situation to its
message. Not here: any situation (the other modules of this folder), the page (`docs/write_errors.py`).
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.surveys.cleaning import Cleaned, clean_wave
from evsim_assets.surveys.landing import intervention_texts
from evsim_assets.surveys.reading import read_cells

CODEBOOK = """\
title: Snacks
source: invented
participant: person
waves: {format: csv}
demographics:
  - name: living area
    column: area
    options: [Urban, Rural]
  - name: age
    column: years
    bands: [{label: young, below: 40}, {label: old, at_least: 40}]
questions:
  - id: hunger
    columns: [{answer: q1}]
    scale: {low: 0, high: 100}
  - id: likes
    columns: [{answer: q2, intervention: read}]
    options: [never, sometimes, often]
interventions: {file: texts.csv}
prompts:
  system: You are {demographics}
  user: "{intervention} From {low} to {high}?"
splits: {train: 0.8, validation: 0.1, test: 0.1}
"""
TEXTS = "id,text\nham,Ham is cheap.\njam,Jam is sweet.\n"
WAVE = "person,area,years,q1,q2,read\nAnn,Urban,25,40,often,ham\nBob,Rural,61,70,never,jam\n"


@dataclass(frozen=True)
class Situation:
    """What is wrong (`title`, as one would search for it), the input in brief, and how to try it.

    `shown` are blocks of code: language and text. `make` gets an empty folder, the root of a project, and
    either raises BadInput, or returns the text (or texts) in which evsim says what is wrong.
    """

    title: str
    shown: tuple[tuple[str, str], ...]
    make: Callable[[Path], object]


def message(situation: Situation) -> str:
    """What evsim really says, with paths below the project's root."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        try:
            said = situation.make(root)
        except BadInput as error:
            said = str(error)
    lines = [line for line in (said if isinstance(said, list) else [said]) if isinstance(line, str)]
    assert lines, f"nothing is refused: {situation.title}"
    return "\n".join(lines).replace(f"{root}/", "").replace(str(root), ".")


def put_survey(root: Path, codebook: str = CODEBOOK, **files: str | bytes | None) -> Path:
    """The folder data/surveys/snacks with a codebook and further files, by their names with `_` for `.`
    before the ending; None leaves a file of the small project out."""
    folder = root / "data" / "surveys" / "snacks"
    (folder / "waves").mkdir(parents=True, exist_ok=True)
    (folder / "survey.yaml").write_text(codebook, encoding="utf-8")
    for name, content in ({"texts_csv": TEXTS} | files).items():
        stem, _, ending = name.rpartition("_")
        if content is not None:
            path = folder / f"{stem}.{ending}"
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def put_wave(folder: Path, content: str | bytes, name: str = "2024-01.csv") -> Path:
    """A raw file in the landing folder."""
    path = folder / "waves" / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cleaned(root: Path, survey: SurveySpec, content: str, wave: str = "2024-01") -> Cleaned:
    """The wave of this content, landed, read and cleaned into a folder of its own."""
    path = put_wave(survey.folder, content, f"{wave}.csv")
    into = root / "made" / wave
    into.mkdir(parents=True, exist_ok=True)
    cells = read_cells(path, survey.format_of(wave), into / "cells.parquet")
    return clean_wave(cells.path, survey, wave, intervention_texts(survey), into, path)


def codebook_with(old: str, new: str) -> str:
    """The codebook of the small project with something replaced."""
    assert CODEBOOK.count(old) == 1, old
    return CODEBOOK.replace(old, new)


def changed_lines(codebook: str) -> str:
    """The lines in which a codebook differs from that of the small project, without their indent."""
    old, new = CODEBOOK.splitlines(), codebook.splitlines()
    same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))))
    old, new = old[same:], new[same:]
    backward = zip(reversed(old), reversed(new), strict=False)
    end = len(list(takewhile(lambda pair: pair[0] == pair[1], backward)))
    return textwrap.dedent("\n".join(new[: len(new) - end]))


def in_codebook(title: str, old: str, new: str, shown: str | None = None, **files: str | bytes) -> Situation:
    """A codebook that cannot be read because `new` stands in place of `old`."""
    text = codebook_with(old, new)
    blocks = [("yaml", changed_lines(text) if shown is None else shown)]
    blocks += [("text", said.rstrip("\n")) for said in files.values() if isinstance(said, str)]
    return Situation(title, tuple(blocks), lambda root: read_survey(put_survey(root, text, **files)))
