"""`evsim survey …` as a person types it: from a raw file to a survey, without a traceback."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.chain.command_line import evsim_ended
from tests.conftest import ROOT


def evsim(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit status of `evsim survey …` and what it printed; a traceback is never what a person reads."""
    result = evsim_ended(folder, "survey", *arguments)
    assert "Traceback" not in result.stderr, result.stderr
    return result.returncode, result.stdout + result.stderr


def landing(project: Path) -> Path:
    return project / "data" / "surveys" / "ev_shift" / "waves"


def changed_wave(project: Path, into: Path, changes: dict[tuple[int, str], str]) -> Path:
    """The first wave with other cells: (data row from 1, column) → value."""
    with (landing(project) / "2022-02.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for (row, column), value in changes.items():
        rows[row - 1][column] = value
    with into.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return into


def snapshot(project: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted((project / "data" / "surveys").rglob("*")) if p.is_file()}


def test_a_new_survey_is_drafted_checked_and_added(project_folder: Path, tmp_path: Path) -> None:
    raw = tmp_path / "2024-01.csv"
    shutil.copy(landing(project_folder) / "2022-02.csv", raw)
    code, said = evsim(project_folder, "new", str(raw), "--name", "fresh")
    assert code == 0, said
    assert "14 demographics, 2 questions; 1 of the file's columns not used" in said
    assert "marked CHECK" in said and f"survey check data/surveys/fresh {raw}" in said
    stored = (project_folder / "data" / "surveys" / "fresh" / "survey.yaml").read_text(encoding="utf-8")
    schema = stored.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    found = project_folder / "data" / "surveys" / "fresh" / schema
    assert json.loads(found.read_text())["title"] == "evsim survey.yaml"
    before = snapshot(project_folder)
    code, said = evsim(project_folder, "check", "data/surveys/fresh", str(raw))
    assert code == 0 and "1,945 rows" in said and "+ 0 quarantined" in said
    assert snapshot(project_folder) == before
    code, said = evsim(project_folder, "add", "fresh", str(raw))
    assert code == 0 and "added: wave 2024-01" in said
    assert (project_folder / "data/surveys/fresh/waves/2024-01.csv").read_bytes() == raw.read_bytes()


def test_the_histogram_counts_what_is_in_the_file(project_folder: Path) -> None:
    with (landing(project_folder) / "2022-02.csv").open(encoding="utf-8", newline="") as file:
        answers = [int(row["initial"]) for row in csv.DictReader(file)]
    # 101 answers in 11 parts: part k begins at 101·k // 11.
    edges = [101 * k // 11 for k in range(12)]
    counts = Counter(next(k for k in range(11) if edges[k] <= a < edges[k + 1]) for a in answers)
    code, said = evsim(project_folder, "check", str(landing(project_folder) / "2022-02.csv"))
    assert code == 0
    mean = sum(answers) / len(answers)
    lines = said.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("  initial (0–100)"))
    assert lines[start] == f"  initial (0–100): {len(answers):,} answers, mean {mean:.2f}"
    for k, line in enumerate(lines[start + 1 : start + 12]):
        span, count = line.split()[:2]
        assert (span, count) == (f"{edges[k]}–{edges[k + 1] - 1}", f"{counts[k]:,}")
    assert max(map(len, lines)) <= 110


def test_unusable_values_are_grouped_with_counts_first_row_and_remedy(
    project_folder: Path, tmp_path: Path
) -> None:
    changes = {(3, "initial"): "130", (9, "initial"): "130", (5, "initial"): "high", (7, "age"): "12"}
    file = changed_wave(project_folder, tmp_path / "2023-01.csv", changes)
    code, said = evsim(project_folder, "check", "data/surveys/ev_shift", str(file))
    assert code == 1
    assert "+ 3 quarantined" in said
    assert "initial: off the scale 0–100: 2 in all" in said
    assert "'130' (2 times, first in row 3, line 4)" in said
    assert "'high' (row 5, line 6)" in said and "'12' (row 7, line 8)" in said
    assert said.count("Remedy:") == 3


def test_a_wave_that_a_run_would_refuse_is_said_to_be_one(project_folder: Path, tmp_path: Path) -> None:
    def said_of(rows: int) -> str:
        changes = {(row, "initial"): "130" for row in range(1, rows + 1)}
        file = changed_wave(project_folder, tmp_path / "2023-01.csv", changes)
        return evsim(project_folder, "check", "data/surveys/ev_shift", str(file))[1]

    cells = 1945 * 6  # one answer before and five after interventions
    most = cells // 20
    assert f"{cells:,} answer cells" in (few := said_of(most)) and "a run will refuse" not in few
    assert (
        f"a run will refuse this wave: {most + 1} of {cells:,} answer cells are in quarantine, more than 5%"
        in said_of(most + 1)
    )


def test_a_demographic_for_which_a_run_would_refuse_the_wave_is_named(
    project_folder: Path, tmp_path: Path
) -> None:
    changes = {(row, "age"): "12" for row in range(1, 99)}  # 98 of 1,945 are 5.04 %
    file = changed_wave(project_folder, tmp_path / "2023-01.csv", changes)
    _, said = evsim(project_folder, "check", "data/surveys/ev_shift", str(file))
    assert "a run will refuse this wave: 98 of 1,945 cells of 'age' are in quarantine" in said


def test_a_pattern_of_no_wave_is_mentioned_and_is_no_failure(project_folder: Path, tmp_path: Path) -> None:
    codebook = project_folder / "data" / "surveys" / "ev_shift" / "survey.yaml"
    text = codebook.read_text(encoding="utf-8")
    assert text.count("\nwaves:\n") == 1
    changes = "  changes: [{waves: [2022-*, 2032-*], missing: ['']}, {since: 2033-01}]"
    codebook.write_text(text.replace("\nwaves:\n", f"\nwaves:\n{changes}\n"), encoding="utf-8")
    code, said = evsim(project_folder, "check", "data/surveys/ev_shift")
    assert code == 0
    assert "note: waves.changes.0.waves: '2032-*': no wave is called so" in said
    assert "note: waves.changes.1.since: '2033-01': no wave is so late" in said
    assert said.count("note: ") == 2
    to_come = tmp_path / "2033-01.csv"
    shutil.copy(landing(project_folder) / "2022-02.csv", to_come)
    code, said = evsim(project_folder, "check", "data/surveys/ev_shift", str(to_come))
    assert (code, said.count("note: ")) == (0, 1)


def test_the_prompts_are_those_that_a_model_reads_with_the_humans_answer(project_folder: Path) -> None:
    code, said = evsim(project_folder, "check", "data/surveys/ev_shift")
    assert code == 0
    flat = " ".join(said.replace("│", " ").split())
    assert "system I want you to act as the following character." in flat
    assert "On a scale from 0 to 100, what is your current preference for battery electric vehicles" in flat
    assert "{intervention}" not in said and "post, after intervention" in said


def test_a_prompt_of_every_question_is_shown_or_of_a_question_table_few_where_few_are_asked_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "data" / "studies").mkdir(parents=True)
    foods = ["bread", "rice", "pasta", "soup", "cake"]
    raw = tmp_path / "foods.csv"
    lines = [",".join(["id", "sex", *(f"I like {food}" for food in foods)])]
    lines += [f"p{n},{'FM'[n % 2]}," + ",".join(str((n + k) % 5 + 1) for k in range(5)) for n in range(50)]
    raw.write_text("\n".join(lines))
    code, said = evsim(tmp_path, "new", str(raw), "--name", "foods")
    assert code == 0, said
    code, said = evsim(tmp_path, "check", "data/surveys/foods", str(raw), "--few")
    assert (code, said.count("user │"), "and 2 more of this kind" in said) == (0, 3, True)
    assert "5 questions on 1–5:" in said and said.count("answers  mean") == 5
    code, said = evsim(tmp_path, "check", "data/surveys/foods", str(raw))
    assert (code, said.count("user │")) == (0, 5)


