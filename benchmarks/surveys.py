"""Time and memory of the survey stages, from a raw wave to prompts, as the wave grows tenfold.

    python benchmarks/surveys.py [--quick]

For each size a fresh project folder gets one SIMULATED wave of EV-shift (up to six answers a
participant) and a study that uses every participant; then `evsim run` makes the raw wave, clean
answers, responses, splits and prompts, as a user would run it. Making the wave is timed apart.

`seconds` is the wall time of the whole command, start included; `stages` are the seconds of each
stage as evsim records them (the first one a process makes includes its imports). `peak_mib` is the
proportional set size (PSS) summed over the command and its worker processes, sampled every 0.15 s,
so that shared pages count once; `largest_mib` is the largest resident set that one of the processes
ever had (ru_maxrss), which no sampling can miss. Parquet files that are mapped count in both.

The peer is the pipeline that one would write in plain pandas, below, without checks, quarantine or
records. Its prompts are compared with evsim's text by text, so both do the same work.

The last line is one JSON object.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
SURVEY, STUDY, WAVE = "ev_shift", "everybody", "2021-11"
SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (1_000, 10_000)
PEER_SIZE = 100_000
"""The peer runs at the largest size that is not larger than this: it holds everything in memory."""
STAGES = ("raw_wave", "clean_wave", "quarantine", "responses", "splits", "prompts")
TABLES = {name: (STUDY if name == "prompts" else SURVEY, name) for name in STAGES[1:]}
COMPARED = [
    "participant",
    "split",
    "question",
    "intervention",
    "answer",
    "answer_digit",
    "system",
    "user",
    "user_digit",
]
"""Columns of `prompts` that the peer makes too."""
SAMPLE_SECONDS = 0.15
MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """Wall seconds of a command; MiB of its process tree at the peak, and of its largest process ever."""

    seconds: float
    peak_mib: float
    largest_mib: float


def measured(command: list[str], folder: Path) -> Measured:
    """Run the command in the project folder. Ends the benchmark with its output if it fails."""
    env = {key: value for key, value in os.environ.items() if key != "EVSIM_LAKE"}
    env |= {
        "EVSIM_PROJECT": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")]),
    }
    output = folder / "output.txt"
    with output.open("w") as said:
        started, peak = time.perf_counter(), 0
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=subprocess.STDOUT)
        # wait4 and not poll: only it tells the largest resident set of this command and its children alone
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = max(peak, tree_bytes(process.pid))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - started
    _, status, usage = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{output.read_text()}")
    return Measured(seconds, peak / MIB, usage.ru_maxrss / 1024)


def tree_bytes(pid: int) -> int:
    """PSS of a process and its descendants."""
    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def evsim(folder: Path, *arguments: str) -> Measured:
    return measured([sys.executable, "-m", "evsim_assets.cli", *arguments], folder)


def make_project(folder: Path, participants: int) -> Measured:
    """A project with one simulated wave of that size; returns what making the wave took."""
    source, survey = ROOT / "data" / "surveys" / SURVEY, folder / "data" / "surveys" / SURVEY
    studies = folder / "data" / "studies"
    survey.mkdir(parents=True)
    studies.mkdir()
    for name in ("survey.yaml", "interventions.csv"):
        shutil.copy(source / name, survey)
    facts = yaml.safe_load((source / "simulation.yaml").read_text(encoding="utf-8"))
    facts["waves"] = {WAVE: {"participants": participants, "one_short": one_short(participants)}}
    write_yaml(survey / "simulation.yaml", facts)
    study = yaml.safe_load((ROOT / "data" / "studies" / "ev_shift.yaml").read_text(encoding="utf-8"))
    del study["sample"]
    write_yaml(studies / f"{STUDY}.yaml", study)
    # no model runs; the study's definitions only want to know the tokenizers
    shutil.copytree(ROOT / "data" / "models", folder / "data" / "models")
    return evsim(folder, "survey", "simulate", SURVEY)


def write_yaml(path: Path, document: Any) -> None:
    path.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), encoding="utf-8")


def one_short(participants: int) -> int:
    """Participants with five answers in place of six, about as many as in the committed waves."""
    return participants // 500


def table_files(folder: Path, name: str) -> list[Path]:
    """The Parquet files of a table in the project's lake."""
    return sorted((folder / ".evsim" / "lake").joinpath(*TABLES[name]).rglob("*.parquet"))


