"""Joins as users declare them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import polars as pl

from streamcore.durations import duration, microseconds_of
from streamcore.errors import BadConfig
from streamcore.graph import Node, Source, Stateful, Union
from streamcore.tables.as_of_join import EVER, AsOfJoin
from streamcore.tables.declaration import check_free
from streamcore.tables.foreign_join import ForeignJoin, NewestPair
from streamcore.tables.join import JoinOperator
from streamcore.tables.join_side import JoinShape, JoinSide
from streamcore.tables.moves import OLD, RESERVED, Moves
from streamcore.tables.outer_join import OuterJoin
from streamcore.tables.table_join import TableJoin
from streamcore.tables.tables_join import TablesJoin
from streamcore.windows.assigners import Aligned, WindowKind
from streamcore.windows.operator import WINDOW_START
from streamcore.windows.stamped import Stamped

if TYPE_CHECKING:
    from streamcore.topology import Topology

On = str | Sequence[str] | Mapping[str, str]
"""Columns that are called the same on both sides, or ``{left: right}``."""
Span = str | dt.timedelta
Within = Span | tuple[Span, Span]
AsOf = Span | Literal[True]
"""How old the other row may be at most; True: however old."""
How = Literal["inner", "left", "right", "full"]


@dataclass(frozen=True)
class Terms:
    """What a join is asked for; see :meth:`streamcore.stream.Stream.join`."""

    on: On
    within: Within | None = None
    as_of: AsOf | None = None
    window: WindowKind | None = None
    where: str | None = None
    how: How = "inner"

    def refuse(self, *names: str, beside: str, fix: str) -> None:
        """BadConfig if one of *names* is given *beside* what it does not go with."""
        for name in names:
            if (got := getattr(self, name)) is not None:
                raise BadConfig(f"{name} does not go with {beside}", got=got, fix=fix)

    def only(self, *hows: How, of: str, fix: str) -> None:
        """BadConfig for a ``how`` that a join *of* such does not have."""
        if self.how not in hows:
            raise BadConfig(f"there is no {self.how} join of {of}", got=self.how, allowed=[*hows], fix=fix)


@dataclass(frozen=True)
class Side:
    """What comes behind a node into a join, through a step or an operator before it where there is one."""

    node: Node
    step: Stamped | Moves | None = None

    @property
    def source(self) -> Source:
        """What its rows are like."""
        return self.node.source

    @property
    def columns(self) -> pl.Schema:
        """The user columns of its rows."""
        if isinstance(self.step, Moves):
            return self.step.columns
        return self.node.columns if self.step is None else self.step.output(self.node.columns)


@dataclass(frozen=True)
class Join:
    """A join that was checked: its sides, the operator, and what its rows are like.

    *newest*: its pairs are told of by several partitions, and need this one behind it.
    """

    left: Side
    right: Side
    operator: JoinOperator | TableJoin | TablesJoin | ForeignJoin
    after: Source
    newest: NewestPair | None = None


def join_of(left: Node, right: Node, terms: Terms) -> Join:
    """The join of what comes behind two nodes. BadConfig for what can't be joined."""
    pairs = pairs_of(terms.on)
    if terms.how not in get_args(How):
        raise BadConfig("there is no such join", got=terms.how, allowed=get_args(How))
    if left.source.updates:
        return _of_tables(Side(left), Side(right), pairs, terms)
    if right.source.updates:
        return _with_table(Side(left), Side(right), pairs, terms)
    if terms.how == "right" and terms.as_of is None:
        left, right, terms = right, left, _turned(terms)
        pairs = {b: a for a, b in pairs.items()}
    if terms.window is not None:
        return _in_windows(left, right, pairs, terms)
    if terms.as_of is not None:
        return _as_of(Side(left), Side(right), pairs, terms)
    return _of_streams(Side(left), Side(right), pairs, terms)


def _of_streams(left: Side, right: Side, pairs: Mapping[str, str], terms: Terms) -> Join:
    if terms.within is None:
        if terms.how != "inner":
            raise BadConfig(
                f"a {terms.how} join of two streams needs within: else a row may find its match at any time",
                fix='within="1h"',
            )
        plain = JoinOperator(JoinShape(left.columns, right.columns, pairs, None), None, terms.where)
        return Join(left, right, plain, _after(left.source, timed=False))
    shape = JoinShape(left.columns, right.columns, pairs, (_time(left, "left"), _time(right, "right")))
    within, full = _bounds(terms.within), terms.how == "full"
    if terms.how == "inner":
        return Join(left, right, JoinOperator(shape, within, terms.where), _after(left.source, timed=True))
    outer = OuterJoin(shape, within, terms.where, full)
    return Join(left, right, outer, _after(left.source, timed=not full))  # a row may have no left time


def _turned(terms: Terms) -> Terms:
    """The left join that is the right one with its sides changed."""
    low, high = (
        (dt.timedelta(),) * 2
        if terms.within is None
        else (dt.timedelta(microseconds=span) for span in _bounds(terms.within))
    )
    return replace(terms, how="left", within=None if terms.within is None else (-high, -low))


