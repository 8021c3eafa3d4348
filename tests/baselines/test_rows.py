"""Which answers baselines see: columns, splits, what is held out, and on which scales."""

from pathlib import Path

import pandas as pd
import pytest

from evsim_assets.baselines.assets import answer_scales, scales_on
from evsim_assets.baselines.features import learn_features
from evsim_assets.baselines.fits import fit_grid
from evsim_assets.baselines.rows import answers_in_splits, read_answers
from evsim_assets.specs.project import Project
from evsim_assets.specs.questions import DontKnow, Question
from evsim_assets.specs.survey import Demographic, HeldOut, Scale

PEOPLE = pd.DataFrame(
    {
        "participant": ["t", "c", "v", "e", "x"],
        "split": ["train", "train", "validation", "test", "test"],
        "held_out": [False, True, False, False, True],
        "rank": 0.5,
    }
)
HELD = HeldOut(interventions=("7",), questions=("secret",))


def responses():
    """Everybody answers three questions; the second after intervention 7."""
    rows = [
        {
            "participant": person,
            "order": 0,
            "question": question,
            "intervention": told,
            "answer": 1,
            "weight": 1.0,
        }
        for person in ["t", "c", "v", "e", "x", "not in the study"]
        for question, told in [("open", None), ("told", "7"), ("secret", None)]
    ]
    return pd.DataFrame(rows)


def test_what_is_held_out_is_neither_trained_on_nor_validated_on():
    rows = answers_in_splits(responses(), PEOPLE, HELD)
    kept = rows.groupby("split")[["participant", "question"]].agg(list)
    assert kept.loc["train"].tolist() == [["t"], ["open"]]
    assert kept.loc["validation"].tolist() == [["v"], ["open"]]
    assert len(rows[rows["split"] == "test"]) == 6
    assert list(rows.columns) == [*responses().columns, "split"]


def test_nothing_held_out_leaves_every_answer_of_the_study():
    rows = answers_in_splits(responses(), PEOPLE.assign(held_out=False), HeldOut())
    assert len(rows) == 15 and set(rows["intervention"].dropna()) == {"7"}


def test_only_the_columns_that_are_looked_at_are_read(tmp_path: Path, project_folder: Path):
    survey = Project(project_folder).survey("ev_shift")
    table = responses().assign(intervention_text="long", **{d.slug: "x" for d in survey.demographics})
    for name in ("a", "b"):
        table.to_parquet(tmp_path / name, index=False)
    read = read_answers([tmp_path / "a", tmp_path / "b"], survey)
    assert len(read) == 36 and "intervention_text" not in read
    assert {d.slug for d in survey.demographics} < set(read.columns)


def questions(**given):
    columns = [{"answer": "a"}]
    scale = {"scale": Scale(low=0, high=100)}
    return (
        Question(id="wide", columns=columns, **scale),
        Question(
            id="unsure",
            columns=columns,
            dont_know=DontKnow(values=("dk",), number=-1, label="?", **{"as": "answer"}),
            **scale,
        ),
        Question(id="words", columns=columns, options=tuple(map(str, range(12))), answer_by="label"),
    )


def test_dont_know_is_on_the_scale_and_only_bare_wide_scales_have_digits(project_folder: Path):
    project = Project(project_folder)
    survey, study = project.survey("ev_shift"), project.study("small")
    survey = survey.model_copy()
    survey._questions = questions()
    native = {name: (scale.low, scale.high) for name, scale in scales_on("native", survey).items()}
    assert native == {"wide": (0, 100), "unsure": (-1, 100), "words": (1, 12)}
    assert list(scales_on("digit", survey)) == ["wide"]
    digits = study.model_copy(
        update={"adapters": (study.adapters[0].model_copy(update={"answers": "digit"}),)}
    )
    assert answer_scales(survey, digits) == ["native", "digit"]
    survey._questions = questions()[1:]
    assert answer_scales(survey, digits) == ["native"]


def test_checkboxes_are_several_options():
    boxes = Demographic(name="media", checkboxes={"tv": "TV", "web": "Web"}, options=("TV", "Web"))
    train = pd.DataFrame({"media": ["TV; Web", "TV", None], "intervention": None})
    features = learn_features(train, [boxes])
    assert features.several == {"media": ("TV", "Web")} and features.single == {}
    assert features.dummies(train).tolist() == [[1, 1], [1, 0], [0, 0]]


def test_test_figures_count_answers_by_weight():
    rows = pd.DataFrame(
        {
            "participant": list("abcdef"),
            "split": ["train", "validation", "test", "test", "test", "train"],
            "question": "q",
            "intervention": None,
            "answer": [0, 1, 0, 2, 2, 1],
            "weight": [1.0, 1.0, 3.0, 1.0, 0.0, 0.0],
        }
    )
    fit = fit_grid("random", None, rows, demographics=(), scales={"q": Scale(low=0, high=2)}, seed=0)
    row = fit[fit["split"] == "test"].iloc[0]
    assert row["n"] == 2
    # Uniform over 0, 1, 2: expected squared error 5/3 to either end. Humans: 3/4 say 0, 1/4 say 2.
    assert row["rmse"] == pytest.approx((5 / 3) ** 0.5)
    assert row["w1"] == pytest.approx(abs(3 / 4 - 1 / 3) + abs(3 / 4 - 2 / 3))
