"""The command line of surveys: `evsim survey new`, `check`, `add`, `schema`, `simulate`.

Belongs here: options, and the order of things. Not here: what is printed (`survey_display.py`), anything
done. Heavy imports stay inside the commands, so that `evsim --help` answers at once.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evsim_assets.console import console, own_name, short, warn
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import find_project
from evsim_assets.specs.survey import SurveySpec, json_schema, read_survey

if TYPE_CHECKING:
    from evsim_assets.prompts.preview import PreviewedPrompt
    from evsim_assets.surveys.landing import WaveFile
    from evsim_assets.surveys.look import Look

survey_app = typer.Typer(help="Codebooks and raw waves.", no_args_is_help=True)

SCHEMA = Path("docs") / "survey.schema.json"
"""Where a project keeps the JSON Schema of its codebooks."""


@survey_app.command("new")
def survey_new(
    file: Annotated[Path, typer.Argument(help="A raw file: .csv, .tsv, .xlsx, .parquet or .sav.")],
    name: Annotated[str, typer.Option(help="The survey's name: lower-case letters, digits, underscores.")],
    delimiter: Annotated[str | None, typer.Option(help="Between cells, where the guess is wrong.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a text file, where the guess is wrong.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Of an Excel file: its name, or number from 1.")] = None,
) -> None:
    """Look at a raw file and draft its codebook, data/surveys/NAME/survey.yaml, for you to correct."""
    from evsim_assets.drafting.draft import drafted, put_in_place, require_free
    from evsim_assets.drafting.guess import guess_form
    from evsim_assets.survey_display import show_draft

    project = find_project()
    folder = project.survey_folder(name)
    require_free(folder)
    form = guess_form(
        file,
        delimiter="\t" if delimiter == "\\t" else delimiter,
        encoding=encoding,
        sheet=int(sheet) if sheet and sheet.isdigit() else sheet,
    )
    schema = project.root / SCHEMA
    draft = drafted(name, file, form, os.path.relpath(schema, folder))
    spec = put_in_place(draft, folder)
    if not schema.exists():
        _write_schema(schema)
    here = short(folder)
    show_draft(
        draft, spec, here / "survey.yaml", f"{own_name()} survey check {here} {shlex.quote(str(file))}"
    )


@survey_app.command("check")
def survey_check(
    path: Annotated[Path, typer.Argument(help="A survey's folder, its survey.yaml, or a raw file of it.")],
    file: Annotated[Path | None, typer.Argument(help="A raw file to try, before it is added.")] = None,
    survey: Annotated[str | None, typer.Option(help="The survey a raw file belongs to.")] = None,
    few: Annotated[bool, typer.Option("--few", help="Of a question table, only the first prompts.")] = False,
) -> None:
    """Validate a codebook and its waves, and show what would be used and what not. Changes nothing."""
    from evsim_assets.survey_display import (
        question_tables,
        say,
        show_idle,
        show_prompts,
        show_survey,
        shown_prompts,
    )
    from evsim_assets.surveys.idle import idle_patterns
    from evsim_assets.surveys.landing import landed_waves, misnamed_files
    from evsim_assets.surveys.look import look_at, with_texts_beside

    spec, raw = _meant(path, file, survey)
    show_survey(spec)
    landed = landed_waves(spec)
    waves = [_as_wave(raw)] if raw else landed
    if waves:
        show_idle(idle_patterns(spec, {wave.wave for wave in (*landed, *waves)}))
    else:
        say(f"  no wave yet: {own_name()} survey add {spec.name} FILE")
    if not raw:
        warn(misnamed_files(spec))
    usable = True
    tables = question_tables(spec)
    chosen, more = shown_prompts(spec, tables, few)
    prompts: dict[str, PreviewedPrompt] = {}
    for wave in waves:
        with tempfile.TemporaryDirectory(prefix="survey-check-") as scratch:
            try:
                seen = with_texts_beside(spec, raw, Path(scratch)) if raw else spec
                look = look_at(seen, wave, Path(scratch))
                _show(look, tables)
                usable = usable and not look.unusable
                prompts |= _previewed(seen, look.cleaned.answers, set(chosen) - set(prompts), Path(scratch))
            except BadInput as problem:
                if raw:
                    raise
                usable = False
                console.print(f"\n[red]wave {wave.wave}:[/]", highlight=False)
                say(f"  {problem}")
    show_prompts(spec, [prompts[id] for id in chosen if id in prompts], more)
    if not usable:
        raise typer.Exit(1)


@survey_app.command("add")
def survey_add(
    survey: Annotated[str, typer.Argument(help="The survey's name.")],
    file: Annotated[Path, typer.Argument(help="The raw file; its name becomes the wave's.")],
    replace: Annotated[bool, typer.Option(help="Correct a wave of that name that is there already.")] = False,
) -> None:
    """Put a raw file into the survey's landing folder, after a look at what is in it."""
    from evsim_assets.survey_display import question_tables, say
    from evsim_assets.surveys.landing import add_wave
    from evsim_assets.surveys.landing_place import named
    from evsim_assets.surveys.look import look_at, with_texts_beside

    spec = find_project().survey(survey)
    raw = _as_wave(file)
    with tempfile.TemporaryDirectory(prefix="survey-add-") as scratch:
        look = look_at(with_texts_beside(spec, file, Path(scratch)), raw, Path(scratch))
        wave = add_wave(spec, file, replace=replace)
        _show(look, question_tables(spec))
    say(f"added: wave {wave.wave}, {short(named(wave.path))}")
    say("next: evsim run STUDY (a running `make ui` picks the wave up by itself)")


