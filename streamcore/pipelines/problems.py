"""What is wrong with a configuration, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from streamcore.errors import BadConfig, did_you_mean


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong; ``at`` is where in the configuration, as keys and indices."""

    at: tuple[str | int, ...]
    what: str
    got: object = None
    allowed: tuple[object, ...] | None = None
    fix: str | None = None

    def error(self, where: str) -> BadConfig:
        """The error to raise for it, at the place *where*."""
        return BadConfig(self.what, where=where, got=self.got, allowed=self.allowed, fix=self.fix)


def of_validation(
    error: ValidationError, model: type[BaseModel], at: tuple[str | int, ...] = ()
) -> Iterator[Problem]:
    """What pydantic says of a *model*, in our words; no value is shown."""
    for one in error.errors(include_url=False):
        where, path = (*at, *one["loc"]), ".".join(str(k) for k in one["loc"] if k != "[key]") or "it"
        if one["type"] == "extra_forbidden":
            known = _fields(model, one["loc"][:-1])
            name = str(one["loc"][-1])
            yield Problem(where, f"unknown field {name!r}", None, known, did_you_mean(name, known))
        elif one["type"] == "missing":
            yield Problem(where, f"{one['loc'][-1]} is missing", fix=f"add {one['loc'][-1]}")
        elif one["type"] in ("enum", "literal_error"):
            known = tuple(re.findall(r"'([^']*)'", one["ctx"]["expected"]))
            hint = did_you_mean(str(one["input"]), known)
            yield Problem(where, f"{path} must be one of a few", None, known, hint)
        else:
            said = (
                one["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("should", "must", 1)
            )
            yield Problem(where, f"{path}: {said[:1].lower()}{said[1:]}")


def _fields(model: type[BaseModel], path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The fields of the model at *path* below *model*, as far as it can be told."""
    found: type[BaseModel] = model
    for key in path:
        if not isinstance(key, str) or key not in found.model_fields:
            continue
        inner = _models_in(found.model_fields[key].annotation)
        if inner:
            found = inner[0]
    return tuple(found.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
