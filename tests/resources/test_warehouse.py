"""SQL over the lake: every partition of every table, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from evsim_assets.definitions import build_definitions
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project
from evsim_assets.specs.study import StudySpec, read_study
from evsim_resources.lake import OF_A_SURVEY, Lake
from evsim_resources.warehouse import Warehouse, current


def filled(lake: Lake) -> Warehouse:
    for adapter, value, reason in (("s~lora", 1, None), ("s~qlora", 2.5, "no answers")):
        table = pd.DataFrame({"adapter": adapter, "value": [value, value * 10], "reason": [reason, reason]})
        lake.write_table(table, ["study", "metrics"], {"adapter": adapter})
        for temperature in ("0.0", "1.0"):
            where = {"adapter": adapter, "temperature": temperature}
            text = pd.DataFrame({"text": [f"{adapter} at {temperature}"]})
            lake.write_table(text, ["study", "generations"], where)
    lake.write_table(pd.DataFrame({"adapter": ["s~lora", "s~qlora"], "bits": [16, 4]}), ["study", "adapters"])
    lake.write_table(pd.DataFrame({"answer": [1, 2, 3]}), ["survey", "responses"])
    return Warehouse(lake=lake)


@pytest.fixture
def warehouse(any_lake: Lake) -> Warehouse:
    return filled(any_lake)


def test_tables_are_listed_with_their_partitions(warehouse: Warehouse) -> None:
    counted = {name: len(files) for name, files in warehouse.tables().items()}
    assert counted == {"study.adapters": 1, "study.generations": 4, "study.metrics": 2, "survey.responses": 1}


def test_a_join_sees_every_partition_in_types_that_hold_all(warehouse: Warehouse) -> None:
    result = warehouse.query(
        "SELECT bits, sum(value) AS total, max(reason) AS reason FROM study.metrics JOIN study.adapters"
        " USING (adapter) GROUP BY bits ORDER BY bits"
    )
    assert result["bits"].tolist() == [4, 16] and result["total"].tolist() == [27.5, 11]
    assert result["reason"][0] == "no answers" and pd.isna(result["reason"][1])


def test_what_only_folders_say_is_a_column(warehouse: Warehouse) -> None:
    result = warehouse.query(
        "SELECT adapter || ' at ' || temperature = text AS same FROM study.generations"
        " WHERE adapter = 's~lora'"
    )
    assert result["same"].tolist() == [True, True]


@pytest.mark.parametrize(
    "name", ['"survey"."responses"', 'survey."responses"', "survey . responses", "Survey.RESPONSES"]
)
def test_a_name_may_be_quoted_or_spaced(warehouse: Warehouse, name: str) -> None:
    assert warehouse.query(f"SELECT sum(answer) AS s FROM {name}")["s"].tolist() == [6]


def test_reading_in_other_words_is_allowed(warehouse: Warehouse) -> None:
    assert len(warehouse.query("FROM survey.responses")) == 3
    assert len(warehouse.query("WITH r AS (SELECT * FROM survey.responses) SELECT * FROM r LIMIT 2")) == 2
    described = warehouse.query("DESCRIBE study.metrics")
    assert described["column_type"].tolist() == ["VARCHAR", "DOUBLE", "VARCHAR"]
    assert len(warehouse.query("EXPLAIN SELECT 1")) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO survey.responses VALUES (1)",
        "DELETE FROM survey.responses",
        "DROP TABLE survey.responses",
        "CREATE TABLE t AS SELECT 1",
        "COPY (SELECT 1) TO '{file}'",
        "ATTACH '{file}'",
        "PRAGMA database_list",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "LOAD httpfs",
        "EXPORT DATABASE '{file}'",
        "CALL pragma_version()",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY (SELECT 1) TO '{file}'",
        "",
    ],
)
def test_anything_but_one_reading_statement_is_refused(lake: Lake, tmp_path: Path, sql: str) -> None:
    warehouse = filled(lake)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match="only one reading statement") as caught:
        warehouse.query(sql.format(file=tmp_path / "out"))
    assert "one SELECT" in str(caught.value.remedy)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(warehouse.query("FROM survey.responses")) == 3


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_parquet('{lake}/**')",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'",
        "SELECT * FROM 'https://example.org/x.csv'",
    ],
)
def test_no_file_and_no_network_can_be_reached(lake: Lake, tmp_path: Path, sql: str) -> None:
    with pytest.raises(BadInput, match="query failed"):
        filled(lake).query(sql.format(file=tmp_path / "out", lake=lake.root))
    assert not (tmp_path / "out").exists()


def test_python_s_own_tables_cannot_be_seen(warehouse: Warehouse) -> None:
    secret = pd.DataFrame({"x": [1]})
    with pytest.raises(BadInput, match="secret"):
        warehouse.query("SELECT * FROM secret")
    assert len(secret) == 1


def test_an_unknown_table_is_refused_with_those_there_are(warehouse: Warehouse) -> None:
    for sql in ("SELECT * FROM study.metric", "SELECT * FROM other.metrics", "SELECT * FROM metrics"):
        with pytest.raises(BadInput, match="does not exist") as caught:
            warehouse.query(sql)
        listed = "study.adapters, study.generations, study.metrics, survey.responses"
        assert listed in str(caught.value.remedy)


def test_wrong_sql_is_refused_with_what_is_wrong(warehouse: Warehouse) -> None:
    with pytest.raises(BadInput, match="SELEC"):
        warehouse.query("SELEC 1")
    with pytest.raises(BadInput, match="valu") as caught:
        warehouse.query("SELECT valu FROM study.metrics")
    assert "correct the SQL" in str(caught.value.remedy)


def test_a_table_that_cannot_be_read_is_named(lake: Lake) -> None:
    warehouse = filled(lake)
    lake.table_file(["survey", "responses"]).write_bytes(b"PAR1 no more")
    with pytest.raises(BadInput, match=r"survey\.responses cannot be read") as caught:
        warehouse.query("FROM survey.responses")
    assert "evsim run STUDY --only responses --again" in str(caught.value.remedy)
    assert len(warehouse.query("FROM study.adapters")) == 2


def test_only_the_tables_that_are_kept_are_offered(warehouse: Warehouse) -> None:
    tables = warehouse.tables()
    keep = {"survey.responses": tables["survey.responses"]}
    assert len(warehouse.query("FROM survey.responses", keep=keep)) == 3
    with pytest.raises(BadInput, match="does not exist"):
        warehouse.query("FROM study.metrics", keep=keep)


def test_an_empty_lake_answers_what_needs_no_table(tmp_path: Path) -> None:
    empty = Warehouse(lake=Lake(root=str(tmp_path / "none")))
    assert empty.tables() == {} and empty.query("SELECT 1 AS one")["one"].tolist() == [1]


STUDY = """
survey: people
title: A study
models: {s: {path: s}}
adapters:
  - {models: [s], method: lora}
