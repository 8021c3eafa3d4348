"""How prompts are worded: what the model is told it is, and what it is asked (Appendix B.1).

Belongs here: the codebook's wordings, and which placeholders they may hold. Not here: filling them
(`prompts/`).
"""

from __future__ import annotations

from string import Formatter
from typing import Annotated

from pydantic import Field, model_validator

from evsim_assets.specs.yaml_file import Spec, SpecError

DEFAULT = "default"
"""The name of the wording that `prompts` itself gives."""

TemplateName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]

ASKED = ("intervention", "low", "high", "options")
"""The placeholders of a survey prompt that every question fills."""


def placeholders(template: str) -> list[str]:
    """The names in braces, in their order. Raises ValueError where braces do not pair."""
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def check_placeholders(
    at: tuple[str | int, ...], template: str, allowed: set[str], question: str | None = None
) -> None:
    """Raise SpecError for a placeholder nobody fills, or for braces that do not pair."""
    try:
        used = [(name, form, how) for _, name, form, how in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise SpecError(
            f"this is no template: {error}", at=at, remedy="write a literal brace as {{ or }}"
        ) from None
    where = f" for question {question!r}" if question else ""
    for name, form, how in used:
        if name not in allowed:
            raise SpecError(
                f"unknown placeholder{where}",
                at=at,
                value="{" + name + "}",
                remedy=f"use one of {', '.join('{' + a + '}' for a in sorted(allowed))}",
            )
        if form or how:
            raise SpecError(
                "a placeholder takes no format",
                at=at,
                remedy=f"write {{{name}}}",
                value="{" + name + (f"!{how}" if how else "") + (f":{form}" if form else "") + "}",
            )


class DemographicList(Spec):
    """The list that `{demographics}` becomes: `{age: 18–25, gender: Man}` as in the paper.

    `show` names the demographics and their order (all, in the codebook's order, unless given); `item`
    takes `{name}` and `{value}`, `frame` takes `{items}`, and in both a brace is written twice. With
    `shuffle` each participant has an order of their own, by a keyed hash.
    """

    show: tuple[str, ...] | None = None
    item: str = "{name}: {value}"
    separator: str = ", "
    frame: str = "{{{items}}}"
    shuffle: bool = False

    @model_validator(mode="after")
    def _filled_once(self) -> DemographicList:
        check_placeholders(("item",), self.item, {"name", "value"})
        check_placeholders(("frame",), self.frame, {"items"})
        for field, template, needed in (("item", self.item, "value"), ("frame", self.frame, "items")):
            if needed not in placeholders(template):
                raise SpecError(
                    f"without {{{needed}}} the list says nothing of the person",
                    at=(field,),
                    value=template,
                    remedy=f"put {{{needed}}} in",
                )
        return self


class OptionList(Spec):
    """The list that `{options}` becomes; `item` takes `{number}` and `{label}`."""

    item: str = "{number} = {label}"
    separator: str = "; "

    @model_validator(mode="after")
    def _known(self) -> OptionList:
        check_placeholders(("item",), self.item, {"number", "label"})
        return self


class Template(Spec):
    """One wording. `system` takes `{demographics}`; `user` takes `{intervention}`, `{low}`, `{high}`,
    `{options}` and the fields of questions and interventions."""

    system: str
    user: str
    demographics: DemographicList = DemographicList()
    options: OptionList = OptionList()


class OtherWording(Spec):
    """A second wording: what is not given is as in the first."""

    system: str | None = None
    user: str | None = None
    demographics: DemographicList | None = None
    options: OptionList | None = None


class PromptTemplates(Template):
    """The survey's wording (B.1), and `templates`: others by name, to measure what wording changes."""

    templates: dict[TemplateName, OtherWording] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _default_is_taken(self) -> PromptTemplates:
        if DEFAULT in self.templates:
            raise SpecError(
                "the first wording is called so",
                at=("templates", DEFAULT),
                remedy="use another name",
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all wordings, the first one first."""
        return (DEFAULT, *self.templates)

    def named(self, name: str) -> Template:
        """The wording of that name. Raises KeyError when there is none."""
        given = {field: getattr(self, field) for field in Template.model_fields}
        if name != DEFAULT:
            other = self.templates[name]
            given |= {field: part for field, part in other if part is not None}
        return Template(**given)
