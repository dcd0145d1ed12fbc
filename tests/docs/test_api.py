"""docs/api.md is made from the code: every public name, with its signature and docstring.

``STREAMCORE_UPDATE_DOCS=1 python -m pytest tests/docs/test_api.py`` writes it anew.
"""

from __future__ import annotations

import enum
import inspect
import os
import re
import types
from collections.abc import Iterator

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import streamcore as sc
from tests.docs.code_blocks import ROOT

PAGE = ROOT / "docs" / "api.md"
HEAD = """# API

All public names of `streamcore`, from their docstrings; this page is made from the code by
`tests/docs/test_api.py`. What they are for is told in [topologies](topologies.md),
[windows](windows.md), [tables](tables.md),
[connectors](connectors/README.md), [quality](quality.md) and [pipelines](pipelines.md).
"""


def page() -> str:
    """The whole page: modules behind everything else, in alphabetical order."""
    names = sorted(name for name in sc.__all__ if name != "Field")
    found = {name: getattr(sc, name) for name in names}
    lines = [HEAD]
    for name, value in found.items():
        if not isinstance(value, types.ModuleType):
            lines += [f"## {name}", "", *described(name, value)]
    for name, module in found.items():
        if isinstance(module, types.ModuleType):
            lines += [f"## {name}", "", *prose(module), *members_of_module(name, module)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def described(name: str, value: object) -> Iterator[str]:
    """A class with its methods, a function, or a constant."""
    if inspect.isclass(value):
        if issubclass(value, enum.Enum):
            yield from [*prose(value), "Values: " + ", ".join(f"`{one.value}`" for one in value) + ".", ""]
        elif issubclass(value, BaseModel) and value.model_fields:
            yield from [*prose(value), *fields(value)]
        else:
            yield from [signature(name, value), "", *prose(value)]
            yield from methods(value)
    elif callable(value):
        yield from [signature(name, value), "", *prose(value)]
    else:
        yield from [f"`{value!r}`", ""]


def fields(model: type[BaseModel]) -> Iterator[str]:
    """A table of the fields of a configuration."""
    yield from ["| field | default | what |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        what = " ".join(plain(field.description or "").split())
        yield f"| `{name}` | {default_of(field)} | {what} |"
    yield ""


def default_of(field: FieldInfo) -> str:
    """As it is written; needed fields have none."""
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True, validated_data={})
    return f"`{value!r}`"


def methods(owner: type) -> Iterator[str]:
    """The public methods and properties that *owner* or a base of ours defines, one line each."""
    lines = []
    for name in dict.fromkeys(n for base in reversed(owner.__mro__) for n in vars(base)):
        base = next(base for base in owner.__mro__ if name in vars(base))
        if name.startswith("_") or not base.__module__.startswith("streamcore"):
            continue
        value = inspect.getattr_static(owner, name)
        what = first_sentence(inspect.getdoc(getattr(owner, name)) or "")
        if isinstance(value, property):
            lines.append(f"- `{name}`{what}")
        elif callable(getattr(owner, name)):
            lines.append(f"- {signature(name, getattr(owner, name))}{what}")
    if lines:
        yield from [*lines, ""]


def members_of_module(prefix: str, module: types.ModuleType) -> Iterator[str]:
    """The public names of a module."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    for name in sorted(names):
        value = getattr(module, name)
        if callable(value):
            yield from [f"### {prefix}.{name}", "", *described(name, value)]


def signature(name: str, value: object) -> str:
    """The name with its arguments and their defaults; types are for editors, and in the code."""
    try:
        found = inspect.signature(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return f"`{name}`"
    bare = [shortened(argument) for argument in found.parameters.values() if argument.name != "self"]
    text = str(inspect.Signature(bare)).replace("Ellipsis", "...")
    return f"`{'await ' if inspect.iscoroutinefunction(value) else ''}{name}{text}`"


def shortened(argument: inspect.Parameter) -> inspect.Parameter:
    """Without its type; a default that has no short text of its own is ``...``."""
    bare = argument.replace(annotation=inspect.Parameter.empty)
    text = "" if argument.default is inspect.Parameter.empty else repr(argument.default)
    return bare.replace(default=...) if "<" in text or len(text) > 40 else bare


def prose(value: object) -> list[str]:
    """The docstring as Markdown."""
    return [plain(inspect.getdoc(value) or ""), ""]


def first_sentence(text: str) -> str:
    """The first one, behind a colon; empty when there is none."""
    line = plain(" ".join(text.partition("\n\n")[0].split()))
    first = re.split(r"(?<=\.)(?<!e\.g\.) (?=[A-Z*`])", line)[0]
    return f": {first}" if first else ""


def plain(text: str) -> str:
    """Docstring markup as Markdown: roles and double back-ticks as code, ``::`` before an indented block."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"(?m)^::$", "", text).replace("::\n", ":\n")
    return text.replace("``", "`")


def test_every_public_name_says_what_it_is() -> None:
    silent = [
        name
        for name in sc.__all__
        if callable(getattr(sc, name)) and not (inspect.getdoc(getattr(sc, name)) or "").strip()
    ]
    assert not silent


def test_the_page_is_made_from_the_code() -> None:
    current = page()
    if os.environ.get("STREAMCORE_UPDATE_DOCS"):
        PAGE.write_text(current)
    elif not PAGE.exists() or PAGE.read_text() != current:
        pytest.fail("docs/api.md is not that of the code: STREAMCORE_UPDATE_DOCS=1 writes it anew")
