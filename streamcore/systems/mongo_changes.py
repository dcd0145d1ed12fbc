"""MongoDB's change streams, and collections as they were at one moment. For worker threads.

The driver's change stream goes on by itself behind the last event when a server is gone and another one is
elected, as long as a server is found within ``serverSelectionTimeoutMS``; then it is Transient. Events are
taken as BSON and decoded many at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from streamcore.errors import BadConfig, Permanent
from streamcore.systems.mongo import Address, driver
from streamcore.systems.mongo_documents import ID, Document, Reply, decoded, id_of, id_text, raw_codec
from streamcore.systems.mongo_reading import ReadClient

if TYPE_CHECKING:
    from bson.raw_bson import RawBSONDocument
    from pymongo.change_stream import ChangeStream

APPLICATION = "streamcore changes"
ENDINGS = ("drop", "rename", "dropDatabase", "invalidate")
"""Events after which documents are gone, or another collection's, without a word about each."""
_LOST = (136, 260, 280, 286)
"""CappedPositionLost, InvalidResumeToken, ChangeStreamFatalError, ChangeStreamHistoryLost."""
_NO_SNAPSHOT = (239, 246)
"""SnapshotTooOld, and SnapshotUnavailable: e.g. an index was made since."""
_AWAIT_MS, _AT_ONCE, _LONGEST = 50, 1_000, 0.5
_OWN = "^(streamcore_|system\\.)"
"""Collections of our own, e.g. where the sink keeps its positions."""


class Moment(NamedTuple):
    """A time of the cluster: seconds since 1970, and which operation of that second."""

    seconds: int
    ordinal: int


class Watched(NamedTuple):
    """A collection, or None: the whole database; which kinds of events are told; by post-images or not."""

    collection: str | None
    kinds: Sequence[str]
    images: bool


class Event(NamedTuple):
    """A change. ``document``: as it is now or was then; None where the server has none. ``broken``: a text
    in it is not UTF-8, and ``bson`` is the document's; else it is the event's.
    """

    kind: str
    collection: str
    key: object
    document: Document | None
    bson: bytes
    broken: bool


class Ending(NamedTuple):
    """An event of :data:`ENDINGS`, and the token to go on behind it."""

    kind: str
    collection: str
    token: str


class Changes(NamedTuple):
    """``events`` in their order, and the token behind them, if there is one; then ``ending``, if there is."""

    events: Sequence[Event]
    token: str | None
    ending: Ending | None


