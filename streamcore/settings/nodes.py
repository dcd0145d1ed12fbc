"""YAML as nodes that know their line and column: read without surprises, turned into plain values.

No tags, no keys given twice, no merge keys; aliases only up to a number of values that memory can hold.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import yaml

from streamcore.errors import BadConfig

At: TypeAlias = tuple[str | int, ...]
"""Where a value is in a document: keys and list indices from its top."""
MOST_VALUES = 100_000


def composed(path: Path, what: str) -> yaml.Node | None:
    """The root node of the YAML file at *path*, None when it says nothing.

    *what* is what the file is called in errors. BadConfig with file:line:column: not readable, not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadConfig(
            f"{what} can't be read: {error.strerror}", where=str(path), fix="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise BadConfig(f"{what} is not UTF-8 text", where=str(path), fix="save it as UTF-8") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BadConfig(
            f"{what} is not YAML: {error.problem or error.context}",
            where=f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path),
            fix="check indentation, colons and quotes there",
        ) from error
    except yaml.YAMLError as error:  # a character that YAML forbids: it names no mark
        raise BadConfig(f"{what} is not YAML", where=str(path), fix="remove control characters") from error
    return None if root is None or is_null(root) else root


def pairs(path: Path, node: yaml.Node, name: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """The (key, its node, value's node) of a mapping; BadConfig when *node* is none or has a key twice."""
    if not isinstance(node, yaml.MappingNode):
        raise BadConfig(f"{name} must be a mapping", where=place(path, node), fix="write key: value lines")
    found: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        text = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
        if text in found or not text:
            raise BadConfig(
                f"{text!r} is given twice" if text else "a key must be a text",
                where=place(path, key),
                fix="keep one of them" if text else "write key: value lines",
            )
        found[text] = (text, key, value)
    return list(found.values())


def scalar(path: Path, node: yaml.Node) -> object:
    """The value of *node* alone, by YAML's rules; BadConfig for what is no plain value."""
    constructor = yaml.SafeLoader("")
    try:
        value: object = constructor.construct_document(node)
        return value
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        raise BadConfig("not a plain YAML value", where=place(path, node), fix="put it in quotes") from error
    finally:
        constructor.dispose()


def is_null(node: yaml.Node) -> bool:
    """Whether *node* is ``null`` or nothing at all."""
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def place(path: Path, node: yaml.Node) -> str:
    """``file:line:column`` of *node*."""
    return f"{path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


class Document:
    """A YAML file as plain values, and where each of them is.

    ``data``: mappings, lists, texts, numbers, booleans, None; dates are texts. ``places`` maps where a
    value is in ``data`` to ``file:line:column``, of its key where it has one.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._places: dict[At, str] = {(): str(path)}
        root = composed(path, what)
        self.data: Mapping[str, object] = {}
        if root is not None:
            self._count = 0
            self.data = self._mapping(root, (), what)

    def place(self, at: At) -> str:
        """``file:line:column`` of the value *at*, or of the nearest that is there."""
        while at not in self._places:
            at = at[:-1]
        return self._places[at]

    def _mapping(self, node: yaml.Node, at: At, name: str) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, key_node, value in pairs(self.path, node, name):
            below = (*at, key)
            self._places[below] = place(self.path, key_node)
            found[key] = self._value(value, below)
        return found

    def _value(self, node: yaml.Node, at: At) -> object:
        self._count += 1
        if self._count > MOST_VALUES or len(at) > 100:
            raise BadConfig("too many values, or too deep ones", where=place(self.path, node))
        self._places.setdefault(at, place(self.path, node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at, str(at[-1]))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*at, number)) for number, item in enumerate(node.value)]
        value = scalar(self.path, node)
        return value.isoformat() if isinstance(value, dt.date) else value
