"""Where the elements of a JSON array begin and end, in bounded memory.

Brackets and commas outside of strings are found on whole buffers (numpy): strings by the parity of
the quotes that no backslash escapes, depth by a running sum. What is between two commas at depth 1 is
an element, whatever it holds; the stream's decoder judges it. A chunk ends *before* the comma that
follows its last element, so a position says by itself what comes next.

What can't be cut is a refused record: an element that is missing (``[1,,2]``), the last one of an array
that is not closed, what follows the closing bracket. Only an element above the limit ends the replay.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from batch_adapters.text_stream import TextStream
from streamcore.batch import Int64s
from streamcore.errors import Permanent

_KINDS = np.zeros(256, np.int8)
_KINDS[[ord("["), ord("{")]] = 1
_KINDS[[ord("]"), ord("}")]] = -1
_KINDS[ord(",")] = 2
_SPACE = np.zeros(256, bool)
_SPACE[[32, 9, 10, 13]] = True
_WHITE = b" \t\n\r"
_BLOCK = 1 << 16


class Elements(NamedTuple):
    """Elements in order: *i* is ``data[starts[i]:ends[i]]``, white space around it not included.

    ``base`` is the position of ``data[0]``, ``end`` the position after the elements. ``code`` and
    ``message`` are set when the last of them could not be cut. Missing elements are empty.
    """

    data: bytes
    base: int
    end: int
    starts: Int64s
    ends: Int64s
    code: str | None = None
    message: str = ""


class _Cut(NamedTuple):
    """Elements, and the bytes between the separators around each (``widths``).

    ``rest`` is the place of the last separator, ``close`` that of the bracket that ends the array.
    """

    starts: Int64s
    ends: Int64s
    widths: Int64s
    rest: int
    close: int | None


def _quotes(buffer: bytes, array: npt.NDArray[np.uint8]) -> Int64s:
    """Places of the quotes that open and close strings."""
    quotes: Int64s = np.flatnonzero(array == ord('"')).astype(np.int64, copy=False)
    if b"\\" not in buffer or not len(quotes):
        return quotes
    slashes = np.flatnonzero(array == ord("\\"))
    index = np.arange(len(slashes))
    begins = np.ones(len(slashes), bool)
    begins[1:] = np.diff(slashes) != 1
    run = index - np.maximum.accumulate(np.where(begins, index, 0)) + 1
    at = np.minimum(np.searchsorted(slashes, quotes - 1), len(slashes) - 1)
    escaped = (slashes[at] == quotes - 1) & (run[at] % 2 == 1)
    strings: Int64s = quotes[~escaped]
    return strings


def cut_elements(buffer: bytes, *, opened: bool) -> _Cut:
    """The whole elements of *buffer*, which starts at the array's bracket or, if *opened*, at a separator."""
    array = np.frombuffer(buffer, np.uint8)
    kinds = _KINDS[array]
    places = np.flatnonzero(kinds != 0)  # of booleans it is several times as fast
    quotes = _quotes(buffer, array)
    if len(quotes):
        places = places[np.searchsorted(quotes, places) % 2 == 0]
    kind = kinds[places]
    depth = np.cumsum(np.where(kind == 2, 0, kind), dtype=np.int64) + opened
    closing = np.flatnonzero(depth == 0)
    close = int(places[closing[0]]) if len(closing) else None
    if close is not None:
        places, kind, depth = places[: closing[0]], kind[: closing[0]], depth[: closing[0]]
    separators = places[(depth == 1) & (kind == 2)]
    if not opened:
        separators = np.concatenate([places[:1], separators])
    stops = separators[1:]
    if close is not None and buffer[close] == ord("]") and len(separators):
        stops = np.append(stops, close)
    rest = int(separators[-1]) if len(separators) else 0
    begins = separators[: len(stops)]
    starts, ends = _strip(array, begins + 1, stops)
    # A missing element has the position of the separator before it: that after it may be the next chunk's.
    missing = starts == ends
    starts[missing] = ends[missing] = begins[missing]
    return _Cut(starts, ends, stops - begins - 1, rest, close)


def _strip(array: npt.NDArray[np.uint8], starts: Int64s, ends: Int64s) -> tuple[Int64s, Int64s]:
    """The spans without the white space at both ends; an empty span for one that holds nothing else."""
    if not len(starts):
        return starts, ends
    space = _SPACE[array]
    changes = np.flatnonzero(space[1:] != space[:-1]) + 1
    changes = np.concatenate([changes, np.array([len(array)])])
    after = np.where(space[starts], changes[np.searchsorted(changes, starts, "right")], starts)
    starts = np.minimum(after, ends)
    last = np.searchsorted(changes, ends - 1, "right") - 1
    before = np.where(space[ends - 1], changes[np.maximum(last, 0)], ends)
    return starts, np.maximum(before, starts)


