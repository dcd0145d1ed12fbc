"""Finding a topology in the user's module."""

from __future__ import annotations

from types import ModuleType

from streamcore.errors import BadConfig, did_you_mean
from streamcore.runtime.modules import load_module
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


def topologies_of(module: ModuleType) -> dict[str, Topology]:
    """The topologies of *module*, by the name of their variable."""
    return {name: value for name, value in vars(module).items() if isinstance(value, Topology)}
