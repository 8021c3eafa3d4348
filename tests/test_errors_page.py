"""docs/errors.md says of every error of a survey what evsim says, and leaves none out."""

from __future__ import annotations

import ast
import re

import pytest

from docs.write_errors import PAGE, page
from evsim_assets.specs import yaml_file
from tests.errors.calls import LEFT_OUT, SOURCE, UNREACHABLE, Call, Made, error_calls, kind_of, watched
from tests.errors.quarantine import quarantined


@pytest.fixture(scope="module")
def tried() -> tuple[str, Made]:
    """The page as it would be written now, and what was made on the way."""
    with watched() as made:
        return page(), made


def is_excused(call: Call) -> bool:
    module = str(call.file.relative_to(SOURCE))
    return any(where == module and words in call.source for where, words in UNREACHABLE)


def test_the_page_shows_what_evsim_says_now(tried: tuple[str, Made]) -> None:
    """Mend with: python docs/write_errors.py."""
    assert PAGE.read_text(encoding="utf-8") == tried[0]


def test_every_error_that_the_source_can_make_is_made_by_a_situation(tried: tuple[str, Made]) -> None:
    """Mend with: a situation in tests/errors, or, if no input can lead there, a line in UNREACHABLE."""
    calls = error_calls()
    assert len(calls) > 100
    assert [str(call) for call in calls if not tried[1].reaches(call) and not is_excused(call)] == []


def test_errors_that_are_excused_exist_and_are_not_reached_after_all(tried: tuple[str, Made]) -> None:
    excused = [call for call in error_calls() if is_excused(call)]
    assert len(excused) == len(UNREACHABLE)
    assert [str(call) for call in excused if tried[1].reaches(call)] == []
    assert [module for module in LEFT_OUT if not (SOURCE / module).is_file()] == []


def test_every_reason_for_quarantine_that_cleaning_looks_for_has_an_example(tried: tuple[str, Made]) -> None:
    text, made = tried
    rows = quarantined()
    assert {kind_of(row.reason) for row in rows} == made.reasons
    shown = {kind_of(reason) for reason in re.findall(r"^\| (.+?) \|", text, flags=re.MULTILINE)}
    assert made.reasons <= shown


def test_every_leak_between_splits_is_in_the_message(tried: tuple[str, Made]) -> None:
    tree = ast.parse((SOURCE / "prompts" / "separation.py").read_text(encoding="utf-8"))
    keys = [key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
    problems = [key.value for key in keys if isinstance(key, ast.Constant)]
    assert len(problems) == 7
    assert [problem for problem in problems if str(problem) not in tried[0]] == []


def test_every_message_has_a_remedy_of_its_own(tried: tuple[str, Made]) -> None:
    messages = re.findall(r"^```console\n(.*?)\n```$", tried[0], flags=re.MULTILINE | re.DOTALL)
    assert len(messages) > 130
    assert [said for said in messages if said.count("\n  Remedy: ") < 1] == []
    assert yaml_file._READ_ON not in tried[0]
    assert [remedy for remedy in yaml_file._REMEDIES.values() if f"Remedy: {remedy}" not in tried[0]] == []


def test_titles_are_told_apart(tried: tuple[str, Made]) -> None:
    titles = re.findall(r"^##+ (.+)$", tried[0], flags=re.MULTILINE)
    assert len(titles) == len(set(titles))
