"""An adapter's generations as numbers, temperature by temperature.

Belongs here: reading what was drawn, from a table or from Parquet files, without keeping its texts. Not
here: which human answers they are set against (`simulated.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Generations = pd.DataFrame | Sequence[Path]
"""The table of generations, or the Parquet files that hold it: files are read column by column, one
temperature at a time, and their texts only where an engine wrote every text."""

ENGINES = ("generate", "vllm")
"""What `made_by` says where an engine generated every text of a prompt, not only those in prose."""
_COLUMNS = ["prompt_id", "replicate", "answer", "success", "made_by"]


@dataclass(frozen=True)
class Drawn:
    """n generations: their prompt's row in a list of prompts, replicate, answer, and how they came about.

    `answer`: NaN for a failure. `decoded`: whether the text stands for the mass `no_number`, that is, for
    texts that do not begin with an answer.
    """

    prompt: Ints
    replicate: Ints
    answer: Floats
    decoded: Bools

    def of(self, prompts: Ints) -> Drawn:
        """Those of some `prompts` (rows of the list), numbered 0, 1, … in their order."""
        size = int(max(self.prompt.max(initial=-1), prompts.max(initial=-1))) + 1
        place = np.full(size, -1, dtype=np.int64)
        place[prompts] = np.arange(len(prompts))
        renamed = place[self.prompt]
        kept = renamed >= 0
        return Drawn(renamed[kept], self.replicate[kept], self.answer[kept], self.decoded[kept])


def drawn_at(generations: Generations, prompts: pd.DataFrame, temperature: float) -> Drawn:
    """The generations of `prompts` (prompt_id, labels) at one temperature; others are left out.

    A row stands for prose where it was decoded for it, and, where an engine generated every text, where
    the text does not begin with an answer.
    """
    if isinstance(generations, pd.DataFrame):
        return _from_frame(generations[generations["temperature"] == temperature], prompts)
    parts = [
        _from_arrow(table, prompts)
        for path in sorted(generations)
        for table in _tables_at(Path(path), temperature)
    ]
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Drawn(none, none, none.astype(float), none.astype(bool))
    if len(parts) == 1:
        return parts[0]
    columns = zip(*((p.prompt, p.replicate, p.answer, p.decoded) for p in parts), strict=True)
    return Drawn(*(np.concatenate(column) for column in columns))


def _from_frame(rows: pd.DataFrame, prompts: pd.DataFrame) -> Drawn:
    code, names = pd.factorize(rows["prompt_id"])
    prompt = pd.Index(prompts["prompt_id"]).get_indexer(pd.Index(names))[code]
    kept = prompt >= 0
    rows, prompt = rows[kept], prompt[kept]
    success = rows["success"].to_numpy(dtype=bool)
    answer = rows["answer"].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    decoded = (rows["made_by"] == "decode").to_numpy(dtype=bool, copy=True)
    written = np.flatnonzero(rows["made_by"].isin(ENGINES).to_numpy(dtype=bool))
    if len(written):
        texts = rows["text"].iloc[written]
        decoded[written] = ~_begins(texts, success[written], _labelled(prompts)[prompt[written]])
    return Drawn(
        prompt.astype(np.int64),
        rows["replicate"].to_numpy(dtype=np.int64),
        np.where(success, answer, np.nan),
        decoded,
    )


def _labelled(prompts: pd.DataFrame) -> Bools:
    return prompts["labels"].notna().to_numpy(dtype=bool)


def _begins(texts: pd.Series, success: Bools, labelled: Bools) -> Bools:
    """Whether each text begins with an answer: with the label that was found, or with a number."""
    number = texts.str.match(r"\s*[-\u2212]?[0-9]").to_numpy(dtype=bool, na_value=False)
    return np.asarray(np.where(labelled, success, number), dtype=bool)


def _tables_at(path: Path, temperature: float) -> list[pa.Table]:
    """The file's rows at the temperature, without texts where nothing must be known of them."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, read_dictionary=["prompt_id", "made_by"], memory_map=True) as file:
        groups = [g for g in range(file.num_row_groups) if _may_hold(file, g, temperature)]
        tables = []
        for group in groups:
            table = file.read_row_group(group, columns=[*_COLUMNS, "temperature"])
            at = pc.equal(table["temperature"], temperature)
            makers = pc.unique(table["made_by"]).to_pylist()
            if any(maker in ENGINES for maker in makers):
                table = table.append_column("text", file.read_row_group(group, columns=["text"])["text"])
            tables.append(table if pc.all(at).as_py() else table.filter(at))
    return tables


def _may_hold(file: Any, group: int, temperature: float) -> bool:
    """Whether a row group's statistics leave room for the temperature."""
    found = file.metadata.row_group(group)
    column = [
        found.column(k) for k in range(found.num_columns) if found.column(k).path_in_schema == "temperature"
    ]
    told = column[0].statistics if column else None
    if told is None or not told.has_min_max:
        return True
    return bool(told.min <= temperature <= told.max)


def _from_arrow(table: pa.Table, prompts: pd.DataFrame) -> Drawn:
    """As `_from_frame`, and by its means where texts must be looked at; no text becomes a Python object."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if "text" in table.column_names:
        return _from_frame(table.to_pandas(), prompts)
    ids = table["prompt_id"].combine_chunks()
    if not pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_encode()
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    names = pd.Index(ids.dictionary.to_pylist(), dtype=object)
    rows = pd.Index(prompts["prompt_id"].astype(object)).get_indexer(names)
    prompt = rows[ids.indices.to_numpy(zero_copy_only=False)]
    success = table["success"].combine_chunks().to_numpy(zero_copy_only=False)
    answer = pc.fill_null(pc.cast(table["answer"], pa.float64()), float("nan"))
    answer = np.where(success, answer.combine_chunks().to_numpy(zero_copy_only=False), np.nan)
    made_by = table["made_by"].combine_chunks()
    decoded = pc.equal(pc.cast(made_by, pa.string()), "decode").to_numpy(zero_copy_only=False)
    kept = prompt >= 0
    replicate = table["replicate"].to_numpy().astype(np.int64)
    return Drawn(prompt.astype(np.int64)[kept], replicate[kept], answer[kept], decoded.astype(bool)[kept])
