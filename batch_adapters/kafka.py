"""A range of a Kafka topic as a bounded stream: ``kafka://host:9092/orders?from=2026-11-01&to=2026-11-02``.

Each partition is a split, read from one offset to another. Bounds are offsets, times, the earliest record
there is and the end as it is when the replay begins. Where a split begins and ends is in its bookmark, so a
run that goes on has the bounds of the first one. Records are bytes for the stream's own format, with their
keys, times and headers; only committed ones are read.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import unquote

import numpy as np
import orjson
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, create_model

from streamcore.batch import OFFSET, Chunk, Int64s, Original, PartitionId, Range, Rejects
from streamcore.contracts import Split, SplitReader
from streamcore.errors import BadConfig
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_reading import TopicReader

_FROM = "First record: earliest, an offset, or a time such as 2026-11-01T12:00:00Z."
_TO = "Behind the last record: latest (the end when the replay begins), an offset, or a time."
_FIELDS: dict[str, Any] = {  # "from" can't be a name in a class
    "from": (str, Field("earliest", description=_FROM)),
    "to": (str, Field("latest", description=_TO)),
    "partitions": (str | None, Field(None, description="Partitions to read: 0,2. All unless given.")),
}
_CONFIG = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)
KafkaOptions: type[BaseModel] = create_model("KafkaOptions", __config__=_CONFIG, **_FIELDS)
"""Options of a range: ``from``, ``to`` and ``partitions``."""
Bound: TypeAlias = int | dt.datetime | None
"""An offset, a time, or None: where the partition begins or ends."""


def open_kafka(uri: str, options: BaseModel) -> KafkaRange:
    """The source that *uri* and *options* (of :data:`KafkaOptions`) say, checked: BadConfig when it can't be
    meant, Permanent when there is no such topic."""
    servers, topic = _parted(uri)
    given = options.model_dump()
    source = KafkaRange(
        servers,
        topic,
        _bound(given["from"], "earliest", "from"),
        _bound(given["to"], "latest", "to"),
        None if given["partitions"] is None else tuple(map(_number, given["partitions"].split(","))),
    )
    source.check()
    return source


def _parted(uri: str) -> tuple[str, str]:
    """The cluster's URL, and the topic, which is the path of *uri*."""
    base, question, query = uri.partition("?")
    scheme, _, rest = base.partition("://")
    login, at, address = rest.rpartition("@")
    hosts, _, topic = address.partition("/")
    servers = f"{scheme}://{login}{at}{hosts}{question}{query}"
    shown = str(KafkaConnection.parse(servers))
    if not topic.strip("/"):
        raise BadConfig("which topic?", where=shown, fix=f"write {shown}/TOPIC")
    return servers, unquote(topic.strip("/"))


def _number(text: str) -> int:
    if not text.strip().isdigit():
        raise BadConfig("option partitions: not a list of numbers", got=text, allowed=["0,2"])
    return int(text)


def _bound(text: str, none: str, option: str) -> Bound:
    if text == none:
        return None
    if text.isdigit():
        return int(text)
    try:
        found = dt.datetime.fromisoformat(text.replace("Z", "+00:00").replace(" ", "+"))
    except ValueError:
        allowed = [none, "an offset", "2026-11-01T12:00:00Z"]
        raise BadConfig(f"option {option} is no offset and no time", got=text, allowed=allowed) from None
    return found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc)


