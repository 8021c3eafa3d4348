"""The landing folder: raw wave files as they arrive, and the texts they refer to.

Belongs here: finding waves, reading one as text cells, the table of interventions, taking a new
file in. Not here: what a cell means (`cleaning.py`).
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec, Waves

WAVE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class WaveFile:
    """A raw file in the landing folder; `wave` is its name without the ending."""

    wave: str
    path: Path

    @property
    def sha256(self) -> str:
        """The hash of its bytes: the same wave with another hash is another version."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def stamp(self) -> str:
        """Size and time of change: a file being written looks otherwise a moment later."""
        about = self.path.stat()
        return f"{about.st_size} {about.st_mtime_ns}"


def landed_waves(survey: SurveySpec) -> list[WaveFile]:
    """The waves in the landing folder, by name.

    Files being written (`.…`, `….tmp`) are not there yet; `misnamed_files` are left out, so that one
    of them holds no other wave up.
    """
    return [WaveFile(path.stem, path) for path in _raw_files(survey) if _is_wave(path, survey)]


def misnamed_files(survey: SurveySpec) -> list[str]:
    """A sentence, with a remedy, for each raw file whose name cannot be a wave's."""
    ending = survey.waves.format
    problems = [
        BadInput(
            "not taken: a wave's file name may hold only lower-case letters, digits, '.', '_' and '-'",
            file=path,
            remedy=f"rename the file, for instance to 2024-01.{ending}",
        )
        for path in _raw_files(survey)
        if not _is_wave(path, survey)
    ]
    return [str(problem) for problem in problems]


def _raw_files(survey: SurveySpec) -> list[Path]:
    """Whatever looks like a raw file, its name's case and characters as they may be."""
    ending = f".{survey.waves.format}"
    return [
        path
        for path in sorted((survey.folder / "waves").glob("*"))
        if path.suffix.lower() == ending and not path.name.startswith(".") and path.is_file()
    ]


def _is_wave(path: Path, survey: SurveySpec) -> bool:
    return path.suffix == f".{survey.waves.format}" and WAVE_NAME.fullmatch(path.stem) is not None


def read_raw(content: bytes, waves: Waves, file: str | Path) -> pd.DataFrame:
    """A raw file as a table of text cells, nothing interpreted, nothing dropped.

    Args:
        content: the file's bytes.
        waves: its form.
        file: its name, for errors.

    Raises:
        BadInput: empty, not in the stated encoding, repeated header, or rows of uneven length.
    """
    if not content.strip():
        raise BadInput("the file is empty", file=file, remedy="export it again")
    records = _records(_decoded(content, waves, file), waves.delimiter, file)
    if not records:
        raise BadInput("the file has no header", file=file, remedy="export it again")
    header_line, names = records[0]
    header = [name.strip() for name in names]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise BadInput(
            "a column name is there twice",
            file=file,
            line=header_line,
            value=repeated[0],
            remedy="give each column its own name",
        )
    for line, cells in records[1:]:
        if len(cells) != len(header):
            raise BadInput(
                f"the row has {len(cells)} cells and the header {len(header)}",
                file=file,
                line=line,
                value=cells,
                remedy="complete the row, put quotes around a cell that holds the delimiter,"
                " or check waves.delimiter in survey.yaml",
            )
    if len(records) == 1:
        raise BadInput("the file has a header and no rows", file=file, remedy="export it again")
    return pd.DataFrame([cells for _, cells in records[1:]], columns=pd.Index(header), dtype=str)


def _decoded(content: bytes, waves: Waves, file: str | Path) -> str:
    try:
        text = content.decode(waves.encoding)
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        raise BadInput(
            f"the file is not {waves.encoding}",
            file=file,
            line=content[:start].count(b"\n") + 1,
            value=content[start : start + 4],
            remedy="save it as UTF-8, or, if it is a wave, set waves.encoding in survey.yaml"
            " (Excel often writes cp1252)",
        ) from None
    return text.removeprefix("\ufeff")


