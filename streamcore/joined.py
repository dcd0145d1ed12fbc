"""Joins as users declare them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from streamcore.durations import duration, microseconds_of
from streamcore.errors import BadConfig
from streamcore.graph import Node, Source, Stateful, Union
from streamcore.tables.as_of_join import EVER, AsOfJoin
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
AsOf = Span | Literal[True]
"""How old the other row may be at most; True: however old."""
How = Literal["inner", "left"]


@dataclass(frozen=True)
class Terms:
    """What a join is asked for; see :meth:`streamcore.stream.Stream.join`."""

    on: On
    within: Within | None = None
    as_of: AsOf | None = None
    where: str | None = None
    how: How = "inner"

    def refuse(self, *names: str, beside: str, fix: str) -> None:
        """BadConfig if one of *names* is given *beside* what it does not go with."""
        for name in names:
            if (got := getattr(self, name)) is not None:
                raise BadConfig(f"{name} does not go with {beside}", got=got, fix=fix)


def join_operator(left: Node, right: Node, terms: Terms) -> JoinOperator | TableJoin:
    """The operator of a join of what comes behind two nodes. BadConfig for what can't be joined."""
    pairs = pairs_of(terms.on)
    if left.source.updates:
        raise BadConfig("a table can't be on the left of a join", fix="join a stream with the table")
    if right.source.updates:
        return _with_table(left, right, pairs, terms)
    if terms.as_of is not None:
        return _as_of(left, right, pairs, terms)
    if terms.how == "left" and terms.within is None:
        raise BadConfig(
            "a left join of two streams needs within: else a row may find its match at any time",
            fix='within="1h"',
        )
    times = None if terms.within is None else (_time(left, "left"), _time(right, "right"))
    shape = JoinShape(left.columns, right.columns, pairs, times)
    if terms.how == "left" and terms.within is not None:
        return LeftJoinOperator(shape, _bounds(terms.within), terms.where)
    return JoinOperator(shape, None if terms.within is None else _bounds(terms.within), terms.where)


def _as_of(left: Node, right: Node, pairs: Mapping[str, str], terms: Terms) -> AsOfJoin:
    terms.refuse("within", beside="as_of", fix='as_of="1h" is how old the other row may be')
    terms.refuse("where", beside="as_of", fix="filter() one side before the join, or what comes out of it")
    shape = JoinShape(left.columns, right.columns, pairs, (_time(left, "left"), _time(right, "right")))
    oldest = EVER if terms.as_of is True else _span(terms.as_of or "0s")
    if oldest < 0:
        raise BadConfig("as_of can't lie behind the row's time", got=terms.as_of, fix='as_of="1h"')
    return AsOfJoin(shape, (-oldest, 0), None, terms.how == "left")


def _with_table(left: Node, right: Node, pairs: Mapping[str, str], terms: Terms) -> TableJoin:
    terms.refuse(
        "within", "where", beside="a table: it goes with two streams", fix="filter() behind the join"
    )
    terms.refuse(
        "as_of",
        beside="a table, whose rows have no time",
        fix="join the stream that the table is made of: its newest row at the time of the other one is taken",
    )
    if set(pairs.values()) != set(right.source.key):
        raise BadConfig(
            "a table is joined by its key",
            got=", ".join(pairs.values()),
            allowed=[", ".join(right.source.key)],
        )
    return TableJoin(JoinShape(left.columns, right.columns, pairs, None), terms.how == "left")


def joined(
    topology: Topology,
    sides: tuple[Node, Node],
    operator: JoinOperator | TableJoin,
    name: str | None,
    where: str,
) -> Node:
    """Add a join, declared at *where*, to *topology*: both sides in one shape, and the operator."""
    left, right = sides
    shape, keeps = operator.shape, operator.keeps
    id = name or topology._free_id(f"{left.source.name}/join")
    a = topology._add(f"{id}/left", JoinSide(shape, False, keeps[0]), [left], shape.combined, where)
    b = topology._add(f"{id}/right", JoinSide(shape, True, keeps[1]), [right], shape.combined, where)
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
