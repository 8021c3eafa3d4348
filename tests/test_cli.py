"""What a person reads when something is wrong before any work."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from evsim_resources.lake import Lake
from tests.chain.command_line import evsim_ended

ROOT = Path(__file__).resolve().parents[1]


def evsim(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit status of `evsim`, and what it printed with its line breaks as blanks."""
    result = evsim_ended(folder, *arguments)
    return result.returncode, " ".join((result.stdout + result.stderr).split())


def test_the_llama_study_without_weights_and_gpu_says_what_is_missing_and_does_nothing(
    project_folder: Path,
) -> None:
    shutil.copy(ROOT / "data" / "studies" / "ev_shift_llama2.yaml", project_folder / "data" / "studies")
    code, said = evsim(project_folder, "run", "ev_shift_llama2")
    assert code == 2
    for part in (
        "meta-llama/Llama-2-7b-chat-hf",
        "Llama-2-70b-chat-hf",
        "hf download",
        "GPU",
        "compute.device",
    ):
        assert part in said
    assert not (project_folder / ".evsim" / "lake").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "nowhere"], ["nowhere.yaml", "no such study", "small"]),
        (["run", "small", "--only", "metric"], ["--only", "'metric'", "metrics"]),
        (["run", "small", "--only", "metrics", "--partition", "s"], ["--partition", "s~qlora"]),
        (["survey", "add", "ev_shift", "nothing.csv"], ["nothing.csv", "no such file"]),
        (["survey", "add", "other", "nothing.csv"], ["other", "ev_shift"]),
        (["sql", "DROP TABLE x"], ["only one reading statement", "DROP"]),
    ],
)
def test_a_slip_is_named_with_its_remedy(
    project_folder: Path, arguments: list[str], parts: list[str]
) -> None:
    code, said = evsim(project_folder, *arguments)
    assert code == 2
    for part in [*parts, "Remedy:"]:
        assert part in said


def test_a_survey_without_a_wave_says_how_to_add_one(project_folder: Path) -> None:
    for wave in (project_folder / "data" / "surveys" / "ev_shift" / "waves").iterdir():
        wave.unlink()
    code, said = evsim(project_folder, "run", "small")
    assert (code, "evsim survey add ev_shift" in said) == (2, True)


def test_a_wave_lacking_a_column_is_refused_and_does_not_land(project_folder: Path, tmp_path: Path) -> None:
    landing = project_folder / "data" / "surveys" / "ev_shift" / "waves"
    lines = (landing / "2022-02.csv").read_text().splitlines()
    arriving = tmp_path / "2022-09.csv"
    arriving.write_text("\n".join([lines[0].replace("post_1", "posted_1"), *lines[1:5]]))
    code, said = evsim(project_folder, "survey", "add", "ev_shift", str(arriving))
    assert code == 2
    assert "2022-09.csv" in said and "'post_1'" in said
    assert not (landing / "2022-09.csv").exists()


def test_an_answer_off_the_scale_is_shown_with_row_value_and_remedy(project_folder: Path) -> None:
    landing = project_folder / "data" / "surveys" / "ev_shift" / "waves"
    raw = (landing / "2022-02.csv").read_text().splitlines()
    header = raw[0].split(",")
    import csv
    import io

    rows = list(csv.DictReader(io.StringIO("\n".join(raw))))
    rows[2]["initial"] = "130"
    out = io.StringIO()
    writer = csv.DictWriter(out, header)
    writer.writeheader()
    writer.writerows(rows)
    (landing / "2022-02.csv").write_text(out.getvalue())
    code, said = evsim(project_folder, "survey", "check", "data/surveys/ev_shift")
    assert code == 1
    for part in ("2022-02.csv", "row 3", "initial", "off the scale 0–100", "'130'", "Remedy:"):
        assert part in said


def test_what_a_study_has_no_more_is_not_in_sql(project_folder: Path) -> None:
    lake = Lake(root=str(project_folder / ".evsim" / "lake"))
    for adapter in ("s~qlora", "s~lora"):
        lake.write_table(pd.DataFrame({"adapter": [adapter]}), ["small", "metrics"], {"adapter": adapter})
    assert evsim(project_folder, "sql", "SELECT adapter FROM small.metrics") == (0, "adapter s~qlora")
    study = project_folder / "data" / "studies" / "small.yaml"
    text = study.read_text()
    study.write_text(text.replace("method: qlora", "method: none"))
    code, said = evsim(project_folder, "sql", "SELECT adapter FROM small.metrics")
    assert code == 2 and "the tables of small are left out" in said and "method" in said
    study.unlink()
    code, said = evsim(project_folder, "sql", "SELECT adapter FROM small.metrics")
    assert code == 2 and "does not exist" in said


