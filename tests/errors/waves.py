"""Waves and columns: names of raw files, changes from wave to wave, columns that are not there."""

from __future__ import annotations

import hashlib
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.surveys.landing import WaveFile, add_wave, landed_waves, look_around, misnamed_files
from evsim_assets.surveys.look import look_at
from evsim_assets.surveys.observed import removed_waves
from evsim_assets.surveys.wave_assets import _checks, _landed, _refuse_changed, _unreadable, _unusable
from tests.errors.situation import WAVE, Situation, cleaned, codebook_with, in_codebook, put_survey, put_wave

FORMAT = "waves: {format: csv}"


def _survey(root: Path, waves: str = FORMAT) -> SurveySpec:
    return read_survey(put_survey(root, codebook_with(FORMAT, waves)))


def _change(title: str, change: str) -> Situation:
    return in_codebook(
        title, FORMAT, f"waves:\n  changes:\n    - {change}", f"waves:\n  changes:\n    - {change}"
    )


CHANGES = [
    _change("A change of waves that names none", "columns: {q1: Q1}"),
    _change("A change of waves for a column that is none", "{since: 2024-06, columns: {q7: Q7}}"),
    _change(
        "A change of waves for an unknown demographic",
        "{since: 2024-06, demographics: {gender: {column: sex}}}",
    ),
    _change(
        "A change of waves for an unknown question", "{since: 2024-06, questions: {thirst: {reversed: true}}}"
    ),
    _change(
        "A change of waves with a label that is none",
        "{since: 2024-06, demographics: {living area: {codes: {1: Town}}}}",
    ),
    _change(
        "A change of waves with an option that the question does not have",
        "{since: 2024-06, questions: {likes: {options: [never, always]}}}",
    ),
    _change(
        "A change of waves with the options in another order",
        "{since: 2024-06, questions: {likes: {options: [often, never]}}}",
    ),
    _change(
        "A change of waves with options of a question that has a scale",
        "{since: 2024-06, questions: {hunger: {options: [little, much]}}}",
    ),
    _change(
        'A change of waves for the "don\'t know" of a question that has none',
        "{since: 2024-06, questions: {hunger: {dont_know: [99]}}}",
    ),
]


def _location(title: str, written: str) -> Situation:
    return in_codebook(title, FORMAT, written, written)


def _looking(title: str, written: str) -> Situation:
    """A place that can be written, and not be looked into."""
    return Situation(title, (("yaml", written),), lambda root: look_around(_survey(root, written)))


def _folder(root: Path) -> object:
    survey = _survey(root)
    (survey.folder / "waves" / "2024-01.csv").mkdir()
    return landed_waves(survey)[0].fetched(root)


def _written_anew(root: Path) -> object:
    survey = _survey(root)
    put_wave(survey.folder, WAVE)
    (wave,) = landed_waves(survey)
    return _refuse_changed(wave, wave.sha256, hashlib.sha256(b"as it was seen").hexdigest())


PLACES = [
    _location("A landing place with a password in its URL", "waves: s3://me:secret@uploads/snacks"),
    _location("A landing place with a key in its URL", "waves: https://example.org/snacks?sig=secret"),
    _location(
        "A landing place with options of its store",
        "waves: {location: s3://uploads/snacks, storage_options: {key: me, secret: mine}}",
    ),
    _location("A landing place of a kind that is unknown", "waves: bucket://uploads/snacks"),
    _looking("A landing place whose library is not installed", "waves: dropbox://uploads/snacks"),
    _looking("A landing place that cannot be read", "waves: survey.yaml"),
    Situation(
        "A folder is named like a wave",
        (("text", "data/surveys/snacks/waves/2024-01.csv/"),),
        _folder,
    ),
    Situation(
        "A raw file changed between the sensor's look and the run",
        (("text", "data/surveys/snacks/waves/2024-01.csv    # is being written anew"),),
        _written_anew,
    ),
]


def _misnamed(title: str, *names: str, waves: str = FORMAT) -> Situation:
    def make(root: Path) -> object:
        survey = _survey(root, waves)
        for name in names:
            put_wave(survey.folder, WAVE, name)
        return misnamed_files(survey)

    shown = [("text", "\n".join(f"data/surveys/snacks/waves/{name}" for name in names))]
    if waves != FORMAT:
        shown = [("yaml", waves), *shown]
    return Situation(title, tuple(shown), make)


NAMES = [
    _misnamed("A raw file whose name cannot be a wave's", "January 2024.csv"),
    _misnamed("A raw file of another format", "2024-01.xls", waves="waves: {format: excel}"),
    _misnamed(
        "A raw file of another format than its wave's",
        "2024-01.xlsx",
        waves="waves:\n  changes:\n    - {since: 2024-06, format: {format: excel}}",
    ),
    _misnamed("Two raw files of one wave", "2024-01.tsv", "2024-01.txt", waves="waves: {format: tsv}"),
]


