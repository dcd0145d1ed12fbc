"""Joins as users declare them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from streamcore.durations import duration, microseconds_of
from streamcore.errors import BadConfig
from streamcore.graph import Node, Source, Stateful, Union
from streamcore.tables.join import JoinOperator
from streamcore.tables.join_side import JoinShape, JoinSide
from streamcore.tables.left_join import LeftJoinOperator
from streamcore.tables.table_join import TableJoin

if TYPE_CHECKING:
    from streamcore.topology import Topology

On = str | Sequence[str] | Mapping[str, str]
"""Columns that are called the same on both sides, or ``{left: right}``."""
Span = str | dt.timedelta
Within = Span | tuple[Span, Span]
How = Literal["inner", "left"]


def join_operator(
    left: Node, right: Node, on: On, within: Within | None, where: str | None, how: How
) -> JoinOperator | TableJoin:
    """The operator of a join of the streams behind two nodes. BadConfig for what can't be joined."""
    pairs = pairs_of(on)
    if left.source.updates:
        raise BadConfig("a table can't be on the left of a join", fix="join a stream with the table")
    if not right.source.updates:
        if how == "left" and within is None:
            raise BadConfig(
                "a left join of two streams needs within: else a row may find its match at any time",
                fix='within="1h"',
            )
        times = None if within is None else (_time(left, "left"), _time(right, "right"))
        shape = JoinShape(left.columns, right.columns, pairs, times)
        if how == "left" and within is not None:
            return LeftJoinOperator(shape, _bounds(within), where)
        return JoinOperator(shape, None if within is None else _bounds(within), where)
    if within is not None or where is not None:
        raise BadConfig("within and where go with two streams", fix="filter() behind the join")
    if set(pairs.values()) != set(right.source.key):
        raise BadConfig(
            "a table is joined by its key",
            got=", ".join(pairs.values()),
            allowed=[", ".join(right.source.key)],
        )
    return TableJoin(JoinShape(left.columns, right.columns, pairs, None), how == "left")


def joined(
    topology: Topology,
    sides: tuple[Node, Node],
    operator: JoinOperator | TableJoin,
    name: str | None,
    where: str,
) -> Node:
    """Add a join, declared at *where*, to *topology*: both sides in one shape, and the operator."""
    left, right = sides
    shape, keeps = operator.shape, operator.outer
    id = name or topology._free_id(f"{left.source.name}/join")
    a = topology._add(f"{id}/left", JoinSide(shape, False, keeps), [left], shape.combined, where)
    b = topology._add(f"{id}/right", JoinSide(shape, True), [right], shape.combined, where)
    both = topology._add(f"{id}/both", Union(), [a, b], shape.combined, where)
    after = _after(left.source, timed=operator.timed)
    return topology._add(id, Stateful(operator), [both], shape.columns, where, after)


def _after(left: Source, *, timed: bool) -> Source:
    """What a join's rows are like: as the left ones; without a bound in time they have no order in time."""
    if not timed:
        return replace(left, key=(), event_time=None)
    return replace(left, key=(), max_lateness=dt.timedelta(0))


def pairs_of(on: On) -> dict[str, str]:
    """The columns that must be equal, left to right."""
    if isinstance(on, Mapping):
        pairs = dict(on)
    else:
        pairs = {name: name for name in ([on] if isinstance(on, str) else on)}
    if not pairs:
        raise BadConfig("a join needs columns that must be equal", fix='on="id" or on={"left": "right"}')
    return pairs


def _time(node: Node, side: str) -> str:
    time = node.source.event_time
    if time is None or time not in node.columns:
        raise BadConfig(
            f"the {side} of a join within a time has no event time",
            got=time,
            allowed=node.columns.names(),
            fix='declare it: stream(…, event_time="column"), and keep the column',
        )
    return time


def _bounds(within: Within) -> tuple[int, int]:
    """The least and the greatest time between a left row and a right one, in microseconds."""
    if isinstance(within, tuple):
        low, high = (_span(one) for one in within)
    else:
        high = _span(within)
        low = -high
    if low > high:
        raise BadConfig("within ends before it begins", got=within, allowed=["(least, greatest)"])
    return low, high


def _span(text: Span) -> int:
    """Microseconds, which may be below zero: "-10s"."""
    if isinstance(text, str) and text.startswith("-"):
        return -microseconds_of(duration(text[1:]))
    return microseconds_of(duration(text))
