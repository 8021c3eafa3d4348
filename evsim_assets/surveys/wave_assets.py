"""Dagster assets of a survey's single waves: raw waves, clean waves, quarantine.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation, what
there is of all waves together (`population_assets.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.automation import cheap
from evsim_assets.durable import fingerprint
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.cleaning import QUARANTINE_LIMIT, clean_wave
from evsim_assets.surveys.landing import (
    WaveFile,
    intervention_texts,
    interventions_version,
    landed_waves,
)
from evsim_assets.surveys.landing_place import named
from evsim_assets.surveys.observed import last_seen, waves_partitions
from evsim_assets.surveys.reading import read_cells
from evsim_resources.compute import failure
from evsim_resources.lake import DIMENSION, Lake
from evsim_resources.outputs import (
    OWNERS,
    about,
    counts_metadata,
    markdown,
    refusing,
    spec_hash,
    table_file_output,
)
from evsim_resources.versions import VersionedStore

VERSION = "2"
CELLS = "cells.parquet"
"""The name of a raw file's cells, beside it in its version."""


def wave_assets(survey: SurveySpec) -> list[Any]:
    """The assets of every wave, keyed `[<survey>, <asset>]`."""
    waves = waves_partitions(survey)
    said = about(f"{survey.title}.", survey)
    common: dict[str, Any] = {"group_name": survey.name, "owners": OWNERS}
    by_wave = {DIMENSION: "wave"}
    form = spec_hash(
        survey.waves.model_dump(exclude={"changes", "location"}), [c.format for c in survey.waves.changes]
    )
    of_wave: dict[str, Any] = {
        "metadata": by_wave,
        "kinds": {"parquet"},
        "owners": OWNERS,
        "automation_condition": cheap(),
        "code_version": f"{VERSION}.{_meaning(survey)}",
    }

    wave_file = dg.AssetSpec(
        survey_key(survey, "wave_file"),
        partitions_def=waves,
        kinds={"csv" if survey.waves.format == "csv" else "file"},
        **common,
        description=f"A raw file where waves land, observed by its SHA-256. {said}",
    )

    @dg.asset(
        key=survey_key(survey, "raw_wave"),
        partitions_def=waves,
        deps=[wave_file],
        kinds={"file"},
        code_version=f"{VERSION}.{form}",
        metadata=by_wave,
        automation_condition=cheap(),
        **common,
        description=f"The raw file of a wave, stored unchanged with its provenance. {said}",
    )
    def raw_wave(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
        wave = refusing(_landed, survey, context.partition_key)
        told = last_seen(survey, context.instance, wave.wave)
        store = _raw_store(lake, survey, wave.wave)
        unreadable: list[BadInput] = []
        stored = refusing(store.write, lambda folder: _take_in(wave, told, survey, store, folder, unreadable))
        if unreadable:  # the file is kept as it came; the wave fails here, and no other waits for it
            raise failure(unreadable[0])
        provenance = {name: stored.manifest[name] for name in ("rows", "received_at", "unreadable")}
        copied = stored.manifest["files"][wave.path.name]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(copied["sha256"]),
            metadata={
                "path": dg.MetadataValue.path(str(stored.folder / wave.path.name)),
                **copied,
                **{name: value for name, value in provenance.items() if value is not None},
            },
        )

    @dg.multi_asset(
        name=f"{survey.name}__clean_wave",
        partitions_def=waves,
        deps=[raw_wave],
        group_name=survey.name,
        outs={
            "clean_wave": dg.AssetOut(
                key=survey_key(survey, "clean_wave"),
                description=f"The wave's usable answers, one row an answer, by the codebook. {said}",
                **of_wave,
            ),
            "quarantine": dg.AssetOut(
                key=survey_key(survey, "quarantine"),
                description=f"Cells and rows that could not be used, with value, reason and remedy. {said}",
                **of_wave,
            ),
        },
        check_specs=[
            dg.AssetCheckSpec(
                "every_cell_accounted_for",
                asset=survey_key(survey, "clean_wave"),
                blocking=True,
                description="Raw answer cells = used + missing + quarantined.",
            ),
            dg.AssetCheckSpec(
                "few_in_quarantine",
                asset=survey_key(survey, "clean_wave"),
                blocking=True,
                description=f"At most {QUARANTINE_LIMIT:.0%} of the answer cells are in quarantine.",
            ),
            dg.AssetCheckSpec(
                "demographics_as_stated",
                asset=survey_key(survey, "clean_wave"),
                blocking=True,
                description=f"Of each demographic at most {QUARANTINE_LIMIT:.0%} are in quarantine.",
            ),
        ],
    )
    def clean(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[Any]:
        # A wave that fails its checks is put in quarantine whole: `clean_wave` is not yielded, so
        # the table of its last good version stays, and whatever is made from it waits.
        wave = context.partition_key
        raw = refusing(_raw_store(lake, survey, wave).resolve)
        file = raw.folder / raw.manifest["file"]
        texts = refusing(intervention_texts, survey)
        with lake.scratch() as scratch:
            cells = raw.folder / CELLS
            form = survey.format_of(wave).model_dump(mode="json")
            # Read again what could not be read (to say why), or was read as the codebook then said.
            if raw.manifest["unreadable"] is not None or raw.manifest.get("form") != form:
                cells = refusing(read_cells, file, survey.format_of(wave), scratch / CELLS).path
            cleaned = refusing(clean_wave, cells, survey, wave, texts, scratch, file.name)
            yield table_file_output(cleaned.quarantine, output_name="quarantine")
            unreadable = _unreadable(survey, file, cleaned.demographics)
            checks = [
                *_checks(survey, cleaned.counts, cleaned.repeated),
                dg.AssetCheckResult(
                    check_name="demographics_as_stated",
                    asset_key=survey_key(survey, "clean_wave"),
                    passed=unreadable is None,
                ),
            ]
            if not all(check.passed for check in checks):
                yield from checks
                answers_are_fine = all(check.passed for check in checks[:2])
                raise failure(
                    unreadable if unreadable and answers_are_fine else _unusable(survey, file, cleaned.counts)
                )
            yield table_file_output(
                cleaned.answers,
                output_name="clean_wave",
                demographics=markdown(pd.DataFrame(cleaned.demographics)),
                **counts_metadata(cleaned.counts),
            )
            yield from checks

    return [wave_file, raw_wave, clean]


def survey_key(survey: SurveySpec, name: str) -> dg.AssetKey:
    """The key of an asset of the survey."""
    return dg.AssetKey([survey.name, name])


def _meaning(survey: SurveySpec) -> str:
    """What clean answers depend on, besides the raw files."""
    part = survey.model_dump(
        include={"name", "participant", "missing", "weight", "demographics", "interventions", "waves"},
        exclude={"waves": {"location"}},
    )
    questions = [q.model_dump(exclude={"user", "before"}) for q in survey.questions]
    return spec_hash(part, questions, survey.duplicates.within_wave, interventions_version(survey))


def _landed(survey: SurveySpec, wave: str) -> WaveFile:
    for landed in landed_waves(survey):
        if landed.wave == wave:
            return landed
    raise BadInput(
        "the wave's file is not in the landing folder",
        file=survey.landing,
        value=wave,
        remedy=f"put it back (evsim survey add {survey.name} FILE)",
    )


def _take_in(
    wave: WaveFile,
    told: str | None,
    survey: SurveySpec,
    store: VersionedStore,
    folder: Path,
    unreadable: list[BadInput],
) -> dict[str, Any]:
    """Copy the raw file as it is, and its cells beside it, if it can be read.

    A file that has no cells is stored as well: what arrived is kept, and `unreadable` gets the reason.
    `told` is the version of the file that asked for this.
    """
    try:
        copy = wave.copied(folder)
    except FileNotFoundError:
        copy = _landed(survey, wave.wave).copied(folder)  # raises, and says that it is gone
    sha256 = fingerprint(copy)["sha256"]
    _refuse_changed(wave, sha256, told)
    rows = None
    try:
        rows = read_cells(copy, survey.format_of(wave.wave), folder / CELLS).rows
    except BadInput as error:
        unreadable.append(error)
    return {
        "wave": wave.wave,
        "file": wave.path.name,
        "rows": rows,
        "unreadable": unreadable[0].problem if unreadable else None,
        "form": survey.format_of(wave.wave).model_dump(mode="json"),
        "received_at": _received_at(wave, sha256, store),
    }


def _refuse_changed(wave: WaveFile, sha256: str, told: str | None) -> None:
    """Raise BadInput where the file is another than the one that was seen: it may be half of a new one."""
    if told is None or told.startswith("unreadable-") or told in (sha256, f"large-{wave.stamp}"):
        return
    raise BadInput(
        "the file has changed since it was seen, and may still be being written",
        file=named(wave.path),
        remedy="nothing, where the sensor runs: it asks again once the file lies still; else run `evsim run`"
        " when the file is complete",
    )


def _received_at(wave: WaveFile, sha256: str, store: VersionedStore) -> str:
    """When this content of the wave was first stored, UTC; kept when it is stored again."""
    if store.is_whole():
        before = store.resolve(verify=False).manifest
        same = before["files"].get(wave.path.name, {}).get("sha256") == sha256
        if same and "received_at" in before:
            return str(before["received_at"])
    return datetime.now(UTC).isoformat(timespec="seconds")


def _raw_store(lake: Lake, survey: SurveySpec, wave: str) -> VersionedStore:
    return VersionedStore(lake, [survey.name, "raw_wave"], {"wave": wave})


def _checks(survey: SurveySpec, counts: Mapping[str, int], repeated: int = 0) -> list[dg.AssetCheckResult]:
    """`repeated` cells are set aside by the codebook's own policy, and so are no fault of the file."""
    accounted = counts["used"] + counts["missing"] + counts["quarantined"]
    share = (counts["quarantined"] - repeated) / max(counts["cells"] - repeated, 1)
    return [
        dg.AssetCheckResult(
            check_name="every_cell_accounted_for",
            asset_key=survey_key(survey, "clean_wave"),
            passed=accounted == counts["cells"],
            metadata=counts_metadata(counts),
        ),
        dg.AssetCheckResult(
            check_name="few_in_quarantine",
            asset_key=survey_key(survey, "clean_wave"),
            passed=share <= QUARANTINE_LIMIT,
            metadata={"share": share, "limit": QUARANTINE_LIMIT},
        ),
    ]


def _unusable(survey: SurveySpec, file: Path, counts: Mapping[str, int]) -> BadInput:
    accounted = counts["used"] + counts["missing"] + counts["quarantined"]
    if accounted != counts["cells"]:
        return BadInput(
            f"of {counts['cells']} answer cells {accounted} are accounted for; the clean answers are as"
            " they were",
            file=file.name,
            remedy="this is an error of evsim: report it with the codebook and the file's header",
        )
    share = counts["quarantined"] / counts["cells"]
    return BadInput(
        f"{counts['quarantined']} of the {counts['cells']} answer cells ({share:.1%}) cannot be used, more"
        f" than {QUARANTINE_LIMIT:.0%}; the wave's clean answers are as they were",
        file=_place_of(survey, file.name),
        remedy=f"see each cell and its remedy in {survey.name}.quarantine, or with"
        f" `evsim survey check {survey.folder}`; correct the codebook or the file, and run again",
    )


def _unreadable(survey: SurveySpec, file: Path, demographics: Sequence[Mapping[str, Any]]) -> BadInput | None:
    """What is wrong where a demographic is not what the codebook says, such as codes in place of labels."""
    for found in demographics:
        people = sum(found[state] for state in ("known", "missing", "refused", "quarantined"))
        if found["quarantined"] > QUARANTINE_LIMIT * people:
            return BadInput(
                f"{found['quarantined']} of {people} people have no option of the codebook, more than"
                f" {QUARANTINE_LIMIT:.0%}; the wave's clean answers are as they were",
                file=_place_of(survey, file.name),
                field=str(found["demographic"]),
                remedy=f"see the values in {survey.name}.quarantine; add options or codes to the codebook,"
                " for this wave alone under waves.changes",
            )
    return None


def _place_of(survey: SurveySpec, name: str) -> Path | str:
    """Where a raw file came from."""
    return survey.landing / name if isinstance(survey.landing, Path) else f"{survey.landing}/{name}"
