"""MongoDB read in ranges of ``_id``, reply by reply. For worker threads: pymongo's client is synchronous."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

from streamcore.errors import BadConfig, Permanent
from streamcore.systems.mongo import Address, driver, translate
from streamcore.systems.mongo_documents import (
    ID,
    Document,
    Reply,
    codec,
    id_of,
    id_text,
    one_by_one,
    query_of,
)

_AT_ONCE = 1_000
"""Documents that become JSON together."""
APPLICATION = "streamcore replay"
_REFUSED_QUERIES = (2, 9, 168, 17287, 31249, 31254, 51075)
"""Codes of the server for filters and projections that it does not take."""


class Asked(NamedTuple):
    """What is read of *collection*: documents that *query* takes, of them *columns* (None: all)."""

    collection: str
    query: str
    columns: Sequence[str] | None

    @property
    def with_id(self) -> bool:
        """Whether the id is among the columns."""
        return self.columns is None or ID in self.columns

    @property
    def fields(self) -> Document | None:
        """What is fetched: always the id too."""
        return None if self.columns is None else dict.fromkeys([ID, *self.columns], 1)


_Documents: TypeAlias = "tuple[list[Document], dict[int, bytes]]"
"""Documents, at least one, and the BSON of those at the places where a text is not UTF-8."""


class ReadClient:
    """Connections to the servers of *where*, made when they are needed. Their errors are ours."""

    def __init__(self, where: Address, application: str = APPLICATION) -> None:
        self._where = where
        with self._translated():
            self._client = driver().MongoClient(where.uri, appname=application, tz_aware=False)
            self._database = self._client[where.database]

    def collections(self) -> dict[str, str]:
        """The names of all collections that this user may see, with what they are: "collection", "view", …"""
        with self._translated():
            found = self._database.list_collections(authorizedCollections=True, nameOnly=True)
            kinds = {str(one["name"]): str(one.get("type", "collection")) for one in found}
        return {name: kinds[name] for name in sorted(kinds) if not name.startswith("system.")}

    def check(self, asked: Asked) -> None:
        """BadConfig where the server takes no such filter or columns; Permanent where it may not be read."""
        query = query_of(asked.query, self._where.shown)
        find = {"find": asked.collection, "filter": query, "projection": asked.fields or {}}
        errors = driver().errors
        try:
            with self._translated():
                try:
                    self._database.command("explain", find, verbosity="queryPlanner")
                except errors.OperationFailure as error:
                    if error.code in _REFUSED_QUERIES:
                        reason = str((error.details or {}).get("errmsg", "")).splitlines()[0]
                        raise BadConfig(
                            f"the server does not take filter or columns: {reason}",
                            where=self._where.shown,
                            got=asked.query,
                            fix='write it as for find(), e.g. {"age": {"$gte": 18}}',
                        ) from None
                    raise
        except Permanent as error:
            raise Permanent(
                error.what, where=f"{self._where.shown}.{asked.collection}", fix=error.fix
            ) from None

    def size(self, collection: str) -> tuple[int, int]:
        """About how many documents there are, and the bytes of one; (0, 0) where this user may not know."""
        stages: list[Document] = [{"$collStats": {"storageStats": {}}}]
        try:
            with self._translated():
                (found,) = self._database[collection].aggregate(stages)
        except Permanent:
            return 0, 0
        stats = found["storageStats"]
        return int(stats.get("count", 0)), int(stats.get("avgObjSize", 0))

    def ids(self, collection: str, sample: int | None) -> Sequence[str]:
        """All ids in their order, or of *sample* documents at random."""
        stages: list[Document] = [{"$sample": {"size": sample}}] if sample else []
        stages += [{"$project": {ID: 1}}, {"$sort": {ID: 1}}]
        with self._translated():
            return [id_text(one[ID]) for one in self._database[collection].aggregate(stages)]

    def replies(
        self, asked: Asked, behind: str | None, until: str | None, rows: int, max_bytes: int
    ) -> Iterator[Reply]:
        """About *rows* documents behind *behind* and below *until*, by their ids, *max_bytes* at a time.

        The bounds are those of the index: MongoDB's ``$gt`` sees ids of its operand's type only.
        """
        options: Document = {"sort": [(ID, 1)], "hint": [(ID, 1)], "limit": rows + 1}
        if until is not None:
            options["max"] = {ID: id_of(until)}
        reply, size = Reply([], [], {}), 0
        for documents, broken in self._behind(asked, options, behind):
            size += reply.add(documents, asked.with_id, broken)
            if size >= max_bytes:
                yield reply
                reply, size = Reply([], [], {}), 0
        if reply.texts:
            yield reply

    def last(self, asked: Asked, until: str) -> Iterator[Reply]:
        """The document *until*, if it is there and asked for."""
        reply, options = Reply([], [], {}), {"min": {ID: id_of(until)}, "hint": [(ID, 1)], "limit": 1}
        for documents, broken in self._documents(asked, options):
            if id_text(documents[0][ID]) == until:
                reply.add(documents, asked.with_id, broken)
                yield reply

    def _behind(self, asked: Asked, options: Document, behind: str | None) -> Iterator[_Documents]:
        """What *options* give above the id *behind*: with that itself the index begins."""
        if behind is not None:
            options = {**options, "min": {ID: id_of(behind)}}
        for documents, broken in self._documents(asked, options):
            if behind is not None and id_text(documents[0][ID]) == behind:
                documents = documents[1:]
                broken = {at - 1: bson for at, bson in broken.items() if at}
            behind = None
            if documents:
                yield documents, broken

    def _documents(self, asked: Asked, options: Document) -> Iterator[_Documents]:
        """What the query finds, some documents at a time.

        The driver refuses a whole reply for one text that is not UTF-8. Then the rest is asked for once more,
        as BSON that is decoded document by document.
        """
        from bson.errors import InvalidBSON

        place = self._database[asked.collection].with_options(codec_options=codec())
        find, last = query_of(asked.query, self._where.shown), None
        with self._translated():
            try:
                with place.find(find, asked.fields, **options) as cursor:
                    while documents := cursor.to_list(_AT_ONCE):
                        last = {ID: documents[-1][ID]}
                        yield documents, {}
                return
            except InvalidBSON:
                if last is not None:
                    options = {**options, "min": last}
            for data in place.find_raw_batches(find, asked.fields, **options):
                documents, broken = one_by_one(data)
                if last is not None and documents and documents[0][ID] == last[ID]:
                    documents, broken = documents[1:], {at - 1: bson for at, bson in broken.items() if at}
                last = None
                if documents:
                    yield documents, broken

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the one place that sorts them
            raise translate(error, self._where.shown) from None
