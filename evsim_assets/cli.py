"""The command line: `evsim run`, `status`, `sql`, `survey …`.

Belongs here: options, and what is printed. Not here: anything done (each command calls one room).
Heavy imports stay inside the commands, so that `evsim --help` answers at once.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project, find_project

if TYPE_CHECKING:
    import pandas as pd

    from evsim_assets.running.scheduler import Progress
    from evsim_assets.specs.study import StudySpec

app = typer.Typer(
    help="Language models as stand-ins for surveyed populations, and how far to trust them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
survey_app = typer.Typer(help="Codebooks and raw waves.", no_args_is_help=True)
app.add_typer(survey_app, name="survey")
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 110)


@app.command()
def run(
    study: Annotated[
        str | None, typer.Argument(help="A study of data/studies; the first by name if left out.")
    ] = None,
    only: Annotated[str, typer.Option(help="Run only these assets: names, separated by commas.")] = "",
    partition: Annotated[str | None, typer.Option(help="Run only this partition, such as s~qlora.")] = None,
    again: Annotated[bool, typer.Option(help="Run even what is up to date.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes at once.")] = None,
) -> None:
    """Ask Dagster what is missing or out of date, and run that and nothing else."""
    from evsim_assets.running.display import Display
    from evsim_assets.running.session import only_one_run, open_session

    project = find_project()
    name = study or _first_study(project)
    with only_one_run(project):
        session = open_session(project, name)
        _warn(session.warnings)
        chosen = None
        if only or partition or again:
            chosen = session.nodes_named(
                [part.strip() for part in only.split(",") if part.strip()], partition
            )
        display = Display(console, name, session.expected_seconds, session.processes(workers))
        with display.showing() as look:
            progress = session.run(look, only=chosen, again=again, workers=workers)
    _say_what_was_done(progress, chosen is not None)
    if progress.failed or progress.skipped:
        raise typer.Exit(1)
    if not only and partition is None:
        _show_results(project, name)


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(help="A study of data/studies; all, if left out.")] = None,
) -> None:
    """Which assets are fresh, out of date or missing. Looks at the inputs, and runs nothing."""
    from evsim_assets.running.session import open_session

    project = find_project()
    for name in [study] if study else project.study_names:
        console.print(f"[bold]{name}[/]", highlight=False)
        try:
            session = open_session(project, name)
        except BadInput as problem:
            console.print(f"  {escape(str(problem))}", soft_wrap=True, highlight=False)
            continue
        _warn(session.warnings)
        by_asset: dict[str, Counter[str]] = {}
        examples: dict[str, str] = {}
        for node in session.graph.nodes:
            reason = session.staleness.reason(node)
            state = "fresh" if reason is None else "missing" if reason == "missing" else "stale"
            by_asset.setdefault(node.name, Counter())[state] += 1
            if reason:
                examples.setdefault(node.name, f"{node.partition}: {reason}" if node.partition else reason)
        console.print(_status_table(by_asset, examples))


@app.command()
def ui(port: Annotated[int, typer.Option(help="The webserver's port.")] = 3000) -> None:
    """Start Dagster's webserver and daemon on the project's instance; stop with Ctrl-C."""
    from evsim_assets.running.session import open_instance

    project = find_project()
    open_instance(project).dispose()
    os.chdir(project.root)
    workspace = project.root / "workspace.yaml"
    where = ["-w", str(workspace)] if workspace.exists() else ["-m", "evsim_assets.code_location"]
    console.print(f"http://localhost:{port}  (instance: {_short(project.dagster_home)})", highlight=False)
    arguments = ["dev", *where, "-p", str(port), "--log-level", "warning"]
    os.execv(sys.executable, [sys.executable, "-m", "dagster", *arguments])


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help='For instance: "SELECT * FROM ev_shift.scoreboard"')],
) -> None:
    """Query the stored tables, read-only: <study>.metrics, <survey>.responses and so on."""
    from evsim_resources.lake import Lake
    from evsim_resources.warehouse import Warehouse, current

    project = find_project()
    warehouse = Warehouse(lake=Lake(root=project.lake))
    offered = current(warehouse.tables(), project.survey_names, _readable_studies(project))
    result = warehouse.query(query, keep=offered)
    if console.is_terminal:
        console.print(_as_rich(result))
    else:
        print(result.to_csv(index=False), end="")


@survey_app.command("check")
def survey_check(
    path: Annotated[Path, typer.Argument(help="A survey's folder, its survey.yaml, or a raw file of it.")],
    survey: Annotated[str | None, typer.Option(help="The survey a raw file belongs to.")] = None,
) -> None:
    """Validate a codebook and its waves, and show what would be used and what not. Changes nothing."""
    from evsim_assets.specs.survey import read_survey
    from evsim_assets.surveys.landing import WaveFile, landed_waves, misnamed_files

    if path.is_file() and path.name != "survey.yaml":
        spec = find_project().survey(survey or path.resolve().parent.parent.name)
        waves = [WaveFile(path.stem, path)]
    else:
        spec = read_survey((path.parent if path.is_file() else path).resolve())
        waves = landed_waves(spec)
    console.print(
        f"{spec.name}: {escape(spec.title)}" + ("  [yellow](simulated)[/]" if spec.simulated else "")
    )
    console.print(
        f"  {len(spec.demographics)} demographics, {len(spec.questions)} questions; codebook is valid"
    )
    if not waves:
        console.print("  no wave yet: evsim survey add", spec.name, "FILE")
    _warn(misnamed_files(spec))
    unusable = [_check_wave(spec, wave) for wave in waves]
    if any(unusable):
        raise typer.Exit(1)


@survey_app.command("add")
def survey_add(
    survey: Annotated[str, typer.Argument(help="The survey's name.")],
    file: Annotated[Path, typer.Argument(help="The raw file; its name becomes the wave's.")],
    replace: Annotated[bool, typer.Option(help="Correct a wave of that name that is there already.")] = False,
) -> None:
    """Put a raw file into the survey's landing folder, after a look at what is in it."""
    from evsim_assets.surveys.landing import add_wave, read_raw, require_columns

    spec = find_project().survey(survey)
    if not file.is_file():
        raise BadInput("no such file", file=file, remedy="check the path")
    require_columns(read_raw(file.read_bytes(), spec.waves, file), spec, file)
    wave = add_wave(spec, file, replace=replace)
    console.print(f"wave {wave.wave}: {wave.path}")
    _check_wave(spec, wave)
    console.print("next: evsim run STUDY (a running `make ui` picks the wave up by itself)")


