"""The report holds a picture and a table for what there is, and says what there is not."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from evsim_assets.reports.contents import Results, write_report

SURVEY = SimpleNamespace(title="Survey", source="made up", simulated=True)
STUDY = SimpleNamespace(title="Study", note="", published=[])
ADAPTER = {"adapter": "s~qlora", "model": "s", "method": "qlora", "question": "q"}


@pytest.fixture
def least(board, curves, floors, choices, temperatures):
    """The tables of a survey without interventions and demographics."""
    counts = pd.DataFrame({**ADAPTER, "temperature": 1.0, "answer": range(11), "human": 1, "simulated": 1.0})
    chosen = curves[:1].assign(chosen_by="kl", setting="{}")
    nulls = pd.DataFrame(columns=["null", "question", "answers", "point_answer", "measure", "value"])
    floors = floors.assign(n=9, resamples=200)
    return Results(board(), counts, curves, chosen, floors, nulls, pd.DataFrame(), choices, temperatures)


def full(least):
    """The same with every table; the figures of T=0 are 0.1, those of T=1 are 0.7."""
    value = pd.DataFrame({"temperature": [0.0, 1.0], "value": [0.1, 0.7]}).assign(**ADAPTER, reason=None)
    ends = {"low": value["value"] - 0.05, "high": value["value"] + 0.05}
    effect = {
        f"{side}_{end}": value["value"]
        for side in ("human", "simulated")
        for end in ("effect", "low", "high")
    }
    pair = {
        "adapter": "s~pretrained",
        "other": "s~qlora",
        "closer": "s~qlora",
        "p_value": 0.01,
        "answers": "native",
    }
    kinds = {"point_answer": "none", "measure": "kl", "n": 9}
    return Results(
        **{name: getattr(least, name) for name in list(least.__dataclass_fields__)[:9]},
        effects=value.assign(intervention="a", held_out=False, design="control_arm", **effect),
        effect_agreement=value.assign(held_out="all", measure="correlation", n=9, **ends),
        bias=value.assign(demographic="age", measure="mean", amplification=value["value"], **ends),
        discriminability=value.assign(auc=value["value"], p_value=0.01, accuracy=0.6, n=9, **ends),
        comparisons=value.assign(difference=value["value"], **pair, **kinds, **ends),
    )


def test_a_report_of_everything_has_its_pictures_and_tables(least, tmp_path):
    pictures = write_report(tmp_path, SURVEY, STUDY, full(least))
    expected = {"rmse_kl", "histogram_q", "effects_q", "bias_mean", "discriminability"}
    assert set(pictures) == {f"{name}.png" for name in expected}
    for name, png in pictures.items():
        assert (tmp_path / name).read_bytes() == png
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for heading in ("Agreement of effects", "Amplification of differences", "Telling model from humans"):
        assert f"<h3>{heading}</h3>" in page
    assert "s~qlora is closer by 0.100 (0.050 to 0.150)" in page


def test_tables_show_the_temperature_chosen_on_validation_though_another_is_better_on_test(least, tmp_path):
    write_report(tmp_path, SURVEY, STUDY, full(least))
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "0.10 [0.05, 0.15]" in page and "0.70 [0.65, 0.75]" not in page
    assert "at the temperature at which its KL is lowest on validation" in page


def test_the_page_begins_with_the_choice_on_validation_and_its_test_figures(least, tmp_path):
    write_report(tmp_path, SURVEY, STUDY, least)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert '<h2 id="0">Chosen on validation</h2>' in page
    assert "q (native): a doubt." in page


def test_a_survey_without_interventions_and_demographics_says_what_is_missing(least, tmp_path):
    pictures = write_report(tmp_path, SURVEY, STUDY, least)
    assert set(pictures) == {"rmse_kl.png", "histogram_q.png"}
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "No intervention effects" in page and "No differences between groups" in page
    assert "Interventions</h2>" not in page and "Groups</h2>" not in page


def test_a_report_where_nobody_answers_is_written(least, tmp_path):
    silent = full(least)
    silent.scoreboard[["kl", "rmse"]] = np.nan
    assert write_report(tmp_path, SURVEY, STUDY, silent)
