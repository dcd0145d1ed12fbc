"""The pipeline of config/pipelines over real flights, against the same questions asked of DuckDB."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import polars as pl
import pytest

from streamcore.cli.app import run
from tests.docs.code_blocks import ROOT

FLIGHTS = "flights.parquet"


def one(sql: str) -> tuple[object, ...]:
    (row,) = duckdb.sql(sql).fetchall()
    return tuple(row)


def test_every_pipeline_of_the_repository_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert run(["pipeline", "validate"]) == 0


@pytest.mark.slow
def test_nightly_flights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NIGHTLY_FLIGHTS_HOOK", raising=False)
    for name in ("config", "topologies"):
        (tmp_path / name).symlink_to(ROOT / name)
    pl.read_parquet(ROOT / "data" / "flights-200k.parquet").head(20_000).write_parquet(FLIGHTS)
    arguments = ["pipeline", "run", "nightly_flights", "--param", f"file={FLIGHTS}", "--json"]
    assert run(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    tasks = {task["task_id"]: task for task in document["tasks"]}
    notify = tasks.pop("notify")
    assert (notify["status"], notify["reason"]) == ("skipped", "no address is configured: nobody is told")
    assert (document["status"], {task["status"] for task in tasks.values()}) == ("success", {"success"})
    assert tasks["ingest"]["rows"] == one(f"select count(*) from '{FLIGHTS}'")[0]

    broken = one(f"select count(*) from '{FLIGHTS}' where delay not between -60 and 1440")[0]
    assert f"delay (warning): {broken} of" in tasks["validate"]["reason"]
    late = "select count(*), sum(delay), count(distinct band) from 'out/nightly/late.parquet'"
    assert one(late) == one(f"select count(*), sum(delay), 2 from '{FLIGHTS}' where delay > 15")
    days = "select count(*), sum(flights), sum(late) from 'out/delays/**/*.parquet'"
    wanted = f"""select count(*), sum(n), sum(late) from (
        select count(*) as n, count(*) filter (where delay > 15) as late from '{FLIGHTS}'
        where delay > -60 group by origin, date_trunc('day', date)) where late > 0"""
    assert one(days) == one(wanted)
    assert "<html" in Path("out/nightly/quality.html").read_text()
