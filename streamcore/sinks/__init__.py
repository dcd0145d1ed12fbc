"""Where rows go: the catalogue of sinks, ``sc.sinks.…``; ``open_sink`` makes one of a URI or a dictionary."""

from streamcore.sinks.catalogue import open_sink
from streamcore.sinks.files import Csv, Excel, JsonLines, Parquet
from streamcore.sinks.http import Http
from streamcore.sinks.mongodb import MongoDB
from streamcore.sinks.mysql import MySQL
from streamcore.sinks.postgres import Postgres
from streamcore.sinks.redis import RedisHash, RedisSortedSet, RedisStream
from streamcore.sinks.sqlite import SQLite
from streamcore.sinks.topic import Topic

__all__ = [
    "Csv",
    "Excel",
    "Http",
    "JsonLines",
    "MongoDB",
    "MySQL",
    "Parquet",
    "Postgres",
    "RedisHash",
    "RedisSortedSet",
    "RedisStream",
    "SQLite",
    "Topic",
    "open_sink",
]
