"""The sinks under fault runs: for each its target, what it needs, and where a fault strikes it, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.faults.http_target import HttpTarget
from tests.faults.s3_target import BucketTarget
from tests.faults.servers import Servers
from tests.faults.table_targets import MongoTarget, MysqlTarget, RedisTarget, SqliteTarget
from tests.faults.targets import ExactTopicTarget, FilesTarget, PostgresTarget, Target, TopicTarget

_ANYWHERE, _BEFORE = "", "pipeline.before_sinks"
_FILES = ("files.before_seal", "files.after_seal", "files.after_outputs")
_UPLOADS = (b"/_seals/", b"?uploads", b"partNumber=", b"<CompleteMultipartUpload")


class Place(NamedTuple):
    """Where a run has its target: servers, a folder, the run's name and the topic that it reads."""

    servers: Servers
    folder: Path
    name: str
    topic: str


@dataclass(frozen=True)
class SinkUnderTest:
    """``server``: by name, whose death is a fault. ``points``: the sink's own crash points.

    ``stops``: where a zombie stands still. ``replies``: parts of the requests whose replies are lost;
    ``lost``: what that kind of fault is called.
    ``disk``: megabytes of a disk that holds what is written, and is filled; 0: it can't be.
    """

    target: Callable[[Place], Target]
    points: tuple[str, ...]
    stops: tuple[str, ...]
    server: str = ""
    replies: tuple[bytes, ...] = ()
    lost: str = "reply lost"
    disk: int = 0


def _postgres(place: Place) -> Target:
    assert place.servers.postgres is not None
    return PostgresTarget(place.servers.postgres.fresh_database(), place.topic)


def _mysql(place: Place) -> Target:
    assert place.servers.mariadb is not None
    return MysqlTarget(place.servers.mariadb.fresh_database(), place.topic)


def _sqlite(place: Place) -> Target:
    return SqliteTarget(place.folder / "effects.db", place.topic)


def _mongodb(place: Place) -> Target:
    assert place.servers.mongo is not None
    return MongoTarget(place.servers.mongo, place.name, place.topic)


def _redis(place: Place) -> Target:
    assert place.servers.redis is not None
    return RedisTarget(place.servers.redis.url, place.name, place.topic)


def _files(place: Place) -> Target:
    return FilesTarget(place.folder / "out", place.topic)


def _s3(place: Place) -> Target:
    assert place.servers.s3 is not None
    return BucketTarget(place.servers.s3, place.topic)


def _http(place: Place) -> Target:
    assert place.servers.http is not None
    return HttpTarget(place.servers.http, place.servers.kafka.bootstrap, place.name, place.topic)


def _topic(place: Place) -> Target:
    return TopicTarget(place.servers.kafka.bootstrap, f"{place.name}.out", place.name, place.topic)


def _exact_topic(place: Place) -> Target:
    return ExactTopicTarget(place.servers.kafka.bootstrap, f"{place.name}.out", place.name, place.topic)


def _table(
    target: Callable[[Place], Target], system: str, server: str, disk: int, commit: bytes = b"COMMIT"
) -> SinkUnderTest:
    points = (f"{system}.before_commit", f"{system}.after_commit")
    return SinkUnderTest(
        target, points, (_ANYWHERE, _BEFORE, points[0]), server, (commit,), "commit reply lost", disk
    )


SINKS: Mapping[str, SinkUnderTest] = {
    "postgres": _table(_postgres, "postgres", "postgres", disk=512),
    "mysql": _table(_mysql, "mysql", "mariadb", disk=512),
    "mongodb": _table(_mongodb, "mongodb", "mongo", disk=512, commit=b"commitTransaction"),
    "redis": _table(_redis, "redis", "redis", disk=128, commit=b"EVALSHA"),
    # Who stands still inside of a transaction of SQLite holds the file, and nobody can end it. Behind a
    # commit none is open; anywhere else another flush may be under way.
    "sqlite": SinkUnderTest(
        _sqlite,
        ("sqlite.before_commit", "sqlite.after_commit"),
        ("sqlite.after_commit",),
        disk=64,
    ),
    "files": SinkUnderTest(_files, _FILES, (_ANYWHERE, _BEFORE, _FILES[0]), disk=64),
    "s3": SinkUnderTest(_s3, _FILES, (_ANYWHERE, _BEFORE, _FILES[0]), "s3", _UPLOADS, disk=128),
    "http": SinkUnderTest(
        _http,
        ("http.answered", "http.confirmed"),
        (_ANYWHERE, _BEFORE, "http.answered"),
        "http",
        (b"POST /",),
    ),
    "topic": SinkUnderTest(_topic, ("topic.confirmed",), (_ANYWHERE, _BEFORE, "topic.confirmed")),
    "topic-exact": SinkUnderTest(
        _exact_topic,
        ("topic.before_commit", "topic.after_commit"),
        (_ANYWHERE, _BEFORE, "topic.before_commit"),
    ),
}
