"""References in the parameters of tasks: filled in when an attempt begins.

========================  =====================================================================
``${param:NAME}``         the run's parameter, or its default in the pipeline
``${run:NAME}``           of the run: ``id``, ``pipeline``, ``task``, ``created``, ``scheduled``
``${dataset:NAME}``       what a task before this one has written, as a source's dictionary
others                    as in :mod:`streamcore.secrets`: resolved where they are used, never stored
========================  =====================================================================

A value that is one reference and nothing else takes the type of what it stands for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from pydantic import JsonValue

from streamcore.errors import BadConfig, did_you_mean
from streamcore.secrets import references, resolve

Names: TypeAlias = Mapping[str, Mapping[str, JsonValue]]
"""What can be referred to: by prefix, then by name."""
At: TypeAlias = tuple[str | int, ...]
RUN_NAMES = ("id", "pipeline", "task", "created", "scheduled")
PREFIXES = ("param", "run", "dataset")
_REFERENCE = re.compile(r"\$\{(param|run|dataset):([^{}]*)\}")


def filled(value: JsonValue, names: Names) -> JsonValue:
    """*value* with the references of this module replaced; BadConfig for a name that there is not."""
    if isinstance(value, dict):
        return {key: filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, names) for inner in value]
    if not isinstance(value, str):
        return value
    if whole := _REFERENCE.fullmatch(value):
        return _named(whole, names)
    return _REFERENCE.sub(lambda match: _as_text(match, names), value)


def unfilled(value: JsonValue) -> Iterator[tuple[str, str]]:
    """The (prefix, name) of all references of this module in *value*."""
    for text in _texts(value):
        for match in _REFERENCE.finditer(text):
            yield match[1], match[2]


def check_environment(value: JsonValue) -> None:
    """BadConfig for the first reference to a variable or file in *value* that can't be resolved here."""
    for text in _texts(value):
        resolve(_REFERENCE.sub("", text))


def has_reference(value: object) -> bool:
    """Whether *value* is or holds a text with a reference of any kind."""
    return any("${" in text for text in _texts(value))


def resolved(value: JsonValue) -> JsonValue:
    """*value* with variables and files in it put in the place of their references, all the way down."""
    if isinstance(value, dict):
        return {key: resolved(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolved(inner) for inner in value]
    return resolve(value) if isinstance(value, str) and references(value) else value


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _named(match: re.Match[str], names: Names) -> JsonValue:
    prefix, name = match[1], match[2]
    known = names.get(prefix, {})
    if name not in known:
        raise BadConfig(
            f"there is no {prefix} {name!r}",
            where=match[0],
            allowed=sorted(known),
            fix=did_you_mean(name, known)
            or ("set it when the run is started" if prefix == "param" else None),
        )
    return known[name]


def _as_text(match: re.Match[str], names: Names) -> str:
    value = _named(match, names)
    if isinstance(value, dict | list):
        raise BadConfig(
            f"the {match[1]} {match[2]!r} is no text", where=match[0], fix="make it the whole value"
        )
    return value if isinstance(value, str) else json.dumps(value)
