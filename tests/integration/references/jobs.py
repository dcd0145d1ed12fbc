"""What lookups of every server must hold: how one is asked, and jobs that look rows up."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, Protocol

import polars as pl

import streamcore as sc
from batch_adapters.catalogue import open_source
from streamcore.asking import Reference
from streamcore.runtime.replay import ReplayOptions, replay
from streamcore.settings import Settings
from streamcore.stream import Stream
from tests.integration.runtime.memory_sink import MemorySink, Target

CLICK = pl.DataFrame({"row": [0], "user": [1]})


class Server(Protocol):
    """One that a test may kill."""

    def kill(self) -> None: ...

    def start(self) -> Any: ...


async def ask(reference: Reference, keys: pl.DataFrame) -> pl.DataFrame:
    """The rows of *keys*, by a reader of its own."""
    reader = reference.reader(lambda: 0.0)
    try:
        await reader.start()
        return await reader.rows(keys)
    finally:
        await reader.close()


def looked_up(users: Reference, clicks: pl.DataFrame, tmp_path: Path, trip: Any = None) -> pl.DataFrame:
    """*clicks*, each with what *users* says of its user; *trip* sees each batch before that is asked."""
    clicks.write_parquet(tmp_path / "clicks.parquet", row_group_size=500)
    target, topology = Target(), sc.Topology("clicks")
    stream: Stream = topology.stream("clicks", {"row": "int64", "user": "int64"})
    stream = stream if trip is None else stream.map_batches(trip)
    stream.lookup(users, on={"user": "id"}).to(MemorySink("out", target))
    waiting = {"retry": {"initial_s": 0.05, "max_s": 0.2}}
    options = ReplayOptions(Settings.model_validate({"state": {"dir": tmp_path / "state"}, **waiting}))
    source = {"clicks": open_source(str(tmp_path / "clicks.parquet"))}
    asyncio.run(replay(topology, source, options, lambda progress: None))
    return target.frame()


def check_rows_wait(users: Reference, server: Server, tmp_path: Path) -> None:
    """*server* is killed between two lookups and comes back: no row is lost, or goes on without its own.

    *users* remembers nothing, and says that the name of each even id below 10,000 is "n" and the id.
    """
    rows = pl.DataFrame({"row": range(6_000)}).with_columns((pl.col("row") * 7 % 10_000).alias("user"))
    back: list[threading.Timer] = []

    def trip(frame: pl.DataFrame) -> pl.DataFrame:
        if not back and frame["row"].max() >= 3_000:  # type: ignore[operator]
            server.kill()
            back.append(threading.Timer(0.7, server.start))
            back[0].start()
        return frame

    found = looked_up(users, rows, tmp_path, trip).sort("row")
    assert back, "the server was not killed"
    assert found["row"].to_list() == list(range(6_000))
    assert found["name"].to_list() == [f"n{user}" if user % 2 == 0 else None for user in rows["user"]]
