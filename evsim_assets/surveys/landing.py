"""The landing place: raw wave files as they arrive, and the texts they refer to.

Belongs here: which files are waves, their columns against the codebook's, the texts of interventions,
taking a new file in. Not here: listing and copying files (`landing_place.py`), reading them
(`reading.py`), what a cell means (`cleaning.py`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import Interventions, SurveySpec
from evsim_assets.surveys.cell_sql import canonical
from evsim_assets.surveys.landing_place import Lying, fetch, lying, named, path_in, sha256_of, store
from evsim_assets.surveys.reading import table_rows

if TYPE_CHECKING:
    from upath import UPath

TEMPORARY = (
    ".tmp",
    ".temp",
    ".part",
    ".partial",
    ".filepart",
    ".crdownload",
    ".download",
    ".upload",
    ".swp",
    "~",
)
"""Endings that programs give a file while they write it; others begin its name with `.` or `~$`."""

SHOWN = 5
"""Names that a sentence about several files gives."""

WAVE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class WaveFile:
    """A raw file in the landing place.

    Attributes:
        wave: its name without the ending.
        path: where it lies, on this machine (a `Path`) or in a store (a `UPath`).
        bytes, stamp, problem: as in `Lying`, where it was listed.
    """

    wave: str
    path: Path | UPath
    bytes: int = 0
    stamp: str = ""
    problem: str | None = None

    @property
    def sha256(self) -> str:
        """The hash of its bytes: the same wave with another hash is another version.

        Raises:
            BadInput: it cannot be read.
            FileNotFoundError: it has gone.
        """
        self._refuse_problem()
        return sha256_of(self.path)

    def fetched(self, into: Path) -> Path:
        """The file on this machine: itself, or a copy in the folder `into`. Raises as `sha256`."""
        self._refuse_problem()
        if isinstance(self.path, Path):
            return self.path
        return self.copied(into)

    def copied(self, into: Path) -> Path:
        """A copy in the folder `into`, under its own name. Raises as `sha256`."""
        self._refuse_problem()
        fetch(self.path, copy := into / self.path.name)
        return copy

    def _refuse_problem(self) -> None:
        if self.problem:
            raise BadInput(
                f"it cannot be read ({self.problem})", file=named(self.path), remedy="put a file in its place"
            )


@dataclass(frozen=True)
class Landing:
    """One look at a landing place.

    Attributes:
        there: whether the place exists.
        waves: by name; those that are no files, such as folders, have a `problem`.
        misnamed: a sentence, with a remedy, for each file that cannot be taken for its name or ending.
        unfinished: names of files that something seems to be writing still.
    """

    there: bool
    waves: list[WaveFile]
    misnamed: list[str]
    unfinished: list[str]


@dataclass(frozen=True)
class Intervention:
    """What participants read: its text ('' for an arm without one), and further cells of its row in
    the table, by the placeholder of prompts that they fill."""

    text: str
    fields: dict[str, str]


def look_around(survey: SurveySpec) -> Landing:
    """What lies in the landing place now. Raises BadInput when it cannot be read."""
    found = lying(survey.landing)
    endings = _endings(survey)
    unfinished = [entry.path.name for entry in found or () if _is_unfinished(entry.path.name, endings)]
    files = _raw_files(found or (), endings)
    problems = _problems([entry.path for entry in files], survey)
    waves = [
        WaveFile(entry.path.stem, entry.path, entry.bytes, entry.stamp, entry.problem)
        for entry in files
        if entry.path not in problems
    ]
    return Landing(found is not None, waves, [str(problem) for problem in problems.values()], unfinished)


def landed_waves(survey: SurveySpec) -> list[WaveFile]:
    """The waves in the landing place, by name.

    Files being written (`.…`, `….part`, `….tmp`) are not there yet; `misnamed_files` are left out, so
    that one of them holds no other wave up.
    """
    return look_around(survey).waves


def misnamed_files(survey: SurveySpec) -> list[str]:
    """A sentence, with a remedy, for each raw file that cannot be taken for its name or its ending."""
    return look_around(survey).misnamed


def unfinished_files(survey: SurveySpec, names: Sequence[str]) -> list[str]:
    """A sentence for the files that are still under a temporary name; none when there is none."""
    if not names:
        return []
    return [
        f"{survey.landing}: not taken while under a temporary name: {shown(names)}"
        "\n  Remedy: none while they are being written; after that give them their own names, or remove them"
    ]


def shown(names: Sequence[str]) -> str:
    """The first names, and how many there are besides."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _endings(survey: SurveySpec) -> set[str]:
    forms = [survey.waves, *(change.format for change in survey.waves.changes if change.format)]
    endings = {ending for form in forms for ending in form.endings}
    return endings | {".xls"} if ".xlsx" in endings else endings