@pytest.mark.parametrize("columns", [80, 110])
def test_status_names_every_asset_in_full_on_a_narrow_terminal(
    project_folder: Path, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    result = evsim_ended(project_folder, "status")
    lines = result.stdout.splitlines()
    assert lines[0] == "small" and max(map(len, lines)) <= columns and "…" not in result.stdout
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:] if line[2:3].strip()}
    assert rows["generations"] == ["4", "s~pretrained|0.0:", "missing"]
    assert {"answer_distributions", "adapter_checkpoint", "raw_wave", "report"} <= set(rows)


def test_a_plan_says_what_training_takes_and_makes_nothing(
    project_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = evsim_ended(project_folder, "plan", "small")
    said = ended.stdout
    assert ended.returncode == 0, said + ended.stderr
    assert "small: the prompts as the landed waves would make them now (missing)" in said
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    # 100 participants of six questions, three epochs of batches of whole participants up to 16 texts or more
    assert rows["s~qlora"][1:3] == ["missing", "600"] and rows["s~qlora"][5] == "102"
    assert float(rows["s~qlora"][4].removesuffix("x")) > 2 and rows["s~qlora"][-1] == "yes"
    assert rows["s~pretrained"][1:] == ["missing"]  # nothing to train
    assert "1 to train" in said and "measured in" in said and "on the model itself" in said
    assert not (project_folder / ".evsim" / "lake").exists()


def test_a_plan_that_does_not_fit_says_what_would(project_folder: Path) -> None:
    study = project_folder / "data" / "studies" / "small.yaml"
    study.write_text(study.read_text().replace("{rank: 8,", "{rank: 8, loss_on: text, batch_size: 600,"))
    code, said = evsim(project_folder, "plan", "small", "--memory", "0.5")
    assert code == 1
    for part in ("does not fit: s~qlora takes", "activations", "Remedy: set training.micro_batch_tokens: "):
        assert part in said
    tokens = said.split("training.micro_batch_tokens: ")[1].split()[0]
    study.write_text(study.read_text().replace("{rank: 8,", f"{{rank: 8, micro_batch_tokens: {tokens},"))
    assert evsim(project_folder, "plan", "small", "--memory", "0.5")[0] == 0


def test_a_plan_without_weights_and_gpu_says_what_it_knows_and_why_not_the_rest(project_folder: Path) -> None:
    shutil.copy(ROOT / "data" / "studies" / "ev_shift_llama2.yaml", project_folder / "data" / "studies")
    code, said = evsim(project_folder, "plan", "ev_shift_llama2", "--memory", "80")
    assert code == 1  # 70B's own weights are 36 GB in 4 bits; what a micro-batch keeps is too much besides
    for part in (
        "7b: shapes as published; its files are not here",
        "7b: its tokenizer is not here; tokens are those of a stand-in",
        "time of 7b unknown: no GPU here to measure on",
        "does not fit: 70b~qlora takes",
        "set training.gradient_checkpointing: true",
    ):
        assert part in said


def test_a_plan_of_a_survey_without_a_wave_says_so_and_counts_full_micro_batches(
    project_folder: Path,
) -> None:
    for wave in (project_folder / "data" / "surveys" / "ev_shift" / "waves").iterdir():
        wave.unlink()
    code, said = evsim(project_folder, "plan", "small", "--memory", "100")
    assert code == 0, said
    for part in (
        "small: without prompts:",
        "the survey has no raw wave Remedy: evsim survey add ev_shift FILE",
        "tokens of s unknown: the survey has no raw wave",
        "s~qlora: its texts are not known; memory is that of a full micro-batch (16384 tokens)",
        "1 to train; time unknown",
    ):
        assert part in said
    assert evsim(project_folder, "plan", "small", "--memory", "0.1")[0] == 1  # the weights are judged


def test_full_baselines_are_written_into_the_study_and_nothing_else_of_it_changes(
    project_folder: Path,
) -> None:
    from evsim_assets.specs.project import Project

    file = project_folder / "data" / "studies" / "small.yaml"
    written = "# A comment.\n" + file.read_text()
    file.write_text(written)
    code, said = evsim(
        project_folder, "run", "small", "--full-baselines", "--only", "baseline_fits", "--partition", "svr"
    )
    assert code == 2 and "svr: full" in said, said
    assert "svr-1-of-8" in said, "that partition is now one of eight"
    study = Project(project_folder).study("small")
    assert (study.baselines.svr.size, study.baselines.catboost.size) == (384, 480)
    assert study.baselines.max_train_rows is None
    kept = written[: written.index("baselines:")]
    assert file.read_text().startswith("# A comment.\n")
    assert [line for line in kept.splitlines() if line not in file.read_text()] == []
