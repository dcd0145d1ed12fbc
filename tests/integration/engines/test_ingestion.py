"""Ingestions by dictionaries: everything once, whatever breaks them off, and anew when called again."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl
import pytest

from batch_adapters.catalogue import open_source
from streamcore import BatchIngestionConfig, BatchIngestionEngine
from streamcore.contracts import Split
from streamcore.deadletter.reader import Filter, read
from streamcore.engines import ingestion_runs
from streamcore.engines.ingestion_runs import Runs
from streamcore.engines.memory import GatedSplit, MemoryGate
from streamcore.engines.one_file import OneFile
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.settings import Settings
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from streamcore.wrapping import SourceWrapper

ROWS = 30_000


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchIngestionEngine:
    monkeypatch.chdir(tmp_path)
    people(ROWS).write_csv("people.csv")
    return BatchIngestionEngine()


def people(count: int) -> pl.DataFrame:
    ids = pl.int_range(0, count, eager=True)
    return pl.DataFrame(
        {"id": ids, "name": "n" + ids.cast(pl.String), "zip": ids.cast(pl.String).str.zfill(5)}
    )


SOURCE = {"type": "file", "file_path": "people.csv", "file_format": "csv"}


async def test_a_file_becomes_a_file_and_its_metrics_are_true(engine: BatchIngestionEngine) -> None:
    metrics = await engine.ingest_data(SOURCE, {"type": "file", "file_path": "out/people.parquet"})
    assert pl.read_parquet("out/people.parquet").equals(people(ROWS))
    assert (metrics.processed_records, metrics.failed_records, metrics.status) == (ROWS, 0, "finished")
    assert metrics.bytes > ROWS * 10
    assert metrics.rate == pytest.approx(metrics.processed_records / metrics.seconds)
    assert metrics.peak_memory > 10_000_000
    assert os.listdir("out") == ["people.parquet"]


async def test_called_again_it_reads_anew(engine: BatchIngestionEngine) -> None:
    with sqlite3.connect("shop.db") as file:
        file.execute("create table users (id integer primary key, name text)")
        file.executemany("insert into users values (?, ?)", [(n, f"n{n}") for n in range(1000)])
    source = {"type": "database", "database_type": "sqlite", "database": "shop.db"}
    target = "sqlite:///copy.db?table=users&key=id&create=true"
    for path in ("users.csv", target):
        assert (await engine.ingest_data(source, path)).processed_records == 1000
    with sqlite3.connect("shop.db") as file:
        file.execute("insert into users values (5000, 'new')")
        file.execute("update users set name = 'changed' where id = 7")
    for path in ("users.csv", target):
        assert (await engine.ingest_data(source, path)).processed_records == 1001
    copied = pl.read_csv("users.csv").rows()
    with sqlite3.connect("copy.db") as file:
        assert sorted(file.execute("select id, name from users")) == sorted(copied)
    assert (7, "changed") in copied
    assert (5000, "new") in copied


async def test_a_run_with_a_name_is_done_once(engine: BatchIngestionEngine) -> None:
    target = "sqlite:///copy.db?table=people&create=true"
    statuses = [(await engine.ingest_data(SOURCE, target, run_id="2026-11-29")).status for _ in range(2)]
    assert statuses == ["finished", "already finished"]
    await engine.ingest_data(SOURCE, target, run_id="2026-11-30")
    with sqlite3.connect("copy.db") as file:
        assert file.execute("select count(*), count(distinct id) from people").fetchone() == (2 * ROWS, ROWS)


async def test_a_file_that_is_there_is_never_emptied_by_a_run_that_was_finished(
    engine: BatchIngestionEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts are gone since it was published, and of so many runs not all are remembered."""
    monkeypatch.setattr(ingestion_runs, "_REMEMBERED", 1)
    Path("few.csv").write_text("a,b\n1,2\n")
    for run in (None, "first", "second", "first", None):
        metrics = await engine.ingest_data("few.csv", "out.csv", run_id=run)
        assert Path("out.csv").read_text() == "a,b\n1,2\n", run
    assert (metrics.status, metrics.processed_records) == ("finished", 1), "without a name it is read anew"
    Path("out.csv").unlink()
    for _ in range(2):
        with pytest.raises(Permanent, match="give a run_id"):
            await engine.ingest_data("few.csv", "out.csv", run_id="second")
    assert not Path("out.csv").exists()