def _records(text: str, delimiter: str, file: str | Path) -> list[tuple[int, list[str]]]:
    """Every record that is not a blank line, with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records, line = [], 1
    try:
        for cells in reader:
            if cells:
                records.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(
            f"not a table from here on: {error}",
            file=file,
            line=line,
            remedy="check the quotes of that line: a quote within a cell is written twice",
        ) from None
    return records


def require_columns(raw: pd.DataFrame, survey: SurveySpec, file: str | Path) -> None:
    """Raise BadInput, naming every column that the codebook needs and the file lacks."""
    missing = [column for column in survey.raw_columns if column not in raw.columns]
    if missing:
        raise BadInput(
            f"{len(missing)} column(s) of the codebook are missing: {', '.join(map(repr, missing))}",
            file=file,
            line=1,
            value=list(raw.columns),
            remedy=f"correct the header, or the column names in {survey.folder / 'survey.yaml'}",
        )


def intervention_texts(survey: SurveySpec) -> dict[str, str]:
    """The text of every intervention by its id (empty when the survey has none).

    Raises:
        BadInput: the table is missing, lacks a column, or gives an id twice.
    """
    table = survey.interventions
    if table is None:
        return {}
    path = survey.folder / table.file
    if not path.is_file():
        raise BadInput(
            "the table of intervention texts is not there",
            file=path,
            field="interventions.file",
            remedy=f"put it there; `evsim survey add {survey.name} FILE` takes it along"
            " when it lies beside FILE",
        )
    rows = read_raw(path.read_bytes(), Waves(), path)
    for column in (table.id, table.text):
        if column not in rows.columns:
            raise BadInput(
                "the table lacks a column",
                file=path,
                line=1,
                value=column,
                remedy="correct the header, or interventions.id and .text in survey.yaml",
            )
    ids = rows[table.id].map(canonical_id)
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise BadInput(
            "an intervention is there twice",
            file=path,
            field=table.id,
            value=repeated.iloc[0],
            remedy="give each intervention its own id",
        )
    return dict(zip(ids, rows[table.text].str.strip(), strict=True))


def canonical_id(value: str) -> str:
    """An id as text: spreadsheets write the id 78 as 78.0, and it is the same intervention."""
    text = value.strip()
    return re.sub(r"^(\d+)\.0+$", r"\1", text)


def add_wave(survey: SurveySpec, source: Path, *, replace: bool = False) -> WaveFile:
    """Copy a raw file, whole or not at all, into the landing folder.

    The table of interventions that the codebook names is taken along when it lies beside the file
    and the survey has none yet.

    Raises:
        BadInput: no such file, an impossible name, or other content under a name that is taken.
    """
    if not source.is_file():
        raise BadInput("no such file", file=source, remedy="check the path")
    wave = source.stem.lower()
    if not WAVE_NAME.fullmatch(wave):
        raise BadInput(
            "a wave's file name may hold only letters, digits, '.', '_' and '-'",
            file=source,
            value=source.name,
            remedy="rename the file, for instance to 2024-01.csv",
        )
    target = survey.folder / "waves" / f"{wave}.{survey.waves.format}"
    if target.exists() and target.read_bytes() != source.read_bytes() and not replace:
        raise BadInput(
            "a wave of this name with other content is already there",
            file=target,
            remedy="rename the file, or pass --replace if it corrects that wave",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    _take_texts_along(survey, source.parent)
    _copy_whole(source, target)
    return WaveFile(wave, target)


def _take_texts_along(survey: SurveySpec, beside: Path) -> None:
    if survey.interventions is None:
        return
    target = survey.folder / survey.interventions.file
    source = beside / survey.interventions.file
    if not target.exists() and source.is_file():
        _copy_whole(source, target)


def _copy_whole(source: Path, target: Path) -> None:
    temporary = target.parent / f".{target.name}.tmp"
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BadInput(
            f"the file could not be stored ({error.strerror or error}); what was there is as it was",
            file=target,
            remedy="free space or get write access there, and add the file again",
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def texts_hash(texts: Mapping[str, str]) -> str:
    """A hash of the intervention texts, for the code version of what is made with them."""
    listed = "\0".join(f"{key}\0{text}" for key, text in sorted(texts.items()))
    return hashlib.sha256(listed.encode()).hexdigest()[:12]
