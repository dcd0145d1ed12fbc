"""``MongoDB``: rows to a collection, exactly once; append by ordered bulk inserts, or upsert by key.

How rows and positions are written together is in :mod:`.table_writer`; the positions are documents of the
collection ``streamcore_positions`` beside the target. A transaction of MongoDB has no savepoints: the server
names the first row that it refuses, and small transactions go on without it. With a key, of the rows of one
key the last one counts, and an ``_op`` of delete (or update-before without its after) removes the document.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from streamcore.batch import DELETES, HIDDEN, PartitionId
from streamcore.contracts import SinkContext
from streamcore.errors import BadConfig
from streamcore.secrets import resolve
from streamcore.sinks.column_checks import ColumnChecks
from streamcore.sinks.fence import POSITIONS, Move, Stored, StoredKey, application_name
from streamcore.sinks.keyed_table import KeyOption
from streamcore.sinks.merging import Merge, OnConflict
from streamcore.sinks.mongodb_columns import Field, field_type
from streamcore.sinks.table_writer import TableWriter
from streamcore.systems.mongo import Driver, address
from streamcore.systems.mongo_documents import Document
from streamcore.systems.mongo_writing import MongoSession, Upsert, connect
from streamcore.systems.sql import RefusedRows

_SLICE_ROWS = 10_000
_MOST_BYTES = 2 << 20
"""Of a transaction: all that it writes stays in the server's cache until it ends."""
_PLACE, _GONE = " place", " gone"


@dataclass(frozen=True)
class MongoDB(KeyOption):
    """``collection`` of the database at ``url``, of a replica set (one server is enough) or sharded cluster.

    ``url`` may hold references such as ``${env:MONGODB_URL}``, the default; see ``streamcore.systems.mongo``.
    ``key``: upsert by these fields, which need a unique index (``_id`` has one); without it documents are
    appended. ``create``: make the collection, and the key's index, when missing. ``cut_times``: cut times
    to milliseconds instead of refusing rows with finer ones. ``driver``: "motor" for those who have it.
    ``name``: the sink's stable name, otherwise made from the collection. ``on_conflict``, ``update``,
    ``version``: see :class:`streamcore.sinks.merging.Merge`.
    """

    collection: str
    url: str = field(default="${env:MONGODB_URL}", repr=False)
    key: str | Sequence[str] | None = None
    create: bool = False
    cut_times: bool = False
    driver: Driver = "pymongo"
    name: str = ""
    on_conflict: OnConflict = "update"
    update: str | Sequence[str] | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        bad = not self.collection or "\0" in self.collection or "$" in self.collection
        if bad or self.collection.startswith(("system.", ".")) or self.collection.endswith("."):
            raise BadConfig("not a collection's name", got=self.collection, fix="use letters, digits and _")
        if self.driver not in ("pymongo", "motor"):
            raise BadConfig("unknown driver", got=self.driver, allowed=("pymongo", "motor"))
        object.__setattr__(self, "name", self.name or f"mongodb:{self.collection}")

    def check(self, columns: pl.Schema) -> None:
        """BadConfig for unknown key columns, names and types that MongoDB can't have."""
        self.check_key(columns)
        for name, dtype in columns.items():
            if not name or name.startswith("$") or "." in name or "\0" in name:
                raise BadConfig(f"{name!r} can't be the name of a field of MongoDB", fix="rename the column")
            field_type(name, dtype)
            if name in self.keys and (dtype.is_nested() or dtype.is_float()):
                raise BadConfig(f"key: the column {name!r} must be of a plain type", got=str(dtype))

    def plan(self, columns: pl.Schema) -> list[str]:
        """What prepares the target, for a dry run, as MongoDB's shell has it."""
        made = [f"db.createCollection({self.collection!r})"] if self.create else []
        if self.create and self.keys and self.keys != ("_id",):
            fields = ", ".join(f"{name!r}: 1" for name in self.keys)
            made.append(f"db.getCollection({self.collection!r}).createIndex({{{fields}}}, {{unique: true}})")
        return [*made, f"db.createCollection({POSITIONS!r})"]

    def writer(self, context: SinkContext) -> TableWriter[MongoSession]:
        return TableWriter(_Database(self, context), context, _MOST_BYTES)


