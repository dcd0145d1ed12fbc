"""The fixtures' servers keep their promise: reachable on every listener, killed and started again."""

from __future__ import annotations

import ssl

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pymongo import MongoClient

from tests.services.kafka import KafkaServer, answers
from tests.services.mongo import MongoServer
from tests.services.postgres import PostgresServer


async def _make_topic(server: KafkaServer, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


def _client_options(server: KafkaServer, listener: str) -> dict[str, object]:
    if listener == "plain":
        return {"bootstrap_servers": server.bootstrap}
    context = ssl.create_default_context(cafile=server.ca_file)
    if listener == "ssl":
        return {"bootstrap_servers": server.ssl, "security_protocol": "SSL", "ssl_context": context}
    return {
        "bootstrap_servers": server.sasl_ssl,
        "security_protocol": "SASL_SSL",
        "ssl_context": context,
        "sasl_mechanism": listener,
        "sasl_plain_username": server.user,
        "sasl_plain_password": server.password,
    }


@pytest.mark.parametrize("listener", ["plain", "ssl", "SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
async def test_kafka_takes_and_gives_a_record_on_every_listener(kafka: KafkaServer, listener: str) -> None:
    if listener != "plain" and not (kafka.ssl and kafka.sasl_ssl):
        pytest.skip("TEST_KAFKA is given without its TLS listeners")
    topic = f"services-{listener}"
    await _make_topic(kafka, topic)
    options = _client_options(kafka, listener)
    producer = AIOKafkaProducer(**options)
    await producer.start()
    try:
        sent = await producer.send_and_wait(topic, b"row")
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(**options)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, sent.offset)
        record = await consumer.getone()
    finally:
        await consumer.stop()
    assert record.value == b"row"


async def test_kafka_keeps_ports_and_records_over_kill_and_start(own_kafka: KafkaServer) -> None:
    address, first = own_kafka.bootstrap, own_kafka.pid
    await _make_topic(own_kafka, "kept")
    own_kafka.kill()
    assert not answers(address)
    own_kafka.start()
    assert own_kafka.pid != first
    assert own_kafka.bootstrap == address
    consumer = AIOKafkaConsumer(bootstrap_servers=address)
    await consumer.start()
    try:
        assert "kept" in await consumer.topics()
    finally:
        await consumer.stop()


async def test_postgres_answers_over_plain_tcp_and_over_verified_tls(postgres: PostgresServer) -> None:
    question = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
    answers_of = {}
    for name, dsn in (("plain", postgres.dsn), ("tls", postgres.tls_dsn)):
        connection = await asyncpg.connect(dsn)
        answers_of[name] = await connection.fetchval(question)
        await connection.close()
    assert answers_of["tls"] is True
    assert answers_of["plain"] is False or "sslmode=disable" not in postgres.dsn


async def test_postgres_gives_databases_that_share_nothing(postgres: PostgresServer) -> None:
    first, second = postgres.fresh_database(), postgres.fresh_database()
    one = await asyncpg.connect(first)
    await one.execute("create table t (a int)")
    two = await asyncpg.connect(second)
    assert await two.fetchval("select to_regclass('t')") is None
    await one.close()
    await two.close()


async def test_postgres_keeps_port_and_rows_over_kill_and_start(own_postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(own_postgres.dsn)
    await connection.execute("create table kept (a int)")
    await connection.execute("checkpoint")
    first = own_postgres.pid
    own_postgres.kill()
    connection.terminate()
    with pytest.raises(ConnectionError):
        await asyncpg.connect(own_postgres.dsn, timeout=5)
    own_postgres.start()
    assert own_postgres.pid != first
    connection = await asyncpg.connect(own_postgres.dsn)
    assert await connection.fetchval("select count(*) from kept") == 0
    await connection.close()


def test_mongo_answers_over_plain_tcp_and_over_verified_tls(mongo: MongoServer) -> None:
    for uri in (mongo.uri(), mongo.tls_uri()):
        with MongoClient(uri) as client:
            assert client.admin.command("hello")["isWritablePrimary"]


def test_mongo_keeps_port_and_rows_over_kill_and_start(own_mongo: MongoServer) -> None:
    first = own_mongo.pid
    with own_mongo.client() as client:
        client.test.kept.insert_one({"_id": 1})
    own_mongo.kill()
    own_mongo.start()
    assert own_mongo.pid != first
    with own_mongo.client() as client:
        assert client.test.kept.count_documents({}) == 1
