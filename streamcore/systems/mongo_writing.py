"""MongoDB written to in transactions, by pymongo's own client for asyncio or by motor's.

Both are spoken to by the names that they share; where one gives an awaitable and the other a value,
:func:`_settled` takes either.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any, NamedTuple

from streamcore.errors import Permanent, StreamcoreError
from streamcore.systems.mongo import Address, RefusedDocuments, driver, translate
from streamcore.systems.mongo_clients import motor_client
from streamcore.systems.mongo_documents import Document
from streamcore.systems.sql import Locked, RefusedRows

LOCK_MS = 5_000
"""So long a statement waits for what another transaction holds."""
_EXISTS = 48
"""The code of "NamespaceExists"."""
_MOST_BYTES = 16 * 1024 * 1024 - 100
"""The driver adds an id."""
_LARGE = (10334, 17419)
_CLOSING: set[asyncio.Task[None]] = set()


class Upsert(NamedTuple):
    """Set the fields of the document that *query* finds, or make it; None: delete it.

    ``made``: fields that are set only when it is made. ``version``: the field by which the document there is
    left as it is when it is newer, and its value; one that is missing or null is older than any.
    """

    query: Document
    fields: Document | None
    made: Document = {}
    version: tuple[str, object] | None = None

    def requests(self) -> list[Any]:
        """As the driver wants them, one after the other: each makes nothing of what the one before it did."""
        pymongo, query = driver(), self.query
        if self.fields is None:
            return [pymongo.DeleteOne({**query, **self._unless_newer()})]
        if self.version is None:
            # A change may not be empty; setting the key where it is made changes nothing.
            made = self.made if self.made or self.fields else query
            parts = {"$set": self.fields, "$setOnInsert": made}
            return [pymongo.UpdateOne(query, {name: v for name, v in parts.items() if v}, upsert=True)]
        if self.made:
            # A pipeline can't tell a document that is made from one that is there and lacks the fields.
            there = {**query, "$expr": self._newer}
            new = {"$setOnInsert": {**self.made, **self.fields}}
            return [
                pymongo.UpdateOne(there, {"$set": self.fields}),
                pymongo.UpdateOne(query, new, upsert=True),
            ]
        changed = {"$mergeObjects": ["$$ROOT", {"$literal": self.fields}]}
        choice = {"$cond": [self._newer, changed, "$$ROOT"]}
        return [pymongo.UpdateOne(query, [{"$replaceWith": choice}], upsert=True)]

    @property
    def _newer(self) -> Document:
        """Of values of several types a missing one is the lowest, then null, then numbers, then times."""
        assert self.version is not None
        name, value = self.version
        return {"$lte": [f"${name}", {"$literal": value}]}

    def _unless_newer(self) -> Document:
        if self.version is None or self.version[1] is None:
            return {}
        name, value = self.version
        return {"$or": [{name: None}, {name: {"$lte": value}}]}


class MongoSession:
    """One logical session whose errors are ours. After a Transient or Permanent error it is to be aborted."""

    savepoints = False

    def __init__(self, where: Address, client: Any, session: Any) -> None:
        self._where, self._client, self._session = where, client, session
        self._database = client[where.database]

    # ---- transactions

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Committed by a majority at the end; rolled back on any error."""
        pymongo = driver()
        async with self._translated():
            await _settled(
                self._session.start_transaction(
                    read_concern=pymongo.read_concern.ReadConcern("snapshot"),
                    write_concern=pymongo.WriteConcern("majority"),
                )
            )
        try:
            yield
        except BaseException:
            try:
                await self._session.abort_transaction()
            except Exception:  # noqa: BLE001 - the first error counts
                self.abort()
            raise
        async with self._translated():
            await self._session.commit_transaction()

    # ---- statements

    async def insert(self, collection: str, documents: Sequence[Document]) -> None:
        """All *documents*, in their order. RefusedRows names the first that can't be stored."""
        async with self._translated(documents):
            await self._in(collection).insert_many(documents, ordered=True, session=self._session)

    async def upsert(self, collection: str, changes: Sequence[Upsert]) -> None:
        """All *changes*, in their order. RefusedRows names the first that can't be stored."""
        asked = [(place, one) for place, change in enumerate(changes) for one in change.requests()]
        places, requests = zip(*asked, strict=True)
        documents = [{**changes[place].made, **(changes[place].fields or {})} for place in places]
        try:
            async with self._translated(documents):
                await self._in(collection).bulk_write(list(requests), ordered=True, session=self._session)
        except RefusedRows as error:
            found = list(dict.fromkeys(places[at] for at in error.places))
            raise RefusedRows(error.what, code=error.code, where=self._where.shown, places=found) from None

    async def update(self, collection: str, query: Document, change: Document) -> bool:
        """Change the one document that *query* finds; whether there was one."""
        async with self._translated():
            done = await self._in(collection).update_one(query, change, session=self._session)
        return bool(done.matched_count)

    async def make(self, collection: str, query: Document, change: Document) -> Document:
        """Change the document that *query* finds or make it, outside of a transaction, by a majority.

        Locked where a transaction holds it for longer than :data:`LOCK_MS`.
        """
        pymongo = driver()
        place = self._in(collection).with_options(write_concern=pymongo.WriteConcern("majority"))
        try:
            found: Document = await place.find_one_and_update(
                query,
                change,
                upsert=True,
                return_document=pymongo.ReturnDocument.AFTER,
                maxTimeMS=LOCK_MS,
                session=self._session,
            )
        except pymongo.errors.ExecutionTimeout:
            raise Locked("another transaction holds the position", where=self._where.shown) from None
        except Exception as error:  # noqa: BLE001 - sorted in one place
            raise translate(error, self._where.shown) from None
        return found

    async def find(self, collection: str, query: Document) -> list[Document]:
        """The documents that *query* finds, as a majority has them."""
        place = self._in(collection).with_options(read_concern=driver().read_concern.ReadConcern("majority"))
        async with self._translated():
            found: list[Document] = await place.find(query, session=self._session).to_list(None)
        return found

    # ---- the server

    async def check(self) -> None:
        """Permanent unless the server has transactions and lets us in."""
        hello = await self.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise Permanent(
                "a server alone has no transactions",
                where=self._where.shown,
                fix="start mongod with --replSet and run rs.initiate(), one server is enough",
            )

    async def command(self, name: str, value: object = 1, **more: object) -> Document:
        """Run a command on the database."""
        async with self._translated():
            found: Document = await self._database.command(name, value, **more)
        return found

    async def collections(self) -> list[str]:
        """The names of those that there are."""
        async with self._translated():
            found: list[str] = await self._database.list_collection_names(authorizedCollections=True)
        return found

    async def create(self, collection: str) -> None:
        """Make *collection*; nothing where another one did meanwhile."""
        pymongo = driver()
        async with self._translated():
            with suppress(pymongo.errors.CollectionInvalid):
                try:
                    await self._database.create_collection(collection)
                except pymongo.errors.OperationFailure as error:
                    if error.code != _EXISTS:
                        raise

    async def unique_index(self, collection: str, fields: Sequence[str], *, create: bool) -> None:
        """Permanent unless there is a unique index on exactly *fields*; made if *create* says so."""
        place = self._in(collection)
        async with self._translated():
            if create:
                await place.create_index([(name, 1) for name in fields], unique=True)
            indexes = await place.index_information()
        exact = (
            index.get("unique")
            and "partialFilterExpression" not in index
            and not index.get("sparse")
            and {name for name, _ in index["key"]} == set(fields)
            for index in indexes.values()
        )
        if not any(exact):
            raise Permanent(
                "there is no unique index on exactly the key's fields",
                where=f"{self._where.shown}.{collection}",
                got=", ".join(fields),
                fix="make one, or let the sink make it: create=True",
            )

    async def kill(self, names: Iterable[str]) -> None:
        """End the sessions, with their open transactions, of the applications *names* of this user."""
        stages = [
            {"$currentOp": {"idleSessions": True}},
            {"$match": {"appName": {"$in": list(names)}, "lsid": {"$exists": True}}},
        ]
        async with self._translated():
            cursor = await _settled(self._client.admin.aggregate(stages))
            ids = [_session_id(found["lsid"]["id"]) for found in await cursor.to_list(None)]
            others = [one for one in ids if one != self.id]
            if others:
                await self._client.admin.command("killSessions", others)

    @property
    def id(self) -> Mapping[str, Any]:
        """How the server knows this session."""
        found: Mapping[str, Any] = self._session.session_id
        return found

    async def forget(self, session: Mapping[str, Any]) -> None:
        """End an earlier session of ours: a transaction outlives its connection."""
        async with self._translated():
            await self._client.admin.command("killSessions", [dict(session)])

    async def close(self) -> None:
        """End the session if the server listens, and free the sockets in any case."""
        with suppress(Exception):
            await self._session.end_session()
        with suppress(Exception):
            await _closed(self._client)

    def abort(self) -> None:
        """Free the sockets as soon as the event loop gets to it."""

        async def closed() -> None:
            with suppress(Exception):
                await _closed(self._client)

        task = asyncio.get_running_loop().create_task(closed())
        _CLOSING.add(task)
        task.add_done_callback(_CLOSING.discard)

    def _in(self, collection: str) -> Any:
        return self._database[collection]

    @asynccontextmanager
    async def _translated(self, documents: Sequence[Document] = ()) -> AsyncIterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the one place that sorts them
            places = _too_large(error, documents)
            if places:
                raise _refused("too_large", self._where.shown, places) from None
            raise _of_rows(translate(error, self._where.shown)) from None


