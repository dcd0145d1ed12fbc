"""Large sources of every system, made where they lie: by statements of the servers, by repeated blocks.

Rows are a whole number ``id`` (``_id`` in MongoDB) and a text, :data:`ROW_BYTES` together. Each maker is a
context manager that gives the source's URI and takes the data away at its end.
"""

from __future__ import annotations

import asyncio
import io
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import asyncpg
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import redis
from aiokafka.admin import AIOKafkaAdminClient

from streamcore.contracts import Records
from streamcore.formats import Json
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.services import mariadb
from tests.services.kafka import KafkaServer
from tests.services.mariadb import MariadbServer
from tests.services.mongo import MongoServer
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer
from tests.services.rest import rest_server
from tests.services.s3 import S3Server

ROW_BYTES = 1_000
_TEXT_BYTES = 960
_BLOCK_ROWS = 20_000
Maker = Callable[[Any, Path, int], AbstractContextManager[str]]


@dataclass(frozen=True)
class Large:
    """``server``: the fixture, and the module of tests.services, of what *make* is given; "": None.

    ``make(server, folder, rows)``.
    """

    make: Maker
    server: str = ""


def blocks(rows: int) -> Iterator[pl.DataFrame]:
    """Rows with texts that no format makes smaller, at most 20,000 at a time."""
    letters = np.random.default_rng(1).integers(97, 123, (_BLOCK_ROWS, _TEXT_BYTES), dtype=np.uint8)
    texts = pl.Series("text", [bytes(row).decode() for row in letters])
    for first in range(0, rows, _BLOCK_ROWS):
        count = min(_BLOCK_ROWS, rows - first)
        ids = pl.Series("id", range(first, first + count), pl.Int64)
        yield pl.DataFrame([ids, texts[:count]])


def _json(frame: pl.DataFrame) -> bytes:
    text = io.BytesIO()
    frame.write_ndjson(text)
    return text.getvalue()


# ---------------------------------------------------------------- files, objects and answers


@contextmanager
def csv_file(_: object, folder: Path, rows: int) -> Iterator[str]:
    path = folder / "large.csv"
    with path.open("wb") as file:
        file.write(b"id,text\n")
        for frame in blocks(rows):
            frame.write_csv(file, include_header=False)
    yield str(path)
    path.unlink()


@contextmanager
def json_file(_: object, folder: Path, rows: int) -> Iterator[str]:
    path = folder / "large.ndjson"
    with path.open("wb") as file:
        for frame in blocks(rows):
            file.write(_json(frame))
    yield str(path)
    path.unlink()


@contextmanager
def parquet_file(_: object, folder: Path, rows: int) -> Iterator[str]:
    path = folder / "large.parquet"
    schema = next(blocks(1)).to_arrow().schema
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as file:
        for frame in blocks(rows):
            file.write_table(frame.to_arrow().cast(schema))
    yield str(path)
    path.unlink()


@contextmanager
def s3_object(server: S3Server, folder: Path, rows: int) -> Iterator[str]:
    """JSON lines, uploaded in parts."""
    where: dict[str, Any] = {"Bucket": server.fresh_bucket()["BUCKET"], "Key": "large.ndjson"}
    client, parts = server.client, []
    where["UploadId"] = client.create_multipart_upload(**where)["UploadId"]
    for number, frame in enumerate(blocks(rows), 1):
        tag = client.upload_part(**where, PartNumber=number, Body=_json(frame))["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    del where["UploadId"]
    yield server.uri(f"{where['Bucket']}/{where['Key']}")
    client.delete_object(**where)


@contextmanager
def s3_parquet(server: S3Server, folder: Path, rows: int) -> Iterator[str]:
    where: dict[str, Any] = {"Bucket": server.fresh_bucket()["BUCKET"], "Key": "large.parquet"}
    with parquet_file(None, folder, rows) as path, open(path, "rb") as file:
        server.client.put_object(**where, Body=file)
    yield server.uri(f"{where['Bucket']}/{where['Key']}")
    server.client.delete_object(**where)


class _Rows(Sequence[object]):
    """So many rows, each made when it is asked for."""

    def __init__(self, rows: int) -> None:
        self._ids, self._text = range(1, rows + 1), "x" * _TEXT_BYTES

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> object: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[object]: ...
    def __getitem__(self, index: int | slice) -> object:
        if isinstance(index, slice):
            return [{"id": i, "text": self._text} for i in self._ids[index]]
        return {"id": self._ids[index], "text": self._text}


@contextmanager
def rest_collection(_: object, folder: Path, rows: int) -> Iterator[str]:
    """Pages of 1 MB; the server is in this process, so not in the one that replays."""
    with rest_server() as server:
        server.rows = _Rows(rows)
        yield f"{server.url}/by/page?pagination=page&page_size=1000&allow_private=true"


# ---------------------------------------------------------------- databases


@contextmanager
def postgres_table(server: PostgresServer, folder: Path, rows: int) -> Iterator[str]:
    dsn = server.fresh_database()

    async def run(*statements: str) -> None:
        connection = await asyncpg.connect(dsn)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(
        run(
            "create unlogged table large (id bigint primary key, text text)",
            f"insert into large select i, repeat(md5(i::text), {_TEXT_BYTES // 32}) "
            f"from generate_series(1, {rows}) i",
            "analyze large",
        )
    )
    yield f"{dsn}{'&' if '?' in dsn else '?'}table=large"
    asyncio.run(run("drop table large"))


@contextmanager
def mysql_table(server: MariadbServer, folder: Path, rows: int) -> Iterator[str]:
    dsn = server.fresh_database()
    mariadb.execute(
        dsn,
        "set sql_log_bin = 0",
        "create table large (id bigint primary key, text text) engine = InnoDB",
        f"insert into large select seq, repeat(md5(seq), {_TEXT_BYTES // 32}) from seq_1_to_{rows}",
    )
    yield f"{dsn}?table=large"
    mariadb.execute(dsn, "set sql_log_bin = 0", "drop table large")


@contextmanager
def sqlite_table(_: object, folder: Path, rows: int) -> Iterator[str]:
    path = folder / "large.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in (
            "pragma journal_mode = off",
            "pragma synchronous = off",
            "create table large (id integer primary key, text text)",
            f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows}) "
            f"insert into large select i, hex(randomblob({_TEXT_BYTES // 2})) from n",
        ):
            connection.execute(statement)
    yield f"sqlite:///{path}?table=large"
    path.unlink()


