"""A few JSON documents to columns by way of orjson: a scan costs as much as 350 of them.

Every value is looked at, so nothing is left to prove: a document is in doubt when orjson refuses it,
when it is no object, when a key may be repeated, or when a value is not of exactly its column's type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from streamcore.formats.json_documents import may_repeat

_NULL = type(None)
_EXACT: Mapping[type[pl.DataType], frozenset[type]] = {
    pl.Int64: frozenset({int, _NULL}),
    pl.UInt64: frozenset({int, _NULL}),
    pl.Float64: frozenset({int, float, _NULL}),
    pl.Boolean: frozenset({bool, _NULL}),
    pl.String: frozenset({str, _NULL}),
}
"""What orjson makes of the values of a type."""
_RANGES: Mapping[type[pl.DataType], tuple[int, int]] = {
    pl.Int64: (-(1 << 63), (1 << 63) - 1),
    pl.UInt64: (0, (1 << 64) - 1),
}


def reads_values(inputs: pl.Schema) -> bool:
    """Whether all of *inputs* have types that :func:`read_values` knows: those that are not nested."""
    return all(type(dtype) in _EXACT for dtype in inputs.values())


def read_values(texts: Sequence[bytes], inputs: pl.Schema) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
    """The columns *inputs* of the documents *texts*, one row each, and which rows are in doubt.

    A row in doubt has nulls in place of what is wrong.
    """
    together = _read_together(texts)
    documents = [_document(text) for text in texts] if together is None else together
    known = [document or {} for document in documents]
    if None not in documents and (frame := _exact(known, inputs)) is not None:
        return frame, np.zeros(len(known), bool)
    doubt = np.fromiter([document is None for document in documents], np.bool_, len(documents))
    columns = []
    for name, dtype in inputs.items():
        values = [document.get(name) for document in known]
        exact = _EXACT[type(dtype)]
        if not exact.issuperset(map(type, values)):
            _drop(values, doubt, [type(value) not in exact for value in values])
        try:
            columns.append(pl.Series(name, values, dtype))
        except (OverflowError, TypeError):  # an integer beyond the type; which one depends on how far
            low, high = _RANGES[type(dtype)]
            _drop(values, doubt, [value is not None and not low <= value <= high for value in values])
            columns.append(pl.Series(name, values, dtype))
    return pl.DataFrame(columns), doubt


def _read_together(texts: Sequence[bytes]) -> list[dict[str, Any]] | None:
    """The documents *texts*, read as one array, if each is an object of which nothing is in doubt; or None.

    Texts that are no documents by themselves could make other ones together. Not so where each has one
    brace of either kind, at its ends: as many objects need all of them, so each is one text.
    """
    joined = b",".join(texts)
    if not joined.count(b"{") == len(texts) == joined.count(b"}"):
        return None
    if not all(text[:1] == b"{" and text[-1:] == b"}" for text in texts):
        return None
    try:
        values: list[dict[str, Any]] = orjson.loads(b"[" + joined + b"]")
    except orjson.JSONDecodeError:
        return None
    if len(values) != len(texts) or set(map(type, values)) != {dict}:
        return None
    return None if any(map(may_repeat, texts, values)) else values


def _exact(documents: Sequence[Mapping[str, Any]], inputs: pl.Schema) -> pl.DataFrame | None:
    """The columns *inputs* of *documents* where every value is of exactly its column's type."""
    for name, dtype in inputs.items():
        if not _EXACT[type(dtype)].issuperset([type(document.get(name)) for document in documents]):
            return None
    try:
        return pl.DataFrame(documents, schema=inputs)
    except (OverflowError, pl.exceptions.ComputeError):  # an integer beyond the type
        return None


def _document(text: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is dict and not may_repeat(text, value) else None


def _drop(values: list[Any], doubt: npt.NDArray[np.bool_], wrong: list[bool]) -> None:
    for place in np.flatnonzero(wrong).tolist():
        values[place], doubt[place] = None, True
