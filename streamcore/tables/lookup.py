"""Columns of a reference that does not change, looked up by key: a step, without state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

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
        keys = _keys(shape, self.on.values())
        rows = self.reference.select(*keys, *shape.right_kept).drop_nulls(list(shape.keys))
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
        keyed = frame.with_columns(_keys(self._shape, self.on))
        keys = list(self._shape.keys)
        found = keyed.join(self._rows, on=keys, how="left" if self.outer else "inner", maintain_order="left")
        return StepResult(found.select(*self._shape.columns, *HIDDEN))


def _keys(shape: JoinShape, names: Iterable[str]) -> list[pl.Expr]:
    """The columns *names* as the key columns of *shape*, in its types."""
    pairs = zip(names, shape.keys.items(), strict=True)
    return [pl.col(name).cast(dtype).alias(key) for name, (key, dtype) in pairs]
