"""What is known of a participant before any question: labels, codes, bands, checkboxes.

Belongs here: the codebook's fields for one demographic. Not here: reading cells (`surveys/`), how
prompts list demographics (`templates.py`).
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, model_validator

from evsim_assets.specs.values import check_apart
from evsim_assets.specs.waves import Patterns, RawText, WaveName
from evsim_assets.specs.yaml_file import Spec, SpecError

SEVERAL_SEPARATOR = "; "
"""Between the options of a demographic that allows several, in tables."""

RESERVED = {
    "participant",
    "wave",
    "question",
    "order",
    "intervention",
    "intervention_text",
    "fields",
    "answer",
    "weight",
    "split",
    "rank",
    "reason",
    "held_out",
}
"""Columns of tables that hold demographics, so no demographic may be called so."""


class Band(Spec):
    """The raw numbers from `at_least` up to, and without, `below`; either end may be open."""

    label: str
    at_least: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _holds_a_number(self) -> Band:
        if self.at_least is None and self.below is None:
            raise SpecError("the band has no end", remedy="set at_least, below or both")
        if self.at_least is not None and self.below is not None and self.at_least >= self.below:
            raise SpecError(
                f"no number is at least {self.at_least:g} and below {self.below:g}",
                remedy="set at_least below `below`",
            )
        return self


class Demographic(Spec):
    """One thing known of a participant before any question.

    `options` are the labels allowed, in their order. A raw cell holds one of them, a raw value that
    `codes` translates to one, or a number that falls into one of the `bands` (whose labels are then
    the options). With `several` it holds any number of them between `separator`s; in place of a
    `column`, `checkboxes` leads from columns to options, and an option holds where its column has one
    of the `checked` values. What no column says, because all of a wave's people have it in common,
    `constant` says: names or patterns of waves, each with its option.

    `missing` and `refused` are raw values, besides the survey's own, that tell nothing of the person;
    a refusal is counted apart. To show "Prefer not to answer" in prompts, make it an option.
    `waves` are those in which this was asked (all, unless given).
    """

    name: str
    column: str | None = None
    options: Annotated[tuple[str, ...], Field(min_length=2)]
    codes: dict[RawText, RawText] = Field(default_factory=dict)
    bands: tuple[Band, ...] = ()
    several: bool = False
    separator: Annotated[str, Field(min_length=1)] = ";"
    checkboxes: dict[str, str] = Field(default_factory=dict)
    checked: tuple[RawText, ...] = ("1", "true", "yes")
    unchecked: tuple[RawText, ...] = ("", "0", "false", "no")
    constant: dict[WaveName, RawText] = Field(default_factory=dict)
    missing: tuple[RawText, ...] = ()
    refused: tuple[RawText, ...] = ()
    waves: Patterns | None = None

    @property
    def slug(self) -> str:
        """The name of the demographic's column in tables: `living state` becomes `living_state`."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns it is read from; none where it is not known."""
        return tuple(self.checkboxes) if self.checkboxes else ((self.column,) if self.column else ())

    @property
    def has_several(self) -> bool:
        """Whether a person may have several of the options."""
        return self.several or bool(self.checkboxes)

    @model_validator(mode="before")
    @classmethod
    def _options_follow(cls, given: object) -> object:
        """Bands, checkboxes and constants name their options themselves."""
        if not isinstance(given, dict) or "options" in given:
            return given
        bands, boxes = given.get("bands"), given.get("checkboxes") or given.get("constant")
        if isinstance(bands, (list, tuple)) and all(isinstance(b, dict) and "label" in b for b in bands):
            return given | {"options": tuple(band["label"] for band in bands)}
        if isinstance(boxes, dict):
            return given | {"options": tuple(dict.fromkeys(boxes.values()))}
        return given

    @model_validator(mode="after")
    def _has_one_source(self) -> Demographic:
        sources = [field for field in ("column", "checkboxes", "constant") if getattr(self, field)]
        if len(sources) != 1:
            raise SpecError(
                "a demographic has one source: a column, checkboxes, or a constant of each wave",
                value=self.name,
                remedy="give `column`, or `checkboxes: {column: option}`, or `constant: {wave: option}`",
            )
        told = [field for field in ("codes", "several", "checkboxes") if getattr(self, field)]
        if self.bands and told:
            raise SpecError(
                "bands are for a column of numbers, one a person",
                at=("bands",),
                value=told,
                remedy=f"remove {' and '.join(told)}, or the bands",
            )
        return self

    @model_validator(mode="after")
    def _labels_are_options(self) -> Demographic:
        for field in ("codes", "checkboxes", "constant"):
            for key, label in getattr(self, field).items():
                if label not in self.options:
                    raise SpecError(
                        f"code {key!r} stands for a label that is not among the options",
                        at=(field, key),
                        value=label,
                        remedy="add the label to options, or correct the code",
                    )
        for position, band in enumerate(self.bands):
            if band.label not in self.options:
                raise SpecError(
                    "the band's label is not among the options",
                    at=("bands", position, "label"),
                    value=band.label,
                    remedy="leave options out: bands name them",
                )
        _check_bands_apart(self.bands)
        return self

    @model_validator(mode="after")
    def _options_are_apart(self) -> Demographic:
        for position, option in enumerate(self.options):
            at = ("bands", position, "label") if self.bands else ("options", position)
            if option in self.options[:position]:
                raise SpecError(
                    "an option is listed twice", at=at, value=option, remedy="list each option once"
                )
            if self.has_several and (";" in option or (self.several and self.separator in option)):
                raise SpecError(
                    f"an option holds {';' if ';' in option else self.separator!r}, which separates several"
                    " options",
                    at=at,
                    value=option,
                    remedy="rename the option",
                )
        check_apart(self.options, "bands" if self.bands else "options")
        for field in ("codes", "checked", "unchecked", "missing", "refused"):
            check_apart(getattr(self, field), field)
        return self

    @model_validator(mode="after")
    def _has_a_column_of_its_own(self) -> Demographic:
        if not self.slug or self.slug in RESERVED:
            raise SpecError(
                f"the demographic would be the column {self.slug!r} of tables, which "
                + ("is taken" if self.slug else "is no name"),
                at=("name",),
                value=self.name,
                remedy="use another name, with letters a to z or digits in it",
            )
        return self


def _check_bands_apart(bands: tuple[Band, ...]) -> None:
    """Raise SpecError for two bands that share a number."""
    low, high = float("-inf"), float("inf")
    for position, band in enumerate(bands):
        for other in bands[:position]:
            start = max(low if b.at_least is None else b.at_least for b in (band, other))
            end = min(high if b.below is None else b.below for b in (band, other))
            if start < end:
                raise SpecError(
                    f"the bands {other.label!r} and {band.label!r} overlap",
                    at=("bands", position),
                    value=start,
                    remedy="let each band begin where the one before ends: `below` is not part of it",
                )