async def connect(where: Address, application: str) -> MongoSession:
    """A new session; Transient when no server can be reached now, Permanent when it says no."""
    try:
        make = motor_client() if where.driver == "motor" else driver().AsyncMongoClient
        client = make(
            where.uri, appname=application, type_registry=_registry(), uuidRepresentation="standard"
        )
        session = await _settled(client.start_session())
    except Exception as error:  # noqa: BLE001 - sorted in one place
        raise translate(error, where.shown) from None
    found = MongoSession(where, client, session)
    try:
        await found.check()
    except BaseException:
        await found.close()
        raise
    return found


async def _closed(client: Any) -> None:
    """motor says good-bye to the server while it holds up its caller."""
    if inspect.iscoroutinefunction(client.close):
        await client.close()
    else:
        await asyncio.to_thread(client.close)


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _of_rows(error: StreamcoreError) -> StreamcoreError:
    """The error of a writer of rows for one of documents."""
    if not isinstance(error, RefusedDocuments):
        return error
    place, code = next(iter(error.places.items()))
    return _refused(code, error.where or "", [place])


def _refused(code: str, where: str, places: Sequence[int]) -> RefusedRows:
    what = {
        "validation": "the collection's validator refuses the document",
        "duplicate_key": "a unique index has this key already",
        "too_large": "the document is larger than 16 MB",
    }
    return RefusedRows(
        what.get(code, "the server refuses the document"), code=code, where=where, places=places
    )


