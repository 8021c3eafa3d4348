"""A study may compare wordings: each is an adapter of its own, and must be in the codebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project
from evsim_assets.specs.study import AdapterGrid, StudySpec


def study(*grids: dict[str, Any]) -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": "wordings",
            "survey": "ev_shift",
            "title": "t",
            "models": {"s": {"path": "p"}},
            "adapters": [{"models": ["s"], **grid} for grid in grids],
            "temperatures": [0, 1],
        }
    )


def test_every_template_is_an_adapter_named_after_the_answers() -> None:
    spec = study(
        {"method": "pretrained", "templates": ["terse"]},
        {
            "method": "lora",
            "answers": "digit",
            "templates": ["default", "terse"],
            "penalty": [{"alpha": 0.5, "d": 1}],
            "fractions": [0.5],
        },
    )
    assert [adapter.key for adapter in spec.adapter_specs] == [
        "s~pretrained~template-terse",
        "s~lora~digit~alpha-0.5~d-1~fraction-0.5~trial-1",
        "s~lora~digit~template-terse~alpha-0.5~d-1~fraction-0.5~trial-1",
    ]
    assert [adapter.factors["template"] for adapter in spec.adapter_specs] == ["terse", "default", "terse"]
    assert spec.templates == ("terse", "default")


def test_the_survey_s_own_wording_is_used_unless_others_are_named() -> None:
    spec = study({"method": "lora"})
    assert spec.templates == AdapterGrid(models=("s",), method="lora").templates == ("default",)
    assert [adapter.key for adapter in spec.adapter_specs] == ["s~lora"]


def test_a_template_that_the_codebook_does_not_have_is_refused(project_folder: Path) -> None:
    path = project_folder / "data" / "studies" / "small.yaml"
    document = YAML(typ="safe").load(path.read_text())
    document["adapters"][-1]["templates"] = ["default", "curt"]
    YAML(typ="safe").dump(document, path)
    with pytest.raises(BadInput) as caught:
        Project(project_folder).study("small")
    last = len(document["adapters"]) - 1
    assert (caught.value.file, caught.value.value) == (path, "curt")
    assert caught.value.field == f"adapters.{last}.templates.1" and "default" in str(caught.value.remedy)
    codebook = project_folder / "data" / "surveys" / "ev_shift" / "survey.yaml"
    survey = YAML().load(codebook.read_text(encoding="utf-8"))
    survey["prompts"]["templates"] = {"curt": {"user": "{low} to {high}?"}}
    YAML().dump(survey, codebook)
    assert Project(project_folder).study("small").templates == ("default", "curt")
