"""Opening the project's persistent Dagster instance: its configuration, and where its history is kept.

Belongs here: SQLite in the project's folder, or the Postgres that the environment names. Not here: what is
done with the instance (`session.py`).
"""

from __future__ import annotations

import os
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import dagster as dg
from upath import UPath

from evsim_assets.specs.errors import BadInput
from evsim_resources.lake import write_atomically

POSTGRES_URL = "EVSIM_POSTGRES_URL"
"""Environment variable: `postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE` of Dagster's history, one
database a project. It is read where Dagster connects, and written nowhere."""
SCHEME = "postgresql+psycopg2://"
"""The driver is named, for SQLAlchemy now takes another one than Dagster's where it is not."""
IN_POSTGRES = f"storage:\n  postgres:\n    postgres_url: {{env: {POSTGRES_URL}}}\n"


def open_at(home: Path) -> dg.DagsterInstance:
    """The instance in a folder, its `dagster.yaml` written on first use and when evsim's own has changed.

    Raises:
        BadInput: the history so far is kept elsewhere than the environment says; dagster-postgres is not
            installed; or Postgres does not answer.
    """
    home.mkdir(parents=True, exist_ok=True)
    config, wanted = home / "dagster.yaml", _configuration(home)
    if not config.exists() or config.read_bytes() != wanted:
        write_atomically(UPath(config), wanted)
    os.environ["DAGSTER_HOME"] = str(home)
    if os.environ.get(POSTGRES_URL):
        _require_answer(os.environ[POSTGRES_URL])
    return dg.DagsterInstance.from_config(str(home))


def _require_answer(url: str) -> None:
    """Connect once: Dagster itself tries for a while, and shows a long trace."""
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(url)
        engine.connect().close()
        engine.dispose()
    except sqlalchemy.exc.SQLAlchemyError as error:
        said = str(error).strip().split("\n")[0].replace(url, f"${POSTGRES_URL}")
        raise BadInput(
            f"Postgres cannot be used for Dagster's history: {said}",
            field=POSTGRES_URL,
            remedy="start the server, make the database (createdb), or mend the variable",
        ) from None  # its context could show the password


def _configuration(home: Path) -> bytes:
    """What `dagster.yaml` shall say."""
    wanted = bool(os.environ.get(POSTGRES_URL))
    if wanted and find_spec("dagster_postgres") is None:
        raise BadInput(
            "Dagster's history is to be in Postgres, and dagster-postgres is not installed",
            field=POSTGRES_URL,
            remedy="pip install 'evsim[postgres]', or unset the variable",
        )
    if wanted and not os.environ[POSTGRES_URL].startswith(SCHEME):
        raise BadInput(
            f"the variable does not begin with {SCHEME}",  # its value is a secret
            field=POSTGRES_URL,
            remedy=f"write {SCHEME}USER:PASSWORD@HOST:PORT/DATABASE",
        )
    config = home / "dagster.yaml"
    now = config.exists() and IN_POSTGRES in config.read_text(encoding="utf-8")
    if (now and not wanted) or (wanted and not now and (home / "history").exists()):
        # Going on with an empty history would run everything again.
        raise BadInput(
            f"Dagster's history of this project is in {'Postgres' if now else 'SQLite'}, and the environment"
            f" asks for {'Postgres' if wanted else 'SQLite'}",
            file=config,
            field=POSTGRES_URL,
            remedy=f"{'set' if now else 'unset'} the variable; or, to begin a new history in which everything"
            f" is run once more, move {home} away",
        )
    own = files("evsim_assets").joinpath("instance.yaml").read_bytes()
    return own + (IN_POSTGRES.encode() if wanted else b"")
