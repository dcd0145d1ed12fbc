"""What both sides of a join have in common before they meet: one shape of rows, with columns for the keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from streamcore.batch import HIDDEN, OFFSET, OP
from streamcore.contracts import StepResult
from streamcore.errors import BadConfig
from streamcore.event_time import microseconds
from streamcore.expressions import check_columns
from streamcore.state.base import BaseOperator
from streamcore.state.runs import HASH
from streamcore.tables.group import NUMBER

SIDE, TIME = "_side", "_time"
"""Hidden columns of a row on its way into a join: whether it is a right one, and its event time in
microseconds (where a join is bounded in time)."""
RIGHT = "right:"
"""Prefix of the right row's hidden columns in a pair."""
RESERVED = (HASH, NUMBER, f"{RIGHT}{HASH}", f"{RIGHT}{NUMBER}", f"{RIGHT}{TIME}", "_gone", "_left", "_right")
"""Names that columns of either side can't have."""


@dataclass(frozen=True)
class JoinShape:
    """The rows of a join: columns of both sides, and the pairs of columns that must be equal.

    *times* are the event times of the sides; None where time does not matter.
    """

    left: pl.Schema
    right: pl.Schema
    on: Mapping[str, str]
    times: tuple[str, str] | None
    keys: pl.Schema = field(init=False)
    """Hidden columns of the keys, in types that both sides have in common."""

    def __post_init__(self) -> None:
        check_columns([*self.on], self.left, "on the left of a join")
        check_columns([*self.on.values()], self.right, "on the right of a join")
        pairs = enumerate(self.on.items())
        keys = {f"_key{i}": _in_common(a, self.left[a], b, self.right[b]) for i, (a, b) in pairs}
        object.__setattr__(self, "keys", pl.Schema(keys))
        for name in (*self.left, *self.right):
            if name in (SIDE, TIME, *keys, *RESERVED):
                raise BadConfig("the join needs this column's name", got=name, fix="rename the column")
        for name in self.right_kept:
            if name in self.left:
                raise BadConfig(
                    "both sides of a join have a column of this name",
                    got=name,
                    fix="rename, select or drop it on one side before join()",
                )

    @property
    def right_kept(self) -> pl.Schema:
        """The right columns that come out: a key that is called the same on both sides is there once."""
        same = {left for left, right in self.on.items() if left == right}
        return pl.Schema({name: dtype for name, dtype in self.right.items() if name not in same})

    @property
    def columns(self) -> pl.Schema:
        """The user columns of what comes out."""
        return pl.Schema({**self.left, **self.right_kept})

    @property
    def text(self) -> str:
        """The keys, for people."""
        return " and ".join(f"{left} = {right}" for left, right in self.on.items())

    @property
    def combined(self) -> pl.Schema:
        """The columns of both sides' rows before they meet."""
        time = {} if self.times is None else {TIME: pl.Int64()}
        return pl.Schema({SIDE: pl.Boolean(), **self.keys, **time, **self.columns})


def _in_common(left: str, a: pl.DataType, right: str, b: pl.DataType) -> pl.DataType:
    """The type in which columns *left* and *right* are compared."""
    if a == b and not a.is_nested() and a != pl.Object:
        return a
    if (a.is_numeric() and b.is_numeric()) or (isinstance(a, pl.Datetime) and isinstance(b, pl.Datetime)):
        some = [pl.DataFrame(schema={"key": dtype}) for dtype in (a, b)]
        return pl.concat(some, how="vertical_relaxed").schema["key"]
    raise BadConfig(
        f"{left!r} and {right!r} can't be compared in a join",
        got=f"{a} and {b}",
        fix="cast one of them with cast_type() before join()",
    )


@dataclass(frozen=True)
class OfSides(BaseOperator):
    """What all joins are: an operator over the rows of both sides in one *shape*, sorted by its keys."""

    shape: JoinShape

    @property
    def keeps(self) -> tuple[bool, bool]:
        """Whether left and right rows stay that have no key, and so match nothing."""
        return False, False

    @property
    def by(self) -> tuple[str, ...]:
        """The keys."""
        return tuple(self.shape.keys)

    @property
    def columns(self) -> pl.Schema:
        """The left columns and the right ones."""
        return self.shape.columns

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows of either side."""
        return pl.DataFrame(schema={**self.shape.combined, OP: pl.UInt8, OFFSET: pl.Int64})


@dataclass(frozen=True)
class JoinSide:
    """Brings one side into the shape of both; rows without a key match nothing.

    *keeps*: they stay nevertheless, since each left row comes out.
    """

    shape: JoinShape
    right: bool
    keeps: bool = False

    @property
    def name(self) -> str:
        return "right of a join" if self.right else "left of a join"

    def keys_of(self, columns: Collection[str]) -> frozenset[str]:
        """The hidden columns of the keys that are made of some of *columns*."""
        names = self.shape.on.values() if self.right else self.shape.on.keys()
        return frozenset(key for name, key in zip(names, self.shape.keys, strict=True) if name in columns)

    def output(self, columns: pl.Schema) -> pl.Schema:
        return self.shape.combined

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        """Hidden columns stay as they are."""
        shape, names = self.shape, list(self.shape.on.values() if self.right else self.shape.on)
        if not self.keeps:
            frame = frame.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in names))
        made = [pl.lit(self.right).alias(SIDE)]
        for name, (key, dtype) in zip(names, shape.keys.items(), strict=True):
            value = pl.col(name).cast(dtype)
            made.append((value + 0.0 if dtype.is_float() else value).alias(key))  # -0.0 is 0.0
        own = shape.right_kept if self.right else shape.left
        others = shape.left if self.right else shape.right_kept
        made += [pl.lit(None, dtype).alias(name) for name, dtype in others.items()]
        time = shape.times[self.right] if shape.times is not None else None
        shaped = frame.select(*made, *own, *HIDDEN)
        if time is not None:
            shaped = shaped.with_columns(microseconds(frame[time]).alias(TIME))
        return StepResult(shaped.select(*shape.combined, *HIDDEN))
