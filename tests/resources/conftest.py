"""A lake of its own for every test, in a folder and in an object store's place."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from evsim_resources.lake import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(root=str(tmp_path / "lake"))


@pytest.fixture(params=["folder", "memory"])
def any_lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return Lake(root=str(tmp_path / "lake") if request.param == "folder" else f"memory://{uuid.uuid4().hex}")
