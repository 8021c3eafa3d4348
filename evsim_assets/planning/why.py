"""Why a node would run, in words that name the change: which wave, which field of which adapter.

Belongs here: turning a reason of `running/staleness.py` into what a person did or what arrived. Not here:
whether anything would run (`staleness.py`), what follows from it (`due.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg

    from evsim_assets.running.graph import Node
    from evsim_assets.running.staleness import Staleness
    from evsim_resources.records import Record

NEVER_MADE = "was never made"
LISTED = 3
"""Changed waves and fields beyond these are counted."""


def why(judge: Staleness, node: Node) -> str | None:
    """The change that makes the node missing or out of date; None where it is neither."""
    reason = judge.reason(node)
    if reason is None:
        return None
    if reason == "missing":
        return f"{node.name} {NEVER_MADE}"
    if reason == "its stored file is gone":
        return f"the stored file of {node.label} is gone"
    for key in node.keys:
        made = judge.records.latest(key, node.partition)
        if made is None:
            continue
        if made.code_version != judge.graph.specs[key].code_version:
            return _of_code(key.path[-1], made.code_version, judge.graph.specs[key].code_version)
        for dep, partitions in judge.graph.dependencies(node).items():
            if judge._changed(dep, partitions, made):
                return _of_input(judge, dep, partitions, made) or reason
    return reason


def _of_code(asset: str, then: str | None, now: str | None) -> str:
    """A code version is the version of the stage's code, a point, and a hash of the settings it uses."""
    old, new = (str(version).split(".")[0] for version in (then, now))
    if old != new:
        return f"evsim's code of {asset} changed (version {old} → {new})"
    return f"settings of {asset} in the study or codebook changed"


def _of_input(judge: Staleness, dep: dg.AssetKey, partitions: list[str | None], made: Record) -> str | None:
    name = dep.path[-1]
    if name == "adapter_spec":
        return _of_spec(judge, dep, str(partitions[0]), made)
    changed = list(_changed_partitions(judge, dep, partitions, made))
    if not changed or changed == [(None, False)]:
        return None
    one = "wave" if name in ("wave_file", "raw_wave", "clean_wave") else name
    what = "answers of " if name == "clean_wave" else "the file of " if name == "wave_file" else ""
    told = [f"{what}{one} {partition} {'arrived' if new else 'changed'}" for partition, new in changed]
    return _counted(told)


def _changed_partitions(
    judge: Staleness, dep: dg.AssetKey, partitions: list[str | None], made: Record
) -> Iterator[tuple[str | None, bool]]:
    """Those that hold other content than when `made` read them, and whether they are new since."""
    until = made.read_until.get(dep.to_user_string(), made.storage_id)
    for partition in partitions:
        now = judge.records.latest(dep, partition)
        then = judge.records.before(dep, partition, until)
        if now is not None and (then is None or then.data_version != now.data_version):
            yield partition, then is None


def _of_spec(judge: Staleness, dep: dg.AssetKey, adapter: str, made: Record) -> str:
    """Which fields of the adapter's line were edited; else what is observed besides."""
    instance = judge.graph.instance
    until = made.read_until.get(dep.to_user_string(), made.storage_id)
    now, then = _spec(instance, dep, adapter), _spec(instance, dep, adapter, until)
    if now is None or then is None:
        return f"the spec of adapter {adapter} changed"
    edits = [
        f"{field} of adapter {adapter} edited ({then.get(field)} → {now.get(field)})"
        for field in sorted({*now, *then})
        if now.get(field) != then.get(field)
    ]
    return _counted(edits) or f"the base model's files, seed or compute of adapter {adapter} changed"


def _spec(
    instance: dg.DagsterInstance, key: dg.AssetKey, adapter: str, until: int | None = None
) -> Mapping[str, Any] | None:
    """The adapter's line as it was observed last, up to that place in Dagster's history; flat."""
    import dagster as dg

    wanted = dg.AssetRecordsFilter(
        asset_key=key, asset_partitions=[adapter], before_storage_id=until + 1 if until is not None else None
    )
    found = instance.fetch_materializations(wanted, limit=1).records
    event = found[0].asset_materialization if found else None
    spec = event.metadata.get("spec") if event else None
    return dict(_flat(spec.value)) if isinstance(spec, dg.JsonMetadataValue) else None


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Fields by their last names, such as `learning_rate`: an adapter's line has no two alike."""
    if isinstance(value, Mapping):
        for field, inner in value.items():
            yield from _flat(inner, str(field))
    else:
        yield name, value


def _counted(told: list[str]) -> str:
    rest = len(told) - LISTED
    return "; ".join(told[:LISTED]) + (f"; and {rest} more" if rest > 0 else "")
