"""The arguments of a sink as options of a URI or dictionary: their names, and texts as their types."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from streamcore.contracts import Sink
from streamcore.errors import BadConfig, did_you_mean
from streamcore.secrets import resolve


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """One of them. ``several``: a list of names, as a text with commas. ``secret``: it is never shown."""

    type: TypeAdapter[Any]
    required: bool
    several: bool
    secret: bool


@dataclasses.dataclass(frozen=True)
class Options(Mapping[str, Option]):
    """The options of a kind of sink, or of several that an address can mean, by name."""

    kinds: tuple[type[Sink], ...]
    known: Mapping[str, Option]

    @classmethod
    def of(cls, kind: type[Any], *without: str) -> Options:
        """Those of *kind*, a dataclass; *without* those that the address itself gives."""
        hints = get_type_hints(kind)
        fields = [field for field in dataclasses.fields(kind) if field.init and field.name not in without]
        return cls((kind,), {field.name: _option(field, hints[field.name]) for field in fields})

    @classmethod
    def by(cls, kinds: Mapping[str, type[Any]], *without: str) -> Options:
        """Those of all *kinds*. One of their names asks for that kind, and is its first argument."""
        known: dict[str, Option] = {}
        for name, kind in kinds.items():
            for place, (own, option) in enumerate(cls.of(kind, *without).items()):
                known[own if place else name] = dataclasses.replace(option, required=False)
        return cls(tuple(kinds.values()), known)

    @property
    def secrets(self) -> list[str]:
        """The names of those that are never shown."""
        return [name for name, option in self.known.items() if option.secret]

    def read(self, given: Mapping[str, object], where: str) -> dict[str, Any]:
        """The arguments that *given* say, references resolved but those of secrets.

        BadConfig for names that there are not, values of other types, and what is missing.
        """
        found = {name: self._value(name, value, where) for name, value in given.items() if value is not None}
        for name, option in self.known.items():
            if option.required and name not in found:
                raise BadConfig(f"{name} is missing", where=where, fix=f"add {name}=")
        return found

    def _value(self, name: str, value: object, where: str) -> object:
        if name not in self.known:
            fix = did_you_mean(name, self.known) or "remove it"
            raise BadConfig("there is no such option", where=where, got=name, allowed=self.known, fix=fix)
        option = self.known[name]
        if option.secret:
            return str(value)
        if isinstance(value, str):
            value = resolve(value)
            if option.several:
                parts = [part.strip() for part in value.split(",")]
                return parts if len(parts) > 1 else value
        try:
            return option.type.validate_python(value)
        except ValidationError as error:
            raise BadConfig(f"option {name}: {error.errors()[0]['msg']}", where=where, got=value) from None

    def __getitem__(self, name: str) -> Option:
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def _option(field: dataclasses.Field[Any], hint: Any) -> Option:
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    parts = get_args(hint)
    several = Sequence[str] in parts
    # Of what may be a text or an object of Python, a URI gives the text.
    type_ = list[str] if several else str if str in parts else hint
    return Option(TypeAdapter(type_), required, several, secret=not field.repr)
