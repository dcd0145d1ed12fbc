"""How columns of the stream become text of Redis, keys made of some of them, and which rows can't."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

import polars as pl

from streamcore.batch import DELETES
from streamcore.errors import BadConfig
from streamcore.sinks.fence import POSITIONS
from streamcore.sinks.keyed_table import check_column
from streamcore.sinks.nested_json import as_json, json_can_hold
from streamcore.systems.redis_keys import parts_of

Check = tuple[str, str, pl.Expr]
"""See :class:`streamcore.sinks.column_checks.Checked`."""
_LARGEST_WHOLE = 2**53
"""Up to which doubles, as scores are, hold all whole numbers."""
_AS_MANY = "%Y-%m-%dT%H:%M:%S%.f"
"""Of nanoseconds as many digits as are used: no stream reads more than six as a time."""
_CAST = (pl.Boolean, pl.Decimal, pl.Categorical, pl.Enum)


def text_of(name: str, dtype: pl.DataType) -> pl.Expr:
    """The column as text, or bytes, in the spelling that the stream's types are read in; BadConfig: none."""
    column = pl.col(name)
    if isinstance(dtype, (pl.String, pl.Binary)):
        return column
    if isinstance(dtype, _CAST) or dtype.is_integer() or dtype.is_float():
        return column.cast(pl.String)
    if isinstance(dtype, pl.Datetime):
        zone = pl.lit("Z" if dtype.time_zone else "")
        naive = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else column
        digits = _AS_MANY if dtype.time_unit == "ns" else "iso:strict"
        return pl.concat_str(naive.dt.to_string(digits), zone).alias(name)
    if isinstance(dtype, (pl.Date, pl.Time, pl.Duration)):
        return column.dt.to_string("iso")
    if isinstance(dtype, pl.Null):
        return pl.lit(None, pl.String).alias(name)
    if dtype.is_nested() and json_can_hold(dtype):
        return as_json(name, dtype)
    raise BadConfig(
        f"Redis can't hold the column {name!r}", got=str(dtype), fix=f"drop or cast it: .drop({name!r})"
    )


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column that is written as :func:`text_of` says."""

    name: str
    dtype: pl.DataType

    def checks(self) -> Iterator[Check]:
        if isinstance(self.dtype, (pl.Datetime, pl.Date)):
            year = pl.col(self.name).dt.year()
            yield "range", f"{self.name} is outside of the years 1 to 9999", ~year.is_between(1, 9999)


@dataclass(frozen=True, slots=True)
class SomeColumn:
    """All of a row's columns *names*, one of which must have a value."""

    names: tuple[str, ...]

    def checks(self) -> Iterator[Check]:
        yield (
            "empty",
            "all columns are null, Redis has no such entry",
            pl.all_horizontal(pl.col(name).is_null() for name in self.names),
        )


@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """The column of a sorted set's scores, which are doubles."""

    name: str
    dtype: pl.DataType

    def __post_init__(self) -> None:
        if not (self.dtype.is_integer() or self.dtype.is_float()):
            raise BadConfig(
                f"score: {self.name!r} is no number",
                got=str(self.dtype),
                allowed=["whole numbers", "floats"],
                fix="cast it, a time to its milliseconds",
            )

    def checks(self) -> Iterator[Check]:
        column = pl.col(self.name)
        yield "null_score", f"{self.name} is null, it is the score", column.is_null() & ~DELETES
        if self.dtype.is_float():
            yield "range", f"{self.name} is NaN, it is the score", column.is_nan()
        else:
            large = ~column.is_between(-_LARGEST_WHOLE, _LARGEST_WHOLE)
            yield "range", f"{self.name} is above 2^53, a score can't hold it exactly", large


class KeyPattern:
    """A key of text and columns. BadConfig unless the pattern is one, and of columns that make no key."""

    def __init__(self, pattern: str, columns: pl.Schema) -> None:
        self._pattern, self._types = pattern, columns
        self._parts = parts_of(pattern)
        if pattern.startswith(POSITIONS):
            raise BadConfig(
                "keys of this name are the sinks' positions", got=pattern, fix="name them otherwise"
            )
        if any(name and not behind for (_, name), (behind, _) in pairwise(self._parts)):
            raise BadConfig(
                "columns of a key need text between them", got=pattern, allowed=["a:{one}:{other}"]
            )
        for name in self.names:
            check_column(name, columns, "key")
            if columns[name].is_nested() or columns[name].is_float() or columns[name] == pl.Binary:
                raise BadConfig(
                    f"the column {name!r} can't be part of a key",
                    where=pattern,
                    got=str(columns[name]),
                    allowed=["whole numbers", "string", "bool", "dates and times", "decimal"],
                )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for _, name in self._parts if name)

    @property
    def value(self) -> pl.Expr:
        """The row's key; null if one of its columns is."""
        words = [[pl.lit(text), *self._text(name)] for text, name in self._parts]
        return pl.concat_str(*chain(*words))

    def checks(self) -> Iterator[Check]:
        """Keys that two different rows could have, and the sinks' own."""
        for (_, name), (behind, _) in pairwise(self._parts):
            if not isinstance(self._types[name], (pl.Date, pl.Datetime)):  # which are of one length
                (text,) = self._text(name)
                found = pl.concat_str(text, pl.lit(behind)).str.find(behind, literal=True)
                message = f"{name} holds {behind!r}, which stands behind it in {self._pattern}"
                yield "ambiguous_key", message, found != text.str.len_bytes()
        if POSITIONS.startswith(self._parts[0][0]):
            own = self.value.str.starts_with(POSITIONS)
            yield "reserved_key", "keys of this name are the sinks' positions", own

    def _text(self, name: str) -> list[pl.Expr]:
        return [text_of(name, self._types[name])] if name else []
