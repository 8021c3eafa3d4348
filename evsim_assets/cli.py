"""The command line: `evsim run`, `plan`, `status`, `prune`, `ui`, `sql`, and `survey …` (`survey_cli.py`).

Belongs here: options, and what is printed. Not here: anything done (each command calls one room).
Heavy imports stay inside the commands, so that `evsim --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evsim_assets.console import console, own_name, short, warn
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project, find_project
from evsim_assets.survey_cli import survey_app

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
app.add_typer(survey_app, name="survey")


@app.command()
def run(
    study: Annotated[
        str | None, typer.Argument(help="A study of data/studies; the first by name if left out.")
    ] = None,
    only: Annotated[str, typer.Option(help="Run only these assets: names, separated by commas.")] = "",
    partition: Annotated[str | None, typer.Option(help="Run only this partition, such as s~qlora.")] = None,
    again: Annotated[bool, typer.Option(help="Run even what is up to date.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes at once.")] = None,
    full_baselines: Annotated[
        bool, typer.Option(help="First set the study's baselines to their whole grids (Tables 9 and 10).")
    ] = False,
) -> None:
    """Ask Dagster what is missing or out of date, and run that and nothing else."""
    from evsim_assets.running.display import Display
    from evsim_assets.running.session import only_one_run, open_session

    project = find_project()
    name = study or _first_study(project)
    with only_one_run(project):
        if full_baselines:
            _set_full_baselines(project, name)
        session = open_session(project, name)
        warn(session.warnings)
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


def _set_full_baselines(project: Project, study: str) -> None:
    """Write it into the study's file, where Dagster's UI and later runs see it too."""
    from evsim_assets.durable import write_durably
    from evsim_assets.specs.baselines import GRIDS
    from evsim_assets.specs.yaml_file import with_field

    baselines = project.study(study).baselines
    if baselines == baselines.full():
        return
    file = project.root / "data" / "studies" / f"{study}.yaml"
    whole = with_field(file.read_text(encoding="utf-8"), "baselines", dict.fromkeys(GRIDS, "full"))
    write_durably(file, whole.encode())
    console.print(f"{short(file)}: baselines are now {', '.join(f'{name}: full' for name in GRIDS)}")


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
        warn(session.warnings)
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
def plan(
    study: Annotated[
        str | None, typer.Argument(help="A study of data/studies; the first by name if left out.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.1, help="GB to judge by, in place of what is free here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")] = False,
) -> None:
    """What would run now, which change it follows from, in what order, and what it would take. Runs nothing;
    exits 1 where an adapter cannot fit."""
    from evsim_assets.planning.command import plan as show_plan_of

    project = find_project()
    at_hand = round(memory * 1e9) if memory is not None else None
    if not show_plan_of(project, study or _first_study(project), at_hand, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    keep: Annotated[
        int, typer.Option(min=0, help="Superseded versions that stay, of each partition the newest.")
    ] = 1,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, help="Days: what is younger stays (work that was given up: 30, if left out)."),
    ] = None,
    even_needed: Annotated[
        bool, typer.Option("--even-needed", help="Even versions that stored tables were made from.")
    ] = False,
    history: Annotated[
        float | None,
        typer.Option(min=0, help="Days: also Dagster's compute logs and failed runs that are older."),
    ] = None,
) -> None:
    """Remove superseded versions of checkpoints and reports, and what killed processes left."""
    from evsim_assets.prune_command import prune as prune_project
    from evsim_assets.running.pruning import Limits

    limits = Limits(keep, older_than, even_needed, history)
    prune_project(find_project(), limits, dry_run=dry_run)


@app.command()
def ui(port: Annotated[int, typer.Option(help="The webserver's port.")] = 3000) -> None:
    """Start Dagster's webserver and daemon on the project's instance; stop with Ctrl-C."""
    from evsim_assets.running.session import open_instance

    project = find_project()
    open_instance(project).dispose()
    os.chdir(project.root)
    workspace = project.root / "workspace.yaml"
    where = ["-w", str(workspace)] if workspace.exists() else ["-m", "evsim_assets.code_location"]
    console.print(f"http://localhost:{port}  (instance: {short(project.dagster_home)})", highlight=False)
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
        lake.read_table([study, "chosen_temperatures"]),
        study=study,
        survey=spec.survey,
        simulated=project.survey(spec.survey).simulated,
        report=short(shown),
        evsim=own_name(),
    )


def _as_rich(result: pd.DataFrame) -> Table:
    table = Table(*map(str, result.columns), box=None)
    for row in result.itertuples(index=False):
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else escape(str(v)) for v in row))
    return table


if __name__ == "__main__":
    main()
