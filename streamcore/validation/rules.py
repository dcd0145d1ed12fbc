"""Rules about single rows: ``range("age", min=0, max=120)``, ``not_null("id")``, ``expression("a < b")``;
and one about all of them, ``unique("id")``.

A rule **fails** for a row when it is false for it. As in an SQL CHECK, a null is not false: a null
passes every rule but :func:`not_null`, and an expression that is null passes.

``severity`` "error" makes failing rows dead letters, "warning" lets them pass, flagged and counted;
``on_fail`` says it outright: "dead-letter", "flag", "drop" (counted) or "stop" (the worker, for rows
that must never come). ``rule_id`` is the code of its dead letters and its name in metrics.
"""

from __future__ import annotations

import builtins
import datetime as dt
import inspect
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal, TypeAlias, TypedDict

import polars as pl
from typing_extensions import Unpack

from streamcore.durations import duration
from streamcore.errors import BadConfig, did_you_mean
from streamcore.expressions import check_columns, condition
from streamcore.few_rows import FEW, values_of
from streamcore.schema import type_named
from streamcore.schema.cast import cast_column

Severity: TypeAlias = Literal["error", "warning"]
OnFail: TypeAlias = Literal["dead-letter", "flag", "drop", "stop"]
Failing: TypeAlias = Callable[[pl.DataFrame], pl.Series]
"""From a frame to booleans, one a row: true where the rule fails. Null counts as false."""
Bound: TypeAlias = "int | float | str | dt.date | dt.datetime"

SEVERITIES = ("error", "warning")
ON_FAIL = ("dead-letter", "flag", "drop", "stop")

DUPLICATE = "_duplicate"
"""Column in which the state of :func:`unique` says which rows fail."""
_SUBJECTS = ("text", "columns")

EMAIL = (
    r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9-]{0,61}[A-Za-z0-9]$"
)
"""The pattern of HTML's e-mail input (WHATWG, "valid e-mail address") with a dot in the domain required,
and a local part of at most 64 characters. It says nothing about whether the address exists."""
_MOST_EMAIL = 254
_is_email = re.compile(EMAIL.removesuffix("$")).fullmatch  # the same in Python: it has ASCII classes only


class RuleOptions(TypedDict, total=False):
    """What every rule takes."""

    severity: Severity
    on_fail: OnFail | None
    rule_id: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as the user wrote it; :meth:`compile` checks it against the columns.

    ``column`` is None for a rule about several columns. ``parameters`` are those of the function
    named like ``rule_type``.
    """

    rule_type: str
    column: str | None
    parameters: Mapping[str, Any]
    severity: Severity = "error"
    on_fail: OnFail | None = None
    rule_id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _one_of("severity", self.severity, SEVERITIES)
        if self.on_fail is not None:
            _one_of("on_fail", self.on_fail, ON_FAIL)

    @property
    def id(self) -> str:
        """The given id, or the type and column, e.g. ``range(age)``."""
        return self.rule_id or f"{self.rule_type}({self.subject})"

    @property
    def subject(self) -> str:
        """The column, the columns, or the text that the rule is about."""
        return self.column or self.parameters.get("text") or ", ".join(self.parameters["columns"])

    @property
    def code(self) -> str:
        """The code of its dead letters: the given id, or the type."""
        return self.rule_id or self.rule_type

    def action(self, default: OnFail | None = None) -> OnFail:
        """What happens to failing rows; *default* is for a rule that does not say it."""
        by_severity: OnFail = "dead-letter" if self.severity == "error" else "flag"
        return self.on_fail or default or by_severity

    @property
    def message(self) -> str:
        """What a failing row breaks, without its content."""
        given = ", ".join(
            f"{k}={_shown(v)}" for k, v in self.parameters.items() if v is not None and k not in _SUBJECTS
        )
        return f"{self.name or self.rule_type}: {self.subject}" + (f" ({given})" if given else "")

    def compile(self, columns: pl.Schema) -> Failing:
        """BadConfig for an unknown column, or one of a type that the rule can't judge."""
        if self.column is not None:
            check_columns([self.column], columns, f"in rule {self.id!r}")
        compiler = _COMPILERS[self.rule_type]
        return compiler(self, columns)


# ---------------------------------------------------------------- what users write


def not_null(column: str, **options: Unpack[RuleOptions]) -> Rule:
    """The column has a value."""
    return Rule("not_null", column, {}, **options)


def range(
    column: str, *, min: Bound | None = None, max: Bound | None = None, **options: Unpack[RuleOptions]
) -> Rule:
    """``min <= column <= max`` for numbers (NaN fails), strings, dates and times (bounds also as text)."""
    _bounds("range", min, max)
    return Rule("range", column, {"min": min, "max": max}, **options)


def email(column: str, **options: Unpack[RuleOptions]) -> Rule:
    """The column looks like an e-mail address, by :data:`EMAIL`."""
    return Rule("email", column, {}, **options)


