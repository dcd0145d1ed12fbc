"""SQL text in conditions and expressions, compiled to polars; nothing is evaluated as Python.

The dialect is that of :func:`polars.sql_expr`. An expression must give one value a row from that
row alone, so aggregates, windows and the clock are refused: they would break the cut law. Names of
hidden columns don't exist for it.
"""

from __future__ import annotations

import re

import orjson
import polars as pl
from polars.exceptions import PolarsError

from streamcore.batch import HIDDEN
from streamcore.errors import BadConfig, did_you_mean

_CLOCK = re.compile(
    r"\b(current_date|current_time|current_timestamp|now|today|localtime|localtimestamp)\b", re.I
)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


def sql(text: str, columns: pl.Schema) -> pl.Expr:
    """Compile *text* over *columns*.

    BadConfig when it can't be parsed, names an unknown column (the message lists those that exist),
    clashes in types, or is no function of the single row.
    """
    clock = _CLOCK.search(_QUOTED.sub("''", text))
    if clock:
        raise BadConfig(
            f"{clock[0]!r} in {text!r} asks the clock, and a replay would give another result",
            fix="use the event's own time column",
        )
    try:
        expression = pl.sql_expr(text)
    except PolarsError as error:
        problem = _first_line(error)
        raise BadConfig(
            f"cannot parse the SQL expression {text!r}: {problem}", fix=_keyword(problem, columns)
        ) from error
    check_columns(expression.meta.root_names(), columns, f"in {text!r}")
    if not _looks_at_one_row(expression):
        raise BadConfig(
            f"{text!r} looks at more than one row", fix="aggregates belong into a window or a table"
        )
    result_type(expression, columns, text)
    return expression


def condition(text: str, columns: pl.Schema) -> pl.Expr:
    """Compile *text* as :func:`sql` does; BadConfig unless its type is boolean."""
    expression = sql(text, columns)
    got = result_type(expression, columns, text)
    if got != pl.Boolean:
        raise BadConfig(f"the condition {text!r} must be true or false", got=str(got), allowed=["Boolean"])
    return expression


def result_type(expression: pl.Expr, columns: pl.Schema, text: str) -> pl.DataType:
    """The type that *expression* has over *columns*; BadConfig when its parts don't fit."""
    try:
        return pl.DataFrame(schema=columns).select(expression.alias("result")).schema["result"]
    except PolarsError as error:
        used = sorted(set(expression.meta.root_names()))
        types = ", ".join(f"{name} {columns[name]}" for name in used)
        raise BadConfig(
            f"types clash in {text!r}: {_first_line(error)}", got=types or None, fix="cast one of them"
        ) from error


def _keyword(problem: str, columns: pl.Schema) -> str | None:
    """What to do about a column whose name SQL takes for a word of its own, such as ``user``."""
    name = next((column for column in columns if f"'{column}'" in problem), None)
    return f'"{name}" is a word of SQL: write the column in double quotes' if name else None


def check_columns(names: list[str], columns: pl.Schema, context: str) -> None:
    """BadConfig, with what exists, unless all *names* are among *columns*."""
    for name in names:
        if name not in columns:
            raise BadConfig(
                f"unknown column {context}",
                got=name,
                allowed=[c for c in columns if c not in HIDDEN],
                fix=did_you_mean(name, columns),
            )


_MANY_ROWS = {"Agg", "Len", "Over", "Rank", "Rolling", "Shift", "Sort", "SortBy", "Slice", "Gather"} | {
    "Explode", "Filter", "Unique", "Reverse", "Diff", "CumCount", "CumSum", "CumMin", "CumMax", "Quantile",
    "Correlation",
}  # fmt: skip
_HARMLESS = frozenset({"Column", "Literal", "StringExpr", "TemporalExpr", "ListExpr"})


def _looks_at_one_row(expression: pl.Expr) -> bool:
    """Whether no part of *expression* aggregates, orders or shifts rows.

    polars' own is_row_separable looks at the outermost node only, so the tree is walked. "Slice" and
    "Reverse" within a StringExpr are of texts, not of rows.
    """
    todo: list[object] = [orjson.loads(expression.meta.serialize(format="json"))]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            if _MANY_ROWS & node.keys():
                return False
            todo += [value for key, value in node.items() if key not in _HARMLESS]
        elif isinstance(node, list):
            todo += node
        elif node in _MANY_ROWS:
            return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