@dataclass(frozen=True, slots=True)
class KafkaRange:
    """Records of *topic* between two bounds; ``partitions`` None: all of them."""

    servers: str = field(repr=False)
    topic: str
    begin: Bound
    end: Bound
    partitions: tuple[int, ...] | None

    @property
    def uri(self) -> str:
        begin = "earliest" if self.begin is None else str(self.begin)
        end = "latest" if self.end is None else str(self.end)
        return f"{KafkaConnection.parse(self.servers)}/{self.topic}?from={begin}&to={end}"

    def fingerprint(self) -> str:
        """Of the topic (deleted and made again it is another one), its partitions and the bounds."""
        reader = self.reader()
        try:
            about = reader.describe()
        finally:
            reader.close()
        said = [
            about.topic_id,
            self.topic,
            str(self.begin),
            str(self.end),
            str(self._chosen(about.partitions)),
        ]
        return hashlib.sha256("\0".join(said).encode()).hexdigest()

    def columns(self) -> pl.Schema | None:
        """None: records are bytes."""
        return None

    def splits(self, wanted: int) -> Sequence[Split]:
        """One a partition, whatever is *wanted*."""
        reader = self.reader()
        try:
            chosen = self._chosen(reader.describe().partitions)
            there = reader.ranges(chosen)
            begins = self._offsets(reader, self.begin, {n: r.start for n, r in there.items()}, there)
            ends = self._offsets(reader, self.end, {n: r.end for n, r in there.items()}, there)
        finally:
            reader.close()
        self._check_kept(begins, there)
        return [
            KafkaSplit(self, number, Range(min(begins[number], ends[number]), ends[number]))
            for number in chosen
        ]

    def check(self) -> None:
        """BadConfig or Permanent when the topic or one of its partitions does not exist."""
        reader = self.reader()
        try:
            self._chosen(reader.describe().partitions)
        finally:
            reader.close()

    def reader(self) -> TopicReader:
        """A connection of its own."""
        return TopicReader(self.servers, self.topic)

    def _chosen(self, there: Collection[int]) -> list[int]:
        chosen = sorted(there) if self.partitions is None else sorted(set(self.partitions))
        for number in chosen:
            if number not in there:
                raise BadConfig(
                    "the topic has no such partition", where=self.topic, got=number, allowed=sorted(there)
                )
        return chosen

    @staticmethod
    def _offsets(
        reader: TopicReader, bound: Bound, none: Mapping[int, int], there: Mapping[int, Range]
    ) -> Mapping[int, int]:
        """*bound* as an offset of each partition, not behind its end."""
        if bound is None:
            return none
        if isinstance(bound, int):
            return {number: min(bound, range_.end) for number, range_ in there.items()}
        found = reader.at_time(int(bound.timestamp() * 1000), there)
        ends = {number: range_.end for number, range_ in there.items()}
        return {number: ends[number] if at is None else min(at, ends[number]) for number, at in found.items()}

    def _check_kept(self, begins: Mapping[int, int], there: Mapping[int, Range]) -> None:
        """BadConfig when records that were asked for by offset are gone."""
        for number, begin in begins.items():
            if isinstance(self.begin, int) and begin < there[number].start:
                raise BadConfig(
                    "the topic does not hold these records any more",
                    where=f"{self.topic}/{number}",
                    got=begin,
                    allowed=[f"from {there[number].start}"],
                    fix="from=earliest reads what there is",
                )


@dataclass(frozen=True, slots=True)
class KafkaSplit:
    """A partition's records with offsets in ``range``; position 0 is its start."""

    source: KafkaRange
    partition: int
    range: Range

    @property
    def name(self) -> str:
        """Topic, partition and offsets."""
        return f"{self.source.topic}/{self.partition} [{self.range.start}:{self.range.end}]"

    @property
    def size(self) -> int:
        """Offsets, also those without a record."""
        return self.range.end - self.range.start

    @property
    def bookmark(self) -> bytes:
        """The range: a later process, for which the topic's end is another one, goes on with it."""
        return orjson.dumps([*self.range])

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> SplitReader:
        range_ = Range(*orjson.loads(bookmark)) if bookmark else self.range
        return KafkaRangeReader(self.source.reader(), self.partition, range_, source, position)


class RangeChunk(Chunk):
    """A *chunk* of a topic as one of the range that begins at *start*: its positions count from there.

    Records at *end* and behind it are left out.
    """

    __slots__ = ("_chunk", "_count", "_start")

    def __init__(self, chunk: Chunk, start: int, end: int) -> None:
        self._chunk, self._start = chunk, start
        self._count = int(np.searchsorted(chunk.offsets(), end))
        rejects = chunk.rejects.frame
        if rejects.height:
            rejects = rejects.filter(pl.col(OFFSET) < end).with_columns(pl.col(OFFSET) - start)
        super().__init__(
            chunk.source,
            chunk.first - start,
            min(chunk.end, end) - start,
            nbytes=chunk.nbytes,
            rejects=Rejects(rejects),
        )

    def __len__(self) -> int:
        return self._count

    def offsets(self) -> Int64s:
        offsets: Int64s = self._chunk.offsets()[: self._count] - self._start
        return offsets

    def values(self) -> list[bytes | None]:
        return self._chunk.values()[: self._count]

    def keys(self) -> list[bytes | None]:
        return self._chunk.keys()[: self._count]

    def timestamps(self) -> Int64s | None:
        times = self._chunk.timestamps()
        return None if times is None else times[: self._count]

    def headers(self, offset: int) -> tuple[tuple[str, bytes], ...]:
        return self._chunk.headers(offset + self._start)

    def original(self, offset: int) -> Original:
        """See :meth:`Chunk.original`."""
        return self._chunk.original(offset + self._start)


class KafkaRangeReader:
    """Reads one split. Nothing is asked of the cluster before the first :meth:`read`."""

    def __init__(
        self, reader: TopicReader, partition: int, range_: Range, source: PartitionId, position: int
    ) -> None:
        self._reader, self._partition, self._range = reader, partition, range_
        self._source, self._at = source, range_.start + position
        self._opened = False

    def read(self, max_bytes: int) -> RangeChunk | None:
        if self._at >= self._range.end:
            return None
        if not self._opened:
            self._reader.seek(self._partition, self._at)
            self._opened = True
        found = self._reader.read(self._source, self._partition, self._range.end, max_bytes)
        if found is None:
            return None
        chunk = RangeChunk(found, *self._range)
        if not len(chunk) and not len(chunk.rejects):  # all of it is behind the end
            return None
        self._at = self._range.start + chunk.end
        chunk.bookmark = orjson.dumps([*self._range])
        return chunk

    def close(self) -> None:
        self._reader.close()
