"""The assets of a survey on a real instance: what a bad wave does to the data, what is said of waves."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from evsim_assets.running.worker import _failure
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.specs.waves import WaveChange, WaveFormat, Waves
from evsim_assets.surveys.observed import changed_waves, removed_waves
from evsim_assets.surveys.population_assets import population_assets
from evsim_assets.surveys.wave_assets import wave_assets
from evsim_resources.lake import Lake
from evsim_resources.records import Records
from evsim_resources.tables import TableIOManager
from evsim_resources.versions import VersionedStore

GOOD = [*range(90), "oops", "oops"]
"""92 cells, two of which (2.2 %) are no numbers."""
BAD = [*range(80), *["oops"] * 12]
"""92 cells, twelve of which (13.0 %) are no numbers."""

BESIDE = {"clean_wave": "quarantine", "responses": "superseded", "splits": "split_report"}
"""What is made together with what."""


def survey_assets(spec: SurveySpec) -> list[Any]:
    return [*wave_assets(spec), *population_assets(spec)]


class Survey:
    """A survey of one question, its lake and its instance."""

    def __init__(self, spec: SurveySpec, root: Path) -> None:
        self.spec, self.lake = spec, Lake(root=str(root / "lake"))
        self.resources = {"lake": self.lake, "io_manager": TableIOManager(lake=self.lake)}
        self.instance = dg.DagsterInstance.ephemeral()

    def land(self, wave: str, answers: list[Any]) -> None:
        self.land_people(wave, [(f"{wave}-{n}", "Urban", answer) for n, answer in enumerate(answers)])

    def land_people(self, wave: str, people: list[tuple[str, str, Any]]) -> None:
        rows = [",".join(map(str, cells)) for cells in people]
        (self.spec.folder / "waves" / f"{wave}.csv").write_text("\n".join(["person,area,q1", *rows]) + "\n")
        self.observe()

    def observe(self) -> None:
        for event in changed_waves(self.spec, self.instance):
            self.instance.add_dynamic_partitions("snacks_wave", [str(event.partition)])
            self.instance.report_runless_asset_event(event)

    def run(self, *assets: str, wave: str | None = None) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            survey_assets(self.spec),
            selection=dg.AssetSelection.assets(*(["snacks", asset] for asset in assets)),
            partition_key=wave,
            instance=self.instance,
            resources=self.resources,
            raise_on_error=False,
        )

    def clean(self, wave: str) -> dg.ExecuteInProcessResult:
        assert self.run("raw_wave", wave=wave).success
        return self.run("clean_wave", "quarantine", wave=wave)

    def table(self, asset: str, wave: str) -> pd.DataFrame:
        return self.lake.read_table(["snacks", asset], {"wave": wave})

    def version(self, asset: str, wave: str) -> str | None:
        record = Records(self.instance).latest(dg.AssetKey(["snacks", asset]), wave)
        return record.data_version if record else None


@pytest.fixture
def survey(make_survey: Any, tmp_path: Path) -> Survey:
    question = {"id": "first", "scale": {"low": 0, "high": 100}, "columns": [{"answer": "q1"}]}
    spec = make_survey(
        demographics=[{"name": "living area", "column": "area", "options": ["Urban", "Rural"]}],
        interventions=None,
        questions=[question],
        prompts={"system": "{demographics}", "user": "{low} to {high}?"},
        simulated=True,
    )
    return Survey(spec, tmp_path)


def test_a_wave_with_few_unusable_cells_passes_its_checks(survey: Survey) -> None:
    survey.land("w1", GOOD)
    result = survey.clean("w1")
    assert result.success and all(check.passed for check in result.get_asset_check_evaluations())
    assert len(survey.table("clean_wave", "w1")) == 90
    assert survey.table("quarantine", "w1")["value"].tolist() == ["oops", "oops"]


def test_a_wave_corrected_for_the_worse_leaves_the_clean_answers_as_they_were(survey: Survey) -> None:
    survey.land("w1", GOOD)
    assert survey.clean("w1").success
    good = survey.version("clean_wave", "w1")
    survey.land("w1", BAD)
    assert not survey.clean("w1").success
    assert survey.table("clean_wave", "w1")["answer"].tolist() == list(range(90))
    assert survey.version("clean_wave", "w1") == good
    assert len(survey.table("quarantine", "w1")) == 12


def test_a_bad_wave_s_checks_cells_and_remedy_are_there_for_a_person_to_see(survey: Survey) -> None:
    survey.land("w1", BAD)
    result = survey.clean("w1")
    verdicts = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert {name: check.passed for name, check in verdicts.items()} == {
        "every_cell_accounted_for": True,
        "few_in_quarantine": False,
        "demographics_as_stated": True,
    }
    assert verdicts["few_in_quarantine"].metadata["share"].value == pytest.approx(12 / 92)
    told, trace = _failure(result)
    assert trace is None and "w1.csv: 12 of the 92 answer cells (13.0%) cannot be used, more than 5%" in told
    assert "Remedy: " in told and "snacks.quarantine" in told
    assert survey.version("clean_wave", "w1") is None and len(survey.table("quarantine", "w1")) == 12


def test_the_daemon_tries_a_bad_wave_once_more_and_makes_nothing_from_it(survey: Survey) -> None:
    definitions = dg.Definitions(assets=survey_assets(survey.spec), resources=survey.resources)
    cursor: Any = None

    def live(ticks: int) -> list[str]:
        nonlocal cursor
        asked: list[str] = []
        for _ in range(ticks):
            result = dg.evaluate_automation_conditions(definitions, survey.instance, cursor=cursor)
            cursor = result.cursor
            for evaluation in result.results:
                name, subset = evaluation.key.path[-1], evaluation.true_subset
                if subset.is_empty or name in BESIDE.values():
                    continue
                waves = subset.expensively_compute_partition_keys() if subset.is_partitioned else [None]
                for wave in sorted(waves, key=str):
                    asked.append(f"{name} {wave}" if wave else name)
                    survey.run(*([name, BESIDE[name]] if name in BESIDE else [name]), wave=wave)
        return asked

    survey.land("w1", GOOD)
    assert live(6) == ["raw_wave w1", "clean_wave w1", "drift", "responses", "splits"]
    survey.land("w1", BAD)
    assert live(8) == ["raw_wave w1", "clean_wave w1", "clean_wave w1"]
    survey.land("w2", GOOD)  # its check passes: `responses` and `drift` still wait for the other wave
    assert live(8) == ["raw_wave w2", "clean_wave w2"]
    survey.land("w1", GOOD[:-1])
    assert live(8) == ["raw_wave w1", "clean_wave w1", "drift", "responses", "splits"]


def test_a_wave_whose_file_is_gone_is_spoken_of_and_stays(survey: Survey) -> None:
    survey.land("w1", GOOD)
    survey.land("w2", GOOD)
    assert removed_waves(survey.spec, survey.instance) == []
    (survey.spec.folder / "waves" / "w1.csv").unlink()
    (said,) = removed_waves(survey.spec, survey.instance)
    assert "wave w1 is gone; its answers stay in the data" in said and "Remedy: put it back" in said
    assert sorted(survey.instance.get_dynamic_partitions("snacks_wave")) == ["w1", "w2"]
    survey.instance.delete_dynamic_partition("snacks_wave", "w1")
    assert removed_waves(survey.spec, survey.instance) == []


@pytest.mark.parametrize("simulated", [True, False])
def test_every_asset_says_when_the_answers_are_no_real_people_s(survey: Survey, simulated: bool) -> None:
    assets = survey_assets(survey.spec.model_copy(update={"simulated": simulated}))
    specs = [
        spec for asset in assets for spec in ([asset] if isinstance(asset, dg.AssetSpec) else asset.specs)
    ]
    assert len(specs) == 9
    assert {"SIMULATED" in str(spec.description) for spec in specs} == {simulated}


def raw(survey: Survey, wave: str) -> VersionedStore:
    return VersionedStore(survey.lake, ["snacks", "raw_wave"], {"wave": wave})


def test_a_raw_wave_is_stored_unchanged_with_where_it_comes_from(survey: Survey) -> None:
    survey.land("w1", GOOD)
    file = survey.spec.folder / "waves" / "w1.csv"
    assert survey.run("raw_wave", wave="w1").success
    stored = raw(survey, "w1").resolve()
    assert (stored.folder / "w1.csv").read_bytes() == file.read_bytes()
    assert stored.manifest["rows"] == 92 and stored.manifest["unreadable"] is None
    assert stored.manifest["files"]["w1.csv"] == {
        "bytes": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    age = datetime.now(UTC) - datetime.fromisoformat(stored.manifest["received_at"])
    assert timedelta(0) <= age + timedelta(seconds=1) < timedelta(minutes=5)


def test_the_same_content_stored_again_is_the_same_version_and_other_content_another(survey: Survey) -> None:
    survey.land("w1", GOOD)
    survey.run("raw_wave", wave="w1")
    first = raw(survey, "w1").resolve()
    survey.run("raw_wave", wave="w1")
    assert raw(survey, "w1").resolve() == first
    survey.land("w1", BAD)
    survey.run("raw_wave", wave="w1")
    assert raw(survey, "w1").resolve().id != first.id
    assert (first.folder / "w1.csv").is_file()


def test_a_file_that_cannot_be_read_is_kept_and_its_wave_fails_and_says_what_is_wrong(survey: Survey) -> None:
    survey.land("w1", GOOD)
    assert survey.clean("w1").success
    good = survey.version("clean_wave", "w1")
    file = survey.spec.folder / "waves" / "w1.csv"
    file.write_text(file.read_text() + "one,cell,too,many\n")
    survey.observe()
    told, trace = _failure(survey.run("raw_wave", wave="w1"))
    stored = raw(survey, "w1").resolve()
    assert stored.manifest["rows"] is None and (stored.folder / "w1.csv").read_bytes() == file.read_bytes()
    assert trace is None and "w1.csv:94" in told and "the row has 4 cells and the header 3" in told
    assert survey.version("clean_wave", "w1") == good


def test_a_wave_whose_columns_are_gone_blocks_and_names_them(survey: Survey) -> None:
    survey.land("w1", GOOD)
    file = survey.spec.folder / "waves" / "w1.csv"
    file.write_text(file.read_text().replace("person,area,q1", "person,Area code,q1"))
    survey.observe()
    assert survey.run("raw_wave", wave="w1").success
    told, trace = _failure(survey.run("clean_wave", "quarantine", wave="w1"))
    assert trace is None and "'area'" in told and "Area code" in told
    assert survey.version("clean_wave", "w1") is None


def test_drift_between_waves_warns_and_blocks_nothing(survey: Survey) -> None:
    survey.land("w1", [n % 50 for n in range(400)])
    survey.land("w2", [50 + n % 50 for n in range(400)])
    for wave in ("w1", "w2"):
        assert survey.clean(wave).success
    assert survey.run("responses", "superseded").success
    result = survey.run("drift")
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed and check.severity == dg.AssetCheckSeverity.WARN and not check.blocking
    assert "first" in str(check.description)
    table = survey.lake.read_table(["snacks", "drift"])
    question = table[(table["kind"] == "question") & (table["measure"] == "wasserstein")]
    assert question["value"].tolist() == pytest.approx([50]) and question["drifted"].all()


@pytest.mark.parametrize("policy", ["panel", "keep first", "keep last"])
def test_the_same_people_with_the_same_answers_are_no_drift_whichever_wave_s_answers_count(
    survey: Survey, policy: Any
) -> None:
    duplicates = survey.spec.duplicates.model_copy(update={"across_waves": policy})
    survey.spec = survey.spec.model_copy(update={"duplicates": duplicates})
    people = [(f"p{n}", "Urban" if n % 3 else "Rural", n % 50) for n in range(400)]
    for wave in ("w1", "w2"):
        survey.land_people(wave, people + [(f"{wave}-{n}", "Urban", 99) for n in range(8)])
        assert survey.clean(wave).success
    assert survey.run("responses", "superseded").success
    result = survey.run("drift")
    assert result.success and all(check.passed for check in result.get_asset_check_evaluations())
    table = survey.lake.read_table(["snacks", "drift"])
    assert table["n_wave"].eq(408).all() and table["n_reference"].eq(408).all()
    assert np.allclose(table[["value", "low"]].astype(float), 0, atol=1e-12)
    assert set(table["measure"]) == {"psi", "wasserstein", "total_variation"}


def test_a_wave_that_was_taken_out_is_out_of_drift_too(survey: Survey) -> None:
    for wave in ("w1", "w2", "w3"):
        survey.land(wave, GOOD)
        assert survey.clean(wave).success
    survey.instance.delete_dynamic_partition("snacks_wave", "w2")
    assert survey.run("drift").success
    table = survey.lake.read_table(["snacks", "drift"])
    assert set(zip(table["wave"], table["reference_waves"], strict=True)) == {("w3", "w1")}


def test_a_wave_whose_demographic_is_in_codes_nobody_stated_blocks_and_says_which(survey: Survey) -> None:
    survey.land("w1", GOOD)
    file = survey.spec.folder / "waves" / "w1.csv"
    file.write_text(file.read_text().replace("Urban", "1"))
    survey.observe()
    assert survey.run("raw_wave", wave="w1").success
    result = survey.run("clean_wave", "quarantine", wave="w1")
    verdicts = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert verdicts == {
        "every_cell_accounted_for": True,
        "few_in_quarantine": True,
        "demographics_as_stated": False,
    }
    told, trace = _failure(result)
    assert trace is None and "living_area" in told and "92 of 92 people" in told
    assert len(survey.table("quarantine", "w1")) == 92 + 2  # and the two answers that are no numbers
    assert survey.version("clean_wave", "w1") is None


def test_a_wave_is_read_again_when_the_codebook_says_otherwise_how_its_file_is_to_be_read(
    survey: Survey,
) -> None:
    survey.land("w1", GOOD)
    file = survey.spec.folder / "waves" / "w1.csv"
    file.write_text(file.read_text().replace(",", ";"))
    survey.observe()
    assert survey.run("raw_wave", wave="w1").success
    told, _ = _failure(survey.run("clean_wave", "quarantine", wave="w1"))
    assert "missing" in told
    change = WaveChange(waves=("w1",), format=WaveFormat(delimiter=";"))
    survey.spec = survey.spec.model_copy(update={"waves": Waves(changes=(change,))})
    assert survey.run("clean_wave", "quarantine", wave="w1").success
    assert len(survey.table("clean_wave", "w1")) == 90


def test_a_person_whose_id_is_exported_with_a_decimal_point_is_the_same_person(survey: Survey) -> None:
    folder = survey.spec.folder / "waves"
    for wave, ending in (("w1", ""), ("w2", ".0")):
        rows = "".join(f"{n}{ending},Urban,{n}\n" for n in range(40))
        (folder / f"{wave}.csv").write_text("person,area,q1\n" + rows)
    survey.observe()
    for wave in ("w1", "w2"):
        assert survey.clean(wave).success
    assert survey.run("responses", "superseded").success
    responses = survey.lake.read_table(["snacks", "responses"])
    assert len(responses) == 80 and responses["participant"].nunique() == 40


def test_repeated_people_set_aside_by_the_stated_policy_do_not_stop_a_wave(survey: Survey) -> None:
    survey.land("w1", GOOD)
    file = survey.spec.folder / "waves" / "w1.csv"
    file.write_text(file.read_text() + "".join(f"w1-{n},Urban,50\n" for n in range(20)))
    survey.observe()
    assert survey.run("raw_wave", wave="w1").success
    assert survey.run("clean_wave", "quarantine", wave="w1").success
    assert len(survey.table("clean_wave", "w1")) == 90
    assert len(survey.table("quarantine", "w1")) == 20 + 2
