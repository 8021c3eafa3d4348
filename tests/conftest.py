"""Fixtures of all rooms: a fresh project folder with the repository's surveys and models."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A change is judged by the same cases each time; `--hypothesis-profile=default` looks for new ones.
settings.register_profile("same cases", derandomize=True)
settings.load_profile("same cases")

ROOT = Path(__file__).resolve().parents[1]
SHARED_SURVEYS = ROOT.parent / "shared" / "surveys"


@pytest.fixture
def project_folder(tmp_path: Path) -> Path:
    """A project of its own with the simulated survey, the tiny models and the small study."""
    (tmp_path / "data" / "studies").mkdir(parents=True)
    shutil.copytree(ROOT / "data" / "surveys" / "ev_shift", tmp_path / "data" / "surveys" / "ev_shift")
    (tmp_path / "data" / "models").symlink_to(ROOT / "data" / "models")
    shutil.copyfile(
        ROOT / "tests" / "chain" / "small_study.yaml", tmp_path / "data" / "studies" / "small.yaml"
    )
    return tmp_path
