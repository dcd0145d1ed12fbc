"""Event models and columnar schemas, and the last word about a row that columns can't prove right."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from streamcore.batch import HIDDEN
from streamcore.errors import BadConfig
from streamcore.schema.checks import ModelColumn, ModelCompiler
from streamcore.schema.types import int_bounds, row_model, type_named


class Event(BaseModel):
    """Base of a stream's events: a pydantic model whose fields are the stream's columns.

    Fields become columns: int Int64, float Float64, str String, bool Boolean, bytes Binary (base64 in
    JSON), date Date, Decimal Decimal(max_digits or 38, decimal_places or 9), Literal and Enum the
    column of their values, list[X] List, a nested model Struct.

    ``datetime`` is an instant: the column is in UTC and a value without an offset is taken as UTC.
    ``NaiveDatetime`` gives a column without a zone and refuses offsets. ``X | None`` may be missing.
    Fields may be filled by alias or by name. Unknown input fields are ignored unless the model forbids them.
    """

    model_config = ConfigDict(
        populate_by_name=True, val_json_bytes="base64", ser_json_bytes="base64", use_attribute_docstrings=True
    )


class Refusal(NamedTuple):
    """Why a row was refused: a short stable code and a message without the row's content."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class StreamSchema:
    """What a stream's rows look like once decoded.

    ``columns``: names and types. ``required``: columns that may not be null. ``event``: the model
    that decides about rows which the column checks can't pass, or None. ``aliases``: input name of
    a field -> column, for inputs whose names are no Python names.
    """

    columns: pl.Schema
    required: frozenset[str] = frozenset()
    event: type[Event] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    _judge: list[RowJudge] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, event: type[Event]) -> StreamSchema:
        """The columns of a pydantic model; BadConfig names a field whose type can't be a column."""
        compiled = ModelCompiler(event).compile()
        columns = pl.Schema({c.attribute: c.dtype for c in compiled.columns})
        _refuse_hidden(columns, event.__name__)
        aliases = {n: c.attribute for c in compiled.columns for n in c.names if n != c.attribute}
        required = frozenset(
            c.attribute
            for c in compiled.columns
            if event.model_fields[c.attribute].is_required() and not c.null_ok
        )
        return cls(columns, required, event, aliases)

    @classmethod
    def from_columns(
        cls,
        columns: pl.Schema | Mapping[str, str | pl.DataType | type[pl.DataType]],
        required: frozenset[str] = frozenset(),
    ) -> StreamSchema:
        """A schema without a model, e.g. ``{"id": "int64", "name": "string"}``. Values must have exactly these types."""
        types = {n: type_named(t) if isinstance(t, str) else t for n, t in columns.items()}
        schema = pl.Schema({n: t() if isinstance(t, type) else t for n, t in types.items()})
        _refuse_hidden(schema, "the columns")
        if unknown := required - set(schema):
            raise BadConfig("required names no column", got=sorted(unknown)[0], allowed=schema)
        return cls(schema, required)

    @property
    def judge(self) -> RowJudge:
        """Compiled on first use."""
        if not self._judge:
            self._judge.append(RowJudge(self))
        return self._judge[0]

    def parse(self, obj: object, document: bytes | None = None) -> dict[str, Any] | Refusal:
        """The column values of one decoded object, or why it is refused. Slow: for rows in doubt only.

        *document* is the JSON text of *obj*: pydantic then judges by the rules of JSON (a date is a
        string) and numbers keep all their digits.
        """
        return self.judge.parse(obj, document)


def _refuse_hidden(columns: pl.Schema, where: str) -> None:
    for name in columns:
        if name in HIDDEN:
            raise BadConfig(
                f"column name {name!r} is taken by streamcore",
                where=where,
                fix="rename it, or give it an alias",
            )