@pytest.mark.parametrize("last", [(OneFile, "publish"), (Runs, "finish"), (OneFile, "discard")])
async def test_of_two_calls_at_once_the_second_leaves_the_file_as_the_first_has_made_it(
    engine: BatchIngestionEngine, monkeypatch: pytest.MonkeyPatch, last: tuple[type, str]
) -> None:
    """The first one has read everything and its log is free: it is still the only one, to the end."""
    Path("few.csv").write_text("a,b\n1,2\n")
    reached, go_on, real = threading.Event(), threading.Event(), getattr(*last)

    def slow(*given: object) -> None:
        reached.set()
        go_on.wait(60)
        real(*given)

    monkeypatch.setattr(*last, slow)
    first = asyncio.create_task(engine.ingest_data("few.csv", "out.csv", run_id="monday"))
    await asyncio.to_thread(reached.wait, 60)
    for run_id in ("monday", "tuesday", None):
        with pytest.raises(Transient, match=f"at work, in process {os.getpid()}; call again"):
            await engine.ingest_data("few.csv", "out.csv", run_id=run_id)
    go_on.set()
    statuses = [(await first).status]
    statuses += [(await engine.ingest_data("few.csv", "out.csv", run_id="monday")).status]
    assert statuses == ["finished", "already finished"]
    assert Path("out.csv").read_text() == "a,b\n1,2\n"
    assert list(Path().glob(".out.csv*")) == []


async def test_rows_that_do_not_fit_are_failed_records(engine: BatchIngestionEngine, tmp_path: Path) -> None:
    with Path("people.csv").open("a") as file:
        file.write("no number,x,1\n7,too,many,fields\n")
    metrics = await engine.ingest_data(SOURCE, "out.csv")
    assert (metrics.processed_records, metrics.failed_records) == (ROWS, 2)
    assert metrics.dead_letter_log is not None
    name = metrics.dead_letter_log.removesuffix(".dead-letters")
    broker = Broker.open(f"embedded://{name}{tmp_path}/.streamcore/{name}")
    try:
        letters = [letter async for letter in read(EmbeddedLog(broker), metrics.dead_letter_log, Filter())]
    finally:
        broker.close()
    assert sorted(letter.stage for letter in letters) == ["read", "schema"]


async def test_types_can_be_given(engine: BatchIngestionEngine) -> None:
    config = BatchIngestionConfig(columns={"id": "string"})
    await BatchIngestionEngine(config).ingest_data(SOURCE, "out.parquet")
    assert pl.read_parquet_schema("out.parquet") == {"id": pl.String, "name": pl.String, "zip": pl.String}
    with pytest.raises(BadConfig, match=r"in columns.*'ip'"):
        await BatchIngestionEngine(BatchIngestionConfig(columns={"ip": "string"})).ingest_data(
            SOURCE, "o.csv"
        )


async def test_several_at_once_do_not_disturb_each_other(engine: BatchIngestionEngine) -> None:
    targets = [f"out/{number}.parquet" for number in range(4)]
    done = await asyncio.gather(*(engine.ingest_data(SOURCE, target) for target in targets))
    assert [metrics.processed_records for metrics in done] == [ROWS] * 4
    assert all(pl.read_parquet(target).equals(people(ROWS)) for target in targets)


@dataclasses.dataclass(frozen=True)
class Held(SourceWrapper):
    """*source*, whose readers stop before their third chunk until they may go on."""

    reached: Callable[[], object]
    go_on: threading.Event

    def splits(self, wanted: int) -> Sequence[Split]:
        return [GatedSplit(split, HeldGate(self)) for split in self.source.splits(wanted)]


class HeldGate(MemoryGate):
    def __init__(self, held: Held) -> None:
        super().__init__(None)
        self._held, self._passed = held, 0

    def pass_through(self) -> None:
        self._passed += 1
        if self._passed == 3:
            self._held.reached()
            assert self._held.go_on.wait(60)
        elif self._passed > 3:
            time.sleep(1)  # what is told to stop must not be done before it has heard of it


