"""The landing folder: raw wave files as they arrive, and the texts they refer to.

Belongs here: finding waves, their columns against the codebook's, the texts of interventions, taking
a new file in. Not here: reading files (`reading.py`), what a cell means (`cleaning.py`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import Interventions, SurveySpec
from evsim_assets.surveys.cell_sql import canonical
from evsim_assets.surveys.reading import table_rows

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


@dataclass(frozen=True)
class Intervention:
    """What participants read: its text ('' for an arm without one), and further cells of its row in
    the table, by the placeholder of prompts that they fill."""

    text: str
    fields: dict[str, str]


def landed_waves(survey: SurveySpec) -> list[WaveFile]:
    """The waves in the landing folder, by name.

    Files being written (`.…`, `….tmp`) are not there yet; `misnamed_files` are left out, so that one
    of them holds no other wave up.
    """
    files = _raw_files(survey)
    problems = _problems(files, survey)
    return [WaveFile(path.stem, path) for path in files if path not in problems]


def misnamed_files(survey: SurveySpec) -> list[str]:
    """A sentence, with a remedy, for each raw file that cannot be taken for its name or its ending."""
    return [str(problem) for problem in _problems(_raw_files(survey), survey).values()]


def _raw_files(survey: SurveySpec) -> list[Path]:
    """Whatever looks like a raw file, its name's case and characters as they may be."""
    forms = [survey.waves, *(change.format for change in survey.waves.changes if change.format)]
    endings = {ending for form in forms for ending in form.endings}
    if ".xlsx" in endings:
        endings.add(".xls")
    return [
        path
        for path in sorted((survey.folder / "waves").glob("*"))
        if path.suffix.lower() in endings and not path.name.startswith(".") and path.is_file()
    ]


def _problems(files: Sequence[Path], survey: SurveySpec) -> dict[Path, BadInput]:
    """Why files are not taken. Two files of one wave are one problem: neither is taken."""
    problems = {path: problem for path in files if (problem := _name_problem(path, survey))}
    fitting = [path for path in files if path not in problems]
    for path in fitting:
        names = [other.name for other in fitting if other.stem == path.stem]
        if len(names) > 1:
            problems[path] = BadInput(
                f"not taken: {' and '.join(names)} would be the same wave",
                file=path,
                remedy="keep one of them, or rename one",
            )
    return problems


def _name_problem(path: Path, survey: SurveySpec) -> BadInput | None:
    """What of the file's own name keeps it from being a wave's."""
    usual = survey.waves.endings[0]
    if WAVE_NAME.fullmatch(path.stem) is None or path.suffix != path.suffix.lower():
        return BadInput(
            "not taken: a wave's file name may hold only lower-case letters, digits, '.', '_' and '-'",
            file=path,
            remedy=f"rename the file, for instance to 2024-01{usual}",
        )
    endings = survey.format_of(path.stem).endings
    if path.suffix in endings:
        return None
    old = "open it in Excel and save it as .xlsx" if path.suffix == ".xls" else "rename the file"
    return BadInput(
        f"not taken: the codebook says that this wave is a file ending in {' or '.join(endings)}",
        file=path,
        remedy=f"{old}, or give the wave its format under waves.changes in survey.yaml",
    )


def require_columns(columns: Sequence[str], survey: SurveySpec, file: str | Path) -> None:
    """Raise BadInput, naming every column that the codebook needs and the file lacks.

    `survey` is the codebook as it holds for the file's wave.
    """
    missing = [column for column in survey.raw_columns if column not in columns]
    if missing:
        near = {column: difflib.get_close_matches(column, columns, n=1) for column in missing}
        meant = ", ".join(f"{found[0]!r} for {column!r}" for column, found in near.items() if found)
        raise BadInput(
            f"{len(missing)} column(s) of the codebook are missing: {', '.join(map(repr, missing))}"
            + (f"; did you mean {meant}?" if meant else ""),
            file=file,
            value=list(columns),
            remedy=f"correct the header, or the column names in {survey.folder / 'survey.yaml'}"
            " (waves.changes for this wave alone)",
        )


