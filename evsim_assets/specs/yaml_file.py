"""Reads a YAML file into a pydantic model, and turns each error into one that names the line.

Belongs here: the way from a file to a validated spec. Not here: what any field means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from evsim_assets.specs.errors import BadInput

SpecT = TypeVar("SpecT", bound="Spec")


class SpecError(ValueError):
    """What a spec's own rule finds wrong: the problem, what to do, and where below the spec it is."""

    def __init__(
        self, problem: str, *, remedy: str, at: tuple[str | int, ...] = (), value: object = None
    ) -> None:
        self.problem, self.remedy, self.at, self.value = problem, remedy, at, value
        super().__init__(problem)


class Spec(BaseModel):
    """Base of every spec: frozen, and a field that nobody knows is an error, not a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_spec(path: Path, model: type[SpecT], **known: Any) -> SpecT:
    """Validate the YAML file at `path` as `model`.

    Args:
        path: the file; it must hold one mapping.
        model: the spec to build.
        known: fields that follow from where the file lies (such as its name) and may not stand in it.

    Raises:
        BadInput: unreadable, not YAML, or not a valid spec; names file, line, field, value, remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput("no such file", file=path, remedy="check the path and the spelling") from None
    except UnicodeDecodeError as error:
        raise BadInput(
            "the file is not UTF-8",
            file=path,
            value=error.object[error.start : error.start + 8],
            remedy="save it as UTF-8",
        ) from None
    try:
        document = YAML(typ="rt").load(text)
        json.dumps(_plain(document), ensure_ascii=False, default=str, skipkeys=True).encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            "the file holds half a character (a lone surrogate)",
            file=path,
            value=error.object[error.start : error.end],
            remedy="write the character itself in place of its escape \\ud800 to \\udfff",
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BadInput(
            f"not valid YAML: {error.problem or error.context}",
            file=path,
            line=mark.line + 1 if mark else None,
            remedy="correct the syntax at that line",
        ) from None
    except YAMLError as error:  # such as a control character, which has no mark
        raise BadInput(
            f"not valid YAML: {' '.join(str(error).split())}",
            file=path,
            remedy="save it as plain UTF-8 text",
        ) from None
    if not isinstance(document, CommentedMap):
        raise BadInput("the file holds no mapping", file=path, remedy="write `field: value` lines")
    for field in known:
        if field in document:
            raise BadInput(
                "follows from the file's place and may not be set",
                file=path,
                line=_line(document, (field,)),
                field=field,
                remedy="remove the line",
            )
    try:
        return model.model_validate({**_plain(document), **known})
    except ValidationError as error:
        raise _as_bad_input(error, path, document, model, known) from None


def _as_bad_input(
    error: ValidationError,
    path: Path,
    document: CommentedMap,
    model: type[BaseModel],
    known: Mapping[str, Any],
) -> BadInput:
    """One error of pydantic's list, with the line it stands on.

    The first unknown field, if there is one, since a misspelt field is missing as well; else the first.
    """
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    context = first.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, BadInput):  # of a table beside the file: it says where and what to do itself
        return cause
    below = cause.at if isinstance(cause, SpecError) else ()
    place = _in_document(document, (*first["loc"], *below), absent=first["type"] == "missing")
    value, message = first.get("input"), first["msg"]
    for wordy, plain in (("Input should", "should"), ("Tuple should", "should"), (" after validation", "")):
        message = message.replace(wordy, plain)
    remedy = context.get("remedy") or _REMEDIES.get(first["type"], _READ_ON)
    if isinstance(cause, SpecError):
        message, value, remedy = cause.problem, cause.value, cause.remedy
    elif first["type"] == "extra_forbidden":
        message = "unknown field"
        allowed = [field for field in _fields_beside(model, place) if field not in known]
        remedy = f"remove it, or use one of: {', '.join(allowed)}" if allowed else "remove it"
    elif first["type"] == "missing":
        message, value, remedy = "required, but not there", None, "add the field"
    elif first["type"] == "literal_error":
        message = "no such choice"
        remedy = "use one of: " + context["expected"].replace(" or ", ", ").replace("'", "")
    return BadInput(
        message,
        file=path,
        line=_line(document, place),
        field=".".join(str(part) for part in place) or None,
        value=value,
        remedy=remedy,
    )


_READ_ON = "see the field's description in docs/codebook.md or docs/study.md"
_NUMBER, _WHOLE = "write a number", "write a whole number"
_RANGE = "use a value in that range"
_REMEDIES = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "string_type": "write text, in quotes if it looks like a number, a date, true, false or null",
    "greater_than": _RANGE,
    "greater_than_equal": _RANGE,
    "less_than": _RANGE,
    "less_than_equal": _RANGE,
    "string_pattern_mismatch": "use lower-case letters and digits, with the signs that the pattern allows",
    "string_too_short": "write something",
    "string_too_long": "shorten it",
    "invalid_key": "put the name in quotes",
    "too_short": "list at least that many",
    "tuple_type": "write a list: [first, second]",
    "model_type": "write `field: value` lines below it",
    "dict_type": "write `name: value` lines below it",
}
"""What to do about pydantic's own errors, by their type."""


def _in_document(document: Any, place: tuple[Any, ...], *, absent: bool) -> tuple[Any, ...]:
    """The place without what pydantic adds to it: names of validators, of union members, "[key]".

    With `absent` the last part is a field that should be in the document and is not.
    """
    kept: list[Any] = []
    node: Any = document
    for position, part in enumerate(place):
        key = _key(node, part)
        if key is None and not (absent and position == len(place) - 1):
            continue
        kept.append(part)
        node = node[key] if key is not None else None
    return tuple(kept)


def _key(node: Any, part: Any) -> Any:
    """The key or index under which `part` stands in the node, or None; 1 and "1" are one name."""
    if isinstance(node, CommentedMap):
        return next((key for key in node if key == part or str(key) == str(part)), None)
    if isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
        return part
    return None


def _fields_beside(model: type[BaseModel], place: tuple[Any, ...]) -> list[str]:
    """The names allowed where the unknown field of `place` stands, as far as types tell."""
    current: Any = model
    for part in place[:-1]:
        fields = _fields(current)
        if part in fields:  # else it is an index, or a name that the file gives
            current = _inner_model(fields[part].annotation)
    return sorted(_fields(current))


def _fields(model: Any) -> dict[str, Any]:
    """The fields of a model by the names they have in a file."""
    return {field.alias or name: field for name, field in getattr(model, "model_fields", {}).items()}


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None


def _line(document: Any, place: tuple[Any, ...]) -> int | None:
    """The 1-based line of `place` in the document, or of the nearest parent that is in the file."""
    line: int | None = None
    node = document
    for part in place:
        key = _key(node, part)
        if key is None:
            break
        try:
            place_of = node.lc.key if isinstance(node, CommentedMap) else node.lc.item
            line = place_of(key)[0] + 1
        except (KeyError, TypeError):  # a merged key stands elsewhere
            break
        node = node[key]
    return line


def _plain(node: Any) -> Any:
    """ruamel's containers and scalars as plain Python values."""
    if isinstance(node, dict):
        return {_plain(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def with_field(text: str, field: str, value: Any) -> str:
    """The YAML mapping `text` with one field set, and everything else, comments too, as it was written."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000  # no line is broken that was not
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(text)
    document[field] = value
    into = StringIO()
    yaml.dump(document, into)
    return into.getvalue()