temperatures: [0]
"""


def study_named(folder: Path, name: str) -> StudySpec:
    (folder / f"{name}.yaml").write_text(STUDY)
    return read_study(folder / f"{name}.yaml")


def test_what_a_study_has_no_more_is_not_offered(lake: Lake, tmp_path: Path) -> None:
    warehouse = filled(lake)
    for algorithm in ("random", "svr"):
        fits = pd.DataFrame({"algorithm": [algorithm]})
        lake.write_table(fits, ["study", "baseline_fits"], {"algorithm": algorithm})
    for wave in ("2021", "2022"):
        lake.write_table(pd.DataFrame({"answer": [1]}), ["survey", "clean_wave"], {"wave": wave})
    offered = current(warehouse.tables(), ["survey"], [study_named(tmp_path, "study")])
    told = warehouse.query("SELECT DISTINCT adapter, temperature FROM study.generations", keep=offered)
    assert told.to_numpy().tolist() == [["s~lora", "0.0"]]
    assert warehouse.query("FROM study.metrics", keep=offered)["adapter"].unique().tolist() == ["s~lora"]
    assert warehouse.query("FROM study.baseline_fits", keep=offered)["algorithm"].tolist() == ["random"]
    assert len(warehouse.query("FROM study.adapters", keep=offered)) == 2
    assert len(warehouse.query("FROM survey.clean_wave", keep=offered)) == 2


def test_tables_of_a_study_or_a_survey_that_is_gone_are_not_offered(lake: Lake, tmp_path: Path) -> None:
    """Both may have one name: then the study's go, and the survey's stay."""
    warehouse = filled(lake)
    lake.write_table(pd.DataFrame({"answer": [1]}), ["study", "responses"])
    assert set(current(warehouse.tables(), ["study"], [])) == {"study.responses"}
    assert "study.responses" not in current(warehouse.tables(), [], [study_named(tmp_path, "study")])
    lake.write_table(pd.DataFrame({"text": ["x"]}), ["other", "generations"], {"adapter": "s~qlora"})
    assert "other.generations" not in current(warehouse.tables(), [], [study_named(tmp_path, "other")])


def test_a_survey_s_tables_are_told_from_a_study_s(project_folder: Path) -> None:
    (project_folder / "data" / "studies" / "small.yaml").unlink()
    made = {
        key.path[-1]
        for asset in build_definitions(Project(project_folder)).assets or []
        for key in getattr(asset, "keys", [])
    }
    assert made == OF_A_SURVEY
