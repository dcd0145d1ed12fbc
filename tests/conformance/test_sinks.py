"""The sink conformance suite on every sink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import polars as pl
import pytest

from streamcore.sinks.files import Csv, Excel, JsonLines, Parquet
from streamcore.testing.sinks import (
    BreakableSinkConformance,
    MergeSinkConformance,
    RefusingSinkConformance,
    SinkConformance,
    UpsertSinkConformance,
)
from tests.conformance.mongo_targets import MongoTarget, ProxiedMongoTarget
from tests.conformance.mysql_targets import MysqlTarget, ProxiedMysqlTarget
from tests.conformance.postgres_targets import PostgresTarget, ProxiedTarget
from tests.conformance.redis_targets import (
    TAKEN,
    JsonStreamTarget,
    ProxiedHashTarget,
    ProxiedSortedSetTarget,
    ProxiedStreamTarget,
)
from tests.conformance.sink_targets import (
    FolderTarget,
    read_csv,
    read_excel,
    read_hive_parquet,
    read_json_lines,
    read_parquet,
)
from tests.conformance.sqlite_targets import SqliteTarget
from tests.conformance.topic_targets import EmbeddedTopicTarget, KafkaTopicTarget
from tests.services.kafka import KafkaServer
from tests.services.mariadb import MariadbServer
from tests.services.mongo import MongoServer
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer

FLAT_TYPES = {
    "i8": pl.Int8, "i16": pl.Int16, "i32": pl.Int32, "i64": pl.Int64, "u8": pl.UInt8, "u16": pl.UInt16,
    "u32": pl.UInt32, "u64": pl.UInt64, "f32": pl.Float32, "f64": pl.Float64, "bool": pl.Boolean,
    "text": pl.String, "enum": pl.Enum(["a", "b"]), "category": pl.Categorical(), "date": pl.Date,
    "time": pl.Time, "at": pl.Datetime("us"), "at_utc": pl.Datetime("ns", "UTC"),
    "decimal": pl.Decimal(20, 4),
}  # fmt: skip
NESTED_TYPES = {
    "list": pl.List(pl.Int64),
    "struct": pl.Struct({"a": pl.Int64, "b": pl.List(pl.String)}),
    "duration": pl.Duration("us"),
}
Types = Mapping[str, pl.DataType | type[pl.DataType]]


class TestParquet(SinkConformance):
    def target(self) -> FolderTarget:
        return FolderTarget(partial(Parquet, roll_seconds=30), "**/*.parquet", read_parquet)

    def every_type(self) -> Types:
        return {**FLAT_TYPES, **NESTED_TYPES, "bytes": pl.Binary}


class TestPartitionedParquet(SinkConformance, RefusingSinkConformance):
    """The same laws when one range makes many files; here rows can be refused, for their folder's name."""

    by_the_row = True

    def target(self) -> FolderTarget:
        make = partial(Parquet, partition_by=["name"], roll_seconds=30)
        return FolderTarget(make, "**/*.parquet", read_hive_parquet)

    def awkward(self) -> pl.DataFrame:
        return super().awkward().filter(pl.col("name").str.len_bytes().fill_null(0) < 80)

    def every_type(self) -> Types:
        return {**FLAT_TYPES, **NESTED_TYPES}

    def bad_values(self) -> Sequence[Mapping[str, object]]:
        return [{"name": "x" * 256}, {"name": "☃" * 30}, {"name": "__HIVE_DEFAULT_PARTITION__"}]


class TestCsv(SinkConformance):
    def target(self) -> FolderTarget:
        return FolderTarget(partial(Csv, roll_seconds=30), "**/*.csv", read_csv)

    def every_type(self) -> Types:
        return FLAT_TYPES

    def no_type(self) -> pl.DataType:
        return pl.Struct({"a": pl.Int64})


class TestJsonLines(SinkConformance):
    def target(self) -> FolderTarget:
        return FolderTarget(partial(JsonLines, roll_seconds=30), "**/*.jsonl", read_json_lines)

    def every_type(self) -> Types:
        return {**FLAT_TYPES, **NESTED_TYPES}

    def no_type(self) -> pl.DataType:
        return pl.List(pl.Binary())

    def read_back(self, frame: pl.DataFrame) -> pl.DataFrame:
        value = pl.col("value")
        return frame.with_columns(pl.when(value.is_finite()).then(value))