def intervention_texts(survey: SurveySpec) -> dict[str, Intervention]:
    """Every intervention by its canonical id (none when the survey has none).

    Raises:
        BadInput: the table is missing or cannot be read, lacks a column, or gives an id twice.
    """
    table = survey.interventions
    if table is None:
        return {}
    if table.file is None:
        listed = [(id, Intervention((text or "").strip(), {})) for id, text in (table.texts or {}).items()]
        return _by_id(listed, survey.folder / "survey.yaml", "interventions.texts")
    path = survey.folder / table.file
    if not path.is_file():
        raise BadInput(
            "the table of intervention texts is not there",
            file=path,
            field="interventions.file",
            remedy=f"put it there; `evsim survey add {survey.name} FILE` takes it along"
            " when it lies beside FILE",
        )
    return _by_id(_listed(path, table), path, table.id)


def _listed(path: Path, table: Interventions) -> list[tuple[str, Intervention]]:
    rows = table_rows(path)
    for column in (table.id, table.text, *table.fields.values()):
        if column not in rows[0]:
            raise BadInput(
                "the table lacks a column",
                file=path,
                line=1,
                value=column,
                remedy="correct the header, or interventions.id, .text and .fields in survey.yaml",
            )
    return [
        (row[table.id], Intervention(row[table.text], {name: row[c] for name, c in table.fields.items()}))
        for row in rows
    ]


def _by_id(listed: Sequence[tuple[str, Intervention]], file: Path, field: str) -> dict[str, Intervention]:
    texts: dict[str, Intervention] = {}
    for id, intervention in listed:
        if (known := canonical_id(id)) in texts:
            raise BadInput(
                "an intervention is there twice",
                file=file,
                field=field,
                value=known,
                remedy="give each intervention its own id",
            )
        texts[known] = intervention
    return texts


def canonical_id(value: str) -> str:
    """An id as text: spreadsheets write the id 78 as 78.0, and it is the same intervention."""
    return canonical(value.strip())


def add_wave(survey: SurveySpec, source: Path, *, replace: bool = False) -> WaveFile:
    """Copy a raw file, whole or not at all, into the landing folder.

    The table of interventions that the codebook names is taken along when it lies beside the file
    and the survey has none yet.

    Raises:
        BadInput: no such file, an impossible name or ending, or other content under a name that is
            taken. With `replace` the file takes the place of the wave that is there.
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
    target = survey.folder / "waves" / f"{wave}{source.suffix.lower()}"
    if problem := _name_problem(target, survey):
        raise BadInput(
            problem.problem.removeprefix("not taken: "),
            file=source,
            value=source.name,
            remedy=problem.remedy,
        )
    added = WaveFile(wave, target)
    others = [path for path in _raw_files(survey) if path.stem == wave and path != target]
    different = others or (target.exists() and WaveFile(wave, source).sha256 != added.sha256)
    if different and not replace:
        raise BadInput(
            "a wave of this name with other content is already there",
            file=others[0] if others else target,
            remedy="rename the file, or pass --replace if it corrects that wave",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    _take_texts_along(survey, source.parent)
    _copy_whole(source, target)
    for path in others:
        path.unlink()
    return added


def _take_texts_along(survey: SurveySpec, beside: Path) -> None:
    if survey.interventions is None or survey.interventions.file is None:
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


def texts_hash(texts: Mapping[str, Intervention]) -> str:
    """A hash of the interventions, for the code version of what is made with them."""
    listed = json.dumps({id: asdict(intervention) for id, intervention in texts.items()}, sort_keys=True)
    return hashlib.sha256(listed.encode()).hexdigest()[:12]


def interventions_version(survey: SurveySpec) -> str:
    """The hash of the survey's interventions; a table that is not there yet is 'absent', not an error."""
    table = survey.interventions
    if table is None or (table.file is not None and not (survey.folder / table.file).is_file()):
        return "absent"
    return texts_hash(intervention_texts(survey))
