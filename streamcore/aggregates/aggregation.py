"""Named aggregates in SQL text, as three lists of polars expressions: partial, merge, final.

A text such as ``sum(price) filter (where price > 10) / count(*)`` is taken apart
(:mod:`~streamcore.aggregates.text`): each aggregate call keeps columns of its own
(:mod:`~streamcore.aggregates.kinds`), and what is left is an expression over the calls' values.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, islice

import orjson
import polars as pl
from polars.exceptions import PolarsError

from streamcore.aggregates.kinds import Aggregate, Pairwise
from streamcore.aggregates.ordered import RANK, VALUE, OrderedAggregate, in_order
from streamcore.aggregates.table import ADVICE, AGGREGATES, COUNT_ROWS, Maker, arguments_of
from streamcore.aggregates.text import Call, Outer, take_apart
from streamcore.batch import HIDDEN
from streamcore.errors import BadConfig, did_you_mean
from streamcore.expressions import check_columns, condition, result_type, sql

OLDER = "_older"
"""Begins the names of the older piece's columns where two are merged."""


@dataclass(frozen=True)
class Aggregation:
    """Named aggregates over the rows of a group, compiled once when the topology is loaded.

    ``texts`` are the SQL texts by the names of their result columns. ``partials`` are the columns of
    the kept state, ``_a0``, ``_a1``, …; calls that keep the same are kept once. ``columns`` are the
    result columns in the order of ``texts``.

    The cut law: with the rows of each group in the stream's order and its pieces merged in that order,
    ``final`` over ``merge`` over … over ``partial`` equals ``final`` over ``partial`` of all rows at
    once, for any cut and any tree of merges. Sums and means of floats, and variances, keep it up to
    the rounding of Float64, for adding floats in another order rounds otherwise.

    With ``order``, the name of an Int128 column beside ``columns`` that says the rows' order, the law holds
    for any order of rows and pieces: first, last, list and the like then keep the order too
    (:mod:`~streamcore.aggregates.ordered`).

    Values are SQL's, in detail DuckDB's. Types: counts are Int64; sums of integers and booleans are
    Int128, which no number of rows of 64 bits can overflow, and floats' are Float64; sums of decimals
    (Decimal(38, scale)) and of Int128 are null beyond 38 digits; avg, stddev… and var… are Float64. A
    sum that must be an Int64 column is written ``cast(sum(x) as bigint)``; a value that does not fit
    then fails ``final``.
    """

    texts: Mapping[str, str]
    partials: pl.Schema
    columns: pl.Schema
    _partial: Sequence[pl.Expr] = field(repr=False, compare=False)
    _merge: Sequence[pl.Expr] = field(repr=False, compare=False)
    _final: Sequence[pl.Expr] = field(repr=False, compare=False)
    _merge_two: Sequence[pl.Expr] | None = field(default=None, repr=False, compare=False)
    ordered: bool = False
    """Whether the column of the rows' order is needed."""

    @classmethod
    def of(
        cls,
        texts: Mapping[str, str],
        columns: pl.Schema,
        aggregates: Mapping[str, Maker] = AGGREGATES,
        *,
        order: str | None = None,
    ) -> Aggregation:
        """Compile *texts* over rows with *columns*; *aggregates* are those that may be called.

        BadConfig when a text can't be parsed, names an unknown column or function, has no aggregate,
        one inside of another or a column outside of all, clashes in types or asks the clock, and for a
        name that no column can have.
        """
        if not texts:
            raise BadConfig("aggregate needs one or more aggregates", fix='write name="count(*)"')
        state = _State(columns, aggregates, order)
        finals = [state.add(name, text) for name, text in texts.items()]
        results = pl.DataFrame(schema=state.types).select(finals).schema
        partial = state.partial
        ordered = any(order in expr.meta.root_names() for expr in partial)
        return cls(dict(texts), state.types, results, partial, state.merge, finals, state.merge_two, ordered)

    @property
    def inputs(self) -> frozenset[str]:
        """The columns of the rows that the aggregates look at."""
        return frozenset(name for expr in self._partial for name in expr.meta.root_names())

    def partial(self) -> list[pl.Expr]:
        """Rows to kept state, for ``frame.group_by(keys).agg(…)``; the rows of a group in stream order."""
        return list(self._partial)

    def merge(self) -> list[pl.Expr]:
        """Kept state of pieces to kept state, for ``state.group_by(keys).agg(…)``; earlier pieces first."""
        return list(self._merge)

    def merge_two(self, older: pl.DataFrame, younger: pl.DataFrame) -> pl.DataFrame | None:
        """As :meth:`merge` of each row of *older* and the row of *younger* at its place, which is of the same
        group: *younger* with that, shape (rows, its columns). None where one of the aggregates can't.

        Groups of two rows cost polars many times as much.
        """
        if self._merge_two is None:
            return None
        kept = older.select(pl.col(name).alias(OLDER + name) for name in self.partials)
        whole = younger.hstack(kept).with_columns(self._merge_two)
        return whole.select(younger.columns)

    def final(self) -> list[pl.Expr]:
        """Kept state to result columns, for ``state.select(…)`` or ``with_columns``."""
        return list(self._final)

    @property
    def result_types(self) -> pl.Schema:
        """The types in which results leave: few systems have integers of 128 bits."""
        return pl.Schema({n: pl.Int64() if t == pl.Int128 else t for n, t in self.columns.items()})

    def results(self) -> list[pl.Expr]:
        """:meth:`final` in these types; a value that does not fit is a PolarsError."""
        types = self.result_types
        return [result.cast(types[name]) for name, result in zip(self.columns, self._final, strict=True)]


