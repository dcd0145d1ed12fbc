"""The PostgreSQL sink on a real server: values that it refuses, and what it says when something is wrong."""

from __future__ import annotations

import ssl
from collections import Counter
from datetime import date, datetime, timezone
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import polars as pl
import pytest

from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient
from streamcore.sinks import Postgres
from streamcore.systems.postgres import address
from tests.integration.sinks.delivery import write
from tests.services.postgres import PostgresServer

UTC = timezone.utc


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> str:
    return postgres.fresh_database()


async def query(dsn: str, *statements: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        found: list[asyncpg.Record] = []
        for statement in statements:
            found = await connection.fetch(statement)
        return [tuple(row) for row in found]
    finally:
        await connection.close()


async def test_a_texts_stream_is_parsed_by_the_server_and_its_bad_rows_are_dead_letters(dsn: str) -> None:
    await query(dsn, "create table parsed (id uuid, at timestamptz, tags text[])")
    good = "6f1c1f3e-0000-4000-8000-000000000001"
    frame = pl.DataFrame(
        {
            "id": [good, "no uuid", None, good],
            "at": ["2024-01-01 00:00:00+00", None, "yesterday evening", None],
            "tags": ["{a,b}", "{}", None, None],
        }
    )
    codes = await write(Postgres("parsed", dsn), frame)
    assert codes == Counter({"invalid_text_representation": 1, "invalid_datetime_format": 1})
    rows = await query(dsn, "select id::text, at, tags from parsed order by at nulls last")
    assert rows == [(good, datetime(2024, 1, 1, tzinfo=UTC), ["a", "b"]), (good, None, None)]


async def test_values_out_of_the_tables_range_are_dead_letters_with_their_reason(dsn: str) -> None:
    await query(
        dsn,
        "create table narrow (small smallint, real4 real, short varchar(3), needed int not null, day date)",
    )
    ok: dict[str, object] = {"small": 1, "real4": 0.5, "short": "abc", "needed": 1, "day": date(2024, 1, 1)}
    changes: list[dict[str, object]] = [
        {},
        {"small": 2**15},
        {"small": -(2**15) - 1},
        {"real4": 1e300},
        {"real4": float("inf")},
        {"short": "abcd"},
        {"short": "abc   "},
        {"needed": None},
        {"short": "a\0"},
    ]
    schema = {"small": pl.Int64, "real4": pl.Float64, "short": pl.String, "needed": pl.Int64, "day": pl.Date}
    codes = await write(
        Postgres("narrow", dsn), pl.DataFrame([ok | change for change in changes], schema=schema)
    )
    assert codes == Counter(
        {
            "numeric_value_out_of_range": 3,
            "string_data_right_truncation": 1,
            "not_null_violation": 1,
            "nul_in_text": 1,
        }
    )
    assert len(await query(dsn, "select * from narrow")) == 3


async def test_a_deferred_constraint_that_fails_at_commit_is_found_too(dsn: str) -> None:
    await query(dsn, "create table late (id int unique deferrable initially deferred)")
    assert await write(Postgres("late", dsn), pl.DataFrame({"id": [1, 2, 2, 3]})) == {"unique_violation": 1}
    assert await query(dsn, "select id from late order by id") == [(1,), (2,), (3,)]


FRAME = pl.DataFrame({"id": [1, 2]})


async def refused(sink: Postgres, kind: type[StreamcoreError] = BadConfig) -> str:
    with pytest.raises(kind) as caught:
        await write(sink, FRAME)
    return str(caught.value)


async def test_a_wrong_target_is_refused_before_any_row_with_the_remedy(dsn: str) -> None:
    assert "create=True" in await refused(Postgres("nowhere", dsn), Permanent)
    await query(dsn, "create table other (ids int, needed int not null)", "create table plain (id int)")
    assert "did you mean 'ids'" in await refused(Postgres("other", dsn, name="x"))
    await query(dsn, "create table strict_one (id int, needed int not null)")
    assert "'needed' may not be null" in await refused(Postgres("strict_one", dsn))
    assert "unique index" in await refused(Postgres("plain", dsn, key="id"), Permanent)
    await query(dsn, "create table texts (id text)")
    assert "cast_type(id=" in await refused(Postgres("texts", dsn))


async def test_a_version_that_the_table_would_round_is_refused_before_any_row(dsn: str) -> None:
    """Also where a domain says how fine it is."""
    await query(dsn, "create domain moment as timestamp(3)")
    frame = pl.DataFrame({"id": [1], "v": [datetime(2026, 1, 1)]})
    for kind in ("moment", "timestamp(3)"):
        await query(dsn, "drop table if exists rows", f"create table rows (id bigint primary key, v {kind})")
        with pytest.raises(BadConfig, match="does not have each value"):
            await write(Postgres("rows", dsn, key="id", version="v"), frame)
    await query(dsn, "drop table rows", "create domain fine as timestamp")
    await query(dsn, "create table rows (id bigint primary key, v fine)")
    await write(Postgres("rows", dsn, key="id", version="v"), frame)


async def test_without_the_right_to_make_the_positions_table_the_statement_is_shown(dsn: str) -> None:
    await query(
        dsn,
        "create role reader login password 'reader-secret'",
        "create schema closed",
        "create table closed.t (id int)",
        "grant usage on schema closed to reader",
    )
    parts = urlsplit(dsn)
    login = parts._replace(netloc=f"reader:reader-secret@{parts.hostname}:{parts.port}")
    message = await refused(Postgres("t", urlunsplit(login), schema="closed"), Permanent)
    assert 'create table if not exists "closed"."streamcore_positions"' in message
    assert "reader-secret" not in message


async def test_who_cannot_come_in_is_told_why_and_no_password_is_shown(postgres: PostgresServer) -> None:
    wrong = postgres.dsn.replace("pgpass", "wrong-secret")
    message = await refused(Postgres("t", wrong), Permanent)
    assert "check user, password" in message
    assert "wrong-secret" not in message
    away = "postgresql://postgres:wrong-secret@127.0.0.1:1/x"
    message = await refused(Postgres("t", away), Transient)
    assert "127.0.0.1:1" in message
    assert "wrong-secret" not in message
    assert "wrong-secret" not in repr(Postgres("t", away)) + repr(address(away))


async def test_tls_is_verified(postgres: PostgresServer) -> None:
    if postgres.ca_file is None:
        pytest.skip("the server of TEST_POSTGRES has no TEST_CA_FILE")
    assert not await write(Postgres("over tls", postgres.tls_dsn, create=True), FRAME)
    unknown = postgres.tls_dsn.partition("?")[0] + "?sslmode=verify-full"
    assert "sslrootcert" in await refused(Postgres("t", unknown), Permanent)


@pytest.mark.parametrize(
    "url", ["mysql://u:hidden-one@h/d", "hidden-one", "postgresql://u:hidden-one@h:port/d"]
)
def test_a_bad_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(BadConfig) as caught:
        address(url)
    assert "hidden-one" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "verified"),
    [
        ("postgresql://u@db.example/x", True),
        ("postgresql://u@db.example/x?sslmode=require", False),
        ("postgresql://u@localhost/x?sslmode=verify-full", True),
    ],
)
def test_a_server_elsewhere_must_prove_its_name_unless_told_otherwise(url: str, verified: bool) -> None:
    tls = address(url).tls
    assert isinstance(tls, ssl.SSLContext)
    assert (tls.verify_mode == ssl.CERT_REQUIRED, tls.check_hostname) == (verified, verified)
    assert address("postgresql://u@localhost/x").tls == "prefer"
