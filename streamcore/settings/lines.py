"""Reads a settings file into values that know their line and column."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from streamcore.settings.nodes import composed, is_null, pairs, place, scalar


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
    root = composed(path, "the settings file")
    if root is None:
        return
    for name, key, node in pairs(path, root, "the settings file"):
        if is_null(node):
            continue  # "section:" with all its keys commented out
        if name not in sections or not isinstance(node, yaml.MappingNode):
            yield (name,), _given(path, key, node)
            continue
        for inner, inner_key, inner_node in pairs(path, node, name):
            yield (name, inner), _given(path, inner_key, inner_node)


def _given(path: Path, key: yaml.Node, node: yaml.Node) -> Given:
    return Given(scalar(path, node), place(path, key))