@contextmanager
def mongo_collection(server: MongoServer, folder: Path, rows: int) -> Iterator[str]:
    uri = server.fresh_database()
    with server.client() as client:
        database = client[uri.rpartition("/")[2].partition("?")[0]]
        step = 1_000
        seeds = [{"_id": n * step, "text": "x" * _TEXT_BYTES} for n in range(-(-rows // step))]
        database.seeds.insert_many(seeds)
        number = {"$range": ["$_id", {"$min": [rows, {"$add": ["$_id", step]}]}]}
        database.seeds.aggregate(
            [
                {"$project": {"number": number, "text": 1}},
                {"$unwind": "$number"},
                {"$project": {"_id": "$number", "id": "$number", "text": 1}},
                {"$out": "large"},
            ]
        )
        yield f"{uri}&collection=large"
        client.drop_database(database.name)


# ---------------------------------------------------------------- logs


@contextmanager
def kafka_topic(server: KafkaServer, folder: Path, rows: int) -> Iterator[str]:
    topic = f"large-{uuid.uuid4().hex[:8]}"

    async def fill() -> None:
        log = KafkaLog(KafkaConnection.parse(server.url))
        await log.create(topic, 2, {"retention.ms": "-1"})
        for frame in blocks(rows):
            keys = frame["id"].cast(pl.String).to_arrow().cast(pa.string()).cast(pa.binary())
            stamps = np.full(frame.height, 1_700_000_000_000)
            await (await log.append(topic, Records(Json().encode(frame), stamps, keys)))
        await log.close()

    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=server.bootstrap)
        await admin.start()
        await admin.delete_topics([topic])
        await admin.close()

    asyncio.run(fill())
    yield f"{server.url}/{topic}"
    asyncio.run(delete())


_ADD = """
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('XADD', KEYS[1], i .. '-0', 'id', i, 'text', ARGV[3])
end
"""


@contextmanager
def redis_stream(server: RedisServer, folder: Path, rows: int) -> Iterator[str]:
    url = server.fresh_database()
    with redis.Redis.from_url(url) as client:
        for first in range(1, rows + 1, _BLOCK_ROWS):
            last = min(first + _BLOCK_ROWS - 1, rows)
            client.eval(_ADD, 1, "large", str(first), str(last), "x" * _TEXT_BYTES)
        yield f"{url}?stream=large&fields=id,text"
        client.unlink("large")


LARGE: Mapping[str, Large] = {
    "csv": Large(csv_file),
    "json": Large(json_file),
    "parquet": Large(parquet_file),
    "sqlite": Large(sqlite_table),
    "s3": Large(s3_object, "s3"),
    "s3-parquet": Large(s3_parquet, "s3"),
    "rest": Large(rest_collection),
    "postgres": Large(postgres_table, "postgres"),
    "mysql": Large(mysql_table, "mariadb"),
    "mongodb": Large(mongo_collection, "mongo"),
    "kafka": Large(kafka_topic, "kafka"),
    "redis": Large(redis_stream, "redis"),
}
