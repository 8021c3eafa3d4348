"""What assets say follows the survey and the study: simulated answers are marked, titles are current."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from evsim_assets.definitions import build_definitions
from evsim_assets.specs.project import Project


def specs(folder: Path) -> dict[str, dg.AssetSpec]:
    assets = build_definitions(Project(folder)).assets or []
    listed: list[Any] = [s for asset in assets for s in getattr(asset, "specs", [asset])]
    return {"/".join(spec.key.path): spec for spec in listed}


def changed(folder: Path, file: str, pattern: str, replacement: str) -> set[str]:
    """The study's assets that get another code version by an edit of a file."""
    path = folder / "data" / file
    before, text = specs(folder), path.read_text()
    edited = re.sub(pattern, replacement, text, count=1, flags=re.MULTILINE)
    assert edited != text
    path.write_text(edited)
    after = specs(folder)
    return {name for name in before if before[name].code_version != after[name].code_version}


def test_every_asset_of_a_simulated_survey_says_so_and_none_of_a_real_one(project_folder: Path) -> None:
    assert all("SIMULATED" in str(spec.description) for spec in specs(project_folder).values())
    codebook = project_folder / "data" / "surveys" / "ev_shift" / "survey.yaml"
    codebook.write_text(codebook.read_text().replace("simulated: true", "simulated: false"))
    assert not any("SIMULATED" in str(spec.description) for spec in specs(project_folder).values())


PLOTTED = {"small/report", "small/answer_histograms"} | {
    f"small/{name}" for name in ("effects", "effect_agreement", "bias", "bias_levels", "discriminability")
}
"""What shows the study's title in a plot, and what is made with it."""
MARKED = {
    f"small/{name}"
    for name in (
        "noise_floor",
        "null_models",
        "metrics",
        "metric_replicates",
        "comparisons",
        "scoreboard",
        "baseline_curves",
    )
}
"""What says in a plot that answers are simulated, but names the study by its key."""


@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "expected"),
    [
        ("studies/small.yaml", "^title: .*", "title: Another", PLOTTED),
        ("studies/small.yaml", "^title:", "note: A note\ntitle:", {"small/report"}),
        ("surveys/ev_shift/survey.yaml", "^title: .*", "title: Another", {"small/report", "ev_shift/drift"}),
        ("surveys/ev_shift/survey.yaml", "^  Simulated stand-in", "  A stand-in", {"small/report"}),
        (
            "surveys/ev_shift/survey.yaml",
            "^simulated: true",
            "simulated: false",
            PLOTTED | MARKED | {"ev_shift/drift"},
        ),
    ],
    ids=["title", "note", "survey-title", "source", "simulated"],
)
def test_words_make_out_of_date_what_shows_them_and_never_an_adapter(
    project_folder: Path, file: str, pattern: str, replacement: str, expected: set[str]
) -> None:
    assert changed(project_folder, file, pattern, replacement) == expected


def test_another_tokenizer_makes_the_lengths_out_of_date(project_folder: Path) -> None:
    models = project_folder / "data" / "models"
    files = {p: p.read_bytes() for p in (models / "s").iterdir() if p.is_file()}
    models.unlink()
    (models / "s").mkdir(parents=True)
    for path, content in files.items():
        (models / "s" / path.name).write_bytes(content)
    before = specs(project_folder)["small/prompt_lengths"].code_version
    weights = next((models / "s").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert specs(project_folder)["small/prompt_lengths"].code_version == before
    (models / "s" / "tokenizer.json").write_bytes(files[models / "s" / "tokenizer.json"] + b"\n")
    assert specs(project_folder)["small/prompt_lengths"].code_version != before
