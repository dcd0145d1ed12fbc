"""Columns of a reference, looked up by key: a step, without state.

:class:`Lookup` has the reference with it, which does not change. :class:`OutsideLookup` asks for the rows of
the keys that come: what it finds depends on when it asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from streamcore.asking import Reference
from streamcore.batch import HIDDEN
from streamcore.contracts import StepResult
from streamcore.errors import BadConfig
from streamcore.tables.join_side import JoinShape


@dataclass(frozen=True)
class Lookup:
    """Adds the columns of the row of *reference* whose columns *on* are equal, of which there is one at most.

    *outer*: rows that have none get nulls; otherwise they leave. *columns* are those of the rows.
    """

    reference: pl.DataFrame = field(repr=False, compare=False)
    on: Mapping[str, str]
    outer: bool
    columns: pl.Schema
    _shape: JoinShape = field(init=False, repr=False, compare=False)
    _rows: pl.DataFrame = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shape = JoinShape(self.columns, self.reference.schema, self.on, None)
        rows = _reference_rows(shape, self.reference)
        twice = rows.filter(pl.struct(*shape.keys).is_duplicated())
        if twice.height:
            raise BadConfig(
                "the reference has several rows of a key",
                got=", ".join(f"{name}={twice[0, i]!r}" for i, name in enumerate(self.on.values())),
                fix="leave one of them: reference.unique([…])",
            )
        object.__setattr__(self, "_shape", shape)
        object.__setattr__(self, "_rows", rows)

    @property
    def name(self) -> str:
        return "lookup by " + ", ".join(self.on)

    def output(self, columns: pl.Schema) -> pl.Schema:
        return self._shape.columns

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        """Rows stay in their order."""
        return StepResult(_found(frame, self._rows, self._shape, outer=self.outer))


@dataclass(frozen=True)
class OutsideLookup:
    """Adds the columns of the row of *reference*, whose key is ``on.values()``; see :class:`Lookup`."""

    reference: Reference
    on: Mapping[str, str]
    outer: bool
    columns: pl.Schema
    _shape: JoinShape = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shape = JoinShape(self.columns, self.reference.types, self.on, None)
        if set(self.on.values()) != set(self.reference.keys):
            raise BadConfig(
                f"{self.reference.name} is looked up by its key",
                got=", ".join(self.on.values()),
                allowed=[", ".join(self.reference.keys)],
            )
        for (left, right), dtype in zip(self.on.items(), shape.keys.values(), strict=True):
            if dtype != self.reference.types[right]:
                raise BadConfig(
                    f"{left!r} does not fit the key of {self.reference.name}",
                    got=str(self.columns[left]),
                    allowed=[str(self.reference.types[right])],
                    fix="cast it with cast_type() before lookup()",
                )
        object.__setattr__(self, "_shape", shape)

    @property
    def name(self) -> str:
        return f"lookup in {self.reference.name} by {', '.join(self.on)}"

    def output(self, columns: pl.Schema) -> pl.Schema:
        return self._shape.columns

    def keys(self, frame: pl.DataFrame) -> pl.DataFrame:
        """See :class:`~streamcore.contracts.AskingStep`."""
        types = self.reference.types
        names = (pl.col(left).cast(types[right]).alias(right) for left, right in self.on.items())
        return frame.select(*names).drop_nulls().unique(maintain_order=True)

    def answered(self, frame: pl.DataFrame, rows: pl.DataFrame, stage: str) -> StepResult:
        """Rows stay in their order."""
        return StepResult(_found(frame, _reference_rows(self._shape, rows), self._shape, outer=self.outer))


def _found(frame: pl.DataFrame, rows: pl.DataFrame, shape: JoinShape, *, outer: bool) -> pl.DataFrame:
    keyed = frame.with_columns(_keys(shape, shape.on))
    how: Literal["left", "inner"] = "left" if outer else "inner"
    found = keyed.join(rows, on=list(shape.keys), how=how, maintain_order="left")
    return found.select(*shape.columns, *HIDDEN)


def _reference_rows(shape: JoinShape, reference: pl.DataFrame) -> pl.DataFrame:
    keys = _keys(shape, shape.on.values())
    return reference.select(*keys, *shape.right_kept).drop_nulls(list(shape.keys))


def _keys(shape: JoinShape, names: Iterable[str]) -> list[pl.Expr]:
    """The columns *names* as the key columns of *shape*, in its types."""
    pairs = zip(names, shape.keys.items(), strict=True)
    return [pl.col(name).cast(dtype).alias(key) for name, (key, dtype) in pairs]