@survey_app.command("schema")
def survey_schema(
    write: Annotated[bool, typer.Option("--write", help="Store it as docs/survey.schema.json.")] = False,
) -> None:
    """Print the JSON Schema of survey.yaml, by which editors check a codebook and complete its fields."""
    if not write:
        print(_schema_text(), end="")
        return
    path = find_project().root / SCHEMA
    _write_schema(path)
    console.print(f"wrote {short(path)}", highlight=False, soft_wrap=True)


@survey_app.command("simulate")
def survey_simulate(survey: Annotated[str, typer.Argument(help="A survey with a simulation.yaml.")]) -> None:
    """Write the simulated waves of a survey anew (same seed, same bytes)."""
    from evsim_assets.specs.simulation import read_simulation
    from evsim_assets.surveys.simulated import simulate, write_waves

    spec = find_project().survey(survey)
    for path in write_waves(spec, simulate(spec, read_simulation(spec))):
        console.print(f"simulated: {path}")


def _meant(path: Path, file: Path | None, survey: str | None) -> tuple[SurveySpec, Path | None]:
    """The survey, and the raw file to try instead of its waves, if there is one."""
    for given in (path, *([file] if file else [])):
        if not given.exists():
            raise BadInput("no such file or folder", file=given, remedy="check the path")
    if path.is_file() and path.name != "survey.yaml":
        if file is not None:
            raise BadInput(
                "two raw files, and no survey",
                file=path,
                remedy="give the survey's folder first, then one raw file",
            )
        # A landed wave lies in its survey's folder; what waits elsewhere names its survey.
        return find_project().survey(survey or path.resolve().parent.parent.name), path
    if survey is not None:
        raise BadInput(
            "--survey goes with a raw file alone", field="--survey", value=survey, remedy="leave it out"
        )
    return read_survey((path.parent if path.is_file() else path).resolve()), file


def _as_wave(file: Path) -> WaveFile:
    from evsim_assets.surveys.landing import WaveFile

    if not file.is_file():
        raise BadInput("no such file", file=file, remedy="check the path")
    return WaveFile(file.stem.lower(), file)


def _show(look: Look, tables: Mapping[str, Sequence[str]]) -> None:
    from evsim_assets.survey_display import show_look, show_refusals

    show_look(look, tables)
    if look.unusable:
        from evsim_assets.surveys.cleaning import QUARANTINE_LIMIT

        show_refusals(look, QUARANTINE_LIMIT)


def _previewed(
    spec: SurveySpec, answers: Path, questions: Collection[str], scratch: Path
) -> dict[str, PreviewedPrompt]:
    from evsim_assets.prompts.preview import preview_prompts

    return {prompt.question: prompt for prompt in preview_prompts(answers, spec, questions, scratch)}


def _schema_text() -> str:
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _write_schema(path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(_schema_text(), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise BadInput(
            f"the schema could not be stored ({error.strerror or error})",
            file=path,
            remedy="free space or get write access there",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
