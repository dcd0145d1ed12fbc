"""The guide's engines, its dictionaries of sources, and its settings of parallel work and memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest

from batch_adapters.catalogue import open_source
from streamcore import BatchIngestionEngine, DataValidator, ETLEngine, StreamIngestionEngine
from streamcore.testing.sources import read_source
from tests.guide.blocks import run_block
from tests.guide.conftest import Users
from tests.services.postgres import PASSWORD, USER
from tests.services.rest import rest_server
from tests.services.s3 import S3Server


def of_database(dsn: str) -> dict[str, str]:
    """How *dsn* is put into a block that names a database by its parts."""
    parts = urlsplit(dsn)
    return {
        '"host": "localhost"': f'"host": "127.0.0.1", "port": {parts.port}, "sslmode": "disable"',
        '"mydb"': f'"{parts.path[1:]}"',
        '"user"': f'"{USER}"',
        '"password": "password"': f'"password": "{PASSWORD}"',
    }


async def test_batch_data_ingestion(users: Users, capsys: pytest.CaptureFixture[str]) -> None:
    names = run_block("Batch Data Ingestion", of_database(await users(5000)))
    await names["batch_ingestion_example"]()
    assert "Processed 5000 records\n" in capsys.readouterr().out
    found = pl.read_parquet("output/data.parquet")
    assert (found.height, found.schema) == (5000, pl.Schema({"id": pl.Int64, "name": pl.String}))


def test_stream_processing(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(run_block("Stream Processing")["stream_processing_example"]())
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Processing: {{'user_id': {number}, 'action': 'login'}}" for number in range(10)]


def test_the_dictionaries_of_sources(folder: Path, users: Users, s3: S3Server) -> None:
    for number in range(3):
        (folder / "data" / f"{number}.csv").write_text(f"id,name\n{number},n\n")
    bucket = s3.fresh_bucket()
    s3.client.put_object(Bucket=bucket["BUCKET"], Key="data/x.csv", Body=b"id\n1\n2\n")
    with rest_server() as rest:
        rest.rows = [{"id": number} for number in range(250)]
        put = {
            '"port": 5432,': "",
            **of_database(asyncio.run(users(50))),
            "https://api.example.com": rest.url,
            '"/users"': '"/by/page", "allow_private": True',
            "s3.amazonaws.com": bucket["AWS_ENDPOINT_URL"],
            "your_access_key": bucket["AWS_ACCESS_KEY_ID"],
            "your_secret_key": bucket["AWS_SECRET_ACCESS_KEY"],
            "my-data-bucket": bucket["BUCKET"],
        }
        names = run_block("Data Source Configuration", put)
        counts = {
            name: len(read_source(open_source(names[name])))
            for name in ("database_config", "file_config", "api_config", "s3_config")
        }
        assert rest.headers[0]["authorization"] == "Bearer your_token"
    assert counts == {"database_config": 50, "file_config": 3, "api_config": 250, "s3_config": 2}


def test_validation_rules() -> None:
    rules = run_block("Data Validation Rules")["validation_rules"]
    rows = pl.DataFrame({"user_id": [1, None], "age": [140, 7], "email": ["a@b.co", "nobody"]})
    result = DataValidator(rules).validate(rows)
    assert [(rule.rule_id, rule.failed, rule.severity) for rule in result.rules] == [
        ("email_format", 1, "error"),
        ("age_range", 1, "warning"),
        ("required_fields", 1, "error"),
    ]
    assert not result.valid


def test_transformations() -> None:
    rows = pl.DataFrame({"age": [17, 18, 30, 70], "salary": [1, 2, 3, 4], "old_column": ["a", "b", "c", "d"]})
    made = ETLEngine().transform(rows, run_block("Data Transformations")["transformation_config"])
    assert made.to_dict(as_series=False) == {
        "age": [18, 30, 70],
        "salary": [2.0, 3.0, 4.0],
        "new_column": ["b", "c", "d"],
        "age_group": ["Young", "Middle", "Senior"],
    }


async def test_parallel_processing_and_memory_limits(folder: Path) -> None:
    names = {**run_block("Parallel Processing"), **run_block("Memory Management")}
    ids = [f"{number}\n" for number in range(30_000)]
    (folder / "in.csv").write_text("id\n" + "".join(ids))
    batches = BatchIngestionEngine(names["ingestion_config"], processing=names["batch_config"])
    metrics = await batches.ingest_data("in.csv", "out.csv")
    assert (metrics.processed_records, metrics.failed_records) == (30_000, 0)
    assert (folder / "out.csv").read_text() == "id\n" + "".join(ids)

    seen: list[int] = []
    stream = StreamIngestionEngine(names["stream_config"])
    stream.register_message_handler("numbers", lambda message: seen.append(message.payload["n"]))
    await stream.start()
    await asyncio.gather(*(stream.send_message("numbers", {"n": number}) for number in range(200)))
    while stream.metrics.handled < 200:
        await asyncio.sleep(0.01)
    await stream.stop()
    assert sorted(seen) == list(range(200))