class RowJudge:
    """pydantic's word on single rows, and the column expressions that make asking it rare.

    ``doubt`` is true for the rows that pydantic must see (None: no row needs it); with
    ``needs_python`` it must see all rows.
    """

    def __init__(self, schema: StreamSchema) -> None:
        model = schema.event or row_model(dict(schema.columns), schema.required)
        compiled = ModelCompiler(model).compile()
        self.needs_python = compiled.needs_python
        self.names = {column: c.names for column, c in zip(schema.columns, compiled.columns, strict=True)}
        self._null_ok = frozenset(
            n for n, c in zip(schema.columns, compiled.columns, strict=True) if c.null_ok
        )
        self._model: type[BaseModel] = model
        self._known = frozenset(n for c in compiled.columns for n in (c.attribute, *c.names))
        self._fills = tuple(c.names for c in compiled.columns if c.fill)
        self._columns = tuple(
            (column, c.attribute, _converter(dtype))
            for (column, dtype), c in zip(schema.columns.items(), compiled.columns, strict=True)
        )
        self.doubt = self._compile_doubt(schema, compiled.columns)

    def null_ok(self, column: str) -> bool:
        """Whether a null in *column* means null, and not that pydantic fills a default in."""
        return column in self._null_ok

    @staticmethod
    def _compile_doubt(schema: StreamSchema, columns: list[ModelColumn]) -> pl.Expr | None:
        doubts = []
        for name, c in zip(schema.columns, columns, strict=True):
            if not c.null_ok:
                doubts.append(pl.col(name).is_null())
            if c.doubt is not None:
                doubts.append(c.doubt(pl.col(name)))
        return pl.any_horizontal(doubts) if doubts else None

    def parse(self, obj: object, document: bytes | None) -> dict[str, Any] | Refusal:
        """See :meth:`StreamSchema.parse`."""
        if not isinstance(obj, Mapping):
            return Refusal("type", "expected an object with the event's fields")
        missing = [names[0] for names in self._fills if not any(n in obj for n in names)]
        try:
            instance = self._validate(obj, document, missing)
            return {column: convert(getattr(instance, at)) for column, at, convert in self._columns}
        except ValidationError as error:
            return Refusal("schema", self._message(error))
        except (OverflowError, ValueError) as error:
            return Refusal(
                "schema", str(error) if isinstance(error, _DoesNotFit) else "a value does not fit its column"
            )

    def _validate(self, obj: Mapping[str, Any], document: bytes | None, missing: list[str]) -> BaseModel:
        if document is None:
            return self._model.model_validate({**dict.fromkeys(missing), **obj} if missing else obj)
        if missing:
            nulls = b",".join(_quoted(name) + b":null" for name in missing)
            document = document.rstrip()[:-1] + (b"," if obj else b"") + nulls + b"}"
        try:
            return self._model.model_validate_json(document)
        except ValidationError as error:
            # pydantic's own JSON reader stops at a depth of 200, ours at 1,024.
            if error.error_count() == 1 and error.errors(include_input=False)[0]["type"] == "json_invalid":
                return self._model.model_validate({**dict.fromkeys(missing), **obj})
            raise

    def _message(self, error: ValidationError) -> str:
        """The first errors' places and messages: never the input, nor names that only the input has."""
        parts = []
        for item in error.errors(include_url=False, include_context=False, include_input=False)[:3]:
            place = ".".join(str(p) if isinstance(p, int) or p in self._known else "…" for p in item["loc"])
            parts.append(f"{place}: {item['msg']}" if place else item["msg"])
        rest = error.error_count() - len(parts)
        return "; ".join(parts)[:500] + (f" (and {rest} more)" if rest > 0 else "")


class _DoesNotFit(ValueError):
    """pydantic accepts the value, the column can't hold it; the text is for the dead letter."""


def _quoted(name: str) -> bytes:
    import json

    return json.dumps(name).encode()


def _converter(dtype: pl.DataType) -> Callable[[Any], Any]:
    """From pydantic's value to the column's value; _DoesNotFit or OverflowError when it has no place there."""
    if (bounds := int_bounds(dtype)) is not None:
        return lambda v: _fit_int(v.value if isinstance(v, enum.Enum) else v, *bounds)
    if isinstance(dtype, pl.Datetime):
        return _in_utc if dtype.time_zone is not None else _same
    if isinstance(dtype, pl.Decimal):
        return lambda v: _fit_decimal(v, dtype.precision or 38, dtype.scale)
    if isinstance(dtype, pl.List):
        inner = _converter(dtype.inner if not isinstance(dtype.inner, type) else dtype.inner())
        return lambda v: None if v is None else [inner(x) for x in v]
    if isinstance(dtype, pl.Struct):
        inners = [
            (f.name, _converter(f.dtype if not isinstance(f.dtype, type) else f.dtype()))
            for f in dtype.fields
        ]
        return lambda v: _struct(v, inners)
    return lambda v: v.value if isinstance(v, enum.Enum) else v


def _same(value: Any) -> Any:
    return value


def _struct(value: Any, inners: list[tuple[str, Callable[[Any], Any]]]) -> Any:
    if value is None:
        return None
    attributes = list(type(value).model_fields)
    return {name: inner(getattr(value, at)) for (name, inner), at in zip(inners, attributes, strict=True)}


def _fit_int(value: Any, low: int, high: int) -> Any:
    if value is not None and not low <= value <= high:
        raise _DoesNotFit("an integer is beyond 64 bits")
    return value


def _in_utc(value: dt.datetime | None) -> dt.datetime | None:
    if value is None:
        return None
    return (
        value.replace(tzinfo=dt.timezone.utc) if value.tzinfo is None else value.astimezone(dt.timezone.utc)
    )


def _fit_decimal(value: Decimal | None, precision: int, scale: int) -> Decimal | None:
    if value is None:
        return None
    if not value.is_finite():
        raise _DoesNotFit("a decimal is not finite")
    _, digits, exponent = value.normalize().as_tuple()
    assert isinstance(exponent, int)
    if -exponent > scale or len(digits) + exponent > precision - scale:
        raise _DoesNotFit(
            f"a decimal needs more than {precision - scale} digits before or {scale} behind the point"
        )
    return value
