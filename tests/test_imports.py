"""What may be imported where: the science without Dagster, the definitions without the heavy libraries."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WITH_DAGSTER = (
    "assets.py",
    "wave_assets.py",
    "population_assets.py",
    "contrast_assets.py",
    "validation_assets.py",
    "contest_assets.py",
    "observed.py",
    "definitions.py",
    "automation.py",
    "gathering.py",
    "wave_sensor.py",
    "code_location.py",
)
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "catboost",
    "sklearn",
    "matplotlib",
    "scipy",
    "numba",
)


def science_modules() -> list[str]:
    """Every module of evsim_assets that must work in a notebook or under another orchestrator."""
    paths = [
        path
        for path in sorted((ROOT / "evsim_assets").rglob("*.py"))
        if path.name not in WITH_DAGSTER and "running" not in path.parts and path.name != "__main__.py"
    ]
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths
    ]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_science_imports_with_dagster_blocked() -> None:
    modules = science_modules()
    assert len(modules) > 30
    result = run(
        "import sys, importlib\n"
        "for name in ('dagster', 'dagster_webserver', 'evsim_resources'): sys.modules[name] = None\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
    )
    assert result.returncode == 0, result.stderr


def test_the_definitions_load_without_the_heavy_libraries() -> None:
    result = run(
        "import sys\nfrom evsim_assets.code_location import defs\n"
        f"print(','.join(m for m in {HEAVY!r} if m in sys.modules))\n"
        "print(len(list(defs.assets)))"
    )
    assert result.returncode == 0, result.stderr
    loaded, count = result.stdout.splitlines()[-2:]
    assert loaded == ""
    assert int(count) > 30
