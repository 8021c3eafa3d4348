"""Dagster assets of a survey: raw waves, clean waves, quarantine, responses, splits.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from evsim_assets.automation import WavesSeen, cheap
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.cleaning import clean_wave
from evsim_assets.surveys.landing import (
    WaveFile,
    intervention_texts,
    landed_waves,
    misnamed_files,
    read_raw,
    texts_hash,
)
from evsim_assets.surveys.splits import merge_waves, split_participants
from evsim_resources.compute import failure
from evsim_resources.lake import DIMENSION, Lake
from evsim_resources.outputs import (
    OWNERS,
    about,
    counts_metadata,
    markdown,
    refusing,
    spec_hash,
    table_output,
)
from evsim_resources.records import Records, observed
from evsim_resources.versions import VersionedStore

VERSION = "1"
QUARANTINE_LIMIT = 0.05
"""Share of a wave's answer cells in quarantine above which the wave blocks what follows."""


def waves_partitions(survey: SurveySpec) -> dg.DynamicPartitionsDefinition:
    """The waves of a survey; the sensor and `evsim run` register new ones."""
    return dg.DynamicPartitionsDefinition(name=_partitions_name(survey))


def _partitions_name(survey: SurveySpec) -> str:
    return f"{survey.name}_wave"


def survey_assets(survey: SurveySpec) -> list[Any]:
    """The assets of one survey, keyed `[<survey>, <asset>]`."""
    waves = waves_partitions(survey)
    said = about(f"{survey.title}.", survey)
    common: dict[str, Any] = {"group_name": survey.name, "owners": OWNERS}
    by_wave = {DIMENSION: "wave"}
    meaning = spec_hash(
        survey.model_dump(
            include={"name", "participant", "missing", "demographics", "questions", "interventions"}
        ),
        survey.waves,
        _texts_hash(survey),
    )

    def key(name: str) -> dg.AssetKey:
        return dg.AssetKey([survey.name, name])

    wave_file = dg.AssetSpec(
        key("wave_file"),
        partitions_def=waves,
        kinds={"csv"},
        **common,
        description=f"A raw file in the landing folder, observed by its SHA-256. {said}",
    )

    @dg.asset(
        key=key("raw_wave"),
        partitions_def=waves,
        deps=[wave_file],
        kinds={"file"},
        code_version=VERSION,
        metadata=by_wave,
        automation_condition=cheap(),
        **common,
        description=f"The raw file of a wave, stored unchanged with its provenance. {said}",
    )
    def raw_wave(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
        wave = refusing(_landed, survey, context.partition_key)
        stored = _raw_store(lake, survey, wave.wave).write(lambda folder: _copy(wave, folder))
        copied = stored.manifest["files"][wave.path.name]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(copied["sha256"]),
            metadata={
                "path": dg.MetadataValue.path(str(stored.folder / wave.path.name)),
                "sha256": copied["sha256"],
                "bytes": copied["bytes"],
            },
        )

    @dg.multi_asset(
        name=f"{survey.name}__clean_wave",
        partitions_def=waves,
        deps=[raw_wave],
        group_name=survey.name,
        outs={
            "clean_wave": dg.AssetOut(
                key=key("clean_wave"),
                code_version=f"{VERSION}.{meaning}",
                metadata=by_wave,
                kinds={"parquet"},
                owners=OWNERS,
                automation_condition=cheap(),
                description=f"The wave's usable answers, one row an answer, by the codebook. {said}",
            ),
            "quarantine": dg.AssetOut(
                key=key("quarantine"),
                code_version=f"{VERSION}.{meaning}",
                metadata=by_wave,
                kinds={"parquet"},
                owners=OWNERS,
                automation_condition=cheap(),
                description=f"Cells and rows that could not be used, with value, reason and remedy. {said}",
            ),
        },
        check_specs=[
            dg.AssetCheckSpec(
                "every_cell_accounted_for",
                asset=key("clean_wave"),
                blocking=True,
                description="Raw answer cells = used + missing + quarantined.",
            ),
            dg.AssetCheckSpec(
                "few_in_quarantine",
                asset=key("clean_wave"),
                blocking=True,
                description=f"At most {QUARANTINE_LIMIT:.0%} of the answer cells are in quarantine.",
            ),
        ],
    )
    def clean(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[Any]:
        # A wave that fails its checks is put in quarantine whole: `clean_wave` is not yielded, so
        # the table of its last good version stays, and whatever is made from it waits.
        wave = context.partition_key
        file = refusing(_raw_store(lake, survey, wave).resolve).folder
        path = next(p for p in sorted(file.iterdir()) if p.suffix == f".{survey.waves.format}")
        texts = refusing(intervention_texts, survey)
        raw = refusing(read_raw, path.read_bytes(), survey.waves, path.name)
        cleaned = refusing(clean_wave, raw, survey, wave, texts, path.name)
        yield table_output(cleaned.quarantine, output_name="quarantine")
        checks = _checks(key("clean_wave"), cleaned.counts)
        if not all(check.passed for check in checks):
            yield from checks
            raise failure(_unusable(survey, wave, cleaned.counts))
        yield table_output(cleaned.answers, output_name="clean_wave", **counts_metadata(cleaned.counts))
        yield from checks

    @dg.asset(
        key=key("responses"),
        ins={"clean_wave": dg.AssetIn(key=key("clean_wave"))},
        kinds={"parquet"},
        code_version=VERSION,
        automation_condition=cheap(),
        **common,
        description=f"The answers of all waves, one row an answer. {said}",
    )
    def responses(clean_wave: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        answers = merge_waves([clean_wave])
        by_question = answers.groupby("question")["answer"].describe().reset_index()
        return table_output(
            answers, participants=int(answers["participant"].nunique()), answers=markdown(by_question)
        )

    @dg.asset(
        key=key("splits"),
        ins={"responses": dg.AssetIn(key=key("responses"))},
        kinds={"parquet"},
        code_version=f"{VERSION}.{spec_hash(survey.splits)}",
        automation_condition=cheap(),
        **common,
        description=f"Train, validation or test for every participant, by a keyed hash. {said}",
    )
    def splits(responses: pd.DataFrame) -> dg.Output[pd.DataFrame]:
        table = split_participants(responses, survey)
        return table_output(table, **counts_metadata(table["split"].value_counts().to_dict()))

    return [wave_file, raw_wave, clean, responses, splits]


def changed_waves(survey: SurveySpec, instance: dg.DagsterInstance) -> Iterator[dg.AssetMaterialization]:
    """An event of `wave_file` for every landed wave whose content Dagster has not seen.

    Takes the files as they are: for `evsim run`, where a person says that they are there.
    """
    return _changed(landed_waves(survey), survey, instance)


def look_for_waves(survey: SurveySpec, instance: dg.DagsterInstance, before: Mapping[str, str]) -> WavesSeen:
    """For the sensor: as `changed_waves`, but only files that look as they did `before`."""
    stamps = {wave: wave.stamp for wave in landed_waves(survey)}
    still = [wave for wave, stamp in stamps.items() if before.get(wave.wave) == stamp]
    warnings = [*misnamed_files(survey), *removed_waves(survey, instance)]
    seen = {wave.wave: stamp for wave, stamp in stamps.items()}
    return WavesSeen(list(_changed(still, survey, instance)), warnings, seen)


def removed_waves(survey: SurveySpec, instance: dg.DagsterInstance) -> list[str]:
    """A sentence for each wave that is in the data and no longer in the landing folder.

    It stays in the data: a folder may be gone for a moment (a network mount), people must not be.
    """
    landed = {wave.wave for wave in landed_waves(survey)}
    known = instance.get_dynamic_partitions(_partitions_name(survey))
    return [
        f"{survey.folder / 'waves'}: the file of wave {wave} is gone; its answers stay in the data"
        "\n  Remedy: put it back, or take the wave out for good (docs/codebook.md)"
        for wave in sorted(set(known) - landed)
    ]


def _changed(
    waves: Iterable[WaveFile], survey: SurveySpec, instance: dg.DagsterInstance
) -> Iterator[dg.AssetMaterialization]:
    key = dg.AssetKey([survey.name, "wave_file"])
    records, known = Records(instance), set(instance.get_dynamic_partitions(_partitions_name(survey)))
    for wave in waves:
        sha256 = wave.sha256
        seen = records.latest(key, wave.wave)
        if seen is None or seen.data_version != sha256 or wave.wave not in known:
            file = {"path": str(wave.path), "bytes": wave.path.stat().st_size}
            yield observed(key, wave.wave, sha256, file)


def _checks(clean_wave: dg.AssetKey, counts: Mapping[str, int]) -> list[dg.AssetCheckResult]:
    accounted = counts["used"] + counts["missing"] + counts["quarantined"]
    share = counts["quarantined"] / max(counts["cells"], 1)
    return [
        dg.AssetCheckResult(
            check_name="every_cell_accounted_for",
            asset_key=clean_wave,
            passed=accounted == counts["cells"],
            metadata=counts_metadata(counts),
        ),
        dg.AssetCheckResult(
            check_name="few_in_quarantine",
            asset_key=clean_wave,
            passed=share <= QUARANTINE_LIMIT,
            metadata={"share": share, "limit": QUARANTINE_LIMIT},
        ),
    ]


def _unusable(survey: SurveySpec, wave: str, counts: Mapping[str, int]) -> BadInput:
    accounted = counts["used"] + counts["missing"] + counts["quarantined"]
    if accounted != counts["cells"]:
        return BadInput(
            f"of {counts['cells']} answer cells {accounted} are accounted for; the clean answers are as"
            " they were",
            file=wave,
            remedy="this is an error of evsim: report it with the codebook and the file's header",
        )
    share = counts["quarantined"] / counts["cells"]
    return BadInput(
        f"{counts['quarantined']} of the {counts['cells']} answer cells ({share:.1%}) cannot be used, more"
        f" than {QUARANTINE_LIMIT:.0%}; the wave's clean answers are as they were",
        file=survey.folder / "waves" / f"{wave}.{survey.waves.format}",
        remedy=f"see each cell and its remedy in {survey.name}.quarantine, or with"
        f" `evsim survey check {survey.folder}`; correct the codebook or the file, and run again",
    )


def _landed(survey: SurveySpec, wave: str) -> WaveFile:
    for landed in landed_waves(survey):
        if landed.wave == wave:
            return landed
    raise BadInput(
        "the wave's file is not in the landing folder",
        file=survey.folder / "waves",
        value=wave,
        remedy=f"put it back (evsim survey add {survey.name} FILE)",
    )


def _copy(wave: WaveFile, folder: Path) -> dict[str, Any]:
    shutil.copyfile(wave.path, folder / wave.path.name)
    return {"wave": wave.wave}


def _raw_store(lake: Lake, survey: SurveySpec, wave: str) -> VersionedStore:
    return VersionedStore(lake, [survey.name, "raw_wave"], {"wave": wave})


def _texts_hash(survey: SurveySpec) -> str:
    """The hash of the intervention texts; a table that is not there yet is 'absent', not an error."""
    table = survey.interventions
    if table is None or not (survey.folder / table.file).is_file():
        return "absent"
    return texts_hash(intervention_texts(survey))
