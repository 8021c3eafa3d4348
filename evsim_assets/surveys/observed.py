"""What Dagster is told of the landing place: new, changed and removed wave files.

Belongs here: comparing landed files with what an instance has seen. Not here: when that happens
(`wave_sensor.py`), listing and taking files in (`landing.py`).
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.landing import (
    Landing,
    WaveFile,
    landed_waves,
    look_around,
    shown,
    unfinished_files,
)
from evsim_assets.surveys.landing_place import is_object_store
from evsim_assets.wave_sensor import LOOK_SECONDS, WavesSeen
from evsim_resources.records import DATA_VERSION

STAMP = "evsim/stamp"
"""Tag of an event of `wave_file`: how the file looked when its content was read."""

AT_ONCE = 200
"""New and changed waves of one look; Dagster needs up to 0.1 s to store each."""

HASHED_BYTES = 1 << 29
"""A larger file is known by its stamp, as hashing it would take longer than a look may."""

PAGE = 1000


@dataclass(frozen=True)
class Seen:
    """What Dagster knows of a wave: the version of its content, and stamps that this content had."""

    version: str
    stamps: frozenset[str]


@dataclass(frozen=True)
class Content:
    """What is in a wave's file: its version, and why it cannot be read, if it cannot."""

    version: str
    problem: str | None = None


def waves_partitions(survey: SurveySpec) -> dg.DynamicPartitionsDefinition:
    """The waves of a survey; the sensor and `evsim run` register new ones."""
    return dg.DynamicPartitionsDefinition(name=_partitions_name(survey))


def changed_waves(survey: SurveySpec, instance: dg.DagsterInstance) -> Iterator[dg.AssetMaterialization]:
    """An event of `wave_file` for every landed wave whose content Dagster has not seen.

    Takes the files as they are: for `evsim run`, where a person says that they are there.
    """
    seen, known = _seen(survey, instance), _known(survey, instance)
    for wave in landed_waves(survey):
        content = None if _is_as_before(wave, seen, known) else content_of(wave)
        if content and not (wave.wave in known and _version(wave, seen) == content.version):
            yield _event(survey, wave, content)


def look_for_waves(survey: SurveySpec, instance: dg.DagsterInstance, cursor: str | None) -> WavesSeen:
    """For the sensor: as `changed_waves`, but only what is complete, and no more than a look has time for.

    The cursor holds the stamps of files that are waited for, and, when there was nothing to do, a hash of
    everything that was looked at: as long as it stays, Dagster's history need not be read.
    """
    waiting, quiet = _remembered(cursor)
    landing, known = look_around(survey), _known(survey, instance)
    now = _digest(landing, known)
    warnings = _warnings(survey, landing, known)
    if now == quiet:
        return WavesSeen([], warnings, cursor or "")
    seen = _seen(survey, instance)
    look = _Look(survey, seen, known)
    for wave in sorted(landing.waves, key=lambda wave: _could_not_be_read(wave, seen)):
        if not _is_as_before(wave, seen, known):
            as_seen = wave.wave in seen and wave.stamp in seen[wave.wave].stamps
            complete = is_object_store(survey.landing) or as_seen or waiting.get(wave.wave) == wave.stamp
            look.take(wave) if complete else look.wait_for(wave)
    warnings += look.unread
    if look.postponed:
        warnings.append(f"{look.postponed} more new or changed waves are taken in the next looks")
    left: dict[str, Any] = {"waiting": look.waiting}
    if not (look.events or look.waiting or look.unread):
        left["quiet"] = now
    return WavesSeen(look.events, warnings, json.dumps(left))


class _Look:
    """One look of the sensor: takes waves as long as there is time."""

    def __init__(self, survey: SurveySpec, seen: Mapping[str, Seen], known: set[str]) -> None:
        self.survey, self.seen, self.known = survey, seen, known
        self.events: list[dg.AssetMaterialization | dg.AssetObservation] = []
        self.waiting: dict[str, str] = {}
        self.opened = self.postponed = 0
        self.unread: list[str] = []
        self._until = time.monotonic() + LOOK_SECONDS

    def wait_for(self, wave: WaveFile) -> None:
        """Leave the wave to the next look."""
        self.waiting[wave.wave] = wave.stamp

    def take(self, wave: WaveFile) -> None:
        """Report the wave if its content is new; later, if there is no time now."""
        if self.opened and (len(self.events) >= AT_ONCE or time.monotonic() > self._until):
            self.postponed += 1
            self.wait_for(wave)
            return
        self.opened += 1
        content = content_of(wave)
        if content is None:
            return
        if content.problem:
            self.unread.append(f"{wave.path}: {content.problem}; its raw_wave fails, the other waves go on")
        if wave.wave not in self.known or _version(wave, self.seen) != content.version:
            self.events.append(_event(self.survey, wave, content))
        elif content.problem is None:  # delivered again: looked at once, and nothing follows from it
            self.events.append(_unchanged(self.survey, wave, content))


def removed_waves(survey: SurveySpec, instance: dg.DagsterInstance) -> list[str]:
    """A sentence for each wave that is in the data and no longer in the landing place.

    It stays in the data: a folder may be gone for a moment (a network mount), people must not be.
    """
    return _removed(survey, look_around(survey), _known(survey, instance))


def content_of(wave: WaveFile) -> Content | None:
    """What is in the file now; None when it has gone."""
    if wave.problem is None and wave.bytes > HASHED_BYTES:
        return Content(f"large-{wave.stamp}")
    try:
        return Content(wave.sha256)
    except FileNotFoundError:
        return None
    except BadInput as error:
        return Content(f"unreadable-{wave.stamp}", error.problem)