@pytest.mark.slow
class TestExcel(SinkConformance, RefusingSinkConformance):
    by_the_row = True

    def target(self) -> FolderTarget:
        return FolderTarget(partial(Excel, roll_seconds=30), "**/*.xlsx", read_excel)

    def awkward(self) -> pl.DataFrame:
        """But for what is refused, and U+FFFF, which is in no XML."""
        frame = super().awkward().filter(pl.col("name").str.len_chars().fill_null(0) < 32_768)
        return frame.with_columns(id=pl.int_range(pl.len()) + 2**53 - pl.len())

    def every_type(self) -> Types:
        return {name: dtype for name, dtype in FLAT_TYPES.items() if name not in ("at_utc", "decimal")}

    def no_type(self) -> pl.DataType:
        return pl.Datetime("us", "UTC")

    def read_back(self, frame: pl.DataFrame) -> pl.DataFrame:
        value = pl.col("value")
        return frame.with_columns(pl.when(value.is_finite()).then(value), pl.col("name").replace("", None))

    def bad_values(self) -> Sequence[Mapping[str, object]]:
        return [{"name": "x" * 32_768}, {"name": "\u2603" * 40_000}]


class _OnPostgres:
    """Awkward names of schema and table; numbers and texts as PostgreSQL holds them."""

    dsn: str

    @pytest.fixture(autouse=True)
    def _server(self, postgres: PostgresServer) -> None:
        self.dsn = postgres.dsn

    def every_type(self) -> Types:
        return {**FLAT_TYPES, **NESTED_TYPES, "bytes": pl.Binary}

    def bad_values(self) -> Sequence[Mapping[str, object]]:
        """Found in columns before they are sent; refused by the server's constraint."""
        return [{"name": "a\0b"}, {"name": "forbidden"}]


class TestPostgresAppend(_OnPostgres, SinkConformance, RefusingSinkConformance, BreakableSinkConformance):
    def target(self) -> ProxiedTarget:
        return ProxiedTarget(self.dsn)


class TestPostgresUpsert(
    _OnPostgres, SinkConformance, RefusingSinkConformance, BreakableSinkConformance, UpsertSinkConformance
):
    key = ("id",)

    def target(self) -> ProxiedTarget:
        return ProxiedTarget(self.dsn, key="id")


class _OnMysql:
    """Awkward names of schema and table; numbers as MySQL holds them."""

    dsn: str

    @pytest.fixture(autouse=True)
    def _server(self, mariadb: MariadbServer) -> None:
        self.dsn = mariadb.dsn

    def every_type(self) -> Types:
        return {**FLAT_TYPES, **NESTED_TYPES, "bytes": pl.Binary}

    def bad_values(self) -> Sequence[Mapping[str, object]]:
        """Found in columns before they are sent; refused by the server's constraint."""
        return [{"value": float("nan")}, {"name": "forbidden"}, {"value": float("-inf")}]

    def awkward(self) -> pl.DataFrame:
        value = pl.col("value")
        finite = pl.when(value.is_finite()).then(value)
        return super().awkward().with_columns(finite)  # type: ignore[misc]


@pytest.mark.slow
class TestMysqlAppend(_OnMysql, SinkConformance, RefusingSinkConformance, BreakableSinkConformance):
    def target(self) -> ProxiedMysqlTarget:
        return ProxiedMysqlTarget(self.dsn)


@pytest.mark.slow
class TestMysqlUpsert(
    _OnMysql, SinkConformance, RefusingSinkConformance, BreakableSinkConformance, UpsertSinkConformance
):
    key = ("id",)

    def target(self) -> ProxiedMysqlTarget:
        return ProxiedMysqlTarget(self.dsn, key="id")


class _OnSqlite:
    """An awkward name of the file and table."""

    def every_type(self) -> Types:
        return {**FLAT_TYPES, **NESTED_TYPES, "bytes": pl.Binary}

    def bad_values(self) -> Sequence[Mapping[str, object]]:
        """Found in columns, since SQLite would make a null of it; refused by SQLite's constraint."""
        return [{"value": float("nan")}, {"name": "forbidden"}]

    def awkward(self) -> pl.DataFrame:
        return super().awkward().with_columns(pl.col("value").fill_nan(None))  # type: ignore[misc]


@pytest.mark.slow
class TestSqliteAppend(_OnSqlite, SinkConformance, RefusingSinkConformance):
    def target(self) -> SqliteTarget:
        return SqliteTarget()


class TestSqliteUpsert(_OnSqlite, SinkConformance, RefusingSinkConformance, UpsertSinkConformance):
    key = ("id",)

    def target(self) -> SqliteTarget:
        return SqliteTarget(key="id")


class _OnMongo:
    """Awkward names; a validator refuses rows, which the server names one by one."""

    server: MongoServer

    @pytest.fixture(autouse=True)
    def _server(self, mongo: MongoServer) -> None:
        self.server = mongo

    def every_type(self) -> Types:
        return {**FLAT_TYPES, **NESTED_TYPES, "bytes": pl.Binary}

    def bad_values(self) -> Sequence[Mapping[str, object]]:
        return [{"name": "forbidden"}]


class TestMongoAppend(_OnMongo, SinkConformance, RefusingSinkConformance, BreakableSinkConformance):
    def target(self) -> ProxiedMongoTarget:
        return ProxiedMongoTarget(self.server)


