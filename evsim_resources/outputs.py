"""How an asset says what it made: data version, row counts, schema, a preview, plots.

Belongs here: Dagster metadata of tables and versions. Not here: computing anything shown.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import dagster as dg
import pandas as pd
import pyarrow.parquet as pq
from pydantic import BaseModel

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec
from evsim_resources.columns import column_lineage, column_schema
from evsim_resources.compute import failure
from evsim_resources.lake import content_hash
from evsim_resources.tables import NewTable

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

OWNERS = ["team:evsim"]
PREVIEW_ROWS = 5
LISTED = 8
"""Longer lists in a table's cell are counted, not shown."""
SIMULATED = "SIMULATED answers, no real people."


def about(text: str, survey: SurveySpec) -> str:
    """An asset's description: `text`, and that the survey's answers are simulated where they are."""
    return f"{text} {SIMULATED}" if survey.simulated else text


def table_output(
    table: pd.DataFrame, *, output_name: str = "result", **metadata: Any
) -> dg.Output[pd.DataFrame]:
    """A table as an output whose data version is its content.

    Within a step its columns are described by the words of its asset (`columns.py`); elsewhere by none.
    """
    return dg.Output(
        table,
        output_name,
        data_version=dg.DataVersion(content_hash(table)),
        metadata=describe(table, _asset_here(output_name)) | metadata,
    )


def table_file_output(path: Path, *, output_name: str = "result", **metadata: Any) -> dg.Output[NewTable]:
    """A Parquet file in scratch as an output that becomes the asset's table, never loaded whole.

    Yield it within the block that owns the file, since the file is moved before the asset goes on;
    returned, the block ends first and the output is refused:

        with lake.scratch() as folder:
            ...
            yield table_file_output(folder / "prompts.parquet")

    The data version is the SHA-256 of the file's bytes. DuckDB writes equal bytes for equal rows in
    equal order with equally many threads; rows in another order are another table, as they are for
    `table_output`, and joins and groups have no order until they are sorted by something unique.
    Another version of DuckDB, or another number of threads, may write the same rows in other bytes:
    what lies downstream is then made anew, once, to no harm but its time.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return dg.Output(
        NewTable(path),
        output_name,
        data_version=dg.DataVersion(digest),
        metadata=describe_file(path, _asset_here(output_name)) | metadata,
    )


def describe_file(path: Path, key: dg.AssetKey | None = None) -> dict[str, Any]:
    """As `describe`, of a Parquet file: from its footer, and from the head of its first row group."""
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
        kinds = [(field.name, str(field.type)) for field in file.schema_arrow]
        heads = file.iter_batches(PREVIEW_ROWS, row_groups=range(min(1, file.num_row_groups)))
        head = next(heads, None)
        shown = file.schema_arrow.empty_table() if head is None else head
        return {
            "dagster/row_count": file.metadata.num_rows,
            **_columns(kinds, key),
            "preview": dg.MetadataValue.md(_markdown(shown.to_pandas(integer_object_nulls=True))),
        }


def describe(table: pd.DataFrame, key: dg.AssetKey | None = None) -> dict[str, Any]:
    """Row count, columns and a preview, for the UI.

    Args:
        key: the table's asset: its columns are described, and those of measures have a lineage.
    """
    return {
        "dagster/row_count": len(table),
        **_columns([(str(name), str(kind)) for name, kind in table.dtypes.items()], key),
        "preview": dg.MetadataValue.md(_markdown(table.head(PREVIEW_ROWS))),
    }


def _asset_here(output_name: str) -> dg.AssetKey | None:
    """The asset that the step now running makes as this output; None outside of a step."""
    try:
        context = dg.AssetExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None
    return context.asset_key_for_output(output_name)


def _columns(kinds: list[tuple[str, str]], key: dg.AssetKey | None) -> dict[str, Any]:
    """Names, types and words of columns, and where they come from."""
    told: dict[str, Any] = {"dagster/column_schema": column_schema(key.path[-1] if key else "", kinds)}
    lineage = column_lineage(key, [name for name, _ in kinds]) if key else None
    return told | ({} if lineage is None else {"dagster/column_lineage": lineage})


def markdown(table: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """A small table, whole."""
    return dg.MetadataValue.md(_markdown(table))


def picture(png: bytes, alternative: str) -> dg.MarkdownMetadataValue:
    """A plot shown inline in the UI."""
    encoded = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{alternative}](data:image/png;base64,{encoded})")


def warning_check(name: str, *, passed: bool, words: str | None, **numbers: Any) -> dg.AssetCheckResult:
    """A check that warns and blocks nothing: why, in words, and the numbers it went by."""
    return dg.AssetCheckResult(
        check_name=name,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=words,
        metadata=numbers,
    )


def spec_hash(*parts: Any) -> str:
    """Twelve hex digits that change when any of the specs does; for code versions."""

    def plain(part: Any) -> Any:
        return part.model_dump(mode="json") if isinstance(part, BaseModel) else part

    text = json.dumps([plain(part) for part in parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def refusing(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Call `function`; a BadInput becomes a failure of the step that is never retried."""
    try:
        return function(*args, **kwargs)
    except BadInput as error:
        raise failure(error) from error


def _markdown(table: pd.DataFrame) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.4g}"
        if hasattr(value, "__len__") and not isinstance(value, str) and len(value) > LISTED:
            return f"{len(value)} values"
        text = str(value).replace("|", "\\|").replace("\n", " ")
        return text if len(text) <= 80 else text[:79] + "…"

    head = "| " + " | ".join(map(str, table.columns)) + " |"
    rule = "|" + "---|" * len(table.columns)
    body = ["| " + " | ".join(cell(v) for v in row) + " |" for row in table.itertuples(index=False)]
    return "\n".join([head, rule, *body])


def counts_metadata(counts: Mapping[Any, int]) -> dict[str, Any]:
    """Counts, one metadata entry each."""
    return {str(name): int(value) for name, value in counts.items()}
