"""BSON documents as a server sends them, many at a time: an array, of which only places are looked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Int64s: TypeAlias = "npt.NDArray[np.int64]"
_HEAD, _SMALLEST = 4, 5
_DOCUMENT, _ARRAY = 3, 4
_length = Struct("<i").unpack_from


class Documents(NamedTuple):
    """Documents in *data*, of which number i lies from ``starts[i]`` to ``ends[i]``."""

    data: bytes
    starts: Int64s
    ends: Int64s

    @classmethod
    def of_array(cls, data: bytes, at: int = 0) -> Documents:
        """The elements of the array that begins at *at*. ValueError where it is none of documents."""
        end, place, starts, ends = at + _length(data, at)[0] - 1, at + _HEAD, list[int](), list[int]()
        head, left = 3, 10  # bytes of an element's type and its name, which is its number; how many have such
        while place < end:
            if data[place] != _DOCUMENT:
                raise ValueError("no BSON documents")
            start = place + head
            place = start + _length(data, start)[0]
            if place < start + _SMALLEST or place > end:
                raise ValueError("no BSON documents")
            starts.append(start)
            ends.append(place)
            left -= 1
            if not left:
                head, left = head + 1, 9 * 10 ** (head - 2)
        return cls(data, np.array(starts, np.int64), np.array(ends, np.int64))

    @classmethod
    def of_batch(cls, cursor: bytes) -> Documents:
        """Those of the first batch in what a server says of a cursor, which begins with it."""
        name = b"firstBatch\0"
        if cursor[_HEAD] != _ARRAY or not cursor.startswith(name, _HEAD + 1):
            raise ValueError("no cursor with documents")
        return cls.of_array(cursor, _HEAD + 1 + len(name))

    def __len__(self) -> int:  # not of the tuple
        return len(self.starts)

    def pick(self, places: Sequence[int]) -> bytes:
        """Those at *places*, one behind the other."""
        starts, ends = self.starts[places].tolist(), self.ends[places].tolist()
        return b"".join([self.data[start:end] for start, end in zip(starts, ends, strict=True)])

    def part(self, start: int, end: int) -> Documents:
        """Those at the places from *start* to *end*, in bytes of their own unless they are all."""
        if (start, end) == (0, len(self)):
            return self
        first, last = (int(self.starts[start]), int(self.ends[end - 1])) if start < end else (0, 0)
        return Documents(self.data[first:last], self.starts[start:end] - first, self.ends[start:end] - first)

    def cut(self, max_bytes: int, beside: int) -> Iterator[Documents]:
        """The same in pieces of about *max_bytes*, of which each document takes *beside* besides its own."""
        ends = np.cumsum(self.ends - self.starts + beside)
        start = 0
        while start < len(ends):
            behind = ends[start - 1] if start else 0
            end = max(start + 1, int(np.searchsorted(ends, behind + max_bytes, "right")))
            yield self.part(start, end)
            start = end