async def broken_off(engine: BatchIngestionEngine, target: str) -> None:
    """A call that is cancelled when some rows are written."""
    reached, go_on, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()
    held = Held(open_source(SOURCE), lambda: loop.call_soon_threadsafe(reached.set), go_on)
    task = asyncio.create_task(engine.ingest_data(held, target))
    await reached.wait()
    task.cancel()
    await asyncio.sleep(0)  # the cancellation is delivered
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_one_stops_and_is_taken_up(engine: BatchIngestionEngine) -> None:
    slow = BatchIngestionEngine(BatchIngestionConfig(chunk_size=5000, max_workers=1))
    await broken_off(slow, "out.csv")
    assert not Path("out.csv").exists()
    taken_up = await slow.ingest_data(SOURCE, "out.csv")
    assert 0 < taken_up.processed_records < ROWS
    assert pl.read_csv("out.csv", schema_overrides={"zip": pl.String}).equals(people(ROWS))


async def test_a_source_that_has_changed_meanwhile_is_read_anew(
    engine: BatchIngestionEngine, tmp_path: Path
) -> None:
    await broken_off(BatchIngestionEngine(BatchIngestionConfig(chunk_size=5000, max_workers=1)), "out.csv")
    people(ROWS + 1).write_csv("people.csv")
    metrics = await engine.ingest_data(SOURCE, "out.csv")
    assert metrics.processed_records == ROWS + 1
    assert pl.read_csv("out.csv", schema_overrides={"zip": pl.String}).equals(people(ROWS + 1))
    assert list(tmp_path.glob(".out.csv*")) == []


PROGRAM = """
import asyncio
from batch_adapters.catalogue import open_source
from streamcore import BatchIngestionConfig, BatchIngestionEngine

engine = BatchIngestionEngine(BatchIngestionConfig(chunk_size=2000, max_workers=2))
print(asyncio.run(engine.ingest_data({source!r}, {target!r})).processed_records)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "crash"),
    [
        ("out.csv", "pipeline.before_sinks:5"),
        ("out.csv", "files.after_seal"),
        ("out.csv", "ingestion.published"),
        ("sqlite:///copy.db?table=people&create=true", "pipeline.before_sinks:5"),
    ],
)
def test_killed_it_is_taken_up_and_every_row_is_there_once(
    engine: BatchIngestionEngine, tmp_path: Path, target: str, crash: str
) -> None:
    program = PROGRAM.format(source=SOURCE, target=target)

    def run(environment: Mapping[str, str]) -> int:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env={**os.environ, **environment}, timeout=120, check=False).returncode

    assert run({"STREAMCORE_CRASH_POINT": crash}) == -9
    assert run({}) == 0
    if target == "out.csv":
        assert pl.read_csv("out.csv", schema_overrides={"zip": pl.String}).equals(people(ROWS))
        assert [path.name for path in tmp_path.glob(".out.csv*")] == []
    else:
        with sqlite3.connect("copy.db") as file:
            found = file.execute("select count(*), count(distinct id), sum(id) from people").fetchone()
        assert found == (ROWS, ROWS, ROWS * (ROWS - 1) // 2)


async def test_a_limit_of_memory_makes_chunks_and_shares_small(engine: BatchIngestionEngine) -> None:
    with pytest.raises(BadConfig, match="memory_limit leaves no room"):
        await BatchIngestionEngine(BatchIngestionConfig(memory_limit="100MB")).ingest_data(SOURCE, "o.csv")
    config = BatchIngestionConfig(memory_limit="2GB", chunk_size=5000, enable_memory_monitoring=True)
    metrics = await BatchIngestionEngine(config, Settings()).ingest_data(SOURCE, "o.csv")
    assert metrics.processed_records == ROWS
    assert metrics.slowed_seconds == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"memory_limit": "2 elephants"}, "option memory_limit.*got '2 elephants'"),
        ({"chunk_sise": 5}, "got 5.*did you mean 'chunk_size'"),
        ({"max_workers": 0}, "option max_workers.*greater than 0"),
    ],
)
def test_mistakes_of_the_configuration_are_told(given: dict[str, object], says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        BatchIngestionConfig(**given)