def rows_by_table(folder: Path, participants: int) -> dict[str, int]:
    """Rows of each table. Ends the benchmark if answers were lost on the way."""
    import pyarrow.parquet as pq

    rows = {name: sum(pq.read_metadata(p).num_rows for p in table_files(folder, name)) for name in TABLES}
    answers = 6 * participants - one_short(participants)
    expected = dict.fromkeys(("clean_wave", "responses", "prompts"), answers)
    expected |= {"splits": participants, "quarantine": 0}
    if rows != expected:
        raise SystemExit(f"of {participants} participants came {rows}, expected {expected}")
    return {"raw_wave": participants, **rows}


def stage_seconds(folder: Path) -> dict[str, float]:
    """Stage → seconds, as `evsim run` notes them for its next estimate."""
    noted: dict[str, float] = json.loads((folder / ".evsim" / "seconds.json").read_text())
    # labels are `ev_shift/clean_wave [2021-11]` or `everybody/prompts`
    by_stage = {label.split("/")[1].split()[0]: seconds for label, seconds in noted.items()}
    return {stage: by_stage[stage] for stage in STAGES if stage in by_stage}


def figures_of(folder: Path, participants: int) -> dict[str, Any]:
    """Make the project and run the stages in it."""
    wave = make_project(folder, participants)
    run = evsim(folder, "run", STUDY, "--only", ",".join(STAGES))
    return {
        "participants": participants,
        "seconds": round(run.seconds, 1),
        "peak_mib": round(run.peak_mib),
        "largest_mib": round(run.largest_mib),
        "stages": stage_seconds(folder),
        "rows": rows_by_table(folder, participants),
        "wave": {"seconds": round(wave.seconds, 1), "peak_mib": round(wave.peak_mib)},
    }


def add_ratios(figures: list[dict[str, Any]]) -> None:
    """What a size costs in units of the size before; of the stages alone too, as the start of the
    command costs small sizes as much as large ones and so hides growth."""
    for before, now in pairwise(figures):
        stages = sum(now["stages"].values()) / sum(before["stages"].values())
        now["participants_ratio"] = now["participants"] / before["participants"]
        now["seconds_ratio"] = round(now["seconds"] / before["seconds"], 2)
        now["stages_ratio"] = round(stages, 2)
        now["peak_ratio"] = round(now["peak_mib"] / before["peak_mib"], 2)


def plain_pandas(folder: Path) -> None:
    """The peer: the project's raw wave to clean answers, splits and prompts, in one process."""
    import pandas as pd

    from evsim_assets.specs.seeds import keyed_rank

    survey = folder / "data" / "surveys" / SURVEY
    book = yaml.safe_load((survey / "survey.yaml").read_text(encoding="utf-8"))
    texts = pd.read_csv(survey / "interventions.csv", dtype=str).set_index("intervention_id")["text"]
    raw = pd.read_csv(survey / "waves" / f"{WAVE}.csv", dtype=str, keep_default_na=False)
    raw["participant"] = raw["participant_id"].map(
        lambda person: hashlib.sha256(f"{SURVEY}\0{person}".encode()).hexdigest()[:16]
    )

    posts = [f"post_{i}" for i in range(1, 6)]
    answers = raw.melt(id_vars="participant", value_vars=["initial", *posts], value_name="answer")
    read = raw.melt(id_vars="participant", value_vars=[f"intervention_{i}" for i in range(1, 6)])
    answers["intervention"] = [None] * len(raw) + read["value"].tolist()
    answers["question"] = answers["variable"].map({"initial": "initial"} | dict.fromkeys(posts, "post"))
    answers = answers[answers["answer"] != ""].drop(columns="variable")
    answers["answer"] = answers["answer"].astype(int)
    answers["intervention_text"] = answers["intervention"].map(texts).fillna("")
    answers["order"] = answers.groupby("participant").cumcount()
    columns = [demographic["column"] for demographic in book["demographics"]]
    clean = answers.merge(raw[["participant", *columns]], on="participant")
    clean = clean.sort_values(["participant", "order"], ignore_index=True)
    clean.to_parquet(folder / "peer_responses.parquet", compression="zstd")

    people = raw[["participant", *columns]].copy()
    people["rank"] = people["participant"].map(lambda person: keyed_rank(f"split:{SURVEY}", person))
    bounds = [-1, book["splits"]["train"], 1 - book["splits"]["test"], 1]
    people["split"] = pd.cut(people["rank"], bounds, right=False, labels=["train", "validation", "test"])
    people["split"] = people["split"].astype(str)
    people[["participant", "split", "rank"]].to_parquet(folder / "peer_splits.parquet", compression="zstd")

    names = {d["column"]: d["name"] for d in book["demographics"]}

    def system(person: Any) -> str:
        told = ", ".join(f"{name}: {person[c].replace('; ', ', ')}" for c, name in names.items())
        return str(book["prompts"]["system"].format(demographics="{" + told + "}"))

    def user(text: str, low: int, high: int) -> str:
        return str(book["prompts"]["user"].format(intervention=text, low=low, high=high).strip())

    people["system"] = people.apply(system, axis=1)
    wanted = ["participant", "question", "order", "intervention", "intervention_text", "answer"]
    prompts = clean[wanted].merge(people[["participant", "split", "system"]], on="participant")
    prompts["user"] = prompts["intervention_text"].apply(user, args=(0, 100))
    prompts["user_digit"] = prompts["intervention_text"].apply(user, args=(0, 9))
    prompts["answer_digit"] = (9 * prompts["answer"] / 100 + 0.5).astype(int)
    prompts["prompt_id"] = prompts["participant"] + "-" + prompts["order"].astype(str)
    prompts.drop(columns="intervention_text").to_parquet(folder / "peer_prompts.parquet", compression="zstd")


