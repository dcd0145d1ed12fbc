"""The guide's blocks about ingestion and stream processing, with their import lines changed.

What the blocks leave open is put in by :func:`put`, text for text: addresses, names, credentials.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import polars as pl
import pytest

from batch_adapters.catalogue import open_source
from streamcore import BatchIngestionEngine
from streamcore.testing.sources import read_source
from tests.services.postgres import PASSWORD, USER, PostgresServer
from tests.services.rest import rest_server
from tests.services.s3 import S3Server

BATCH = """\
from streamcore import BatchIngestionEngine

async def batch_ingestion_example():
    engine = BatchIngestionEngine()

    # Configure source and destination
    source_config = {
        "type": "database",
        "database_type": "postgresql",
        "host": "localhost",
        "database": "mydb",
        "username": "user",
        "password": "password"
    }

    destination_config = {
        "type": "file",
        "file_path": "output/data.parquet",
        "file_format": "parquet"
    }

    # Run ingestion
    metrics = await engine.ingest_data(source_config, destination_config)
    print(f"Processed {metrics.processed_records} records")
"""
STREAM = """\
import asyncio
from streamcore import StreamIngestionEngine

async def stream_processing_example():
    engine = StreamIngestionEngine()

    # Register message handler
    def handle_user_events(message):
        print(f"Processing: {message.payload}")
        return {"processed": True}

    engine.register_message_handler("user_events", handle_user_events)

    # Start engine
    await engine.start()

    # Send test messages
    for i in range(10):
        await engine.send_message("user_events", {"user_id": i, "action": "login"})

    # Let it process
    await asyncio.sleep(5)

    # Stop engine
    await engine.stop()
"""
SOURCES = """\
# Database Source
database_config = {
    "type": "database",
    "database_type": "postgresql",
    "host": "localhost",
    "port": 5432,
    "database": "mydb",
    "username": "user",
    "password": "password",
    "pool_size": 10
}

# File Source
file_config = {
    "type": "file",
    "file_path": "data/*.csv",
    "file_format": "csv",
    "encoding": "utf-8",
    "delimiter": ","
}

# API Source
api_config = {
    "type": "api",
    "base_url": "https://api.example.com",
    "endpoint": "/users",
    "auth_type": "bearer",
    "bearer_token": "your_token",
    "pagination_type": "page",
    "page_size": 100
}

# Object Storage Source
s3_config = {
    "type": "object_storage",
    "storage_type": "s3",
    "endpoint": "s3.amazonaws.com",
    "access_key": "your_access_key",
    "secret_key": "your_secret_key",
    "bucket_name": "my-data-bucket",
    "prefix": "data/"
}
"""
CONFIGURATIONS = """\
from streamcore import BatchIngestionConfig, BatchProcessingConfig, StreamProcessingConfig

# Batch processing with parallelization
batch_config = BatchProcessingConfig(
    enable_parallel_processing=True,
    max_workers=8,
    chunk_size=10000,
    use_processes=True
)

# Stream processing with multiple workers
stream_config = StreamProcessingConfig(
    max_workers=4,
    buffer_size=10000,
    batch_size=100
)

# Configure memory limits
ingestion_config = BatchIngestionConfig(
    memory_limit="2GB",
    chunk_size=5000,
    enable_memory_monitoring=True
)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(block: str, values: dict[str, str]) -> str:
    """*block* with what it leaves open; each text must be in it."""
    for text, value in values.items():
        assert text in block
        block = block.replace(text, value)
    return block


def run(block: str) -> dict[str, Any]:
    """The names that *block* makes."""
    names: dict[str, Any] = {}
    exec(compile(block, "guide", "exec"), names)
    return names


async def users(server: PostgresServer, count: int) -> dict[str, str]:
    """A database with one table of *count* rows, and how to write its address into a block."""
    dsn = server.fresh_database()
    connection = await asyncpg.connect(dsn)
    await connection.execute("create table users (id bigint primary key, name text)")
    await connection.execute(f"insert into users select n, 'user ' || n from generate_series(1, {count}) n")
    await connection.close()
    parts = urlsplit(dsn)
    return {
        '"host": "localhost"': f'"host": "127.0.0.1", "port": {parts.port}, "sslmode": "disable"',
        '"mydb"': f'"{parts.path[1:]}"',
        '"user"': f'"{USER}"',
        '"password": "password"': f'"password": "{PASSWORD}"',
    }


async def test_batch_data_ingestion(postgres: PostgresServer, capsys: pytest.CaptureFixture[str]) -> None:
    block = put(BATCH, await users(postgres, 5000))
    await run(block)["batch_ingestion_example"]()
    assert "Processed 5000 records\n" in capsys.readouterr().out
    found = pl.read_parquet("output/data.parquet")
    assert (found.height, found.schema) == (5000, pl.Schema({"id": pl.Int64, "name": pl.String}))


def test_stream_processing(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(run(STREAM)["stream_processing_example"]())
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Processing: {{'user_id': {number}, 'action': 'login'}}" for number in range(10)]


def test_the_dictionaries_of_sources(folder: Path, postgres: PostgresServer, s3: S3Server) -> None:
    (folder / "data").mkdir()
    for number in range(3):
        (folder / "data" / f"{number}.csv").write_text(f"id,name\n{number},n\n")
    bucket = s3.fresh_bucket()
    s3.client.put_object(Bucket=bucket["BUCKET"], Key="data/x.csv", Body=b"id\n1\n2\n")
    of_database = asyncio.run(users(postgres, 50))
    port = {'"port": 5432,': "", '"host": "localhost"': of_database.pop('"host": "localhost"')}
    with rest_server() as rest:
        rest.rows = [{"id": number} for number in range(250)]
        values = {
            "https://api.example.com": rest.url,
            '"/users"': '"/by/page", "allow_private": True',
            "s3.amazonaws.com": bucket["AWS_ENDPOINT_URL"],
            "your_access_key": bucket["AWS_ACCESS_KEY_ID"],
            "your_secret_key": bucket["AWS_SECRET_ACCESS_KEY"],
            "my-data-bucket": bucket["BUCKET"],
        }
        names = run(put(SOURCES, {**port, **of_database, **values}))
        counts = {
            name: len(read_source(open_source(names[name])))
            for name in ("database_config", "file_config", "api_config", "s3_config")
        }
        assert rest.headers[0]["authorization"] == "Bearer your_token"
    assert counts == {"database_config": 50, "file_config": 3, "api_config": 250, "s3_config": 2}


async def test_the_configurations(folder: Path) -> None:
    (folder / "in.csv").write_text("id\n1\n2\n")
    names = run(CONFIGURATIONS)
    engine = BatchIngestionEngine(names["ingestion_config"], processing=names["batch_config"])
    assert (await engine.ingest_data("in.csv", "out.csv")).processed_records == 2
    assert (folder / "out.csv").read_text() == "id\n1\n2\n"
    assert names["stream_config"].buffer_size == 10_000
