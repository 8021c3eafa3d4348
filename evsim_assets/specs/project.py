"""Where a project's files are: its surveys, studies and models, and what is generated from them.

Belongs here: paths, and reading all specs of a project. Not here: what a spec means.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import StudySpec, read_study
from evsim_assets.specs.survey import SurveySpec, read_survey


@dataclass(frozen=True)
class Project:
    """A folder with `data/` (inputs, committed) and `.evsim/` (everything generated)."""

    root: Path

    @property
    def home(self) -> Path:
        """Everything that evsim generates: lake, Dagster instance, reports."""
        return self.root / ".evsim"

    @property
    def dagster_home(self) -> Path:
        """The persistent Dagster instance."""
        return self.home / "dagster"

    @property
    def lake(self) -> str:
        """The root of the stored tables and checkpoints; `EVSIM_LAKE` names another (any fsspec URL)."""
        return os.environ.get("EVSIM_LAKE") or str(self.home / "lake")

    def survey_folder(self, name: str) -> Path:
        """The folder of a survey, whether or not it exists."""
        return self.root / "data" / "surveys" / name

    def survey(self, name: str) -> SurveySpec:
        """The survey's codebook. Raises BadInput when there is none, or a wrong one."""
        folder = self.survey_folder(name)
        if not (folder / "survey.yaml").is_file():
            raise BadInput(
                "no such survey",
                file=folder,
                value=name,
                remedy=f"use one of: {', '.join(self.survey_names) or '(there is none yet)'}",
            )
        return read_survey(folder)

    def study(self, name: str, surveys: dict[str, SurveySpec] | None = None) -> StudySpec:
        """The study's file. Raises BadInput when there is none, or a wrong one.

        Args:
            surveys: those read already, by name; the study's own is added. Many studies share a survey.
        """
        path = self.root / "data" / "studies" / f"{name}.yaml"
        if not path.is_file():
            raise BadInput(
                "no such study",
                file=path,
                value=name,
                remedy=f"use one of: {', '.join(self.study_names) or '(there is none yet)'}",
            )
        study = read_study(path)
        if study.survey not in self.survey_names:
            raise BadInput(
                "the study names a survey that is not there",
                file=path,
                field="survey",
                value=study.survey,
                remedy=f"use one of: {', '.join(self.survey_names)}",
            )
        surveys = {} if surveys is None else surveys
        if study.survey not in surveys:
            surveys[study.survey] = self.survey(study.survey)
        known = surveys[study.survey].prompts.names
        for position, grid in enumerate(study.adapters):
            for nth, template in enumerate(grid.templates):
                if template not in known:
                    raise BadInput(
                        f"survey {study.survey} has no such template",
                        file=path,
                        field=f"adapters.{position}.templates.{nth}",
                        value=template,
                        remedy=f"use one of: {', '.join(known)}, or add it under prompts.templates"
                        " in survey.yaml",
                    )
        return study

    @property
    def survey_names(self) -> tuple[str, ...]:
        """Every folder with a codebook, sorted."""
        return tuple(sorted(p.parent.name for p in self.root.glob("data/surveys/*/survey.yaml")))

    @property
    def study_names(self) -> tuple[str, ...]:
        """Every study file, sorted."""
        return tuple(sorted(p.stem for p in self.root.glob("data/studies/*.yaml")))


def find_project(start: Path | None = None) -> Project:
    """`EVSIM_PROJECT`, or the nearest folder from `start` (here) upwards that holds data/studies.

    Raises:
        BadInput: no such folder.
    """
    named = os.environ.get("EVSIM_PROJECT")
    start = Path(named) if named else (start or Path.cwd())
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "data" / "studies").is_dir():
            return Project(folder)
        if named:
            break
    raise BadInput(
        "no evsim project here: no folder data/studies",
        file=start,
        remedy="change into the project, or set EVSIM_PROJECT to its folder",
    )
