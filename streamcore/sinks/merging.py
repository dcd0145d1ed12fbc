"""How rows meet those that are there with their key: which one stays, and with which values.

A sink writes many rows at once, and a key may come several times among them. :meth:`Merge.rounds` folds them
so that what is written is what the rows would have made one after the other, whatever the cut: in each round
a key comes once, and all of its rows before it are accounted for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import polars as pl

from streamcore.batch import DELETES, OP, OP_UPDATE_AFTER, OP_UPDATE_BEFORE
from streamcore.errors import BadConfig, did_you_mean

OnConflict: TypeAlias = Literal["update", "ignore"]
_RUN = " run"


def check_column(name: str, columns: pl.Schema, what: str) -> None:
    """BadConfig unless *name*, which the option *what* gives, is one of *columns*."""
    if name not in columns:
        hint = did_you_mean(name, columns.names())
        raise BadConfig(f"{what}: unknown column {name!r}", allowed=columns.names(), fix=hint)


def in_a_float(dtype: pl.DataType, bits: int) -> bool:
    """Whether a float of *bits*, 32 or 64, has each value of *dtype*, a number, as it is."""
    if dtype.is_float():
        return bits == 64 or isinstance(dtype, pl.Float32)
    return int(str(dtype).strip("UInt")) <= bits // 2


class TableColumn(Protocol):
    """A column of a table. ``shown`` is its type in SQL."""

    @property
    def name(self) -> str: ...
    @property
    def shown(self) -> str: ...


class Pair(Protocol):
    """A column of the stream, of type ``dtype``, on its way into the column ``table``.

    ``exact``: of a number or a time the table has each value as it is, or its row is refused.
    """

    @property
    def table(self) -> TableColumn: ...
    @property
    def dtype(self) -> pl.DataType: ...
    @property
    def exact(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Merge:
    """``key``: without one rows are appended. ``on_conflict``: whether a row updates the one that is there.
    ``update``: the columns that it updates, None: all. ``version``: the column by which a row that is older
    than the one that is there is left out; null is older than any value.
    """

    key: tuple[str, ...]
    on_conflict: OnConflict = "update"
    update: tuple[str, ...] | None = None
    version: str | None = None

    def check(self, columns: pl.Schema) -> None:
        """BadConfig for columns that the stream does not have or that can't be what they are to be."""
        given = {"key": self.key, "update": self.update or (), "version": filter(None, [self.version])}
        for option, names in given.items():
            for name in names:
                check_column(name, columns, option)
        if self.on_conflict not in ("update", "ignore"):
            raise BadConfig("on_conflict: no such word", got=self.on_conflict, allowed=("update", "ignore"))
        refined = [option for option in ("update", "version") if getattr(self, option)]
        if not self.key and (refined or self.on_conflict != "update"):
            option = refined[0] if refined else "on_conflict"
            raise BadConfig(f"{option}: without a key no row meets another one", fix="give key=")
        if refined and self.on_conflict == "ignore":
            raise BadConfig(
                f'{refined[0]}: with on_conflict="ignore" nothing is updated', fix="leave one away"
            )
        if both := set(self.key) & {*(self.update or ()), self.version}:
            raise BadConfig("a column of the key is never updated", got=", ".join(sorted(map(str, both))))
        if self.version is not None and not _has_an_order(columns[self.version]):
            raise BadConfig(
                f"version: {self.version!r} must be a number or a time, which are ordered alike everywhere",
                got=str(columns[self.version]),
                fix="cast it before to()",
            )

    def check_stored(self, pairs: Iterable[Pair], where: str) -> None:
        """BadConfig where the table's column has the version less exactly than the stream: what is older
        among the rows of a batch could then be as old as the row that is there.
        """
        for pair in pairs:
            if pair.table.name == self.version and not pair.exact:
                raise BadConfig(
                    f"version: the table's column {self.version!r} does not have each value as it is",
                    where=where,
                    got=f"{pair.dtype} into {pair.table.shown}",
                    fix="change the column's type, or cast the stream's to what it has",
                )

    def checks(self, columns: pl.Schema) -> Iterator[tuple[str, str, pl.Expr]]:
        """Code, message and condition of the rows whose version is not a number: it has no order."""
        if self.version is not None and columns[self.version].is_float():
            yield "range", f"{self.version} is not a number, it is the version", pl.col(self.version).is_nan()

    def updated(self, columns: Sequence[str]) -> list[str]:
        """Those of *columns* that are set in the row that is there, the version last."""
        if self.on_conflict == "ignore":
            return []
        wanted = columns if self.update is None else self.update
        rest = [name for name in columns if name in wanted and name not in (*self.key, self.version)]
        return rest if self.version is None else [*rest, self.version]

    def rounds(
        self, frame: pl.DataFrame, columns: Sequence[str], *, in_order: bool = False
    ) -> Iterator[pl.DataFrame]:
        """*frame* (with hidden columns, in order) as frames to write one after the other.

        In each of them a key comes once. *columns* are the stream's; others are those of the row that stays.
        *in_order*: the system takes the rows of a frame one after the other. Then none is made of several,
        which the system would refuse for the values of any of them.
        """
        if not self.key:
            yield frame
        elif self == Merge(self.key):
            yield frame.unique(self.key, keep="last", maintain_order=True)
        else:
            op = pl.col(OP)
            paired = (op == OP_UPDATE_BEFORE) & (op.shift(-1).over(self.key) == OP_UPDATE_AFTER)
            frame = frame.filter(~paired.fill_null(False))
            if in_order:
                yield frame
                return
            turns = DELETES.ne(DELETES.shift().over(self.key)).fill_null(False)
            frame = frame.with_columns(turns.cum_sum().over(self.key).alias(_RUN))
            runs = int(str(frame[_RUN].max())) + 1 if frame.height else 0
            for run in range(runs):
                yield self._folded(frame.filter(pl.col(_RUN) == run).drop(_RUN), columns)

    def _folded(self, frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
        """*frame*, where all rows of a key are deletes or none is, with one row a key."""
        first = frame.unique(self.key, keep="first", maintain_order=True)
        if self.on_conflict == "ignore":
            return first
        if self.version is not None:
            # A delete without a version, e.g. a tombstone, deletes any row.
            oldest_last = DELETES & pl.col(self.version).is_null()
            frame = frame.sort(oldest_last, self.version, nulls_last=False, maintain_order=True)
        last = frame.unique(self.key, keep="last", maintain_order=True)
        kept = [name for name in columns if name not in (*self.key, *self.updated(columns))]
        if not kept:
            return last
        others = last.drop(kept).join(
            first.select(*self.key, *kept), on=list(self.key), maintain_order="left"
        )
        return others.select(frame.columns)


def _has_an_order(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float() or isinstance(dtype, (pl.Date, pl.Datetime))
