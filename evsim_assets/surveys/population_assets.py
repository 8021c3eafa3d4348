"""Dagster assets of all of a survey's waves together: responses, splits, drift.

Belongs here: reading inputs, calling the stage, attaching metadata. Not here: any computation, what
there is of a single wave (`wave_assets.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from evsim_assets.automation import cheap
from evsim_assets.gathering import gathering
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.drift import drift, drift_summary
from evsim_assets.surveys.drift_figure import drift_figure
from evsim_assets.surveys.landing import shown
from evsim_assets.surveys.observed import waves_partitions
from evsim_assets.surveys.responses import merge_waves
from evsim_assets.surveys.splits import split_participants, split_report, uneven_shares
from evsim_assets.surveys.wave_assets import survey_key
from evsim_resources.compute import failure
from evsim_resources.lake import Lake, TableFiles
from evsim_resources.outputs import (
    OWNERS,
    about,
    counts_metadata,
    markdown,
    picture,
    refusing,
    spec_hash,
    table_file_output,
    table_output,
)
from evsim_resources.records import Records
from evsim_resources.tables import ALLOW_MISSING

VERSION = "2"
DRIFT_VERSION = "3"


def population_assets(survey: SurveySpec) -> list[Any]:
    """The assets of all waves together, keyed `[<survey>, <asset>]`."""
    said = about(f"{survey.title}.", survey)
    common: dict[str, Any] = {"group_name": survey.name, "owners": OWNERS}
    cheap_table: dict[str, Any] = {
        "kinds": {"parquet"},
        "owners": OWNERS,
        "automation_condition": cheap(),
    }
    merging = spec_hash([d.slug for d in survey.demographics], survey.duplicates)
    splitting = spec_hash(survey.splits, survey.held_out.cells, survey.strata)
    drifting = spec_hash(
        survey.title, survey.simulated, survey.demographics, [q.answer_scale for q in survey.questions]
    )
    from_waves = {
        "clean_wave": dg.AssetIn(key=survey_key(survey, "clean_wave"), metadata={ALLOW_MISSING: True})
    }
    of_all_waves = {**cheap_table, "automation_condition": gathering()}
    from_responses = {"responses": dg.AssetIn(key=survey_key(survey, "responses"))}

    @dg.multi_asset(
        name=f"{survey.name}__responses",
        group_name=survey.name,
        ins=from_waves,
        outs={
            "responses": dg.AssetOut(
                key=survey_key(survey, "responses"),
                description=f"The answers of all waves, one row an answer. {said}",
                code_version=f"{VERSION}.{merging}",
                **of_all_waves,
            ),
            "superseded": dg.AssetOut(
                key=survey_key(survey, "superseded"),
                description=f"Answers of people of several waves, set aside by the stated policy. {said}",
                code_version=f"{VERSION}.{merging}",
                **of_all_waves,
            ),
        },
        check_specs=[
            dg.AssetCheckSpec(
                "every_answer_accounted_for",
                asset=survey_key(survey, "responses"),
                blocking=True,
                description="Clean answers = responses + superseded.",
            ),
            dg.AssetCheckSpec(
                "every_wave_is_in",
                asset=survey_key(survey, "responses"),
                description="No wave is out because it could not be read. Warns; blocks nothing.",
            ),
        ],
    )
    def responses(context: dg.AssetExecutionContext, clean_wave: TableFiles, lake: Lake) -> Iterator[Any]:
        absent = refusing(absent_waves, survey, context.instance, lake)
        with lake.scratch() as scratch:
            merged = refusing(merge_waves, clean_wave.paths, survey, scratch)
            accounted = merged.counts["kept"] + merged.counts["superseded"] == merged.counts["clean"]
            check = dg.AssetCheckResult(
                check_name="every_answer_accounted_for",
                asset_key=survey_key(survey, "responses"),
                passed=accounted,
                metadata=counts_metadata(merged.counts),
            )
            if not accounted:
                yield check
                raise failure(_lost(survey, merged.counts))
            yield table_file_output(merged.superseded, output_name="superseded")
            yield table_file_output(
                merged.responses, output_name="responses", **counts_metadata(merged.counts)
            )
            yield check
            yield dg.AssetCheckResult(
                check_name="every_wave_is_in",
                asset_key=survey_key(survey, "responses"),
                passed=not absent,
                severity=dg.AssetCheckSeverity.WARN,
                description=_without(absent) if absent else None,
            )

    @dg.multi_asset(
        name=f"{survey.name}__splits",
        group_name=survey.name,
        ins=from_responses,
        outs={
            "splits": dg.AssetOut(
                key=survey_key(survey, "splits"),
                description=f"Train, validation or test for every participant, by a keyed hash. {said}",
                code_version=f"{VERSION}.{splitting}",
                **cheap_table,
            ),
            "split_report": dg.AssetOut(
                key=survey_key(survey, "split_report"),
                description=f"Shares of the splits, over all and in each stratum. {said}",
                code_version=f"{VERSION}.{splitting}",
                **cheap_table,
            ),
        },
        check_specs=[
            dg.AssetCheckSpec(
                "shares_as_stated",
                asset=survey_key(survey, "splits"),
                description="Of a thousand people or more, shares are within a point of the codebook's."
                " Warns; blocks nothing.",
            )
        ],
    )
    def splits(responses: TableFiles, lake: Lake) -> Iterator[Any]:
        with lake.scratch() as scratch:
            made = scratch / "splits.parquet"
            refusing(split_participants, responses.paths[0], survey, made)
            report = split_report(made, responses.paths[0], survey)
            yield table_output(report, output_name="split_report", shares=markdown(report.round(3)))
            uneven = uneven_shares(report, made, survey)
            yield table_file_output(made, output_name="splits")
            yield dg.AssetCheckResult(
                check_name="shares_as_stated",
                asset_key=survey_key(survey, "splits"),
                passed=uneven is None,
                severity=dg.AssetCheckSeverity.WARN,
                description=uneven,
            )

    @dg.asset(
        key=survey_key(survey, "drift"),
        ins=from_waves,  # responses lack what `duplicates.across_waves` sets aside: that is no drift
        kinds={"parquet", "plot"},
        code_version=f"{DRIFT_VERSION}.{drifting}",
        automation_condition=gathering(),
        check_specs=[
            dg.AssetCheckSpec(
                "waves_alike",
                asset=survey_key(survey, "drift"),
                description="No demographic and no question of a wave is further from the waves before"
                " than chance explains. Warns; blocks nothing.",
            )
        ],
        **common,
        description=f"How each wave differs from those before: shares and ratings, with intervals. {said}",
    )
    def drifted(context: dg.AssetExecutionContext, clean_wave: TableFiles, lake: Lake) -> Iterator[Any]:
        refusing(absent_waves, survey, context.instance, lake)
        table = refusing(drift, clean_wave.paths, survey)
        passed, summary = drift_summary(table)
        plot = drift_figure(table, title=survey.title, simulated=survey.simulated)
        yield table_output(table, plot=picture(plot, "Drift between waves"), summary=summary)
        yield dg.AssetCheckResult(
            check_name="waves_alike",
            asset_key=survey_key(survey, "drift"),
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=summary,
        )

    return [responses, splits, drifted]


def absent_waves(survey: SurveySpec, instance: dg.DagsterInstance, lake: Lake) -> list[str]:
    """The waves that arrived and were never cleaned: they could not be read, or failed.

    Raises:
        BadInput: the table of a wave that was cleaned is gone.
    """
    key, records = survey_key(survey, "clean_wave"), Records(instance)
    waves = instance.get_dynamic_partitions(str(waves_partitions(survey).name))
    absent = [wave for wave in sorted(waves) if not lake.table_file(key.path, {"wave": wave}).exists()]
    for wave in absent:
        if records.latest(key, wave) is not None:
            lake.read_table(key.path, {"wave": wave})  # raises, and says how to make it again
    return absent


def _without(waves: Sequence[str]) -> str:
    return f"without {shown(waves)}: of each, the run of raw_wave or clean_wave says why, and what to do"


def _lost(survey: SurveySpec, counts: Mapping[str, int]) -> BadInput:
    return BadInput(
        f"{counts['clean']} clean answers became {counts['kept']} responses and"
        f" {counts['superseded']} superseded ones; the responses are as they were",
        file=survey.name,
        remedy="this is an error of evsim: report it with the codebook",
    )