def _added(title: str, name: str, make: Callable[[SurveySpec, Path], object], shown: str = "") -> Situation:
    def add(root: Path) -> object:
        return make(_survey(root), root / name)

    return Situation(title, (("text", shown or f"evsim survey add snacks '{name}'"),), add)


def _written(path: Path, content: str = WAVE) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def _taken(survey: SurveySpec, path: Path) -> object:
    add_wave(survey, _written(path))
    return add_wave(survey, _written(path, WAVE.replace("40", "50")))


def _full(survey: SurveySpec, path: Path) -> object:
    """A file may have no more than ten bytes, as on a disk that is full."""
    _written(path)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        return add_wave(survey, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


ADDING = [
    _added("The file to add is not there", "2024-01.csv", add_wave),
    _added(
        "The file to add has an impossible name", "January 2024.csv", lambda s, p: add_wave(s, _written(p))
    ),
    _added("The file to add has another format", "2024-01.xlsx", lambda s, p: add_wave(s, _written(p))),
    _added("A wave of this name is already there", "2024-01.csv", _taken),
    _added(
        "The file could not be stored",
        "2024-01.csv",
        _full,
        "evsim survey add snacks 2024-01.csv    # on a full disk",
    ),
]


def _cleaning(title: str, content: str, waves: str = FORMAT, shown: str | None = None) -> Situation:
    blocks = [("text", shown or content.rstrip("\n"))]
    if waves != FORMAT:
        blocks = [("yaml", waves), *blocks]
    return Situation(title, tuple(blocks), lambda root: cleaned(root, _survey(root, waves), content))


def _of_no_question(root: Path) -> object:
    everything = codebook_with("id: hunger", "id: hunger\n    waves: [2023-*]")
    everything = everything.replace("id: likes", "id: likes\n    waves: [2023-*]")
    return cleaned(root, read_survey(put_survey(root, everything)), WAVE)


def _much_unusable(root: Path) -> object:
    survey = _survey(root)
    rows = [f"p{n},Urban,25,{'lots' if n < 8 else 40},often,ham" for n in range(40)]
    counts = cleaned(root, survey, "\n".join(["person,area,years,q1,q2,read", *rows])).counts
    assert [check.passed for check in _checks(survey, counts)] == [True, False]
    return str(_unusable(survey, Path("2024-01.csv"), counts))


def _coded(root: Path) -> object:
    survey = _survey(root)
    rows = [f"p{n},{n % 2},25,40,often,ham" for n in range(40)]
    found = cleaned(root, survey, "\n".join(["person,area,years,q1,q2,read", *rows])).demographics
    return str(_unreadable(survey, Path("2024-01.csv"), found))


def _gone(root: Path) -> object:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("snacks_wave", ["2024-01"])
        return removed_waves(_survey(root), instance)


def _unwritable(root: Path) -> object:
    (root / "made" / "2024-01" / ".answers.parquet.tmp").mkdir(parents=True)
    return cleaned(root, _survey(root), WAVE)


COLUMNS = [
    _cleaning(
        "Columns of the codebook are not in the file",
        "person,area,Years,q1,q2,read\nAnn,Urban,25,40,often,ham\n",
    ),
    _cleaning(
        "A code of one wave stands for no answer",
        WAVE,
        "waves:\n  changes:\n    - {since: 2024-01, questions: {hunger: {codes: {x: 101}}}}",
    ),
    Situation(
        "The file to check has another format",
        (("text", "evsim survey check data/surveys/snacks 2024-01.tsv"),),
        lambda root: look_at(_survey(root), WaveFile("2024-01", _written(root / "2024-01.tsv")), root),
    ),
    Situation(
        "No question was asked in the wave",
        (
            ("yaml", "questions:\n  - id: hunger\n    waves: [2023-*]\n  - id: likes\n    waves: [2023-*]"),
            ("text", "data/surveys/snacks/waves/2024-01.csv"),
        ),
        _of_no_question,
    ),
    Situation(
        "Too many answers of a wave are unusable",
        (("text", "person,area,years,q1,q2,read\np0,Urban,25,lots,often,ham\n…    # in 8 of 40 rows"),),
        _much_unusable,
    ),
    Situation(
        "A demographic of a wave is not what the codebook says",
        (("text", "person,area,years,q1,q2,read\np0,0,25,40,often,ham\n…    # codes in place of labels"),),
        _coded,
    ),
    Situation(
        "The wave's file is gone from the landing folder",
        (("text", "(data/surveys/snacks/waves/2024-01.csv was there, and is not any more)"),),
        lambda root: _landed(_survey(root), "2024-01"),
    ),
    Situation(
        "A wave is in the data, and its file is gone",
        (("text", "(data/surveys/snacks/waves/2024-01.csv was cleaned, and is not there any more)"),),
        _gone,
    ),
    Situation(
        "The clean tables could not be written",
        (("text", "(a folder stands where the new table is to be written)"),),
        _unwritable,
    ),
]

SITUATIONS = [*PLACES, *NAMES, *ADDING, *COLUMNS, *CHANGES]