def _is_unfinished(name: str, endings: set[str]) -> bool:
    """Whether the name is a raw file's with something before or behind it, as programs do that write."""
    lower = name.lower()
    raw = any(ending in lower for ending in endings)
    return raw and (name.startswith((".", "~$")) or lower.endswith(TEMPORARY))


def _raw_files(found: Iterable[Lying], endings: set[str]) -> list[Lying]:
    """Whatever looks like a raw file, its name's case and characters as they may be; and what is no file
    but has a wave's name."""
    return [
        entry
        for entry in found
        if entry.path.suffix.lower() in endings
        and not _is_unfinished(entry.path.name, endings)
        and (entry.problem is None or WAVE_NAME.fullmatch(entry.path.stem))
    ]


def _problems(files: Sequence[Path | UPath], survey: SurveySpec) -> dict[Path | UPath, BadInput]:
    """Why files are not taken. Two files of one wave are one problem: neither is taken."""
    problems = {path: problem for path in files if (problem := _name_problem(path, survey))}
    fitting = [path for path in files if path not in problems]
    several = {stem for stem, count in Counter(path.stem for path in fitting).items() if count > 1}
    for path in [path for path in fitting if path.stem in several]:
        names = [other.name for other in fitting if other.stem == path.stem]
        problems[path] = BadInput(
            f"not taken: {' and '.join(names)} would be the same wave",
            file=named(path),
            remedy="keep one of them, or rename one",
        )
    return problems


def _name_problem(path: Path | UPath, survey: SurveySpec) -> BadInput | None:
    """What of the file's own name keeps it from being a wave's."""
    usual = survey.waves.endings[0]
    if WAVE_NAME.fullmatch(path.stem) is None or path.suffix != path.suffix.lower():
        return BadInput(
            "not taken: a wave's file name may hold only lower-case letters, digits, '.', '_' and '-'",
            file=named(path),
            remedy=f"rename the file, for instance to 2024-01{usual}",
        )
    endings = survey.format_of(path.stem).endings
    if path.suffix in endings:
        return None
    old = "open it in Excel and save it as .xlsx" if path.suffix == ".xls" else "rename the file"
    return BadInput(
        f"not taken: the codebook says that this wave is a file ending in {' or '.join(endings)}",
        file=named(path),
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
    target = path_in(survey.landing, f"{wave}{source.suffix.lower()}")
    if problem := _name_problem(target, survey):
        raise BadInput(
            problem.problem.removeprefix("not taken: "),
            file=source,
            value=source.name,
            remedy=problem.remedy,
        )
    there = _raw_files(lying(survey.landing) or (), _endings(survey))
    same = [entry.path for entry in there if entry.path.stem == wave]
    others = [path for path in same if path.name != target.name]
    different = others or (same and sha256_of(source) != sha256_of(target))
    if different and not replace:
        raise BadInput(
            "a wave of this name with other content is already there",
            file=named(others[0] if others else target),
            remedy="rename the file, or pass --replace if it corrects that wave",
        )
    _take_texts_along(survey, source.parent)
    store(source, target)
    for path in others:
        path.unlink()
    return WaveFile(wave, target)


def _take_texts_along(survey: SurveySpec, beside: Path) -> None:
    if survey.interventions is None or survey.interventions.file is None:
        return
    target = survey.folder / survey.interventions.file
    source = beside / survey.interventions.file
    if not target.exists() and source.is_file():
        store(source, target)


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