class ElementCutter:
    """Cuts a stream, which holds a JSON array, into pieces of whole elements."""

    def __init__(self, stream: TextStream, limit: int, where: str, *, opened: bool) -> None:
        self._stream, self._limit, self._where, self._opened = stream, limit, where, opened
        self._buffer = b""
        self._final = False
        self.position = stream.position

    def next(self, size: int) -> Elements | None:
        """A piece of about *size* bytes with at least one element or fault, or None at the end.

        Permanent when an element is longer than the limit.
        """
        wanted = max(2, size)
        while True:
            self._fill(wanted)
            if not self._buffer.strip(_WHITE):
                if self._final:
                    return None
                wanted = 2 * max(wanted, len(self._buffer))
                continue
            if not self._opened and not self._buffer.lstrip(_WHITE).startswith(b"["):
                raise Permanent("the file is no JSON array", where=self._where, fix="give layout=lines")
            window = self._buffer[:wanted]
            cut = cut_elements(window, opened=self._opened)
            self._check(cut, len(window))
            final = self._final and len(window) == len(self._buffer)
            if len(cut.starts) and not (cut.close is not None and self._empty(cut)):
                return self._elements(window, cut)
            if cut.close is not None:
                return self._after(window, cut)
            if final:
                return self._rest(cut.rest, "truncated", "the array ends here without a closing bracket")
            wanted = 2 * len(window)

    def _empty(self, cut: _Cut) -> bool:
        """Whether the array is ``[]``."""
        return not self._opened and len(cut.starts) == 1 and cut.starts[0] == cut.ends[0] == cut.rest

    def _fill(self, wanted: int) -> None:
        parts, have = [self._buffer], len(self._buffer)
        while have < wanted and not self._final:
            data = self._stream.read(max(_BLOCK, wanted - have))
            parts.append(data)
            have += len(data)
            self._final = not data
        if len(parts) > 1:
            self._buffer = b"".join(parts)

    def _check(self, cut: _Cut, window: int) -> None:
        """Permanent when an element, or what may be the beginning of one, is above the limit."""
        long = np.flatnonzero(cut.widths > self._limit)
        if len(long):
            at, size = int(cut.starts[long[0]]), f"{int(cut.widths[long[0]])} bytes"
        elif cut.close is None and window - cut.rest - 1 > self._limit:
            at, size = cut.rest, f"more than {window - cut.rest - 1} bytes"
        else:
            return
        raise Permanent(
            f"array element of {size} at byte {self.position + at}, above max_record_bytes={self._limit}",
            where=self._where,
            fix="raise max_record_bytes, or write one document a line",
        )

    def _elements(self, window: bytes, cut: _Cut) -> Elements:
        closed = cut.close is not None and window[cut.close] == ord("]")
        end = cut.close if closed and cut.close is not None else cut.rest
        found = Elements(window[:end], self.position, self.position + end, cut.starts, cut.ends)
        self._buffer, self.position, self._opened = self._buffer[end:], found.end, True
        return found

    def _after(self, window: bytes, cut: _Cut) -> Elements | None:
        """The array is closed, or a brace stands where it would be."""
        close = cut.close or 0
        if window[close] == ord("}"):
            return self._rest(
                cut.rest, "brackets", "a closing brace without an opening one; from here to the end"
            )
        while not self._buffer[close + 1 :].strip(_WHITE):
            if self._final:
                self._buffer = b""
                return None
            # Only white space so far: it need not be kept.
            self._buffer, self.position = self._buffer[close:], self.position + close
            close = 0
            self._fill(len(self._buffer) + _BLOCK)
        return self._rest(close, "trailing", "text after the end of the array")

    def _rest(self, separator: int, code: str, message: str) -> Elements:
        """All that is left after *separator* as one refused record."""
        self._fill(separator + self._limit + 2)
        rest = self._buffer[separator + 1 :].strip(_WHITE)
        if not self._final or len(rest) > self._limit:
            raise Permanent(
                f"{message}; from byte {self.position + separator}, above max_record_bytes={self._limit}",
                where=self._where,
                fix="repair the file",
            )
        start = self._buffer.index(rest, separator + 1) if rest else separator
        place = np.array([start], np.int64)
        end = self.position + len(self._buffer)
        found = Elements(self._buffer, self.position, end, place, place + max(1, len(rest)), code, message)
        self._buffer, self.position = b"", end
        return found
