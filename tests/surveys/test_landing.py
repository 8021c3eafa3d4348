"""The landing folder: what is read, what is refused, and that nothing refused harms what is there."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import Waves
from evsim_assets.surveys.landing import (
    add_wave,
    canonical_id,
    intervention_texts,
    landed_waves,
    misnamed_files,
    read_raw,
    require_columns,
    texts_hash,
)


def refused(content: bytes, **waves: str) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read_raw(content, Waves.model_validate(waves), "wave.csv")
    assert str(caught.value).startswith("wave.csv")
    assert caught.value.remedy is not None and caught.value.remedy in str(caught.value)
    return caught.value


def test_cells_are_text_exactly_as_they_stand() -> None:
    table = read_raw(b'id,a,b\r\n007,NA,"x, ""y""\nz"\r\n\r\n8, 1.50,\r\n', Waves(), "wave.csv")
    assert table.to_dict("list") == {"id": ["007", "8"], "a": ["NA", " 1.50"], "b": ['x, "y"\nz', ""]}


def test_a_byte_order_mark_and_blanks_around_names_are_no_part_of_the_header() -> None:
    table = read_raw("\ufeffid, name \n1,2\n".encode(), Waves(), "wave.csv")
    assert list(table.columns) == ["id", "name"]


def test_delimiter_and_encoding_are_the_codebook_s() -> None:
    table = read_raw("id;x\n1;é\n".encode("cp1252"), Waves(delimiter=";", encoding="cp1252"), "wave.csv")
    assert table["x"].tolist() == ["é"]


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(content: bytes) -> None:
    assert "empty" in refused(content).problem


def test_a_header_without_rows_is_refused() -> None:
    assert "no rows" in refused(b"id,a\n").problem


def test_a_wrong_encoding_is_refused_with_the_line_and_the_bytes() -> None:
    error = refused("id,a\n1,ok\n2,café\n".encode("latin-1"))
    assert (error.line, error.value) == (3, b"\xe9\n")
    assert "not utf-8" in error.problem and "waves.encoding" in str(error.remedy)


def test_bytes_that_are_no_utf_16_are_refused() -> None:
    assert "not utf-16" in refused(b"id,a\n1,22\n\n", encoding="utf-16").problem


def test_a_column_named_twice_is_refused() -> None:
    error = refused(b"id,a,a\n1,2,3\n")
    assert (error.line, error.value) == (1, "a")


@pytest.mark.parametrize(
    ("row", "cells"), [(b"3", ["3"]), (b"3,4,5", ["3", "4", "5"]), (b"3,4,", ["3", "4", ""])]
)
def test_a_row_of_another_length_is_refused_and_never_filled_up(row: bytes, cells: list[str]) -> None:
    error = refused(b'id,a\n1,"two\nlines"\n\n' + row + b"\n")
    assert (error.line, error.value) == (5, cells)
    assert f"{len(cells)} cells and the header 2" in error.problem
    assert "delimiter" in str(error.remedy)


def test_a_quote_that_never_closes_is_refused_on_its_line() -> None:
    error = refused(b'id,a\n1,x\n2,"y\n3,z\n')
    assert error.line == 3 and "quote" in str(error.remedy)


def test_missing_columns_are_all_named(make_survey: Any) -> None:
    survey = make_survey()
    raw = read_raw(b"person,area,home,q1,read2\n1,2,3,4,5\n", Waves(), "wave.csv")
    with pytest.raises(BadInput) as caught:
        require_columns(raw, survey, "wave.csv")
    message = str(caught.value)
    assert message.startswith("wave.csv:1: ")
    assert "'q2', 'q3', 'read3'" in message and "'area'" in message.split("got")[1]
    assert str(survey.folder / "survey.yaml") in message


def test_ids_that_a_spreadsheet_made_fractions_are_the_same_ids() -> None:
    pairs = {"78": "78", "78.0": "78", " 78.00 ": "78", "78.5": "78.5", "v1.0": "v1.0", "": ""}
    assert {given: canonical_id(given) for given in pairs} == pairs


def test_texts_are_read_by_canonical_id(make_survey: Any) -> None:
    survey = make_survey()
    (survey.folder / "texts.csv").write_text('id,text\n1.0," Eat, more "\n2,Less\n')
    texts = intervention_texts(survey)
    assert texts == {"1": "Eat, more", "2": "Less"}
    assert texts_hash(texts) == texts_hash({"2": "Less", "1": "Eat, more"})
    assert texts_hash(texts) != texts_hash({"1": "Eat, more", "2": "less"})


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
    (survey.folder / "waves" / "folder.csv").mkdir()
    assert [wave.wave for wave in landed_waves(survey)] == ["2024-01"]
    told = misnamed_files(survey)
    assert [name for name in ("2024-02.CSV", "My Wave.csv") for line in told if name in line] == [
        "2024-02.CSV",
        "My Wave.csv",
    ]
    assert len(told) == 2 and all("rename the file" in line for line in told)


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
