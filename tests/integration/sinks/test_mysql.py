"""The MySQL sink on a real server: values of every type, and what it says when something is wrong."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from urllib.parse import urlsplit, urlunsplit

import polars as pl
import pytest

from batch_adapters.catalogue import open_source
from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient
from streamcore.sinks import MySQL
from streamcore.systems.mysql import address
from streamcore.testing.sources import read_source
from tests.integration.sinks.delivery import write
from tests.services.mariadb import MariadbServer, execute

UTC = timezone.utc


@pytest.fixture(scope="module")
def dsn(mariadb: MariadbServer) -> str:
    return mariadb.fresh_database()


VALUES: dict[str, tuple[pl.DataType | type[pl.DataType], list[object], list[object] | None]] = {
    "i8": (pl.Int8, [-128, 127, None], None),
    "i16": (pl.Int16, [-(2**15), 2**15 - 1, None], None),
    "i32": (pl.Int32, [-(2**31), 2**31 - 1, None], None),
    "i64": (pl.Int64, [-(2**63), 2**63 - 1, None], None),
    "u8": (pl.UInt8, [0, 255, None], None),
    "u32": (pl.UInt32, [0, 2**32 - 1, None], None),
    "u64": (pl.UInt64, [0, 2**64 - 1, None], None),
    "f32": (pl.Float32, [0.10000000149011612, -3.4028234663852886e38, None], None),
    "f64": (pl.Float64, [2.5e-308, 1.7976931348623157e308, None], None),
    "third": (pl.Float64, [1 / 3, 123456789012345680.0, None], None),
    "bool": (pl.Boolean, [True, False, None], [1, 0, None]),
    "text": (pl.String, ["", "ü\\.\n\"'';\0☃𝄞", None], None),
    "enum": (pl.Enum(["a", "b'"]), ["b'", "a", None], None),
    "bytes": (pl.Binary, [b"", b"\0\xff'\\", None], None),
    "date": (pl.Date, [date(1, 1, 1), date(9999, 12, 31), None], None),
    "time": (pl.Time, [time(0, 0), time(23, 59, 59, 999999), None], None),
    "at": (pl.Datetime("us"), [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999), None], None),
    "at_ms": (
        pl.Datetime("ms", "UTC"),
        [datetime(1999, 12, 31, 23, 59, 59, 7000, tzinfo=UTC), None, None],
        [datetime(1999, 12, 31, 23, 59, 59, 7000), None, None],
    ),
    "decimal": (pl.Decimal(20, 4), [Decimal("-0.0001"), Decimal("1234567890123456.7891"), None], None),
    "span": (
        pl.Duration("us"),
        [timedelta(days=-1, microseconds=1), timedelta(0), None],
        [-86_399_999_999, 0, None],
    ),
    "list": (pl.List(pl.String), [["a'\\", None], [], None], ['["a\'\\\\",null]', "[]", None]),
    "struct": (pl.Struct({"a": pl.Int64}), [{"a": 1}, {"a": None}, None], ['{"a":1}', '{"a":null}', None]),
}  # fmt: skip


def every_type() -> pl.DataFrame:
    return pl.DataFrame(
        {"id": range(3)}
        | {name: pl.Series(values, dtype=dtype) for name, (dtype, values, _) in VALUES.items()}
    )


async def test_every_type_comes_back_from_the_table_that_the_sink_makes(dsn: str) -> None:
    """Read by our own source: the two tables of types are one way and back."""
    frame = every_type()
    assert not await write(MySQL("types", dsn, create=True, key="id"), frame)
    rows = [record.value for record in read_source(open_source(f"{dsn}?table=types"))]
    for name, got in zip(frame.columns, zip(*rows, strict=True), strict=True):  # type: ignore[arg-type]
        given = frame[name].to_list() if name == "id" or VALUES[name][2] is None else VALUES[name][2]
        assert list(got) == given, name


async def test_what_the_table_would_refuse_or_change_is_a_dead_letter_with_its_reason(dsn: str) -> None:
    execute(
        dsn,
        "create table narrow (small smallint, usmall tinyint unsigned, real4 float, short varchar(3), "
        "tiny tinytext, needed int not null, day date, at datetime(3), fixed binary(2), "
        "kind enum('a', 'b'), js json, price decimal(5,2))",
    )
    ok: dict[str, object] = {
        "small": 1, "usmall": 255, "real4": 0.5, "short": "☃☃☃", "tiny": "x", "needed": 1,
        "day": date(2024, 1, 1), "at": datetime(2024, 1, 1, microsecond=7000), "fixed": b"ab", "kind": "b",
        "js": "{}", "price": Decimal("999.99"),
    }  # fmt: skip
    changes: list[tuple[dict[str, object], str]] = [
        ({}, ""),
        ({"small": 2**15}, "warn_data_out_of_range"),
        ({"usmall": -1}, "warn_data_out_of_range"),
        ({"real4": 1e300}, "warn_data_out_of_range"),
        ({"real4": float("inf")}, "warn_data_out_of_range"),
        ({"short": "abcd"}, "data_too_long"),
        ({"short": "abc "}, "data_too_long"),
        ({"tiny": "ü" * 128}, "data_too_long"),
        ({"needed": None}, "bad_null_error"),
        ({"at": datetime(2024, 1, 1, microsecond=7001)}, "data_truncated"),
        ({"fixed": b"a"}, "data_too_long"),
        ({"kind": "c"}, "warn_data_truncated"),
        ({"js": "{"}, "constraint_failed"),
        ({"price": Decimal("1000.00")}, "warn_data_out_of_range"),
    ]
    schema = {
        "small": pl.Int64, "usmall": pl.Int64, "real4": pl.Float64, "short": pl.String, "tiny": pl.String,
        "needed": pl.Int64, "day": pl.Date, "at": pl.Datetime("us"), "fixed": pl.Binary, "kind": pl.String,
        "js": pl.String, "price": pl.Decimal(20, 2),
    }  # fmt: skip
    frame = pl.DataFrame([ok | change for change, _ in changes], schema=schema)
    codes = await write(MySQL("narrow", dsn), frame)
    assert codes == Counter(code for _, code in changes if code)
    assert execute(dsn, "select count(*) from narrow") == [(1,)]


@pytest.mark.parametrize(
    ("definition", "dtype"),
    [
        ("decimal(5,1)", pl.Decimal(5, 2)),
        ("decimal(5,1)", pl.Float64()),
        ("int", pl.String()),
        ("int", pl.Float64()),
        ("datetime", pl.String()),
        ("text", pl.Int64()),
        ("blob", pl.String()),
        ("time", pl.Duration("us")),
    ],
)
async def test_types_that_would_lose_something_do_not_fit(
    dsn: str, definition: str, dtype: pl.DataType
) -> None:
    execute(dsn, "drop table if exists fits", f"create table fits (v {definition})")
    with pytest.raises(BadConfig, match=r"does not fit.*cast_type\(v="):
        await write(MySQL("fits", dsn), pl.DataFrame(schema={"v": dtype}))


async def test_zero_is_a_number_also_where_the_server_counts(dsn: str) -> None:
    execute(dsn, "create table counted (id int auto_increment primary key, name text)")
    assert not await write(MySQL("counted", dsn), pl.DataFrame({"id": [0, 7], "name": ["a", "b"]}))
    assert execute(dsn, "select id from counted order by id") == [(0,), (7,)]
    assert not await write(MySQL("counted", dsn, name="others"), pl.DataFrame({"name": ["c"]}))
    assert execute(dsn, "select id from counted order by id") == [(0,), (7,), (8,)]


async def test_a_row_longer_than_the_server_takes_is_a_dead_letter(dsn: str) -> None:
    ((most,),) = execute(dsn, "select @@max_allowed_packet")
    frame = pl.DataFrame({"name": ["a", "x" * int(str(most)), "b"]})
    assert await write(MySQL("long", dsn, create=True), frame) == {"net_packet_too_large": 1}
    assert execute(dsn, "select name from long order by 1".replace("long", "`long`")) == [("a",), ("b",)]


async def test_many_rows_go_in_statements_that_the_server_takes(dsn: str) -> None:
    frame = pl.DataFrame({"id": range(60_000), "name": ["x" * 200] * 60_000})
    assert not await write(MySQL("many", dsn, create=True, key="id"), frame)
    assert execute(dsn, "select count(*), sum(id) from many") == [(60_000, sum(range(60_000)))]


async def test_keys_of_two_columns_and_columns_that_are_not_the_streams_stay(dsn: str) -> None:
    execute(
        dsn,
        "create table stock (shop varchar(9), item int, n int, note text default 'none', "
        "number int auto_increment, primary key (shop, item), unique (number))",
        "insert into stock (shop, item, n, note) values ('a', 1, 1, 'kept'), ('b', 1, 1, 'other')",
    )
    frame = pl.DataFrame({"shop": ["a", "a", "a"], "item": [1, 2, 1], "n": [5, 6, 7]})
    assert not await write(MySQL("stock", dsn, key=["shop", "item"]), frame)
    rows = execute(dsn, "select shop, item, n, note from stock order by 1, 2")
    assert rows == [("a", 1, 7, "kept"), ("a", 2, 6, "none"), ("b", 1, 1, "other")]


FRAME = pl.DataFrame({"id": [1, 2]})


async def refused(sink: MySQL, kind: type[StreamcoreError] = BadConfig) -> str:
    with pytest.raises(kind) as caught:
        await write(sink, FRAME)
    return str(caught.value)


async def test_a_wrong_target_is_refused_before_any_row_with_the_remedy(dsn: str) -> None:
    assert "create=True" in await refused(MySQL("nowhere", dsn))
    execute(
        dsn,
        "create table other (ids int, needed int not null)",
        "create table plain (id int)",
        "create table strict_one (id int, needed int not null)",
        "create table texts (id text)",
        "create table twice (id int primary key, note int unique default 3)",
        "create table no_rollback (id int) engine = MyISAM",
    )
    assert "did you mean 'ids'" in await refused(MySQL("other", dsn, name="x"))
    assert "'needed' may not be null" in await refused(MySQL("strict_one", dsn))
    assert "unique index on exactly" in await refused(MySQL("plain", dsn, key="id"))
    assert "another unique index, 'note'" in await refused(MySQL("twice", dsn, key="id"))
    assert "engine = InnoDB" in await refused(MySQL("no_rollback", dsn))
    assert "cast_type(id=" in await refused(MySQL("texts", dsn))


async def test_without_the_right_to_make_the_positions_table_the_statement_is_shown(dsn: str) -> None:
    database = urlsplit(dsn).path.lstrip("/")
    execute(
        dsn,
        "create user reader identified by 'reader-secret'",
        "create table only_read (id int)",
        f"grant select, insert on {database}.only_read to reader",
    )
    parts = urlsplit(dsn)
    login = urlunsplit(parts._replace(netloc=f"reader:reader-secret@{parts.hostname}:{parts.port}"))
    message = await refused(MySQL("only_read", login), Permanent)
    assert "create table if not exists `streamcore_positions`" in message
    assert "reader-secret" not in message


async def test_who_cannot_come_in_is_told_why_and_no_password_is_shown(mariadb: MariadbServer) -> None:
    message = await refused(MySQL("t", mariadb.dsn.replace("apppass", "wrong-secret")), Permanent)
    assert "check user and password" in message
    assert "wrong-secret" not in message
    away = "mysql://app:wrong-secret@127.0.0.1:1/x"
    message = await refused(MySQL("t", away), Transient)
    assert "127.0.0.1:1" in message
    assert "wrong-secret" not in message
    assert "wrong-secret" not in repr(MySQL("t", away)) + repr(address(away))


async def test_tls_is_verified(mariadb: MariadbServer) -> None:
    if mariadb.ca_file is None:
        pytest.skip("the server of TEST_MYSQL has no TEST_CA_FILE")
    assert not await write(MySQL("over tls", mariadb.tls_dsn, create=True), FRAME)
    unknown = mariadb.tls_dsn.partition("?")[0] + "?ssl-mode=VERIFY_IDENTITY"
    assert "ssl-ca" in await refused(MySQL("t", unknown), Permanent)
