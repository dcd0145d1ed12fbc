"""Puts the settings together from their sources and remembers where each value came from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from streamcore.errors import BadConfig, did_you_mean
from streamcore.secrets import Secret, mask_url, references, resolve
from streamcore.settings.lines import Given, read
from streamcore.settings.model import Section, Settings

DEFAULT_FILE = Path("config/streamcore.yaml")
PREFIX = "STREAMCORE_"

SECTIONS: Mapping[str, type[Section]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
KEYS = tuple((section, key) for section, model in SECTIONS.items() for key in model.model_fields)


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting as ``config show`` prints it: secrets hidden, passwords in URLs masked."""

    name: str
    value: object
    origin: str
    description: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and what was given for them under the name ``section.key``; the rest are defaults."""

    settings: Settings
    given: Mapping[str, Given]

    def origin(self, name: str) -> str:
        """Where the value of *name* comes from: an option, a variable, file:line:column or "default"."""
        return self.given[name].origin if name in self.given else "default"

    def shown(self) -> Iterator[Shown]:
        """All settings in the order of the models, fit to be printed."""
        for section, key in KEYS:
            name = f"{section}.{key}"
            value = getattr(getattr(self.settings, section), key)
            written = self.given[name].value if name in self.given else None
            description = SECTIONS[section].model_fields[key].description or ""
            yield Shown(name, _shown(value, written), self.origin(name), description)


def load(
    options: Mapping[str, tuple[str, object]] | None = None,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """The settings of this run.

    *options* maps ``section.key`` to (option, value) of the command line, e.g.
    ``{"broker.url": ("--broker", "embedded")}``; *file* must exist, otherwise ``config/streamcore.yaml``
    is read where it exists; *environ* is the process's own when None.
    BadConfig, with the place: unknown section or key, wrong type or value, an undefined reference.
    """
    given: dict[str, Given] = {}
    path = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if path is not None:
        for names, value in read(path, SECTIONS):
            given[_known(names, value.origin)] = value
    for names, value in _from_environment(os.environ if environ is None else environ):
        given[_known(names, value.origin)] = value
    for name, (option, option_value) in (options or {}).items():
        given[_known(tuple(name.split(".")), option)] = Given(option_value, option)
    return Loaded(_validated(given), given)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], Given]]:
    """Variables with a double underscore; others with our prefix (crash points, tests) are no settings."""
    for variable, text in sorted(environ.items()):
        if variable.startswith(PREFIX) and "__" in variable:
            yield tuple(variable[len(PREFIX) :].lower().split("__")), Given(text, variable)


def _known(names: tuple[str, ...], where: str) -> str:
    name = ".".join(names)
    if names in KEYS:
        return name
    if names[0] not in SECTIONS:
        hint = did_you_mean(names[0], SECTIONS) or did_you_mean(name, [".".join(k) for k in KEYS])
        raise BadConfig(f"unknown section {names[0]!r}", where=where, allowed=SECTIONS, fix=hint)
    keys = tuple(SECTIONS[names[0]].model_fields)
    if len(names) == 1:
        raise BadConfig(
            f"{names[0]} must be a mapping", where=where, allowed=keys, fix="indent key: value below it"
        )
    raise BadConfig(
        f"unknown setting {name!r}", where=where, allowed=keys, fix=did_you_mean(".".join(names[1:]), keys)
    )


def _validated(given: Mapping[str, Given]) -> Settings:
    sections: dict[str, Section] = {}
    for section, model in SECTIONS.items():
        own = {n.partition(".")[2]: g for n, g in given.items() if n.startswith(f"{section}.")}
        values = {key: _resolved(model, key, one, f"{section}.{key}") for key, one in own.items()}
        try:
            sections[section] = model.model_validate(values)
        except ValidationError as error:
            raise _bad_value(section, error.errors(include_url=False)[0], own) from None
    return Settings.model_validate(sections)


def _resolved(model: type[Section], key: str, given: Given, name: str) -> object:
    annotation = model.model_fields[key].annotation
    if isinstance(given.value, bool) and annotation is not bool:  # pydantic would take True for 1
        raise BadConfig(f"{name} must not be true or false", where=given.origin, fix=_fix(name))
    if not isinstance(given.value, str) or _is_secret(model, key):
        return given.value  # a secret is resolved when it is used
    try:
        return resolve(given.value)
    except BadConfig as error:
        place = f"{given.origin}, {error.where}" if error.where else given.origin
        raise BadConfig(error.what, where=place, allowed=error.allowed, fix=error.fix) from None


def _bad_value(section: str, error: ErrorDetails, own: Mapping[str, Given]) -> BadConfig:
    """pydantic's first complaint in our words, with the value as it was written."""
    said = error["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("should", "must", 1)
    key = str(error["loc"][0])
    given, name = own[key], f"{section}.{key}"
    shown = isinstance(given.value, str | int | float) and not _is_secret(SECTIONS[section], key)
    plain = given.value if shown else None
    return BadConfig(
        f"{name}: {said[:1].lower()}{said[1:]}",
        where=given.origin,
        got=mask_url(plain) if isinstance(plain, str) else plain,
        fix=_fix(name),
    )


def _is_secret(model: type[Section], key: str) -> bool:
    """Whether the setting is an optional reference to a secret."""
    return any(get_args(one)[:1] == (Secret,) for one in get_args(model.model_fields[key].annotation))


def _fix(name: str) -> str:
    return f"see {name} in docs/configuration.md"


def _shown(value: object, written: object) -> object:
    if isinstance(written, str) and any(r.startswith(("${env:", "${file:")) for r in references(written)):
        return mask_url(written)  # the reference may lead to a secret: show it, not where it leads
    if isinstance(value, Path | Secret):
        return str(value)
    return mask_url(value) if isinstance(value, str) else value
