"""A Redis stream by a consumer group: ``redis://…/0?stream=orders&group=feed&fields=id,name``.

Each process is a consumer of its own. An entry is acknowledged when it is durable in the stream's topic. A
bookmark is the ids that were appended and may not be acknowledged yet: whatever else the group gave to
somebody who is gone was not appended. So a process begins with what its predecessors were given, which the
intake has fenced by then, and from time to time takes what any consumer has kept for too long.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from batch_adapters.redis_streams import EntryPage, check_row
from streamcore.batch import Chunk, PartitionId
from streamcore.contracts.unbounded import Polled, Taken, UnboundedAbilities
from streamcore.durations import DurationText, seconds
from streamcore.errors import BadConfig, StreamcoreError
from streamcore.systems.redis_streams import Entry, GroupConsumer

_NOWHERE = PartitionId("stream", 0, "stream")
_ENTRY_BYTES, _MOST_ENTRIES = 200, 1000
"""What an entry takes about; a bookmark holds the ids of so many."""


class StreamOptions(BaseModel):
    """Options of Redis streams."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str = Field(description="The stream's key.")
    group: str = Field(description="The consumer group, which other programs may be in too.")
    fields: str | None = Field(None, description="Fields of an entry that are columns of text: id,name.")
    value: str | None = Field(None, description="Instead: the field that holds a row in the stream's format.")
    create: str = Field("false", description="true: make stream and group if they are missing.")
    claim: DurationText = Field(
        "5m", description="Take what another consumer has not acknowledged for so long."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> StreamOptions:
        check_row(self.stream, self.fields, self.value)
        return self


def open_stream(uri: str, given: Mapping[str, object]) -> Stream:
    """The source, checked. BadConfig when there is no such group, unless it is to be made."""
    options = StreamOptions.model_validate(given)
    found = Stream(uri, options)
    group = found.consumer()
    try:
        if not group.has_group():
            if options.create != "true":
                raise BadConfig(
                    "there is no such stream, or it has no such group",
                    where=group.shown,
                    got=f"group={options.group}",
                    fix=f"add create=true, or run: XGROUP CREATE {options.stream} {options.group} 0 MKSTREAM",
                )
            group.make_group()
    finally:
        group.close()
    return found


@dataclass(frozen=True)
class Stream:
    """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""

    url: str
    options: StreamOptions
    block: float = 0.5
    """Seconds for which a poll waits for entries."""
    abilities = UnboundedAbilities(forgets=True)
    interval = 0.01

    def __repr__(self) -> str:
        return f"Stream({self.uri!r})"

    def consumer(self) -> GroupConsumer:
        """A new consumer of the group."""
        name = f"streamcore-{uuid.uuid4().hex[:12]}"
        return GroupConsumer(self.url, self.options.stream, self.options.group, name)

    @property
    def uri(self) -> str:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        group = self.consumer()
        return f"{group.shown}?group={self.options.group}"

    def identity(self) -> str:
        """The server, the stream and the group."""
        return self.uri

    def columns(self) -> pl.Schema | None:
        """The fields, which are text; of documents it is not known."""
        names = self.names
        return pl.Schema(dict.fromkeys(names, pl.String())) if names else None

    @property
    def names(self) -> list[str]:
        """The fields that are columns."""
        return [name.strip() for name in (self.options.fields or "").split(",") if name.strip()]

    def open(self, bookmark: bytes) -> StreamReader:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return StreamReader(self, orjson.loads(bookmark) if bookmark else [])


class StreamReader:
    """A consumer of the group. ``known``: ids that were appended and may not be acknowledged."""

    def __init__(self, stream: Stream, known: Sequence[str]) -> None:
        self._stream, self._known = stream, dict.fromkeys(known)
        self._group = stream.consumer()
        self._former: deque[str] | None = None
        self._behind = ""
        self._idle = seconds(stream.options.claim)
        self._claimed_at: float | None = None

    def poll(self, max_bytes: int, now: float) -> Polled | None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        count = max(1, min(max_bytes // _ENTRY_BYTES, _MOST_ENTRIES))
        entries = self._next(count, now)
        appended = [entry.id for entry in entries if entry.id in self._known]
        self._group.acknowledge(appended)
        new = [entry for entry in entries if entry.id not in self._known]
        if not new:
            return None
        self._known |= dict.fromkeys(entry.id for entry in new)
        return Polled(orjson.dumps(list(self._known)), (Taken(self._chunk(new)),))

    def _next(self, count: int, now: float) -> list[Entry]:
        """What predecessors were given, then what others have kept for too long, then what is new."""
        if self._former is None:
            waiting = self._group.consumers_that_wait()
            self._former = deque(name for name in waiting if name.startswith("streamcore-"))
        while self._former:
            entries, self._behind = self._group.take_from(self._former[0], self._behind, count)
            if not self._behind:
                self._former.popleft()
            if entries:
                return entries
        if self._claimed_at is None or now - self._claimed_at >= self._idle / 2:
            stale = self._group.stale(self._idle, count)
            if stale:
                return stale
            self._claimed_at = now
        return self._group.new(count, self._stream.block)

    def _chunk(self, entries: Sequence[Entry]) -> Chunk:
        options = self._stream.options
        return EntryPage(entries, self._stream.names, options.value).chunk(_NOWHERE, 0)

    def forget(self, bookmark: bytes) -> None:
        """Acknowledge what is in *bookmark*."""
        ids = orjson.loads(bookmark)
        self._group.acknowledge(ids)
        for id_ in ids:
            self._known.pop(id_, None)

    def close(self) -> None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        try:
            self._group.leave()
        except StreamcoreError:
            pass  # its name stays in the list
        finally:
            self._group.close()
