"""What Dagster is told of the landing folder: new, changed and removed wave files.

Belongs here: comparing landed files with what an instance has seen. Not here: when that happens
(`automation.py`), taking files in (`landing.py`).
"""

from collections.abc import Iterable, Iterator, Mapping

import dagster as dg

from evsim_assets.automation import WavesSeen
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.landing import WaveFile, landed_waves, misnamed_files
from evsim_resources.records import Records, observed


def waves_partitions(survey: SurveySpec) -> dg.DynamicPartitionsDefinition:
    """The waves of a survey; the sensor and `evsim run` register new ones."""
    return dg.DynamicPartitionsDefinition(name=_partitions_name(survey))


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


def _partitions_name(survey: SurveySpec) -> str:
    return f"{survey.name}_wave"


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
