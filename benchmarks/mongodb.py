"""Rows a second of MongoDB's source and sink: ``python -m benchmarks.mongodb``, on a server of its own.

The rows of ``benchmarks.sinks`` (five fields) beside pymongo's plain ``find`` into Python documents, and
``find_raw_batches`` whose bytes are thrown away. The source is measured to its chunks, to the stream's
columns, and to JSON texts, as they go into Kafka. The sink is set beside ordered ``insert_many`` calls of the
same rows, which are Python documents before its clock starts, and beside the same in transactions of as many
rows.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import polars as pl
from pymongo import AsyncMongoClient, MongoClient, WriteConcern
from pymongo.collection import Collection

from batch_adapters.catalogue import open_source
from benchmarks.sinks import ROWS, batches, into, measured, rows
from benchmarks.sources import CHUNK, SOURCE, read
from streamcore.contracts import Split
from streamcore.formats import decoder_for
from streamcore.formats.json import Json
from streamcore.schema import StreamSchema
from streamcore.sinks import MongoDB
from tests.services import mongo

DATABASE, NAME = "bench", "rows"
_TOGETHER = 20_000
Documents = Collection[dict[str, object]]


def documents(frame: pl.DataFrame) -> list[dict[str, object]]:
    """*frame* as MongoDB's client takes it."""
    return frame.rename({"id": "_id"}).to_dicts()


def fill(collection: Documents, frame: pl.DataFrame) -> None:
    for part in frame.iter_slices(50_000):
        collection.insert_many(documents(part))


def decoded(split: Split) -> int:
    """Read all of *split* into the stream's columns; its rows."""
    schema = StreamSchema.from_columns(
        {"_id": "int64", "user": "string", "amount": "float64", "at": "datetime", "paid": "bool"}
    )
    decoder, reader, found = decoder_for(Json(), schema), split.open(SOURCE, 0, split.bookmark), 0
    while (chunk := reader.read(CHUNK)) is not None:
        found += decoder.decode(chunk).frame.height
    reader.close()
    return found


def as_json(split: Split) -> int:
    """Read all of *split* as JSON texts; its rows."""
    reader, found = split.open(SOURCE, 0, split.bookmark), 0
    while (chunk := reader.read(CHUNK)) is not None:
        found += len(chunk.values())
    reader.close()
    return found


async def sources(uri: str, collection: Documents) -> None:
    """The source beside pymongo's own reading."""

    async def ours(parts: int, work: Callable[[Split], int]) -> None:
        splits = open_source(f"{uri}&collection={NAME}").splits(parts)
        with ThreadPoolExecutor(parts) as threads:
            loop = asyncio.get_running_loop()
            found = await asyncio.gather(*(loop.run_in_executor(threads, work, split) for split in splits))
        assert sum(found) == ROWS

    async def raw() -> None:
        for _ in collection.find_raw_batches({}, sort=[("_id", 1)], batch_size=50_000):
            pass

    async def plain() -> None:
        """All documents, a page at a time, as a program that reads a large collection does."""
        cursor = collection.find({}, sort=[("_id", 1)], batch_size=50_000)
        while list(itertools.islice(cursor, 50_000)):
            pass

    async def share(name: str, work: Callable[[], Awaitable[None]]) -> None:
        rate = await measured(name, work)
        print(f"{'':42} {rate / base:12.0%} of find")

    await measured("find_raw_batches, thrown away", raw)
    base = await measured("pymongo's find", plain)
    await share("source, one range, its chunks", lambda: ours(1, read))
    await share("source, one range, to JSON", lambda: ours(1, as_json))
    await share("source, one range, to columns", lambda: ours(1, decoded))
    await share("source, two ranges, to columns", lambda: ours(2, decoded))


async def sink(uri: str, frame: pl.DataFrame) -> None:
    """The sink beside pymongo's own writing, both with the journal of a majority of one server."""
    held = frame.to_dicts()
    parts, columns = batches(frame), frame.schema
    async with AsyncMongoClient[dict[str, object]](uri) as client:
        target = client[DATABASE].out

        async def fresh() -> None:
            await client.drop_database(DATABASE)
            await client[DATABASE].create_collection("out")

        async def bare(transactions: bool) -> None:
            await fresh()
            for start in range(0, ROWS, _TOGETHER):
                part = [dict(document) for document in held[start : start + _TOGETHER]]
                if not transactions:
                    await target.with_options(write_concern=WriteConcern("majority")).insert_many(part)
                    continue
                async with client.start_session() as session, await session.start_transaction():
                    await target.insert_many(part, session=session)

        async def ours(key: str | None) -> None:
            await fresh()
            if key:
                await target.create_index(key, unique=True)
            await into(lambda: MongoDB("out", uri, key=key), parts, columns)()

        base = await measured("insert_many, ordered", lambda: bare(False))
        await measured("insert_many in transactions", lambda: bare(True))
        rate = await measured("MongoDB, append", lambda: ours(None))
        print(f"{'':42} {rate / base:12.0%} of insert_many")
        await measured("MongoDB, upsert, all new", lambda: ours("id"), best_of=1)


def main() -> None:
    server = mongo.start()
    try:
        with MongoClient[dict[str, object]](server.uri(DATABASE)) as client:
            fill(client[DATABASE][NAME], rows())
            asyncio.run(sources(server.uri(DATABASE), client[DATABASE][NAME]))
        asyncio.run(sink(server.uri(DATABASE), rows()))
    finally:
        server.close()


if __name__ == "__main__":
    main()
