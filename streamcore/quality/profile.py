"""A profile as people and files have it: counts, quantiles, frequent values and histograms by column."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Literal, TypeAlias

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from streamcore.quality.column_state import ColumnState
from streamcore.quality.distribution import Distribution, Histogram, number_step, time_step, whole_step
from streamcore.quality.frequent import COUNT, VALUE
from streamcore.quality.numbers import Numbers
from streamcore.quality.plain import Plain, plain
from streamcore.quality.profile_state import ProfileState
from streamcore.quality.row_sample import RowSample
from streamcore.quality.spans import Spans
from streamcore.schema.types import name_of

TOP = 100
"""Frequent values that a profile names."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_SEEN = 20
"""So often a value must be in the sample to be called frequent: its count is then right within about a
half."""
Kind: TypeAlias = Literal["number", "time", "text", "boolean", "other"]


class Model(BaseModel):
    """Frozen; a file of a later version may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TopValue(Model):
    """A frequent value and how often it occurs."""

    value: Plain
    count: int


class NumberSummary(Model):
    """Of finite numbers; ``not_finite``: how many are NaN or infinite. Quantiles by rank, within 0.4 %."""

    min: float
    max: float
    mean: float
    deviation: float | None
    quantiles: dict[str, float]
    not_finite: int = 0


class TimeSummary(Model):
    """The first and last time, as ISO 8601; of durations, as seconds."""

    min: str
    max: str


class ColumnProfile(Model):
    """One column. ``distinct`` is exact or an estimate within about 1 %; None: it can't be told.

    ``top``: the most frequent values. They are exact while ``distinct_exact``, otherwise estimates by a
    sample of rows, of values that are about a hundredth of all or more. A ``hidden`` column is secret: no
    value is kept.
    """

    name: str
    type: str
    kind: Kind
    count: int
    nulls: int
    distinct: int | None
    distinct_exact: bool
    hidden: bool = False
    top: Sequence[TopValue] = ()
    numbers: NumberSummary | None = None
    times: TimeSummary | None = None
    lengths: NumberSummary | None = None
    distribution: Distribution | None = None
    histogram: Histogram | None = None

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.type.startswith(("int", "uint"))

    @property
    def null_share(self) -> float:
        """The share of rows without a value; 0 without a row."""
        rows = self.count + self.nulls
        return self.nulls / rows if rows else 0.0


class Profile(Model):
    """All columns of a dataset. ``refused``: rows that could not be read as rows of its columns."""

    version: Literal[1] = 1
    dataset: str
    made_at: dt.datetime
    rows: int
    refused: int = 0
    columns: Sequence[ColumnProfile] = Field(default_factory=tuple)

    def column(self, name: str) -> ColumnProfile | None:
        """The column called *name*, if there is one."""
        return next((column for column in self.columns if column.name == name), None)


def profile_of(state: ProfileState, dataset: str, made_at: dt.datetime, refused: int = 0) -> Profile:
    """*state* as a profile of *dataset*, which was read at *made_at*."""
    columns = [
        _column(name, state.types[name], column, state.sample, name in state.secret)
        for name, column in state.columns.items()
    ]
    return Profile(dataset=dataset, made_at=made_at, rows=state.rows, refused=refused, columns=columns)


def _column(
    name: str, dtype: pl.DataType, state: ColumnState, sample: RowSample, hidden: bool
) -> ColumnProfile:
    known = ColumnProfile(
        name=name,
        type=name_of(dtype),
        kind=_kind(dtype),
        count=state.count,
        nulls=state.nulls,
        distinct=state.distinct,
        distinct_exact=state.exact,
        hidden=hidden,
    )
    if hidden:
        return known
    whole = dtype.is_integer()
    distribution = _distribution(state, whole=whole)
    step = time_step if dtype.is_temporal() else whole_step if whole else number_step
    return known.model_copy(
        update={
            "top": _top(name, state, sample),
            "numbers": _summary(state.numbers, whole=whole),
            "times": None if state.spans is None else _times(state.spans, dtype),
            "lengths": _summary(state.lengths, whole=True),
            "distribution": None if distribution is None else distribution.joined(),
            "histogram": None if distribution is None else distribution.histogram(step, whole=whole),
        }
    )


def _kind(dtype: pl.DataType) -> Kind:
    if dtype.is_numeric():
        return "number"
    if dtype.is_temporal():
        return "time"
    if isinstance(dtype, pl.Boolean):
        return "boolean"
    return "text" if isinstance(dtype, pl.String | pl.Categorical | pl.Enum) else "other"


def _distribution(state: ColumnState, *, whole: bool) -> Distribution | None:
    if state.numbers is not None:
        return Distribution.of_numbers(state.numbers, whole=whole) if state.numbers.count else None
    return Distribution.of_spans(state.spans) if state.spans is not None and state.spans.count else None


def _top(name: str, state: ColumnState, sample: RowSample) -> list[TopValue]:
    if state.exact:
        return [TopValue(value=plain(value), count=count) for value, count in state.frequent.top(TOP)]
    rows = sample.rows
    if name not in rows.columns or not rows.height or rows[name].dtype.is_nested():
        return []
    counted = rows.get_column(name).alias(VALUE).drop_nulls().value_counts(name=COUNT)
    often = counted.filter(pl.col(COUNT) >= _SEEN).sort(COUNT, VALUE, descending=[True, False]).head(TOP)
    of_all = (state.count + state.nulls) / rows.height
    return [TopValue(value=plain(value), count=round(n * of_all)) for value, n in often.iter_rows()]


def _summary(numbers: Numbers | None, *, whole: bool) -> NumberSummary | None:
    if numbers is None or not numbers.count:
        return None
    quantiles = numbers.quantiles(QUANTILES)
    if whole:  # the middle of a bucket lies behind its whole number
        quantiles = [float(int(value)) for value in quantiles]
    return NumberSummary(
        min=numbers.least,
        max=numbers.largest,
        mean=numbers.mean,
        deviation=numbers.deviation,
        quantiles={f"{q:g}": v for q, v in zip(QUANTILES, quantiles, strict=True)},
        not_finite=numbers.not_finite,
    )


def _times(spans: Spans, dtype: pl.DataType) -> TimeSummary | None:
    if not spans.count:
        return None
    return TimeSummary(min=time_text(spans.least, dtype), max=time_text(spans.largest, dtype))


def time_text(microseconds: int, dtype: pl.DataType) -> str:
    """A time of *dtype* that is *microseconds* since 1970, or since midnight, or long."""
    if isinstance(dtype, pl.Duration):
        return f"{microseconds / 1_000_000:g} s"
    value = pl.Series([microseconds], dtype=pl.Int64)
    if isinstance(dtype, pl.Time):
        return str((value * 1_000).cast(pl.Time).item())
    time = value.cast(pl.Datetime("us")).item()
    if isinstance(dtype, pl.Date):
        return str(time.date())
    zoned = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
    return str(time.isoformat()) + ("Z" if zoned else "")