@pytest.mark.slow
class TestMongoUpsert(
    _OnMongo, SinkConformance, RefusingSinkConformance, BreakableSinkConformance, UpsertSinkConformance
):
    key = ("id",)

    def target(self) -> ProxiedMongoTarget:
        return ProxiedMongoTarget(self.server, key="id")


@pytest.mark.slow
class TestMongoByMotor(TestMongoUpsert):
    """The same laws on the driver that has come to its end."""

    def target(self) -> ProxiedMongoTarget:
        return ProxiedMongoTarget(self.server, key="id", driver="motor")


class _OnRedis:
    """Awkward names of keys; what Redis refuses is seen before anything is written."""

    url: str

    @pytest.fixture(autouse=True)
    def _server(self, redis: RedisServer) -> None:
        self.url = redis.url

    def every_type(self) -> Types:
        return {**FLAT_TYPES, **NESTED_TYPES, "bytes": pl.Binary}


class TestRedisStream(_OnRedis, SinkConformance, RefusingSinkConformance, BreakableSinkConformance):
    def target(self) -> ProxiedStreamTarget:
        return ProxiedStreamTarget(self.url)

    def bad_values(self) -> Sequence[Mapping[str, object]]:
        return [{"id": None, "name": None, "value": None}]


@pytest.mark.slow
class TestRedisStreamOfJson(_OnRedis, SinkConformance):
    def target(self) -> JsonStreamTarget:
        return JsonStreamTarget(self.url)

    def read_back(self, frame: pl.DataFrame) -> pl.DataFrame:
        value = pl.col("value")
        return frame.with_columns(pl.when(value.is_finite()).then(value))


@pytest.mark.slow
class TestRedisHash(
    _OnRedis, SinkConformance, RefusingSinkConformance, BreakableSinkConformance, UpsertSinkConformance
):
    key = ("id",)

    def target(self) -> ProxiedHashTarget:
        return ProxiedHashTarget(self.url)

    def bad_values(self) -> Sequence[Mapping[str, object]]:
        """Found in columns before they are sent; said by the server."""
        return [{"id": None}, {"id": TAKEN}]


@pytest.mark.slow
class TestRedisSortedSet(_OnRedis, SinkConformance, RefusingSinkConformance, BreakableSinkConformance):
    key = ("id",)

    def target(self) -> ProxiedSortedSetTarget:
        return ProxiedSortedSetTarget(self.url)

    def awkward(self) -> pl.DataFrame:
        """Names are not written; scores are neither null nor NaN."""
        values = [float("inf"), float("-inf"), -0.0, 5e-324, 1.7976931348623157e308]
        ids = [-(2**63), 2**63 - 1, 1, 2, 3]
        names = [f"name {i}" if i % 5 else None for i in ids]
        return pl.DataFrame({"id": ids, "name": names, "value": values})

    def bad_values(self) -> Sequence[Mapping[str, object]]:
        return [{"value": None}, {"value": float("nan")}, {"id": None}]


class _ExactTopic(SinkConformance):
    """JSON in the records' values."""

    def every_type(self) -> Types:
        return {**FLAT_TYPES, **NESTED_TYPES}

    def read_back(self, frame: pl.DataFrame) -> pl.DataFrame:
        value = pl.col("value")
        return frame.with_columns(pl.when(value.is_finite()).then(value))


class TestEmbeddedTopic(_ExactTopic):
    def target(self) -> EmbeddedTopicTarget:
        return EmbeddedTopicTarget()


@pytest.mark.slow
class TestKafkaTopic(_ExactTopic):
    bootstrap: str

    @pytest.fixture(autouse=True)
    def _server(self, kafka: KafkaServer) -> None:
        self.bootstrap = kafka.bootstrap

    def target(self) -> KafkaTopicTarget:
        return KafkaTopicTarget(self.bootstrap)


@pytest.mark.parametrize("sink", [Parquet, Csv, JsonLines])
def test_a_file_sink_says_what_is_wrong_with_its_options(sink: type[Parquet]) -> None:
    for options in ({"path": ""}, {"path": "x", "roll_rows": 0}, {"path": "x", "roll_seconds": -1}):
        with pytest.raises(Exception, match=r"file sink needs|must be greater than 0"):
            sink(**options)


class TestSqliteMerges(MergeSinkConformance):
    def target(self) -> SqliteTarget:
        return SqliteTarget(key="id")


class TestPostgresMerges(_OnPostgres, MergeSinkConformance):
    def target(self) -> PostgresTarget:
        return PostgresTarget(self.dsn, key="id")


@pytest.mark.slow
class TestMysqlMerges(_OnMysql, MergeSinkConformance):
    def target(self) -> MysqlTarget:
        return MysqlTarget(self.dsn, key="id")


@pytest.mark.slow
class TestMongoMerges(_OnMongo, MergeSinkConformance):
    def target(self) -> MongoTarget:
        return MongoTarget(self.server, key="id")
