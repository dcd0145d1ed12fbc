"""Finding a topology in the user's module."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from streamcore.errors import BadConfig, did_you_mean
from streamcore.topology import Topology


def load_topology(target: str) -> Topology:
    """The topology of *target*: ``package.module``, ``path/to/file.py``, either with ``:variable``.

    The current folder is importable. BadConfig when the module can't be found or imported (with the
    line of the user's code), holds no topology, or holds several and none is named; the topology is
    checked.
    """
    name, _, variable = target.partition(":")
    found = topologies_of(load_module(name))
    if variable:
        if variable not in found:
            raise BadConfig(
                f"module {name} has no topology of this name",
                got=variable,
                allowed=sorted(found),
                fix=did_you_mean(variable, found),
            )
        topology = found[variable]
    elif len({id(t) for t in found.values()}) == 1:
        topology = next(iter(found.values()))
    else:
        raise BadConfig(
            f"module {name} holds {'several topologies' if found else 'no topology'}",
            allowed=[f"{name}:{n}" for n in sorted(found)] or None,
            fix="name one of them" if found else 'add topology = sc.Topology("name")',
        )
    topology.freeze()
    return topology


def load_module(name: str) -> ModuleType:
    """Import ``package.module`` or ``path/to/file.py``; BadConfig as :func:`load_topology` says."""
    return _import_file(Path(name)) if name.endswith(".py") else _import_module(name)


def topologies_of(module: ModuleType) -> dict[str, Topology]:
    """The topologies of *module*, by the name of their variable."""
    return {name: value for name, value in vars(module).items() if isinstance(value, Topology)}


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
