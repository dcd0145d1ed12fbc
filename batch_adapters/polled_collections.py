"""REST collections that are read by a mark, a member of each row: for ever, or in runs, each of which reads
what came since the last one.

A round asks for all pages of what has changed since the highest mark of the last one, less a lag, and gives
the rows that were not read yet (``batch_adapters.rest_marks``). A bookmark is that mark, the page of the
round, and hashes of the rows that may come again. Requests run in a thread of their own, with their retries:
a poll looks whether one has been answered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import orjson
import polars as pl
from yarl import URL

from batch_adapters.rest import ROW_BYTES, RestSource, open_rest
from batch_adapters.rest_collection import Collection, PageClient, collection_of
from batch_adapters.rest_marks import Lag, Seen, Value
from batch_adapters.rest_options import IncrementalRestOptions, RestOptions
from batch_adapters.rest_pages import Page, Place
from streamcore.batch import PartitionId, RecordChunk
from streamcore.contracts.unbounded import Polled, Taken, UnboundedAbilities
from streamcore.systems.http import with_parameters

_NOWHERE = PartitionId("rest", 0, "rest")
_WAIT = 0.5
"""Seconds that a poll waits for an answer."""
_MOST_TAGS = 1_000


@dataclass(frozen=True)
class PolledCollection:
    """A collection as an unbounded source. ``since``: what the first round asks for; ``mark``: the path of
    the rows' mark; ``interval`` is in seconds.
    """

    collection: Collection
    since: str | None
    mark: str
    lag: Lag
    interval: float
    abilities = UnboundedAbilities(updates=True)
    waits_for = "the server's answer"

    @classmethod
    def of(
        cls, uri: str, options: RestOptions, mark: str, lag: str | None, interval: float = 1.0
    ) -> PolledCollection:
        """What *uri* and the rest say; BadConfig when they can't be meant. Nothing is asked yet."""
        collection = collection_of(uri, options.model_copy(update={"since": None}))
        return cls(collection, options.since, mark, Lag.of(lag), interval)

    @property
    def uri(self) -> str:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return self.collection.uri

    def identity(self) -> str:
        """The collection and the mark."""
        return f"{self.collection.fingerprint()}\0{self.mark}\0{self.collection.options.since_param}"

    def columns(self) -> pl.Schema | None:
        """None: documents have no fixed columns."""
        return None

    def open(self, bookmark: bytes) -> RestPollReader:
        """See :class:`streamcore.contracts.unbounded.CatchingUpSource`."""
        if not bookmark:
            return RestPollReader(self, Seen(self.lag, self.uri), None)
        place, *seen = orjson.loads(bookmark)
        return RestPollReader(self, Seen.unpack(self.lag, self.uri, *seen), place)


