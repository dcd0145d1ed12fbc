"""MongoDB collections as bounded streams: ``mongodb://…/shop?collection=users``.

Documents come in the order of ``_id``, in ranges of it that are read side by side. An ``_id`` never changes,
and a range is read along its index: a document that is there all the while comes exactly once, however
others write meanwhile, as it is when it is read. One that is inserted or deleted meanwhile may come or not.

Each page is asked for anew behind the last ``_id``, so no cursor of the server can end under a slow reader.
Documents are JSON for the stream's decoder: its schema, not a sample of the collection, says what is read. Of
their BSON it takes columns where those say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from batch_adapters.bson_documents import BsonPage
from batch_adapters.documents import RECORD_BYTES
from batch_adapters.key_ranges import Key, KeyRange, Pages, TableSource
from batch_adapters.table_options import MarkOptions
from streamcore.errors import BadConfig, did_you_mean
from streamcore.systems.mongo import Address, Driver, address
from streamcore.systems.mongo_documents import ID
from streamcore.systems.mongo_reading import Asked, ReadClient

_MOST_ROWS, _USUAL_BYTES = 50_000, 500
_SAMPLED_ROWS, _SAMPLE = 20_000, 2_000
"""A collection of more documents is cut by a sample of so many."""


class DriverOption(BaseModel):
    """By which driver MongoDB is read."""

    driver: Driver = Field("pymongo", description="motor: by motor (streamcore[motor]) instead of pymongo.")


class MongoOptions(DriverOption):
    """Options of a collection, beside those of the connection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str | None = Field(None, description="The collection; the only one unless given.")
    filter: str = Field("{}", description='Which documents, as for find(): {"age": {"$gte": 18}}.')
    columns: str | None = Field(None, description="Fields to read: a,b. All unless given.")

    @property
    def fields(self) -> list[str] | None:
        """``columns``, one by one."""
        return None if self.columns is None else [name.strip() for name in self.columns.split(",")]


class IncrementalMongoOptions(MongoOptions, MarkOptions):
    """Options of collections that can be read in runs."""


def open_mongodb(uri: str, options: MongoOptions) -> TableSource:
    """The source that *options* say, checked: BadConfig when there is no such collection, or a bad filter."""
    where = address(uri, options.driver)
    client = ReadClient(where)
    try:
        asked = asked_of(client, where, options)
        return TableSource(MongoCollection(where, asked, client.size(asked.collection)))
    finally:
        client.close()


def asked_of(client: ReadClient, where: Address, options: MongoOptions, mark: str = ID) -> Asked:
    """What *options* say, in the order of *mark* and the id; BadConfig as of :func:`open_mongodb`."""
    name = chosen(client.collections(), options.collection, where.shown)
    asked = Asked(name, options.filter, options.fields, tuple(dict.fromkeys([mark, ID])))
    client.check(asked)
    return asked


def chosen(there: Mapping[str, str], name: str | None, where: str) -> str:
    """The collection *name*, or the only one, of *there* (names and kinds). BadConfig when it is none."""
    names = [found for found, kind in there.items() if kind == "collection"]
    name = name or _only(names, where)
    kind = there.get(name)
    if kind != "collection":
        raise BadConfig(
            f"a {kind} has no index of _id to be read by"
            if kind
            else "there is no such collection, or this user may not see it",
            where=where,
            got=name,
            allowed=names[:20],
            fix=did_you_mean(name, names) or "name one that there is",
        )
    return name


def _only(names: Sequence[str], where: str) -> str:
    if len(names) == 1:
        return names[0]
    what = "which collection is meant?" if names else "there is no collection that may be seen"
    raise BadConfig(what, where=where, allowed=names, fix="add ?collection=NAME")


class MongoCollection:
    """A ``KeyedTable`` of MongoDB; ``size`` is about how many documents there are, and the bytes of one."""

    def __init__(self, where: Address, asked: Asked, size: tuple[int, int]) -> None:
        self._where, self._asked, self._name = where, asked, asked.collection
        self._about, self._bytes = size

    @property
    def uri(self) -> str:
        return f"{self._where.shown}?collection={self._name}"

    def identity(self) -> str:
        """The collection, the filter and the columns."""
        return "\0".join([self.uri, self._asked.query, *(self._asked.columns or ())])

    def columns(self) -> pl.Schema | None:
        """None: documents have no fixed columns."""
        return None

    def rows(self) -> int:
        return self._about

    def borders(self, parts: int) -> Sequence[Key]:
        """Ids at equal distances among all, or among a sample of a large collection's."""
        client = ReadClient(self._where)
        try:
            ids = client.ids(self._name, _SAMPLE if self._about > _SAMPLED_ROWS else None)
        finally:
            client.close()
        chosen = [ids[len(ids) * n // parts] for n in range(1, parts) if len(ids) * n // parts > 0]
        return [(text,) for text in dict.fromkeys(chosen)]

    def read(self, part: KeyRange, max_bytes: int) -> Pages:
        client = ReadClient(self._where)
        try:
            yield from self.pages(client, part, max_bytes)
        finally:
            client.close()

    def pages(self, client: ReadClient, part: KeyRange, max_bytes: int) -> Pages:
        """The documents of *part* as *client* reads them."""
        rows = max(1, min(max_bytes // ((self._bytes or _USUAL_BYTES) + RECORD_BYTES), _MOST_ROWS))
        asked, behind = self._asked, part.behind
        if behind is not None and behind == part.until:
            return
        while len(found := client.page(asked, behind, part.until, rows)):
            for piece in found.cut(max_bytes, RECORD_BYTES):
                page = BsonPage(piece, asked.key, asked.hidden)
                behind = page.last_key()
                yield page
        if part.until is not None and len(found := client.last(asked, part.until)):
            yield BsonPage(found, asked.key, asked.hidden)
