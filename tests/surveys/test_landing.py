"""The landing folder: what is read, what is refused, and that nothing refused harms what is there."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import read_survey
from evsim_assets.surveys.landing import (
    Intervention,
    add_wave,
    canonical_id,
    intervention_texts,
    landed_waves,
    misnamed_files,
    require_columns,
    texts_hash,
)
from evsim_assets.surveys.wave_assets import wave_assets
from tests.automation.watched import CODEBOOK


def test_missing_columns_are_all_named_with_the_nearest_that_are_there(make_survey: Any) -> None:
    survey = make_survey()
    with pytest.raises(BadInput) as caught:
        require_columns(["person", "area", "Home", "q1", "read2"], survey, "wave.csv")
    message = str(caught.value)
    assert message.startswith("wave.csv: 4 column(s)")
    assert "missing: 'home', 'q2', 'q3', 'read3';" in message
    assert "did you mean 'Home' for 'home', 'read2' for 'read3'?" in message
    assert str(survey.folder / "survey.yaml") in message
    require_columns(survey.raw_columns, survey, "wave.csv")


def test_ids_that_a_spreadsheet_made_fractions_are_the_same_ids() -> None:
    pairs = {"78": "78", "78.0": "78", " 78.00 ": "78", "78.5": "78.5", "v1.0": "v1.0", "": ""}
    assert {given: canonical_id(given) for given in pairs} == pairs


def test_texts_are_read_by_canonical_id(make_survey: Any) -> None:
    survey = make_survey()
    (survey.folder / "texts.csv").write_text('id,text\n1.0," Eat, more "\n2,\n')
    texts = intervention_texts(survey)
    assert texts == {"1": Intervention("Eat, more", {}), "2": Intervention("", {})}
    assert texts_hash(texts) == texts_hash(dict(reversed(texts.items())))
    assert texts_hash(texts) != texts_hash({**texts, "2": Intervention("more", {})})
    assert texts_hash(texts) != texts_hash({**texts, "2": Intervention("", {"author": "x"})})


@pytest.mark.parametrize("ending", ["tsv", "xlsx", "parquet"])
def test_texts_and_further_fields_come_from_a_table_of_any_form(make_survey: Any, ending: str) -> None:
    table = {"file": f"texts.{ending}", "id": "nr", "text": "words", "fields": {"author": "Who wrote"}}
    survey = make_survey(interventions=table)
    frame = pd.DataFrame({"nr": [1, 2], "words": ["Eat", "Drink"], "Who wrote": ["A", "B"]})
    path = survey.folder / f"texts.{ending}"
    if ending == "tsv":
        frame.to_csv(path, sep="\t", index=False)
    elif ending == "xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_parquet(path)
    assert intervention_texts(survey) == {
        "1": Intervention("Eat", {"author": "A"}),
        "2": Intervention("Drink", {"author": "B"}),
    }


def test_texts_may_stand_in_the_codebook_and_an_arm_may_have_none(make_survey: Any) -> None:
    survey = make_survey(interventions={"texts": {1: " Eat ", "control": None}})
    assert intervention_texts(survey) == {"1": Intervention("Eat", {}), "control": Intervention("", {})}
    with pytest.raises(BadInput, match="twice") as caught:
        intervention_texts(make_survey(interventions={"texts": {"1": "a", "1.0": "b"}}))
    assert caught.value.value == "1" and caught.value.file == survey.folder / "survey.yaml"


def test_a_survey_without_interventions_has_no_texts(make_survey: Any) -> None:
    questions = [{"id": "q", "scale": {"low": 0, "high": 1}, "columns": [{"answer": "q1"}]}]
    assert intervention_texts(make_survey(interventions=None, questions=questions)) == {}


@pytest.mark.parametrize(
    ("content", "value", "problem"),
    [
        (None, None, "not there"),
        ("id,txt\n1,a\n", "text", "lacks a column"),
        ("id,text\n1,a\n1.0,b\n", "1", "twice"),
    ],
)
def test_a_wrong_table_of_texts_is_refused(
    make_survey: Any, content: str | None, value: str | None, problem: str
) -> None:
    survey = make_survey()
    if content is not None:
        (survey.folder / "texts.csv").write_text(content)
    with pytest.raises(BadInput, match=problem) as caught:
        intervention_texts(survey)
    assert caught.value.file == survey.folder / "texts.csv"
    assert caught.value.value == value and caught.value.remedy


def test_waves_are_found_by_name_and_unfinished_ones_are_not_there_yet(make_survey: Any) -> None:
    survey = make_survey()
    for name in ("2024-02.csv", "2024-01.csv", ".2024-03.csv.tmp", ".hidden.csv", "notes.txt"):
        (survey.folder / "waves" / name).write_text("x")
    assert [wave.wave for wave in landed_waves(survey)] == ["2024-01", "2024-02"]


def test_a_file_whose_name_cannot_be_a_wave_s_is_named_and_the_others_are_taken(make_survey: Any) -> None:
    survey = make_survey()
    for name in ("2024-01.csv", "My Wave.csv", "2024-02.CSV", ".2024-03.csv.tmp", "notes.txt"):
        (survey.folder / "waves" / name).write_text("x")
    (survey.folder / "waves" / "A folder.csv").mkdir()
    assert [wave.wave for wave in landed_waves(survey)] == ["2024-01"]
    told = misnamed_files(survey)
    assert [name for name in ("2024-02.CSV", "My Wave.csv") for line in told if name in line] == [
        "2024-02.CSV",
        "My Wave.csv",
    ]
    assert len(told) == 2 and all("rename the file" in line for line in told)


SEVERAL_FORMS = {"changes": [{"waves": ["2024-1*"], "format": {"format": "excel"}}]}


def test_waves_may_differ_in_format_and_a_file_of_another_is_told(make_survey: Any) -> None:
    survey = make_survey(waves=SEVERAL_FORMS)
    for name in ("2024-01.csv", "2024-10.xlsx", "2024-02.xlsx", "2024-11.csv", "2024-12.xls", "x.parquet"):
        (survey.folder / "waves" / name).write_text("x")
    assert [wave.path.name for wave in landed_waves(survey)] == ["2024-01.csv", "2024-10.xlsx"]
    told = misnamed_files(survey)
    assert [Path(line.split(": ")[0]).name for line in told] == ["2024-02.xlsx", "2024-11.csv", "2024-12.xls"]
    assert ".csv" in told[0] and ".xlsx" in told[1] and "save it as .xlsx" in told[2]
    assert all("waves.changes" in line for line in told)


def test_of_two_files_of_one_wave_neither_is_taken(make_survey: Any) -> None:
    survey = make_survey(waves={"format": "tsv"})
    for name in ("2024-01.tsv", "2024-01.txt", "2024-02.tab"):
        (survey.folder / "waves" / name).write_text("x")
    assert [wave.wave for wave in landed_waves(survey)] == ["2024-02"]
    told = misnamed_files(survey)
    assert len(told) == 2 and all("2024-01.tsv and 2024-01.txt" in line for line in told)


def test_an_added_wave_keeps_its_ending_and_replaces_the_wave_with_another(
    make_survey: Any, tmp_path: Path
) -> None:
    survey = make_survey(waves={"format": "tsv"})
    for name in ("W.TXT", "w.tab"):
        (tmp_path / name).write_text("same")
    first = add_wave(survey, tmp_path / "W.TXT").path
    assert first.name == "w.txt"
    with pytest.raises(BadInput, match="already there") as caught:
        add_wave(survey, tmp_path / "w.tab")
    assert caught.value.file == first
    second = add_wave(survey, tmp_path / "w.tab", replace=True).path
    assert [path.name for path in first.parent.iterdir()] == [second.name] == ["w.tab"]


def test_a_file_of_another_format_than_its_wave_s_is_not_added(make_survey: Any, tmp_path: Path) -> None:
    survey = make_survey(waves=SEVERAL_FORMS)
    (tmp_path / "2024-10.csv").write_text("x")
    with pytest.raises(BadInput, match=r"ending in \.xlsx") as caught:
        add_wave(survey, tmp_path / "2024-10.csv")
    assert caught.value.file == tmp_path / "2024-10.csv"
    assert list((survey.folder / "waves").iterdir()) == []


def test_what_has_the_name_of_a_wave_and_is_no_file_is_a_wave_with_a_problem(make_survey: Any) -> None:
    survey = make_survey()
    (survey.folder / "waves" / "2024-01.csv").mkdir()
    (survey.folder / "waves" / "2024-02.csv").symlink_to("nowhere")
    first, second = landed_waves(survey)
    assert first.problem == "not a file but a folder" and "leads nowhere" in str(second.problem)
    for wave in (first, second):
        with pytest.raises(BadInput, match="cannot be read") as caught:
            wave.fetched(survey.folder)
        assert caught.value.file == wave.path and caught.value.remedy


def test_a_stamp_changes_with_content_time_and_rights_and_with_nothing_else(make_survey: Any) -> None:
    survey = make_survey()
    file = survey.folder / "waves" / "w.csv"
    file.write_text("one")
    stamps = [landed_waves(survey)[0].stamp]
    assert landed_waves(survey)[0].stamp == stamps[0]
    about = file.stat()
    for change in (
        lambda: file.write_text("three"),
        lambda: file.write_text("other"),
        lambda: file.chmod(0o600),
    ):
        time.sleep(0.02)  # coarser than the clock of any file system in use
        change()
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))  # as `cp -p` and `rsync -t` do
        stamps.append(landed_waves(survey)[0].stamp)
    assert len(set(stamps)) == 4


@pytest.mark.parametrize(
    ("written", "lands"),
    [
        (None, "{folder}/waves"),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ({"location": "abfs://box@account.dfs.core.windows.net/in", "format": "tsv"}, None),
        ("file:///srv/in", "/srv/in"),
        ("/srv/in", "/srv/in"),
        ("in", "{folder}/in"),
    ],
)
def test_a_codebook_says_where_waves_land(make_survey: Any, written: Any, lands: str | None) -> None:
    survey = make_survey(**({} if written is None else {"waves": written}))
    expected = lands.format(folder=survey.folder) if lands else written["location"]
    assert str(survey.landing) == expected
    assert isinstance(survey.landing, str) == ("://" in expected)


@pytest.mark.parametrize(
    "waves",
    [
        "s3://me:hunter2@bucket/in",
        "s3://bucket/in?secret=hunter2",
        "https://store/in#hunter2",
        "{location: s3://bucket/in, secret: hunter2}",
        "{location: s3://bucket/in, storage_options: {key: hunter2}}",
        "{location: s3://bucket/in, client_kwargs: {password: hunter2}}",
    ],
)
def test_credentials_in_a_codebook_are_refused_and_not_repeated(tmp_path: Path, waves: str) -> None:
    (tmp_path / "snacks").mkdir()
    (tmp_path / "snacks" / "survey.yaml").write_text(CODEBOOK.format(waves=f"waves: {waves}"))
    with pytest.raises(BadInput) as caught:
        read_survey(tmp_path / "snacks")
    assert caught.value.line == 5 and str(caught.value.field).startswith("waves")
    assert "environment" in str(caught.value.remedy) and "hunter2" not in str(caught.value)


def test_where_waves_land_is_no_part_of_what_they_mean(make_survey: Any) -> None:
    def versions(survey: Any) -> dict[str, str | None]:
        specs = [spec for asset in wave_assets(survey)[1:] for spec in asset.specs]
        return {spec.key.to_user_string(): spec.code_version for spec in specs}

    assert versions(make_survey(waves="memory://in")) == versions(make_survey())
    assert versions(make_survey(waves={"format": "tsv"})) != versions(make_survey())


def test_a_landing_folder_that_is_not_there_has_no_waves(make_survey: Any) -> None:
    survey = make_survey()
    (survey.folder / "waves").rmdir()
    assert landed_waves(survey) == [] and misnamed_files(survey) == []


def test_adding_a_wave_takes_the_texts_along_once(make_survey: Any, tmp_path: Path) -> None:
    survey, outside = make_survey(), tmp_path / "outside"
    outside.mkdir()
    (outside / "Wave-1.csv").write_text("person\n1\n")
    (outside / "texts.csv").write_text("id,text\n1,a\n")
    wave = add_wave(survey, outside / "Wave-1.csv")
    assert wave.wave == "wave-1" and wave.path.read_text() == "person\n1\n"
    assert (survey.folder / "texts.csv").read_text() == "id,text\n1,a\n"
    (outside / "texts.csv").write_text("id,text\n1,other\n")
    assert add_wave(survey, outside / "Wave-1.csv").sha256 == wave.sha256
    assert (survey.folder / "texts.csv").read_text() == "id,text\n1,a\n"


def test_other_content_under_a_taken_name_is_refused_unless_it_replaces(
    make_survey: Any, tmp_path: Path
) -> None:
    survey, source = make_survey(), tmp_path / "w.csv"
    source.write_text("one")
    target = add_wave(survey, source).path
    source.write_text("two")
    with pytest.raises(BadInput, match="other content") as caught:
        add_wave(survey, source)
    assert caught.value.file == target and "--replace" in str(caught.value.remedy)
    assert target.read_text() == "one"
    add_wave(survey, source, replace=True)
    assert target.read_text() == "two"


def test_a_full_disk_leaves_the_old_wave_and_no_part_of_the_new_one(
    make_survey: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey, source = make_survey(), tmp_path / "w.csv"
    source.write_text("one")
    target = add_wave(survey, source).path
    source.write_text("two")

    def half_a_copy(_: Path, to: Path) -> None:
        to.write_text("t")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", half_a_copy)
    with pytest.raises(BadInput, match="No space left") as caught:
        add_wave(survey, source, replace=True)
    assert caught.value.file == target and "free space" in str(caught.value.remedy)
    assert target.read_text() == "one"
    assert [p.name for p in target.parent.iterdir()] == ["w.csv"]


@pytest.mark.parametrize(("name", "problem"), [("absent.csv", "no such file"), ("a b.csv", "may hold only")])
def test_a_file_that_cannot_be_added_is_refused(
    make_survey: Any, tmp_path: Path, name: str, problem: str
) -> None:
    if name != "absent.csv":
        (tmp_path / name).write_text("x")
    with pytest.raises(BadInput, match=problem) as caught:
        add_wave(make_survey(), tmp_path / name)
    assert caught.value.file == tmp_path / name and caught.value.remedy