class ChangeClient(ReadClient):
    """Connections to the servers of *where*, and the change stream that is open there."""

    def __init__(self, where: Address) -> None:
        super().__init__(where, APPLICATION)
        self._stream: ChangeStream[RawBSONDocument] | None = None

    def now(self) -> Moment:
        """The cluster's time. BadConfig when the server is no member of a replica set."""
        with self._translated():
            stamp = self._client.value(self._database.command, "ping").get("operationTime")
        if stamp is None:
            raise BadConfig(
                "only replica sets have change streams",
                where=self._where.shown,
                fix="start mongod with --replSet, one server is enough",
            )
        return Moment(stamp.time, stamp.inc)

    def keeps_images(self, collection: str) -> bool:
        """Whether the server keeps how documents of *collection* are after each change."""
        with self._translated():
            (found,) = self._client.rows(self._database.list_collections, filter={"name": collection})
        options = found.get("options")
        images = options.get("changeStreamPreAndPostImages") if isinstance(options, Mapping) else None
        return isinstance(images, Mapping) and bool(images.get("enabled"))

    # ------------------------------------------------------------ changes

    def watch(self, watched: Watched, begin: Moment | None, token: str | None) -> None:
        """Open the stream behind *token*, or, without one, behind *begin*. Permanent when that is lost."""
        from bson import Timestamp

        self._end()
        kinds = [*watched.kinds, *ENDINGS]
        asked: Document = {"operationType": {"$in": kinds}}
        if watched.collection is None:
            asked["ns.coll"] = {"$not": {"$regex": _OWN}}
        # One operation later: tokens are of the time where the stream begins, and that itself was read.
        later = None if token or begin is None else Timestamp(begin.seconds, begin.ordinal + 1)
        place = self._database if watched.collection is None else self._database[watched.collection]
        with self._at_its_place():
            self._stream = self._client.value(
                place.with_options(codec_options=raw_codec()).watch,
                [{"$match": asked}, {"$unset": ["updateDescription"]}],
                full_document="whenAvailable" if watched.images else "updateLookup",
                start_after=None if token is None else id_of(token),
                start_at_operation_time=later,
                max_await_time_ms=_AWAIT_MS,
                batch_size=_AT_ONCE,
            )

    def changes(self, max_bytes: int) -> Changes:
        """About *max_bytes* of what comes next; what is there after some 50 ms when it is less."""
        assert self._stream is not None
        until, size = time.monotonic() + _LONGEST, 0
        found: list[RawBSONDocument] = []
        with self._at_its_place():
            while size < max_bytes and (not found or time.monotonic() < until):
                event: RawBSONDocument | None = self._client.value(self._stream.try_next)
                if event is None:
                    break
                if event["operationType"] in ENDINGS:
                    token = id_text(found[-1][ID]) if found else None
                    return Changes(_events(found), token, _ending(event))
                found.append(event)
                size += len(event.raw)
            behind = self._stream.resume_token
        return Changes(_events(found), None if behind is None else id_text(behind), None)

    def close(self) -> None:
        """Close all connections."""
        try:
            self._end()
        finally:
            super().close()

    def _end(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with self._translated():
                self._client.value(stream.close)

    # ------------------------------------------------------------ as it was

    def page_at(
        self, collection: str, behind: str | None, rows: int, at: Moment | None, more: Mapping[str, str]
    ) -> Reply | None:
        """The next documents of *collection* behind an id, at most *rows*, as they were at *at*, or, without
        one, as they are now; each with the fields *more*. None when the server has not that moment any more.
        """
        from bson import Timestamp

        concern: Document = {"level": "majority"}
        if at is not None:
            concern = {"level": "snapshot", "atClusterTime": Timestamp(*at)}
        asked: Document = {"find": collection, "sort": {ID: 1}, "hint": {ID: 1}, "limit": rows}
        asked |= {"batchSize": rows, "singleBatch": True, "readConcern": concern}
        if behind is not None:  # of $gt alone only ids of the same type were above
            asked |= {
                "min": {ID: id_of(behind)},
                "filter": {"$expr": {"$gt": ["$_id", {"$literal": id_of(behind)}]}},
            }
        with self._translated():
            try:
                said = self._client.value(self._database.command, asked, codec_options=raw_codec())
            except driver().errors.OperationFailure as error:
                if error.code in _NO_SNAPSHOT and at is not None:
                    return None
                raise
        reply = Reply([], [], {})
        documents, broken = decoded(b"".join(one.raw for one in said["cursor"]["firstBatch"]))
        reply.add([{**one, **more} for one in documents], (), broken)
        return reply

    @contextmanager
    def _at_its_place(self) -> Iterator[None]:
        """Permanent with the way out where the stream can't go on behind its token."""
        with self._translated():
            try:
                yield
            except driver().errors.OperationFailure as error:
                if error.code not in _LOST:
                    raise
                raise Permanent(
                    "the server can't go on behind what was read: its oplog no longer holds that place",
                    where=self._where.shown,
                    got=(error.details or {}).get("codeName"),
                    fix="changes are lost: begin anew with another name in changes=, and keep the oplog for "
                    "longer: db.adminCommand({replSetResizeOplog: 1, minRetentionHours: 72})",
                ) from None


def _collection(event: Mapping[str, object]) -> str:
    where = event.get("ns")
    return str(where.get("coll", "")) if isinstance(where, Mapping) else ""


def _ending(event: RawBSONDocument) -> Ending:
    return Ending(str(event["operationType"]), _collection(event), id_text(event[ID]))


def _events(found: Sequence[RawBSONDocument]) -> list[Event]:
    events, broken = decoded(b"".join(event.raw for event in found))
    return [
        _event(event, raw, place in broken)
        for place, (event, raw) in enumerate(zip(events, found, strict=True))
    ]


def _event(event: Document, raw: RawBSONDocument, broken: bool) -> Event:
    key, document = event.get("documentKey"), event.get("fullDocument")
    whole: RawBSONDocument = raw["fullDocument"] if broken and document is not None else raw
    return Event(
        str(event["operationType"]),
        _collection(event),
        key.get(ID) if isinstance(key, dict) else None,
        document if isinstance(document, dict) else None,
        bytes(whole.raw),
        broken,
    )
