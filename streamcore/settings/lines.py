"""Reads a settings file into values that know their line and column."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from streamcore.errors import BadConfig


@dataclass(frozen=True, slots=True)
class Given:
    """A value that somebody set: ``value`` as written (a YAML scalar or a text), ``origin`` for people."""

    value: object = field(repr=False)
    origin: str


def read(path: Path, sections: Container[str]) -> Iterator[tuple[tuple[str, ...], Given]]:
    """The (section, key) pairs of the YAML file at *path*, in its order.

    What is not one of *sections*, or holds no mapping, comes as a pair of one name.
    BadConfig with file:line:column: not readable, not YAML, not a mapping, a key given twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadConfig(
            f"the settings file can't be read: {error.strerror}", where=str(path), fix="check --config"
        ) from error
    except UnicodeDecodeError as error:
        raise BadConfig(
            "the settings file is not UTF-8 text", where=str(path), fix="save it as UTF-8"
        ) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise BadConfig(
            f"the settings file is not YAML: {error.problem or error.context}",
            where=place,
            fix="check indentation, colons and quotes there",
        ) from error
    except yaml.YAMLError as error:  # a character that YAML forbids: it names no mark
        raise BadConfig(
            "the settings file is not YAML", where=str(path), fix="remove control characters"
        ) from error
    if root is None or _is_null(root):
        return
    for name, key, node in _pairs(path, root, "the settings file"):
        if _is_null(node):
            continue  # "section:" with all its keys commented out
        if name not in sections or not isinstance(node, yaml.MappingNode):
            yield (name,), _given(path, key, node)
            continue
        for inner, inner_key, inner_node in _pairs(path, node, name):
            yield (name, inner), _given(path, inner_key, inner_node)


def _pairs(path: Path, node: yaml.Node, name: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise BadConfig(f"{name} must be a mapping", where=_place(path, node), fix="write key: value lines")
    seen: set[str] = set()
    for key, value in node.value:
        text = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
        if text in seen or not text:
            raise BadConfig(
                f"{text!r} is given twice" if text else "a key must be a text",
                where=_place(path, key),
                fix="keep one of them" if text else "write key: value lines",
            )
        seen.add(text)
        yield text, key, value


def _given(path: Path, key: yaml.Node, node: yaml.Node) -> Given:
    constructor = yaml.SafeLoader("")
    try:
        return Given(constructor.construct_document(node), _place(path, key))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        raise BadConfig("not a plain YAML value", where=_place(path, node), fix="put it in quotes") from error
    finally:
        constructor.dispose()


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _place(path: Path, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
