"""Steps around the user's own functions: map_batches (of frames), map and flat_map (of rows).

Functions must be deterministic: recovery replays rows through them. What a function raises makes
the row a dead letter; the message names the error's type and the function's line, not the row.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import polars as pl
from polars.exceptions import PolarsError
from pydantic import BaseModel

from streamcore.batch import HIDDEN, HIDDEN_TYPES, OFFSET, SUB, Rejects
from streamcore.contracts import StepResult
from streamcore.errors import Permanent
from streamcore.transforms.bisect import FrameFunction, apply_or_reject

Row = Mapping[str, object]
RowFunction = Callable[[dict[str, object]], "Row | BaseModel"]
RowsFunction = Callable[[dict[str, object]], "Iterable[Row | BaseModel]"]


def _explain(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {last.name} at {last.filename.rsplit('/', 1)[-1]}:{last.lineno}"


@dataclass(frozen=True)
class MapBatches:
    """A function of the frame; it must keep the hidden columns of the rows that it keeps.

    *returns* are the user columns of its result, or None when they stay as they are.
    """

    function: FrameFunction
    returns: pl.Schema | None

    @property
    def name(self) -> str:
        return f"map_batches {getattr(self.function, '__name__', 'function')}"

    def output(self, columns: pl.Schema) -> pl.Schema:
        return self.returns or columns

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        user = self.returns or pl.Schema({n: t for n, t in frame.schema.items() if n not in HIDDEN})
        expected = pl.Schema({**user, **HIDDEN_TYPES})
        result, rejects = apply_or_reject(frame, self.function, stage, "function", _explain, (Exception,))
        if result.schema != expected:
            result = self._arranged(result, expected, stage)
        if not result[OFFSET].is_sorted():
            raise Permanent("the function changed the order of the rows", where=stage, fix="keep their order")
        return StepResult(result, rejects)

    def _arranged(self, result: pl.DataFrame, expected: pl.Schema, stage: str) -> pl.DataFrame:
        if set(result.schema.items()) == set(expected.items()):
            return result.select(expected.names())
        raise Permanent(
            "the function returned other columns than declared",
            where=stage,
            got=dict(result.schema),
            allowed=[f"{name} {dtype}" for name, dtype in expected.items()],
            fix="declare them with returns=, and keep the columns that start with an underscore",
        )


@dataclass(frozen=True)
class MapRows:
    """A function of a row (a dict) that returns one row: a dict or an Event. One call a row: slow."""

    function: RowFunction
    returns: pl.Schema | None
    flat = False

    @property
    def name(self) -> str:
        return f"map {getattr(self.function, '__name__', 'function')}"

    def output(self, columns: pl.Schema) -> pl.Schema:
        return self.returns or columns

    def results(self, row: dict[str, object]) -> list[Row | BaseModel]:
        return [self.function(row)]

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        return _apply_rows(self, frame, stage)


@dataclass(frozen=True)
class FlatMapRows:
    """A function of a row (a dict) that returns any number of rows. One call a row: slow."""

    function: RowsFunction
    returns: pl.Schema | None

    @property
    def name(self) -> str:
        return f"flat_map {getattr(self.function, '__name__', 'function')}"

    def output(self, columns: pl.Schema) -> pl.Schema:
        return self.returns or columns

    def results(self, row: dict[str, object]) -> list[Row | BaseModel]:
        return list(self.function(row))

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        result = _apply_rows(self, frame, stage)
        return StepResult(renumbered(result.frame), result.rejects)


def renumbered(frame: pl.DataFrame) -> pl.DataFrame:
    """*frame* with ``_sub`` counted anew within each record, in the rows' order."""
    return frame.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).over(OFFSET).alias(SUB))


def _apply_rows(step: MapRows | FlatMapRows, frame: pl.DataFrame, stage: str) -> StepResult:
    user = frame.drop(HIDDEN)
    schema = step.returns or user.schema
    values: list[dict[str, object]] = []
    origin: list[int] = []
    failed: list[tuple[int, str]] = []
    for at, row in enumerate(user.iter_rows(named=True)):
        try:
            made = [_plain(r, schema) for r in step.results(row)]
        except Exception as error:  # noqa: BLE001 - whatever the user's function raises is this row's reject
            failed.append((at, _explain(error)))
            continue
        values += made
        origin += [at] * len(made)
    hidden = frame.select(HIDDEN)
    out, rejects = _typed(values, schema, hidden[origin], stage)
    if failed:
        places, messages = zip(*failed, strict=True)
        bad = hidden[list(places)].with_columns(pl.Series("message", messages))
        rejects = Rejects.join([Rejects.of(bad, stage, "function", pl.col("message")), rejects])
    return StepResult(out, rejects)


def _plain(row: Row | BaseModel, schema: pl.Schema) -> dict[str, object]:
    data = row.model_dump() if isinstance(row, BaseModel) else row
    unknown = set(data) - set(schema)
    if unknown:
        raise KeyError(f"columns that returns= does not declare: {sorted(unknown)}")
    return {name: data.get(name) for name in schema}


def _typed(
    values: list[dict[str, object]], schema: pl.Schema, hidden: pl.DataFrame, stage: str
) -> tuple[pl.DataFrame, Rejects]:
    """The rows as a frame of *schema*; rows whose values have other types are rejects."""
    numbered = hidden.with_row_index("_place")

    def build(part: pl.DataFrame) -> pl.DataFrame:
        rows = [values[i] for i in part["_place"].to_list()]
        made = pl.DataFrame(rows, schema=schema, strict=True, orient="row")
        return pl.concat([made, part.drop("_place")], how="horizontal")

    def explain(error: Exception) -> str:
        return "the function returned a value of another type than declared"

    return apply_or_reject(numbered, build, stage, "type", explain, (PolarsError, TypeError, OverflowError))
