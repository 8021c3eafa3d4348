"""What every column of every stored table means, and where those of the measures come from.

Belongs here: reading `evsim_assets/columns.yaml`, and its words as Dagster's column schema and lineage. Not
here: the words themselves, what else an asset says (`outputs.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from ruamel.yaml import YAML

import evsim_assets

FILE = Path(evsim_assets.__file__).parent / "columns.yaml"
DEMOGRAPHIC = "<demographic>"
"""Stands for one column a demographic of the codebook."""
SAME = "$same"
"""In a lineage: the upstream column of the same name."""


@dataclass(frozen=True)
class TableWords:
    """What a table and its columns mean, in the columns' order.

    `sources`: column → the columns it is computed from, each as (asset of the same study, column). A column
    that comes from the study file alone has none.
    """

    about: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def of(self, column: str) -> str | None:
        """A column's words; where the table holds demographics, every column without words is one."""
        words = self.columns.get(column, self.columns.get(DEMOGRAPHIC))
        return words and words.replace("{demographic}", column.replace("_", " "))


@cache
def all_tables() -> dict[str, TableWords]:
    """The words of every stored table, by asset name.

    Raises:
        ValueError: the file describes a column twice, or not at all.
    """
    read = YAML(typ="safe").load(FILE.read_text(encoding="utf-8"))
    lists, shared = read["lists"], read["columns"]
    return {
        name: TableWords(
            table["about"],
            dict(_described(name, table["columns"], lists, shared)),
            dict(_sources(table.get("lineage", {}), lists)),
        )
        for name, table in read["tables"].items()
    }


def column_schema(table: str, kinds: Iterable[tuple[str, str]]) -> dg.TableSchema:
    """The schema of a table with columns of these (name, type): each with its words, where there are any.

    A table that nobody described has no words at all: the same name means another thing elsewhere.
    """
    words = all_tables().get(table, TableWords())
    return dg.TableSchema([dg.TableColumn(name, kind, words.of(name)) for name, kind in kinds])


def column_lineage(key: dg.AssetKey, columns: Iterable[str]) -> dg.TableColumnLineage | None:
    """From which columns of its study's assets each column comes; None where nothing is told of the table."""
    sources = all_tables().get(key.path[-1], TableWords()).sources
    if not sources:
        return None
    study = key.path[:-1]
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(dg.AssetKey([*study, asset]), name) for asset, name in sources[column]]
            for column in columns
            if column in sources
        }
    )


def _described(
    table: str, columns: Iterable[Any], lists: Mapping[str, list[str]], shared: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Each column's name and words."""
    seen: set[str] = set()
    for entry in columns:
        own = entry if isinstance(entry, dict) else {}
        for name in own or _named(entry, lists):
            words = own.get(name, shared.get(name))
            if words is None or name in seen:
                problem = "described twice" if name in seen else "not described"
                raise ValueError(f"{FILE.name}: column {name!r} of table {table!r} is {problem}")
            seen.add(name)
            yield name, words


def _sources(
    lineage: Mapping[str, str], lists: Mapping[str, list[str]]
) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    for names, told in lineage.items():
        upstream = [source.split(".", 1) for source in told.split()]
        for column in (column for name in re.split(r",\s*", names) for column in _named(name, lists)):
            yield column, tuple((asset, column if name == SAME else name) for asset, name in upstream)


def _named(entry: str, lists: Mapping[str, list[str]]) -> list[str]:
    """The names that an entry stands for: its own, or those of a `$list`."""
    return lists[entry[1:]] if entry.startswith("$") else [entry]