@survey_app.command("simulate")
def survey_simulate(survey: Annotated[str, typer.Argument(help="A survey with a simulation.yaml.")]) -> None:
    """Write the simulated waves of a survey anew (same seed, same bytes)."""
    from evsim_assets.specs.simulation import read_simulation
    from evsim_assets.surveys.simulated import simulate, write_waves

    spec = find_project().survey(survey)
    for path in write_waves(spec, simulate(spec, read_simulation(spec))):
        console.print(f"simulated: {path}")


def main() -> None:
    """The `evsim` command. A BadInput is printed as it is; anything else is a bug and shows its trace."""
    warnings.filterwarnings("ignore", module="dagster")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except BadInput as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; what was finished is kept, run again to go on")
        sys.exit(130)


def _warn(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        console.print(f"[yellow]warning:[/] {escape(sentence)}", highlight=False, soft_wrap=True)


def _first_study(project: Project) -> str:
    if not project.study_names:
        raise BadInput("there is no study", file=project.root / "data" / "studies", remedy="add a YAML file")
    return project.study_names[0]


def _readable_studies(project: Project) -> list[StudySpec]:
    """The studies that can be read; of the others it is said that their tables are left out."""
    studies = []
    for name in project.study_names:
        try:
            studies.append(project.study(name))
        except BadInput as problem:
            said = f"the tables of {name} are left out: {problem}"
            Console(stderr=True).print(escape(said), soft_wrap=True, highlight=False)
    return studies


def _status_table(by_asset: Mapping[str, Counter[str]], examples: Mapping[str, str]) -> Table:
    """One row an asset; only the last column is folded where the terminal is narrow."""
    table = Table("", "fresh", "out of date", "missing", "for example", box=None, pad_edge=False)
    for column in table.columns[:-1]:
        column.no_wrap, column.justify = True, "right"
    table.columns[0].justify, table.columns[0].min_width = "left", 22
    table.columns[-1].overflow = "fold"
    for asset, counts in by_asset.items():
        shown = [str(counts[state] or "") for state in ("fresh", "stale", "missing")]
        table.add_row(f"  {asset}", *shown, escape(examples.get(asset, "")))
    return table


def _check_wave(spec: Any, wave: Any) -> int:
    """Print what cleaning the wave gives; returns how many cells or rows are unusable."""
    from evsim_assets.surveys.cleaning import clean_wave
    from evsim_assets.surveys.landing import intervention_texts, read_raw

    raw = read_raw(wave.path.read_bytes(), spec.waves, wave.path)
    cleaned = clean_wave(raw, spec, wave.wave, intervention_texts(spec), wave.path)
    counts = cleaned.counts
    console.print(
        f"  wave {wave.wave}: {len(raw)} rows, {cleaned.answers['participant'].nunique()} participants;"
        f" {counts['cells']} answer cells = {counts['used']} used + {counts['missing']} missing"
        f" + {counts['quarantined']} quarantined"
    )
    for question, answers in cleaned.answers.groupby("question", sort=False)["answer"]:
        console.print(f"    {question}: {len(answers)} answers, mean {answers.mean():.1f}, {_bars(answers)}")
    shown = cleaned.quarantine.groupby(["column", "reason", "remedy"], sort=False)
    for place, rows in shown:
        column, reason, remedy = map(str, place)
        first = rows.iloc[0]
        console.print(
            f"  [yellow]quarantine:[/] {escape(str(wave.path))}: row {first['row']}, {escape(column)}:"
            f" {escape(reason)} (got {escape(repr(first['value']))}; {len(rows)} in all)\n"
            f"    Remedy: {escape(remedy)}",
            soft_wrap=True,
            highlight=False,
        )
    return len(cleaned.quarantine)


def _bars(answers: pd.Series[Any]) -> str:
    """A histogram in eleven characters, from the lowest answer to the highest."""
    import numpy as np

    counts, _ = np.histogram(answers, bins=11)
    return "".join(" ▁▂▃▄▅▆▇█"[round(8 * count / max(counts.max(), 1))] for count in counts)


def _say_what_was_done(progress: Progress, of_some: bool) -> None:
    """What was made, failed and was not run; `of_some`: not all of the study was asked for."""
    made: Counter[str] = Counter(o.node.name for o in progress.done if not o.error)
    if not progress.done and not progress.skipped:
        which = "What was asked for is" if of_some else "Everything is"
        count = "" if of_some else f" ({progress.fresh} partitions)"
        console.print(f"{which} up to date{count}; nothing to run.", highlight=False)
        return
    counted = f" ({', '.join(f'{name} {count}' for name, count in made.items())})" if made else ""
    console.print(
        f"Made {sum(made.values())} partitions{counted}; {progress.fresh} were up to date.",
        soft_wrap=True,
        highlight=False,
    )
    for outcome in progress.failed:
        console.print(
            f"[red]failed:[/] {escape(outcome.node.label)}\n  {escape(outcome.error or '')}",
            soft_wrap=True,
            highlight=False,
        )
        if outcome.detail:
            console.print(escape(outcome.detail), style="dim", soft_wrap=True, highlight=False)
    for node, reason in list(progress.skipped.items())[:10]:
        console.print(
            f"[yellow]not run:[/] {escape(node.label)}: {escape(reason)}", soft_wrap=True, highlight=False
        )
    if len(progress.skipped) > 10:
        console.print(f"[yellow]not run:[/] and {len(progress.skipped) - 10} more")


def _show_results(project: Project, study: str) -> None:
    """The table of results, where the plot is, and what to try next."""
    from evsim_assets.reports.assets import report_store
    from evsim_assets.reports.summary import keep_copy, print_summary
    from evsim_resources.lake import Lake

    lake = Lake(root=project.lake)
    spec = project.study(study)
    version = report_store(lake, study).resolve().folder
    shown = keep_copy(version, project.home / "reports" / study)
    print_summary(
        console,
        lake.read_table([study, "scoreboard"]),
        study=study,
        survey=spec.survey,
        simulated=project.survey(spec.survey).simulated,
        report=_short(shown),
        evsim=_own_name(),
    )


def _own_name() -> str:
    """How this command can be typed from here: `evsim`, or `.venv/bin/evsim`."""
    called = Path(sys.argv[0])
    if called.name != "evsim":
        return f"{Path(sys.executable).name} -m evsim_assets.cli"
    return "evsim" if shutil.which("evsim") else str(_short(called.absolute()))


def _short(path: Path) -> Path:
    """The path from here, where it is below here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _as_rich(result: pd.DataFrame) -> Table:
    table = Table(*map(str, result.columns), box=None)
    for row in result.itertuples(index=False):
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else escape(str(v)) for v in row))
    return table


if __name__ == "__main__":
    main()