class MongoFence:
    """A fence of one document a partition, whose ``_id`` says which."""

    def __init__(self, topology: str, sink: str) -> None:
        self._topology, self._sink = topology, sink

    async def take_over(
        self, session: MongoSession, starts: Mapping[PartitionId, int], owner: str
    ) -> Mapping[PartitionId, Stored]:
        found = {}
        for partition in sorted(starts):
            now = dt.datetime.now(dt.timezone.utc)
            change: Document = {
                "$inc": {"owner_epoch": 1},
                "$set": {"owner": owner, "updated_at": now},
                "$setOnInsert": {"topic": partition.topic, "next_offset": starts[partition]},
            }
            query: Document = {"_id": self._id(partition)}
            try:
                made = await session.make(POSITIONS, query, change)
            except RefusedRows:  # another one made it at the same moment
                made = await session.make(POSITIONS, query, change)
            found[partition] = _stored(made)
        return found

    async def stored(self, session: MongoSession) -> Mapping[StoredKey, Stored]:
        query: Document = {"_id.topology": self._topology, "_id.sink": self._sink}
        found = {}
        for document in await session.find(POSITIONS, query):
            key = document["_id"]
            assert isinstance(key, dict)
            found[key["topic_id"], key["partition"]] = _stored(document)
        return found

    async def move(self, session: MongoSession, moves: Sequence[Move]) -> bool:
        now = dt.datetime.now(dt.timezone.utc)
        for move in sorted(moves):
            there: Document = {
                "_id": self._id(move.partition),
                "next_offset": move.start,
                "owner_epoch": move.epoch,
            }
            change: Document = {"$set": {"next_offset": move.end, "updated_at": now}}
            if not await session.update(POSITIONS, there, change):
                return False
        return True

    async def end_sessions(self, session: MongoSession, owners: Iterable[str]) -> None:
        await session.kill([application_name(self._topology, self._sink, owner) for owner in owners])

    def _id(self, partition: PartitionId) -> Document:
        """Always in this order: MongoDB compares documents field by field."""
        return {
            "topology": self._topology,
            "sink": self._sink,
            "topic_id": partition.topic_id,
            "partition": partition.partition,
        }


def _stored(document: Document) -> Stored:
    position, epoch = document["next_offset"], document["owner_epoch"]
    return Stored(int(str(position)), int(str(epoch)), str(document["owner"]))


class _Database:
    """The connection to a sink's database, known to the server by its owner."""

    system = "mongodb"

    def __init__(self, sink: MongoDB, context: SinkContext) -> None:
        self._sink = sink
        self._name = application_name(context.topology, context.sink, context.owner)
        self._former: Mapping[str, object] | None = None
        self.fence = MongoFence(context.topology, context.sink)

    async def connect(self) -> MongoSession:
        session = await connect(address(resolve(self._sink.url), self._sink.driver), self._name)
        if self._former is not None:
            try:
                await session.forget(self._former)
            except BaseException:
                session.abort()
                raise
        self._former = session.id
        return session

    async def look(self, session: MongoSession) -> None:
        sink = self._sink
        if not sink.create and sink.collection not in await session.collections():
            raise BadConfig(
                f"there is no collection {sink.collection!r}",
                where=sink.name,
                fix="make it, or let the sink make it: create=True",
            )

    async def prepare(self, session: MongoSession, columns: pl.Schema) -> Collection:
        """Make what is missing on request; BadConfig where it is missing otherwise."""
        sink = self._sink
        await self.look(session)
        there = await session.collections()
        for name in (sink.collection, POSITIONS):
            if name not in there:
                await session.create(name)
        if sink.keys and sink.keys != ("_id",):
            await session.unique_index(sink.collection, sink.keys, create=sink.create)
        return Collection(sink, columns)


class Collection:
    """The target. ``checks`` finds rows that can't be stored; :meth:`write` stores the others."""

    def __init__(self, sink: MongoDB, columns: pl.Schema) -> None:
        self._sink = sink
        self._fields = [Field(name, dtype, sink.cut_times) for name, dtype in columns.items()]
        self._names, self._merge = columns.names(), sink.merge
        self.checks = ColumnChecks(self._fields, sink.keys, sink.merge.checks(columns))

    async def begin(self, session: MongoSession) -> None:
        """Nothing."""

    async def refuse_at_once(self, session: MongoSession) -> None:
        """The server always does."""

    async def write(self, session: MongoSession, frame: pl.DataFrame) -> None:
        """The rows of *frame* (with hidden columns, in order) inside of the session's transaction."""
        place = pl.int_range(pl.len()).alias(_PLACE)
        values = frame.select(
            *(one.value.alias(one.name) for one in self._fields), place, DELETES.alias(_GONE), *HIDDEN
        )
        for rows in self._merge.rounds(values, self._names, in_order=True):
            for part in rows.drop(HIDDEN).iter_slices(_SLICE_ROWS):
                documents = part.drop(_PLACE, _GONE).to_dicts()
                try:
                    if self._sink.keys:
                        await session.upsert(self._sink.collection, self._changes(documents, part[_GONE]))
                    else:
                        await session.insert(self._sink.collection, documents)
                except RefusedRows as error:
                    places = part[_PLACE].gather(list(error.places)).to_list()
                    where = self._sink.name
                    raise RefusedRows(error.what, code=error.code, where=where, places=places) from None

    def _changes(self, documents: Sequence[Document], gone: pl.Series) -> list[Upsert]:
        """Without refinements the key is among the fields that are set; so a new document has its order."""
        keys, merge = self._sink.keys, self._merge
        refined = merge != Merge(keys)
        set_ = merge.updated(self._names) if refined else self._names
        made = [name for name in self._names if name not in (*keys, *set_)] if refined else []
        version = merge.version
        return [
            Upsert(
                {name: document[name] for name in keys},
                None if deleted else {name: document[name] for name in set_},
                {name: document[name] for name in made},
                None if version is None else (version, document[version]),
            )
            for document, deleted in zip(documents, gone, strict=True)
        ]
