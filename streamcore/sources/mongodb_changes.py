"""Change streams of MongoDB: ``mongodb://…/shop?collection=users&changes=people``.

Every insert, update, replace and delete of a collection or of a whole database, in the order of the cluster's
log. A bookmark is the resume token of the last change. Before the first one the documents that are there
already are read, as they all were at one moment, and the stream begins behind that moment: none is lost and
none comes twice. The server keeps a moment for five minutes (``minSnapshotHistoryWindowInSeconds``). What has
not been read by then is read as it is then, and what changes meanwhile comes once more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import orjson
import polars as pl
from pydantic import Field, field_validator

from batch_adapters.documents import RECORD_BYTES
from batch_adapters.mongodb import DriverOption, chosen
from streamcore.batch import PartitionId
from streamcore.contracts.unbounded import Polled, Taken, UnboundedAbilities
from streamcore.durations import seconds
from streamcore.errors import BadConfig, Permanent
from streamcore.sources.changes import ChangeOptions, words
from streamcore.sources.mongodb_events import page_of, parts_of
from streamcore.systems.mongo import Address, address
from streamcore.systems.mongo_changes import ChangeClient, Ending, Moment, Watched
from streamcore.systems.mongo_documents import ID

_NOWHERE = PartitionId("changes", 0, "changes")
_KINDS = {"insert": ("insert",), "update": ("update", "replace"), "delete": ("delete",)}
_ALL = "*"
_MOST_ROWS, _USUAL_BYTES = 50_000, 500
_KEPT_EVERY = 60.0
"""Seconds."""
_SAID = {
    "drop": "the collection was dropped",
    "rename": "the collection was renamed, or another one to its name",
    "dropDatabase": "the database was dropped",
    "invalidate": "the server ended the stream",
}
_log = logging.getLogger(__name__)


class ChangesOptions(ChangeOptions, DriverOption):
    """Options of change streams."""

    changes: str = Field(description="A name for this reading of them: under another one it begins anew.")
    collection: str | None = Field(
        None, description="The collection; the only one unless given. '*': the whole database."
    )
    collection_field: str = Field(
        "collection", description="Of a whole database: the field that is given the collection's name."
    )
    begin: str = Field(
        "snapshot",
        description="What comes first: snapshot (what is there), now, or a time that the oplog still holds.",
    )
    documents: str = Field(
        "lookup", description="Of an update: lookup (as it is when that is read), or images (as it was then)."
    )
    dropped: str = Field(
        "stop", description="What a drop or rename of the collection does: stop, or skip: it is passed over."
    )

    @field_validator("begin")
    @classmethod
    def _beginning(cls, text: str) -> str:
        if text not in ("snapshot", "now"):
            try:
                datetime.fromisoformat(text.replace("Z", "+00:00"))
            except ValueError:
                allowed = ["snapshot", "now", "2026-11-28T12:00:00Z"]
                raise BadConfig("option begin: no time", got=text, allowed=allowed) from None
        return text

    @field_validator("documents")
    @classmethod
    def _known_documents(cls, text: str) -> str:
        return words(text, "documents", ("lookup", "images"))

    @field_validator("dropped")
    @classmethod
    def _stop_or_skip(cls, text: str) -> str:
        return words(text, "dropped", ("stop", "skip"))

    @property
    def whole(self) -> bool:
        """Whether the whole database is meant."""
        return self.collection == _ALL


def open_changes(uri: str, options: ChangesOptions) -> MongoChanges:
    """The source, checked. BadConfig when there is no such collection, or no change stream or no image."""
    where = address(uri, options.driver)
    client = ChangeClient(where)
    try:
        client.now()
        there = client.collections()
        if options.whole or (options.dropped == "skip" and options.collection):
            name = options.collection or _ALL
        else:
            name = chosen(there, options.collection, where.shown)
        if options.documents == "images" and not options.whole and not client.keeps_images(name):
            raise BadConfig(
                "the collection keeps no images of its documents",
                where=f"{where.shown}?collection={name}",
                got="documents=images",
                fix=f"db.runCommand({{collMod: '{name}', changeStreamPreAndPostImages: {{enabled: true}}}}), "
                "or documents=lookup",
            )
    finally:
        client.close()
    return MongoChanges(where, options.model_copy(update={"collection": name}))


@dataclass(frozen=True)
class MongoChanges:
    """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""

    where: Address
    options: ChangesOptions

    @property
    def uri(self) -> str:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return f"{self.where.shown}?collection={self.options.collection}&changes={self.options.changes}"

    @property
    def abilities(self) -> UnboundedAbilities:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        told, key = self.options.told, (ID,) if self.field is None else (self.field, ID)
        return UnboundedAbilities(updates="update" in told, deletes="delete" in told, known_by=key)

    @property
    def interval(self) -> float:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return seconds(self.options.every)

    @property
    def field(self) -> str | None:
        """The field that is given the collection's name, if one is."""
        return self.options.collection_field if self.options.whole else None

    @property
    def watched(self) -> Watched:
        """What the server is asked for."""
        kinds = [kind for op in self.options.told for kind in _KINDS[op]]
        return Watched(
            None if self.options.whole else self.options.collection, kinds, self.options.documents == "images"
        )

    def identity(self) -> str:
        """The servers, the collection and the name."""
        return f"{self.where.shown}\0{self.options.collection}\0{self.options.changes}"

    def columns(self) -> pl.Schema | None:
        """None: documents have no fixed columns."""
        return None

    def open(self, bookmark: bytes) -> ChangesReader:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return ChangesReader(self, Place.unpack(bookmark) if bookmark else None)


