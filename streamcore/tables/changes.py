"""Steps behind a table: its rows are updates, each of which takes the place of the one with its key."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from streamcore.batch import DELETES, OFFSET, OP, OP_DELETE, OP_INSERT
from streamcore.contracts import Sink, StepResult
from streamcore.errors import BadConfig
from streamcore.transforms.columns import Filter, applied, check_new_name

UPSERT, DELETE = "upsert", "delete"
"""What :class:`Changelog` writes."""


@dataclass(frozen=True)
class FilterUpdates(Filter):
    """Delete the rows of a table for which the condition is not true."""

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        """A row that is not kept stays as a deletion: the row with its key may have been kept before."""
        kept = self._expression.fill_null(False)
        operation = pl.when(kept).then(pl.col(OP)).otherwise(pl.lit(OP_DELETE, pl.UInt8))
        return applied(frame, lambda f: f.with_columns(operation), stage)


@dataclass(frozen=True)
class Deleted(Filter):
    """Rows for which the condition is true delete the row of the table with their key."""

    @property
    def name(self) -> str:
        """See :class:`Filter`."""
        return f"deleted where {self.text}"

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        """Every row stays."""
        gone = pl.when(self._expression).then(pl.lit(OP_DELETE, pl.UInt8)).otherwise(pl.col(OP))
        return applied(frame, lambda f: f.with_columns(gone.alias(OP)), stage)


@dataclass(frozen=True)
class Changelog:
    """The updates of a table as rows that are only added: what happened is column *op*.

    Column *number* grows along the updates of a key.
    """

    op: str
    number: str

    def __post_init__(self) -> None:
        check_new_name(self.op)
        check_new_name(self.number)

    name = "changelog"

    def output(self, columns: pl.Schema) -> pl.Schema:
        """*columns*, *op* and *number*."""
        for name in (self.op, self.number):
            if name in columns:
                raise BadConfig("a column of this name is there already", got=name, fix="give another name")
        return pl.Schema({**columns, self.op: pl.String(), self.number: pl.Int64()})

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        """Every row stays."""
        gone = DELETES
        done = pl.when(gone).then(pl.lit(DELETE)).otherwise(pl.lit(UPSERT)).alias(self.op)
        added = pl.lit(OP_INSERT, pl.UInt8).alias(OP)
        return StepResult(frame.with_columns(done, pl.col(OFFSET).alias(self.number)).with_columns(added))


def check_sink(sink: Sink, key: tuple[str, ...]) -> None:
    """BadConfig unless *sink* can keep a table whose rows are named by *key* up to date."""
    abilities, by = sink.abilities, ", ".join(key)
    if not (abilities.upsert and abilities.delete):
        raise BadConfig(
            f"sink {sink.name!r} can only append, or keep rows, and the rows here are updates of a table",
            fix=f"give it key=({by}) if it takes one, or write each change with changelog() before to()",
        )
    if abilities.key and set(abilities.key) != set(key):
        raise BadConfig(
            f"sink {sink.name!r} has another key than the table",
            got=", ".join(abilities.key),
            allowed=[by],
            fix="the same columns name a row in both",
        )
