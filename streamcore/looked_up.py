"""Which columns hold what was looked up outside, and where that must not be: checked at load.

A row that is processed again may find another value. A log of state takes a row once, by its position, with
the values that it was first written with; so what is computed from it stays exact. But rows are sorted to the
log's partitions by the operator's keys: with another value in a key a row would go to another partition,
where it is not known, or be missing in the one where it belongs. So such keys are refused.
"""

from __future__ import annotations

from collections.abc import Set

from streamcore.asking import AskingStep
from streamcore.contracts import Sink
from streamcore.errors import BadConfig
from streamcore.graph import Graph, Node, Stateful
from streamcore.tables.join_side import JoinSide
from streamcore.tables.lookup import Lookup
from streamcore.transforms.columns import AddColumn, Cast, Drop, Filter, Rename, Select
from streamcore.validation import Validate
from streamcore.windows.stamped import Stamped

Names = Set[str]
_PASSING = (Filter, Cast, Select, Drop)
"""Steps that make no value from another column."""


def check_looked_up(graph: Graph) -> None:
    """BadConfig where the keys of a stateful node hold what was looked up outside."""
    found: dict[str, Names] = {}
    for node in graph.nodes.values():
        before = frozenset[str]().union(*(found[up] for up in node.inputs))
        if isinstance(node.part, Stateful):
            keys = [name for name in node.part.operator.by if name in before]
            if keys:
                raise BadConfig(
                    f"the keys of {node.id!r} were looked up outside, where they may change",
                    where=node.where,
                    got=", ".join(keys),
                    fix="look up behind it; or write the rows to a topic, and read that as a stream; "
                    "or look them up in a frame, which does not change",
                )
        found[node.id] = _behind(graph, node, before)


def _behind(graph: Graph, node: Node, before: Names) -> Names:
    """Which columns behind *node* hold what was looked up, or was made of it; *before*: those before it."""
    part, columns = node.part, frozenset(node.columns)
    new = columns - frozenset().union(*(graph.nodes[up].columns for up in node.inputs))
    if isinstance(part, Stateful):
        return frozenset()  # by its log it is the same for good
    if isinstance(part, AskingStep):
        return (before | new) & columns
    if not before or isinstance(part, Sink):
        return before & columns
    if isinstance(part, Rename):
        return frozenset(part.mapping.get(name, name) for name in before) & columns
    if isinstance(part, AddColumn):
        made = part.reads & before
        return (before | {part.column}) if made else (before - {part.column})
    if isinstance(part, Lookup):
        return before | (new if before & part.on.keys() else frozenset())
    if isinstance(part, Stamped):
        return before | (new if part.time in before else frozenset())
    if isinstance(part, Validate):
        return before | new
    if isinstance(part, JoinSide):
        return before | part.keys_of(before)
    if isinstance(part, _PASSING) or not hasattr(part, "apply"):
        return before & columns
    return columns  # a function may make any column of any other
