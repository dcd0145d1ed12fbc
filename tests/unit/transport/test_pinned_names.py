"""The private names that the transports stand on exist, in the versions that are pinned."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
from importlib.metadata import version
from pathlib import Path

import pytest

from streamcore.transport import pinned_names
from streamcore.transport.kafka_chunks import fetch_whole

ROOT = Path(__file__).parents[3]


def class_of(path: str) -> type:
    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, type)
    return found


def attributes(kind: type) -> set[str]:
    """Names that the class, or ``self`` in one of its methods, has."""
    names = set(dir(kind))
    for base in kind.__mro__:
        if base.__module__.startswith(("aiokafka", "faust")):
            tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base)))
            names |= {
                node.attr
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            }
    return names


@pytest.mark.parametrize("path", pinned_names.OVERRIDDEN)
def test_overridden_methods_exist(path):
    kind = class_of(path)
    assert [n for n in pinned_names.OVERRIDDEN[path] if not callable(getattr(kind, n, None))] == []


@pytest.mark.parametrize("path", pinned_names.READ)
def test_attributes_exist(path):
    assert set(pinned_names.READ[path]) - attributes(class_of(path)) == set()


@pytest.mark.parametrize("package", pinned_names.VERSIONS)
def test_the_versions_are_the_pinned_ones(package):
    wanted = pinned_names.VERSIONS[package]
    assert version(package) == wanted
    assert f'"{package}=={wanted}"' in (ROOT / "pyproject.toml").read_text()


def test_an_aiokafka_without_the_names_is_left_as_it_is():
    class Other:
        _records = {}

    fetcher = Other()
    assert not fetch_whole(fetcher, lambda topic: True, asyncio.Event())
    assert not hasattr(fetcher, "_client")