def regex(column: str, pattern: str, **options: Unpack[RuleOptions]) -> Rule:
    """*pattern* (Rust's syntax) is found in the column; anchor it by ``^`` and ``$`` for all of it."""
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        raise BadConfig("not a regular expression", got=pattern, fix="see docs.rs/regex") from error
    return Rule("regex", column, {"pattern": pattern}, **options)


def in_set(column: str, values: Sequence[object], **options: Unpack[RuleOptions]) -> Rule:
    """The column is one of *values*."""
    if isinstance(values, str) or not values:
        raise BadConfig("in_set needs a list of values", got=values)
    return Rule("in_set", column, {"values": tuple(values)}, **options)


def length(
    column: str, *, min: int | None = None, max: int | None = None, **options: Unpack[RuleOptions]
) -> Rule:
    """The length of a string (characters), of bytes, or of a list."""
    _bounds("length", min, max)
    return Rule("length", column, {"min": min, "max": max}, **options)


def type(column: str, type: str, **options: Unpack[RuleOptions]) -> Rule:
    """The column's value can be read as *type* (a name as in cast_type) without loss."""
    type_named(type)
    return Rule("type", column, {"type": type}, **options)


def expression(text: str, **options: Unpack[RuleOptions]) -> Rule:
    """The SQL condition *text* is not false."""
    return Rule("expression", None, {"text": text}, **options)


def unique(
    column: str | Sequence[str],
    *,
    within: str | dt.timedelta | None = None,
    **options: Unpack[RuleOptions],
) -> Rule:
    """No row before it has the same value of *column*, or of several columns; nulls are never the same.

    For good, or, with *within*, none whose event time lies at most that far from it. It is a rule about many
    rows: they go through a log of their own to where their key is kept. Rows that fail other rules of the
    same validate() as errors don't count; a late row fails *within*, since nobody knows.
    """
    columns = (column,) if isinstance(column, str) else tuple(column)
    if not columns:
        raise BadConfig("unique needs a column")
    if within is not None:
        duration(within)
    return Rule("unique", None, {"columns": columns, "within": within}, **options)


