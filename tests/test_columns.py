"""Whoever opens a stored table is told what each column is, and of measures where it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from docs.write_columns import PAGE, page
from evsim_assets.definitions import build_definitions
from evsim_assets.metrics.validation import validation_scores
from evsim_assets.specs.project import Project
from evsim_assets.specs.study import StudySpec
from evsim_assets.surveys.observed import changed_waves
from evsim_resources.columns import DEMOGRAPHIC, all_tables
from evsim_resources.lake import DIMENSION, Lake

CODEBOOK = """\
title: Snacks
source: invented
simulated: true
participant: person
demographics:
  - {name: living area, column: area, options: [Urban, Rural]}
  - {name: side, column: side, options: [left, right]}
interventions: {file: texts.csv, id: id, text: text}
questions:
  - {id: first, scale: {low: 0, high: 10}, columns: [{answer: q1}]}
  - {id: again, before: first, scale: {low: 0, high: 10}, columns: [{answer: q2, intervention: text}]}
splits: {train: 0.4, validation: 0.2, test: 0.4}
prompts: {system: "You are {demographics}", user: "{intervention} From {low} to {high}?"}
"""
STUDY = """\
survey: snacks
title: A study of two adapters that nobody trained
models: {s: {path: data/models/s}}
training: {rank: 4, epochs: 1}
adapters:
  - {models: [s], method: lora}
  - {models: [s], method: qlora}
temperatures: [1]
"""
PEOPLE = 150
NOT_TABLES = {"wave_file", "raw_wave", "adapter_spec", "adapter_checkpoint", "report"}
"""Assets that are observed, or are folders."""
FROM_MODELS = {
    "answer_distributions",
    "generations",
    "learning_curves",
    "prompt_lengths",
    "validation_scores",
}
"""Tables that need a model or its tokenizer: the slow test of the whole chain looks at these."""
MADE_HERE = {
    *("adapter", "model", "method", "answers", "template", "alpha", "d", "fraction", "tuned", "trial"),
    *("point_answer", "measure", "reason", "resamples", "design", "held_out"),
}
"""Columns that come from the study or codebook, or say how a row was made."""
WITH_LINEAGE = ("metrics", "comparisons", "scoreboard", "noise_floor", "effects", "bias")


def write_project(root: Path) -> None:
    """A survey of two waves with an intervention between two questions, and a study of it."""
    survey = root / "data" / "surveys" / "snacks"
    (survey / "waves").mkdir(parents=True)
    (root / "data" / "studies").mkdir()
    (root / "data" / "models").symlink_to(Path(__file__).resolve().parents[1] / "data" / "models")
    (root / "data" / "studies" / "small.yaml").write_text(STUDY)
    (survey / "survey.yaml").write_text(CODEBOOK)
    (survey / "texts.csv").write_text("id,text\na,Nuts are good.\nb,Nuts are bad.\n")
    rng = np.random.default_rng(0)
    for wave in ("2021", "2022"):
        table = pd.DataFrame({"person": [f"{wave}-{number}" for number in range(PEOPLE // 2)]})
        for column, options in {
            "area": ["Urban", "Rural"],
            "side": ["left", "right"],
            "text": ["a", "b"],
        }.items():
            table[column] = rng.choice(options, len(table))
        table = table.assign(q1=rng.integers(0, 11, len(table)), q2=rng.integers(0, 11, len(table)))
        table.to_csv(survey / "waves" / f"{wave}.csv", index=False)


class Made:
    """The survey's and the study's tables that need no model, really made; answers of models are invented."""

    def __init__(self, root: Path) -> None:
        write_project(root)
        project = Project(root)
        self.study: StudySpec = project.study("small")
        built = build_definitions(project)
        self.assets: list[Any] = list(built.assets or [])
        self.resources: Mapping[str, Any] = built.resources or {}
        self.lake: Lake = self.resources["lake"]
        self.instance = dg.DagsterInstance.ephemeral()
        self.checks: list[dg.AssetCheckEvaluation] = []
        self.told: dict[str, Mapping[str, dg.MetadataValue]] = {}  # asset → metadata of its last table
        survey = project.survey("snacks")
        waves = [str(event.partition) for event in changed_waves(survey, self.instance)]
        self.instance.add_dynamic_partitions("snacks_wave", waves)
        self.make("snacks", "raw_wave", "clean_wave", "quarantine", keys=waves)
        self.make("snacks", "responses", "superseded", "splits", "split_report", "drift")
        self.make("small", "prompts", "people", "noise_floor", "null_models")
        self.answer()
        self.make("small", *self.still("adapter"), keys=[spec.key for spec in self.study.adapter_specs])
        self.make("small", "baseline_fits", keys=list(self.study.baselines.parts))
        self.make("small", *self.still(None))

    def tables(self) -> dict[str, dg.AssetSpec]:
        """Every asset that stores a table, by its name."""
        specs = [spec for asset in self.assets for spec in getattr(asset, "specs", [asset])]
        return {spec.key.path[-1]: spec for spec in specs if spec.key.path[-1] not in NOT_TABLES}

    def still(self, dimension: str | None) -> list[str]:
        """The study's tables with these partitions that are not made yet, and need no model."""
        return [
            name
            for name, spec in self.tables().items()
            if spec.key.path[0] == "small"
            and spec.metadata.get(DIMENSION) == dimension
            and name not in {*self.told, *FROM_MODELS}
        ]

    def make(self, group: str, *names: str, keys: list[str] | None = None) -> None:
        for key in keys or [None]:
            result = dg.materialize(
                self.assets,
                selection=dg.AssetSelection.assets(*([group, name] for name in names)),
                partition_key=key,
                instance=self.instance,
                resources=dict(self.resources),
            )
            self.checks += result.get_asset_check_evaluations()
            for event in result.get_asset_materialization_events():
                assert event.asset_key is not None
                self.told[event.asset_key.path[-1]] = event.materialization.metadata

    def answer(self) -> None:
        """Distributions, generations and validation scores of every adapter, random, in the lake."""
        prompts = self.lake.read_table(["small", "prompts"])
        for number, spec in enumerate(self.study.adapter_specs):
            rng, place = np.random.default_rng(number + 1), {"adapter": spec.key}
            read = {
                split: distributions(prompts[prompts["split"] == split], rng)
                for split in ("validation", "test")
            }
            self.lake.write_table(read["test"], ["small", "answer_distributions"], place)
            scores = validation_scores(prompts, read["validation"], spec.factors)
            self.lake.write_table(scores, ["small", "validation_scores"], place)
            asked = read["test"].merge(prompts[["prompt_id", "participant", "question"]], on="prompt_id")
            answer = asked["probabilities"].map(np.argmax).astype("Int64")
            drawn = {"replicate": 0, "text": "", "answer": answer, "success": True, "seed": 0}
            said = asked.assign(**drawn, made_by="distribution")
            self.lake.write_table(said, ["small", "generations"], place | {"temperature": "1.0"})


