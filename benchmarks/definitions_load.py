"""How long the code location takes to load, beside importing Dagster alone.

    python benchmarks/definitions_load.py [--quick]

Each figure is the minimum of fresh interpreters, in turn; the last line is one JSON object. The claim
is the ratio: evsim's definitions cost little on top of Dagster's own import.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {
    "python": "pass",
    "dagster": "import dagster",
    "definitions": "from evsim_assets.code_location import defs; defs.get_repository_def()",
    "torch": "import torch",
}


def seconds(program: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two repeats instead of seven")
    repeats = 2 if parser.parse_args().quick else 7
    best = {name: min(seconds(program) for _ in range(repeats)) for name, program in PROGRAMS.items()}
    for name, took in best.items():
        print(f"{name:<12} {took:6.2f} s")
    ratio = best["definitions"] / best["dagster"]
    print(
        json.dumps({**{k: round(v, 3) for k, v in best.items()}, "definitions_over_dagster": round(ratio, 2)})
    )


if __name__ == "__main__":
    main()
