"""How a column of the stream becomes a field of MongoDB's documents, and which rows can't."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from streamcore.errors import BadConfig

_PLAIN = (
    pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
    pl.Float32, pl.Float64, pl.String, pl.Categorical, pl.Enum, pl.Null, pl.Binary, pl.Date,
)  # fmt: skip
_LONGEST = 2**63 - 1
_DIGITS = 34
"""Digits of a decimal of MongoDB."""
_YEARS = (-62_135_596_800_000, 253_402_300_799_999)
"""Milliseconds since 1970 of the years 1 to 9999."""


def field_type(name: str, dtype: pl.DataType, *, inside: bool = False) -> pl.DataType:
    """The column's type as the driver takes it; BadConfig where there is none. *inside*: of a nested one."""
    if isinstance(dtype, _PLAIN) and not (inside and isinstance(dtype, pl.UInt64)):
        return dtype
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("ms")
    if isinstance(dtype, pl.Decimal) and not (inside and (dtype.precision or 38) > _DIGITS):
        return dtype
    if isinstance(dtype, (pl.Time, pl.Duration)) and not inside:
        return pl.String()
    if isinstance(dtype, (pl.List, pl.Array)):
        return pl.List(field_type(name, _instance(dtype.inner), inside=True))
    if isinstance(dtype, pl.Struct):
        parts = {part.name: field_type(name, _instance(part.dtype), inside=True) for part in dtype.fields}
        return pl.Struct(parts)
    raise BadConfig(
        f"MongoDB can't hold the column {name!r}", got=str(dtype), fix=f"drop or cast it: .drop({name!r})"
    )


def _instance(dtype: object) -> pl.DataType:
    made = dtype() if isinstance(dtype, type) else dtype
    assert isinstance(made, pl.DataType)
    return made


@dataclass(frozen=True, slots=True)
class Field:
    """A column of type ``dtype``. ``cut_times``: times lose what is below a millisecond."""

    name: str
    dtype: pl.DataType
    cut_times: bool

    @property
    def value(self) -> pl.Expr:
        """What the driver takes."""
        column, target = pl.col(self.name), field_type(self.name, self.dtype)
        if isinstance(self.dtype, pl.Time):
            return column.dt.to_string("%H:%M:%S%.f")
        if isinstance(self.dtype, pl.Duration):
            return column.dt.to_string("iso")
        if isinstance(self.dtype, pl.Datetime) and self.dtype.time_zone:
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return column if target == self.dtype else column.cast(target)

    def checks(self) -> Iterator[tuple[str, str, pl.Expr]]:
        """See :class:`streamcore.sinks.column_checks.Checked`."""
        name, column = self.name, pl.col(self.name)
        if isinstance(self.dtype, pl.UInt64):
            yield "range", f"{name} is above 2^63 - 1", column > _LONGEST
        if isinstance(self.dtype, pl.Decimal) and (self.dtype.precision or 38) > _DIGITS:
            digits = column.cast(pl.String).str.replace_all(r"[-.]", "").str.strip_chars_start("0")
            yield "range", f"{name} has more than {_DIGITS} digits", digits.str.len_bytes() > _DIGITS
        if isinstance(self.dtype, pl.Datetime):
            milliseconds = column.dt.epoch("ms")
            yield "range", f"{name} is outside of the years 1 to 9999", ~milliseconds.is_between(*_YEARS)
        if not self.cut_times and "Datetime" in str(self.dtype):
            cut = column.cast(field_type(name, self.dtype)) if self.dtype.is_nested() else self.value
            yield (
                "precision",
                f"{name} has parts of a millisecond, which MongoDB has not; cut_times=True cuts them off",
                cut.cast(self._naive()).ne_missing(column if self.dtype.is_nested() else self._utc()),
            )

    def _naive(self) -> pl.DataType:
        return pl.Datetime(self.dtype.time_unit) if isinstance(self.dtype, pl.Datetime) else self.dtype

    def _utc(self) -> pl.Expr:
        column = pl.col(self.name)
        aware = isinstance(self.dtype, pl.Datetime) and self.dtype.time_zone
        return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if aware else column
