"""Sinks' addresses are tried on real servers: with the right credentials, and with wrong ones."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from streamcore.errors import Permanent
from streamcore.sinks import open_sink
from streamcore.sinks.reaching import reach
from tests.services.kafka import KafkaServer
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

    def address(base: str) -> str:
        return f"{base}{'&' if '?' in base else '?'}{option}=t"

    await reach(open_sink(address(uri)))
    if server == "postgres":
        connection = await asyncpg.connect(uri)
        tables = await connection.fetch("select 1 from pg_tables where schemaname = 'public'")
        await connection.close()
        assert tables == []
    with pytest.raises(Permanent) as refused:
        await reach(open_sink(address(with_password(uri, "s3cret"))))
    assert "s3cret" not in str(refused.value)


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