def against_peer(folder: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """evsim's seconds and memory in units of plain pandas on the same wave.

    Ends the benchmark if the two have made different prompts.
    """
    import duckdb

    peer = measured([sys.executable, str(Path(__file__).resolve()), "--peer", str(folder)], folder)
    equal = " AND ".join(f"ours.{column} IS NOT DISTINCT FROM peer.{column}" for column in COMPARED)
    with duckdb.connect() as connection:
        same = connection.execute(
            "SELECT count(*) FROM read_parquet(?) AS ours JOIN read_parquet(?) AS peer USING (prompt_id)"
            f" WHERE {equal}",
            [[str(path) for path in table_files(folder, "prompts")], str(folder / "peer_prompts.parquet")],
        ).fetchone()
    if same != (figures["rows"]["prompts"],):
        raise SystemExit(f"only {same} of {figures['rows']['prompts']} prompts are those of plain pandas")
    return {
        "name": "plain pandas",
        "participants": figures["participants"],
        "seconds": round(peer.seconds, 1),
        "peak_mib": round(peer.peak_mib),
        "evsim_seconds_over_peer": round(figures["seconds"] / peer.seconds, 2),
        "evsim_stages_over_peer": round(sum(figures["stages"].values()) / peer.seconds, 2),
        "evsim_peak_over_peer": round(figures["peak_mib"] / peer.peak_mib, 2),
        "same_prompts": figures["rows"]["prompts"],
    }


def print_table(figures: list[dict[str, Any]], peer: dict[str, Any]) -> None:
    stages = list(dict.fromkeys(stage for size in figures for stage in size["stages"]))
    heads = ["participants", "answers", "seconds", "peak MiB", "largest MiB", *stages, "(wave: s", "MiB)"]
    lines = [heads]
    for size in figures:
        cells = [size["participants"], size["rows"]["responses"], size["seconds"], size["peak_mib"]]
        cells += [size["largest_mib"], *(size["stages"].get(stage, "") for stage in stages)]
        lines.append([str(cell) for cell in (*cells, size["wave"]["seconds"], size["wave"]["peak_mib"])])
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(
        f"{peer['name']}, {peer['participants']} participants: {peer['seconds']} s, {peer['peak_mib']} MiB;"
        f" evsim takes {peer['evsim_seconds_over_peer']} of its time and {peer['evsim_peak_over_peer']} of"
        " its memory"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1,000 and 10,000 participants")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        plain_pandas(arguments.peer)
        return
    figures: list[dict[str, Any]] = []
    sizes = QUICK_SIZES if arguments.quick else SIZES
    peer_size = max(size for size in sizes if size <= PEER_SIZE)
    peer: dict[str, Any] = {}
    for participants in sizes:
        with tempfile.TemporaryDirectory() as name:
            figures.append(figures_of(Path(name), participants))
            if participants == peer_size:
                peer = against_peer(Path(name), figures[-1])
    add_ratios(figures)
    print_table(figures, peer)
    print(json.dumps({"sizes": figures, "peer": peer, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
