"""Keys of Redis that are made of columns: ``user:{id}``, ``hourly:{origin}:{hour}``."""

from __future__ import annotations

from string import Formatter

from streamcore.errors import BadConfig

Part = tuple[str, str]
"""Text, and the column behind it; "" for none."""


def parts_of(pattern: str) -> tuple[Part, ...]:
    """*pattern* in pieces; BadConfig unless columns are ``{name}``, each once. A brace is ``{{``."""
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError:
        parts = [("", "", "", None)]
    names = [name for _, name, _, _ in parts if name is not None]
    plain = all(not spec and not conversion for _, _, spec, conversion in parts)
    if not parts or not plain or not all(names) or len(set(names)) < len(names):
        raise BadConfig("the pattern of a key has columns in braces", got=pattern, allowed=["user:{id}"])
    return tuple((text, name or "") for text, name, _, _ in parts)


def columns_in(pattern: str) -> tuple[str, ...]:
    """The columns in the braces of *pattern*, of which there must be one or more: BadConfig."""
    names = tuple(name for _, name in parts_of(pattern) if name)
    if not names:
        raise BadConfig("the pattern of a key has columns in braces", got=pattern, allowed=["user:{id}"])
    return names
