"""Where a survey's raw files land, their form, and how it differs from wave to wave.

Belongs here: what the codebook says of files and of single waves. Not here: what a column means
(`demographics.py`, `questions.py`), what lies where files land (`surveys/landing_place.py`), reading
files (`surveys/reading.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator
from pydantic.annotated_handlers import GetJsonSchemaHandler

from evsim_assets.specs.values import check_apart
from evsim_assets.specs.yaml_file import Spec, SpecError

FileFormat = Literal["csv", "tsv", "parquet", "excel", "sav"]

ENDINGS: dict[str, tuple[str, ...]] = {
    "csv": (".csv",),
    "tsv": (".tsv", ".tab", ".txt"),
    "parquet": (".parquet",),
    "excel": (".xlsx",),
    "sav": (".sav", ".zsav"),
}
"""The endings of each format's files, lower-case; the first is the usual one."""


def _as_text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


RawText = Annotated[str, BeforeValidator(_as_text), WithJsonSchema({"type": ["string", "number", "boolean"]})]
"""A raw cell's text, which YAML may take for a number or a truth value."""


def _lower_case(pattern: str) -> str:
    if pattern != pattern.lower():
        raise SpecError(
            "no wave's name has a capital letter, so this is none's",
            value=pattern,
            remedy=f"write {pattern.lower()}: `evsim survey add` makes names lower-case",
        )
    return pattern


WaveName = Annotated[str, AfterValidator(_lower_case)]
"""The name of a wave, or a pattern."""

Patterns = Annotated[tuple[WaveName, ...], Field(min_length=1)]
"""Names of waves, or patterns such as `2024-*`."""


def matches(wave: str, patterns: tuple[str, ...] | None) -> bool:
    """Whether the wave's name is one of the patterns; None stands for every wave."""
    return patterns is None or any(fnmatchcase(wave, pattern) for pattern in patterns)


class WaveFormat(Spec):
    """How a raw file is to be read.

    `delimiter` (csv: a comma, tsv: a tab, unless given) and `encoding` (any that Python knows) are for
    text files, `sheet` (its name, or its number from 1) is for Excel. `skip_rows` leaves out lines
    before the header. `header: clean` makes one space of control characters, non-breaking spaces
    and runs of white space in column names.
    """

    format: FileFormat = "csv"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encoding: str = "utf-8"
    sheet: str | Annotated[int, Field(ge=1)] | None = None
    header: Literal["exact", "clean"] = "exact"
    skip_rows: Annotated[int, Field(ge=0)] = 0

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError:
            raise SpecError(
                "unknown encoding", value=encoding, remedy="use a name such as utf-8 or latin-1"
            ) from None
        return encoding

    @property
    def endings(self) -> tuple[str, ...]:
        """The endings of such files, lower-case."""
        return ENDINGS[self.format]

    @property
    def separator(self) -> str:
        """The character between the cells of a text file."""
        return self.delimiter or ("\t" if self.format == "tsv" else ",")


class DemographicChange(Spec):
    """What of a demographic is otherwise in some waves; what is not said stays as it is.

    `options` are those of the demographic that can occur in these waves.
    """

    column: str | None = None
    codes: dict[RawText, RawText] | None = None
    options: tuple[str, ...] | None = None
    missing: tuple[RawText, ...] | None = None
    refused: tuple[RawText, ...] | None = None

    @model_validator(mode="after")
    def _values_are_apart(self) -> DemographicChange:
        for field in ("codes", "missing", "refused"):
            check_apart(getattr(self, field) or (), field)
        return self


class QuestionChange(Spec):
    """What of a question is otherwise in some waves; what is not said stays as it is.

    `options` are those of the question that were offered in these waves, in the question's order;
    their numbers stay the question's. `dont_know` are the raw values of "don't know": none where it
    was not offered. `reversed` is the direction of raw numbers.
    """

    codes: dict[RawText, RawText] | None = None
    options: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    dont_know: tuple[RawText, ...] | None = None
    reversed: bool | None = None

    @model_validator(mode="after")
    def _values_are_apart(self) -> QuestionChange:
        for field in ("codes", "dont_know"):
            check_apart(getattr(self, field) or (), field)
        return self