@dataclass(frozen=True)
class _Kept:
    """The kept columns of one aggregate call, or of several that keep the same."""

    names: tuple[str, ...]
    partial: tuple[pl.Expr, ...]
    merge: tuple[pl.Expr, ...]
    merge_two: tuple[pl.Expr, ...] | None


class _State:
    """The kept columns while they are collected, text by text."""

    def __init__(self, columns: pl.Schema, aggregates: Mapping[str, Maker], order: str | None) -> None:
        self._columns, self._aggregates, self._order = columns, aggregates, order
        self._functions = list(dict.fromkeys(name.partition("(")[0] for name in aggregates))
        self._kept: list[_Kept] = []
        self._free = (name for i in count() if (name := f"_a{i}") not in columns)
        self.types = pl.Schema()

    @property
    def partial(self) -> list[pl.Expr]:
        return [e.alias(n) for kept in self._kept for n, e in zip(kept.names, kept.partial, strict=True)]

    @property
    def merge(self) -> list[pl.Expr]:
        return [e.alias(n) for kept in self._kept for n, e in zip(kept.names, kept.merge, strict=True)]

    @property
    def merge_two(self) -> list[pl.Expr] | None:
        found = list[pl.Expr]()
        for kept in self._kept:
            if kept.merge_two is None:
                return None
            found += [e.alias(n) for n, e in zip(kept.names, kept.merge_two, strict=True)]
        return found

    def add(self, name: str, text: str) -> pl.Expr:
        """Keep what *text* needs; returns its final expression, called *name*."""
        if not name or name in HIDDEN:
            raise BadConfig(
                "this can't be a column's name", got=name, fix=f"{', '.join(HIDDEN)} are reserved"
            )
        outer = take_apart(text, self._functions, self._columns)
        self._check_rest(text, outer)
        finished = {called: self._finished(call) for called, call in outer.calls.items()}
        types = pl.Schema({called: result_type(e, self.types, called) for called, e in finished.items()})
        with _naming(text, outer.text):
            return _over(sql(outer.text, types), finished).alias(name)

    def _check_rest(self, text: str, outer: Outer) -> None:
        """BadConfig for what only the whole text shows: no aggregate, unknown functions, bare columns."""
        unknown = next(iter(outer.functions), None)
        if not outer.calls:
            raise BadConfig(
                f"no aggregate in {text!r}", got=unknown, allowed=self._functions, fix=self._hint(unknown)
            )
        try:
            names = pl.sql_expr(outer.text).meta.root_names()
        except PolarsError as error:
            unknown = next((f for f in outer.functions if f"'{f}'" in str(error)), None)
            if unknown is None:
                return  # sql() tells it better
            raise BadConfig(
                f"unknown function in {text!r}", got=unknown, allowed=self._functions, fix=self._hint(unknown)
            ) from error
        alias = next((call for call in outer.calls if call not in names), None)
        if alias is not None:  # "count(*) sum(x)": polars takes the second for a name of the first
            raise BadConfig(
                f"cannot parse the SQL expression {text!r}", got=alias, fix="put an operator before it"
            )
        bare = [name for name in names if name not in outer.calls]
        check_columns(bare, self._columns, f"in {text!r}")
        if bare:
            raise BadConfig(
                f"a column outside of the aggregates in {text!r}",
                got=bare[0],
                allowed=self._functions,
                fix=self._hint(unknown) or f"put it into one, e.g. first({bare[0]})",
            )

    def _hint(self, function: str | None) -> str | None:
        return None if function is None else ADVICE.get(function) or did_you_mean(function, self._functions)

    def _finished(self, call: Call) -> pl.Expr:
        """The value of *call* as an expression over kept columns."""
        try:
            aggregate, values = self._compiled(call)
            return aggregate.final(*map(pl.col, self._keep(aggregate, aggregate.partial(values))))
        except BadConfig as error:
            what = f"{error.what}, in {call.text!r}"
            raise BadConfig(what, got=error.got, allowed=error.allowed, fix=error.fix) from error

    def _compiled(self, call: Call) -> tuple[Aggregate, pl.Expr]:
        """The aggregate that *call* names and its argument, of which FILTER has left what it lets pass."""
        where = None if call.where is None else condition(call.where, self._columns)
        if where is not None and not where.meta.root_names():
            raise BadConfig("the FILTER names no column", fix="leave it out")
        if call.argument is None or (call.function, call.argument) == ("count", "1"):
            if where is None:
                return self._made(call, COUNT_ROWS, pl.Boolean()), pl.lit(True)
            return self._made(call, "count", pl.Boolean()), pl.when(where).then(True)
        name = f"{call.function}(distinct)" if call.distinct else call.function
        taken, given = arguments_of(self._aggregates.get(name)), 1 if call.second is None else 2
        if taken != given:
            raise BadConfig(f"{call.function} takes another number of columns", got=given, allowed=[taken])
        values = self._argument(call.argument)
        if not values.meta.root_names():
            raise BadConfig("an aggregate of a constant", got=call.argument, fix="name a column")
        if call.second is not None:
            values = pl.struct(values.alias("value"), self._argument(call.second).alias("by"))
        aggregate = self._made(call, name, result_type(values, self._columns, call.argument))
        if self._order is not None:
            aggregate = in_order(aggregate)
        if isinstance(aggregate, OrderedAggregate):
            values = pl.struct(values.alias(VALUE), pl.col(self._order or "").alias(RANK))
        if where is None:
            return aggregate, values
        return aggregate, pl.when(where).then(values) if aggregate.skips_nulls else values.filter(where)

    def _argument(self, text: str) -> pl.Expr:
        # A column's bare name needs no quotes, though it be a word of polars' SQL such as "user".
        return pl.col(text) if text in self._columns else sql(text, self._columns)

    def _made(self, call: Call, name: str, dtype: pl.DataType) -> Aggregate:
        if call.argument is None and (call.function != "count" or call.distinct):
            raise BadConfig("* goes with count only", fix="name a column")
        if name not in self._aggregates:
            raise BadConfig("unknown aggregate", got=name, allowed=self._aggregates)
        return self._aggregates[name](dtype, call.constants)

    def _keep(self, aggregate: Aggregate, partial: tuple[pl.Expr, ...]) -> tuple[str, ...]:
        """The names of the columns that hold *partial*, new ones unless they are kept already.

        By the cut law what is kept of some rows says how it must merge, so ``partial`` alone is compared.
        """
        for kept in self._kept:
            if _equal(kept.partial, partial):
                return kept.names
        names = tuple(islice(self._free, len(partial)))
        younger = tuple(map(pl.col, names))
        older = tuple(pl.col(OLDER + name) for name in names)
        two = aggregate.merge_two(older, younger) if isinstance(aggregate, Pairwise) else None
        new = _Kept(names, partial, aggregate.merge(*younger), two)
        self.types = pl.Schema({**self.types, **self._checked_types(new)})
        self._kept.append(new)
        return names

    def _checked_types(self, kept: _Kept) -> pl.Schema:
        """The types of the kept columns; BadConfig when merging would change them."""
        if len(kept.merge) != len(kept.partial):
            counts = f"{len(kept.merge)} columns for {len(kept.partial)}"
            raise BadConfig("merge gives another number of columns than partial", got=counts)
        try:
            columns = pl.Schema(self._columns)
            if self._order is not None:
                columns[self._order] = pl.Int128()
            partial = _one_group(columns, kept.names, kept.partial)
            merged = _one_group(partial, kept.names, kept.merge)
        except PolarsError as error:
            raise BadConfig(f"the aggregate can't be computed: {str(error).splitlines()[0]}") from error
        if merged != partial:
            raise BadConfig("merge gives other types than partial", got=str(merged), allowed=[str(partial)])
        return partial