@dataclass(frozen=True, slots=True)
class Place:
    """Behind the change with this ``token``, or behind the moment ``at``.

    ``left``: collections whose documents of that moment are still to be read, of the first one those behind
    the id ``behind``. ``late``: the server does not have that moment any more, and they come as they are.
    """

    at: Moment | None = None
    token: str | None = None
    left: tuple[str, ...] = ()
    behind: str | None = None
    late: bool = False

    def pack(self) -> bytes:
        """As a bookmark."""
        at = None if self.at is None else list(self.at)
        return orjson.dumps([at, self.token, self.left, self.behind, self.late])

    @classmethod
    def unpack(cls, bookmark: bytes) -> Place:
        """What :meth:`pack` gave."""
        at, token, left, behind, late = orjson.loads(bookmark)
        return cls(None if at is None else Moment(*at), token, tuple(left), behind, late)


class ChangesReader:
    """Reads what was there and then the changes, behind *place*; None: from the beginning."""

    def __init__(self, source: MongoChanges, place: Place | None) -> None:
        self._source, self._options = source, source.options
        self._place = place
        self._pieces: Iterator[Polled] = iter(())
        self._sizes: dict[str, int] = {}
        self._watching = False
        self._ending: Ending | None = None
        self._kept_at: float | None = None
        self._client = ChangeClient(source.where)

    def poll(self, max_bytes: int, now: float) -> Polled | None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        if self._place is None:
            self._place = self._beginning()
        found = next(self._pieces, None)
        if found is not None:
            return found
        if self._place.left:
            self._pieces = self._documents(self._place, max_bytes)
            return next(self._pieces)
        return self._changes(self._place, max_bytes, now)

    def forget(self, bookmark: bytes) -> None:
        """The server keeps its log for as long as it is told."""

    def close(self) -> None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        self._client.close()

    def _beginning(self) -> Place:
        begin, options = self._options.begin, self._options
        if begin not in ("snapshot", "now"):
            time = datetime.fromisoformat(begin.replace("Z", "+00:00"))
            aware = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
            return Place(Moment(int(aware.timestamp()), 0))
        names = [options.collection or ""]
        if begin == "now":
            names = []
        elif options.whole:
            there = self._client.collections()
            names = [
                n for n, kind in there.items() if kind == "collection" and not n.startswith("streamcore_")
            ]
        return Place(self._client.now(), left=tuple(names))

    # ------------------------------------------------------------ what was there

    def _documents(self, place: Place, max_bytes: int) -> Iterator[Polled]:
        """The next page of what is left, in pieces of about *max_bytes*."""
        name = place.left[0]
        rows, field = self._rows(name, max_bytes), self._source.field
        named = {} if field is None else {field: name}
        reply = self._client.page_at(name, place.behind, rows, None if place.late else place.at, named)
        if reply is None:
            _log.warning(
                "%s: the server does not have the moment any more at which reading began; what is left "
                "comes as it is now, and what has changed since comes once more",
                self._source.uri,
            )
            place = replace(place, late=True)
            reply = self._client.page_at(name, place.behind, rows, None, named)
        assert reply is not None
        if not reply.texts:
            self._place = replace(place, left=place.left[1:], behind=None)
            yield Polled(self._place.pack())
            return
        for page in page_of(reply).cut(max_bytes):
            self._place = replace(place, behind=page.last_key()[0])
            yield Polled(self._place.pack(), (Taken(page.chunk(_NOWHERE, 0)),))

    def _rows(self, name: str, max_bytes: int) -> int:
        """So many documents of *name* are about *max_bytes*."""
        if name not in self._sizes:
            self._sizes[name] = self._client.size(name)[1] or _USUAL_BYTES
        return max(1, min(max_bytes // (self._sizes[name] + RECORD_BYTES), _MOST_ROWS))

    # ------------------------------------------------------------ changes

    def _changes(self, place: Place, max_bytes: int, now: float) -> Polled | None:
        if self._ending is not None:
            place = self._pass_over(self._ending)
        if not self._watching:
            self._client.watch(self._source.watched, place.at, place.token)
            self._watching = True
        found = self._client.changes(max_bytes)
        self._ending = found.ending
        self._place = place if found.token is None else Place(token=found.token)
        parts = tuple(parts_of(found.events, self._source.field, self._source.watched.images))
        if parts or self._is_to_be_kept(now):
            self._kept_at = now
            return Polled(self._place.pack(), parts, keep=not parts)
        return None

    def _is_to_be_kept(self, now: float) -> bool:
        """Where nothing comes for long, the oplog moves on, and the last token that is kept is lost."""
        return self._kept_at is None or now - self._kept_at >= _KEPT_EVERY

    def _pass_over(self, ending: Ending) -> Place:
        """Behind *ending*; Permanent unless such may be passed over."""
        if self._options.dropped == "stop":
            raise Permanent(
                f"{_SAID[ending.kind]}: which documents are gone is not told",
                where=self._source.uri,
                got=f"{ending.kind} {ending.collection}".strip(),
                fix="empty what was made of it, then pass it over with dropped=skip",
            )
        self._ending = None
        if ending.kind == "invalidate":  # the server has closed the stream
            self._watching = False
        return Place(token=ending.token)
