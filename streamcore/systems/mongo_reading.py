"""MongoDB read in ranges of ``_id``, reply by reply. For worker threads, which wait for each reply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

from streamcore.errors import BadConfig, Permanent
from streamcore.systems.bson_documents import Documents
from streamcore.systems.mongo import Address, driver, translate
from streamcore.systems.mongo_clients import client_of
from streamcore.systems.mongo_documents import ID, Document, id_of, id_text, key_of, query_of, raw_codec

APPLICATION = "streamcore replay"
_REFUSED_QUERIES = (2, 9, 168, 17287, 31249, 31254, 51075)
"""Codes of the server for filters and projections that it does not take."""


Key: TypeAlias = "tuple[str, ...]"


class Asked(NamedTuple):
    """What is read of *collection*: documents that *query* takes, of them *columns* (None: all).

    They come in the order of an index of *key*, whose last field is the id.
    """

    collection: str
    query: str
    columns: Sequence[str] | None
    key: tuple[str, ...] = (ID,)

    @property
    def hidden(self) -> Sequence[str]:
        """What is fetched for the key alone."""
        return () if self.columns is None else [name for name in self.key if name not in self.columns]

    @property
    def fields(self) -> Document | None:
        """What is fetched: always the key too, and the id."""
        return None if self.columns is None else dict.fromkeys([ID, *self.key, *self.columns], 1)

    def bound(self, key: Sequence[str]) -> Document:
        """*key* as a bound of the index."""
        return {name: id_of(text) for name, text in zip(self.key, key, strict=True)}


class ReadClient:
    """Connections to the servers of *where*, made when they are needed. Their errors are ours."""

    def __init__(self, where: Address, application: str = APPLICATION) -> None:
        self._where = where
        with self._translated():
            self._client = client_of(where, application)
            self._database = self._client.database(where.database, self.how())

    def how(self) -> Mapping[str, object]:
        """Read preference and read concern, if they are not those of the URI."""
        return {}

    def collections(self) -> dict[str, str]:
        """The names of all collections that this user may see, with what they are: "collection", "view", …"""
        with self._translated():
            found = self._client.rows(
                self._database.list_collections, authorizedCollections=True, nameOnly=True
            )
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
                    self._client.value(self._database.command, "explain", find, verbosity="queryPlanner")
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
                (found,) = self._client.rows(self._database[collection].aggregate, stages)
        except Permanent:
            return 0, 0
        stats = found["storageStats"]
        assert isinstance(stats, dict)
        return int(stats.get("count", 0)), int(stats.get("avgObjSize", 0))

    def ids(self, collection: str, sample: int | None) -> Sequence[str]:
        """All ids in their order, or of *sample* documents at random."""
        stages: list[Document] = [{"$sample": {"size": sample}}] if sample else []
        stages += [{"$project": {ID: 1}}, {"$sort": {ID: 1}}]
        with self._translated():
            found = self._client.rows(self._database[collection].aggregate, stages)
        return [id_text(one[ID]) for one in found]

    def page(self, asked: Asked, behind: Key | None, until: Key | None, rows: int) -> Documents:
        """At most *rows* documents behind the key *behind* and below *until*, in its order; none at the end.

        The bounds are those of the index: MongoDB's ``$gt`` sees ids of its operand's type only.
        """
        bounds: Document = {} if until is None else {"max": asked.bound(until)}
        if behind is None:
            return self._found(asked, {**bounds, "limit": rows})
        found = self._found(asked, {**bounds, "min": asked.bound(behind), "limit": rows + 1})
        # The index begins with that key itself.
        again = len(found) and key_of(found.pick([0]), asked.key) == behind
        return found.part(1, len(found)) if again else found

    def last(self, asked: Asked, until: Key) -> Documents:
        """The document *until*, if it is there and asked for."""
        found = self._found(asked, {"min": asked.bound(until), "limit": 1})
        return found if len(found) and key_of(found.pick([0]), asked.key) == until else found.part(0, 0)

    def query(self, asked: Asked, options: Document) -> Document:
        """The command for what the index has between bounds, at most ``limit`` of *options*, in one reply."""
        keys = dict.fromkeys(asked.key, 1)
        query: Document = {"find": asked.collection, "filter": query_of(asked.query, self._where.shown)}
        query |= {"projection": asked.fields or {}, "sort": keys, "hint": keys, **options}
        return {**query, "batchSize": options["limit"], "singleBatch": True}

    def _found(self, asked: Asked, options: Document) -> Documents:
        """What the query finds, as much of it as the server puts into one reply."""
        query = self.query(asked, options)
        if self._database.read_concern.document:
            query["readConcern"] = self._database.read_concern.document
        with self._translated():
            preference = self._database.read_preference
            said = self._client.value(
                self._database.command, query, read_preference=preference, codec_options=raw_codec()
            )
            return Documents.of_batch(bytes(said["cursor"].raw))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the one place that sorts them
            raise translate(error, self._where.shown) from None
