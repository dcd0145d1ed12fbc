"""Steps over columns: filter, add_column, rename, select, drop, cast_type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl
from polars.exceptions import PolarsError

from streamcore.batch import HIDDEN, Rejects
from streamcore.contracts import StepResult
from streamcore.errors import BadConfig
from streamcore.expressions import check_columns, condition, result_type, sql
from streamcore.few_rows import Values, values_of
from streamcore.transforms.bisect import apply_or_reject

FEW = 1024
"""Up to so many rows are filtered column by column: polars' filter hands them to a thread of its pool."""
Frames = Callable[[pl.DataFrame], pl.DataFrame]


def applied(frame: pl.DataFrame, expression: Frames, stage: str) -> StepResult:
    """*expression* of *frame*; rows on which it fails are rejects of *stage*."""
    kept, rejects = apply_or_reject(frame, expression, stage, "expression", _explain, (PolarsError,))
    return StepResult(kept, rejects)


def _explain(error: Exception) -> str:
    return f"the expression failed on this row: {type(error).__name__}"


@dataclass(frozen=True)
class Filter:
    """Keep the rows for which *text* is true; false and null rows leave."""

    text: str
    columns: pl.Schema
    _expression: pl.Expr = field(init=False, repr=False, compare=False)
    _true: Values = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_expression", condition(self.text, self.columns))
        object.__setattr__(self, "_true", values_of(self._expression, self.columns))

    @property
    def name(self) -> str:
        return f"filter {self.text}"

    def output(self, columns: pl.Schema) -> pl.Schema:
        return columns

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        return applied(frame, self._kept, stage)

    def _kept(self, frame: pl.DataFrame) -> pl.DataFrame:
        true = self._true(frame)
        if true.all() and not true.has_nulls():
            return frame
        if frame.height > FEW:
            return frame.filter(true)
        return pl.DataFrame([column.filter(true) for column in frame.get_columns()])


@dataclass(frozen=True)
class AddColumn:
    """Add (or replace) column *column* with the value of *text*."""

    column: str
    text: str
    columns: pl.Schema
    _expression: pl.Expr = field(init=False, repr=False, compare=False)
    _values: Values = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_new_name(self.column)
        object.__setattr__(self, "_expression", sql(self.text, self.columns))
        object.__setattr__(self, "_values", values_of(self._expression, self.columns))

    @property
    def name(self) -> str:
        return f"add_column {self.column}"

    @property
    def reads(self) -> frozenset[str]:
        """The columns that its value is made of."""
        return frozenset(self._expression.meta.root_names())

    def output(self, columns: pl.Schema) -> pl.Schema:
        return pl.Schema({**columns, self.column: result_type(self._expression, columns, self.text)})

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        return applied(frame, self._added, stage)

    def _added(self, frame: pl.DataFrame) -> pl.DataFrame:
        values = self._values(frame).alias(self.column)
        if self.column not in frame.columns:
            return frame.hstack([values])
        return frame.clone().replace_column(frame.get_column_index(self.column), values)


@dataclass(frozen=True)
class Rename:
    """Give columns other names: ``{old: new}``."""

    mapping: Mapping[str, str]

    @property
    def name(self) -> str:
        return "rename " + ", ".join(f"{old} to {new}" for old, new in self.mapping.items())

    def output(self, columns: pl.Schema) -> pl.Schema:
        check_columns(list(self.mapping), columns, "in rename")
        names = [self.mapping.get(name, name) for name in columns]
        for new in self.mapping.values():
            check_new_name(new)
            if names.count(new) > 1:
                raise BadConfig("rename gives two columns the same name", got=new, allowed=["a free name"])
        return pl.Schema(zip(names, columns.values(), strict=True))

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        return StepResult(frame.rename(dict(self.mapping)))


@dataclass(frozen=True)
class Select:
    """Keep these columns, in this order."""

    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return "select " + ", ".join(self.names)

    def output(self, columns: pl.Schema) -> pl.Schema:
        check_columns(list(self.names), columns, "in select")
        if not self.names or len(set(self.names)) < len(self.names):
            raise BadConfig("select needs one or more different columns", got=list(self.names))
        return pl.Schema({name: columns[name] for name in self.names})

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        return StepResult(frame.select(*self.names, *HIDDEN))


@dataclass(frozen=True)
class Drop:
    """Remove these columns."""

    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return "drop " + ", ".join(self.names)

    def output(self, columns: pl.Schema) -> pl.Schema:
        check_columns(list(self.names), columns, "in drop")
        left = pl.Schema({name: dtype for name, dtype in columns.items() if name not in self.names})
        if not left:
            raise BadConfig("drop leaves no column", got=list(self.names))
        return left

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        return StepResult(frame.drop(*self.names))


@dataclass(frozen=True)
class Cast:
    """Change the types of columns; a value that does not fit the new type makes its row a dead letter."""

    types: Mapping[str, pl.DataType]

    @property
    def name(self) -> str:
        return "cast_type " + ", ".join(f"{name} to {dtype}" for name, dtype in self.types.items())

    def output(self, columns: pl.Schema) -> pl.Schema:
        check_columns(list(self.types), columns, "in cast_type")
        empty = pl.DataFrame(schema=columns)
        for name, dtype in self.types.items():
            try:
                empty.select(pl.col(name).cast(dtype))
            except PolarsError as error:
                raise BadConfig(f"column {name!r} of type {columns[name]} can't become {dtype}") from error
        return pl.Schema({**columns, **self.types})

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        cast = frame.with_columns(pl.col(n).cast(t, strict=False) for n, t in self.types.items())
        lost = [n for n in self.types if cast[n].null_count() > frame[n].null_count()]
        if not lost:
            return StepResult(cast)
        failed = pl.Series([False]).new_from_index(0, frame.height)
        message = pl.Series([""]).new_from_index(0, frame.height)
        for n in lost:
            here = cast[n].is_null() & frame[n].is_not_null() & ~failed
            message = message.zip_with(~here, pl.Series([f"{n} can't become {self.types[n]}"]))
            failed = failed | here
        bad = frame.select("_offset", "_sub").with_columns(message.alias("message")).filter(failed)
        return StepResult(cast.filter(~failed), Rejects.of(bad, stage, "cast", pl.col("message")))


def check_new_name(name: str) -> None:
    """BadConfig when *name* can't be a column's name: empty, or one of the hidden columns."""
    if not name or name in HIDDEN:
        raise BadConfig("this can't be a column's name", got=name, fix=f"{', '.join(HIDDEN)} are reserved")
