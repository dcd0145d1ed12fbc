"""Tables of types between the stream and a system, as data: what a line is, and columns that several have.

``docs/connectors`` shows them (``tests/docs/test_connectors.py`` compares), ``test_type_tables.py`` sends
values of each line through the real server and back.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import orjson
import polars as pl
from hypothesis import strategies as st

Strategy: TypeAlias = "st.SearchStrategy[object]"
UTC = dt.timezone.utc
MICROSECONDS = pl.Datetime("us", "UTC")


def same(values: pl.Series) -> pl.Series:
    """What comes back is what went there."""
    return values


def plainly(value: object) -> object:
    """A value is read as it was left there."""
    return value


@dataclass(frozen=True)
class Sent:
    """A column of the stream that goes there and comes back.

    ``read``: the type that the stream declares that reads it, its own unless given; ``back``: what it is
    then, when ``seen`` was done to it. ``code``: the sink refuses each of ``values``.

    Of tables of SQL: ``made`` is the column's type there where the sink makes it, and ``fits`` are the types
    of other columns that take it, with the values that they hold.
    """

    dtype: pl.DataType
    values: Strategy
    read: pl.DataType | None = None
    back: Callable[[pl.Series], pl.Series] = same
    seen: Callable[[pl.Series], pl.Series] = same
    code: str | None = None
    made: str = ""
    fits: Mapping[str, Sent] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """Values that another program left there; ``read``: the types that take them, with what they make of one.

    ``refused``: types that take none of them. ``declared``: the type of a column of SQL.
    """

    values: Strategy
    read: Mapping[pl.DataType, Callable[[object], object]] = field(default_factory=dict)
    refused: tuple[pl.DataType, ...] = ()
    declared: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a table: its cells on the page, and what shows that it is so."""

    cells: tuple[str, ...]
    columns: Mapping[str, Sent] = field(default_factory=dict)
    found: tuple[Found, ...] = ()


def integers(low: int, high: int) -> Strategy:
    """From *low* to *high*, which come often."""
    return st.integers(low, high) | st.sampled_from([low, high])


INTEGERS: Mapping[str, Sent] = {
    f"{sign}{bits}": Sent(dtype, integers(low, high))
    for sign, kinds in {
        "i": (pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64()),
        "u": (pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64()),
    }.items()
    for bits, dtype in zip((8, 16, 32, 64), kinds, strict=True)
    for low, high in [(-(2 ** (bits - 1)) if sign == "i" else 0, 2 ** (bits - (sign == "i")) - 1)]
}


def bounds(dtype: pl.DataType) -> tuple[int, int]:
    """The lowest and the highest integer of *dtype*."""
    low, high = (pl.select(end).item() for end in (dtype.min(), dtype.max()))
    return int(low), int(high)


def within(one: Sent, low: int, high: int) -> Sent:
    """A column of integers, of which only those from *low* to *high* are sent."""
    least, most = bounds(one.dtype)
    return replace(one, values=integers(max(low, least), min(high, most)))


FINITE = {
    "f32": Sent(pl.Float32(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "f64": Sent(pl.Float64(), st.floats(allow_nan=False, allow_infinity=False)),
}
NOT_FINITE = st.sampled_from([float("nan"), float("inf"), float("-inf")])
BOOL = {"bool": Sent(pl.Boolean(), st.booleans())}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def as_text(values: pl.Series) -> pl.Series:
    return values.cast(pl.String)


def texts(values: Strategy = TEXT) -> dict[str, Sent]:
    """Columns of texts, those of a few words too."""
    words = st.sampled_from(["a", "b", ""])
    return {
        "text": Sent(pl.String(), values),
        "enum": Sent(pl.Enum(["a", "b", ""]), words, pl.String(), as_text),
        "category": Sent(pl.Categorical(), words, pl.String(), as_text),
    }


NULLS = {"null": Sent(pl.Null(), st.none(), pl.String(), lambda values: values.cast(pl.String))}
DECIMALS = {
    "decimal": Sent(pl.Decimal(38, 9), st.decimals(-(10**20), 10**20, places=9)),
    "price": Sent(pl.Decimal(20, 2), st.decimals(-(10**15), 10**15, places=2)),
}
SPANS = st.timedeltas(dt.timedelta(days=-900), dt.timedelta(days=900))


def iso(values: pl.Series) -> pl.Series:
    return values.dt.to_string("iso")


def in_utc(values: pl.Series) -> pl.Series:
    """Times of any zone, or without one, as the stream has those of UTC."""
    dtype = values.dtype
    aware = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
    zoned = values.dt.convert_time_zone("UTC") if aware else values.dt.replace_time_zone("UTC")
    return zoned.cast(MICROSECONDS)


RECENT = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
)
DEEP = pl.Struct({"a": pl.List(pl.Int64()), "b": pl.Struct({"c": pl.String(), "d": pl.Float64()})})
DEEP_VALUES = st.fixed_dictionaries(
    {
        "a": st.none() | st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=3),
        "b": st.fixed_dictionaries({"c": st.none() | TEXT, "d": st.none() | FINITE["f64"].values}),
    }
)
NESTED = {
    "list": Sent(pl.List(pl.Int64()), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=3)),
    "deep": Sent(DEEP, DEEP_VALUES),
}
MIDDAY_NANOSECONDS = st.integers(0, 10**9).map(lambda n: 43_200 * 10**9 + 1000 * n + 1)
"""Times of a day, in nanoseconds of which parts of a microsecond are used."""


def as_json(values: pl.Series) -> pl.Series:
    return texts_of(values.name, values.to_list())


def spelled_alike(values: pl.Series) -> pl.Series:
    """JSON texts, the same ones for the same values."""
    return texts_of(values.name, [None if text is None else orjson.loads(text) for text in values])


def texts_of(name: str, values: Sequence[object]) -> pl.Series:
    found = [None if value is None else orjson.dumps(value).decode() for value in values]
    return pl.Series(name, found, pl.String)


def nested(dtype: pl.DataType, values: Strategy) -> Sent:
    """A column whose values are JSON there."""
    return Sent(dtype, values, pl.String(), as_json, spelled_alike)


def cut(values: pl.Series) -> pl.Series:
    """Times in whole microseconds."""
    if values.dtype == pl.Time:
        return (values.to_physical() // 1000 * 1000).cast(pl.Time)
    return values.dt.cast_time_unit("us")


FINE = st.integers(0, 10**9).map(lambda n: 43_200 * 10**9 + 1000 * n + 999)
"""Times of a day, in nanoseconds, that are other ones where they are rounded."""
HALVES = st.floats(width=16, allow_nan=False, allow_infinity=False)


def in_single(values: pl.Series) -> pl.Series:
    """Floats of 16 bits as the stream reads them."""
    return values.cast(pl.Float32)