def _too_large(error: Exception, documents: Sequence[Document]) -> list[int]:
    """The places of documents above the limit, if that is what *error* says: it does not say where."""
    if isinstance(error, driver().errors.DocumentTooLarge) or getattr(error, "code", 0) in _LARGE:
        return [place for place, document in enumerate(documents) if _size(document) > _MOST_BYTES]
    return []


def _session_id(found: Any) -> Mapping[str, Any]:
    """As commands take it: they know no UUID."""
    from bson import Binary

    return {"id": found if isinstance(found, Binary) else Binary.from_uuid(found)}


def _size(document: Document) -> int:
    import bson

    return len(bson.encode(document, codec_options=_options()))


def _options() -> Any:
    from bson.binary import UuidRepresentation
    from bson.codec_options import CodecOptions

    return CodecOptions(type_registry=_registry(), uuid_representation=UuidRepresentation.STANDARD)


def _registry() -> Any:
    """How values that the driver does not know are written."""
    from bson import Decimal128
    from bson.codec_options import TypeRegistry

    def encode(value: Any) -> Any:
        if isinstance(value, Decimal):
            return Decimal128(value)
        if isinstance(value, dt.date):
            return dt.datetime(value.year, value.month, value.day)
        return value

    return TypeRegistry(fallback_encoder=encode)
