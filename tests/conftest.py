"""Fixtures of real servers for all tests, and the two rules of a run: skips, and the share of slow tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.services import kafka as kafka_service
from tests.services import postgres as postgres_service
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer
from tests.services.server import Server, Unavailable

pytest_plugins = ["tests.plugins.share", "tests.plugins.skips"]

ServerT = TypeVar("ServerT", bound=Server)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """The session's broker; do not stop it, use ``own_kafka`` for that."""
    yield from _running(lambda: kafka_service.from_environment() or kafka_service.start())


@pytest.fixture
def own_kafka() -> Iterator[KafkaServer]:
    """A broker for this test alone, which may kill it."""
    yield from _running(kafka_service.start)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's PostgreSQL; do not stop it, use ``own_postgres`` for that."""
    yield from _running(lambda: postgres_service.from_environment() or postgres_service.start())


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone, which may kill it."""
    yield from _running(postgres_service.start)


def _running(start: Callable[[], ServerT]) -> Iterator[ServerT]:
    try:
        server = start()
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.close()