class WaveChange(Spec):
    """How some waves differ from the rest of the codebook.

    `waves` names them (patterns such as `2024-*` are allowed), or `since` the first of them by name.
    `columns` leads from a column's name in the codebook to its name in these waves; `missing` and
    `format`, where given, take the place of the survey's.
    """

    waves: Patterns | None = None
    since: WaveName | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    missing: tuple[RawText, ...] | None = None
    format: WaveFormat | None = None
    demographics: dict[str, DemographicChange] = Field(default_factory=dict)
    questions: dict[str, QuestionChange] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_its_waves(self) -> WaveChange:
        if (self.waves is None) == (self.since is None):
            raise SpecError(
                "a change names its waves either by `waves` or by `since`",
                remedy="keep exactly one of the two",
            )
        check_apart(self.missing or (), "missing")
        return self

    def concerns(self, wave: str) -> bool:
        """Whether this wave is among those that differ."""
        return wave >= self.since if self.since is not None else matches(wave, self.waves)


OPTIONS = (
    "storage_options",
    "client_kwargs",
    "key",
    "secret",
    "token",
    "password",
    "sas_token",
    "account_key",
)
"""Names under which people would give a store's credentials; none of them may stand in a codebook."""

_BY_ENVIRONMENT = (
    "keep credentials out of the codebook: the store's library reads them from the environment"
    " (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL; any option as FSSPEC_<PROTOCOL>_<OPTION>)"
)


class Waves(WaveFormat):
    """Where raw files land and their form, and the waves that differ from it, in the order in which
    they apply.

    `location` is a folder (relative to the survey's own) or the URL of one that fsspec can reach, such
    as `s3://bucket/prefix`; without it files land in `waves/` beside the codebook. A location alone may
    be written as `waves: s3://bucket/prefix`.
    """

    location: Annotated[str, Field(min_length=1)] | None = None
    changes: tuple[WaveChange, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _location_alone(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and (secret := next((name for name in OPTIONS if name in given), None)):
            raise SpecError("a codebook holds no options of a store", at=(secret,), remedy=_BY_ENVIRONMENT)
        return {"location": given} if isinstance(given, str) else given

    @field_validator("location")
    @classmethod
    def _reachable_and_without_secrets(cls, location: str | None) -> str | None:
        if location is not None and "://" in location:
            _check_url(location)
        return location

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A location alone is enough."""
        return {"anyOf": [{"type": "string"}, handler(core)]}

    def landing(self, folder: Path) -> Path | str:
        """Where the raw files of the survey in `folder` land: a folder of this machine, or a URL."""
        if self.location is None:
            return folder / "waves"
        protocol, found, rest = self.location.partition("://")
        if found and protocol not in ("file", "local"):
            return self.location.rstrip("/")
        return folder / Path(rest if found else self.location).expanduser()


def _check_url(location: str) -> None:
    """Raise SpecError for a URL that holds a secret or that fsspec knows no way to."""
    import fsspec

    url = urlsplit(location)
    if url.password is not None:
        # the value is not repeated: errors end up in logs
        raise SpecError("the URL holds a password", remedy=f"leave it out; {_BY_ENVIRONMENT}")
    if url.query or url.fragment:
        raise SpecError(
            "the URL holds more than a place, which may be a key",
            remedy=f"leave out everything from `{'?' if url.query else '#'}` on; {_BY_ENVIRONMENT}",
        )
    if url.scheme not in fsspec.available_protocols():
        raise SpecError(
            "nothing is known of such a place",
            value=f"{url.scheme}://",
            remedy="use a folder, or a URL such as s3://bucket/prefix, gs://…, abfs://… or file:///…",
        )
