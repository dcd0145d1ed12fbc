"""Fixtures of real servers, shared by all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.services import kafka as kafka_service
from tests.services import postgres as postgres_service
from tests.services.kafka import KafkaServer
from tests.services.native import Unavailable
from tests.services.postgres import PostgresServer

ServerT = TypeVar("ServerT", KafkaServer, PostgresServer)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """The session's broker; do not stop it, use ``own_kafka`` for that."""
    yield from _running(kafka_service.from_environment() or _start(kafka_service.start))


@pytest.fixture
def own_kafka() -> Iterator[KafkaServer]:
    """A broker for this test alone, which may kill it."""
    yield from _running(_start(kafka_service.start))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's PostgreSQL; do not stop it, use ``own_postgres`` for that."""
    yield from _running(postgres_service.from_environment() or _start(postgres_service.start))


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone, which may kill it."""
    yield from _running(_start(postgres_service.start))


def _start(start: Callable[[], ServerT]) -> ServerT:
    try:
        return start()
    except Unavailable as error:
        pytest.skip(str(error))


def _running(server: ServerT) -> Iterator[ServerT]:
    try:
        yield server
    finally:
        server.close()