def _in_windows(left: Node, right: Node, pairs: Mapping[str, str], terms: Terms) -> Join:
    """A join by the start of the window as well: rows of one window are less than its size apart."""
    terms.refuse("within", "as_of", beside="window", fix="leave one of them out")
    kind = terms.window
    if not isinstance(kind, Aligned):
        raise BadConfig(
            "two streams can't be joined in sessions, which grow together",
            got=getattr(kind, "label", kind),
            allowed=["sc.tumbling(…)", "sc.hopping(…)"],
            fix='within="1h" joins what is not far apart',
        )
    times = _time(Side(left), "left"), _time(Side(right), "right")
    dtype = left.columns[times[0]]
    sides = (
        Side(left, Stamped(kind, times[0], dtype, True)),
        Side(right, Stamped(kind, times[1], dtype, False)),
    )
    apart = dt.timedelta(microseconds=kind.size - 1)
    return _of_streams(*sides, {**pairs, WINDOW_START: WINDOW_START}, replace(terms, within=(-apart, apart)))


def _as_of(left: Side, right: Side, pairs: Mapping[str, str], terms: Terms) -> Join:
    terms.only("inner", "left", of="rows as of a time", fix="turn it round, and take a left one")
    terms.refuse("within", beside="as_of", fix='as_of="1h" is how old the other row may be')
    terms.refuse("where", beside="as_of", fix="filter() one side before the join, or what comes out of it")
    shape = JoinShape(left.columns, right.columns, pairs, (_time(left, "left"), _time(right, "right")))
    oldest = EVER if terms.as_of is True else _span(terms.as_of or "0s")
    if oldest < 0:
        raise BadConfig("as_of can't lie behind the row's time", got=terms.as_of, fix='as_of="1h"')
    operator = AsOfJoin(shape, (-oldest, 0), None, terms.how == "left")
    return Join(left, right, operator, _after(left.source, timed=True))


def _with_table(left: Side, right: Side, pairs: Mapping[str, str], terms: Terms) -> Join:
    terms.only("inner", "left", of="a stream with a table", fix="only a row that comes meets the table")
    fix = "filter() behind the join"
    terms.refuse("within", "window", "where", beside="a table: it goes with two streams", fix=fix)
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
    operator = TableJoin(JoinShape(left.columns, right.columns, pairs, None), terms.how == "left")
    return Join(left, right, operator, _after(left.source, timed=False))


def _of_tables(left: Side, right: Side, pairs: Mapping[str, str], terms: Terms) -> Join:
    if not right.source.updates:
        raise BadConfig(
            "a table on the left of a join needs one on the right",
            fix="join the stream with the table, or make a table of it: by(…).latest()",
        )
    fix = "filter() one table before the join, or what comes out of it"
    terms.refuse("within", "as_of", "window", "where", beside="two tables", fix=fix)
    if set(pairs.values()) != set(right.source.key):
        raise BadConfig(
            "a table is joined with another by the key of that one",
            got=", ".join(pairs.values()),
            allowed=[", ".join(right.source.key)],
            fix="turn the join round, or aggregate the right table by these columns",
        )
    if set(pairs) != set(left.source.key):
        return _by_foreign_key(left, right, pairs, terms)
    if terms.how == "right":
        left, right, pairs = right, left, {b: a for a, b in pairs.items()}
    how: Literal["left", "inner", "full"] = "left" if terms.how == "right" else terms.how
    operator = TablesJoin(JoinShape(left.columns, right.columns, pairs, None), how)
    return Join(left, right, operator, replace(left.source, key=operator.key, event_time=None))


def _by_foreign_key(left: Side, right: Side, pairs: Mapping[str, str], terms: Terms) -> Join:
    """The join of a table with that whose key some of its columns are."""
    fix = "each row of the left table has one of the right table at most, but not the other way round"
    terms.only("inner", "left", of="tables by a foreign key", fix=fix)
    key = left.source.key
    moves = not set(pairs) <= set(key)
    if moves:
        check_free([*left.columns, *right.columns], (*RESERVED, *(OLD + name for name in pairs)))
        left = Side(left.node, Moves(key, tuple(pairs), left.columns))
    shape = JoinShape(left.columns, right.columns, pairs, None)
    operator = ForeignJoin(shape, key, terms.how == "left")
    after = replace(left.source, key=key, event_time=None)
    return Join(left, right, operator, after, NewestPair.of_pairs(operator) if moves else None)


def joined(topology: Topology, join: Join, name: str | None, where: str) -> Node:
    """Add *join*, declared at *where*, to *topology*: both sides in one shape, and the operator."""
    operator, shape = join.operator, join.operator.shape
    id = name or topology._free_id(f"{join.left.source.name}/join")
    sides = []
    for right, side in enumerate((join.left, join.right)):
        label, node = f"{id}/{('left', 'right')[right]}", side.node
        if isinstance(side.step, Moves):
            by_both = replace(side.source, key=side.step.key, event_time=None)
            node = topology._add(f"{label}-moves", Stateful(side.step), [node], side.columns, where, by_both)
        elif side.step is not None:
            node = topology._add(f"{label}-windows", side.step, [node], side.columns, where)
        step = JoinSide(shape, bool(right), operator.keeps[right])
        sides.append(topology._add(label, step, [node], shape.combined, where))
    both = topology._add(f"{id}/both", Union(), sides, shape.combined, where)
    if join.newest is not None:
        by_both = replace(join.after, key=operator.key)
        pairs = topology._add(f"{id}/pairs", Stateful(operator), [both], operator.columns, where, by_both)
        return topology._add(id, Stateful(join.newest), [pairs], join.newest.columns, where, join.after)
    return topology._add(id, Stateful(operator), [both], operator.columns, where, join.after)


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


def _time(of: Side, side: str) -> str:
    time = of.source.event_time
    if time is None or time not in of.columns:
        raise BadConfig(
            f"the {side} of a join within a time has no event time",
            got=time,
            allowed=of.columns.names(),
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
