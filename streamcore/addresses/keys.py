"""Keys of a dictionary of a configuration: taken one by one, each with its own error, and none left over."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from streamcore.errors import BadConfig, did_you_mean

Value: TypeAlias = str | int | float | bool


class Keys:
    """The keys of one dictionary; each is taken once, and what is left belongs to the connector.

    ``what``: what the dictionary is of, for messages.
    """

    def __init__(self, kind: str, given: dict[str, object], what: str = "source") -> None:
        self._left, self.where, self.what = given, f"type: {kind}", what
        self._own: list[str] = []

    @property
    def left(self) -> Collection[str]:
        """The keys that have not been taken."""
        return list(self._left)

    def text(self, *names: str) -> str | None:
        """The value of the one of *names* that is given."""
        found = {name: self._left.pop(name) for name in names if name in self._left}
        self._own += names
        if len(found) > 1:
            raise BadConfig(
                "these keys mean the same", where=self.where, got=", ".join(found), fix="give one"
            )
        return next((str(_scalar(value, name, self.where)) for name, value in found.items()), None)

    def needed(self, *names: str) -> str:
        """The same, BadConfig when none of *names* is given."""
        value = self.text(*names)
        if value is None or not value.strip():
            raise BadConfig(f"{names[0]} is missing", where=self.where, fix=f"add {names[0]}:")
        return value

    def choice(self, name: str, known: Collection[str]) -> str | None:
        """One of *known*."""
        self._own.append(name)
        return choice_of(self._left, name, known)

    def mapping(self, name: str) -> list[tuple[str, Value]]:
        """The pairs of a dictionary in the dictionary."""
        self._own.append(name)
        value = self._left.pop(name, {})
        if not isinstance(value, Mapping):
            raise BadConfig(
                f"{name} is no dictionary", where=self.where, fix=f"write {name}: {{NAME: value}}"
            )
        return [(str(key), _scalar(inner, name, self.where)) for key, inner in value.items()]

    def number(self, name: str) -> int | None:
        """A whole number above 0."""
        text = self.text(name)
        if text is None:
            return None
        if not text.isdigit() or int(text) < 1:
            raise BadConfig(f"{name} is no whole number above 0", where=self.where, fix=f"write {name}: 10")
        return int(text)

    def options(self, known: Collection[str], names: Mapping[str, str] | None = None) -> dict[str, Value]:
        """What is left, which must be *known*; *names* are other ones for those."""
        names = names or {}
        found: dict[str, Value] = {}
        for key, value in self._left.items():
            name = names.get(key, key)
            if name not in known:
                allowed = [*dict.fromkeys([*self._own, *known])]
                raise BadConfig(
                    "there is no such key",
                    where=self.where,
                    got=key,
                    allowed=allowed,
                    fix=did_you_mean(key, allowed) or "remove it",
                )
            found[name] = _scalar(value, key, self.where)
        return found


def choice_of(given: dict[str, object], name: str, known: Collection[str]) -> str | None:
    """The value of *name*, taken out of *given*, in small letters; BadConfig when it is none of *known*."""
    value = given.pop(name, None)
    if value is None:
        return None
    text = str(value).lower()
    if text not in known:
        raise BadConfig(
            f"{name} is none that there is",
            where=name,
            got=value,
            allowed=known,
            fix=did_you_mean(text, known),
        )
    return text


def _scalar(value: object, name: str, where: str) -> Value:
    """A value of an option; lists are texts with commas."""
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Sequence) and all(isinstance(part, str) for part in value):
        return ",".join(map(str, value))
    raise BadConfig(f"{name} is no text, number or list of texts", where=where, got=type(value).__name__)