class RestPollReader:
    """Asks for the pages of a round from *place* on, and then for those of the next round.

    ``caught_up``: see :class:`streamcore.contracts.unbounded.CatchingUpReader`. What has changed on pages
    that another process read, only a round from the first page on can tell.
    """

    def __init__(self, source: PolledCollection, seen: Seen, place: Place | None) -> None:
        self._source, self._seen, self._place = source, seen, place
        self._path = source.mark.split(".")
        self._client = PageClient(source.collection)
        self.caught_up = False
        self._whole = place is None
        """Whether this reader has all pages of the round."""
        self._gave = not self._whole
        """Whether the last bookmark that was kept may be one from within the round."""
        self._asked: Future[Page | None] | None = None
        self._page: _Read | None = None
        self._tags: dict[str, tuple[str, Place | None]] = {}
        """Of pages that were read to their end, by their URL: the ETag, and which page follows."""

    def poll(self, max_bytes: int, now: float) -> Polled | None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        until = time.monotonic() + _WAIT
        while (left := until - time.monotonic()) > 0:
            if self._page is None and not self._has_come(left):
                continue
            rows = [] if self._page is None else self._new_rows(self._page, max_bytes)
            if rows:
                self._gave = True
                if self._seen.too_many:
                    self._turn()  # the page is read to its end: a bookmark from within it has no room
                chunk = RecordChunk(_NOWHERE, np.arange(len(rows)), rows)
                return Polled(self._bookmark(), (Taken(chunk),))
            self._turn()
            if self._place is None:
                return self._round_is_over()
        return Polled(self._bookmark())

    def forget(self, bookmark: bytes) -> None:
        """The server keeps its rows."""

    def close(self) -> None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        if self._asked is not None:
            self._asked.cancel()
        self._client.close()

    def _round_is_over(self) -> Polled | None:
        """Keep that it is over: who goes on behind a page of it would miss rows that have moved since."""
        self.caught_up, self._whole = self.caught_up or self._whole, True
        gave, self._gave = self._gave, False
        return Polled(self._bookmark(), keep=True) if gave else None

    def _has_come(self, seconds: float) -> bool:
        """Ask for the page, and wait so long. One that is as it was has come too, and has no new rows."""
        collection, base = self._source.collection, self._base()
        url = str(collection.pages.url(base, self._place))
        tag, following = self._tags.get(url, (None, None))
        if self._asked is None:
            self._asked = self._client.ask(self._place, base, tag)
        if not wait([self._asked], seconds).done:
            return False
        page, self._asked = self._asked.result(), None
        if page is None:
            self._page = _Read(url, tag, following, iter(()))
        else:
            following = collection.following(page, self._place)
            self._page = _Read(url, page.answer.headers.get("etag"), following, _rows(page))
        return True

    def _base(self) -> URL:
        """The collection's URL with what this round asks for."""
        source, since = self._source, self._seen.since
        value: Value | None = source.since if since is None else since.value
        given = [] if value is None else [(source.collection.options.since_param, str(value))]
        return with_parameters(source.collection.base, given)

    def _new_rows(self, page: _Read, max_bytes: int) -> list[bytes]:
        """About *max_bytes* of them, or all of a page of which a bookmark can't hold what was read."""
        rows: list[bytes] = []
        for row in page.rows:
            if self._seen.is_new(row, self._mark(row)):
                rows.append(row)
                max_bytes -= len(row) + ROW_BYTES
                if max_bytes <= 0 and not self._seen.too_many:
                    break
        return rows

    def _mark(self, row: bytes) -> object:
        try:
            value: object = orjson.loads(row)
        except orjson.JSONDecodeError:
            return None
        for name in self._path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def _turn(self) -> None:
        """Behind the page, which has no more new rows; behind the last one a round ends."""
        page, self._page = self._page, None
        assert page is not None
        if page.tag is not None and len(self._tags) < _MOST_TAGS:
            self._tags[page.url] = (page.tag, page.following)
        self._place = page.following
        if page.following is not None:
            self._seen.turn()
            return
        asked = self._base()
        self._seen.end()
        if self._base() != asked:
            self._tags.clear()

    def _bookmark(self) -> bytes:
        return orjson.dumps([self._place, *self._seen.pack()])


class _Read(NamedTuple):
    """A page that is read: its URL and ETag, which page follows, and its rows from here on."""

    url: str
    tag: str | None
    following: Place | None
    rows: Iterator[bytes]


def _rows(page: Page) -> Iterator[bytes]:
    data, starts, ends = page.rows
    return (data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class IncrementalCollection(RestSource):
    """A collection, to look into, and how it is read by its changes."""

    polled: PolledCollection

    def taken_in(self) -> PolledCollection:
        """See :class:`streamcore.contracts.unbounded.Incremental`."""
        return self.polled


def open_collection(uri: str, given: Mapping[str, object]) -> RestSource:
    """The collection that *uri* and the options *given* say: all of it, or with ``mark`` in runs.

    BadConfig when they can't be meant. Nothing is asked yet.
    """
    options = IncrementalRestOptions.model_validate(given)
    whole = open_rest(uri, options)
    if options.mark is None:
        return whole
    polled = PolledCollection.of(uri, options, options.mark, options.lag)
    return IncrementalCollection(whole.collection, polled)
