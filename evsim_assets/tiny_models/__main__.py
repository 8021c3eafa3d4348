"""`python -m evsim_assets.tiny_models`: writes the tiny models again, from nothing but their texts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evsim_assets.specs.errors import BadInput
from evsim_assets.tiny_models.material import read_material


def main(arguments: list[str] | None = None) -> int:
    """Build the models asked for; 2 if the input is bad."""
    parser = argparse.ArgumentParser(
        prog="python -m evsim_assets.tiny_models", description="Pre-train the tiny models."
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        default=Path("data/models/corpus.yaml"),
        help="what the models and their texts are made of (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/models"),
        help="where each model gets a folder of its name (default: %(default)s)",
    )
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="build these models, not all")
    parser.add_argument("--seed", type=int, default=0, help="seed of texts, weights and order (default: 0)")
    parser.add_argument("--documents", type=int, help="train on this many texts, for a try")
    options = parser.parse_args(arguments)
    try:
        material = read_material(options.corpus)
        for name in options.only or list(material.models):
            from evsim_assets.tiny_models.build import build

            build(material, name, options.out / name, seed=options.seed, documents=options.documents)
            print(f"wrote {options.out / name}")
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