def test_a_wave_that_cannot_be_read_does_not_hide_the_others(project_folder: Path) -> None:
    (landing(project_folder) / "2021-01.csv").write_text("")
    code, said = evsim(project_folder, "check", "data/surveys/ev_shift")
    assert code == 1
    assert "2021-01" in said and "Remedy:" in said and "wave 2022-02: 1,945 rows" in said


def test_a_wave_with_other_content_is_kept_unless_it_is_replaced(
    project_folder: Path, tmp_path: Path
) -> None:
    kept = (landing(project_folder) / "2022-02.csv").read_bytes()
    file = changed_wave(project_folder, tmp_path / "2022-02.csv", {(1, "initial"): "1"})
    code, said = evsim(project_folder, "add", "ev_shift", str(file))
    assert code == 2 and "--replace" in said
    assert (landing(project_folder) / "2022-02.csv").read_bytes() == kept
    code, said = evsim(project_folder, "add", "ev_shift", str(file), "--replace")
    assert code == 0, said
    assert (landing(project_folder) / "2022-02.csv").read_bytes() == file.read_bytes()


def test_the_schema_printed_is_the_one_in_the_documents(project_folder: Path) -> None:
    code, said = evsim(project_folder, "schema")
    assert code == 0
    assert json.loads(said) == json.loads((ROOT / "docs" / "survey.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["new", "nothing.csv", "--name", "x"], ["nothing.csv", "no such file"]),
        (["new", "old.xls", "--name", "x"], ["old.xls", "save it as .xlsx"]),
        (["new", "a.csv", "--name", "My Survey"], ["'My Survey'", "lower-case"]),
        (["new", "a.csv", "--name", "ev_shift"], ["already", "survey.yaml"]),
        (["new", "a.csv", "--name", "x", "--encoding", "klingon"], ["unknown encoding", "klingon"]),
        (["new", "a.csv", "--name", "x", "--delimiter", "ab"], ["--delimiter", "'ab'"]),
        (["check", "nowhere"], ["nowhere", "no such file"]),
        (["check", "data/surveys/ev_shift", "a.tsv"], ["a.tsv", ".csv", "waves.changes"]),
        (["add", "ev_shift", "a.csv"], ["a.csv", "26 column(s) of the codebook are missing"]),
    ],
)
def test_a_slip_is_named_with_its_remedy(
    project_folder: Path, arguments: list[str], parts: list[str]
) -> None:
    for name in ("a.csv", "a.tsv", "old.xls"):
        (project_folder / name).write_text("one,two\n1,2\n")
    before = snapshot(project_folder)
    code, said = evsim(project_folder, *arguments)
    assert code == 2, said
    for part in [*parts, "Remedy:"]:
        assert part in said
    assert snapshot(project_folder) == before