def from_dict(given: Mapping[str, Any]) -> Rule:
    """A rule from configuration: rule_type, column, parameters, rule_id, name, severity, on_fail."""
    _known(given, _KEYS, "unknown key of a rule")
    kind = str(given.get("rule_type"))
    kind = _SYNONYMS.get(kind, kind)
    if kind not in _WRITTEN:
        raise BadConfig("unknown rule_type", got=kind, allowed=_WRITTEN, fix=did_you_mean(kind, _WRITTEN))
    where = f"rule {given.get('rule_id') or kind!r}"
    parameters = given.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise BadConfig(f"{where}: parameters must be a mapping", got=parameters)
    takes = inspect.signature(_WRITTEN[kind]).parameters
    _known(parameters, [p for p in takes if p not in ("column", "options")], f"{where}: unknown parameter")
    arguments = {**parameters, **({"column": given["column"]} if given.get("column") is not None else {})}
    missing = [n for n, p in takes.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    for name in missing:
        if name not in arguments:
            raise BadConfig(f"{where}: {name} is missing")
    if "column" not in takes and "column" in arguments:
        raise BadConfig(f"{where}: takes no column", fix="name the columns in the text")
    options = {k: given[k] for k in ("rule_id", "name", "severity", "on_fail") if given.get(k) is not None}
    return replace(_WRITTEN[kind](**arguments), **options)


def _known(given: Iterable[str], allowed: Sequence[str], what: str) -> None:
    for key in given:
        if key not in allowed:
            raise BadConfig(what, got=key, allowed=allowed, fix=did_you_mean(str(key), allowed))


_WRITTEN: Mapping[str, Callable[..., Rule]] = {
    "not_null": not_null,
    "range": range,
    "email": email,
    "regex": regex,
    "in_set": in_set,
    "length": length,
    "type": type,
    "expression": expression,
    "unique": unique,
}
_SYNONYMS = {"sql": "expression", "required": "not_null"}
_KEYS = ("rule_id", "name", "rule_type", "column", "parameters", "severity", "on_fail")


# ---------------------------------------------------------------- what they compile to


def _compile_not_null(rule: Rule, columns: pl.Schema) -> Failing:
    return lambda frame: frame[str(rule.column)].is_null()


def _compile_range(rule: Rule, columns: pl.Schema) -> Failing:
    column, dtype = pl.col(str(rule.column)), columns[str(rule.column)]
    low, high = (_bound(rule, rule.parameters[k], dtype) for k in ("min", "max"))
    tests = [column < low] if low is not None else []
    tests += [column > high] if high is not None else []
    tests += [column.is_nan()] if dtype.is_float() else []
    return values_of(reduce(operator.or_, tests), columns)


def _compile_email(rule: Rule, columns: pl.Schema) -> Failing:
    column = _typed(rule, columns, pl.String)
    by_engine = values_of(~column.str.contains(EMAIL) | (column.str.len_bytes() > _MOST_EMAIL), columns)

    def failing(frame: pl.DataFrame) -> pl.Series:
        if frame.height > FEW:
            return by_engine(frame)
        texts = frame[str(rule.column)].to_list()
        failed = [text is not None and (len(text) > _MOST_EMAIL or not _is_email(text)) for text in texts]
        return pl.Series(failed, dtype=pl.Boolean)

    return failing


def _compile_regex(rule: Rule, columns: pl.Schema) -> Failing:
    return values_of(~_typed(rule, columns, pl.String).str.contains(rule.parameters["pattern"]), columns)


def _compile_in_set(rule: Rule, columns: pl.Schema) -> Failing:
    dtype = columns[str(rule.column)]
    try:
        values = pl.Series(list(rule.parameters["values"]), dtype=dtype, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise BadConfig(
            f"rule {rule.id!r}: the values are not all of the column's type", allowed=[dtype]
        ) from error
    return values_of(~pl.col(str(rule.column)).is_in(values.implode()), columns)


def _compile_length(rule: Rule, columns: pl.Schema) -> Failing:
    column = _typed(rule, columns, pl.String, pl.List, pl.Binary)
    dtype = columns[str(rule.column)]
    sizes = {pl.String: column.str.len_chars, pl.List: column.list.len}.get(
        builtins.type(dtype), column.bin.size
    )
    low, high = rule.parameters["min"], rule.parameters["max"]
    tests = [sizes() < low] if low is not None else []
    tests += [sizes() > high] if high is not None else []
    return values_of(reduce(operator.or_, tests), columns)


def _compile_type(rule: Rule, columns: pl.Schema) -> Failing:
    dtype = type_named(rule.parameters["type"])

    def failing(frame: pl.DataFrame) -> pl.Series:
        values = frame[str(rule.column)]
        _, unsure = cast_column(values, dtype)
        return pl.repeat(False, len(values), eager=True) if unsure is None else unsure

    return failing


def _compile_expression(rule: Rule, columns: pl.Schema) -> Failing:
    return values_of(~condition(rule.parameters["text"], columns), columns)


def _compile_unique(rule: Rule, columns: pl.Schema) -> Failing:
    if DUPLICATE not in columns:
        raise BadConfig(f"rule {rule.id!r} needs state", fix="give it to validate() of a stream")
    return lambda frame: frame[DUPLICATE]


_COMPILERS: Mapping[str, Callable[[Rule, pl.Schema], Failing]] = {
    "not_null": _compile_not_null,
    "range": _compile_range,
    "email": _compile_email,
    "regex": _compile_regex,
    "in_set": _compile_in_set,
    "length": _compile_length,
    "type": _compile_type,
    "expression": _compile_expression,
    "unique": _compile_unique,
}


def _typed(rule: Rule, columns: pl.Schema, *types: builtins.type[pl.DataType]) -> pl.Expr:
    dtype = columns[str(rule.column)]
    if not isinstance(dtype, types):
        raise BadConfig(
            f"rule {rule.id!r} can't judge a column of this type",
            got=str(dtype),
            allowed=[t.__name__ for t in types],
        )
    return pl.col(str(rule.column))


def _bound(rule: Rule, bound: Bound | None, dtype: pl.DataType) -> pl.Expr | None:
    """*bound* as a literal that compares with a column of *dtype*."""
    if bound is None:
        return None
    number = isinstance(bound, int | float) and not isinstance(bound, bool)
    if dtype.is_numeric() and number:
        return pl.lit(bound)
    if isinstance(dtype, pl.String) and isinstance(bound, str):
        return pl.lit(bound)
    if isinstance(dtype, pl.Date | pl.Datetime) and not number:
        given = pl.Series([bound])
        value, unsure = cast_column(given, dtype)
        if unsure is None or not unsure.any():
            return pl.lit(value.item(), dtype)
        day, _ = cast_column(cast_column(given, pl.Date())[0], dtype)
        if not day.has_nulls():
            return pl.lit(day.item(), dtype)
    raise BadConfig(f"rule {rule.id!r}: the bound does not compare with a column of type {dtype}", got=bound)


def _bounds(kind: str, low: Any, high: Any) -> None:
    if low is None and high is None:
        raise BadConfig(f"{kind} needs min, max or both")
    if low is not None and high is not None and builtins.type(low) is builtins.type(high) and low > high:
        raise BadConfig(f"{kind}: min is above max", got=f"min={low}, max={high}")


def _one_of(what: str, got: str, allowed: Sequence[str]) -> None:
    if got not in allowed:
        raise BadConfig(f"unknown {what}", got=got, allowed=allowed, fix=did_you_mean(str(got), allowed))


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
