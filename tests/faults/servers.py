"""The servers of fault runs by name, and how each is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from tests.faults import http_target
from tests.faults.http_target import HttpServer
from tests.services import kafka, mariadb, mongo, postgres, redis, s3
from tests.services.kafka import KafkaServer
from tests.services.mariadb import MariadbServer
from tests.services.mongo import MongoServer
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer
from tests.services.s3 import S3Server
from tests.services.server import Server

STARTS: Mapping[str, Callable[[], Server]] = {
    "kafka": kafka.start,
    "postgres": postgres.start,
    "mariadb": partial(mariadb.start, "--skip-log-bin"),  # a full disk would stop its log for a minute
    "mongo": mongo.start,
    "s3": s3.start,
    "redis": redis.start,
    "http": http_target.start,
}


@dataclass
class Servers:
    """The servers of a run; those that a fault kills must be the run's own."""

    kafka: KafkaServer
    postgres: PostgresServer | None = None
    s3: S3Server | None = None
    mariadb: MariadbServer | None = None
    mongo: MongoServer | None = None
    redis: RedisServer | None = None
    http: HttpServer | None = None

    def of(self, name: str) -> Server:
        """The server *name*, which is there."""
        found = getattr(self, name)
        assert isinstance(found, Server), f"this run has no {name}"
        return found