def _one_group(columns: pl.Schema, names: tuple[str, ...], exprs: tuple[pl.Expr, ...]) -> pl.Schema:
    """The types of *exprs*, called *names*, in ``agg`` over *columns*."""
    grouped = pl.DataFrame(schema=columns).group_by(pl.lit(0).alias("group"))
    return grouped.agg(e.alias(n) for n, e in zip(names, exprs, strict=True)).drop("group").schema


def _equal(some: tuple[pl.Expr, ...], others: tuple[pl.Expr, ...]) -> bool:
    return len(some) == len(others) and all(map(lambda a, b: a.meta.eq(b), some, others))


@contextmanager
def _naming(text: str, part: str) -> Iterator[None]:
    """Let a BadConfig about *part* quote the *text* that the user wrote."""
    try:
        yield
    except BadConfig as error:
        what = error.what.replace(repr(part), repr(text))
        raise BadConfig(what, got=error.got, allowed=error.allowed, fix=error.fix) from error


def _over(expression: pl.Expr, values: Mapping[str, pl.Expr]) -> pl.Expr:
    """*expression* with the columns that *values* names replaced by those expressions.

    polars has no such call, so that it is done in the serialised tree, within one process and version.
    """
    trees = {name: _tree(value) for name, value in values.items()}

    def replaced(node: object) -> object:
        if isinstance(node, dict):
            if node.keys() == {"Column"}:
                return trees[node["Column"]]
            return {key: replaced(value) for key, value in node.items()}
        return [replaced(value) for value in node] if isinstance(node, list) else node

    return pl.Expr.deserialize(io.BytesIO(orjson.dumps(replaced(_tree(expression)))), format="json")


def _tree(expression: pl.Expr) -> object:
    return orjson.loads(expression.meta.serialize(format="json"))
