"""SPSS files (.sav, .zsav) as batches of text cells.

Belongs here: their raw codes and the labels of these. Not here: the other files with types
(`typed_files.py`), what a code means (`cleaning.py`).

The library that knows the format can end its process over a damaged file, so it has a process of its
own, which leaves the cells and labels in a Parquet file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evsim_assets.specs.waves import WaveFormat
from evsim_assets.surveys.text_files import Batch, Batches, rows_a_batch
from evsim_assets.surveys.typed_files import damaged, float_texts, head, parquet_batches, value_text

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = b"labels"
"""The key under which the Parquet file tells the labels: JSON, column → raw value → label."""


def sav_batches(path: Path, form: WaveFormat) -> Batches:
    """The rows of an SPSS file: raw codes, codes for missing answers included.

    Raises BadInput: not such a file, or damaged.
    """
    try:
        head(path)
    except OSError as error:
        raise damaged(path, "SPSS", error) from error
    with tempfile.TemporaryDirectory(prefix="spss-") as folder:
        stored = Path(folder) / "cells.parquet"
        reader = subprocess.run(
            [sys.executable, "-m", __name__, str(path), str(stored)], capture_output=True, text=True
        )
        if reader.returncode:
            said = reader.stderr.strip().splitlines()
            raise damaged(path, "SPSS", said[-1] if said else f"its reader ended with {reader.returncode}")
        labels = _labels_in(stored)
        for batch in parquet_batches(stored, form):
            yield Batch(batch.names, batch.columns, labels=labels)


def _labels_in(stored: Path) -> dict[str, dict[str, str]]:
    import pyarrow.parquet as pq

    labels: dict[str, dict[str, str]] = json.loads(pq.read_schema(stored).metadata[LABELS])
    return labels


def _store(path: Path, into: Path) -> None:
    """Write every column as text, and the labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pyreadstat

    _, about = pyreadstat.read_sav(path, metadataonly=True)
    names = about.column_names
    labels = {
        column: {str(value_text(value)).strip(): str(label) for value, label in values.items()}
        for column, values in about.variable_value_labels.items()
    }
    schema = pa.schema([pa.field(name, pa.string()) for name in names], metadata={LABELS: json.dumps(labels)})
    # Every call reads up to its first row again: fewer, larger batches than elsewhere.
    start, rows, size = 0, -1, 2 * rows_a_batch(len(names))
    with pq.ParquetWriter(into, schema, compression="zstd") as writer:
        while rows in (-1, size):
            columns, _ = pyreadstat.read_sav(
                path, row_offset=start, row_limit=size, user_missing=True, output_format="dict"
            )
            batch = pa.record_batch([_texts(columns[name]) for name in names], schema=schema)
            writer.write_batch(batch)
            rows = batch.num_rows
            start += rows


def _texts(values: list[Any]) -> pa.Array:
    """A column as text: floats alone, which Arrow writes faster, or texts and dates."""
    import pyarrow as pa

    if set(map(type, values)) == {float}:
        return float_texts(pa.array(values, pa.float64()))
    return pa.array([value_text(value) for value in values], pa.string())


if __name__ == "__main__":
    try:
        _store(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:  # noqa: BLE001 - a damaged file can make anything of its reader
        sys.exit(f"{type(error).__name__}: {str(error).replace(chr(10), ' ')}")
