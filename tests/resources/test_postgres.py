"""Dagster's history in a real Postgres: what several processes record at once, and what is refused."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evsim_assets.running.instance import POSTGRES_URL, open_at
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project
from tests.chain.command_line import evsim_in, partitions_made
from tests.resources.postgres_server import binaries, postgres

PASSWORD = "open-sesame"
needs_a_server = [
    pytest.mark.slow,
    pytest.mark.skipif(
        binaries() is None, reason="no Postgres server is installed (apt-get install postgresql)"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("dagster_postgres") is None,
        reason="dagster-postgres is not installed (pip install 'evsim[postgres]')",
    ),
]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with postgres(PASSWORD) as found:
        monkeypatch.setenv(POSTGRES_URL, found)
        yield found


def counted(url: str, query: str) -> int:
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        result = int(connection.execute(sqlalchemy.text(query)).scalar_one())
    engine.dispose()
    return result


class TestAServer:
    pytestmark = needs_a_server

    def test_runs_of_several_processes_at_once_are_all_in_postgres_and_nothing_is_in_sqlite(
        self, project_folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert partitions_made(evsim_in(project_folder, "run", "small", "--only", "raw_wave")) == {
            "raw_wave": 2
        }
        home = Project(project_folder).dagster_home
        # A process of Dagster's own beside the two of `evsim run`
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        select = ["--select", 'key:"ev_shift/raw_wave"', "--partition", "2021-11"]
        dagster = [sys.executable, "-m", "dagster", "asset", "materialize"]
        with subprocess.Popen(
            [*dagster, "-m", "evsim_assets.code_location", *select],
            cwd=project_folder,
            stderr=subprocess.PIPE,
            text=True,
        ) as beside:
            second = evsim_in(project_folder, "run", "small", "--only", "clean_wave")
            assert beside.wait(120) == 0, beside.stderr.read()  # type: ignore[union-attr]
        assert partitions_made(second) == {"clean_wave": 2}
        assert counted(url, "SELECT count(*) FROM runs WHERE status = 'SUCCESS'") == 5
        assert counted(url, "SELECT count(*) FROM runs") == 5
        query = "SELECT count(DISTINCT run_id) FROM event_logs WHERE run_id <> '' AND dagster_event_type ="
        assert counted(url, f"{query} 'ASSET_MATERIALIZATION'") == 5
        assert (
            partitions_made(evsim_in(project_folder, "run", "small", "--only", "raw_wave,clean_wave")) == {}
        )
        assert not list(project_folder.rglob("*.db")) and not list(project_folder.rglob("*.sqlite"))
        written = [path for path in home.rglob("*") if path.is_file()]
        assert written and not any(PASSWORD.encode() in path.read_bytes() for path in written)
        monkeypatch.delenv(POSTGRES_URL)
        with pytest.raises(BadInput, match="in Postgres, and the environment asks for SQLite"):
            open_at(home)

    def test_a_server_that_does_not_let_one_in_is_one_error_without_the_password(
        self, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for wrong, said in (
            (url.replace(PASSWORD, "secret-word"), "password authentication failed"),
            (url.replace("/postgres", "/nowhere"), 'database "nowhere" does not exist'),
            ("postgresql+psycopg2://evsim:secret-word@127.0.0.1:1/x", "Connection refused"),
            ("postgresql://evsim:secret-word@127.0.0.1:1/x", "does not begin with postgresql+psycopg2://"),
        ):
            monkeypatch.setenv(POSTGRES_URL, wrong)
            with pytest.raises(BadInput) as caught:
                open_at(tmp_path / "home")
            assert said in str(caught.value)
            assert "secret-word" not in str(caught.value) and PASSWORD not in str(caught.value)


def test_without_the_driver_postgres_is_refused_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POSTGRES_URL, "postgresql+psycopg2://h/d")
    monkeypatch.setattr("evsim_assets.running.instance.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="not installed") as caught:
        open_at(tmp_path)
    assert "pip install 'evsim[postgres]'" in str(caught.value.remedy)
    assert list(tmp_path.iterdir()) == []


def test_a_history_in_sqlite_is_not_left_behind_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_postgres", reason="dagster-postgres is not installed")
    monkeypatch.setenv("DAGSTER_HOME", os.environ.get("DAGSTER_HOME", ""))  # restored at the end
    monkeypatch.delenv(POSTGRES_URL, raising=False)
    open_at(tmp_path).dispose()
    before = (tmp_path / "dagster.yaml").read_bytes()
    monkeypatch.setenv(POSTGRES_URL, "postgresql+psycopg2://h/d")
    with pytest.raises(BadInput, match="in SQLite, and the environment asks for Postgres"):
        open_at(tmp_path)
    assert (tmp_path / "dagster.yaml").read_bytes() == before
