"""The whole chain on a small study: real waves, real 4-bit training, real instance, real processes."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from evsim_assets.specs.project import Project
from evsim_resources.columns import all_tables
from evsim_resources.lake import content_hash
from tests.chain.command_line import evsim_in as evsim
from tests.chain.command_line import partitions_made as made
from tests.chain.command_line import stored_table as table

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh project in which the small study ran once."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "data" / "studies").mkdir(parents=True)
    shutil.copytree(ROOT / "data" / "surveys" / "ev_shift", folder / "data" / "surveys" / "ev_shift")
    (folder / "data" / "models").symlink_to(ROOT / "data" / "models")
    shutil.copyfile(ROOT / "tests" / "chain" / "small_study.yaml", folder / "data" / "studies" / "small.yaml")
    output = evsim(folder, "run", "small")
    assert made(output)["adapter_checkpoint"] == 2
    assert made(output)["generations"] == 4
    return folder


def test_an_unchanged_study_runs_nothing(project: Path) -> None:
    assert made(evsim(project, "run", "small")) == {}


def test_the_fine_tuned_adapter_is_closer_to_the_humans_than_its_base(project: Path) -> None:
    metrics = table(project, "small/metrics")
    everybody = (metrics["demographic"] == "all") & (metrics["point_answer"] == "none")
    warm = metrics[everybody & (metrics["temperature"] == 1.0)]
    kl = warm[warm["measure"] == "kl"].groupby("adapter")["value"].mean()
    assert kl["s~qlora"] < 0.6 * kl["s~pretrained"]
    success = warm[warm["measure"] == "success_rate"].groupby("adapter")["value"].min()
    assert success["s~qlora"] > 0.9 > success["s~pretrained"]


def test_every_row_of_the_population_is_there_once(project: Path) -> None:
    prompts = table(project, "small/prompts")
    tested = prompts[prompts["split"] == "test"]
    assert tested["participant"].nunique() == 30
    generations = table(project, "small/generations").assign(adapter="")
    assert len(generations) == len(tested) * 2 * 2  # adapters × temperatures
    distributions = table(project, "small/answer_distributions")
    total = distributions["probabilities"].map(sum) + distributions[
        ["off_scale", "no_number", "unexpanded"]
    ].sum(axis=1)
    assert (total - 1).abs().max() < 1e-5


def test_the_checkpoint_is_a_peft_folder_of_4_bit_training(project: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from evsim_resources.lake import Lake
    from evsim_resources.versions import VersionedStore

    lake = Lake(root=Project(project).lake)
    stored = VersionedStore(lake, ["small", "adapter_checkpoint"], {"adapter": "s~qlora"}).resolve()
    assert stored.manifest["training"]["base_weights"].startswith("nf4")
    base = AutoModelForCausalLM.from_pretrained(project / "data" / "models" / "s")
    model = PeftModel.from_pretrained(base, str(stored.folder))
    assert any("lora" in name for name, _ in model.named_parameters())
    assert (
        not list(stored.folder.rglob("*.bin"))
        + list(stored.folder.rglob("*.pt"))
        + list(stored.folder.rglob("*.pkl"))
    )


def test_analysts_read_the_results_in_sql(project: Path) -> None:
    printed = evsim(
        project, "sql", "SELECT adapter, count(*) AS n FROM small.metrics GROUP BY adapter ORDER BY adapter"
    )
    assert [line.split(",")[0] for line in printed.splitlines()] == ["adapter", "s~pretrained", "s~qlora"]


def test_adapters_are_scored_on_every_validation_prompt_and_the_trained_one_is_chosen(project: Path) -> None:
    prompts, scores = table(project, "small/prompts"), table(project, "small/validation_scores")
    asked = prompts[prompts["split"] == "validation"].groupby("question").size()
    assert len(scores) == 2 * 2 * len(asked) * 3  # adapters × temperatures × questions × point answers
    assert (scores["n"] + scores["n_failed"] == scores["question"].map(asked)).all()
    chosen = table(project, "small/chosen_adapters")
    assert set(chosen.loc[chosen["chosen_by"] == "kl", "adapter"]) == {"s~qlora"}
    temperatures = table(project, "small/chosen_temperatures")
    assert len(temperatures) == 2 * len(asked)


def test_status_says_that_everything_is_fresh(project: Path) -> None:
    printed = evsim(project, "status", "small")
    _, head, *rows = printed.splitlines()
    assert "missing" in head
    assert "metrics" in "".join(rows) and "missing" not in "".join(rows)


def test_no_direct_identifier_reaches_an_analysts_table(project: Path) -> None:
    raw = pd.read_csv(next((project / "data" / "surveys" / "ev_shift" / "waves").glob("*.csv")), dtype=str)
    identifiers = set(raw["participant_id"].head(50))
    for file in (project / ".evsim" / "lake").rglob("data.parquet"):
        for _, column in pd.read_parquet(file).items():
            if column.dtype.kind in "OT" or str(column.dtype) == "str":
                values = {value for value in column.dropna() if isinstance(value, str)}
                assert not identifiers & values, file


def test_one_edited_adapter_is_trained_again_and_only_what_follows_from_it(project: Path) -> None:
    study = project / "data" / "studies" / "small.yaml"
    text = study.read_text()
    edited = text.replace("method: qlora}", "method: qlora, training: {learning_rate: 2.0e-3}}")
    assert edited != text
    study.write_text(edited)
    try:
        again = made(evsim(project, "run", "small"))
    finally:
        study.write_text(text)
    assert again["adapter_checkpoint"] == 1
    assert again["answer_distributions"] == 1
    assert again["validation_scores"] == 1
    assert again["generations"] == 2
    assert again["metrics"] == 1
    assert not {"raw_wave", "clean_wave", "responses", "prompts", "baseline_fits", "noise_floor"} & set(again)
    back = made(evsim(project, "run", "small"))
    assert back["adapter_checkpoint"] == 1


def test_equal_inputs_give_equal_bytes(project: Path) -> None:
    files = {
        path: path.read_bytes()
        for name in ("prompts", "answer_distributions", "generations", "metrics")
        for path in (project / ".evsim" / "lake" / "small" / name).rglob("data.parquet")
    }
    weights = sorted((project / ".evsim" / "lake" / "small" / "adapter_checkpoint").rglob("*.safetensors"))
    known = {path: path.read_bytes() for path in weights}
    evsim(
        project,
        "run",
        "small",
        "--again",
        "--only",
        "prompts,adapter_checkpoint,answer_distributions,generations,metrics",
    )
    assert {path: path.read_bytes() for path in files} == files
    now = sorted((project / ".evsim" / "lake" / "small" / "adapter_checkpoint").rglob("*.safetensors"))
    assert {path: path.read_bytes() for path in now} == known


def test_a_stored_file_that_was_deleted_is_made_again_and_nothing_else(project: Path) -> None:
    folder = project / ".evsim" / "lake" / "small" / "adapter_checkpoint" / "adapter=s~qlora"
    weights = folder / (folder / "current").read_text().strip() / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    histograms = project / ".evsim" / "lake" / "small" / "answer_histograms" / "adapter=s~pretrained"
    (histograms / "data.parquet").unlink()
    assert made(evsim(project, "run", "small")) == {"adapter_checkpoint": 1, "answer_histograms": 1}
    assert weights.read_bytes() == content


def test_a_flipped_byte_in_a_checkpoint_is_named_and_nothing_is_computed_from_it(project: Path) -> None:
    folder = project / ".evsim" / "lake" / "small" / "adapter_checkpoint" / "adapter=s~qlora"
    current = folder / (folder / "current").read_text().strip()
    weights = current / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    before = table(project, "small/answer_distributions")
    printed = evsim(
        project, "run", "small", "--again", "--only", "answer_distributions", "--partition", "s~qlora", code=1
    )
    flat = " ".join(printed.split())
    assert "adapter_model.safetensors" in flat
    assert "evsim run small --only adapter_checkpoint --partition s~qlora --again" in flat
    pd.testing.assert_frame_equal(before, table(project, "small/answer_distributions"))
    evsim(project, "run", "small", "--again", "--only", "adapter_checkpoint", "--partition", "s~qlora")
    evsim(project, "run", "small", "--again", "--only", "answer_distributions", "--partition", "s~qlora")


def test_a_new_wave_makes_what_depends_on_answers_and_moves_nobody(project: Path) -> None:
    splits = table(project, "ev_shift/splits").set_index("participant")["split"]
    raw = pd.read_csv(
        project / "data" / "surveys" / "ev_shift" / "waves" / "2022-02.csv", dtype=str, keep_default_na=False
    )
    fresh = raw.head(40).assign(participant_id=[f"2022-05-{row:04d}" for row in range(40)])
    arriving = project / "2022-05.csv"
    fresh.to_csv(arriving, index=False)
    evsim(project, "survey", "add", "ev_shift", str(arriving))
    again = made(evsim(project, "run", "small"))
    assert (again["raw_wave"], again["clean_wave"], again["responses"]) == (1, 1, 1)
    after = table(project, "ev_shift/splits").set_index("participant")["split"]
    assert len(after) == len(splits) + 40
    assert (after[splits.index] == splits).all()


def test_the_manifest_says_what_the_checkpoint_was_made_from(project: Path) -> None:
    folder = project / ".evsim" / "lake" / "small" / "adapter_checkpoint" / "adapter=s~qlora"
    manifest = json.loads((folder / (folder / "current").read_text().strip() / "manifest.json").read_text())
    assert manifest["spec"]["method"] == "qlora"
    assert manifest["packages"]["peft"]
    assert manifest["training"]["data_version"] == content_hash(table(project, "small/prompts"))
    assert set(manifest["files"]) >= {"adapter_model.safetensors", "adapter_config.json", "README.md"}


def test_every_column_of_every_stored_table_has_words(project: Path) -> None:
    """Mend with: an entry in evsim_assets/columns.yaml."""
    lake, found = project / ".evsim" / "lake", {}
    for file in lake.rglob("data.parquet"):
        (name, *_) = [part for part in file.relative_to(lake).parts[1:] if "=" not in part]
        found[name] = [column for column in pq.read_schema(file).names if not all_tables()[name].of(column)]
    assert {"learning_curves", "answer_distributions", "generations", "validation_scores"} <= set(found)
    assert {name: columns for name, columns in found.items() if columns} == {}
