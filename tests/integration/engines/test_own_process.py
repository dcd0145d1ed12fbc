"""An ingestion in a process of its own: the same metrics, errors and promises."""

from __future__ import annotations

import asyncio
from pathlib import Path

import polars as pl
import psutil
import pytest

from batch_adapters.catalogue import open_source
from streamcore import BatchIngestionConfig, BatchIngestionEngine, BatchProcessingConfig
from streamcore.errors import BadConfig, Permanent
from streamcore.settings import Settings, State

ROWS = 50_000


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchIngestionEngine:
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"id": range(ROWS)}).write_csv("in.csv")
    processing = BatchProcessingConfig(
        enable_parallel_processing=True, max_workers=2, chunk_size=500, use_processes=True
    )
    settings = Settings(state=State(dir=tmp_path / "state"))
    return BatchIngestionEngine(BatchIngestionConfig(memory_limit="2GB"), settings, processing=processing)


def children() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [child for child in found if "streamcore.engines.own_process" in child.cmdline()]


async def test_it_does_the_same_elsewhere(engine: BatchIngestionEngine, tmp_path: Path) -> None:
    told: list[int] = []
    elsewhere: set[int] = set()

    def on_progress(progress: object) -> None:
        told.append(getattr(progress, "rows_in", 0))
        elsewhere.update(child.pid for child in children())

    metrics = await engine.ingest_data("in.csv", "out.csv", on_progress=on_progress)
    assert (metrics.processed_records, metrics.failed_records, metrics.status) == (ROWS, 0, "finished")
    assert pl.read_csv("out.csv")["id"].to_list() == list(range(ROWS))
    assert told[-1] == ROWS
    assert len(elsewhere) == 1
    assert children() == []
    assert (tmp_path / "state").is_dir()


async def test_its_errors_are_ours(engine: BatchIngestionEngine) -> None:
    with pytest.raises(BadConfig, match=r"no such file or folder.*did you mean 'in.csv'"):
        await engine.ingest_data("inn.csv", "out.csv")
    with pytest.raises(BadConfig, match="can't be told to another process"):
        await engine.ingest_data(open_source("in.csv"), "out.csv")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["cancelled", "killed"])
async def test_cancelled_or_killed_it_is_taken_up(engine: BatchIngestionEngine, end: str) -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(
        engine.ingest_data("in.csv", "out.csv", on_progress=lambda progress: begun.set())
    )
    await begun.wait()
    if end == "cancelled":
        task.cancel()
    else:
        children()[0].kill()
    with pytest.raises((asyncio.CancelledError, Permanent)):
        await task
    assert children() == []
    assert not Path("out.csv").exists()
    metrics = await engine.ingest_data("in.csv", "out.csv")
    assert metrics.status == "finished"
    assert pl.read_csv("out.csv")["id"].to_list() == list(range(ROWS))


@pytest.mark.slow
async def test_a_limit_of_memory_is_kept(tmp_path: Path) -> None:
    """Of a process that has little beside the ingestion, over a file that is as large as its limit."""
    lines = "".join(f"{number},customer number {number},{number * 3.25}\n" for number in range(20_000))
    with (tmp_path / "large.csv").open("w") as file:
        file.write("id,name,amount\n")
        for _ in range(400):
            file.write(lines)
    limit = 400_000_000
    assert 0.6 * limit < (tmp_path / "large.csv").stat().st_size
    engine = BatchIngestionEngine(
        BatchIngestionConfig(memory_limit=limit),
        Settings(state=State(dir=tmp_path / "state")),
        processing=BatchProcessingConfig(use_processes=True, max_workers=2),
    )
    metrics = await engine.ingest_data(str(tmp_path / "large.csv"), str(tmp_path / "large.parquet"))
    assert metrics.processed_records == 400 * 20_000
    assert 50_000_000 < metrics.peak_memory < limit
