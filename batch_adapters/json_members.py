"""Parts of one JSON document as they stand in it: members of objects by their path, elements of arrays.

A path is names joined by dots, e.g. ``data.items``; the empty one is the document itself. Nothing is decoded
that is not asked for, so that the rows of an answer keep their numbers whatever their size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from batch_adapters.json_array import cut_elements
from streamcore.batch import Int64s

_WHITE = b" \t\r\n"
_NAME = re.compile(rb'("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*', re.S)


class NotJson(ValueError):
    """The bytes are no JSON where that was looked at."""


class Array(NamedTuple):
    """The elements of an array: *i* is ``data[starts[i]:ends[i]]``, white space not included."""

    data: bytes
    starts: Int64s
    ends: Int64s


def members(document: bytes) -> Mapping[str, bytes]:
    """The members of an object, in their order; NotJson when it is none."""
    body = document.strip(_WHITE)
    if not body.startswith(b"{") or not body.endswith(b"}"):
        raise NotJson("no object")
    found: dict[str, bytes] = {}
    data, starts, ends = _cut(body)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        name = _NAME.match(data, start, end)
        if name is None:
            raise NotJson("a member without a name")
        found[decoded(name[1], str)] = data[name.end() : end]
    return found


def elements(document: bytes) -> Array:
    """The elements of an array; NotJson when it is none. Missing ones (``[1,,2]``) are empty."""
    body = document.strip(_WHITE)
    if not body.startswith(b"[") or not body.endswith(b"]"):
        raise NotJson("no array")
    return _cut(body)


def member(document: bytes, path: str) -> bytes | None:
    """What stands at *path*; None when there is nothing. NotJson where no object is on the way."""
    for name in path.split(".") if path else ():
        found = members(document).get(name)
        if found is None:
            return None
        document = found
    return document


def decoded(text: bytes, kind: type[str]) -> str:
    """*text* as a value of *kind*; NotJson when it is none."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise NotJson("not JSON") from None
    if not isinstance(value, kind):
        raise NotJson(f"no {kind.__name__}")
    return value


def _cut(body: bytes) -> Array:
    """What stands between the commas of *body*, an array or an object."""
    as_array = b"[" + body[1:-1] + b"]"
    cut = cut_elements(as_array, opened=False)
    if cut.close != len(as_array) - 1:
        raise NotJson("brackets that do not match")
    if len(cut.starts) == 1 and not body[1:-1].strip(_WHITE):
        return Array(as_array, cut.starts[:0], cut.ends[:0])
    return Array(as_array, cut.starts, cut.ends)
