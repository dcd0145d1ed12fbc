"""Importing the user's modules, by name or by path."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from streamcore.errors import BadConfig


def load_module(name: str) -> ModuleType:
    """Import ``package.module`` or ``path/to/file.py``; BadConfig when it can't be found or imported, with
    the line of the user's code. The current folder is importable."""
    return _import_file(Path(name)) if name.endswith(".py") else _import_module(name)


def _import_module(name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise BadConfig(
                "there is no such module", got=name, fix="give package.module or path/to/file.py"
            ) from error
        raise _broken(name, error) from error
    except BadConfig:
        raise
    except Exception as error:
        raise _broken(name, error) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise BadConfig("there is no such file", got=str(path), fix="give package.module or path/to/file.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BadConfig:
        raise
    except Exception as error:
        raise _broken(str(path), error) from error
    return module


def _broken(name: str, error: Exception) -> BadConfig:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "importlib" not in f.filename]
    where = f"{own[-1].filename}:{own[-1].lineno}" if own else None
    return BadConfig(
        f"module {name} can't be imported: {type(error).__name__}: {error}",
        where=where,
        fix="--debug shows the traceback",
    )
