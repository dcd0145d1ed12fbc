"""Redis streams as bounded streams: ``redis://…/0?stream=orders&fields=id,name``.

Entries come in the order of their ids, in ranges of it that are read side by side, up to the last one that
is there when the source is opened. An entry never changes and ids only grow, so one that is not deleted
meanwhile comes exactly once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from batch_adapters.key_ranges import Key, KeyRange, Pages, TableSource
from batch_adapters.refused_rows import PartlyRefusedChunk, Refused
from streamcore.batch import Chunk, FrameChunk, PartitionId, RecordChunk
from streamcore.errors import BadConfig
from streamcore.systems.redis_streams import Entry, StreamRange, values_of

_ENTRY_BYTES, _MOST_ENTRIES = 200, 10_000
"""What an entry takes about; entries that are asked for together."""


class RangeOptions(BaseModel):
    """Options of a stream's range, beside those of the connection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str = Field(description="The stream's key.")
    fields: str | None = Field(None, description="Fields of an entry that are columns of text: id,name.")
    value: str | None = Field(None, description="Instead: the field that holds a row in the stream's format.")
    start: str = Field("-", description="The first id, as XRANGE has it; the stream's first unless given.")
    end: str = Field("+", description="The last id; the last one that there is unless given.")

    @model_validator(mode="after")
    def _one_of_two(self) -> RangeOptions:
        check_row(self.stream, self.fields, self.value)
        return self

    @property
    def names(self) -> list[str]:
        """``fields``, one by one."""
        return [name.strip() for name in (self.fields or "").split(",") if name.strip()]


def check_row(stream: str, fields: str | None, value: str | None) -> None:
    """BadConfig unless one of the two says what of an entry is a row."""
    if (fields is None) == (value is None):
        raise BadConfig(
            "what of an entry is a row?",
            where=f"stream={stream}",
            fix="give either fields=id,name or value=FIELD",
        )


def open_redis(uri: str, options: RangeOptions) -> TableSource:
    """The source that *options* say, checked: BadConfig when there is no such stream."""
    stream = StreamRange(uri, options.stream)
    try:
        return TableSource(RedisStream(uri, stream.shown, options, stream.bounds()))
    finally:
        stream.close()


class RedisStream:
    """A ``KeyedTable`` of Redis; *bounds* are its first id, its last one, and how many entries there are."""

    def __init__(self, url: str, shown: str, options: RangeOptions, bounds: tuple[str, str, int]) -> None:
        self._url, self.uri, self._options = url, shown, options
        self._first, self._last, self._about = bounds

    def __repr__(self) -> str:
        return f"RedisStream({self.uri!r})"

    def identity(self) -> str:
        """The stream, the range and what of an entry is read."""
        asked = self._options
        return "\0".join([self.uri, asked.fields or "", asked.value or "", asked.start, asked.end])

    def columns(self) -> pl.Schema | None:
        """The fields, which are text; None where a field holds the row."""
        names = self._options.names
        return pl.Schema(dict.fromkeys(names, pl.String())) if names else None

    def rows(self) -> int:
        return self._about

    def borders(self, parts: int) -> Sequence[Key]:
        """At equal distances in time: an id begins with milliseconds."""
        if not self._about:
            return []
        low, high = (int(at.partition("-")[0]) for at in (self._first, self._last))
        marks = [low + (high - low) * n // parts for n in range(1, parts)]
        return [(f"{mark}-0",) for mark in dict.fromkeys(marks)]

    def read(self, part: KeyRange, max_bytes: int) -> Pages:
        count = max(1, min(max_bytes // _ENTRY_BYTES, _MOST_ENTRIES))
        end = self._last if self._options.end == "+" else self._options.end
        first = self._options.start if part.behind is None else f"({part.behind[0]}"
        last = _lower(end, part.until[0]) if part.until is not None else end
        stream, found = StreamRange(self._url, self._options.stream), count
        try:
            while last and found == count:
                entries = stream.entries(first, last, count)
                found = len(entries)
                if entries:
                    first = f"({entries[-1].id}"
                    yield EntryPage(entries, self._options.names, self._options.value)
        finally:
            stream.close()


def _lower(one: str, other: str) -> str:
    """The lower of two ids; one without its second part is the last of its millisecond."""
    return min(one, other, key=_place)


def _place(id_: str) -> tuple[int, float]:
    milliseconds, _, number = id_.partition("-")
    return int(milliseconds or 0), float(number) if number else float("inf")


@dataclass(frozen=True, slots=True)
class EntryPage:
    """A page of *entries*: their fields *names* as columns of text, or the rows in the field *value*."""

    entries: Sequence[Entry]
    names: Sequence[str]
    value: str | None

    def last_key(self) -> Key:
        """See :class:`batch_adapters.key_ranges.Page`."""
        return (self.entries[-1].id,)

    def repeated_key(self, behind: Key | None) -> Key | None:
        """None: Redis keeps ids unique."""
        return None

    def chunk(self, source: PartitionId, first: int) -> Chunk:
        """See :class:`batch_adapters.key_ranges.Page`. An entry with a field that is not UTF-8 is refused."""
        end = first + len(self.entries)
        offsets = np.arange(first, end, dtype=np.int64)
        if self.value is not None:
            values = values_of(self.entries, [self.value])[self.value]
            return RecordChunk(source, offsets, values, first=first, end=end)
        raw = pl.DataFrame(
            values_of(self.entries, self.names), schema=dict.fromkeys(self.names, pl.Binary), strict=True
        )
        try:
            return FrameChunk(source, offsets, raw.cast(pl.String), first=first, end=end)
        except pl.exceptions.PolarsError:  # a value that is no text: which one polars does not say
            frame = pl.DataFrame([_texts(values) for values in raw])
        bad = np.any([frame[name].is_null() & raw[name].is_not_null() for name in self.names], axis=0)
        refused = Refused(bad, raw.filter(pl.Series(bad)), "utf8", "a field is not UTF-8")
        return PartlyRefusedChunk(source, offsets, frame, refused, first=first, end=end)


def _texts(values: pl.Series) -> pl.Series:
    """*values* one by one; null for what is no text."""
    texts = list[str | None]()
    for value in values:
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
    return pl.Series(values.name, texts, pl.String)
