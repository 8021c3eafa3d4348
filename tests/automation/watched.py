"""A small survey whose landing place is watched by the real sensor, look by look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from upath import UPath

from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.surveys.observed import look_for_waves
from evsim_assets.surveys.population_assets import population_assets
from evsim_assets.surveys.wave_assets import wave_assets
from evsim_assets.wave_sensor import wave_sensor
from evsim_resources.lake import Lake
from evsim_resources.tables import TableIOManager

CODEBOOK = """\
title: Snacks
source: invented
participant: person
simulated: true
{waves}
demographics:
  - {{name: living area, column: area, options: [Urban, Rural]}}
questions:
  - {{id: hunger, columns: [{{answer: q1}}], scale: {{low: 0, high: 100}}}}
prompts: {{system: "{{demographics}}", user: "{{low}} to {{high}}?"}}
"""


def answers(first: int, people: int = 4) -> bytes:
    """A wave in which everybody answers `first`."""
    return ("person,area,q1\n" + "".join(f"p{first}-{n},Urban,{first}\n" for n in range(people))).encode()


class Watched:
    """The survey, its landing place, its sensor and its lake, on an instance of its own."""

    def __init__(self, root: Path, waves: str = "", instance: dg.DagsterInstance | None = None) -> None:
        folder = root / "snacks"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "survey.yaml").write_text(CODEBOOK.format(waves=waves))
        self.survey: SurveySpec = read_survey(folder)
        self.place = UPath(str(self.survey.landing))
        self.place.mkdir(parents=True, exist_ok=True)
        self.instance = instance or dg.DagsterInstance.ephemeral()
        self.lake = Lake(root=str(root / "lake"))
        self.resources = {"lake": self.lake, "io_manager": TableIOManager(lake=self.lake)}
        self.cursor: str | None = None
        self.ticks: Any = None
        self.said = ""
        self.all_waves_together = True

    @property
    def folder(self) -> Path:
        """The landing place on this machine."""
        return Path(self.place.path)

    def put(self, name: str, content: bytes = b"") -> None:
        """Write a whole file at once."""
        (self.place / name).write_bytes(content or answers(len(name)))

    def look(self) -> list[str]:
        """One look of the sensor, as the daemon takes it; the waves that are reported as other content."""
        sensor = wave_sensor(self.survey, look_for_waves)  # a new one: nothing is kept in memory
        result = sensor(dg.build_sensor_context(instance=self.instance, cursor=self.cursor))
        assert isinstance(result, dg.SensorResult)
        for request in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = result.cursor
        self.said = (result.skip_reason.skip_message or "") if result.skip_reason else ""
        return [str(e.partition) for e in result.asset_events if isinstance(e, dg.AssetMaterialization)]

    def looks(self, count: int) -> list[list[str]]:
        """Several looks."""
        return [self.look() for _ in range(count)]

    @property
    def waves(self) -> list[str]:
        """The partitions."""
        return sorted(self.instance.get_dynamic_partitions("snacks_wave"))

    def assets(self) -> list[Any]:
        """Those of single waves, and `responses`; further ones are not what is tried here."""
        together = population_assets(self.survey)[:1] if self.all_waves_together else []
        return [*wave_assets(self.survey), *together]

    def run(self, names: list[str], wave: str | None) -> dg.ExecuteInProcessResult:
        """One run of these assets."""
        return dg.materialize(
            self.assets(),
            selection=dg.AssetSelection.assets(*(["snacks", name] for name in names)),
            partition_key=wave,
            instance=self.instance,
            resources=self.resources,
            raise_on_error=False,
        )

    def tick(self) -> dict[str, dg.ExecuteInProcessResult]:
        """One evaluation of the conditions, and whatever it asks for is run."""
        definitions = dg.Definitions(assets=self.assets(), resources=self.resources)
        result = dg.evaluate_automation_conditions(definitions, self.instance, cursor=self.ticks)
        self.ticks = result.cursor
        wanted: dict[str | None, list[str]] = {}
        for evaluation in result.results:
            subset = evaluation.true_subset
            if not subset.is_empty:
                keys = subset.expensively_compute_partition_keys() if subset.is_partitioned else [None]
                for key in keys:
                    wanted.setdefault(key, []).append(evaluation.key.path[-1])
        return {
            f"{'+'.join(sorted(names))} {wave or ''}".strip(): self.run(names, wave)
            for wave, names in sorted(wanted.items(), key=str)
        }

    def live(self, ticks: int) -> dict[str, list[dg.ExecuteInProcessResult]]:
        """Several ticks; the runs, by what was run."""
        runs: dict[str, list[dg.ExecuteInProcessResult]] = {}
        for _ in range(ticks):
            for name, result in self.tick().items():
                runs.setdefault(name, []).append(result)
        return runs


@contextmanager
def without_root_rights() -> Iterator[None]:
    """This thread may read only what the rights of files allow, also where tests run as root."""
    import ctypes

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    class Data(ctypes.Structure):
        _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))

    libc = ctypes.CDLL(None, use_errno=True)
    header, held = Header(0x20080522, 0), (Data * 2)()
    assert libc.capget(ctypes.byref(header), held) == 0
    before = held[0].effective
    held[0].effective = before & ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(ctypes.byref(header), held) == 0
    try:
        yield
    finally:
        held[0].effective = before
        assert libc.capset(ctypes.byref(header), held) == 0
