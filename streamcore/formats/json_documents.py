"""Single JSON documents, strictly: what the row path reads, and how messages are cut into documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import orjson

from streamcore.schema import Refusal


class Document(NamedTuple):
    """A JSON text, and what it says."""

    text: bytes
    value: Any


def read_document(text: bytes) -> Document | Refusal:
    """Exactly one JSON value by RFC 8259: no NaN, no lone surrogates, UTF-8, depth at most 1,024.

    The first value of a repeated key counts, as in the columnar reader.
    """
    if not text.strip(b" \t\r\n"):
        return Refusal("empty", "the message is empty")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return Refusal("json", str(error)[:200])
    if isinstance(value, dict) and may_repeat(text, value):
        return _first_wins(text, value)
    return Document(text, value)


def may_repeat(text: bytes, value: dict[str, Any]) -> bool:
    """Whether *text*, which says *value*, may hold a key twice.

    No key can be there twice when each pair has a colon, and escapes can't hide one.
    """
    colons = text.count(b":")
    if colons == len(value):
        return False
    return b"\\" in text or orjson.dumps(value).count(b":") != colons


def _first_wins(text: bytes, value: dict[str, Any]) -> Document | Refusal:
    repeated = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        first: dict[str, Any] = {}
        for key, item in items:
            if key in first:
                repeated = True
            else:
                first[key] = item
        return first

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_int=_whole)
    except RecursionError:
        return Refusal("json", "too deep to be searched for repeated keys")
    return Document(json.dumps(value).encode() if repeated else text, value)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < 100 else float(digits)


def lines_of(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(place, line) of each line that is not blank."""
    for i, line in enumerate(message.split(b"\n")):
        if line.strip(b" \t\r"):
            yield i, line


def elements_of(message: bytes) -> list[bytes] | Refusal:
    """The texts of the elements of a JSON array, unparsed, so that numbers keep their digits."""
    document = read_document(message)
    if isinstance(document, Refusal):
        return document
    if not isinstance(document.value, list):
        return Refusal("type", "expected an array of objects")
    if not document.value:
        return Refusal("empty", "the array is empty")
    text = np.frombuffer(message, np.uint8)
    outside = ~_in_string(text)
    opened = outside & ((text == ord("[")) | (text == ord("{")))
    closed = outside & ((text == ord("]")) | (text == ord("}")))
    depth = np.cumsum(opened.astype(np.int32) - closed)
    commas = np.flatnonzero(outside & (text == ord(",")) & (depth == 1)).tolist()
    cuts = [message.index(b"["), *commas, message.rindex(b"]")]
    return [message[a + 1 : b] for a, b in pairwise(cuts)]


def _in_string(text: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """True from each opening quote up to (not including) the closing one, in a valid JSON text."""
    quotes = text == ord('"')
    backslash = text == ord("\\")
    if backslash.any():
        # A quote is escaped behind an odd run of backslashes.
        at = np.arange(len(text))
        last_other = np.maximum.accumulate(np.where(backslash, -1, at))
        run = np.zeros(len(text), np.int64)
        run[1:] = (at - last_other)[:-1]
        quotes &= run % 2 == 0
    return (np.cumsum(quotes) % 2).astype(bool)