def distributions(asked: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Random probabilities of the answers 0 to 10 to each prompt, at temperature 1."""
    rows = rng.dirichlet(np.full(11, 0.1), len(asked)).astype(np.float32)
    masses = {"off_scale": 0.0, "no_number": 0.0, "unexpanded": 0.0, "taken": 0.0}
    place = {"prompt_id": asked["prompt_id"].to_numpy(), "temperature": 1.0}
    return pd.DataFrame({**place, "probabilities": list(rows), **masses})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("project"))


def test_every_table_of_the_definitions_is_described(made: Made) -> None:
    """Mend with: an entry in evsim_assets/columns.yaml."""
    names = set(made.tables())
    assert names - set(all_tables()) == set()
    assert set(all_tables()) - names == set(), "words for tables that are no more"
    assert names - set(made.told) - FROM_MODELS == set(), "tables that this test does not make"


def test_every_column_of_a_stored_table_has_a_type_and_words_and_every_word_a_column(made: Made) -> None:
    for table, metadata in made.told.items():
        if table in NOT_TABLES:
            continue
        schema = metadata["dagster/column_schema"].value
        assert isinstance(schema, dg.TableSchema)
        assert [c.name for c in schema.columns if not c.description] == [], table
        assert all(c.type for c in schema.columns)
        listed = [name for name in all_tables()[table].columns if name != DEMOGRAPHIC]
        own = [c.name for c in schema.columns if c.name in listed]
        assert own == listed, table  # in their order; what is not listed is a demographic


def test_a_demographic_is_described_by_its_name(made: Made) -> None:
    schema = made.told["people"]["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    words = {column.name: column.description or "" for column in schema.columns}
    assert list(words) == ["participant", "living_area", "side"]
    assert "The person's living area" in words["living_area"] and "The person's side" in words["side"]


@pytest.mark.parametrize("table", WITH_LINEAGE)
def test_each_column_of_a_measure_says_where_it_comes_from(made: Made, table: str) -> None:
    lineage = made.told[table]["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    assert set(all_tables()[table].columns) - set(lineage.deps_by_column) <= MADE_HERE


def test_the_floor_beside_a_measure_comes_from_the_noise_floor(made: Made) -> None:
    lineage = made.told["metrics"]["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    assert lineage.deps_by_column["floor"] == [dg.TableColumnDep(["small", "noise_floor"], "floor")]


def test_columns_come_from_columns_of_what_their_asset_reads(made: Made) -> None:
    for table, spec in made.tables().items():
        read = {dep.asset_key.path[-1] for dep in spec.deps}
        words = all_tables()[table]
        assert set(words.sources) <= set(words.columns), table
        for column, sources in words.sources.items():
            assert sources, (table, column)
            for source, name in sources:
                assert source in read and name in all_tables()[source].columns, (table, column, source, name)


def test_measures_of_the_guide_are_columns_of_the_metrics() -> None:
    text = (PAGE.parent / "measures.md").read_text(encoding="utf-8")
    listed = text.split("| column of `metrics` | what it is |", 1)[1].split("\n\n", 1)[0]
    cells = [line.split("|")[1] for line in listed.splitlines()[2:]]
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    known = all_tables()["metrics"].columns
    gaps = {"…_population": "gap_closed_population", "…_cell": "gap_closed_cell"}
    assert named and [name for name in named if gaps.get(name, name) not in known] == []


def test_the_page_of_columns_is_what_would_be_written_now() -> None:
    """Mend with: python docs/write_columns.py."""
    assert PAGE.read_text(encoding="utf-8") == page()


CHECKS = {
    ("noise_floor", "floors_hold"),
    ("noise_floor", "enough_people"),
    ("null_models", "population_says_something"),
    ("metrics", "answers_are_numbers"),
    ("effects", "effects_can_be_judged"),
    ("bias", "groups_as_among_people"),
    ("discriminability", "not_told_apart"),
    ("scoreboard", "nobody_too_good"),
}
PICTURES = {
    "noise_floor": ["noise_floor"],
    "null_models": ["null_models"],
    "metrics": ["by_temperature"],
    "comparisons": ["forest"],
    "effects": ["effects"],
    "bias": ["spreads", "amplification"],
    "discriminability": ["auc"],
    "scoreboard": ["rmse_kl"],
}


def test_measures_warn_with_numbers_and_never_block(made: Made) -> None:
    found = {(check.asset_key.path[-1], check.check_name): check for check in made.checks}
    assert set(found) >= CHECKS
    for place in CHECKS:
        assert found[place].severity == dg.AssetCheckSeverity.WARN and not found[place].blocking
        assert found[place].metadata, place
        assert found[place].passed or found[place].description, place
    assert not found["noise_floor", "enough_people"].passed  # of 150 people about 60 are in test
    assert found["scoreboard", "nobody_too_good"].passed


def test_a_check_of_an_adapter_is_kept_for_each_adapter(made: Made) -> None:
    partitioned = {
        spec.name: spec.partitions_def
        for asset in made.assets
        for spec in getattr(asset, "check_specs", [])
        if (spec.asset_key.path[-1], spec.name) in CHECKS
    }
    of_adapters = {"answers_are_numbers", "effects_can_be_judged", "groups_as_among_people", "not_told_apart"}
    assert {name for name, partitions in partitioned.items() if partitions is not None} == of_adapters


@pytest.mark.parametrize(("table", "pictures"), PICTURES.items())
def test_measures_show_their_pictures(made: Made, table: str, pictures: list[str]) -> None:
    for name in pictures:
        assert "data:image/png;base64," in str(made.told[table][name].value), name


def test_methods_are_compared_by_their_files_in_the_right_order(made: Made) -> None:
    table = made.lake.read_table(["small", "method_agreement"])
    assert set(zip(table["adapter"], table["other"], strict=True)) == {("s~lora", "s~qlora")}
    read = {
        spec.key: made.lake.read_table(["small", "answer_distributions"], {"adapter": spec.key})
        for spec in made.study.adapter_specs
    }
    prompts = made.lake.read_table(["small", "prompts"]).set_index("prompt_id")["question"]
    means = {}
    for key, rows in read.items():
        points = [float(np.dot(row, np.arange(11)) / np.sum(row)) for row in rows["probabilities"]]
        means[key] = pd.Series(points, rows["prompt_id"])
    first = prompts[prompts == "first"].index.intersection(means["s~lora"].index)
    expected = means["s~lora"][first].corr(means["s~qlora"][first], method="spearman")
    (found,) = table.loc[table["question"] == "first", "spearman"]
    assert found == pytest.approx(expected, abs=1e-4)
