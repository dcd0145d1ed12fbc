"""Sinks' addresses are tried on real servers: with the right credentials, and with wrong ones."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from streamcore.errors import BadConfig, Permanent
from streamcore.sinks import open_sink
from streamcore.sinks.reaching import reach
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer
from tests.services.s3 import ACCESS_KEY, SECRET_KEY, S3Server

DATABASES = {"postgres": "table", "mariadb": "table", "mongo": "collection", "redis": "stream"}


def with_password(uri: str, password: str) -> str:
    parts = urlsplit(uri)
    login, _, host = parts.netloc.rpartition("@")
    user = login.partition(":")[0] or "nobody"
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))


@pytest.mark.parametrize(("server", "option"), DATABASES.items())
async def test_databases(server: str, option: str, request: pytest.FixtureRequest) -> None:
    uri = request.getfixturevalue(server).fresh_database()

    def address(base: str, more: str = "") -> str:
        return f"{base}{'&' if '?' in base else '?'}{option}=t{more}"

    await reach(open_sink(address(uri, "" if server == "redis" else "&create=true")))
    if server != "redis":  # whose keys are there when they are written
        with pytest.raises((BadConfig, Permanent), match=r"there is no|not exist|doesn.t exist"):
            await reach(open_sink(address(uri)))
    if server == "postgres":
        connection = await asyncpg.connect(uri)
        tables = await connection.fetch("select 1 from pg_tables where schemaname = 'public'")
        await connection.close()
        assert tables == []
    with pytest.raises(Permanent) as refused:
        await reach(open_sink(address(with_password(uri, "s3cret"))))
    assert "s3cret" not in str(refused.value)


async def test_who_may_not_write_to_a_table_is_told(postgres: PostgresServer) -> None:
    uri = postgres.fresh_database()
    connection = await asyncpg.connect(uri)
    await connection.execute("create table t (id int not null)")
    try:
        await reach(open_sink(f"{uri}&table=t"))
        assert await connection.fetchval("select count(*) from t") == 0
        await connection.execute("create role reads login password 'only'; grant select on t to reads")
        login = urlsplit(uri).netloc.rpartition("@")[0]
        with pytest.raises(Permanent, match="permission denied for table t"):
            await reach(open_sink(f"{uri.replace(login, 'reads:only')}&table=t"))
    finally:
        await connection.execute("drop owned by reads; drop role reads")
        await connection.close()


def test_files_of_sqlite(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as file:
        file.execute("create table t (id integer)")
    asyncio.run(reach(open_sink(f"sqlite:///{tmp_path}/a.db?table=t")))
    asyncio.run(reach(open_sink(f"sqlite:///{tmp_path}/a.db?table=u&create=true")))
    with pytest.raises(BadConfig, match="there is no table 'u'"):
        asyncio.run(reach(open_sink(f"sqlite:///{tmp_path}/a.db?table=u")))


async def test_topics(kafka: KafkaServer) -> None:
    await reach(open_sink(f"{kafka.url}/reached?create=true"))
    with pytest.raises(Permanent, match="topic reached does not exist"):
        await reach(open_sink(f"{kafka.url}/reached"))


async def test_buckets(s3: S3Server) -> None:
    bucket = s3.fresh_bucket()["BUCKET"]

    def uri(name: str, secret: str) -> str:
        keys = f"access_key={ACCESS_KEY}&secret_key={secret}&region=us-east-1"
        return f"s3://{name}/late?format=csv&endpoint={s3.endpoint}&{keys}"

    await reach(open_sink(uri(bucket, SECRET_KEY)))
    assert "Contents" not in s3.client.list_objects_v2(Bucket=bucket)
    for wrong in (uri(bucket, "s3cret"), uri(f"{bucket}-missing", SECRET_KEY)):
        with pytest.raises(Permanent) as refused:
            await reach(open_sink(wrong))
        assert "s3cret" not in str(refused.value)
