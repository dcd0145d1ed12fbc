"""Texts with ``{names}``: only those that are known, without formats, attributes or items.

``{{`` and ``}}`` are braces. References such as ``${env:NAME}`` stay as they are, until the text is filled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, JsonValue

from streamcore.errors import BadConfig, did_you_mean
from streamcore.secrets import resolve

NAMES = (
    "pipeline_id",
    "pipeline_name",
    "run_id",
    "event",
    "status",
    "error",
    "task_id",
    "attempt",
    "created",
    "at",
    "seconds",
    "count",
)
"""What a template may name. ``at``: when it happened; ``seconds``: since the run was made."""
_REFERENCE = re.compile(r"(\$\{[^{}]*\})")


def filled(template: str, facts: Mapping[str, JsonValue]) -> str:
    """*template* with the names replaced; one that there is no fact for is left out."""

    def fact(name: str) -> str:
        value = facts.get(name)
        return "" if value is None else str(value)

    return _replaced(template, fact, resolve)


def _checked(template: str) -> str:
    def known(name: str) -> str:
        if name in NAMES:
            return ""
        hint = did_you_mean(name, NAMES)
        raise ValueError(
            f"there is no {{{name}}}, allowed: {', '.join(NAMES)}" + (f"; {hint}" if hint else "")
        )

    try:
        _replaced(template, known, lambda reference: reference)
    except BadConfig as error:
        raise ValueError(str(error)) from None
    return template


Template: TypeAlias = Annotated[str, AfterValidator(_checked)]


def _replaced(template: str, name: Callable[[str], str], reference: Callable[[str], str]) -> str:
    parts = _REFERENCE.split(template)
    return "".join(reference(part) if number % 2 else _part(part, name) for number, part in enumerate(parts))


def _part(text: str, name: Callable[[str], str]) -> str:
    done = []
    try:
        for literal, field, form, conversion in Formatter().parse(text):
            done.append(literal)
            if field is None:
                continue
            if form or conversion or not field.isidentifier():
                raise BadConfig(f"{{{field}}} can't be filled in", fix="write {name}, and {{ for a brace")
            done.append(name(field))
    except ValueError as error:
        if str(error).startswith("there is no"):
            raise
        raise BadConfig(f"the text has a brace too many ({error})", fix="write {{ for a brace") from None
    return "".join(done)
