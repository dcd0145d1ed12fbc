"""Facts about the code that ruff, mypy and import-linter do not check."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("streamcore", "batch_adapters")
ATTICS = {"utils", "util", "common", "manager", "helpers", "misc"}
MOST_LINES = 400


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


SHIPPED_MODULES = modules(*SHIPPED)


def test_the_modules_are_found() -> None:
    assert {"streamcore/errors.py", "streamcore/batch.py"} <= set(map(name, SHIPPED_MODULES))


def test_no_file_is_too_long_to_read() -> None:
    long = {
        name(path): lines
        for path in modules(*SHIPPED, "topologies", "tests", "benchmarks")
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long


def test_no_attic() -> None:
    assert not [name(path) for path in SHIPPED_MODULES if {path.stem, path.parent.name} & ATTICS]


def undocumented(path: Path) -> Iterator[str]:
    """Public classes and functions of a module without a docstring; a method may leave it to its contract."""
    tree = ast.parse(path.read_text())
    if not ast.get_docstring(tree) and tree.body:
        yield f"{name(path)}: the module"
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") or is_overload(node):
            continue
        if not ast.get_docstring(node):
            yield f"{name(path)}:{node.lineno} {node.name}"


def is_overload(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)


@pytest.mark.parametrize("path", SHIPPED_MODULES, ids=name)
def test_public_names_have_docstrings(path: Path) -> None:
    assert not list(undocumented(path))


def test_every_part_of_streamcore_has_its_layer() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    layers = config["importlinter:contract:layers"]["layers"]
    known = set(re.findall(r"streamcore\.(\w+)", layers))
    present = {
        path.stem
        for path in (ROOT / "streamcore").iterdir()
        if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert present <= known, "add the new module to the layers in .importlinter"


def test_unsafe_loading_is_nowhere() -> None:
    unsafe = re.compile(r"\bimport pickle\b|\byaml\.load\(|\bfrom pickle\b|(?<![\w.])(eval|exec)\(")
    assert not [name(path) for path in SHIPPED_MODULES if unsafe.search(path.read_text())]


@pytest.mark.parametrize("path", modules("benchmarks", "topologies"), ids=name)
def test_what_is_imported_of_streamcore_is_there(path: Path) -> None:
    """No test runs all of these; mypy looks at them too, where the packages of peers are not missing."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in SHIPPED:
            module = importlib.import_module(str(node.module))
            missing = [
                alias.name
                for alias in node.names
                if not hasattr(module, alias.name)
                and importlib.util.find_spec(f"{node.module}.{alias.name}") is None
            ]
            assert not missing, f"{name(path)}:{node.lineno}"