def last_seen(survey: SurveySpec, instance: dg.DagsterInstance, wave: str) -> str | None:
    """The version of the wave's content that Dagster was told last."""
    only = dg.AssetRecordsFilter(asset_key=_key(survey), asset_partitions=[wave])
    for record in instance.fetch_materializations(only, limit=1).records:
        return _tags(record).get(DATA_VERSION)
    return None


def _warnings(survey: SurveySpec, landing: Landing, known: set[str]) -> list[str]:
    misnamed = landing.misnamed[:AT_ONCE]
    warnings = [*misnamed, *unfinished_files(survey, landing.unfinished), *_removed(survey, landing, known)]
    if len(landing.misnamed) > len(misnamed):
        warnings.append(f"{len(landing.misnamed) - len(misnamed)} more files cannot be taken")
    return warnings


def _removed(survey: SurveySpec, landing: Landing, known: set[str]) -> list[str]:
    gone = sorted(known - {wave.wave for wave in landing.waves})
    if gone and not landing.there:
        return [
            f"{survey.landing}: the place where waves land is not there, nor so the files of {shown(gone)};"
            " their answers stay in the data\n  Remedy: mount it, or see `waves.location` in survey.yaml"
        ]
    return [
        f"{survey.landing}: the file of wave {wave} is gone; its answers stay in the data"
        "\n  Remedy: put it back, or take the wave out for good (docs/codebook.md)"
        for wave in gone
    ]


def _partitions_name(survey: SurveySpec) -> str:
    return f"{survey.name}_wave"


def _key(survey: SurveySpec) -> dg.AssetKey:
    return dg.AssetKey([survey.name, "wave_file"])


def _known(survey: SurveySpec, instance: dg.DagsterInstance) -> set[str]:
    return set(instance.get_dynamic_partitions(_partitions_name(survey)))


def _remembered(cursor: str | None) -> tuple[dict[str, str], str | None]:
    left = json.loads(cursor or "{}")
    waiting = left.get("waiting")  # the cursor of an older version has other fields
    return (waiting if isinstance(waiting, dict) else {}), left.get("quiet")


def _digest(landing: Landing, known: set[str]) -> str:
    looks = [landing.there, [(wave.wave, wave.stamp) for wave in landing.waves], sorted(known)]
    return hashlib.sha256(json.dumps(looks).encode()).hexdigest()[:16]


def _seen(survey: SurveySpec, instance: dg.DagsterInstance) -> dict[str, Seen]:
    """What Dagster's history says of every wave.

    An observation says that a file that looks otherwise has the content that was there before.
    """
    latest = dict[str, dict[str, str]]()
    for record in _all(instance.fetch_materializations, _key(survey)):
        latest.setdefault(str(record.partition_key), _tags(record))  # they come newest first
    stamps = dict[str, set[str]]()
    for record in _all(instance.fetch_observations, _key(survey)):
        tags = _tags(record)
        if tags.get(DATA_VERSION) == latest.get(str(record.partition_key), {}).get(DATA_VERSION):
            stamps.setdefault(str(record.partition_key), set()).add(tags.get(STAMP, ""))
    return {
        wave: Seen(tags.get(DATA_VERSION, ""), frozenset({tags.get(STAMP, ""), *stamps.get(wave, ())} - {""}))
        for wave, tags in latest.items()
    }


def _all(fetch: Any, key: dg.AssetKey) -> Iterator[dg.EventLogRecord]:
    page = fetch(key, limit=PAGE)
    yield from page.records
    while page.has_more:
        page = fetch(key, limit=PAGE, cursor=page.cursor)
        yield from page.records


def _tags(record: dg.EventLogRecord) -> dict[str, str]:
    event = record.asset_materialization or record.asset_observation
    return dict(event.tags or {}) if event else {}


def _version(wave: WaveFile, seen: Mapping[str, Seen]) -> str | None:
    return seen[wave.wave].version if wave.wave in seen else None


def _could_not_be_read(wave: WaveFile, seen: Mapping[str, Seen]) -> bool:
    return (_version(wave, seen) or "").startswith("unreadable-")


def _is_as_before(wave: WaveFile, seen: Mapping[str, Seen], known: set[str]) -> bool:
    """Whether the file need not be opened. One that could not be read is tried each time."""
    return (
        wave.wave in known
        and wave.wave in seen
        and wave.stamp in seen[wave.wave].stamps
        and not _could_not_be_read(wave, seen)
    )


def _event(survey: SurveySpec, wave: WaveFile, content: Content) -> dg.AssetMaterialization:
    """The wave's content as it is now; everything downstream follows from its version."""
    return dg.AssetMaterialization(**_about(survey, wave, content))


def _unchanged(survey: SurveySpec, wave: WaveFile, content: Content) -> dg.AssetObservation:
    return dg.AssetObservation(**_about(survey, wave, content))


def _about(survey: SurveySpec, wave: WaveFile, content: Content) -> dict[str, Any]:
    metadata: dict[str, Any] = {"path": str(wave.path), "bytes": wave.bytes}
    return {
        "asset_key": _key(survey),
        "partition": wave.wave,
        "tags": {DATA_VERSION: content.version, STAMP: wave.stamp},
        "metadata": metadata | ({"problem": content.problem} if content.problem else {}),
    }
