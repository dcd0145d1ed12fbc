"""Fixtures of real servers for all tests, and the rules of a run: skips, the share of slow tests, and that
examples of properties have no deadline, since a machine may stand still for a moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from hypothesis import settings

from tests.services import kafka as kafka_service
from tests.services import mariadb as mariadb_service
from tests.services import mongo as mongo_service
from tests.services import postgres as postgres_service
from tests.services import prometheus as prometheus_service
from tests.services import redis as redis_service
from tests.services import registry as registry_service
from tests.services import s3 as s3_service
from tests.services.containers import engine_answers
from tests.services.kafka import KafkaServer
from tests.services.mariadb import MariadbServer
from tests.services.mongo import MongoServer
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer
from tests.services.registry import RegistryServer
from tests.services.s3 import S3Server
from tests.services.server import Server, Unavailable

pytest_plugins = ["tests.plugins.share", "tests.plugins.skips", "tests.plugins.laws"]
settings.register_profile("tests", parent=settings(), deadline=None)
settings.load_profile("tests")

INSTALLS = {
    "kafka": kafka_service.install,
    "own_kafka": kafka_service.install,
    "mariadb": mariadb_service.install,
    "own_mariadb": mariadb_service.install,
    "mongo": mongo_service.install,
    "own_mongo": mongo_service.install,
    "postgres": postgres_service.install,
    "own_postgres": postgres_service.install,
    "promtool": prometheus_service.install,
    "redis": redis_service.install,
    "own_redis": redis_service.install,
    "registry": registry_service.install,
    "own_registry": registry_service.install,
    "s3": s3_service.install,
    "own_s3": s3_service.install,
}
ServerT = TypeVar("ServerT", bound=Server)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install what the tests need before the first one runs: their time limit is no measure of a download."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if engine_answers():
        wanted -= {"kafka", "own_kafka", "postgres", "own_postgres"}  # these come as images
    for install in {INSTALLS[name] for name in wanted & INSTALLS.keys()}:
        with contextlib.suppress(Unavailable):  # the fixture says it again, as the reason of a skip
            install()


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """The session's broker; do not stop it, use ``own_kafka`` for that."""
    yield from _running(lambda: kafka_service.from_environment() or kafka_service.start())


@pytest.fixture
def own_kafka() -> Iterator[KafkaServer]:
    """A broker for this test alone, which may kill it."""
    yield from _running(kafka_service.start)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """The session's MariaDB; do not stop it, use ``own_mariadb`` for that."""
    yield from _running(lambda: mariadb_service.from_environment() or mariadb_service.start())


@pytest.fixture
def own_mariadb() -> Iterator[MariadbServer]:
    """A MariaDB for this test alone, which may kill it."""
    yield from _running(mariadb_service.start)


@pytest.fixture(scope="session")
def mongo() -> Iterator[MongoServer]:
    """The session's MongoDB; do not stop it, use ``own_mongo`` for that."""
    yield from _running(lambda: mongo_service.from_environment() or mongo_service.start())


@pytest.fixture
def own_mongo() -> Iterator[MongoServer]:
    """A MongoDB for this test alone, which may kill it."""
    yield from _running(mongo_service.start)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's PostgreSQL; do not stop it, use ``own_postgres`` for that."""
    yield from _running(lambda: postgres_service.from_environment() or postgres_service.start())


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone, which may kill it."""
    yield from _running(postgres_service.start)


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """The session's Redis; do not stop it, use ``own_redis`` for that."""
    yield from _running(lambda: redis_service.from_environment() or redis_service.start())


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis for this test alone, which may kill it."""
    yield from _running(redis_service.start)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """The session's S3; do not stop it, use ``own_s3`` for that."""
    yield from _running(lambda: s3_service.from_environment() or s3_service.start())


@pytest.fixture
def own_s3() -> Iterator[S3Server]:
    """An S3 for this test alone, which may kill it."""
    yield from _running(s3_service.start)


@pytest.fixture(scope="session")
def registry() -> Iterator[RegistryServer]:
    """The session's schema registry; do not stop it, use ``own_registry`` for that."""
    yield from _running(lambda: registry_service.from_environment() or registry_service.start())


@pytest.fixture
def own_registry() -> Iterator[RegistryServer]:
    """A schema registry for this test alone, which may stop it: what was registered is gone then."""
    yield from _running(registry_service.start)


@pytest.fixture(scope="session")
def promtool() -> str:
    """The name of Prometheus' promtool."""
    try:
        return prometheus_service.install()
    except Unavailable as error:
        pytest.skip(str(error))


def _running(start: Callable[[], ServerT]) -> Iterator[ServerT]:
    try:
        server = start()
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.close()
